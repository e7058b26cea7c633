//! Writes a random VibeVoice checkpoint in the original's layout and under its names: a language
//! model, and components whose numbers stay in the range of sound from one end to the other. Knows
//! the format only through the names of `crate::vibevoice`.

mod json;

use std::path::Path;

use super::tokenizer::of_bytes;
use super::values::Values;
use super::write::{Writer, pretty};
use super::{SynthSpec, SynthTensor};
use crate::vibevoice::{Part, parts};
use crate::{CodecConfig, Component, DType, Error, Family, HeadConfig, VibeVoiceConfig};

/// Spread of gains around 1, and of biases around 0.
const SMALL: f32 = 0.1;

/// What a block adds to its rows is multiplied by about this.
const LAYER_SCALE: f32 = 0.3;

/// About what published checkpoints have.
const SCALING: f32 = 0.196;
const BIAS: f32 = -0.049;

/// How loud the decoder's last convolution leaves what it is given.
const LOUDNESS: f32 = 0.05;

/// The checkpoint to make.
#[derive(Debug, Clone, PartialEq)]
pub struct VibeVoiceSpec {
    /// Its numbers' type, seed and shards are those of the whole.
    pub language: SynthSpec,
    pub config: VibeVoiceConfig,
}

/// A shape, with sizes of its own or of a public model.
struct Shape {
    name: &'static str,
    /// Layers, hidden, intermediate, heads, kv heads, head dim, vocabulary.
    language: [usize; 7],
    tied: bool,
    max_positions: usize,
    filters: usize,
    /// In the order of the encoder.
    ratios: &'static [usize],
    depths: &'static [usize],
    /// Acoustic and semantic.
    latents: [usize; 2],
    head_layers: usize,
    tokenizer: &'static str,
}

const RATIOS: &[usize] = &[2, 2, 4, 5, 5, 8];
const DEPTHS: &[usize] = &[3, 3, 3, 3, 3, 3, 8];

const SHAPES: [Shape; 3] = [
    Shape {
        name: "vibevoice-tiny",
        language: [3, 64, 160, 4, 2, 16, 512],
        tied: true,
        max_positions: 512,
        filters: 4,
        ratios: &[2, 4, 5],
        depths: &[1, 1, 2, 2],
        latents: [8, 12],
        head_layers: 2,
        tokenizer: "Qwen/Qwen2.5-1.5B",
    },
    Shape {
        name: "vibevoice-1.5b",
        language: [28, 1536, 8960, 12, 2, 128, 151_936],
        tied: true,
        max_positions: 65_536,
        filters: 32,
        ratios: RATIOS,
        depths: DEPTHS,
        latents: [64, 128],
        head_layers: 4,
        tokenizer: "Qwen/Qwen2.5-1.5B",
    },
    Shape {
        name: "vibevoice-7b",
        language: [28, 3584, 18_944, 28, 4, 128, 152_064],
        tied: false,
        max_positions: 32_768,
        filters: 32,
        ratios: RATIOS,
        depths: DEPTHS,
        latents: [64, 128],
        head_layers: 4,
        tokenizer: "Qwen/Qwen2.5-7B",
    },
];

/// Every name that [`VibeVoiceSpec::shape`] knows.
pub fn vibevoice_shapes() -> Vec<&'static str> {
    SHAPES.iter().map(|shape| shape.name).collect()
}

impl VibeVoiceSpec {
    /// The spec of that name; `None` where [`vibevoice_shapes`] has no such name.
    pub fn shape(name: &str) -> Option<Self> {
        let shape = SHAPES.iter().find(|shape| shape.name == name)?;
        let [
            layers,
            hidden_size,
            intermediate_size,
            heads,
            kv_heads,
            head_dim,
            vocab_size,
        ] = shape.language;
        let language = SynthSpec {
            layers,
            hidden_size,
            intermediate_size,
            heads,
            kv_heads,
            head_dim,
            vocab_size,
            tied_embeddings: shape.tied,
            max_positions: shape.max_positions,
            ..SynthSpec::tiny(Family::QWEN2)
        };
        let codec = |latent| CodecConfig {
            channels: 1,
            latent,
            filters: shape.filters,
            ratios: shape.ratios.to_vec(),
            encoder_depths: shape.depths.to_vec(),
            decoder_depths: Vec::new(),
            kernel: 7,
            ffn_expansion: 4,
            norm_eps: 1e-5,
            noise_std: 0.0,
        };
        let [acoustic, semantic] = shape.latents;
        let config = VibeVoiceConfig {
            acoustic: CodecConfig {
                decoder_depths: shape.depths.iter().rev().copied().collect(),
                noise_std: 0.625,
                ..codec(acoustic)
            },
            semantic: codec(semantic),
            head: HeadConfig {
                layers: shape.head_layers,
                hidden: hidden_size,
                ffn: 3 * hidden_size,
                latent: acoustic,
                frequency: 256,
                norm_eps: 1e-5,
                train_steps: 1000,
                inference_steps: 20,
            },
            sample_rate: 24_000,
            target_dbfs: -25.0,
            voice_eps: 1e-6,
            connector_eps: 1e-6,
            tokenizer_name: Some(shape.tokenizer.into()),
        };
        Some(Self { language, config })
    }

    pub fn with_dtype(self, dtype: DType) -> Self {
        Self {
            language: self.language.with_dtype(dtype),
            ..self
        }
    }

    pub fn with_seed(self, seed: u64) -> Self {
        Self {
            language: self.language.with_seed(seed),
            ..self
        }
    }

    /// The same with another number of layers in the language model.
    pub fn with_layers(self, layers: usize) -> Self {
        Self {
            language: self.language.with_layers(layers),
            ..self
        }
    }

    /// Bytes of all tensors.
    pub fn weight_bytes(&self) -> u64 {
        let bytes = self.language.dtype.bytes();
        let tensors = self.tensors().into_iter();
        tensors
            .map(|tensor| (tensor.elements() * bytes) as u64)
            .sum()
    }

    fn tensors(&self) -> Vec<SynthTensor> {
        let mut tensors = self.language.tensors();
        // A frame of speech is likelier than what else may be said: random rows seldom say one.
        let (cols, [eos, start, end, speech]) = (
            self.language.hidden_size,
            special(self.language.vocab_size).map(|(_, id)| id),
        );
        for tensor in &mut tensors {
            if [EMBEDDING, HEAD].contains(&tensor.name.as_str()) {
                tensor.values = tensor.values.shadowed(cols, speech, [eos, start, end]);
            }
            if let Some(rest) = tensor.name.strip_prefix("model.") {
                tensor.name = format!("model.language_model.{rest}");
            }
        }
        for component in Component::ALL {
            let prefix = component.original();
            let parts = parts(&self.config, component).into_iter();
            tensors.extend(parts.map(|part| SynthTensor {
                values: self.values(component, prefix, &part),
                name: format!("{prefix}{}", part.original),
                shape: part.shape,
            }));
        }
        for (name, value) in [
            ("model.speech_scaling_factor", SCALING),
            ("model.speech_bias_factor", BIAS),
        ] {
            tensors.push(SynthTensor {
                name: name.into(),
                shape: Vec::new(),
                values: Values::around(value, self.language.seed, name, 0.0),
            });
        }
        tensors
    }

    /// What goes through a weight stays about as large as it is.
    fn values(&self, component: Component, prefix: &str, part: &Part) -> Values {
        let seed = self.language.seed;
        let stream = format!("{prefix}{}", part.original);
        if part.name.ends_with("gamma") {
            return Values::around(LAYER_SCALE, seed, &stream, SMALL * LAYER_SCALE);
        }
        let inputs = match *part.shape {
            [_, inputs] => inputs,
            // Each of its outputs hears two of the steps of its input.
            [inputs, ..] if part.name.contains("convtr") => 2 * inputs,
            [_, inputs, kernel] => inputs * kernel,
            _ if part.name.ends_with("bias") => {
                return Values::normal(seed, &stream, self.spread(component));
            }
            _ => return Values::around(1.0, seed, &stream, SMALL),
        };
        let gain = match component {
            Component::AcousticDecoder if part.name.starts_with("head.") => LOUDNESS,
            // As large as the embeddings that they stand among.
            Component::AcousticConnector | Component::SemanticConnector
                if part.name.starts_with("linear_2.") =>
            {
                self.language.std_dev
            }
            _ => 1.0,
        };
        Values::normal(seed, &stream, gain * (inputs as f32).sqrt().recip())
    }

    /// Of a component's biases.
    fn spread(&self, component: Component) -> f32 {
        match component {
            Component::AcousticDecoder => SMALL * LOUDNESS,
            Component::AcousticConnector | Component::SemanticConnector => self.language.std_dev,
            _ => SMALL,
        }
    }
}

/// What says a token.
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// The tokens that are more than text, with the ids of Qwen2.5, or the last of a smaller vocabulary.
fn special(vocab_size: usize) -> [(&'static str, u32); 4] {
    let all = [
        ("<|endoftext|>", 151_643),
        ("<|vision_start|>", 151_652),
        ("<|vision_end|>", 151_653),
        ("<|vision_pad|>", 151_654),
    ];
    let mut last = (vocab_size as u32).saturating_sub(all.len() as u32)..;
    match all.iter().all(|(_, id)| (*id as usize) < vocab_size) {
        true => all,
        false => all.map(|(name, id)| (name, last.next().unwrap_or(id))),
    }
}

/// Writes `config.json`, `preprocessor_config.json`, a tokenizer of single bytes, which the released
/// checkpoints do not have, and the weights. `progress` gets (done, total)
/// bytes of weights.
pub fn write_vibevoice(
    dir: &Path,
    spec: &VibeVoiceSpec,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    let config = pretty(&spec.config_json());
    // The same checks that will meet it when it is opened, before gigabytes are written.
    VibeVoiceConfig::parse(config.as_bytes())?;
    let mut writer = Writer::start(dir, spec.weight_bytes(), progress)?;
    writer.small_file("config.json", &config)?;
    writer.small_file(
        "preprocessor_config.json",
        &pretty(&spec.preprocessor_json()),
    )?;
    let tokenizer = of_bytes(&[], &special(spec.language.vocab_size));
    writer.small_file("tokenizer.json", &tokenizer.to_string())?;
    let tensors = spec.tensors();
    writer.weights(&tensors, spec.language.dtype, spec.language.shard_bytes)?;
    writer.finish()
}
