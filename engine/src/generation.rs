//! Generating text: pass, choose a token, turn it into text, stop where it should stop. An
//! iterator, so that the caller decides what happens between tokens.

use std::time::{Duration, Instant};

use offload::LoadRecord;

use crate::error::EngineError;
use crate::profile::{PassTiming, Totals};
use crate::session::Session;
use crate::text::{Detokenizer, Sampler, Sampling, StopStrings};

/// How to continue a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    pub max_new_tokens: usize,
    pub sampling: Sampling,
    /// Texts that end the generation and are not part of it.
    pub stop: Vec<String>,
    /// Go on past the model's own end-of-text.
    pub ignore_eos: bool,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        let sampling = Sampling::default();
        Self {
            max_new_tokens: 128,
            sampling,
            stop: Vec::new(),
            ignore_eos: false,
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
pub struct Piece {
    pub token: u32,
    /// What can be printed now; may be empty, or hold back what could become a stop string.
    pub text: String,
    pub timing: PassTiming,
}

/// What a generation came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub prompt_tokens: usize,
    pub tokens: Vec<u32>,
    pub ended: Option<Ended>,
    pub time_to_first_token: Option<Duration>,
    pub totals: Totals,
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
    /// Prompt and generated tokens: what the repetition penalty looks at.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    started: Instant,
    time_to_first_token: Option<Duration>,
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
            prompt_tokens: prompt.len(),
            tokens: prompt,
            started: Instant::now(),
            time_to_first_token: None,
            totals: Totals::default(),
            ended: None,
            options,
            session,
        })
    }

    /// The loads of the last token's pass.
    pub fn loads(&self) -> &[LoadRecord] {
        self.session.loads()
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

    pub fn report(&self) -> Report {
        Report {
            prompt_tokens: self.prompt_tokens,
            tokens: self.tokens[self.prompt_tokens..].to_vec(),
            ended: self.ended,
            time_to_first_token: self.time_to_first_token,
            totals: self.totals,
        }
    }

    fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }

    fn step(&mut self) -> Result<Option<Piece>, EngineError> {
        let done = self.generated();
        if done >= self.options.max_new_tokens {
            self.ended = Some(Ended::MaxNewTokens);
            return Ok(None);
        }
        if done > 0 && self.session.room() == 0 {
            self.ended = Some(Ended::ContextFull);
            return Ok(None);
        }
        let rows = if done == 0 {
            &self.tokens[..]
        } else {
            &self.tokens[self.tokens.len() - 1..]
        };
        let mut timing = self.session.pass(rows)?;
        let sampled = Instant::now();
        let token = self.sampler.sample(self.session.logits(), &self.tokens)?;
        timing.sampling = sampled.elapsed();
        timing.total += timing.sampling;
        self.totals.add(&timing, self.session.loads());
        self.time_to_first_token
            .get_or_insert_with(|| self.started.elapsed());
        if self.eos_token_ids.contains(&token) {
            self.ended = Some(Ended::EndOfText);
            return Ok(None);
        }
        self.tokens.push(token);
        let text = self.text_of(token);
        Ok(Some(Piece {
            token,
            text,
            timing,
        }))
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
    type Item = Result<Piece, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended.is_some() {
            return None;
        }
        match self.step() {
            Ok(piece) => piece.map(Ok),
            Err(EngineError::Interrupted) => {
                self.ended = Some(Ended::Interrupted);
                None
            }
            Err(error) => {
                self.ended = Some(Ended::Failed);
                Some(Err(error))
            }
        }
    }
}
