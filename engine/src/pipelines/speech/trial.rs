//! A measured run of speech, whichever system speaks: what a trial of a text model is, and the sound
//! that came.

use std::time::Duration;

use super::narrator::Narrator;
use super::said::{Ending, Limits};
use super::script::Script;
use crate::error::EngineError;
use crate::machine::cores::CoreWatch;
use crate::machine::memory;
use crate::profile::{LinkPeak, PassKind, Window, ms};
use crate::run::past::Measured;
use crate::study::trial::TrialRun;

/// What it took.
#[derive(Debug)]
pub struct SpokenRun {
    pub run: TrialRun,
    pub frames: usize,
    /// Seconds of sound.
    pub audio_s: f64,
    /// What hearing voices took, before.
    pub hearing: Duration,
}

impl SpokenRun {
    /// One script, by a narrator who has not spoken yet, in frames of `frame_s`. An interrupt is
    /// [`EngineError::Interrupted`].
    pub fn measure(
        narrator: &mut dyn Narrator,
        script: &Script,
        limits: Limits,
        (peak, frame_s): (Option<LinkPeak>, f64),
    ) -> Result<Self, EngineError> {
        let model = narrator.model();
        let (mut streaming, loaded) = (model.streaming(peak), model.loaded());
        let mut watch = CoreWatch::start(model.team.places());
        let (mut prompt, mut decode) = (Window::default(), Window::default());
        let (mut token_ms, mut tokens) = (Vec::new(), Vec::new());
        for part in narrator.parts(script, None)? {
            let limits = Limits {
                max_new_tokens: limits.max_new_tokens.saturating_sub(tokens.len()),
                first_frame: narrator.report().frames,
                only_frames: limits.only_frames,
                expected_s: limits.expected_s.map(|_| part.seconds()),
            };
            let mut speaking = narrator.narrate(&part, None, limits)?.speaking;
            loop {
                let said = speaking.next().transpose()?;
                for Measured { timing, loads } in speaking.measured() {
                    match timing.kind {
                        PassKind::Prompt => prompt.add(timing, loads),
                        PassKind::Decode => {
                            decode.add(timing, loads);
                            token_ms.push(ms(timing.total) / timing.units.max(1) as f64);
                        }
                    }
                }
                match said {
                    Some(said) => tokens.push(said.token),
                    None => break,
                }
            }
            if speaking.ending() == Some(Ending::Interrupted) {
                return Err(EngineError::Interrupted);
            }
        }
        let memory_bytes = memory::held_bytes();
        let report = narrator.report();
        (narrator.model()).beaten_peak_again(&mut streaming, &decode)?;
        streaming.keep_best(&decode);
        Ok(Self {
            frames: report.frames,
            audio_s: report.frames as f64 * frame_s,
            hearing: Duration::ZERO,
            run: TrialRun {
                streaming,
                loaded,
                timing: report.timing,
                text: String::new(),
                tokens,
                ended: None,
                token_ms,
                prompt,
                decode,
                cores: watch.finish(),
                memory_bytes,
            },
        })
    }
}
