//! `config.json` of a VibeVoice checkpoint, whichever of its forms it has: the original's; that of
//! transformers, which describes the head in an object; and that of the first conversions, which
//! describe it at the top level. Each part is read by the names that stand in it, so that the forms
//! may be mixed. What one file says in two places must agree. Knows no tensor.

use super::codec::{self, CodecConfig, Side};
use super::head::{self, HeadConfig};
use super::{kind, voices};
use crate::checkpoint::CONFIG;
use crate::config::{agreed, contradiction, dtype, parse_part, refuse_quantised, unsupported};
use crate::folder::Folder;
use crate::json::{Fields, parse_object};
use crate::{Error, Family, ModelConfig};

/// What the files say about all but the language model, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct VibeVoiceConfig {
    pub acoustic: CodecConfig,
    pub semantic: CodecConfig,
    pub head: HeadConfig,
    /// Samples a second.
    pub sample_rate: usize,
    /// How loud voices are made: decibels below full scale, as a negative number.
    pub target_dbfs: f64,
    /// Added to a voice's loudness and to its peak before something is divided by them.
    pub voice_eps: f64,
    /// Of the norm in both connectors.
    pub connector_eps: f64,
    /// Where the tokenizer came from, as a name that a hub knows.
    pub tokenizer_name: Option<String>,
}

impl VibeVoiceConfig {
    /// Reads a `config.json` of any form, which describes a language model too. What stands in
    /// other files is as published.
    pub fn parse(json: &[u8]) -> Result<(Self, ModelConfig), Error> {
        parse(CONFIG, json)
    }
}

/// No file says it.
const CONNECTOR_EPS: f64 = 1e-6;

/// An object by one of its names, which come with what stands before its fields in messages.
const LANGUAGE: [(&str, &str); 2] = [
    ("decoder_config", "decoder_config."),
    ("text_config", "text_config."),
];
const ACOUSTIC: [(&str, &str); 2] = [
    ("acoustic_tokenizer_config", "acoustic_tokenizer_config."),
    ("audio_config", "audio_config."),
];
const SEMANTIC: [(&str, &str); 2] = [
    ("semantic_tokenizer_config", "semantic_tokenizer_config."),
    ("semantic_model_config", "semantic_model_config."),
];

/// What the files of a folder say, and the language model that they describe.
pub(super) fn read(folder: &Folder, json: &[u8]) -> Result<(VibeVoiceConfig, ModelConfig), Error> {
    let (config, language) = parse(&folder.display(CONFIG), json)?;
    let config = voices::read(folder, config)?;
    Ok((config, language))
}

fn parse(file: &str, json: &[u8]) -> Result<(VibeVoiceConfig, ModelConfig), Error> {
    let map = parse_object(file, json)?;
    let root = Fields {
        file,
        prefix: "",
        map: &map,
    };
    kind::check(&root)?;
    refuse_quantised(&root)?;
    let language = language(&root)?;
    let acoustic_fields = object(&root, &ACOUSTIC)?;
    let acoustic = codec::read(&acoustic_fields, Side::Acoustic)?;
    let semantic_fields = object(&root, &SEMANTIC)?;
    let semantic = codec::read(&semantic_fields, Side::Semantic)?;
    let head = head::read(&root, language.hidden_size, acoustic.latent)?;
    check_latents(&root, &acoustic_fields, acoustic.latent, ACOUSTIC_LATENT)?;
    check_latents(&root, &semantic_fields, semantic.latent, SEMANTIC_LATENT)?;
    if acoustic.hop() != semantic.hop() {
        // Each frame that is spoken is heard again as one.
        return Err(contradiction(
            &root,
            (
                &format!(
                    "{}{}",
                    acoustic_fields.prefix,
                    codec::ratios(&acoustic_fields)
                ),
                &format!("of {} samples a frame", acoustic.hop()),
            ),
            (
                &format!(
                    "{}{}",
                    semantic_fields.prefix,
                    codec::ratios(&semantic_fields)
                ),
                &format!("of {}", semantic.hop()),
            ),
        ));
    }
    let config = VibeVoiceConfig {
        acoustic,
        semantic,
        head,
        sample_rate: voices::SAMPLE_RATE,
        target_dbfs: voices::TARGET_DBFS,
        voice_eps: voices::EPS,
        connector_eps: CONNECTOR_EPS,
        tokenizer_name: None,
    };
    Ok((config, language))
}

fn language(root: &Fields<'_>) -> Result<ModelConfig, Error> {
    let fields = object(root, &LANGUAGE)?;
    let family = Family::QWEN2;
    if let Some(other) = fields.str("model_type")?
        && other != family.model_type
    {
        return Err(unsupported(&fields, "model_type", other, family.model_type));
    }
    const TIED: &str = "tie_word_embeddings";
    let inner = format!("{}{TIED}", fields.prefix);
    let tied = agreed(
        root,
        &[(&inner, fields.bool(TIED)?), (TIED, root.bool(TIED)?)],
    )?;
    let config = parse_part(family, &fields)?;
    Ok(ModelConfig {
        tied_embeddings: tied.unwrap_or(false),
        // Later files say it once for the whole.
        dtype: config.dtype.or(dtype(root)?),
        ..config
    })
}

/// The object that is there under one of these names.
fn object<'a>(
    root: &Fields<'a>,
    names: &[(&'static str, &'static str)],
) -> Result<Fields<'a>, Error> {
    let mut found: Option<(&str, Fields<'a>)> = None;
    for &(name, prefix) in names {
        let Some(map) = root.object(name)? else {
            continue;
        };
        if let Some((first, _)) = found {
            let both = (&"an object", &"another");
            return Err(contradiction(root, (first, both.0), (name, both.1)));
        }
        let fields = Fields {
            file: root.file,
            prefix,
            map,
        };
        found = Some((name, fields));
    }
    match found {
        Some((_, fields)) => Ok(fields),
        None => Err(root.missing(names.first().map_or("", |(name, _)| name))),
    }
}

/// What the top level calls a codec's latent size. One of the names was misspelt by the original.
const ACOUSTIC_LATENT: &[&str] = &["acoustic_vae_dim", "acostic_vae_dim"];
const SEMANTIC_LATENT: &[&str] = &["semantic_vae_dim"];

fn check_latents(
    root: &Fields<'_>,
    codec: &Fields<'_>,
    latent: usize,
    names: &[&str],
) -> Result<(), Error> {
    let inner = format!("{}{}", codec.prefix, codec::latent(codec));
    for &name in names {
        let said = root.count(name, codec::LATENT_MAX)?;
        agreed(root, &[(&inner, Some(latent)), (name, said)])?;
    }
    Ok(())
}
