//! The steps from noise to a latent: a solver of second order (DPM-Solver++ 2M), whose first and last
//! steps are of first order. A value with a pure step; it knows no model.

use candle_core::Tensor;

/// The steps of one latent.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule(Vec<Step>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    /// When, as the head is told.
    time: f32,
    /// Of signal and of noise, now.
    alpha: f64,
    sigma: f64,
    /// What the latent, and what was found of it, are weighed with.
    keep: f64,
    add: f64,
    /// 1 / 2r where the step before counts.
    before: Option<f64>,
    is_last: bool,
}

/// What is kept from one step to the next.
#[derive(Debug, Clone, Default)]
pub struct Found(Vec<f64>);

/// How much noise there is at a time.
#[derive(Debug, Clone, Copy)]
struct Level {
    alpha: f64,
    sigma: f64,
}

impl Level {
    fn of(product: f64) -> Self {
        Self {
            alpha: product.sqrt(),
            sigma: (1.0 - product).sqrt(),
        }
    }

    fn lambda(self) -> f64 {
        (self.alpha / self.sigma).ln()
    }
}

impl Schedule {
    /// So many steps of a head that was trained with so many, on the squared cosine.
    pub fn new(trained: usize, steps: usize) -> Self {
        let products = products(trained);
        let last = (trained - 1) as f64;
        let times: Vec<usize> = (1..=steps)
            .rev()
            .map(|at| (at as f64 * last / steps as f64).round_ties_even() as usize)
            .collect();
        let levels: Vec<Level> = times
            .iter()
            .map(|&time| Level::of(products[time]))
            .collect();
        let mut all = Vec::new();
        for (at, (&time, &now)) in times.iter().zip(&levels).enumerate() {
            let is_last = at + 1 == steps;
            let step = Step {
                time: time as f32,
                alpha: now.alpha,
                sigma: now.sigma,
                keep: 0.0,
                add: 1.0,
                before: None,
                is_last,
            };
            all.push(match levels.get(at + 1) {
                None => step,
                Some(next) => {
                    let h = next.lambda() - now.lambda();
                    let before = at.checked_sub(1).map(|before| {
                        let r = (now.lambda() - levels[before].lambda()) / h;
                        0.5 / r
                    });
                    Step {
                        keep: next.sigma / now.sigma,
                        add: -next.alpha * (-h).exp_m1(),
                        before,
                        ..step
                    }
                }
            });
        }
        Self(all)
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// When the steps are.
    pub fn times(&self) -> Vec<f32> {
        self.0.iter().map(|step| step.time).collect()
    }

    /// One step of a latent, given its velocity there. `found`: of the step before; the first step
    /// takes none.
    pub fn step(&self, at: usize, latent: &mut [f32], velocity: &[f32], found: &mut Found) {
        let step = self.0[at];
        found.0.resize(latent.len(), 0.0);
        for ((z, v), before) in latent.iter_mut().zip(velocity).zip(&mut found.0) {
            let now = step.alpha * f64::from(*z) - step.sigma * f64::from(*v);
            let slope = match step.before.filter(|_| !step.is_last) {
                Some(share) => now + (now - *before) * share,
                None => now,
            };
            *z = (step.keep * f64::from(*z) + step.add * slope) as f32;
            *before = now;
        }
    }
}

impl Schedule {
    /// [`Schedule::step`] in tensor operations, for a latent that is not on the host: f32, and none of
    /// it is looked at.
    pub fn step_of_tensors(
        &self,
        at: usize,
        latent: &Tensor,
        velocity: &Tensor,
        found: &mut Option<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let step = self.0[at];
        let now = ((latent * step.alpha)? - (velocity * step.sigma)?)?;
        let before = found.replace(now.clone());
        let slope = match (step.before.filter(|_| !step.is_last), before) {
            (Some(share), Some(before)) => (&now + ((&now - before)? * share)?)?,
            _ => now,
        };
        (latent * step.keep)? + (slope * step.add)?
    }
}

/// What is left of the signal after each of so many steps of training.
fn products(trained: usize) -> Vec<f64> {
    const LARGEST: f64 = 0.999;
    let cosine = |at: f64| {
        let angle = (at + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2;
        angle.cos().powi(2)
    };
    let count = trained as f64;
    let betas = (0..trained).map(|at| {
        let (from, to) = (at as f64 / count, (at + 1) as f64 / count);
        (1.0 - cosine(to) / cosine(from)).min(LARGEST)
    });
    betas
        .scan(1.0, |left, beta| {
            *left *= 1.0 - beta;
            Some(*left)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use kernels::{DenoiserScratch, Team, condition, denoise_step, embed_times};
    use loader::{Component, DType, VibeVoice};

    use super::super::numbers::{Numbers, close};
    use super::*;
    use crate::pipelines::speech::part::Part;
    use crate::pipelines::speech::vibevoice::weights::{denoiser, denoiser_shape};

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vibevoice")
    }

    fn stages() -> Numbers {
        Numbers::read(&fixtures().join("stages.safetensors"))
    }

    #[test]
    fn times_and_noise_are_the_references() {
        let stages = stages();
        for steps in [5, 10] {
            let schedule = Schedule::new(1000, steps);
            let times = stages.get(&format!("dpm.{steps}.timesteps"));
            assert_eq!(schedule.times(), times);
            // Noise beside a signal of one; the reference's list ends where there is none left.
            let sigmas = stages.get(&format!("dpm.{steps}.sigmas"));
            assert_eq!((sigmas.len(), sigmas[steps]), (steps + 1, 0.0));
            for (step, sigma) in schedule.0.iter().zip(&sigmas) {
                let found = (step.sigma / step.alpha) as f32;
                close(&format!("noise at {}", step.time), &[found], &[*sigma]);
            }
        }
    }

    #[test]
    fn a_latent_goes_the_references_way() {
        const GUIDANCE: f32 = 1.3;
        let stages = stages();
        let system = VibeVoice::open(&fixtures().join("tiny-hf")).unwrap();
        let shape = denoiser_shape(&system.config.head);
        let head = system.component(Component::Head, Some(DType::F32)).unwrap();
        let head = Part::load(&head, system.sources(), &mut |_| {}).unwrap();
        let conditions = ["positive", "negative"];
        let conditions = conditions.map(|name| stages.get(&format!("dpm.condition.{name}")));
        let (team, conditions) = (Team::new(2), conditions.concat());
        for steps in [5, 10] {
            let schedule = Schedule::new(system.config.head.train_steps, steps);
            let mut scratch = DenoiserScratch::new(&team, &shape, 2, steps);
            let path = stages.get(&format!("dpm.{steps}.latents"));
            let mut path = path.chunks_exact(shape.latent);
            let mut latent = path.next().unwrap().to_vec();
            let mut found = Found::default();
            let weights = denoiser(&head, &shape);
            embed_times(&team, &shape, &weights, &schedule.times(), &mut scratch);
            condition(&team, &shape, &weights, &conditions, &mut scratch);
            for at in 0..steps {
                let both = [&latent[..], &latent].concat();
                let mut off = vec![f32::NAN; both.len()];
                denoise_step(&team, &shape, &weights, at, &both, &mut off, &mut scratch);
                let (with, without) = off.split_at(shape.latent);
                let guided = with.iter().zip(without);
                let guided: Vec<f32> = guided
                    .map(|(with, without)| without + GUIDANCE * (with - without))
                    .collect();
                schedule.step(at, &mut latent, &guided, &mut found);
                let what = format!("after step {at} of {steps}");
                close(&what, &latent, path.next().unwrap());
            }
            assert_eq!(path.next(), None);
        }
    }

    #[test]
    fn a_step_in_tensors_is_the_step() {
        let cpu = candle_core::Device::Cpu;
        let tensor = |numbers: &[f32]| Tensor::from_slice(numbers, (1, numbers.len()), &cpu);
        for steps in [1, 2, 10] {
            let schedule = Schedule::new(1000, steps);
            let mut latent = vec![0.7_f32, -1.3, 0.01, 2.5];
            let mut there = tensor(&latent).unwrap();
            let (mut found, mut kept) = (Found::default(), None);
            for at in 0..steps {
                let velocity: Vec<f32> = (latent.iter().enumerate())
                    .map(|(i, z)| (3.1 * z + i as f32 + at as f32).sin())
                    .collect();
                let given = tensor(&velocity).unwrap();
                there = (schedule.step_of_tensors(at, &there, &given, &mut kept)).unwrap();
                schedule.step(at, &mut latent, &velocity, &mut found);
                let came: Vec<f32> = there.flatten_all().unwrap().to_vec1().unwrap();
                close(&format!("after step {at} of {steps}"), &came, &latent);
            }
        }
    }

    #[test]
    fn times_are_rounded_to_the_even_one() {
        let times = Schedule::new(1000, 10).times();
        let expected = [999., 899., 799., 699., 599., 500., 400., 300., 200., 100.];
        assert_eq!(times, expected);
        assert_eq!(
            Schedule::new(1000, 5).times(),
            [999., 799., 599., 400., 200.]
        );
        assert_eq!(Schedule::new(1000, 1).times(), [999.]);
    }

    #[test]
    fn a_velocity_that_knows_the_signal_leads_to_it() {
        let signal = [0.7_f32, -1.3, 0.01];
        let noise = [0.3_f32, 1.1, -2.0];
        for steps in [1, 2, 3, 10, 20] {
            let schedule = Schedule::new(1000, steps);
            let (alpha, sigma) = (schedule.0[0].alpha, schedule.0[0].sigma);
            let mix = |a: f64, b: f64| {
                let both = signal.iter().zip(&noise);
                let both = both.map(move |(x, e)| (a * f64::from(*x) + b * f64::from(*e)) as f32);
                both.collect::<Vec<f32>>()
            };
            let mut latent = mix(alpha, sigma);
            let mut found = Found::default();
            for at in 0..steps {
                let Step { alpha, sigma, .. } = schedule.0[at];
                let velocity = mix(-sigma, alpha);
                schedule.step(at, &mut latent, &velocity, &mut found);
            }
            for (got, want) in latent.iter().zip(&signal) {
                assert!((got - want).abs() < 1e-4, "{steps}: {got} {want}");
            }
        }
    }
}
