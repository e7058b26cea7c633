//! A GGUF file's settings into a [`ModelConfig`]. What is absent means what it means to llama.cpp;
//! what this engine cannot compute is refused by name. What is a family's own is in its own file.

mod more;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::metadata::Metadata;
use super::value::Value;
use super::{names, tokenizer};
use crate::checkpoint::TensorEntry;
use crate::config::{RopePairing, limits, one_of, ranges};
use crate::{
    AttentionBiases, BlockSpec, EndsSpec, Error, Family, FeedForward, HeadNorms, Mixer,
    ModelConfig, Norms, Role, Rope, RopeScaling, Storage,
};

/// What a family is like in GGUF files.
pub(crate) struct InGguf {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// As [`Family::names`]. A file that has queries, keys and values in one tensor is known by it.
    pub names: fn(Role) -> &'static [&'static str],
    /// Which dimensions turn together: rows of queries and keys are in the order that this calls for.
    pub pairing: RopePairing,
    /// Those of the settings below that it reads itself.
    pub own: &'static [&'static str],
    /// What the file says, starting from [`Settings::dense`].
    pub read: fn(&Settings<'_>) -> Result<ModelConfig, Error>,
}

/// Settings that change the result: they are refused unless the family says that it reads them.
/// Neutral values do nothing.
const FEW_HAVE: [(&str, &[f64]); 15] = [
    ("expert_count", &[0.0]),
    ("nextn_predict_layers", &[0.0]),
    ("attention.clamp_kqv", &[0.0]),
    (ATTENTION_SCALE, &[0.0]),
    ("attention.max_alibi_bias", &[0.0]),
    ("attention.temperature_scale", &[0.0]),
    (WINDOW, &[0.0]),
    ("attn_logit_softcapping", &[0.0]),
    ("final_logit_softcapping", &[0.0]),
    (LOGIT_SCALE, &[0.0, 1.0]),
    (RESIDUAL_SCALE, &[0.0, 1.0]),
    (EMBEDDING_SCALE, &[0.0, 1.0]),
    (ATTENTION_FACTOR, &[1.0]),
    ("rope.scaling.yarn_log_multiplier", &[0.0]),
    ("attention.shared_kv_layers", &[0.0]),
];

pub(crate) const ATTENTION_SCALE: &str = "attention.scale";
pub(crate) const LOGIT_SCALE: &str = "logit_scale";
pub(crate) const RESIDUAL_SCALE: &str = "residual_scale";
pub(crate) const EMBEDDING_SCALE: &str = "embedding_scale";
pub(crate) const ATTENTION_FACTOR: &str = "rope.scaling.attn_factor";
pub(crate) const WINDOW: &str = "attention.sliding_window";
/// How many of a head's dimensions turn. Of most families it is all of them.
pub(crate) const TURNED: &str = "rope.dimension_count";
const ORIGINAL: &str = "rope.scaling.original_context_length";

/// What one file says of its model.
pub(crate) struct Settings<'a> {
    metadata: &'a Metadata,
    tensors: &'a BTreeMap<String, TensorEntry>,
    sources: &'a [Arc<dyn Storage>],
    family: &'static Family,
    gguf: &'static InGguf,
}

pub(super) fn config(
    metadata: &Metadata,
    tensors: &BTreeMap<String, TensorEntry>,
    sources: &[Arc<dyn Storage>],
) -> Result<ModelConfig, Error> {
    const KEY: &str = "general.architecture";
    let kind = metadata.text("general.type")?;
    if kind == Some("adapter") {
        return Err(Error::Adapter {
            location: metadata.file().into(),
            found: "`general.type` is adapter".into(),
        });
    }
    let architecture = metadata.text(KEY)?;
    let architecture = architecture.ok_or_else(|| metadata.missing(KEY))?;
    let known = || {
        let families = Family::ALL.into_iter();
        families.filter_map(|family| Some((family, family.gguf.as_ref()?)))
    };
    let Some((family, gguf)) = known().find(|(_, gguf)| gguf.architecture == architecture) else {
        let supported = one_of(known().map(|(_, gguf)| gguf.architecture));
        return Err(metadata.unsupported(KEY, architecture, supported));
    };
    if let Some(kind) = kind.filter(|kind| *kind != "model") {
        return Err(metadata.unsupported("general.type", kind, "model"));
    }
    let settings = Settings {
        metadata,
        tensors,
        sources,
        family,
        gguf,
    };
    settings.refuse_what_we_cannot_compute()?;
    (gguf.read)(&settings)
}

impl Settings<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.gguf.architecture)
    }

    fn count(&self, name: &str, max: usize) -> Result<Option<usize>, Error> {
        self.metadata.count(&self.key(name), max)
    }

    fn required(&self, name: &str, max: usize) -> Result<usize, Error> {
        let count = self.metadata.count_of_layers(&self.key(name), max)?;
        count.ok_or_else(|| self.missing(name))
    }

    pub fn missing(&self, name: &str) -> Error {
        self.metadata.missing(&self.key(name))
    }

    fn wrong(&self, name: &str, found: usize, expected: &str) -> Error {
        self.metadata.wrong(&self.key(name), found, expected)
    }

    pub fn unsupported(&self, name: &str, value: &str, supported: &str) -> Error {
        self.metadata.unsupported(&self.key(name), value, supported)
    }

    pub fn bool(&self, name: &str) -> Result<Option<bool>, Error> {
        self.metadata.bool(&self.key(name))
    }

    pub fn within(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, Error> {
        self.metadata.within(&self.key(name), range)
    }

    /// The same where zero says that there is none.
    pub fn factor(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, Error> {
        match self.metadata.get(&self.key(name)) {
            Some(Value::Number(number)) if number.value() == 0.0 => Ok(None),
            _ => self.within(name, range),
        }
    }

    /// Whether the first layer has a tensor of that name.
    fn has(&self, part: &str) -> bool {
        let in_first = format!("{}0.{part}", names::LAYERS);
        self.tensors.contains_key(&in_first)
    }

    /// Whether the family reads the setting itself.
    fn reads(&self, name: &str) -> bool {
        self.gguf.own.contains(&name)
    }

    fn refuse_what_we_cannot_compute(&self) -> Result<(), Error> {
        for (name, neutral) in FEW_HAVE {
            match self.metadata.get(&self.key(name)) {
                _ if self.reads(name) => {}
                None => {}
                Some(Value::Number(number)) if neutral.contains(&number.value()) => {}
                Some(other) => {
                    return Err(self.unsupported(name, &other.to_string(), "models without it"));
                }
            }
        }
        match self.bool("attention.causal")? {
            Some(false) => Err(self.unsupported("attention.causal", "false", "true")),
            _ => Ok(()),
        }
    }

    /// What most families have in common: a plain block, with biases where the first layer has them.
    pub fn dense(&self) -> Result<ModelConfig, Error> {
        let hidden_size = self.required("embedding_length", limits::HIDDEN)?;
        let layers = self.required("block_count", limits::LAYERS)?;
        let heads = self.required("attention.head_count", limits::HEADS)?;
        let head_dim = self.head_dim(hidden_size, heads)?;
        let vocabulary = tokenizer::tokens(self.metadata)?;
        const EPSILON: &str = "attention.layer_norm_rms_epsilon";
        let norm_eps = self.within(EPSILON, ranges::NORM_EPS)?;
        let id = |role| tokenizer::id(self.metadata, role, vocabulary);
        // What ends a text, a turn and a message: each ends what is generated.
        let mut eos_token_ids = Vec::new();
        for role in ["eos", "eot", "eom"] {
            let id = id(role)?.filter(|id| !eos_token_ids.contains(id));
            eos_token_ids.extend(id);
        }
        let biases = if self.has("attn_output.bias") {
            AttentionBiases::All
        } else if self.has("attn_q.bias") || self.has(names::FUSED_QKV_BIAS) {
            AttentionBiases::Qkv
        } else {
            AttentionBiases::None
        };
        Ok(ModelConfig {
            family: self.family,
            hidden_size,
            intermediate_size: self.required("feed_forward_length", limits::INTERMEDIATE)?,
            layers,
            heads,
            kv_heads: self.kv_heads(heads)?,
            head_dim,
            vocab_size: self.vocab_size(vocabulary)?,
            max_positions: self.required("context_length", limits::POSITIONS)?,
            norm_eps: norm_eps.ok_or_else(|| self.missing(EPSILON))?,
            rope: self.rope(head_dim)?,
            block: BlockSpec {
                norms: Norms::Before,
                mixer: Mixer::Attention {
                    biases,
                    head_norms: HeadNorms::None,
                    scale: None,
                },
                feed_forward: FeedForward::SwiGlu {
                    biases: self.has("ffn_down.bias"),
                },
                residual_multiplier: 1.0,
            },
            ends: EndsSpec::PLAIN,
            tied_embeddings: !self.tensors.contains_key(names::HEAD),
            dtype: None,
            bos_token_id: id("bos")?,
            eos_token_ids,
            windows: vec![None; layers],
        })
    }

    fn kv_heads(&self, heads: usize) -> Result<usize, Error> {
        const NAME: &str = "attention.head_count_kv";
        let found = self
            .metadata
            .count_of_layers(&self.key(NAME), limits::HEADS)?;
        let kv_heads = found.unwrap_or(heads);
        match heads.is_multiple_of(kv_heads) {
            true => Ok(kv_heads),
            false => {
                let expected = format!("a divisor of attention.head_count ({heads})");
                Err(self.wrong(NAME, kv_heads, &expected))
            }
        }
    }

    fn head_dim(&self, hidden_size: usize, heads: usize) -> Result<usize, Error> {
        const NAME: &str = "attention.key_length";
        let keys = self.count(NAME, limits::HEAD_DIM)?;
        let values = self.count("attention.value_length", limits::HEAD_DIM)?;
        let (name, head_dim) = match keys {
            Some(keys) => (NAME, keys),
            None if hidden_size.is_multiple_of(heads) => ("embedding_length", hidden_size / heads),
            None => {
                let expected = format!("a multiple of attention.head_count ({heads})");
                return Err(self.wrong("embedding_length", hidden_size, &expected));
            }
        };
        if let Some(values) = values.filter(|values| *values != head_dim) {
            let expected = format!("{head_dim}, as its keys have");
            return Err(self.wrong("attention.value_length", values, &expected));
        }
        if head_dim % 2 != 0 || head_dim > limits::HEAD_DIM {
            let expected = format!("heads of an even number up to {}", limits::HEAD_DIM);
            return Err(self.wrong(name, head_dim, &expected));
        }
        let head_dim_max = limits::HEADS_TIMES_DIM / heads;
        if head_dim > head_dim_max {
            let expected = format!("heads of at most {head_dim_max}, if there are {heads}");
            return Err(self.wrong(name, head_dim, &expected));
        }
        Ok(head_dim)
    }

    /// What the file says, else its vocabulary has, else its embedding.
    fn vocab_size(&self, vocabulary: usize) -> Result<usize, Error> {
        const NAME: &str = "vocab_size";
        if let Some(said) = self.count(NAME, limits::VOCAB)? {
            return Ok(said);
        }
        let embedding = self.tensors.get(names::EMBEDDING);
        let rows = embedding.and_then(|entry| entry.shape.first().copied());
        let found = match vocabulary {
            0 => rows.and_then(|rows| usize::try_from(rows).ok()),
            tokens => Some(tokens),
        };
        match found {
            Some(found) if found <= limits::VOCAB => Ok(found),
            Some(found) => {
                let expected = format!("at most {}", limits::VOCAB);
                Err(self.wrong(NAME, found, &expected))
            }
            None => Err(self.missing(NAME)),
        }
    }

    fn rope(&self, head_dim: usize) -> Result<Rope, Error> {
        const THETA: f64 = 10_000.0;
        const FACTOR: &str = "rope.scaling.factor";
        let theta = self.within("rope.freq_base", ranges::ROPE_THETA)?;
        // Some writers say so of what is not scaled.
        let factor = self.factor(FACTOR, ranges::ROPE_FACTOR)?;
        // The older name of the same.
        let older = self.within("rope.scale_linear", ranges::ROPE_FACTOR)?;
        const KIND: &str = "rope.scaling.type";
        let scaling = match self.metadata.text(&self.key(KIND))? {
            None if factor.is_some() => return Err(self.missing(KIND)),
            None => older.map_or(RopeScaling::None, |factor| RopeScaling::Linear { factor }),
            Some("none") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear {
                factor: factor.ok_or_else(|| self.missing(FACTOR))?,
            },
            // Its factors are tensors, which the family reads.
            Some("longrope") if self.reads(ATTENTION_FACTOR) => RopeScaling::None,
            Some(other) => return Err(self.unsupported(KIND, other, "none or linear")),
        };
        Ok(Rope {
            theta: theta.unwrap_or(THETA),
            scaling,
            pairing: self.gguf.pairing,
            dims: self.turned(head_dim)?,
            divisors: None,
        })
    }

    fn turned(&self, head_dim: usize) -> Result<usize, Error> {
        let turned = self.count(TURNED, limits::HEAD_DIM)?.unwrap_or(head_dim);
        if turned == head_dim {
            Ok(turned)
        } else if !self.reads(TURNED) {
            Err(self.unsupported(TURNED, &turned.to_string(), "the whole of each head"))
        } else if turned < head_dim && turned.is_multiple_of(2) {
            Ok(turned)
        } else {
            let expected = format!("an even number of the {head_dim} dimensions of a head");
            Err(self.wrong(TURNED, turned, &expected))
        }
    }
}
