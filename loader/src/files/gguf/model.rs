//! A GGUF file's settings into a [`ModelConfig`]. What is absent means what it means to llama.cpp;
//! what this engine cannot compute is refused by name.

use std::collections::BTreeMap;

use super::metadata::{Metadata, Number, Value};
use super::{names, tokenizer};
use crate::checkpoint::TensorEntry;
use crate::config::{RopePairing, limits, ranges};
use crate::naming::Description;
use crate::{
    AttentionBiases, BlockSpec, Encoding, EndsSpec, Error, Family, FeedForward, HeadNorms, Mixer,
    ModelConfig, Norms, Rope, RopeScaling, Storage,
};

/// Of settings below that change the result, and are not computed. Neutral values do nothing.
const NOT_COMPUTED: [(&str, &[f64]); 14] = [
    ("expert_count", &[0.0]),
    ("nextn_predict_layers", &[0.0]),
    ("attention.clamp_kqv", &[0.0]),
    ("attention.scale", &[0.0]),
    ("attention.max_alibi_bias", &[0.0]),
    ("attention.temperature_scale", &[0.0]),
    ("attn_logit_softcapping", &[0.0]),
    ("final_logit_softcapping", &[0.0]),
    ("logit_scale", &[0.0, 1.0]),
    ("residual_scale", &[0.0, 1.0]),
    ("embedding_scale", &[0.0, 1.0]),
    ("rope.scaling.attn_factor", &[1.0]),
    ("rope.scaling.yarn_log_multiplier", &[0.0]),
    ("attention.shared_kv_layers", &[0.0]),
];

/// The settings of one architecture.
struct Settings<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Settings<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn count(&self, name: &str, max: usize) -> Result<Option<usize>, Error> {
        self.metadata.count(&self.key(name), max)
    }

    fn required(&self, name: &str, max: usize) -> Result<usize, Error> {
        let count = self.metadata.count_of_layers(&self.key(name), max)?;
        count.ok_or_else(|| self.metadata.missing(&self.key(name)))
    }

    fn wrong(&self, name: &str, found: usize, expected: &str) -> Error {
        self.metadata.wrong(&self.key(name), found, expected)
    }

    fn unsupported(&self, name: &str, value: &str, supported: &'static str) -> Error {
        self.metadata.unsupported(&self.key(name), value, supported)
    }
}

/// Without the divisors of the rotation, which are a tensor.
pub(super) fn config(
    metadata: &Metadata,
    tensors: &BTreeMap<String, TensorEntry>,
) -> Result<ModelConfig, Error> {
    const SUPPORTED: &str = "llama, qwen2 or qwen3";
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
    // Mistral's models are saved as Llama's.
    let family = match architecture {
        "llama" => Family::LLAMA,
        "qwen2" => Family::QWEN2,
        "qwen3" => Family::QWEN3,
        other => return Err(metadata.unsupported(KEY, other, SUPPORTED)),
    };
    if let Some(kind) = kind.filter(|kind| *kind != "model") {
        return Err(metadata.unsupported("general.type", kind, "model"));
    }
    let settings = Settings {
        metadata,
        architecture,
    };
    refuse_what_we_cannot_compute(&settings)?;

    let hidden_size = settings.required("embedding_length", limits::HIDDEN)?;
    let layers = settings.required("block_count", limits::LAYERS)?;
    let heads = settings.required("attention.head_count", limits::HEADS)?;
    let head_dim = head_dim(&settings, hidden_size, heads)?;
    let vocabulary = tokenizer::tokens(metadata)?;
    let has = |name: &str| {
        let in_first = format!("{}0.{}", names::LAYERS, name);
        tensors.contains_key(&in_first)
    };
    const EPSILON: &str = "attention.layer_norm_rms_epsilon";
    let norm_eps = metadata.within(&settings.key(EPSILON), ranges::NORM_EPS)?;
    let id = |role| tokenizer::id(metadata, role, vocabulary);
    // What ends a text, a turn and a message: each ends what is generated.
    let mut eos_token_ids = Vec::new();
    for role in ["eos", "eot", "eom"] {
        let id = id(role)?.filter(|id| !eos_token_ids.contains(id));
        eos_token_ids.extend(id);
    }
    Ok(ModelConfig {
        family,
        hidden_size,
        intermediate_size: settings.required("feed_forward_length", limits::INTERMEDIATE)?,
        layers,
        heads,
        kv_heads: kv_heads(&settings, heads)?,
        head_dim,
        vocab_size: vocab_size(&settings, vocabulary, tensors)?,
        max_positions: settings.required("context_length", limits::POSITIONS)?,
        norm_eps: norm_eps.ok_or_else(|| metadata.missing(&settings.key(EPSILON)))?,
        rope: rope(&settings, family, head_dim)?,
        block: BlockSpec {
            norms: Norms::Before,
            mixer: Mixer::Attention {
                biases: match family == Family::QWEN2 || has("attn_q.bias") {
                    _ if has("attn_output.bias") => AttentionBiases::All,
                    true => AttentionBiases::Qkv,
                    false => AttentionBiases::None,
                },
                head_norms: match family == Family::QWEN3 {
                    true => HeadNorms::Each,
                    false => HeadNorms::None,
                },
                scale: None,
            },
            feed_forward: FeedForward::SwiGlu {
                biases: has("ffn_down.bias"),
            },
            residual_multiplier: 1.0,
        },
        ends: EndsSpec::PLAIN,
        tied_embeddings: !tensors.contains_key(names::HEAD),
        dtype: None,
        bos_token_id: id("bos")?,
        eos_token_ids,
        windows: windows(&settings, family, layers)?,
    })
}

fn refuse_what_we_cannot_compute(settings: &Settings<'_>) -> Result<(), Error> {
    for (name, neutral) in NOT_COMPUTED {
        match settings.metadata.get(&settings.key(name)) {
            None => {}
            Some(Value::Number(number)) if neutral.contains(&number.value()) => {}
            Some(other) => {
                return Err(settings.unsupported(name, &other.to_string(), "models without it"));
            }
        }
    }
    match settings.metadata.bool(&settings.key("attention.causal"))? {
        Some(false) => Err(settings.unsupported("attention.causal", "false", "true")),
        _ => Ok(()),
    }
}

fn kv_heads(settings: &Settings<'_>, heads: usize) -> Result<usize, Error> {
    const NAME: &str = "attention.head_count_kv";
    let found = settings
        .metadata
        .count_of_layers(&settings.key(NAME), limits::HEADS)?;
    let kv_heads = found.unwrap_or(heads);
    match heads.is_multiple_of(kv_heads) {
        true => Ok(kv_heads),
        false => {
            let expected = format!("a divisor of attention.head_count ({heads})");
            Err(settings.wrong(NAME, kv_heads, &expected))
        }
    }
}

fn head_dim(settings: &Settings<'_>, hidden_size: usize, heads: usize) -> Result<usize, Error> {
    const NAME: &str = "attention.key_length";
    let keys = settings.count(NAME, limits::HEAD_DIM)?;
    let values = settings.count("attention.value_length", limits::HEAD_DIM)?;
    let (name, head_dim) = match keys {
        Some(keys) => (NAME, keys),
        None if hidden_size.is_multiple_of(heads) => ("embedding_length", hidden_size / heads),
        None => {
            let expected = format!("a multiple of attention.head_count ({heads})");
            return Err(settings.wrong("embedding_length", hidden_size, &expected));
        }
    };
    if let Some(values) = values.filter(|values| *values != head_dim) {
        let expected = format!("{head_dim}, as its keys have");
        return Err(settings.wrong("attention.value_length", values, &expected));
    }
    if head_dim % 2 != 0 || head_dim > limits::HEAD_DIM {
        let expected = format!("heads of an even number up to {}", limits::HEAD_DIM);
        return Err(settings.wrong(name, head_dim, &expected));
    }
    let head_dim_max = limits::HEADS_TIMES_DIM / heads;
    if head_dim > head_dim_max {
        let expected = format!("heads of at most {head_dim_max}, if there are {heads}");
        return Err(settings.wrong(name, head_dim, &expected));
    }
    Ok(head_dim)
}

/// What the file says, else its vocabulary has, else its embedding.
fn vocab_size(
    settings: &Settings<'_>,
    vocabulary: usize,
    tensors: &BTreeMap<String, TensorEntry>,
) -> Result<usize, Error> {
    const NAME: &str = "vocab_size";
    if let Some(said) = settings.count(NAME, limits::VOCAB)? {
        return Ok(said);
    }
    let embedding = tensors.get(names::EMBEDDING);
    let rows = embedding.and_then(|entry| entry.shape.first().copied());
    let found = match vocabulary {
        0 => rows.and_then(|rows| usize::try_from(rows).ok()),
        tokens => Some(tokens),
    };
    match found {
        Some(found) if found <= limits::VOCAB => Ok(found),
        Some(found) => {
            let expected = format!("at most {}", limits::VOCAB);
            Err(settings.wrong(NAME, found, &expected))
        }
        None => Err(settings.metadata.missing(&settings.key(NAME))),
    }
}

fn rope(settings: &Settings<'_>, family: &'static Family, head_dim: usize) -> Result<Rope, Error> {
    const THETA: f64 = 10_000.0;
    const TURNED: &str = "rope.dimension_count";
    let metadata = settings.metadata;
    if let Some(turned) = settings.count(TURNED, limits::HEAD_DIM)?
        && turned != head_dim
    {
        let turned = turned.to_string();
        return Err(settings.unsupported(TURNED, &turned, "the whole of each head"));
    }
    let theta = metadata.within(&settings.key("rope.freq_base"), ranges::ROPE_THETA)?;
    const FACTOR: &str = "rope.scaling.factor";
    let factor = match metadata.get(&settings.key(FACTOR)) {
        // Some writers say so of what is not scaled.
        Some(Value::Number(number)) if number.value() == 0.0 => None,
        _ => metadata.within(&settings.key(FACTOR), ranges::ROPE_FACTOR)?,
    };
    // The older name of the same.
    let older = metadata.within(&settings.key("rope.scale_linear"), ranges::ROPE_FACTOR)?;
    const KIND: &str = "rope.scaling.type";
    let scaling = match metadata.text(&settings.key(KIND))? {
        None if factor.is_some() => return Err(metadata.missing(&settings.key(KIND))),
        None => older.map_or(RopeScaling::None, |factor| RopeScaling::Linear { factor }),
        Some("none") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear {
            factor: factor.ok_or_else(|| metadata.missing(&settings.key(FACTOR)))?,
        },
        Some(other) => return Err(settings.unsupported(KIND, other, "none or linear")),
    };
    Ok(Rope {
        theta: theta.unwrap_or(THETA),
        scaling,
        // The rows of its queries and keys are in the order that this calls for.
        pairing: match family == Family::LLAMA {
            true => RopePairing::Neighbours,
            false => RopePairing::Halves,
        },
        dims: head_dim,
        divisors: None,
    })
}

fn windows(
    settings: &Settings<'_>,
    family: &'static Family,
    layers: usize,
) -> Result<Vec<Option<usize>>, Error> {
    const NAME: &str = "attention.sliding_window";
    let key = settings.key(NAME);
    let window = match settings.metadata.get(&key) {
        Some(Value::Number(Number::Whole(0))) => None,
        _ => settings.count(NAME, limits::POSITIONS)?,
    };
    match window {
        // Of Mistral's first models, all layers; of others it is not said which.
        Some(window) if family != Family::LLAMA => {
            Err(settings.unsupported(NAME, &window.to_string(), "models without it"))
        }
        window => Ok(vec![window; layers]),
    }
}

/// What the frequencies of the rotation are divided by, where the file has such a tensor.
pub(super) fn rope_divisors(
    entry: &TensorEntry,
    storage: &dyn Storage,
    head_dim: usize,
) -> Result<Vec<f32>, Error> {
    let tensor = || names::ROPE_DIVISORS.to_owned();
    let file = || storage.name().to_owned();
    if entry.shape != [head_dim as u64 / 2] {
        return Err(Error::TensorShape {
            file: file(),
            tensor: tensor(),
            expected: vec![head_dim / 2],
            found: entry.shape.clone(),
            said_by: Description::Metadata,
        });
    }
    if entry.encoding() != Some(Encoding::F32) {
        return Err(Error::TensorDType {
            file: file(),
            tensor: tensor(),
            found: entry.stored.to_string(),
        });
    }
    // As many as a head has dimensions, which has a limit.
    let mut bytes = vec![0; head_dim / 2 * size_of::<f32>()];
    storage.read_at(entry.offset, &mut bytes)?;
    let (numbers, _) = bytes.as_chunks::<4>();
    let divisors: Vec<f32> = numbers
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let wrong = |divisor: &&f32| !ranges::ROPE_DIVISOR.contains(&f64::from(**divisor));
    match divisors.iter().find(wrong) {
        None => Ok(divisors),
        Some(found) => Err(Error::Field {
            file: file(),
            field: tensor(),
            found: format!("{found:e}"),
            expected: format!(
                "numbers from {} to {}",
                ranges::ROPE_DIVISOR.start(),
                ranges::ROPE_DIVISOR.end()
            ),
        }),
    }
}
