//! The three runs that tell whether offloading is healthy: as it was asked for, without any
//! offload, and with four more resident layers; with four fewer where neither of those fits.
//! Decides which of them are worth making and collects what they took, round by round; what they
//! mean is the profile's to say.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loader::Form;
use offload::{Residency, ResidencyPlan};

use crate::error::EngineError;
use crate::model::Blueprint;
use crate::model::options::ModelOptions;
use crate::run::generation::GenerationOptions;
use crate::study::diagnosis::{Runs, Symptoms};
use crate::study::trial::{Subject, Trial, TrialRun};

/// What the run beside the one that was asked for has more, or fewer: the step of the guide.
const STEP_LAYERS: usize = 4;

/// Which of the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckupRun {
    AsGiven,
    NoOffload,
    More,
    /// Takes the place of the others, where they do not fit.
    Fewer,
}

impl CheckupRun {
    pub const ALL: [Self; 4] = [Self::AsGiven, Self::NoOffload, Self::More, Self::Fewer];

    pub fn name(self) -> &'static str {
        match self {
            Self::AsGiven => "as_given",
            Self::NoOffload => "no_offload",
            Self::More => "more_resident",
            Self::Fewer => "fewer_resident",
        }
    }
}

/// A run that is not made, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    TooLarge {
        which: CheckupRun,
        resident: usize,
        needed_bytes: u64,
        memory_bytes: u64,
    },
    /// It would be another one again.
    SameAs {
        which: CheckupRun,
        other: CheckupRun,
    },
}

/// Runs of one subject, compared.
#[derive(Debug)]
pub struct Checkup {
    subject: Box<dyn Subject>,
    planned: Vec<CheckupRun>,
    trials: Vec<Trial>,
    left_out: Vec<LeftOut>,
    /// The form of resident layers was typed.
    is_form_typed: bool,
    /// The runs of each trial, round by round.
    runs: Vec<Vec<TrialRun>>,
}

impl Checkup {
    /// Plans the runs. What the blueprint decided (`auto`, the memory that is free) is decided for
    /// all of them: a round that got another N than the one before could not be compared.
    pub fn new(
        subject: Box<dyn Subject>,
        blueprint: &Blueprint,
        prompt: Vec<u32>,
        new_tokens: usize,
    ) -> Self {
        let (layers, given) = (blueprint.plan.layers(), blueprint.plan.resident_count());
        let trial = |resident| Trial {
            options: ModelOptions {
                residency: Residency::Layers(resident),
                slots: Some(blueprint.slots()),
                resident_form: Some(blueprint.resident_form()),
                memory_bytes: blueprint.memory_bytes,
                ..blueprint.options.clone()
            },
            prompt: prompt.clone(),
            // All runs are equally long, whatever the model says.
            generation: GenerationOptions {
                max_new_tokens: new_tokens,
                ignore_eos: true,
                ..GenerationOptions::default()
            },
        };
        let (mut planned, mut trials) = (vec![CheckupRun::AsGiven], vec![trial(given)]);
        let mut left_out = Vec::new();
        let more = (given + STEP_LAYERS).min(layers);
        for (which, resident) in [(CheckupRun::NoOffload, layers), (CheckupRun::More, more)] {
            if resident == given {
                let other = CheckupRun::AsGiven;
                left_out.push(LeftOut::SameAs { which, other });
            } else if which == CheckupRun::More && resident == layers {
                let other = CheckupRun::NoOffload;
                left_out.push(LeftOut::SameAs { which, other });
            } else if let Some(too_large) = too_large(blueprint, which, resident) {
                left_out.push(too_large);
            } else {
                planned.push(which);
                trials.push(trial(resident));
            }
        }
        // `auto` takes what fits: what has more never does, and something is compared still.
        let nothing_fits = trials.len() == 1
            && (left_out.iter()).any(|left_out| matches!(left_out, LeftOut::TooLarge { .. }));
        if nothing_fits && given > 0 {
            planned.push(CheckupRun::Fewer);
            trials.push(trial(given.saturating_sub(STEP_LAYERS)));
        }
        Self {
            subject,
            runs: trials.iter().map(|_| Vec::new()).collect(),
            planned,
            trials,
            left_out,
            is_form_typed: blueprint.options.resident_form.is_some(),
        }
    }

    pub fn planned(&self) -> &[CheckupRun] {
        &self.planned
    }

    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Rounds that are complete.
    pub fn rounds(&self) -> usize {
        self.runs.iter().map(Vec::len).min().unwrap_or(0)
    }

    /// Makes every run once. A round that is interrupted leaves nothing behind. Where weights turn
    /// out to have no compact form, and none was asked for, all runs are plain.
    pub fn round(
        &mut self,
        cancel: &Arc<AtomicBool>,
        on_run: &mut dyn FnMut(CheckupRun),
    ) -> Result<(), EngineError> {
        let round = match self.try_round(cancel, on_run) {
            Err(EngineError::TooManyStrays { .. }) if !self.is_form_typed => {
                for trial in &mut self.trials {
                    trial.options.resident_form = Some(Form::Plain);
                }
                self.runs.iter_mut().for_each(Vec::clear);
                self.try_round(cancel, on_run)?
            }
            round => round?,
        };
        for (runs, run) in self.runs.iter_mut().zip(round) {
            runs.push(run);
        }
        Ok(())
    }

    fn try_round(
        &self,
        cancel: &Arc<AtomicBool>,
        on_run: &mut dyn FnMut(CheckupRun),
    ) -> Result<Vec<TrialRun>, EngineError> {
        let run = |(&which, trial): (&CheckupRun, &Trial)| {
            on_run(which);
            self.subject.run(trial, self.rounds() == 0, cancel)
        };
        self.planned.iter().zip(&self.trials).map(run).collect()
    }

    pub fn runs_of(&self, which: CheckupRun) -> &[TrialRun] {
        let index = self.planned.iter().position(|&other| other == which);
        index.map_or(&[], |index| &self.runs[index])
    }

    /// What can be said so far; nothing before the first round is complete.
    pub fn findings(&self) -> Option<Runs> {
        let symptoms = |which| Symptoms::of(self.runs_of(which));
        Some(Runs {
            as_given: symptoms(CheckupRun::AsGiven)?,
            no_offload: symptoms(CheckupRun::NoOffload),
            more: symptoms(CheckupRun::More),
            fewer: symptoms(CheckupRun::Fewer),
        })
    }
}

fn too_large(blueprint: &Blueprint, which: CheckupRun, resident: usize) -> Option<LeftOut> {
    let plan: ResidencyPlan = blueprint.plan_for(resident);
    let memory_bytes = blueprint.memory_bytes?;
    (plan.total_bytes() > memory_bytes).then(|| LeftOut::TooLarge {
        which,
        resident,
        needed_bytes: plan.total_bytes(),
        memory_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::options::Source;

    fn checkup(options: ModelOptions) -> Checkup {
        let blueprint = Blueprint::new(&Source::Demo, options).unwrap();
        Checkup::new(Box::new(Source::Demo), &blueprint, vec![1, 2, 3], 4)
    }

    fn resident_of(checkup: &Checkup) -> Vec<Residency> {
        let trials = checkup.trials.iter();
        trials.map(|trial| trial.options.residency).collect()
    }

    #[test]
    fn the_runs_are_those_that_differ() {
        let layers = |n| ModelOptions {
            residency: Residency::Layers(n),
            ..ModelOptions::default()
        };
        let of = |n| resident_of(&checkup(layers(n)));
        let n = Residency::Layers;
        assert_eq!(of(20), [n(20), n(28), n(24)]);
        // Four more of these are all of them.
        assert_eq!(of(24), [n(24), n(28)]);
        assert_eq!(of(26), [n(26), n(28)]);
        assert_eq!(of(28), [n(28)]);
        assert_eq!(checkup(layers(28)).left_out().len(), 2);
    }

    #[test]
    fn what_does_not_fit_is_left_out_with_its_numbers() {
        let options = ModelOptions {
            residency: Residency::Layers(20),
            // No read buffers: what is resident altogether is then the larger plan.
            link_gbps: Some(1.0),
            memory_bytes: Some(1 << 40),
            ..ModelOptions::default()
        };
        let blueprint = Blueprint::new(&Source::Demo, options.clone()).unwrap();
        let limit = blueprint.plan_for(25).total_bytes();
        let limited = checkup(ModelOptions {
            memory_bytes: Some(limit),
            ..options
        });
        assert_eq!(
            limited.left_out(),
            [LeftOut::TooLarge {
                which: CheckupRun::NoOffload,
                resident: 28,
                needed_bytes: blueprint.plan_for(28).total_bytes(),
                memory_bytes: limit,
            }]
        );
        assert_eq!(limited.planned(), [CheckupRun::AsGiven, CheckupRun::More]);
        assert!(
            limited
                .trials
                .iter()
                .all(|trial| trial.options.memory_bytes == Some(limit))
        );
        assert!(limited.findings().is_none());
    }

    #[test]
    fn where_nothing_larger_fits_the_run_below_is_made() {
        let planned = |resident: usize| {
            let options = ModelOptions {
                residency: Residency::Auto,
                link_gbps: Some(1.0),
                memory_bytes: Some(1 << 40),
                ..ModelOptions::default()
            };
            let blueprint = Blueprint::new(&Source::Demo, options.clone()).unwrap();
            let limited = checkup(ModelOptions {
                memory_bytes: Some(blueprint.plan_for(resident).total_bytes()),
                ..options
            });
            (limited.planned().to_vec(), resident_of(&limited))
        };
        let n = Residency::Layers;
        let both = vec![CheckupRun::AsGiven, CheckupRun::Fewer];
        assert_eq!(planned(20), (both.clone(), vec![n(20), n(16)]));
        assert_eq!(planned(3), (both, vec![n(3), n(0)]));
        assert_eq!(planned(0), (vec![CheckupRun::AsGiven], vec![n(0)]));
    }
}
