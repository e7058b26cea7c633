//! VibeVoice as commands use it: the voices and the noise of all parts.

use super::noise::Noise;
use super::session::{SpeechSession, Voice};
use super::speaking::SpeakOptions;
use crate::error::EngineError;
use crate::model::Model;
use crate::pipelines::speech::narrator::{Narrated, Narrator};
use crate::pipelines::speech::said::{Limits, SaidBefore, SpeechReport};
use crate::pipelines::speech::script::Script;
use crate::profile::Recording;

/// A session with the voices and the noise of all parts.
#[derive(Debug)]
pub struct VoicedNarrator<'m> {
    pub session: SpeechSession<'m>,
    pub voices: Vec<Voice>,
    pub noise: Noise,
    pub guidance: f32,
}

impl Narrator for VoicedNarrator<'_> {
    fn parts(&self, script: &Script, most_s: Option<f64>) -> Result<Vec<Script>, EngineError> {
        self.session.parts(script, &self.voices, most_s)
    }

    fn narrate<'s>(
        &'s mut self,
        part: &Script,
        before: Option<SaidBefore>,
        limits: Limits,
    ) -> Result<Narrated<'s>, EngineError> {
        let prompt = self.session.prompt(part, &self.voices, &self.noise)?;
        let options = SpeakOptions {
            guidance: self.guidance,
            noise: self.noise.clone(),
            limits,
        };
        Ok(Narrated {
            prompt: prompt.tokens.clone(),
            rows: Vec::new(),
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
