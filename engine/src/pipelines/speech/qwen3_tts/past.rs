//! Going on from what was said of a prompt: the talker reads it, and the vocoder makes its sound again,
//! unheard.

use super::session::{TtsSession, add, trailing};
use super::speaking::Next;
use crate::compute::batch::{Given, Run, RunKind};
use crate::error::EngineError;
use crate::pipelines::speech::said::{Frame, SaidBefore};
use crate::profile::PassKind;

/// Whose sound is made at once.
const FRAMES: usize = 16;

/// All codes of all frames.
const CODES: &str = "codes";

/// Counts a first code.
pub(super) fn add_said(said: &mut SaidBefore, token: u32, frame: Option<&Frame>) {
    said.tokens.push(token);
    if let Some(frame) = frame {
        said.loudness.push(frame.loudness);
        said.list_mut(CODES)
            .extend(frame.stage(super::speaking::CODES));
    }
}

/// Has the talker read it, and gives what it takes next. There is a frame.
pub(super) fn read(
    session: &mut TtsSession<'_>,
    said: &SaidBefore,
    mut rows: Vec<f32>,
    following: &[f32],
) -> Result<Next, EngineError> {
    let groups = session.system.config.codec.quantizers;
    let width = session.system.width();
    let codes: Vec<u32> = said.list(CODES).iter().map(|code| *code as u32).collect();
    if codes.len() != said.frames() * groups {
        return Err(EngineError::SaidElsewhere);
    }
    // Codes that there are not are refused there.
    for codes in codes.chunks(FRAMES * groups) {
        session.sound_of(codes)?;
    }
    let mut spoken = session.rows_of(&codes)?;
    for (frame, row) in spoken.chunks_exact_mut(width).enumerate() {
        add(row, trailing(following, frame, width));
    }
    // The last of them is for the next pass.
    let last = spoken.split_off(spoken.len() - width);
    rows.extend(spoken);
    let tokens = vec![session.system.config.tokens.pad; rows.len() / width];
    let given: Vec<usize> = (0..tokens.len()).collect();
    let passes = &mut session.session.passes;
    let own = &mut session.own;
    let run = Run {
        state: &mut own.state,
        tokens: &tokens,
        position: 0,
        kind: RunKind::of(tokens.len(), 0),
        given: Some(Given {
            tokens: &given,
            rows: &rows,
        }),
    };
    passes.blocks(PassKind::Prompt, 1, &mut [run])?;
    passes.end_pass()?;
    own.tokens.extend(&tokens);
    Ok(Next::Row(last))
}
