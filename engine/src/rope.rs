//! The frequencies of the rotary embedding, with each family's way of stretching them.

use std::f64::consts::TAU;

use loader::{ModelConfig, RopeScaling};

/// One inverse frequency for each pair of a head's dimensions.
pub fn inverse_frequencies(config: &ModelConfig) -> Vec<f32> {
    let theta = config.rope.theta;
    (0..config.head_dim / 2)
        .map(|pair| {
            let exponent = (2 * pair) as f64 / config.head_dim as f64;
            scaled(theta.powf(-exponent), &config.rope.scaling) as f32
        })
        .collect()
}

fn scaled(frequency: f64, scaling: &RopeScaling) -> f64 {
    match *scaling {
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
            let turns_in_old_context = original_max_positions as f64 * frequency / TAU;
            if turns_in_old_context < low_freq_factor {
                frequency / factor
            } else if turns_in_old_context > high_freq_factor {
                frequency
            } else {
                let kept =
                    (turns_in_old_context - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }
}
