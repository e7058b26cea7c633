//! Checkpoints made of random numbers in the real format, for tests and for measurements where
//! the weights do not matter. Knows the format only through the rest of this crate's names.

mod preset;
mod values;
mod write;

use serde_json::{Map, Value, json};

use crate::{DType, Family, RopeScaling};

pub use preset::preset_names;
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
    pub family: Family,
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
    /// Biases of q, k, v and the output projection: Llama and Qwen3 only, Qwen2 has its own rule.
    pub attention_bias: bool,
    /// Llama only.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SynthTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub is_norm: bool,
}

impl SynthTensor {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl SynthSpec {
    /// A model small enough for any test: three layers, a few hundred kilobytes.
    pub fn tiny(family: Family) -> Self {
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

    /// In the order in which they are written.
    pub(crate) fn tensors(&self) -> Vec<SynthTensor> {
        let mut tensors = Vec::new();
        let mut push = |name: String, shape: &[usize]| {
            let is_norm = name.ends_with("norm.weight");
            tensors.push(SynthTensor {
                name,
                shape: shape.to_vec(),
                is_norm,
            });
        };
        let (hidden, ffn) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let takes_flag = matches!(self.family, Family::Llama | Family::Qwen3);
        let out_bias = self.attention_bias && takes_flag;
        let qkv_bias = out_bias || self.family == Family::Qwen2;
        let mlp_bias = self.mlp_bias && self.family == Family::Llama;
        push(
            "model.embed_tokens.weight".into(),
            &[self.vocab_size, hidden],
        );
        for layer in 0..self.layers {
            let mut block = |name: &str, shape: &[usize]| {
                push(format!("model.layers.{layer}.{name}"), shape);
            };
            block("input_layernorm.weight", &[hidden]);
            for (name, rows, columns) in [
                ("down_proj", hidden, ffn),
                ("gate_proj", ffn, hidden),
                ("up_proj", ffn, hidden),
            ] {
                if mlp_bias {
                    block(&format!("mlp.{name}.bias"), &[rows]);
                }
                block(&format!("mlp.{name}.weight"), &[rows, columns]);
            }
            block("post_attention_layernorm.weight", &[hidden]);
            for (name, rows, columns, bias) in [
                ("k_proj", kv, hidden, qkv_bias),
                ("o_proj", hidden, q, out_bias),
                ("q_proj", q, hidden, qkv_bias),
                ("v_proj", kv, hidden, qkv_bias),
            ] {
                if bias {
                    block(&format!("self_attn.{name}.bias"), &[rows]);
                }
                block(&format!("self_attn.{name}.weight"), &[rows, columns]);
            }
            if self.family == Family::Qwen3 {
                block("self_attn.k_norm.weight", &[self.head_dim]);
                block("self_attn.q_norm.weight", &[self.head_dim]);
            }
        }
        push("model.norm.weight".into(), &[hidden]);
        if !self.tied_embeddings {
            push("lm_head.weight".into(), &[self.vocab_size, hidden]);
        }
        tensors
    }

    /// The `config.json` of this shape.
    pub fn config_json(&self) -> Value {
        let mut config = json!({
            "architectures": [self.family.architecture()],
            "model_type": self.family.model_type(),
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
        let mut extra = Map::new();
        match self.family {
            Family::Llama => {
                extra.insert("attention_bias".into(), self.attention_bias.into());
                extra.insert("mlp_bias".into(), self.mlp_bias.into());
            }
            Family::Qwen3 => {
                extra.insert("attention_bias".into(), self.attention_bias.into());
                extra.insert("use_sliding_window".into(), false.into());
            }
            Family::Qwen2 => {
                extra.insert("use_sliding_window".into(), false.into());
            }
            Family::Mistral => {}
        }
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
        let value = match self.rope_scaling {
            RopeScaling::None => return None,
            RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_positions,
            } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_positions,
            }),
        };
        match value {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }
}
