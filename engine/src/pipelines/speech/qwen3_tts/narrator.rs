//! Qwen3-TTS as commands use it: a speaker for each of a script's, and how to choose codes.

use super::prompt::TtsVoice;
use super::session::{TtsSession, TtsSpeakOptions};
use crate::error::EngineError;
use crate::model::Model;
use crate::pipelines::speech::cut::{FRAMES_PER_S_MAX, PartLimit};
use crate::pipelines::speech::narrator::{Narrated, Narrator};
use crate::pipelines::speech::said::{Limits, SaidBefore, SpeechReport};
use crate::pipelines::speech::script::{Line, Script};
use crate::profile::Recording;

/// A session with its voices.
#[derive(Debug)]
pub struct TtsNarrator<'m> {
    pub session: TtsSession<'m>,
    /// For each voice that lines may have.
    pub voices: Vec<TtsVoice>,
    /// Limits are those of each part.
    pub options: TtsSpeakOptions,
}

impl TtsNarrator<'_> {
    fn voice(&self, part: &Script) -> Result<&TtsVoice, EngineError> {
        let bound = part.voices(self.voices.len());
        let speaker = part.lines.first().map_or(0, |line| line.speaker);
        let voice = bound.get(speaker).and_then(|at| self.voices.get(*at));
        voice.ok_or(EngineError::NothingToSpeak)
    }
}

fn text(part: &Script) -> String {
    let lines: Vec<&str> = part.lines.iter().map(|line| line.text.as_str()).collect();
    lines.join(" ")
}

impl Narrator for TtsNarrator<'_> {
    /// A part has one speaker.
    fn parts(&self, script: &Script, most_s: Option<f64>) -> Result<Vec<Script>, EngineError> {
        let config = self.session.config();
        let mut parts = Vec::new();
        for turn in script
            .lines
            .chunk_by(|a: &Line, b: &Line| a.speaker == b.speaker)
        {
            let turn = script.part(turn.to_vec());
            let voice = self.voice(&turn)?;
            // Whatever is said: a letter and what stands around it.
            let around = self.session.prompt_rows("a", voice)?;
            parts.extend(
                turn.parts(PartLimit {
                    seconds: most_s.unwrap_or(f64::INFINITY),
                    tokens: self.session.context().saturating_sub(around) as f64,
                    frames_per_s: FRAMES_PER_S_MAX
                        .min(config.codec.sample_rate as f64 / config.codec.hop() as f64),
                }),
            );
        }
        Ok(parts)
    }

    fn narrate<'s>(
        &'s mut self,
        part: &Script,
        before: Option<SaidBefore>,
        limits: Limits,
    ) -> Result<Narrated<'s>, EngineError> {
        let voice = self.voice(part)?.clone();
        let prompt = self.session.prompt(&text(part), &voice)?;
        let width = self.session.system.width();
        let rows = match self.session.keeps_stages {
            true => prompt
                .rows
                .chunks_exact(width)
                .map(<[f32]>::to_vec)
                .collect(),
            false => Vec::new(),
        };
        let options = TtsSpeakOptions {
            limits: Limits {
                max_new_tokens: limits
                    .max_new_tokens
                    .min(self.options.limits.max_new_tokens),
                ..limits
            },
            ..self.options.clone()
        };
        Ok(Narrated {
            prompt: prompt.text_ids.clone(),
            rows,
            speaking: Box::new(match before {
                Some(said) => self.session.speak_on(prompt, said, options)?,
                None => self.session.speak(prompt, options)?,
            }),
        })
    }

    fn model(&self) -> &Model {
        self.session.model()
    }

    fn report(&self) -> SpeechReport {
        self.session.report()
    }

    fn take_recording(&mut self) -> Option<Recording> {
        self.session.take_recording()
    }
}
