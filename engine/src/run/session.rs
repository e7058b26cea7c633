//! A session over a model: one sequence of its own, others where they are asked for, and passes, of
//! one of them or of several together.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use offload::LoadRecord;
use smallvec::SmallVec;

use super::generation::{Generation, GenerationOptions, Output};
use super::passes::Passes;
use super::past::Measured;
use super::sequence::{Part, Seat, Sequence};
use crate::compute::batch::{Run, RunKind, State, rows_of};
use crate::error::EngineError;
use crate::model::Model;
use crate::profile::{PassKind, PassTiming, Recording, Timing};
use crate::text::{Candidates, Wanted};

/// A model in use: its passes, and a sequence of its own.
pub struct Session<'m> {
    pub(crate) passes: Passes<'m>,
    /// `None` once it was taken.
    own: Option<Sequence>,
    seat: Seat,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl<'m> Session<'m> {
    pub(crate) fn new(model: &'m mut Model) -> Result<Self, EngineError> {
        let passes = Passes::new(model)?;
        let blueprint = passes.model.blueprint();
        let seat = Seat::new(blueprint.room().sequences, Arc::clone(&blueprint.config));
        Ok(Self {
            own: Some(new_sequence(&passes, &seat)?),
            passes,
            seat,
        })
    }

    pub fn model(&self) -> &Model {
        self.passes.model
    }

    /// Setting this ends the pass under way at its next layer, or while it waits for one, with
    /// [`EngineError::Interrupted`].
    pub fn cancel_with(&mut self, flag: Arc<AtomicBool>) {
        self.passes.model.cancel_with(&flag);
        self.passes.cancel = flag;
    }

    /// The layers that the pass under way has behind it, to be watched from another thread. On a
    /// device it is what was ordered, and says nothing of what is done.
    pub fn layers_done(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.passes.layers_done)
    }

    /// Watches from now on whether compute has the cores that it asks for: the timing of a pass then
    /// says it.
    pub fn watch_cores(&mut self) {
        self.passes.watch_cores();
    }

    /// Keeps a timeline of every pass from now on; [`Session::take_recording`] has it.
    pub fn record(&mut self) {
        self.passes.record();
    }

    /// The timeline so far, and the end of recording.
    pub fn take_recording(&mut self) -> Option<Recording> {
        self.passes.take_recording()
    }

    /// The session's own sequence, for batches. The session begins another when it needs one.
    pub fn take_own(&mut self) -> Result<Sequence, EngineError> {
        match self.own.take() {
            Some(own) => Ok(own),
            None => self.sequence(),
        }
    }

    /// Another sequence, empty. [`ModelOptions::sequences`](crate::ModelOptions::sequences) says how
    /// many there can be together, the session's own among them.
    pub fn sequence(&self) -> Result<Sequence, EngineError> {
        new_sequence(&self.passes, &self.seat)
    }

    /// Positions that its own sequence has seen.
    pub(crate) fn len(&self) -> usize {
        self.own.as_ref().map_or(0, Sequence::len)
    }

    /// Positions still free in the session's own sequence.
    pub fn room(&self) -> usize {
        let context = self.passes.model.blueprint.context;
        self.own.as_ref().map_or(context, Sequence::room)
    }

    /// The session's own sequence goes back to its begin.
    pub fn restart(&mut self) -> Result<(), EngineError> {
        self.go_back(0)
    }

    /// Its own sequence goes back to its first `len` tokens.
    pub(crate) fn go_back(&mut self, len: usize) -> Result<(), EngineError> {
        self.own.as_mut().map_or(Ok(()), |own| own.go_back(len))
    }

    /// How many tokens of a prompt its own sequence has seen: not the last one, which there must be a
    /// pass for.
    pub fn shared_with(&self, prompt: &[u32]) -> usize {
        let seen = self.own.as_ref().map_or(&[][..], Sequence::tokens);
        let same = seen.iter().zip(prompt).take_while(|(a, b)| a == b);
        same.count().min(prompt.len().saturating_sub(1))
    }

    /// What these tokens are, as all that its own sequence reads next.
    pub(crate) fn run_kind(&self, tokens: &[u32]) -> RunKind {
        RunKind::of(tokens.len(), self.own.as_ref().map_or(0, Sequence::len))
    }

    /// Sends `tokens` through the model after what its own sequence has seen already. All of them share
    /// one visit of each layer.
    pub fn pass(&mut self, tokens: &[u32]) -> Result<PassTiming, EngineError> {
        self.passes.begin()?;
        let run = self.run_kind(tokens);
        let kind = match run {
            RunKind::Decode => PassKind::Decode,
            _ => PassKind::Prompt,
        };
        self.forward(kind, run, tokens, Wanted::Logits)?;
        self.passes.end_pass()?;
        self.last_timing()
    }

    /// Sends `tokens` through the layers after what its own sequence has seen already, as a prompt of
    /// which no logits are wanted.
    pub(crate) fn read(&mut self, tokens: &[u32]) -> Result<&Measured, EngineError> {
        self.passes.begin()?;
        let Self { passes, own, seat } = self;
        let own = own_of(own, passes, seat)?;
        let whole = own.len() + tokens.len();
        let mut run = [Run {
            kind: RunKind::Prompt { whole },
            ..run_of(own, tokens)
        }];
        passes.blocks(PassKind::Prompt, 0, &mut run)?;
        own.tokens.extend(tokens);
        passes.end_pass()?;
        passes.settle()?;
        match passes.measured() {
            [.., last] => Ok(last),
            [] => unreachable!("a pass that was not measured"),
        }
    }

    /// Embeds a token for nothing: what is measured of the next pass then has no first time in it.
    pub(crate) fn warm_up(&mut self, token: u32) -> Result<(), EngineError> {
        let Self { passes, own, seat } = self;
        let own = own_of(own, passes, seat)?;
        let ends = &mut passes.model.ends;
        passes.compute.embed(ends, &[run_of(own, &[token])])
    }

    /// What its own sequence keeps; `None` if it was taken.
    pub(crate) fn own_state(&mut self) -> Option<&mut State> {
        self.own.as_mut().map(|own| &mut own.state)
    }

    /// Sends tokens of several sequences through the model: one visit of each layer serves them all.
    /// Each gives the bits that it gives alone. The logits of the parts that want some are then in
    /// [`Session::logits`], one part's after the other's.
    pub fn batch(&mut self, parts: &mut [Part<'_>]) -> Result<PassTiming, EngineError> {
        let most = self.passes.model.blueprint.room().logit_rows;
        if parts.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if parts.len() > most {
            return Err(EngineError::TooManySequences { most });
        }
        if parts
            .iter()
            .any(|part| !part.sequence.belongs_to(&self.seat))
        {
            return Err(EngineError::OtherModel);
        }
        self.passes.begin()?;
        let all_decode = parts.iter().all(|part| part.kind == RunKind::Decode);
        let kind = match all_decode {
            true => PassKind::Decode,
            false => PassKind::Prompt,
        };
        let wanted: SmallVec<[bool; 4]> = parts.iter().map(|part| part.logits).collect();
        let units = wanted.iter().filter(|&&wanted| wanted).count();
        let runs = parts.iter_mut().map(|part| Run {
            position: part.sequence.tokens.len(),
            state: &mut part.sequence.state,
            tokens: part.tokens,
            kind: part.kind,
            given: None,
        });
        let mut runs: Vec<Run<'_>> = runs.collect();
        self.passes.blocks(kind, units, &mut runs)?;
        if units > 0 {
            let last = |run| rows_of(&runs, run).end - 1;
            let rows = (0..runs.len()).filter(|&run| wanted[run]).map(last);
            let rows: SmallVec<[usize; 4]> = rows.collect();
            self.passes.head(&mut runs, &rows)?;
        }
        for part in parts {
            part.sequence.tokens.extend(part.tokens);
        }
        self.passes.end_pass()?;
        self.last_timing()
    }

    /// Sends `tokens` through the model as [`Session::pass`] does, and shows the logits after each of
    /// those in `rows`.
    pub fn pass_rows(
        &mut self,
        tokens: &[u32],
        rows: Range<usize>,
        look: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<PassTiming, EngineError> {
        self.passes.begin()?;
        let Self { passes, own, seat } = self;
        let own = own_of(own, passes, seat)?;
        let mut run = [run_of(own, tokens)];
        passes.blocks(PassKind::Prompt, rows.len(), &mut run)?;
        let together = passes.model.blueprint.room().logit_rows;
        let rows: Vec<usize> = rows.filter(|row| *row < tokens.len()).collect();
        for rows in rows.chunks(together) {
            passes.head(&mut run, rows)?;
            let logits = passes.compute.logits();
            let each = logits.chunks_exact(logits.len() / rows.len());
            rows.iter()
                .zip(each)
                .for_each(|(&row, logits)| look(row, logits));
        }
        own.tokens.extend(tokens);
        self.passes.end_pass()?;
        self.last_timing()
    }

    /// The timing of the pass that is over.
    fn last_timing(&mut self) -> Result<PassTiming, EngineError> {
        self.passes.settle()?;
        let last = self.passes.measured().last();
        Ok(last.map_or_else(PassTiming::default, |pass| pass.timing))
    }

    /// A pass of its own sequence up to its logits, or to the likeliest tokens if those may do and come
    /// without the logits here. What then becomes of them is part of the pass until `end_pass`.
    pub(crate) fn forward(
        &mut self,
        kind: PassKind,
        run: RunKind,
        tokens: &[u32],
        wanted: Wanted,
    ) -> Result<Option<Candidates>, EngineError> {
        let Self { passes, own, seat } = self;
        let own = own_of(own, passes, seat)?;
        let mut run = [Run {
            kind: run,
            ..run_of(own, tokens)
        }];
        passes.blocks(kind, 1, &mut run)?;
        let candidates = passes.head_wanted(&mut run, wanted)?;
        own.tokens.extend(tokens);
        Ok(candidates)
    }

    /// The logits of the last [`Session::pass`], after its last token, or of the last
    /// [`Session::batch`]. Yours to change: sampling does. What is generated on a device may have needed
    /// none, and leaves older ones here.
    pub fn logits(&mut self) -> &mut [f32] {
        self.passes.compute.logits()
    }

    /// The same, where the last pass may have brought candidates in their place.
    pub(crate) fn all_logits(&mut self) -> Result<&mut [f32], EngineError> {
        self.passes.compute.bring_logits()?;
        Ok(self.passes.compute.logits())
    }

    pub(crate) fn measured(&self) -> &[Measured] {
        self.passes.measured()
    }

    /// The loads of the last [`Session::pass`].
    pub fn loads(&self) -> &[LoadRecord] {
        self.measured().last().map_or(&[], |pass| &pass.loads)
    }

    /// Generates to the end, and tells where the time went.
    ///
    /// ```
    /// use engine::{GenerationOptions, Model, ModelOptions, Source};
    ///
    /// let mut model = Model::open(&Source::Demo, ModelOptions::default())?;
    /// let prompt = model.blueprint().encode("Once upon a time")?;
    /// let options = GenerationOptions { max_new_tokens: 4, ..GenerationOptions::default() };
    /// let (output, timing) = model.session()?.generate_with_timing(prompt, options)?;
    /// assert_eq!(output.tokens.len(), 4);
    /// assert!(timing.prefill_ms > 0.0);
    /// println!("{}", timing.tree());
    /// # Ok::<(), engine::EngineError>(())
    /// ```
    pub fn generate_with_timing(
        &mut self,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<(Output, Timing), EngineError> {
        let mut generation = self.generate(prompt, options)?;
        let mut text = String::new();
        for piece in &mut generation {
            text.push_str(&piece?.text);
        }
        text.push_str(&generation.rest());
        let report = generation.report();
        let output = Output {
            text,
            tokens: report.tokens,
            ended: report.ended,
        };
        Ok((output, report.timing))
    }

    /// Generates after `prompt`, token by token. The last token given out has not been seen by the
    /// model yet: to go on later, begin the next prompt with it.
    pub fn generate(
        &mut self,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<Generation<'_, 'm>, EngineError> {
        Generation::new(self, prompt, options)
    }

    /// Generates after `prompt`, which is all of the text so far: of a conversation, every turn. What
    /// its own sequence has seen of it already is not read again, and it goes back to there.
    ///
    /// A row that was computed as a token of its own and not with a prompt may differ from that in the
    /// last bit.
    pub fn generate_reusing(
        &mut self,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<Generation<'_, 'm>, EngineError> {
        Generation::reusing(self, prompt, options)
    }
}

/// The session's own sequence, begun if it was taken.
fn own_of<'a>(
    own: &'a mut Option<Sequence>,
    passes: &Passes<'_>,
    seat: &Seat,
) -> Result<&'a mut Sequence, EngineError> {
    Ok(match own {
        Some(own) => own,
        None => own.insert(new_sequence(passes, seat)?),
    })
}

/// All that is to be read of a sequence.
fn run_of<'a>(sequence: &'a mut Sequence, tokens: &'a [u32]) -> Run<'a> {
    let position = sequence.tokens.len();
    Run {
        state: &mut sequence.state,
        tokens,
        position,
        kind: RunKind::of(tokens.len(), position),
        given: None,
    }
}

fn new_sequence(passes: &Passes<'_>, seat: &Seat) -> Result<Sequence, EngineError> {
    let context = passes.model.blueprint().context;
    Sequence::new(seat, context, || passes.compute.state(context))
}
