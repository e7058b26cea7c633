//! Checkpoints, fusers and systems that speak, made of random numbers in the real format, for tests
//! and for measurements where the weights do not matter. Knows the format only through the rest of this crate's names.

mod fuser;
mod preset;
mod qwen3_tts;
mod tokenizer;
mod values;
mod vibevoice;
mod write;

use serde_json::{Map, Value, json};

use crate::{DType, Family, ModelConfig, RopeScaling, TensorSpec};

pub use fuser::{FuserSpec, write_fuser};
pub use preset::preset_names;
pub(crate) use preset::{Shape, Synth};
pub use qwen3_tts::{Qwen3TtsSpec, qwen3_tts_shapes, write_qwen3_tts};
use values::Values;
pub use vibevoice::{VibeVoiceSpec, vibevoice_shapes, write_vibevoice};
pub use write::{partial_path, write};

/// Which generation of `config.json` to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigStyle {
    /// `torch_dtype`, `rope_theta`, `rope_scaling`.
    TorchDtype,
    /// `dtype`, `rope_parameters`.
    RopeParameters,
}

/// The shape of a checkpoint to make.
#[derive(Debug, Clone, PartialEq)]
pub struct SynthSpec {
    pub family: &'static Family,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab_size: usize,
    pub max_positions: usize,
    pub norm_eps: f64,
    pub rope_theta: f64,
    pub rope_scaling: RopeScaling,
    /// Biases of q, k, v and the output projection, where the family has such a field.
    pub attention_bias: bool,
    /// All projections of the feed-forward part have biases, where the family has such a field.
    pub mlp_bias: bool,
    pub tied_embeddings: bool,
    pub sliding_window: Option<usize>,
    pub dtype: DType,
    pub config_style: ConfigStyle,
    pub seed: u64,
    /// Standard deviation of matrices and biases; norms are 1.
    pub std_dev: f32,
    /// A shard is closed before it would grow past this.
    pub shard_bytes: u64,
}

/// One tensor to write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SynthTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Values,
}

impl SynthTensor {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl SynthSpec {
    /// A model small enough for any test: three layers, a few hundred kilobytes.
    pub fn tiny(family: &'static Family) -> Self {
        Self {
            hidden_size: 64,
            intermediate_size: 160,
            layers: 3,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            vocab_size: 256,
            max_positions: 512,
            ..preset::base(family)
        }
    }

    /// A spec with the shape of a public model; see [`preset_names`].
    pub fn preset(name: &str) -> Result<Self, crate::Error> {
        preset::find(name)
    }

    pub fn with_layers(self, layers: usize) -> Self {
        Self { layers, ..self }
    }

    pub fn with_dtype(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }

    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Bytes of all tensors.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors()
            .iter()
            .map(|tensor| (tensor.elements() * self.dtype.bytes()) as u64)
            .sum()
    }

    /// The tensors, in the order in which they are written.
    pub(crate) fn tensors(&self) -> Vec<SynthTensor> {
        let mut tensors = Vec::new();
        let mut push = |name: String, shape: &[usize]| {
            let values = match name.ends_with("norm.weight") {
                true => Values::One,
                false => Values::normal(self.seed, &name, self.std_dev),
            };
            tensors.push(SynthTensor {
                name,
                shape: shape.to_vec(),
                values,
            });
        };
        let hidden = self.hidden_size;
        push(
            "model.embed_tokens.weight".into(),
            &[self.vocab_size, hidden],
        );
        let mut block: Vec<TensorSpec> = self.block();
        block.sort_by_key(|tensor| tensor.name);
        for layer in 0..self.layers {
            for tensor in &block {
                push(
                    format!("model.layers.{layer}.{}", tensor.name),
                    &tensor.shape,
                );
            }
        }
        push("model.norm.weight".into(), &[hidden]);
        if !self.tied_embeddings {
            push("lm_head.weight".into(), &[self.vocab_size, hidden]);
        }
        tensors
    }

    /// The stored tensors of a block; none of a shape that [`write`] refuses.
    fn block(&self) -> Vec<TensorSpec> {
        match ModelConfig::parse(self.config_json().to_string().as_bytes()) {
            Ok(config) => {
                let weights = config.block_weights().into_iter();
                weights.flat_map(|weight| weight.tensors).collect()
            }
            Err(_) => Vec::new(),
        }
    }

    /// The `config.json` of this shape.
    pub fn config_json(&self) -> Value {
        let mut config = json!({
            "architectures": [self.family.architecture],
            "model_type": self.family.model_type,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_positions,
            "rms_norm_eps": self.norm_eps,
            "hidden_act": "silu",
            "tie_word_embeddings": self.tied_embeddings,
            "sliding_window": self.sliding_window,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "use_cache": true,
        });
        let mut extra = match (self.family.synth.config)(self) {
            Value::Object(extra) => extra,
            _ => Map::new(),
        };
        let scaling = self.scaling_json();
        match self.config_style {
            ConfigStyle::TorchDtype => {
                extra.insert("torch_dtype".into(), self.dtype.long_name().into());
                extra.insert("rope_theta".into(), self.rope_theta.into());
                let scaling = scaling.map_or(Value::Null, Value::Object);
                extra.insert("rope_scaling".into(), scaling);
            }
            ConfigStyle::RopeParameters => {
                extra.insert("dtype".into(), self.dtype.long_name().into());
                let mut rope = scaling.unwrap_or_else(|| {
                    Map::from_iter([("rope_type".to_string(), Value::from("default"))])
                });
                rope.insert("rope_theta".into(), self.rope_theta.into());
                extra.insert("rope_parameters".into(), Value::Object(rope));
            }
        }
        if let Value::Object(map) = &mut config {
            map.extend(extra);
        }
        config
    }

    fn scaling_json(&self) -> Option<Map<String, Value>> {
        let stretched = self.rope_scaling != RopeScaling::None;
        let parts = || self.rope_scaling.parts().into_iter();
        stretched.then(|| parts().map(|(name, value)| (name.into(), value)).collect())
    }
}
