//! Measured runs: a model is opened, continued for some tokens and closed, and what it took is
//! kept. Whatever compares runs (diagnose, tune, bench) takes them in turns, because machines are
//! shared and their limits move: each round holds every contestant once, and ratios are taken
//! within a round.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::EngineError;
use crate::machine::cores::CoreWatch;
use crate::machine::memory;
use crate::model::Blueprint;
use crate::model::options::{ModelOptions, Source};
use crate::model::{Loaded, Model};
use crate::profile::{CoreTime, LinkPeak, PassKind, Streaming, Timing, Window, ms};
use crate::run::generation::{Ended, GenerationOptions};
use crate::run::past::Measured;

/// What to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    pub options: ModelOptions,
    pub prompt: Vec<u32>,
    pub generation: GenerationOptions,
}

/// What it took.
#[derive(Debug)]
pub struct TrialRun {
    /// The plan that was executed, the link and its peak, measured just before.
    pub streaming: Streaming,
    pub loaded: Loaded,
    pub timing: Timing,
    pub text: String,
    pub tokens: Vec<u32>,
    pub ended: Option<Ended>,
    /// Of each pass after the prompt's, what a token of it took.
    pub token_ms: Vec<f64>,
    /// The prompt's pass.
    pub prompt: Window,
    /// All passes after it.
    pub decode: Window,
    /// Whether compute had the cores it asked for, over the whole run however short it was.
    pub cores: CoreTime,
    /// What the process held after the run, where the system tells.
    pub memory_bytes: Option<u64>,
}

/// What trials are of: a text model, or a system of several.
pub trait Subject: fmt::Debug {
    /// Opens, runs, closes. `limits`: those of memory and arithmetic are measured as well.
    fn run(
        &self,
        trial: &Trial,
        limits: bool,
        cancel: &Arc<AtomicBool>,
    ) -> Result<TrialRun, EngineError>;
}

impl Subject for Source {
    fn run(
        &self,
        trial: &Trial,
        limits: bool,
        cancel: &Arc<AtomicBool>,
    ) -> Result<TrialRun, EngineError> {
        match limits {
            true => trial.run_beside_limits(self, cancel),
            false => trial.run(self, cancel),
        }
    }
}

impl Trial {
    /// Opens, runs, closes. `cancel` ends the run under way with [`EngineError::Interrupted`].
    pub fn run(&self, source: &Source, cancel: &Arc<AtomicBool>) -> Result<TrialRun, EngineError> {
        let (mut model, peak) = self.open(source, cancel)?;
        let (prompt, generation) = (self.prompt.clone(), self.generation.clone());
        TrialRun::measure(&mut model, peak, prompt, generation, cancel)
    }

    /// The same, and the limits of memory and arithmetic beside it. These are measured when the run
    /// is over: before it, the ring would fill meanwhile, and no start would be cold.
    fn run_beside_limits(
        &self,
        source: &Source,
        cancel: &Arc<AtomicBool>,
    ) -> Result<TrialRun, EngineError> {
        let (mut model, peak) = self.open(source, cancel)?;
        let (prompt, generation) = (self.prompt.clone(), self.generation.clone());
        let run = TrialRun::measure(&mut model, peak, prompt, generation, cancel)?;
        model.measure_memory()?;
        model.measure_arithmetic();
        let mut streaming = Streaming {
            peak_gbps: run.streaming.peak_gbps,
            peak_lacking: run.streaming.peak_lacking,
            ..model.streaming(None)
        };
        streaming.keep_best(&run.decode);
        Ok(TrialRun { streaming, ..run })
    }

    fn open(
        &self,
        source: &Source,
        cancel: &AtomicBool,
    ) -> Result<(Model, Option<LinkPeak>), EngineError> {
        let in_time = || match cancel.load(Ordering::Relaxed) {
            true => Err(EngineError::Interrupted),
            false => Ok(()),
        };
        in_time()?;
        let blueprint = Blueprint::new(source, self.options.clone())?;
        in_time()?;
        let peak = blueprint.measure_peak()?;
        in_time()?;
        Ok((Model::load(blueprint, &mut |_| {})?, peak))
    }
}

/// A model, and its link's peak measured just before, while nothing else uses the link.
pub fn open_measured(
    source: &Source,
    options: ModelOptions,
) -> Result<(Model, Option<LinkPeak>), EngineError> {
    let blueprint = Blueprint::new(source, options)?;
    let peak = blueprint.measure_peak()?;
    Ok((Model::load(blueprint, &mut |_| {})?, peak))
}

impl TrialRun {
    /// One generation on a model that is open.
    pub fn measure(
        model: &mut Model,
        peak: Option<LinkPeak>,
        prompt: Vec<u32>,
        generation: GenerationOptions,
        cancel: &Arc<AtomicBool>,
    ) -> Result<Self, EngineError> {
        let (mut streaming, loaded) = (model.streaming(peak), model.loaded());
        let mut watch = CoreWatch::start(model.team.places());
        let mut session = model.session()?;
        session.cancel_with(Arc::clone(cancel));
        session.watch_cores();
        let mut generation = session.generate(prompt, generation)?;
        let (mut prompt, mut decode) = (Window::default(), Window::default());
        let (mut token_ms, mut text) = (Vec::new(), String::new());
        loop {
            let piece = generation.next().transpose()?;
            for Measured { timing, loads } in generation.measured() {
                match timing.kind {
                    PassKind::Prompt => prompt.add(timing, loads),
                    PassKind::Decode => {
                        decode.add(timing, loads);
                        token_ms.push(ms(timing.total) / timing.units.max(1) as f64);
                    }
                }
            }
            match piece {
                Some(piece) => text.push_str(&piece.text),
                None => break,
            }
        }
        text.push_str(&generation.rest());
        let memory_bytes = memory::held_bytes();
        let report = generation.report();
        if report.ended == Some(Ended::Interrupted) {
            return Err(EngineError::Interrupted);
        }
        drop(generation);
        drop(session);
        model.beaten_peak_again(&mut streaming, &decode)?;
        streaming.keep_best(&decode);
        Ok(Self {
            streaming,
            loaded,
            timing: report.timing,
            text,
            tokens: report.tokens,
            ended: report.ended,
            token_ms,
            prompt,
            decode,
            cores: watch.finish(),
            memory_bytes,
        })
    }

    /// Decode time a token; `None` when there was only the prompt's.
    pub fn mean_token_ms(&self) -> Option<f64> {
        let passes = self.token_ms.len() as f64;
        (passes > 0.0).then(|| self.token_ms.iter().sum::<f64>() / passes)
    }

    pub fn tokens_per_s(&self) -> Option<f64> {
        self.timing.tokens_per_s
    }
}

/// Runs all of `trials` once a round, in turns: what changes on the machine changes for all.
/// `on_run` is told which trial comes next, and of which round. What comes back are the runs of
/// each trial, round by round, and how it ended: a failure or Ctrl-C loses none that was whole.
pub fn in_turns(
    source: &Source,
    trials: &[Trial],
    rounds: usize,
    cancel: &Arc<AtomicBool>,
    on_run: &mut dyn FnMut(usize, usize),
) -> (Vec<Vec<TrialRun>>, Result<(), EngineError>) {
    let mut runs: Vec<Vec<TrialRun>> = trials.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (index, trial) in trials.iter().enumerate() {
            on_run(index, round);
            match trial.run(source, cancel) {
                Ok(run) => runs[index].push(run),
                Err(error) => return (runs, Err(error)),
            }
        }
    }
    (runs, Ok(()))
}
