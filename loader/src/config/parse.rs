//! `config.json` of both generations into a [`ModelConfig`]: `torch_dtype` with `rope_theta` and
//! `rope_scaling`, or `dtype` with `rope_parameters`. Absent fields mean what they mean to the
//! reference implementation; what this engine cannot compute is refused by name.

use serde_json::Value;

use super::{Family, ModelConfig, Rope, RopeScaling, limits};
use crate::json::{Fields, parse_object};
use crate::{DType, Error};

pub(super) fn parse(file: &str, json: &[u8]) -> Result<ModelConfig, Error> {
    let map = parse_object(file, json)?;
    let fields = Fields {
        file,
        prefix: "",
        map: &map,
    };
    let family = family(&fields)?;
    refuse_what_we_cannot_compute(&fields)?;

    let hidden_size = required(&fields, "hidden_size", limits::HIDDEN)?;
    let layers = required(&fields, "num_hidden_layers", limits::LAYERS)?;
    let heads = required(&fields, "num_attention_heads", limits::HEADS)?;
    let kv_heads = kv_heads(&fields, family, heads)?;
    let head_dim = head_dim(&fields, family, hidden_size, heads)?;
    let max_positions = fields
        .count("max_position_embeddings", limits::POSITIONS)?
        .unwrap_or(match family {
            Family::Llama => 2048,
            Family::Mistral => 131_072,
            Family::Qwen2 | Family::Qwen3 => 32_768,
        });
    let attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
    let (qkv_bias, out_bias) = match family {
        Family::Llama | Family::Qwen3 => (attention_bias, attention_bias),
        Family::Mistral => (false, false),
        Family::Qwen2 => (true, false),
    };
    Ok(ModelConfig {
        family,
        hidden_size,
        intermediate_size: required(&fields, "intermediate_size", limits::INTERMEDIATE)?,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab_size: required(&fields, "vocab_size", limits::VOCAB)?,
        max_positions,
        norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
        rope: rope(&fields)?,
        qkv_bias,
        out_bias,
        mlp_bias: family == Family::Llama && fields.bool("mlp_bias")?.unwrap_or(false),
        qk_norm: family == Family::Qwen3,
        tied_embeddings: fields.bool("tie_word_embeddings")?.unwrap_or(false),
        dtype: dtype(&fields)?,
        bos_token_id: fields.tokens("bos_token_id")?.first().copied(),
        eos_token_ids: fields.tokens("eos_token_id")?,
        windows: windows(&fields, family, layers)?,
    })
}

fn unsupported(fields: &Fields<'_>, field: &str, value: &str, supported: &'static str) -> Error {
    Error::Unsupported {
        file: fields.file.into(),
        field: format!("{}{field}", fields.prefix),
        value: value.into(),
        supported,
    }
}

fn required(fields: &Fields<'_>, field: &str, max: usize) -> Result<usize, Error> {
    fields
        .count(field, max)?
        .ok_or_else(|| fields.missing(field))
}

fn family(fields: &Fields<'_>) -> Result<Family, Error> {
    const SUPPORTED: &str =
        "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM or Qwen3ForCausalLM";
    if let Some(architectures) = fields.list("architectures")?
        && let Some(first) = architectures.first()
    {
        let Some(name) = first.as_str() else {
            return Err(fields.wrong("architectures", first, "a list of names"));
        };
        return Family::ALL
            .into_iter()
            .find(|family| family.architecture() == name)
            .ok_or_else(|| unsupported(fields, "architectures", name, SUPPORTED));
    }
    let Some(name) = fields.str("model_type")? else {
        return Err(fields.missing("architectures"));
    };
    Family::ALL
        .into_iter()
        .find(|family| family.model_type() == name)
        .ok_or_else(|| unsupported(fields, "model_type", name, "llama, mistral, qwen2 or qwen3"))
}

fn refuse_what_we_cannot_compute(fields: &Fields<'_>) -> Result<(), Error> {
    if let Some(quantization) = fields.get("quantization_config") {
        let method = quantization
            .get("quant_method")
            .and_then(Value::as_str)
            .unwrap_or("of an unknown kind");
        return Err(unsupported(
            fields,
            "quantization_config",
            method,
            "weights in bf16, f16 or f32",
        ));
    }
    if let Some(activation) = fields.str("hidden_act")?
        && activation != "silu"
    {
        return Err(unsupported(fields, "hidden_act", activation, "silu"));
    }
    Ok(())
}

fn kv_heads(fields: &Fields<'_>, family: Family, heads: usize) -> Result<usize, Error> {
    const FIELD: &str = "num_key_value_heads";
    // Present and null means one per query head; absent, each family's own default.
    let kv_heads = match fields.count(FIELD, limits::HEADS)? {
        Some(kv_heads) => kv_heads,
        None if fields.map.contains_key(FIELD) => heads,
        None => match family {
            Family::Llama => heads,
            Family::Mistral => 8,
            Family::Qwen2 | Family::Qwen3 => 32,
        },
    };
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of num_attention_heads ({heads})");
        return Err(fields.wrong(FIELD, kv_heads, &expected));
    }
    Ok(kv_heads)
}

fn head_dim(
    fields: &Fields<'_>,
    family: Family,
    hidden_size: usize,
    heads: usize,
) -> Result<usize, Error> {
    let head_dim = match fields.count("head_dim", limits::HEAD_DIM)? {
        Some(head_dim) => head_dim,
        None if family == Family::Qwen3 && !fields.map.contains_key("head_dim") => 128,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            let expected = format!("a multiple of num_attention_heads ({heads})");
            return Err(fields.wrong("hidden_size", hidden_size, &expected));
        }
    };
    if head_dim % 2 != 0 || head_dim > limits::HEAD_DIM {
        let expected = format!("an even number up to {}", limits::HEAD_DIM);
        return Err(fields.wrong("head_dim", head_dim, &expected));
    }
    let head_dim_max = limits::HEADS_TIMES_DIM / heads;
    if head_dim > head_dim_max {
        let expected = format!("at most {head_dim_max} with {heads} heads");
        return Err(fields.wrong("head_dim", head_dim, &expected));
    }
    Ok(head_dim)
}

fn dtype(fields: &Fields<'_>) -> Result<Option<DType>, Error> {
    let field = if fields.get("dtype").is_some() {
        "dtype"
    } else {
        "torch_dtype"
    };
    let Some(name) = fields.str(field)? else {
        return Ok(None);
    };
    let plain = name.strip_prefix("torch.").unwrap_or(name);
    match plain.parse() {
        Ok(dtype) => Ok(Some(dtype)),
        Err(_) => Err(unsupported(
            fields,
            field,
            name,
            "bfloat16, float16 or float32",
        )),
    }
}

fn rope(fields: &Fields<'_>) -> Result<Rope, Error> {
    const THETA: f64 = 10_000.0;
    let top_theta = fields.positive("rope_theta")?;
    let (map, prefix) = match fields.object("rope_parameters")? {
        Some(map) => (map, "rope_parameters."),
        None => match fields.object("rope_scaling")? {
            Some(map) => (map, "rope_scaling."),
            None => {
                refuse_partial(fields)?;
                return Ok(Rope {
                    theta: top_theta.unwrap_or(THETA),
                    scaling: RopeScaling::None,
                });
            }
        },
    };
    let inner = Fields {
        file: fields.file,
        prefix,
        map,
    };
    refuse_partial(fields)?;
    refuse_partial(&inner)?;
    let theta = inner.positive("rope_theta")?.or(top_theta);
    Ok(Rope {
        theta: theta.unwrap_or(THETA),
        scaling: scaling(&inner)?,
    })
}

fn refuse_partial(fields: &Fields<'_>) -> Result<(), Error> {
    match fields.f64("partial_rotary_factor")? {
        Some(factor) if factor != 1.0 => Err(unsupported(
            fields,
            "partial_rotary_factor",
            &factor.to_string(),
            "1 (all of each head rotates)",
        )),
        _ => Ok(()),
    }
}

fn scaling(fields: &Fields<'_>) -> Result<RopeScaling, Error> {
    let field = if fields.get("rope_type").is_some() {
        "rope_type"
    } else {
        "type"
    };
    // A map of maps gives every kind of layer its own rotation: none of our families do.
    if let Some((kind, _)) = fields.map.iter().find(|(_, value)| value.is_object()) {
        return Err(unsupported(
            fields,
            kind,
            "of its own",
            "one for all layers",
        ));
    }
    let required = |name: &str| fields.positive(name)?.ok_or_else(|| fields.missing(name));
    match fields.str(field)? {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear {
            factor: required("factor")?,
        }),
        Some("llama3") => {
            let (low, high) = (required("low_freq_factor")?, required("high_freq_factor")?);
            if high <= low {
                let expected = format!("more than low_freq_factor ({low})");
                return Err(fields.wrong("high_freq_factor", high, &expected));
            }
            let original = "original_max_position_embeddings";
            Ok(RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_positions: fields
                    .count(original, limits::POSITIONS)?
                    .ok_or_else(|| fields.missing(original))?,
            })
        }
        Some(other) => Err(unsupported(
            fields,
            field,
            other,
            "default, linear or llama3",
        )),
    }
}

fn windows(
    fields: &Fields<'_>,
    family: Family,
    layers: usize,
) -> Result<Vec<Option<usize>>, Error> {
    const FIELD: &str = "sliding_window";
    const DEFAULT: usize = 4096;
    let window = match fields.count(FIELD, limits::POSITIONS)? {
        Some(window) => Some(window),
        None if fields.map.contains_key(FIELD) => None,
        None => Some(DEFAULT),
    };
    match family {
        Family::Llama => Ok(vec![None; layers]),
        Family::Mistral => Ok(vec![window; layers]),
        Family::Qwen2 | Family::Qwen3 => {
            if !fields.bool("use_sliding_window")?.unwrap_or(false) {
                return Ok(vec![None; layers]);
            }
            if let Some(types) = fields.list("layer_types")? {
                return windows_by_type(fields, types, window, layers);
            }
            let first = fields.index("max_window_layers", usize::MAX)?.unwrap_or(28);
            Ok((0..layers)
                .map(|layer| window.filter(|_| layer >= first))
                .collect())
        }
    }
}

fn windows_by_type(
    fields: &Fields<'_>,
    types: &[Value],
    window: Option<usize>,
    layers: usize,
) -> Result<Vec<Option<usize>>, Error> {
    if types.len() != layers {
        let found = format!("a list of {}", types.len());
        let expected = format!("one entry for each of {layers} layers");
        return Err(fields.wrong("layer_types", found, &expected));
    }
    types
        .iter()
        .map(|kind| match kind.as_str() {
            Some("full_attention") => Ok(None),
            Some("sliding_attention") if window.is_some() => Ok(window),
            Some("sliding_attention") => Err(fields.missing("sliding_window")),
            _ => Err(fields.wrong("layer_types", kind, "full_attention or sliding_attention")),
        })
        .collect()
}
