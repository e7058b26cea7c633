//! A measured run of speech: what a trial of a text model is, and the sound that came.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::model::{Speech, SpeechBlueprint, SpeechOptions};
use super::speaking::SpeakOptions;
use crate::error::EngineError;
use crate::machine::cores::CoreWatch;
use crate::machine::memory;
use crate::model::options::ModelOptions;
use crate::pipelines::speech::said::{Ending, Limits};
use crate::pipelines::speech::script::Script;
use crate::profile::{LinkPeak, PassKind, Streaming, Window, ms};
use crate::run::past::Measured;
use crate::study::trial::{Subject, Trial, TrialRun};

/// What to say, and how.
#[derive(Debug, Clone)]
pub struct Saying {
    pub script: Script,
    /// Sound at the model's rate, as loud as voices should be.
    pub voices: Vec<Vec<f32>>,
    pub options: SpeakOptions,
}

/// What it took.
#[derive(Debug)]
pub struct SpokenRun {
    pub run: TrialRun,
    pub frames: usize,
    /// Seconds of sound.
    pub audio_s: f64,
    /// What hearing the voices took.
    pub hearing: Duration,
}

impl SpokenRun {
    /// One script on a system that is open. `cancel` ends it with [`EngineError::Interrupted`].
    pub fn measure(
        speech: &mut Speech,
        peak: Option<LinkPeak>,
        saying: &Saying,
        cancel: &Arc<AtomicBool>,
    ) -> Result<Self, EngineError> {
        let language = speech.language();
        let (mut streaming, loaded) = (language.streaming(peak), language.loaded());
        let mut watch = CoreWatch::start(language.team.places());
        let config = speech.config();
        let frame_s = config.acoustic.hop() as f64 / config.sample_rate as f64;
        let mut session = speech.session()?;
        session.cancel_with(Arc::clone(cancel));
        session.watch_cores();
        let from = Instant::now();
        let heard = (saying.voices.iter())
            .map(|voice| session.hear(voice))
            .collect::<Result<Vec<_>, _>>()?;
        let hearing = from.elapsed();
        let prompt = session.prompt(&saying.script, &heard, &saying.options.noise)?;
        let mut speaking = session.speak(prompt, saying.options.clone())?;
        let (mut prompt, mut decode) = (Window::default(), Window::default());
        let (mut token_ms, mut tokens) = (Vec::new(), Vec::new());
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
        let memory_bytes = memory::held_bytes();
        if speaking.ending() == Some(Ending::Interrupted) {
            return Err(EngineError::Interrupted);
        }
        let report = session.report();
        (session.model()).beaten_peak_again(&mut streaming, &decode)?;
        streaming.keep_best(&decode);
        Ok(Self {
            frames: report.frames,
            audio_s: report.frames as f64 * frame_s,
            hearing,
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

/// A system that speaks, for trials that compare how it is planned.
#[derive(Debug)]
pub struct SpeechTrials {
    pub path: PathBuf,
    pub options: SpeechOptions,
    pub saying: Saying,
}

impl Subject for SpeechTrials {
    fn run(
        &self,
        trial: &Trial,
        limits: bool,
        cancel: &Arc<AtomicBool>,
    ) -> Result<TrialRun, EngineError> {
        let planned = &trial.options;
        let options = SpeechOptions {
            model: ModelOptions {
                residency: planned.residency,
                slots: planned.slots,
                resident_form: planned.resident_form,
                memory_bytes: planned.memory_bytes,
                ..self.options.model.clone()
            },
            ..self.options.clone()
        };
        let blueprint = SpeechBlueprint::new(&self.path, &options)?;
        let peak = blueprint.language.measure_peak()?;
        let mut speech = Speech::load(blueprint, &mut |_| {})?;
        let saying = Saying {
            options: SpeakOptions {
                limits: Limits {
                    max_new_tokens: trial.generation.max_new_tokens,
                    ..self.saying.options.limits
                },
                ..self.saying.options.clone()
            },
            ..self.saying.clone()
        };
        let run = SpokenRun::measure(&mut speech, peak, &saying, cancel)?.run;
        if !limits {
            return Ok(run);
        }
        speech.measure_memory()?;
        speech.language().measure_arithmetic();
        let mut streaming = Streaming {
            peak_gbps: run.streaming.peak_gbps,
            peak_lacking: run.streaming.peak_lacking,
            ..speech.language().streaming(None)
        };
        streaming.keep_best(&run.decode);
        Ok(TrialRun { streaming, ..run })
    }
}
