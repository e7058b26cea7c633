//! `config.json` of both generations into a [`ModelConfig`]: `torch_dtype` with `rope_theta` and
//! `rope_scaling`, or `dtype` with `rope_parameters`. Absent fields mean what they mean to the
//! reference implementation; what this engine cannot compute is refused by name, and so is what the
//! file says twice and differently: implementations take the one or the other.

use serde_json::Value;

use super::ranges::NORM_EPS;
use super::rope::{Rotations, rope};
use super::said::{agreed, contradiction, one_of, unsupported};
use super::{ModelConfig, limits};
use crate::json::{Fields, parse_object};
use crate::spec::{AttentionBiases, BlockSpec, EndsSpec};
use crate::{DType, Error, Family, speech};

pub(crate) fn parse(file: &str, json: &[u8]) -> Result<ModelConfig, Error> {
    let map = parse_object(file, json)?;
    let fields = Fields {
        file,
        prefix: "",
        map: &map,
    };
    speech::refuse(&fields)?;
    let family = family(&fields)?;
    refuse_what_we_cannot_compute(&fields)?;
    (family.read)(&fields)
}

/// The same of a model that is described in a part of a file, and whose family is known.
pub(crate) fn parse_part(
    family: &'static Family,
    fields: &Fields<'_>,
) -> Result<ModelConfig, Error> {
    refuse_what_we_cannot_compute(fields)?;
    (family.read)(fields)
}

/// What a family's fields mean where they are absent.
pub(crate) struct Defaults {
    pub max_positions: usize,
    /// `None`: as many as query heads.
    pub kv_heads: Option<usize>,
    /// `None`: hidden size by heads.
    pub head_dim: Option<usize>,
    pub norm_eps: f64,
    pub rotations: &'static Rotations,
}

/// What all our families have in common: a stack of one kind of block ([`BlockSpec::PLAIN`], which
/// the family changes where its own differs), and attention to everything before.
pub(crate) fn dense(
    family: &'static Family,
    fields: &Fields<'_>,
    defaults: &Defaults,
) -> Result<ModelConfig, Error> {
    let hidden_size = required(fields, "hidden_size", limits::HIDDEN)?;
    let layers = required(fields, "num_hidden_layers", limits::LAYERS)?;
    let heads = required(fields, "num_attention_heads", limits::HEADS)?;
    let kv_heads = kv_heads(fields, defaults.kv_heads, heads)?;
    let head_dim = head_dim(fields, defaults.head_dim, hidden_size, heads)?;
    let max_positions = fields
        .count("max_position_embeddings", limits::POSITIONS)?
        .unwrap_or(defaults.max_positions);
    let norm_eps = fields.within("rms_norm_eps", NORM_EPS)?;
    Ok(ModelConfig {
        family,
        hidden_size,
        intermediate_size: required(fields, "intermediate_size", limits::INTERMEDIATE)?,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab_size: required(fields, "vocab_size", limits::VOCAB)?,
        max_positions,
        norm_eps: norm_eps.unwrap_or(defaults.norm_eps),
        rope: rope(fields, defaults.rotations, head_dim, max_positions)?,
        block: BlockSpec::PLAIN,
        ends: EndsSpec::PLAIN,
        tied_embeddings: fields.bool("tie_word_embeddings")?.unwrap_or(false),
        dtype: dtype(fields)?,
        bos_token_id: fields.tokens("bos_token_id")?.first().copied(),
        eos_token_ids: fields.tokens("eos_token_id")?,
        windows: vec![None; layers],
    })
}

/// The biases of all projections of attention, or of none.
pub(crate) fn attention_biases(fields: &Fields<'_>) -> Result<AttentionBiases, Error> {
    Ok(match fields.bool("attention_bias")? {
        Some(true) => AttentionBiases::All,
        _ => AttentionBiases::None,
    })
}

fn required(fields: &Fields<'_>, field: &str, max: usize) -> Result<usize, Error> {
    fields
        .count(field, max)?
        .ok_or_else(|| fields.missing(field))
}

fn family(fields: &Fields<'_>) -> Result<&'static Family, Error> {
    let model_type = fields.str("model_type")?;
    if let Some(architectures) = fields.list("architectures")?
        && let Some(first) = architectures.first()
    {
        let Some(name) = first.as_str() else {
            return Err(fields.wrong("architectures", first, "a list of names"));
        };
        let family = Family::ALL
            .into_iter()
            .find(|family| family.architecture == name)
            .ok_or_else(|| {
                let known = one_of(Family::ALL.map(|family| family.architecture));
                unsupported(fields, "architectures", name, known)
            })?;
        if let Some((at, other)) = (architectures.iter().enumerate()).find(|(_, it)| *it != first) {
            let place = format!("architectures[{at}]");
            return Err(contradiction(
                fields,
                ("architectures[0]", &name),
                (&place, other),
            ));
        }
        // The reference takes the model type's implementation, whatever the architecture is.
        return match model_type {
            Some(other) if other != family.model_type => Err(contradiction(
                fields,
                ("architectures", &name),
                ("model_type", &other),
            )),
            _ => Ok(family),
        };
    }
    let Some(name) = model_type else {
        return Err(fields.missing("architectures"));
    };
    Family::ALL
        .into_iter()
        .find(|family| family.model_type == name)
        .ok_or_else(|| {
            let known = one_of(Family::ALL.map(|family| family.model_type));
            unsupported(fields, "model_type", name, known)
        })
}

/// Weights in other numbers than the plain ones.
pub(crate) fn refuse_quantised(fields: &Fields<'_>) -> Result<(), Error> {
    for field in ["quantization_config", "compression_config"] {
        if let Some(quantization) = fields.get(field) {
            let method = quantization
                .get("quant_method")
                .and_then(Value::as_str)
                .unwrap_or("of an unknown kind");
            return Err(unsupported(
                fields,
                field,
                method,
                "weights in bf16, f16 or f32",
            ));
        }
    }
    Ok(())
}

fn refuse_what_we_cannot_compute(fields: &Fields<'_>) -> Result<(), Error> {
    refuse_quantised(fields)?;
    if fields.get("text_config").is_some() {
        return Err(unsupported(
            fields,
            "text_config",
            "beside a text model's own settings",
            "one model, described at the top level",
        ));
    }
    if let Some(activation) = fields.str("hidden_act")?
        && activation != "silu"
    {
        return Err(unsupported(fields, "hidden_act", activation, "silu"));
    }
    Ok(())
}

fn kv_heads(fields: &Fields<'_>, default: Option<usize>, heads: usize) -> Result<usize, Error> {
    const FIELD: &str = "num_key_value_heads";
    // Present and null means one per query head; absent, each family's own default.
    let kv_heads = match fields.count(FIELD, limits::HEADS)? {
        Some(kv_heads) => kv_heads,
        None if fields.map.contains_key(FIELD) => heads,
        None => default.unwrap_or(heads),
    };
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of num_attention_heads ({heads})");
        return Err(fields.wrong(FIELD, kv_heads, &expected));
    }
    Ok(kv_heads)
}

fn head_dim(
    fields: &Fields<'_>,
    default: Option<usize>,
    hidden_size: usize,
    heads: usize,
) -> Result<usize, Error> {
    let default = default.filter(|_| !fields.map.contains_key("head_dim"));
    let head_dim = match fields.count("head_dim", limits::HEAD_DIM)?.or(default) {
        Some(head_dim) => head_dim,
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

pub(crate) fn dtype(fields: &Fields<'_>) -> Result<Option<DType>, Error> {
    let said = |field: &'static str| -> Result<(&'static str, Option<DType>), Error> {
        let Some(name) = fields.str(field)? else {
            return Ok((field, None));
        };
        let plain = name.strip_prefix("torch.").unwrap_or(name);
        match plain.parse() {
            Ok(dtype) => Ok((field, Some(dtype))),
            Err(_) => Err(unsupported(
                fields,
                field,
                name,
                "bfloat16, float16 or float32",
            )),
        }
    };
    agreed(fields, &[said("torch_dtype")?, said("dtype")?])
}
