//! What was said of a prompt: enough to go on from it in another session, without making its sound
//! again.

use kernels::CodecState;

use super::session::{Prompt, SpeechSession};
use super::speaking::{Frame, Next};
use crate::compute::batch::{Given, Run, RunKind, State};
use crate::error::EngineError;
use crate::profile::PassKind;

/// See the module. Of frames, one after the other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SaidBefore {
    pub tokens: Vec<u32>,
    pub latents: Vec<f32>,
    pub semantics: Vec<f32>,
    /// One for each frame.
    pub loudness: Vec<f32>,
    /// What the decoder's convolutions have seen.
    pub decoder: Vec<f32>,
    /// What those of the one that hears have.
    pub hearer: Vec<f32>,
}

impl SaidBefore {
    pub fn frames(&self) -> usize {
        self.loudness.len()
    }

    pub(super) fn add(&mut self, token: u32, frame: Option<&Frame>) {
        self.tokens.push(token);
        if let Some(frame) = frame {
            self.latents.extend(&frame.latent);
            self.semantics.extend(&frame.semantic);
            self.loudness.push(frame.loudness);
        }
    }

    pub(super) fn keep(&mut self, decoder: &CodecState, hearer: &CodecState) {
        self.decoder = decoder.numbers().to_vec();
        self.hearer = hearer.numbers().to_vec();
    }

    /// Has both branches read it, and gives what the language model takes next. There is a token.
    pub(super) fn read(
        &self,
        session: &mut SpeechSession<'_>,
        prompt: &mut Prompt,
    ) -> Result<Next, EngineError> {
        let system = &session.system;
        let special = system.special;
        let width = system.config.head.hidden;
        let frames = self.tokens.iter().filter(|it| **it == special.speech);
        let frames = frames.count();
        let sizes = [
            (self.latents.len(), frames * system.config.acoustic.latent),
            (self.semantics.len(), frames * system.config.semantic.latent),
            (self.loudness.len(), frames),
        ];
        let states = [
            session.decoder.0.go_on_from(&self.decoder),
            session.semantic.0.go_on_from(&self.hearer),
        ];
        if sizes.iter().any(|(is, should)| is != should) || states.contains(&false) {
            return Err(EngineError::SaidElsewhere);
        }
        let rows = session.row_of(&self.latents, &self.semantics)?;
        let mut rows = rows.chunks_exact(width);
        // What each token gives the language model.
        let inputs: Vec<_> = (self.tokens.iter())
            .map(|&token| match token == special.speech {
                true => (token, rows.next()),
                false => (token, None),
            })
            .collect();
        let (last, before) = inputs.split_last().ok_or(EngineError::SaidElsewhere)?;
        let mut own = Inputs {
            tokens: std::mem::take(&mut prompt.tokens),
            given: std::mem::take(&mut prompt.given),
            rows: std::mem::take(&mut prompt.rows),
        };
        before.iter().for_each(|input| own.add(*input));
        // What led to a frame, since the last start.
        let mut other = Inputs::default();
        let led = [(special.start, None)];
        for (input, outcome) in led.iter().chain(before).zip(&self.tokens) {
            if *outcome == special.speech {
                other.add(*input);
            } else if *outcome == special.start {
                other = Inputs::default();
            }
        }
        let next = match last {
            (token, Some(row)) => Next::Row(*token, row.to_vec()),
            (token, None) => Next::Token(*token),
        };
        let passes = &mut session.session.passes;
        for (inputs, sequence) in [(own, &mut session.own), (other, &mut session.other)] {
            if inputs.tokens.is_empty() {
                continue;
            }
            passes.blocks(PassKind::Prompt, 1, &mut [inputs.run(&mut sequence.state)])?;
            passes.end_pass()?;
            sequence.tokens.extend(&inputs.tokens);
        }
        Ok(next)
    }
}

/// Tokens, and rows in place of some.
#[derive(Debug, Default)]
struct Inputs {
    tokens: Vec<u32>,
    given: Vec<usize>,
    rows: Vec<f32>,
}

impl Inputs {
    fn add(&mut self, (token, row): (u32, Option<&[f32]>)) {
        if let Some(row) = row {
            self.given.push(self.tokens.len());
            self.rows.extend(row);
        }
        self.tokens.push(token);
    }

    /// The first of a sequence.
    fn run<'a>(&'a self, state: &'a mut State) -> Run<'a> {
        Run {
            state,
            tokens: &self.tokens,
            position: 0,
            kind: RunKind::of(self.tokens.len(), 0),
            given: Some(Given {
                tokens: &self.given,
                rows: &self.rows,
            }),
        }
    }
}
