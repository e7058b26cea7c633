//! `config.json` of both generations into a [`ModelConfig`]: `torch_dtype` with `rope_theta` and
//! `rope_scaling`, or `dtype` with `rope_parameters`. Absent fields mean what they mean to the
//! reference implementation; what this engine cannot compute is refused by name, and so is what the
//! file says twice and differently: implementations take the one or the other.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::{Family, ModelConfig, Rope, RopeScaling, limits};
use crate::json::{Fields, parse_object};
use crate::{DType, Error, Said};

/// Added to a mean of squares in 32 bits: less is nothing there, more is the whole of it.
const NORM_EPS: RangeInclusive<f64> = 1e-12..=1.0;
/// Base of the rotation's wavelengths; published ones are from 1e4 to 5e10.
const ROPE_THETA: RangeInclusive<f64> = 1.0..=1e16;
/// How many times more positions, and where between wavelengths that begins.
const ROPE_FACTOR: RangeInclusive<f64> = 1.0..=1e6;
const FREQ_FACTOR: RangeInclusive<f64> = 1e-6..=1e6;

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
        norm_eps: fields.within("rms_norm_eps", NORM_EPS)?.unwrap_or(1e-6),
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

fn contradiction(
    fields: &Fields<'_>,
    first: (&str, &dyn Display),
    second: (&str, &dyn Display),
) -> Error {
    let said = [first, second].map(|(place, value)| Said {
        place: place.into(),
        value: value.to_string(),
    });
    Error::Contradiction {
        file: fields.file.into(),
        said: Box::new(said),
    }
}

/// What one or several places of the file say, where they say it: all the same.
fn agreed<T: Copy + PartialEq + Display>(
    fields: &Fields<'_>,
    said: &[(&str, Option<T>)],
) -> Result<Option<T>, Error> {
    let mut said = said
        .iter()
        .filter_map(|(place, value)| Some((*place, (*value)?)));
    let Some((first, first_value)) = said.next() else {
        return Ok(None);
    };
    match said.find(|(_, value)| *value != first_value) {
        None => Ok(Some(first_value)),
        Some((second, second_value)) => Err(contradiction(
            fields,
            (first, &first_value),
            (second, &second_value),
        )),
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
    let model_type = fields.str("model_type")?;
    if let Some(architectures) = fields.list("architectures")?
        && let Some(first) = architectures.first()
    {
        let Some(name) = first.as_str() else {
            return Err(fields.wrong("architectures", first, "a list of names"));
        };
        let family = Family::ALL
            .into_iter()
            .find(|family| family.architecture() == name)
            .ok_or_else(|| unsupported(fields, "architectures", name, SUPPORTED))?;
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
            Some(other) if other != family.model_type() => Err(contradiction(
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
        .find(|family| family.model_type() == name)
        .ok_or_else(|| unsupported(fields, "model_type", name, "llama, mistral, qwen2 or qwen3"))
}

fn refuse_what_we_cannot_compute(fields: &Fields<'_>) -> Result<(), Error> {
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

/// `rope_theta` may stand at the top or with the scaling, and the scaling is `rope_scaling` or
/// `rope_parameters`; some files have all of them.
fn rope(fields: &Fields<'_>) -> Result<Rope, Error> {
    const THETA: f64 = 10_000.0;
    refuse_partial(fields)?;
    let older = RopeMap::read(fields, "rope_scaling", "rope_scaling.")?;
    let newer = RopeMap::read(fields, "rope_parameters", "rope_parameters.")?;
    let theta = |map: &Option<RopeMap>| map.as_ref().and_then(|map| map.theta);
    let theta = agreed(
        fields,
        &[
            ("rope_theta", fields.within("rope_theta", ROPE_THETA)?),
            ("rope_scaling.rope_theta", theta(&older)),
            ("rope_parameters.rope_theta", theta(&newer)),
        ],
    )?;
    let scaling = match (older, newer) {
        (Some(older), Some(newer)) => {
            refuse_other_scaling(fields, older.scaling, newer.scaling)?;
            newer.scaling
        }
        (Some(one), None) | (None, Some(one)) => one.scaling,
        (None, None) => RopeScaling::None,
    };
    Ok(Rope {
        theta: theta.unwrap_or(THETA),
        scaling,
    })
}

/// What one of the two objects says.
struct RopeMap {
    theta: Option<f64>,
    scaling: RopeScaling,
}

impl RopeMap {
    /// `None` where it is absent, null or empty, which is the same to the reference.
    fn read(fields: &Fields<'_>, field: &str, prefix: &str) -> Result<Option<Self>, Error> {
        let Some(map) = fields.object(field)?.filter(|map| !map.is_empty()) else {
            return Ok(None);
        };
        let inner = Fields {
            file: fields.file,
            prefix,
            map,
        };
        refuse_partial(&inner)?;
        Ok(Some(Self {
            theta: inner.within("rope_theta", ROPE_THETA)?,
            scaling: scaling(fields, &inner)?,
        }))
    }
}

fn refuse_other_scaling(
    fields: &Fields<'_>,
    older: RopeScaling,
    newer: RopeScaling,
) -> Result<(), Error> {
    let (older, newer) = (parts(older), parts(newer));
    // The kinds come first: where they are the same, so are the names of all others.
    let differs = older.iter().zip(&newer).find(|(a, b)| a != b);
    match differs {
        None => Ok(()),
        Some(((name, older), (_, newer))) => Err(contradiction(
            fields,
            (&format!("rope_scaling.{name}"), older),
            (&format!("rope_parameters.{name}"), newer),
        )),
    }
}

/// A scaling as the file spells it.
fn parts(scaling: RopeScaling) -> Vec<(&'static str, String)> {
    match scaling {
        RopeScaling::None => vec![("rope_type", "default".into())],
        RopeScaling::Linear { factor } => vec![
            ("rope_type", "linear".into()),
            ("factor", factor.to_string()),
        ],
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => vec![
            ("rope_type", "llama3".into()),
            ("factor", factor.to_string()),
            ("low_freq_factor", low_freq_factor.to_string()),
            ("high_freq_factor", high_freq_factor.to_string()),
            (ORIGINAL, original_max_positions.to_string()),
        ],
    }
}

const ORIGINAL: &str = "original_max_position_embeddings";

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

/// `top`: the whole file. `fields`: the object in it that is about rotation.
fn scaling(top: &Fields<'_>, fields: &Fields<'_>) -> Result<RopeScaling, Error> {
    // A map of maps gives every kind of layer its own rotation: none of our families do.
    if let Some((kind, _)) = fields.map.iter().find(|(_, value)| value.is_object()) {
        return Err(unsupported(
            fields,
            kind,
            "of its own",
            "one for all layers",
        ));
    }
    let named = |field: &str| format!("{}{field}", fields.prefix);
    let required = |name: &str, range| {
        fields
            .within(name, range)?
            .ok_or_else(|| fields.missing(name))
    };
    let kind = agreed(
        top,
        &[
            (&named("rope_type"), fields.str("rope_type")?),
            (&named("type"), fields.str("type")?),
        ],
    )?;
    match kind {
        // What to do with it is not said.
        None if fields.get("factor").is_some() => Err(fields.missing("rope_type")),
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear {
            factor: required("factor", ROPE_FACTOR)?,
        }),
        Some("llama3") => {
            let low = required("low_freq_factor", FREQ_FACTOR)?;
            let high = required("high_freq_factor", FREQ_FACTOR)?;
            if high <= low {
                let expected = format!("more than low_freq_factor ({low})");
                return Err(fields.wrong("high_freq_factor", high, &expected));
            }
            let original = agreed(
                top,
                &[
                    (ORIGINAL, top.count(ORIGINAL, limits::POSITIONS)?),
                    (&named(ORIGINAL), fields.count(ORIGINAL, limits::POSITIONS)?),
                ],
            )?;
            Ok(RopeScaling::Llama3 {
                factor: required("factor", ROPE_FACTOR)?,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_positions: original.ok_or_else(|| fields.missing(ORIGINAL))?,
            })
        }
        Some(other) => Err(unsupported(
            fields,
            match fields.get("rope_type") {
                Some(_) => "rope_type",
                None => "type",
            },
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
    let types = layer_types(fields, layers)?;
    let slides = |kind: LayerType| kind == LayerType::Sliding;
    match family {
        Family::Llama => match types.into_iter().flatten().find(|kind| slides(*kind)) {
            Some(_) => Err(unsupported(
                fields,
                "layer_types",
                "sliding_attention in a Llama",
                "full_attention",
            )),
            None => Ok(vec![None; layers]),
        },
        // All of its layers have the window: a list can only say so again.
        Family::Mistral => {
            let other = |kind: &LayerType| slides(*kind) != window.is_some();
            if let Some(types) = types
                && let Some(at) = types.iter().position(other)
            {
                let window = match window {
                    Some(window) => window.to_string(),
                    None => "null".into(),
                };
                return Err(contradiction(
                    fields,
                    (FIELD, &window),
                    (&format!("layer_types[{at}]"), &types[at].name()),
                ));
            }
            Ok(vec![window; layers])
        }
        Family::Qwen2 | Family::Qwen3 => {
            const SWITCH: &str = "use_sliding_window";
            let on = fields.bool(SWITCH)?.unwrap_or(false);
            // Whoever writes the list writes the number it was made of, too: the list counts.
            if let Some(types) = types {
                return match types.iter().position(|kind| slides(*kind)) {
                    Some(at) if !on => Err(contradiction(
                        fields,
                        (SWITCH, &false),
                        (&format!("layer_types[{at}]"), &types[at].name()),
                    )),
                    Some(_) if window.is_none() => Err(fields.missing(FIELD)),
                    _ => {
                        let of = |kind| window.filter(|_| slides(kind));
                        Ok(types.into_iter().map(of).collect())
                    }
                };
            }
            if !on {
                return Ok(vec![None; layers]);
            }
            let first = fields.index("max_window_layers", usize::MAX)?.unwrap_or(28);
            Ok((0..layers)
                .map(|layer| window.filter(|_| layer >= first))
                .collect())
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LayerType {
    Full,
    Sliding,
}

impl LayerType {
    const ALL: [Self; 2] = [Self::Full, Self::Sliding];

    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full_attention",
            Self::Sliding => "sliding_attention",
        }
    }
}

/// The list of the layers' kinds, where there is one.
fn layer_types(fields: &Fields<'_>, layers: usize) -> Result<Option<Vec<LayerType>>, Error> {
    const FIELD: &str = "layer_types";
    let Some(list) = fields.list(FIELD)? else {
        return Ok(None);
    };
    if list.len() != layers {
        let found = format!("a list of {}", list.len());
        let expected = format!("one entry for each of {layers} layers (`num_hidden_layers`)");
        return Err(fields.wrong(FIELD, found, &expected));
    }
    let kind = |value: &Value| {
        let known = |kind: &LayerType| value.as_str() == Some(kind.name());
        let found = LayerType::ALL.into_iter().find(known);
        found.ok_or_else(|| fields.wrong(FIELD, value, "full_attention or sliding_attention"))
    };
    list.iter().map(kind).collect::<Result<_, _>>().map(Some)
}
