//! The frequencies of the rotary embedding, with each way of stretching them.

use std::f64::consts::TAU;

use kernels::Pairing;
use loader::{ModelConfig, RopePairing, RopeScaling};

/// How the heads of a run turn.
pub struct Rotation {
    /// One inverse frequency for each pair of a head's dimensions that turn.
    pub frequencies: Vec<f32>,
    /// Every cosine and sine is multiplied by it.
    pub scale: f32,
}

impl Rotation {
    /// For sequences of up to `context` positions. Where a model has factors for short and for long
    /// ones, the context decides, and not how long a sequence is by now: what is in the cache was
    /// turned by the factors of its pass, and so was all that the layers above made of it.
    pub fn of(config: &ModelConfig, context: usize) -> Self {
        let rope = &config.rope;
        let frequency = |pair: usize| {
            let exponent = (2 * pair) as f64 / rope.dims as f64;
            let scaled = scaled(rope.theta.powf(-exponent), pair, &rope.scaling, context);
            let divisors = rope.divisors.as_ref();
            let divisor = divisors.and_then(|divisors| divisors.get(pair));
            (scaled / divisor.map_or(1.0, |divisor| f64::from(*divisor))) as f32
        };
        Self {
            frequencies: (0..rope.dims / 2).map(frequency).collect(),
            scale: match rope.scaling {
                RopeScaling::LongRope {
                    attention_factor, ..
                } => attention_factor as f32,
                _ => 1.0,
            },
        }
    }
}

/// Which dimensions of a head turn together.
pub fn pairing(config: &ModelConfig) -> Pairing {
    match config.rope.pairing {
        RopePairing::Halves => Pairing::Halves,
        RopePairing::Neighbours => Pairing::Neighbours,
    }
}

fn scaled(frequency: f64, pair: usize, scaling: &RopeScaling, context: usize) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        // Short waves stay, waves longer than the old context are stretched, and those between
        // are blended by where their length lies.
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => {
            let turns_in_old_context = *original_max_positions as f64 * frequency / TAU;
            if turns_in_old_context < *low_freq_factor {
                frequency / factor
            } else if turns_in_old_context > *high_freq_factor {
                frequency
            } else {
                let kept =
                    (turns_in_old_context - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
        RopeScaling::LongRope {
            short_factors,
            long_factors,
            original_max_positions,
            ..
        } => {
            let factors = if context > *original_max_positions {
                long_factors
            } else {
                short_factors
            };
            frequency / factors[pair]
        }
    }
}
