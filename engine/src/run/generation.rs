//! Generating text: pass, choose a token, turn it into text, stop where it should stop. An
//! iterator, so that the caller decides what happens between tokens.

use std::time::{Duration, Instant};

use super::past::Measured;
use super::session::Session;
use crate::error::EngineError;
use crate::model::Model;
use crate::profile::{LongSpan, PassKind, Recording, Timing, Totals, past_stage, stage};

use crate::text::{
    Candidates, Detokenizer, LikelyTokens, Logprobs, Sampler, Sampling, StopStrings, Wanted,
};

/// How to continue a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    pub max_new_tokens: usize,
    pub sampling: Sampling,
    /// Texts that end the generation and are not part of it.
    pub stop: Vec<String>,
    /// Go on past the model's own end-of-text.
    pub ignore_eos: bool,
    /// Tell with each token how likely it was, and as many of the likeliest.
    pub logprobs: Option<usize>,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        let sampling = Sampling::default();
        Self {
            max_new_tokens: 128,
            sampling,
            stop: Vec::new(),
            ignore_eos: false,
            logprobs: None,
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    EndOfText,
    StopString,
    MaxNewTokens,
    ContextFull,
    Interrupted,
    /// An error came, and was given out.
    Failed,
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedToken {
    pub token: u32,
    /// What can be printed now; may be empty, or hold back what could become a stop string.
    pub text: String,
    /// If they were asked for.
    pub logprobs: Option<Logprobs>,
}

/// A whole continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub text: String,
    pub tokens: Vec<u32>,
    pub ended: Option<Ended>,
}

/// What a generation came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub prompt_tokens: usize,
    pub tokens: Vec<u32>,
    pub ended: Option<Ended>,
    pub time_to_first_token: Option<Duration>,
    pub totals: Totals,
    pub timing: Timing,
}

/// An iterator over the tokens of one continuation.
#[derive(Debug)]
pub struct Generation<'s, 'm> {
    session: &'s mut Session<'m>,
    options: GenerationOptions,
    eos_token_ids: Vec<u32>,
    sampler: Sampler,
    detokenizer: Option<Detokenizer>,
    stop: StopStrings,
    /// Those of the last token.
    logprobs: Option<Logprobs>,
    /// Prompt and generated tokens: what the repetition penalty looks at.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    started: Instant,
    time_to_first_token: Option<Duration>,
    /// When the prompt's pass was over, and the last one.
    generating: Option<(Instant, Instant)>,
    /// `generate`, from the first step to the end.
    span: LongSpan,
    totals: Totals,
    ended: Option<Ended>,
}

impl<'s, 'm> Generation<'s, 'm> {
    pub(crate) fn new(
        session: &'s mut Session<'m>,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<Self, EngineError> {
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        // Passes that were made before are none of this one's.
        session.passes.begin()?;
        let model = session.model();
        let sampler = Sampler::new(options.sampling, model.config().vocab_size)?;
        let eos_token_ids = if options.ignore_eos {
            Vec::new()
        } else {
            model.eos_token_ids().to_vec()
        };
        let stop = StopStrings::new(options.stop.clone())?;
        let detokenizer = match model.tokenizer() {
            Ok(tokenizer) => Some(tokenizer.detokenizer()),
            // Token ids came in, token ids go out.
            Err(EngineError::NoTokenizer { .. }) if options.stop.is_empty() => None,
            Err(EngineError::NoTokenizer { .. }) => return Err(EngineError::StopWithoutText),
            Err(error) => return Err(error),
        };
        Ok(Self {
            eos_token_ids,
            sampler,
            detokenizer,
            stop,
            logprobs: None,
            prompt_tokens: prompt.len(),
            tokens: prompt,
            started: Instant::now(),
            time_to_first_token: None,
            generating: None,
            span: LongSpan::default(),
            totals: Totals::default(),
            ended: None,
            options,
            session,
        })
    }

    /// The passes whose measurements were completed by the last call of `next`: on the host the
    /// last token's, or that of the token that ends the text. On a device they come one call
    /// later, and at the end all of them.
    pub fn measured(&self) -> &[Measured] {
        self.session.measured()
    }

    pub fn model(&self) -> &Model {
        self.session.model()
    }

    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Text held back for a stop string or an unfinished character, once there is no more.
    pub fn rest(&mut self) -> String {
        let mut text = String::new();
        if let Some(detokenizer) = &mut self.detokenizer {
            let last = detokenizer.finish();
            if self.ended != Some(Ended::StopString) {
                text.push_str(&self.stop.push(&last).text);
            }
        }
        if self.ended != Some(Ended::StopString) {
            text.push_str(&self.stop.finish());
        }
        text
    }

    /// What it has come to so far.
    pub fn report(&mut self) -> Report {
        // What a device cannot say any more is left out; an error was given out before.
        let _ = self.settle();
        Report {
            prompt_tokens: self.prompt_tokens,
            tokens: self.tokens[self.prompt_tokens..].to_vec(),
            ended: self.ended,
            time_to_first_token: self.time_to_first_token,
            totals: self.totals,
            timing: Timing::new(
                &self.session.passes.startup,
                self.totals,
                self.generating
                    .map_or(Duration::ZERO, |(from, to)| to.duration_since(from)),
                self.time_to_first_token,
            ),
        }
    }

    /// The timeline so far, if the session was told to record, and the end of recording.
    pub fn take_recording(&mut self) -> Option<Recording> {
        self.session.take_recording()
    }

    fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }

    fn step(&mut self) -> Result<Option<GeneratedToken>, EngineError> {
        let done = self.generated();
        if done >= self.options.max_new_tokens {
            self.ended = Some(Ended::MaxNewTokens);
            return Ok(None);
        }
        if done > 0 && self.session.room() == 0 {
            self.ended = Some(Ended::ContextFull);
            return Ok(None);
        }
        let said = match done {
            0 => stage!(self.session.passes.clock, Prefill, self.say()?),
            _ => {
                let _generate = self.span.enter();
                stage!(self.session.passes.clock, Step, index = done, self.say()?)
            }
        };
        self.session.passes.end_pass()?;
        let now = Instant::now();
        self.time_to_first_token
            .get_or_insert_with(|| now - self.started);
        self.generating.get_or_insert((now, now)).1 = now;
        let logprobs = self.logprobs.take();
        Ok(said.map(|(token, text)| GeneratedToken {
            token,
            text,
            logprobs,
        }))
    }

    /// Nothing comes after the last pass: what is not known of it is read now.
    fn settle(&mut self) -> Result<(), EngineError> {
        let told = self.session.measured().len();
        let settled = self.session.passes.settle();
        self.add_from(told);
        settled
    }

    /// Adds the measured passes to the totals, but for the first `told` of them.
    fn add_from(&mut self, told: usize) {
        for pass in self.session.measured().iter().skip(told) {
            self.totals.add(&pass.timing, &pass.loads);
        }
    }

    /// One pass, and what is said after it: a token and the text that can be printed now.
    fn say(&mut self) -> Result<Option<(u32, String)>, EngineError> {
        let (kind, rows) = match self.generated() {
            0 => (PassKind::Prompt, &self.tokens[..]),
            _ => (PassKind::Decode, &self.tokens[self.tokens.len() - 1..]),
        };
        let wants = match self.options.logprobs {
            Some(_) => Wanted::Logits,
            None => self.sampler.wants(),
        };
        let candidates = self.session.forward(kind, rows, wants)?;
        let token = stage!(
            self.session.passes.clock,
            Sampling,
            self.sample(candidates)?
        );
        if self.eos_token_ids.contains(&token) {
            self.ended = Some(Ended::EndOfText);
            return Ok(None);
        }
        self.tokens.push(token);
        let text = stage!(self.session.passes.clock, Decode, self.text_of(token));
        Ok(Some((token, text)))
    }

    /// Samples the candidates, if they decide it; else all logits, with the same outcome.
    fn sample(&mut self, candidates: Option<Candidates>) -> Result<u32, EngineError> {
        if let Some(candidates) = candidates
            && let Ok(token) = self.sampler.choose(&candidates, &self.tokens)
        {
            self.note_sampling();
            return Ok(token);
        }
        let logits = self.session.all_logits()?;
        // Sampling changes the logits.
        let before = (self.options.logprobs).map(|count| LikelyTokens::of(logits, count));
        let token = self.sampler.sample(logits, &self.tokens)?;
        self.logprobs = before.map(|likely| likely.with(token));
        self.note_sampling();
        Ok(token)
    }

    /// Parts of sampling that took time, as stages.
    fn note_sampling(&mut self) {
        let times = self.sampler.times();
        if let Some((from, to)) = times.top_k {
            past_stage!(self.session.passes.clock, TopK, from, to);
        }
        if let Some((from, to)) = times.top_p {
            past_stage!(self.session.passes.clock, TopP, from, to);
        }
    }

    fn text_of(&mut self, token: u32) -> String {
        let Some(detokenizer) = &mut self.detokenizer else {
            return String::new();
        };
        let emit = self.stop.push(&detokenizer.push(token));
        if emit.stopped {
            self.ended = Some(Ended::StopString);
        }
        emit.text
    }
}

impl Iterator for Generation<'_, '_> {
    type Item = Result<GeneratedToken, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.session.passes.forget_measured();
        let stepped = match self.ended {
            Some(_) => Ok(None),
            None => self.step(),
        };
        self.add_from(0);
        let settled = match &stepped {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => self.settle(),
        };
        let next = match stepped {
            Err(EngineError::Interrupted) => {
                self.ended = Some(Ended::Interrupted);
                Ok(None)
            }
            stepped => stepped.and_then(|token| settled.map(|()| token)),
        };
        if next.is_err() {
            self.ended = Some(Ended::Failed);
        }
        if self.ended.is_some() {
            self.span = LongSpan::default();
        }
        next.transpose()
    }
}
