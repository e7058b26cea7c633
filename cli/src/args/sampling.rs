//! How the next token is chosen: what the checkpoint suggests, and what was typed over it.

use clap::Args;
use engine::text::Sampling;
use loader::GenerationConfig;

use super::count::{decimal, seed, tokens};

#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "Sampling (defaults: generation_config.json where it samples, else greedy)"
)]
pub struct SamplingArgs {
    #[command(flatten)]
    pub draw: DrawArgs,
    /// Seed of the draws: the same seed gives the same text
    #[arg(long, default_value_t = 0, value_parser = seed)]
    pub seed: u64,
}

impl SamplingArgs {
    /// Flags over the checkpoint's suggestion.
    pub fn over(&self, config: &GenerationConfig) -> Sampling {
        Sampling {
            seed: self.seed,
            ..self.draw.over(&suggested(config))
        }
    }
}

/// How to draw, as it was asked for: with flags, or in a request to a server. What is `None` was left
/// open.
#[derive(Debug, Clone, Copy, PartialEq, Default, Args)]
pub struct DrawArgs {
    /// Flatten (above 1) or sharpen (below 1) the distribution; 0 is greedy
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = decimal)]
    pub temperature: Option<f32>,
    /// Draw from the K likeliest tokens only; 0 is off
    #[arg(long, value_name = "K", value_parser = tokens)]
    pub top_k: Option<usize>,
    /// Draw from the fewest tokens that hold this much probability; 1 is off
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = decimal)]
    pub top_p: Option<f32>,
    /// Draw from tokens at least this likely relative to the likeliest; 0 is off
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = decimal)]
    pub min_p: Option<f32>,
    /// Make tokens that were already seen less likely; 1 is off
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true, value_parser = decimal)]
    pub repetition_penalty: Option<f32>,
    /// Take this off the logits of tokens that were generated before (from -2 to 2); 0 is off
    #[arg(long, value_name = "LOSS", allow_negative_numbers = true, value_parser = decimal)]
    pub presence_penalty: Option<f32>,
    /// The same, as often as the token was generated; 0 is off
    #[arg(long, value_name = "LOSS", allow_negative_numbers = true, value_parser = decimal)]
    pub frequency_penalty: Option<f32>,
}

impl DrawArgs {
    /// What was asked for over what holds otherwise. What shapes a draw asks for a draw: without a
    /// temperature from anywhere it is then 1, not greedy. A value that switches something off shapes
    /// nothing.
    pub fn over(&self, base: &Sampling) -> Sampling {
        let off = Sampling::default();
        let draws = self.top_k.is_some_and(|k| k != off.top_k)
            || self.top_p.is_some_and(|p| p != off.top_p)
            || self.min_p.is_some_and(|p| p != off.min_p);
        let temperature = match base.temperature {
            0.0 if draws => 1.0,
            temperature => temperature,
        };
        Sampling {
            temperature: self.temperature.unwrap_or(temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(base.presence_penalty),
            frequency_penalty: (self.frequency_penalty).unwrap_or(base.frequency_penalty),
            seed: base.seed,
        }
    }
}

/// The checkpoint's suggestion, where it samples; else greedy.
pub fn suggested(config: &GenerationConfig) -> Sampling {
    let greedy = Sampling::default();
    if config.do_sample != Some(true) {
        return greedy;
    }
    Sampling {
        temperature: config.temperature.map_or(1.0, |value| value as f32),
        top_k: config.top_k.unwrap_or(greedy.top_k),
        top_p: config.top_p.map_or(greedy.top_p, |value| value as f32),
        min_p: config.min_p.map_or(greedy.min_p, |value| value as f32),
        repetition_penalty: config
            .repetition_penalty
            .map_or(greedy.repetition_penalty, |value| value as f32),
        ..greedy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggestion(do_sample: Option<bool>) -> GenerationConfig {
        GenerationConfig {
            do_sample,
            temperature: Some(0.7),
            top_k: Some(20),
            repetition_penalty: Some(1.05),
            ..GenerationConfig::default()
        }
    }

    #[test]
    fn a_suggestion_counts_only_where_it_samples() {
        let typed = SamplingArgs::default();
        assert_eq!(typed.over(&suggestion(None)), Sampling::default());
        assert_eq!(typed.over(&suggestion(Some(false))), Sampling::default());
        let sampled = typed.over(&suggestion(Some(true)));
        assert_eq!((sampled.temperature, sampled.top_k), (0.7, 20));
        assert_eq!((sampled.top_p, sampled.repetition_penalty), (1.0, 1.05));
    }

    #[test]
    fn flags_win() {
        let typed = SamplingArgs {
            draw: DrawArgs {
                temperature: Some(0.0),
                top_k: Some(3),
                ..DrawArgs::default()
            },
            seed: 7,
        };
        let sampling = typed.over(&suggestion(Some(true)));
        assert_eq!(
            (sampling.temperature, sampling.top_k, sampling.seed),
            (0.0, 3, 7)
        );
    }

    #[test]
    fn penalties_shape_no_draw() {
        let typed = SamplingArgs {
            draw: DrawArgs {
                presence_penalty: Some(0.5),
                frequency_penalty: Some(-1.0),
                ..DrawArgs::default()
            },
            ..SamplingArgs::default()
        };
        let sampling = typed.over(&suggestion(None));
        assert_eq!(sampling.temperature, 0.0);
        assert_eq!(
            (sampling.presence_penalty, sampling.frequency_penalty),
            (0.5, -1.0)
        );
    }

    #[test]
    fn a_flag_that_shapes_a_draw_draws() {
        let typed = SamplingArgs {
            draw: DrawArgs {
                top_p: Some(0.9),
                ..DrawArgs::default()
            },
            ..SamplingArgs::default()
        };
        assert_eq!(typed.over(&suggestion(None)).temperature, 1.0);
    }

    #[test]
    fn a_flag_that_is_switched_off_stays_greedy() {
        let off = SamplingArgs {
            draw: DrawArgs {
                top_k: Some(0),
                top_p: Some(1.0),
                min_p: Some(0.0),
                ..DrawArgs::default()
            },
            ..SamplingArgs::default()
        };
        assert_eq!(off.over(&suggestion(None)), Sampling::default());
        // It draws where the checkpoint does, without the checkpoint's limits.
        let sampled = off.over(&suggestion(Some(true)));
        assert_eq!((sampled.temperature, sampled.top_k), (0.7, 0));
    }
}
