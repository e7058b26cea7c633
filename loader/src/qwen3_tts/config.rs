//! What the files of a Qwen3-TTS checkpoint say of all but the talker's layers: `config.json`,
//! `generation_config.json`, and the `config.json` of its codec. What two of them say must agree.
//! Knows no tensor.

use std::fmt::Display;

use super::codec::CodecDecoderConfig;
use super::kind::{self, must_be};
use super::predictor::{self, PredictorConfig};
use super::sampling::{self, Sampling};
use super::voices::{self, ControlTokens, Language, Speaker};
use crate::checkpoint::CONFIG;
use crate::config::{limits, parse_part, refuse_quantised, unsupported};
use crate::folder::Folder;
use crate::json::{Fields, parse_object};
use crate::{Error, Family, ModelConfig, Said};

/// What the files say about all but the talker's layers, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen3TtsConfig {
    /// Rows of the text embedding, and numbers of each.
    pub text_vocab: usize,
    pub text_hidden: usize,
    /// Ids of the codec track from this one on are never spoken; of them only the end is chosen.
    pub spoken: usize,
    pub predictor: PredictorConfig,
    pub codec: CodecDecoderConfig,
    pub tokens: ControlTokens,
    pub speakers: Vec<Speaker>,
    pub languages: Vec<Language>,
    /// Whether the way to speak can be described; otherwise a description has no effect.
    pub takes_instruct: bool,
    pub sampling: Sampling,
}

impl Qwen3TtsConfig {
    /// Reads a `config.json` and that of the codec. What stands in other files is as the reference
    /// has it where they are absent.
    pub fn parse(json: &[u8], codec_json: &[u8]) -> Result<(Self, ModelConfig), Error> {
        parse((CONFIG, json), ("speech_tokenizer/config.json", codec_json))
    }
}

/// Of the ids of the codec track, the last so many are never spoken.
const SILENT: usize = 1024;

const TALKER: &str = "talker_config";
const SIZE: &str = "tts_model_size";
/// A model whose size is a part of this takes no description.
const WITHOUT_INSTRUCT: &str = "0b6";

/// What the files of a folder and its codec's say, and the talker that they describe.
pub(super) fn read(
    folder: &Folder,
    json: &[u8],
    codec: &Folder,
    codec_json: &[u8],
) -> Result<(Qwen3TtsConfig, ModelConfig), Error> {
    let files = (
        (&*folder.display(CONFIG), json),
        (&*codec.display(CONFIG), codec_json),
    );
    let (config, talker) = parse(files.0, files.1)?;
    let sampling = sampling::read(folder)?;
    Ok((Qwen3TtsConfig { sampling, ..config }, talker))
}

fn parse(
    (file, json): (&str, &[u8]),
    (codec_file, codec_json): (&str, &[u8]),
) -> Result<(Qwen3TtsConfig, ModelConfig), Error> {
    let map = parse_object(file, json)?;
    let root = Fields {
        file,
        prefix: "",
        map: &map,
    };
    kind::check(&root)?;
    refuse_quantised(&root)?;
    let fields = Fields {
        file,
        prefix: "talker_config.",
        map: root.object(TALKER)?.ok_or_else(|| root.missing(TALKER))?,
    };
    let talker = language(&fields, "qwen3_tts_talker")?;
    let count = |name, max| {
        let said = fields.count(name, max)?;
        said.ok_or_else(|| fields.missing(name))
    };
    let text_vocab = count("text_vocab_size", limits::VOCAB)?;
    let text_hidden = count("text_hidden_size", limits::HIDDEN)?;
    let Some(spoken) = talker.vocab_size.checked_sub(SILENT).filter(|n| *n > 0) else {
        let expected = format!("more than {SILENT}, the ids that are never spoken");
        return Err(fields.wrong("vocab_size", talker.vocab_size, &expected));
    };
    let predictor = predictor::read(&fields, talker.hidden_size)?;
    let codec = CodecDecoderConfig::read(codec_file, codec_json)?;
    let tokens = voices::tokens(&root, &fields, text_vocab, talker.vocab_size)?;
    let languages = voices::languages(&fields, talker.vocab_size)?;
    let Some(size) = root.str(SIZE)? else {
        return Err(root.missing(SIZE));
    };
    let config = Qwen3TtsConfig {
        text_vocab,
        text_hidden,
        spoken,
        tokens,
        speakers: voices::speakers(&fields, &languages, talker.vocab_size)?,
        languages,
        takes_instruct: !WITHOUT_INSTRUCT.contains(size),
        sampling: Sampling::REFERENCE,
        predictor,
        codec,
    };
    agree(file, codec_file, &config, talker.vocab_size)?;
    let eos_token_ids = vec![config.tokens.eos];
    let talker = ModelConfig {
        bos_token_id: None,
        eos_token_ids,
        ..talker
    };
    Ok((config, talker))
}

/// A stack of Qwen3 layers, as an object of the file describes it. What the family has a default
/// for and the reference another must be said.
pub(super) fn language(fields: &Fields<'_>, model_type: &str) -> Result<ModelConfig, Error> {
    if fields.get("model_type").is_some() {
        must_be(fields, "model_type", model_type)?;
    }
    for name in ["head_dim", "num_key_value_heads"] {
        if fields.get(name).is_none() {
            return Err(fields.missing(name));
        }
    }
    for name in [
        "use_sliding_window",
        "tie_word_embeddings",
        "attention_bias",
    ] {
        if fields.bool(name)? == Some(true) {
            return Err(unsupported(fields, name, "true", "false"));
        }
    }
    parse_part(Family::QWEN3, fields)
}

/// What the talker and the codec must have in common.
fn agree(
    file: &str,
    codec_file: &str,
    config: &Qwen3TtsConfig,
    talker_vocab: usize,
) -> Result<(), Error> {
    let (predictor, codec) = (&config.predictor, &config.codec);
    let differ = |talker: (&str, &dyn Display), codec: (&str, &dyn Display)| {
        let said = |(place, value): (&str, &dyn Display), file| Said {
            place: format!("{place} in {file}"),
            value: value.to_string(),
        };
        Error::Contradiction {
            file: file.into(),
            said: Box::new([said(talker, file), said(codec, codec_file)]),
        }
    };
    let codebook_size = (
        "decoder_config.codebook_size",
        &codec.codebook_size as &dyn Display,
    );
    if predictor.groups != codec.quantizers {
        return Err(differ(
            ("talker_config.num_code_groups", &predictor.groups),
            ("decoder_config.num_quantizers", &codec.quantizers),
        ));
    }
    if predictor.codes() != codec.codebook_size {
        return Err(differ(
            (
                "talker_config.code_predictor_config.vocab_size",
                &predictor.codes(),
            ),
            codebook_size,
        ));
    }
    if config.spoken > codec.codebook_size {
        let said = format!("{talker_vocab}, of which {} are spoken", config.spoken);
        return Err(differ(("talker_config.vocab_size", &said), codebook_size));
    }
    Ok(())
}
