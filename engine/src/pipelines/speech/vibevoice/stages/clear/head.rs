//! The diffusion head in tensor operations, and the connectors: rows are f32, and matrices are
//! multiplied in their own numbers. A latent goes its whole way without a look at it.

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::{rms_norm, silu};
use kernels::{DenoiserShape, sinusoids};

use crate::compute::clear::linear::Linear;
use crate::error::EngineError;
use crate::pipelines::speech::part::Part;
use crate::pipelines::speech::vibevoice::schedule::Schedule;

/// A matrix without a bias, by its name.
fn plain(part: &Part, name: &str, device: &Device) -> Result<Linear, EngineError> {
    let weight = part.tensor(&format!("{name}.weight"), device)?;
    Ok(Linear::new(&weight, None)?)
}

/// One layer: with `shift`, `scale` and `gate` from the modulation,
/// `x += gate * down(silu(gate_proj(y)) * up(y))`, `y = norm(x) * (1 + scale) + shift`.
#[derive(Debug)]
struct Layer {
    norm: Tensor,
    /// The gate's outputs, then the others.
    gate_up: Linear,
    down: Linear,
    modulation: Linear,
}

/// The parts of a modulation, each (times and rows, width), with the scale as it is multiplied.
struct Modulation {
    shift: Tensor,
    scale: Tensor,
    /// The last one has none.
    gate: Option<Tensor>,
}

/// The diffusion head, as tensors.
#[derive(Debug)]
pub struct Head {
    noisy: Linear,
    condition: Linear,
    times: [Linear; 2],
    layers: Vec<Layer>,
    final_modulation: Linear,
    final_linear: Linear,
    /// The last norm has no weight.
    ones: Tensor,
    shape: DenoiserShape,
}

impl Head {
    pub fn new(part: &Part, shape: &DenoiserShape, device: &Device) -> Result<Self, EngineError> {
        let linear = |name: &str| plain(part, name, device);
        let layer = |at: usize| -> Result<Layer, EngineError> {
            let name = |of: &str| format!("layers.{at}.{of}");
            let weight = |of: &str| part.tensor(&name(&format!("{of}.weight")), device);
            let both = [weight("ffn.gate_proj")?, weight("ffn.up_proj")?];
            Ok(Layer {
                norm: weight("norm")?.to_dtype(DType::F32)?,
                gate_up: Linear::new(&Tensor::cat(&both, 0)?, None)?,
                down: linear(&name("ffn.down_proj"))?,
                modulation: linear(&name("linear"))?,
            })
        };
        Ok(Self {
            noisy: linear("noisy_images_proj")?,
            condition: linear("cond_proj")?,
            times: [linear("timestep_proj.fc1")?, linear("timestep_proj.fc2")?],
            layers: (0..shape.layers).map(layer).collect::<Result<_, _>>()?,
            final_modulation: linear("final_layer.linear_1")?,
            final_linear: linear("final_layer.linear_2")?,
            ones: Tensor::ones(shape.hidden, DType::F32, device)?,
            shape: *shape,
        })
    }

    /// A large matrix of it.
    pub fn largest(&self) -> &Tensor {
        let first = self.layers.first().map(|layer| &layer.gate_up);
        first.unwrap_or(&self.condition).weight()
    }

    /// What the times of a run's steps become, a row each: the same for every frame.
    pub fn embed_times(&self, times: &[f32], device: &Device) -> candle_core::Result<Tensor> {
        let width = self.shape.frequency;
        let mut waves = vec![0.0; times.len() * width];
        for (time, waves) in times.iter().zip(waves.chunks_exact_mut(width)) {
            sinusoids(*time, waves);
        }
        let waves = Tensor::from_vec(waves, (times.len(), width), device)?;
        let [first, second] = &self.times;
        second.run(&silu(&first.run(&waves)?)?)
    }

    /// The latent that noise becomes, both (1, latent), under one condition or two: (rows, width).
    /// `times`: those of the schedule, embedded.
    pub fn denoise(
        &self,
        schedule: &Schedule,
        times: &Tensor,
        conditions: &Tensor,
        noise: &Tensor,
        guidance: f32,
    ) -> candle_core::Result<Tensor> {
        let rows = conditions.dim(0)?;
        let condition = self.condition.run(conditions)?;
        // (times, rows, width): what the matrices of the modulations read once for all steps.
        let both = times
            .unsqueeze(1)?
            .broadcast_add(&condition.unsqueeze(0)?)?;
        let active = silu(&both.flatten_to(1)?)?;
        let layers = self.layers.iter();
        let by = layers.map(|layer| self.modulation(&layer.modulation, &active));
        let by = by.collect::<candle_core::Result<Vec<_>>>()?;
        let last = self.modulation(&self.final_modulation, &active)?;
        let (mut latent, mut found) = (noise.clone(), None);
        for at in 0..schedule.len() {
            let own = (at * rows, rows);
            let noisy = match rows {
                1 => latent.clone(),
                _ => Tensor::cat(&vec![&latent; rows], 0)?,
            };
            let mut x = self.noisy.run(&noisy)?;
            for (layer, by) in self.layers.iter().zip(&by) {
                x = self.layer(layer, by, &x, own)?;
            }
            let off = self
                .final_linear
                .run(&self.normed(&x, &self.ones, &last, own)?)?;
            let velocity = match rows {
                1 => off,
                _ => {
                    let (with, without) = (off.narrow(0, 0, 1)?, off.narrow(0, 1, 1)?);
                    let apart = ((with - &without)? * f64::from(guidance))?;
                    (without + apart)?
                }
            };
            latent = schedule.step_of_tensors(at, &latent, &velocity, &mut found)?;
        }
        Ok(latent)
    }

    fn modulation(&self, linear: &Linear, active: &Tensor) -> candle_core::Result<Modulation> {
        let (all, width) = (linear.run(active)?, self.shape.hidden);
        let part = |at: usize| all.narrow(1, at * width, width)?.contiguous();
        Ok(Modulation {
            shift: part(0)?,
            scale: (part(1)? + 1.0)?,
            gate: (all.dim(1)? > 2 * width).then(|| part(2)).transpose()?,
        })
    }

    /// Normalised, scaled and shifted, by the rows of a step.
    fn normed(
        &self,
        x: &Tensor,
        weight: &Tensor,
        by: &Modulation,
        (first, rows): (usize, usize),
    ) -> candle_core::Result<Tensor> {
        let normed = rms_norm(x, weight, self.shape.norm_eps)?;
        let scaled = (normed * by.scale.narrow(0, first, rows)?)?;
        scaled + by.shift.narrow(0, first, rows)?
    }

    fn layer(
        &self,
        layer: &Layer,
        by: &Modulation,
        x: &Tensor,
        own: (usize, usize),
    ) -> candle_core::Result<Tensor> {
        let ffn = self.shape.ffn;
        let gate_up = (layer.gate_up).run(&self.normed(x, &layer.norm, by, own)?)?;
        let gate = silu(&gate_up.narrow(1, 0, ffn)?.contiguous()?)?;
        let inner = (gate * gate_up.narrow(1, ffn, ffn)?)?;
        let given = layer.down.run(&inner)?;
        match &by.gate {
            Some(gate) => x + (given * gate.narrow(0, own.0, own.1)?)?,
            None => x + given,
        }
    }
}

/// Latents as rows of the language model: `linear_2(norm(linear_1(x)))`.
#[derive(Debug)]
pub struct Connector {
    first: Linear,
    norm: Tensor,
    second: Linear,
    eps: f32,
}

impl Connector {
    pub fn new(part: &Part, eps: f32, device: &Device) -> Result<Self, EngineError> {
        let linear = |name: &str| -> Result<Linear, EngineError> {
            let weight = part.tensor(&format!("{name}.weight"), device)?;
            let bias = part.tensor(&format!("{name}.bias"), device)?;
            Ok(Linear::new(&weight, Some(&bias))?)
        };
        Ok(Self {
            first: linear("linear_1")?,
            norm: (part.tensor("act.weight", device)?).to_dtype(DType::F32)?,
            second: linear("linear_2")?,
            eps,
        })
    }

    pub fn run(&self, latents: &Tensor) -> candle_core::Result<Tensor> {
        let inner = rms_norm(&self.first.run(latents)?, &self.norm, self.eps)?;
        self.second.run(&inner)
    }
}
