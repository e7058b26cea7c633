//! A session of a system that speaks: voices are heard, a script and voices become a prompt, and a
//! prompt is spoken.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loader::Component;

use super::model::Speech;
use super::noise::{Draws, Noise};
use super::past;
use super::prompt;
use super::speaking::{Next, SpeakOptions, Speaking};
use super::stages::{Known, Stages};
use crate::error::EngineError;
use crate::model::Model;
use crate::pipelines::speech::cut::{FRAMES_PER_S_MAX, PartLimit};
use crate::pipelines::speech::said::{SaidBefore, Tally};
use crate::pipelines::speech::script::Script;
use crate::profile::Recording;
use crate::run::sequence::Sequence;
use crate::run::session::Session;
use crate::text::Tokenizer;

/// A voice, heard once.
#[derive(Debug, Clone, PartialEq)]
pub struct Voice {
    /// Means of its frames.
    latents: Vec<f32>,
    frames: usize,
}

impl Voice {
    /// What [`Voice::latents`] gave; `None` where it is no whole number of frames, or not of numbers.
    pub fn of_latents(latents: Vec<f32>, latent: usize) -> Option<Self> {
        let whole = latent > 0 && !latents.is_empty() && latents.len().is_multiple_of(latent);
        let fine = whole && latents.iter().all(|number| number.is_finite());
        fine.then(|| Self {
            frames: latents.len() / latent,
            latents,
        })
    }

    pub fn latents(&self) -> &[f32] {
        &self.latents
    }
}

/// A script in voices, as the model takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    pub tokens: Vec<u32>,
    /// Which of them stand for frames of voices.
    pub(super) given: Vec<usize>,
    /// What these are.
    pub(super) rows: Vec<f32>,
}

/// The state of both branches, and what computes what follows them.
#[derive(Debug)]
pub struct SpeechSession<'m> {
    pub(super) session: Session<'m>,
    pub(super) own: Sequence,
    /// Has seen the output alone, since the last start.
    pub(super) other: Sequence,
    pub(super) known: &'m Known,
    pub(super) tokenizer: &'m Tokenizer,
    pub(super) stages: Box<dyn Stages + 'm>,
    pub(super) tally: Tally,
}

impl Voice {
    pub fn frames(&self) -> usize {
        self.frames
    }
}

impl<'m> SpeechSession<'m> {
    pub(super) fn new(speech: &'m mut Speech) -> Result<Self, EngineError> {
        let team = speech.team();
        let Speech {
            language,
            weights,
            known,
            tokenizer,
            ..
        } = speech;
        let known: &'m Known = known;
        let mut session = language.session()?;
        let (own, other) = (session.take_own()?, session.sequence()?);
        Ok(Self {
            stages: weights.stages(known, team)?,
            known,
            tokenizer,
            session,
            own,
            other,
            tally: Tally::default(),
        })
    }

    pub fn config(&self) -> &loader::VibeVoiceConfig {
        &self.known.config
    }

    /// The language model.
    pub fn model(&self) -> &Model {
        self.session.model()
    }

    /// Setting this ends the pass under way.
    pub fn cancel_with(&mut self, flag: Arc<AtomicBool>) {
        self.session.cancel_with(flag);
    }

    pub fn watch_cores(&mut self) {
        self.session.watch_cores();
    }

    pub fn record(&mut self) {
        self.session.record();
    }

    pub fn take_recording(&mut self) -> Option<Recording> {
        self.session.take_recording()
    }

    /// Hears a voice: sound of the model's rate, whose loudness is as it should be.
    pub fn hear(&mut self, sound: &[f32]) -> Result<Voice, EngineError> {
        let hop = self.known.config.acoustic.hop();
        let frames = sound.len().div_ceil(hop);
        let mut padded = sound.to_vec();
        padded.resize(frames * hop, 0.0);
        let latents = self.stages.hear(&padded)?;
        Ok(Voice { latents, frames })
    }

    /// The prompt of a script in these voices: those of its speakers are taken.
    pub fn prompt(
        &mut self,
        script: &Script,
        voices: &[Voice],
        noise: &Noise,
    ) -> Result<Prompt, EngineError> {
        let bound = script.voices(voices.len()).into_iter();
        let voices: Vec<&Voice> = bound.filter_map(|at| voices.get(at)).collect();
        let frames: Vec<usize> = voices.iter().map(|voice| voice.frames).collect();
        let known = self.known;
        let (tokens, given) = prompt::prompt(script, &frames, self.tokenizer, known.special)?;
        let mut draws = Draws::new(noise.clone());
        let scales: Vec<f32> = (0..voices.len()).map(|at| draws.voice_scale(at)).collect();
        let most = frames.iter().copied().max().unwrap_or(0);
        let mut rows = Vec::new();
        for (at, (voice, scale)) in voices.iter().zip(scales).enumerate() {
            let latent = known.config.acoustic.latent;
            let mut all = vec![0.0; most * latent];
            draws.voice(at, most, latent, &mut all);
            let amount = known.config.acoustic.noise_std as f32 * scale;
            let drawn = voice.latents.iter().zip(&all);
            let scaled: Vec<f32> = drawn
                .map(|(mean, noise)| mean + amount * noise)
                .map(|latent| (latent + known.bias) * known.scaling)
                .collect();
            rows.extend(self.stages.connect(Component::AcousticConnector, &scaled)?);
        }
        self.session.model().blueprint().check_tokens(&tokens, 0)?;
        Ok(Prompt {
            tokens,
            given,
            rows,
        })
    }

    /// The script in parts that the context has room for each, and that take no more than so many
    /// seconds, as estimated.
    pub fn parts(
        &self,
        script: &Script,
        voices: &[Voice],
        most_s: Option<f64>,
    ) -> Result<Vec<Script>, EngineError> {
        let bound = script.voices(voices.len()).into_iter();
        let frames = bound.filter_map(|at| voices.get(at)).map(Voice::frames);
        let Known {
            special, config, ..
        } = self.known;
        let without = script.part(Vec::new());
        let frames: Vec<usize> = frames.collect();
        let (without, _) = prompt::prompt(&without, &frames, self.tokenizer, *special)?;
        let context = self.own.len() + self.own.room();
        Ok(script.parts(PartLimit {
            seconds: most_s.unwrap_or(f64::INFINITY),
            tokens: context.saturating_sub(without.len()) as f64,
            frames_per_s: FRAMES_PER_S_MAX
                .min(config.sample_rate as f64 / config.acoustic.hop() as f64),
        }))
    }

    /// Speaks. What it says comes token by token.
    pub fn speak(
        &mut self,
        prompt: Prompt,
        options: SpeakOptions,
    ) -> Result<Speaking<'_, 'm>, EngineError> {
        self.begin()?;
        let before = SaidBefore::default();
        Ok(Speaking::new(self, Next::Prompt(prompt), before, options))
    }

    /// Goes on where speaking of this prompt was ended. What was said is read as a prompt is, so the
    /// last bits of what follows may be others than if it had not been ended.
    pub fn speak_on(
        &mut self,
        mut prompt: Prompt,
        said: SaidBefore,
        options: SpeakOptions,
    ) -> Result<Speaking<'_, 'm>, EngineError> {
        self.begin()?;
        let next = match said.tokens.is_empty() {
            true => Next::Prompt(prompt),
            false => {
                let read = past::read(&said, self, &mut prompt)?;
                self.session.passes.forget_measured();
                read
            }
        };
        Ok(Speaking::new(self, next, said, options))
    }

    fn begin(&mut self) -> Result<(), EngineError> {
        self.own.go_back(0)?;
        self.other.go_back(0)?;
        self.stages.begin();
        self.session.passes.begin()
    }
}
