//! Either system that speaks, for commands that measure: opened, asked to say something, and measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use loader::SpeechSystem;

use super::narrator::Narrator;
use super::part::StageType;
use super::qwen3_tts::{Tts, TtsBlueprint, TtsNarrator, TtsOptions, TtsSpeakOptions, TtsVoice};
use super::said::Limits;
use super::script::Script;
use super::trial::SpokenRun;
use super::vibevoice::{
    Noise, SpeakOptions, Speech, SpeechBlueprint, SpeechOptions, VoicedNarrator,
};
use crate::error::EngineError;
use crate::model::options::ModelOptions;
use crate::model::{Blueprint, Model};
use crate::profile::{LinkPeak, MemoryLimit, Streaming};
use crate::study::trial::{Subject, Trial, TrialRun};

/// What to say, and how.
#[derive(Debug, Clone)]
pub struct Saying {
    pub script: Script,
    /// Sound at the model's rate, as loud as voices should be, for a system that takes voices.
    pub voices: Vec<Vec<f32>>,
    pub limits: Limits,
    pub noise: Noise,
    /// How much the prompt counts, for a system that is guided by it; `None`: as much as usual.
    pub guidance: Option<f32>,
}

/// A system that speaks, planned.
#[derive(Debug)]
pub enum AnyBlueprint {
    Voiced(Box<SpeechBlueprint>),
    Coded(Box<TtsBlueprint>),
}

impl AnyBlueprint {
    pub fn new(
        path: &Path,
        model: ModelOptions,
        tokenizer: Option<PathBuf>,
        steps: Option<usize>,
        stages: StageType,
    ) -> Result<Self, EngineError> {
        Ok(match SpeechSystem::of(path)? {
            Some(SpeechSystem::Qwen3Tts) => {
                let options = TtsOptions {
                    model,
                    tokenizer,
                    stages,
                };
                Self::Coded(TtsBlueprint::new(path, &options)?.into())
            }
            _ => {
                let options = SpeechOptions {
                    model,
                    tokenizer,
                    steps: steps.unwrap_or(SpeechOptions::default().steps),
                    stages,
                };
                Self::Voiced(SpeechBlueprint::new(path, &options)?.into())
            }
        })
    }

    pub fn language(&self) -> &Blueprint {
        match self {
            Self::Voiced(blueprint) => &blueprint.language,
            Self::Coded(blueprint) => &blueprint.language,
        }
    }

    pub fn into_language(self) -> Blueprint {
        match self {
            Self::Voiced(blueprint) => blueprint.language,
            Self::Coded(blueprint) => blueprint.language,
        }
    }

    pub fn load(self, progress: &mut dyn FnMut(u64)) -> Result<AnySystem, EngineError> {
        Ok(match self {
            Self::Voiced(blueprint) => {
                AnySystem::Voiced(Speech::load(*blueprint, progress)?.into())
            }
            Self::Coded(blueprint) => AnySystem::Coded(Tts::load(*blueprint, progress)?.into()),
        })
    }
}

/// A system that speaks, loaded.
#[derive(Debug)]
pub enum AnySystem {
    Voiced(Box<Speech>),
    Coded(Box<Tts>),
}

impl AnySystem {
    pub fn language(&self) -> &Model {
        match self {
            Self::Voiced(speech) => speech.language(),
            Self::Coded(tts) => tts.talker(),
        }
    }

    pub fn measure_memory(&self) -> Result<MemoryLimit, EngineError> {
        match self {
            Self::Voiced(speech) => speech.measure_memory(),
            Self::Coded(tts) => tts.measure_memory(),
        }
    }

    /// Says it once. `cancel` ends it with [`EngineError::Interrupted`].
    pub fn measure(
        &mut self,
        peak: Option<LinkPeak>,
        saying: &Saying,
        cancel: &Arc<AtomicBool>,
    ) -> Result<SpokenRun, EngineError> {
        match self {
            Self::Voiced(speech) => {
                let config = speech.config();
                let frame_s = config.acoustic.hop() as f64 / config.sample_rate as f64;
                let mut session = speech.session()?;
                session.cancel_with(Arc::clone(cancel));
                session.watch_cores();
                let from = Instant::now();
                let voices = (saying.voices.iter())
                    .map(|voice| session.hear(voice))
                    .collect::<Result<Vec<_>, _>>()?;
                let hearing = from.elapsed();
                let mut narrator = VoicedNarrator {
                    session,
                    voices,
                    noise: saying.noise.clone(),
                    guidance: (saying.guidance).unwrap_or(SpeakOptions::default().guidance),
                };
                let run = measure(&mut narrator, saying, (peak, frame_s))?;
                Ok(SpokenRun { hearing, ..run })
            }
            Self::Coded(tts) => {
                let config = tts.config();
                let frame_s = config.codec.hop() as f64 / config.codec.sample_rate as f64;
                let options = TtsSpeakOptions::of(config);
                let first = config.speakers.first().map_or("", |it| it.name.as_str());
                let voice = TtsVoice::named(config, first, None)?;
                let mut session = tts.session()?;
                session.cancel_with(Arc::clone(cancel));
                session.watch_cores();
                let mut narrator = TtsNarrator {
                    session,
                    voices: vec![voice; saying.script.speakers()],
                    options,
                };
                measure(&mut narrator, saying, (peak, frame_s))
            }
        }
    }
}

fn measure(
    narrator: &mut dyn Narrator,
    saying: &Saying,
    measured: (Option<LinkPeak>, f64),
) -> Result<SpokenRun, EngineError> {
    SpokenRun::measure(narrator, &saying.script, saying.limits, measured)
}

/// A system that speaks, for trials that compare how it is planned.
#[derive(Debug)]
pub struct SpeechTrials {
    pub path: PathBuf,
    pub model: ModelOptions,
    pub tokenizer: Option<PathBuf>,
    /// From noise to a frame, where a system has such steps; `None`: as many as usual.
    pub steps: Option<usize>,
    pub saying: Saying,
    pub stages: StageType,
}

impl Subject for SpeechTrials {
    fn run(
        &self,
        trial: &Trial,
        limits: bool,
        cancel: &Arc<AtomicBool>,
    ) -> Result<TrialRun, EngineError> {
        let planned = &trial.options;
        let model = ModelOptions {
            residency: planned.residency,
            slots: planned.slots,
            resident_form: planned.resident_form,
            memory_bytes: planned.memory_bytes,
            ..self.model.clone()
        };
        let blueprint = AnyBlueprint::new(
            &self.path,
            model,
            self.tokenizer.clone(),
            self.steps,
            self.stages,
        )?;
        let peak = blueprint.language().measure_peak()?;
        let mut system = blueprint.load(&mut |_| {})?;
        let saying = Saying {
            limits: Limits {
                max_new_tokens: trial.generation.max_new_tokens,
                ..self.saying.limits
            },
            ..self.saying.clone()
        };
        let run = system.measure(peak, &saying, cancel)?.run;
        if !limits {
            return Ok(run);
        }
        system.measure_memory()?;
        system.language().measure_arithmetic();
        let mut streaming = Streaming {
            peak_gbps: run.streaming.peak_gbps,
            peak_lacking: run.streaming.peak_lacking,
            ..system.language().streaming(None)
        };
        streaming.keep_best(&run.decode);
        Ok(TrialRun { streaming, ..run })
    }
}
