//! A prompt spoken: a frame of codes at a time, and its sound.

use super::draws::Draws;
use super::frames::Asked;
use super::past;
use super::sampling::{Chooser, forbid, penalise};
use super::session::{TtsSession, TtsSpeakOptions, add, trailing};
use crate::compute::batch::{Given, Run, RunKind};
use crate::error::EngineError;
use crate::pipelines::speech::narrator::PartSpeaking;
use crate::pipelines::speech::runaway::{Watch, loudness};
use crate::pipelines::speech::said::{Ending, Frame, Said, SaidBefore, given};
use crate::profile::{PassKind, stage};
use crate::run::past::Measured;

/// What a frame was made of.
pub(super) const CODES: &str = "codes";
const LOGITS: &str = "logits";
const HIDDEN: &str = "hidden";

/// So many frames come before an end.
const FRAMES_MIN: usize = 2;

/// What the talker takes next.
#[derive(Debug)]
pub(super) enum Next {
    Prompt(Vec<f32>),
    Row(Vec<f32>),
}

/// An iterator over what is said.
#[derive(Debug)]
pub struct TtsSpeaking<'s, 'm> {
    session: &'s mut TtsSession<'m>,
    draws: Draws,
    chooser: Chooser,
    /// Which first codes were said.
    known: Vec<bool>,
    next: Next,
    /// Rows of the text's track that follow the prompt.
    trailing: Vec<f32>,
    options: TtsSpeakOptions,
    before: SaidBefore,
    watch: Option<Watch>,
    ending: Option<Ending>,
}

impl<'s, 'm> TtsSpeaking<'s, 'm> {
    pub(super) fn new(
        session: &'s mut TtsSession<'m>,
        (next, trailing): (Next, Vec<f32>),
        before: SaidBefore,
        options: TtsSpeakOptions,
    ) -> Self {
        session.tally.begin();
        let config = session.system.config;
        let first = session.session.model().config().vocab_size;
        let made = options.limits.first_frame + before.frames();
        let groups = config.codec.quantizers;
        let frame_s = config.codec.hop() as f64 / config.codec.sample_rate as f64;
        let watch = options
            .limits
            .expected_s
            .map(|expected| Watch::new(expected, frame_s, before.frames()));
        let mut known = vec![false; first];
        for token in &before.tokens {
            known[*token as usize] = true;
        }
        Self {
            draws: Draws::new(options.seed, options.uniforms.clone(), groups, made),
            chooser: Chooser::new(first.max(config.predictor.codes())),
            known,
            session,
            next,
            trailing,
            options,
            before,
            watch,
            ending: None,
        }
    }

    fn say(&mut self) -> Result<Option<Said>, EngineError> {
        let said = self.before.tokens.len();
        let room = self.session.own.room();
        if let Some(reached) = self.options.limits.reached(said, room) {
            self.ending = Some(reached);
            return Ok(None);
        }
        let last = self.pass()?;
        let drawn = self.draws.frame().to_vec();
        let logits = self.session.session.passes.compute.logits().to_vec();
        let clock = &mut self.session.session.passes.clock;
        let token = stage!(clock, Sampling, {
            let mut left = logits.clone();
            let config = self.session.system.config;
            let may_end = said >= FRAMES_MIN && !self.options.limits.only_frames;
            penalise(&mut left, self.options.repetition_penalty, &self.known);
            forbid(&mut left, config.spoken, (config.tokens.eos, may_end));
            self.chooser.choose(&left, &self.options.talker, drawn[0])
        });
        let frame = match token == self.session.system.config.tokens.eos {
            true => {
                self.ending = Some(Ending::EndOfText);
                None
            }
            false => Some(self.frame(token, last, logits, &drawn)?),
        };
        past::add_said(&mut self.before, token, frame.as_ref());
        self.known[token as usize] = true;
        let session = &mut *self.session;
        session.session.passes.end_pass()?;
        session
            .tally
            .add(frame.is_some(), session.session.measured());
        if let (Some(watch), Some(frame)) = (&mut self.watch, &frame)
            && let Some(why) = watch.frame(frame.loudness, frame.stage(HIDDEN))
        {
            self.ending = Some(Ending::Runaway(why));
        }
        Ok(Some(Said { token, frame }))
    }

    /// One visit of each layer. Gives which row is the last; its logits are the compute's.
    fn pass(&mut self) -> Result<usize, EngineError> {
        let TtsSession {
            session,
            own,
            system,
            ..
        } = &mut *self.session;
        let width = system.width();
        let (kind, rows) = match &self.next {
            Next::Prompt(rows) => (PassKind::Prompt, rows),
            Next::Row(row) => (PassKind::Decode, row),
        };
        let tokens = vec![system.config.tokens.pad; rows.len() / width];
        let given: Vec<usize> = (0..tokens.len()).collect();
        let position = own.len();
        let mut runs = [Run {
            state: &mut own.state,
            tokens: &tokens,
            position,
            kind: RunKind::of(tokens.len(), position),
            given: Some(Given {
                tokens: &given,
                rows,
            }),
        }];
        session.passes.blocks(kind, 1, &mut runs)?;
        let last = tokens.len() - 1;
        session.passes.head(&mut runs, &[last])?;
        own.tokens.extend(&tokens);
        Ok(last)
    }

    /// A frame of sound that begins with this code, and what the talker takes of it.
    fn frame(
        &mut self,
        first: u32,
        last: usize,
        logits: Vec<f32>,
        drawn: &[f64],
    ) -> Result<Frame, EngineError> {
        let session = &mut *self.session;
        let system = &session.system;
        let asked = Asked {
            first,
            embedded: system.code(first),
            how: &self.options.predictor,
            chooser: &mut self.chooser,
            drawn,
        };
        let passes = &mut session.session.passes;
        let made = session.frames.make(passes, last, asked)?;
        let mut row = made.row;
        add(&mut row, system.code(first));
        add(
            &mut row,
            trailing(&self.trailing, self.before.frames(), system.width()),
        );
        self.next = Next::Row(row);
        let codes = made.codes.iter().map(|&code| code as f32).collect();
        let mut stages = vec![
            (CODES.into(), codes),
            (LOGITS.into(), logits),
            (HIDDEN.into(), made.hidden),
        ];
        stages.extend(made.stages);
        Ok(Frame {
            loudness: loudness(&made.audio),
            audio: made.audio,
            stages,
        })
    }
}

impl Iterator for TtsSpeaking<'_, '_> {
    type Item = Result<Said, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.session.session.passes.forget_measured();
        let said = match self.ending {
            Some(_) => None,
            None => {
                let said = self.say();
                given(said, &mut self.ending)
            }
        };
        if said.is_none() {
            self.session.settle();
        }
        said
    }
}

impl PartSpeaking for TtsSpeaking<'_, '_> {
    fn ending(&self) -> Option<Ending> {
        self.ending
    }
    fn said(&self) -> Result<SaidBefore, EngineError> {
        Ok(self.before.clone())
    }
    fn measured(&self) -> &[Measured] {
        self.session.session.measured()
    }
}
