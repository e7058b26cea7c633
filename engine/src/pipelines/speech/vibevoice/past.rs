//! Going on from what was said of a prompt: both branches read it, and the convolutions have seen it.

use super::session::{Prompt, SpeechSession};
use super::speaking::{LATENT, Next, SEMANTIC};
use crate::compute::batch::{Given, Run, RunKind, State};
use crate::error::EngineError;
use crate::pipelines::speech::said::{Frame, SaidBefore};
use crate::profile::PassKind;

/// Lists of what was said.
const LATENTS: &str = "latents";
const SEMANTICS: &str = "semantics";
/// What the convolutions have seen: the decoder's, and those of the one that hears.
const DECODER: &str = "decoder";
const HEARER: &str = "hearer";

/// Counts a token.
pub(super) fn add(said: &mut SaidBefore, token: u32, frame: Option<&Frame>) {
    said.tokens.push(token);
    if let Some(frame) = frame {
        said.loudness.push(frame.loudness);
        said.list_mut(LATENTS).extend(frame.stage(LATENT));
        said.list_mut(SEMANTICS).extend(frame.stage(SEMANTIC));
    }
}

pub(super) fn keep(said: &mut SaidBefore, [decoder, hearer]: [Vec<f32>; 2]) {
    *said.list_mut(DECODER) = decoder;
    *said.list_mut(HEARER) = hearer;
}

/// Has both branches read it, and gives what the language model takes next. There is a token.
pub(super) fn read(
    said: &SaidBefore,
    session: &mut SpeechSession<'_>,
    prompt: &mut Prompt,
) -> Result<Next, EngineError> {
    let (special, config) = (session.known.special, &session.known.config);
    let width = config.head.hidden;
    let frames = said.tokens.iter().filter(|it| **it == special.speech);
    let frames = frames.count();
    let sizes = [
        (said.list(LATENTS).len(), frames * config.acoustic.latent),
        (said.list(SEMANTICS).len(), frames * config.semantic.latent),
        (said.loudness.len(), frames),
    ];
    let seen = [said.list(DECODER), said.list(HEARER)];
    if sizes.iter().any(|(is, should)| is != should) || !session.stages.go_on_from(seen)? {
        return Err(EngineError::SaidElsewhere);
    }
    let rows = (session.stages).rows_of(said.list(LATENTS), said.list(SEMANTICS))?;
    let mut rows = rows.chunks_exact(width);
    // What each token gives the language model.
    let inputs: Vec<_> = (said.tokens.iter())
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
    for (input, outcome) in led.iter().chain(before).zip(&said.tokens) {
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
