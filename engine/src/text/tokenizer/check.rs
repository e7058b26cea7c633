//! What a `tokenizer.json` must not contain before the `tokenizers` crate sees it. It panics on
//! some broken strings, and it trusts the file with two things that this engine does not: how many
//! times larger a pipeline of replacements makes a text, and how long the pieces are that a model
//! glues to every letter.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A text may become this many times larger on its way to tokens, and a token on its way to text.
/// Published tokenizers stay under 6,000, nearly all of them under 100.
const GROWTH_MAX: u64 = 8192;

/// Bytes of what a model puts before or after a piece of a word.
const AFFIX_BYTES_MAX: usize = 1024;

/// Work within a word grows with the square of this; published ones have 100.
const WORD_CHARS_MAX: u64 = 10_000;

#[derive(Deserialize)]
struct Parts {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    model: Option<Model>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<Value>,
    byte_fallback: Option<Value>,
    fuse_unk: Option<Value>,
    unk_token: Option<Value>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    max_input_chars_per_word: Option<u64>,
}

/// How much shorter a text may become on its way to tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shrink {
    pub factor: u64,
    /// Whether each letter of a token stands for one byte.
    pub byte_level: bool,
}

/// Where text is dropped, this many times more of it is taken than could fit otherwise.
pub(super) const DROPS: u64 = 16;

/// All steps together: a text of hundreds of bytes a token is none.
const SHRINK_MAX: u64 = 64;

pub(super) fn check(json: &[u8]) -> Result<Shrink, String> {
    serde_json::from_slice::<Valid>(json).map_err(|error| error.to_string())?;
    // A list would be taken for the parts in their order.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err("it is no JSON object".into());
    }
    let parts: Parts = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let encoding = [
        &parts.normalizer,
        &parts.pre_tokenizer,
        &parts.post_processor,
    ];
    grow_little("a text on its way to tokens", &encoding)?;
    grow_little("a token on its way to text", &[&parts.decoder])?;
    let shrink = shrink_of(&parts);
    let Some(model) = parts.model else {
        return Ok(shrink);
    };
    for (field, affix) in [
        ("continuing_subword_prefix", model.continuing_subword_prefix),
        ("end_of_word_suffix", model.end_of_word_suffix),
    ] {
        let bytes = affix.map_or(0, |affix| affix.len());
        if bytes > AFFIX_BYTES_MAX {
            return Err(format!(
                "its {field} has {bytes} bytes, at most {AFFIX_BYTES_MAX} are taken"
            ));
        }
    }
    match model.max_input_chars_per_word {
        Some(chars) if chars > WORD_CHARS_MAX => Err(format!(
            "its max_input_chars_per_word is {chars}, at most {WORD_CHARS_MAX} is taken"
        )),
        _ => Ok(shrink),
    }
}

fn shrink_of(parts: &Parts) -> Shrink {
    let before = [&parts.normalizer, &parts.pre_tokenizer].map(Option::as_ref);
    let steps = || before.iter().flatten();
    let byte_level = steps().any(|step| has(step, "ByteLevel"));
    let model = match &parts.model {
        None => DROPS,
        Some(_) if byte_level => 1,
        Some(model) => {
            let is = |field: &Option<Value>| field.as_ref().and_then(Value::as_bool) == Some(true);
            let unknown = model.unk_token.as_ref().is_some_and(Value::is_string);
            match model.kind.as_ref().and_then(Value::as_str) {
                Some("BPE" | "Unigram") if is(&model.byte_fallback) => 1,
                // Each unknown letter is a token.
                Some("BPE") if unknown && !is(&model.fuse_unk) => 1,
                _ => DROPS,
            }
        }
    };
    let factor = steps().fold(model, |all, step| all.saturating_mul(shrink(step)));
    Shrink {
        factor: factor.min(SHRINK_MAX),
        byte_level,
    }
}

fn has(step: &Value, kind: &str) -> bool {
    step["type"].as_str() == Some(kind) || inner(step).any(|step| has(step, kind))
}

/// How many times smaller a step, or a sequence of steps, can make a text.
fn shrink(step: &Value) -> u64 {
    let removes = step["behavior"].as_str() == Some("Removed");
    let own = match step["type"].as_str() {
        // Letters of four bytes become letters of one; three letters become one.
        Some("NFC" | "NFD" | "NFKC" | "NFKD") => 4,
        Some("Lowercase") => 3,
        Some("Replace") => match (step["pattern"]["String"].as_str(), step["content"].as_str()) {
            (Some(old), Some(new)) if !new.is_empty() => old.len().div_ceil(new.len()) as u64,
            _ => DROPS,
        },
        Some("Split" | "Punctuation") if removes => DROPS,
        Some(
            "Sequence" | "Prepend" | "ByteLevel" | "Metaspace" | "Digits" | "Split" | "Punctuation"
            | "UnicodeScripts" | "FixedLength",
        ) => 1,
        _ => DROPS,
    };
    inner(step).fold(own.max(1), |all, step| all.saturating_mul(shrink(step)))
}

/// The steps of a sequence.
fn inner(step: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["normalizers", "pretokenizers", "processors", "decoders"];
    let lists = lists.into_iter().filter_map(|list| step[list].as_array());
    lists.flatten()
}

fn grow_little(what: &str, pipelines: &[&Option<Value>]) -> Result<(), String> {
    let growth = pipelines
        .iter()
        .filter_map(|part| part.as_ref())
        .fold(1, |all: u64, part| all.saturating_mul(growth(part)));
    match growth <= GROWTH_MAX {
        true => Ok(()),
        false => Err(format!(
            "it could make {what} {growth} times larger, at most {GROWTH_MAX} times is taken"
        )),
    }
}

/// How many times larger a step, or a sequence of steps, can make a text of one letter.
fn growth(step: &Value) -> u64 {
    let length = |field: &str| step[field].as_str().map_or(0, |text| text.len() as u64);
    let own = match step["type"].as_str() {
        Some("Replace") => 1 + length("content"),
        Some("Prepend") => 1 + length("prepend"),
        Some("TemplateProcessing") => 1 + template(step),
        // The widest letters of these normal forms: U+FDFA, U+0390 and the like.
        Some("NFKC" | "NFKD") => 11,
        Some("NFC" | "NFD" | "Metaspace" | "BertNormalizer") => 4,
        Some("Precompiled") => 16,
        Some("BertProcessing" | "RobertaProcessing") => 3,
        Some(
            "Sequence" | "Strip" | "StripAccents" | "Split" | "Whitespace" | "WhitespaceSplit"
            | "Punctuation" | "Digits" | "UnicodeScripts" | "FixedLength" | "CharDelimiterSplit"
            | "BertPreTokenizer" | "Fuse" | "ByteFallback",
        ) => 1,
        _ => 2,
    };
    inner(step).fold(own, |all, step| all.saturating_mul(growth(step)))
}

/// Tokens that a template makes of one.
fn template(step: &Value) -> u64 {
    let tokens = |piece: &Value| {
        let id = piece["SpecialToken"]["id"].as_str();
        let ids = id.and_then(|id| step["special_tokens"][id]["ids"].as_array());
        ids.map_or(1, |ids| ids.len() as u64)
    };
    let pieces = step["single"].as_array();
    pieces.map_or(0, |pieces| pieces.iter().map(tokens).sum())
}

/// Any JSON, every string of which can be decoded. (Skipping a value, as `IgnoredAny` does, does
/// not look into its strings.)
struct Valid;

impl<'de> Deserialize<'de> for Valid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Valid {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(json: &Value) -> String {
        check(json.to_string().as_bytes()).unwrap_err()
    }

    #[test]
    fn what_published_tokenizers_do_is_fine() {
        let fine = json!({
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                {"type": "NFC"}, {"type": "Lowercase"}, {"type": "Precompiled"},
            ]},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true},
            "model": {"type": "BPE", "continuing_subword_prefix": "##"},
        });
        assert!(check(fine.to_string().as_bytes()).is_ok());
        assert!(check(b"{}").is_ok());
        assert_eq!(check(b" [1]").unwrap_err(), "it is no JSON object");
    }

    #[test]
    fn a_pipeline_that_multiplies_is_refused() {
        let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        let many = json!({"normalizer": {"type": "Sequence", "normalizers": vec![double; 40]}});
        assert!(
            reason(&many).contains("a text on its way to tokens"),
            "{}",
            reason(&many)
        );
        let bytes = json!({"type": "ByteLevel", "trim_offsets": true});
        let nested = json!({"type": "Sequence", "pretokenizers": vec![bytes; 7]});
        let nested = json!({"type": "Sequence", "pretokenizers": [nested, nested]});
        assert!(reason(&json!({"pre_tokenizer": nested})).contains("times larger"));
        let twice =
            json!({"type": "TemplateProcessing", "single": [{"Sequence": {}}, {"Sequence": {}}]});
        let post = json!({"type": "Sequence", "processors": vec![twice; 40]});
        assert!(reason(&json!({"post_processor": post})).contains("times larger"));
        let long = json!({"type": "Replace", "content": "a".repeat(9000)});
        assert!(reason(&json!({"decoder": long})).contains("a token on its way to text"));
    }

    #[test]
    fn numbers_that_buy_time_are_refused() {
        let model = |field: &str, value: Value| json!({"model": {field: value}});
        let long = "x".repeat(2000);
        for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
            assert!(reason(&model(field, json!(long))).contains(field));
        }
        let field = "max_input_chars_per_word";
        assert!(reason(&model(field, json!(1_u64 << 40))).contains(field));
    }

    #[test]
    fn what_may_be_dropped_makes_room_for_more() {
        let of = |json: Value| {
            let shrink = check(json.to_string().as_bytes()).unwrap();
            (shrink.factor, shrink.byte_level)
        };
        let bpe = json!({"type": "BPE"});
        let bytes = json!({"type": "ByteLevel"});
        let fallback =
            json!({"type": "BPE", "byte_fallback": true, "fuse_unk": true, "unk_token": "?"});
        let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let step = |normalizer: &Value, pre: &Value, model: &Value| {
            of(json!({"normalizer": normalizer, "pre_tokenizer": pre, "model": model}))
        };
        assert_eq!(step(&Value::Null, &bytes, &bpe), (1, true));
        assert_eq!(step(&json!({"type": "NFC"}), &bytes, &bpe), (4, true));
        assert_eq!(step(&spaces, &Value::Null, &fallback), (1, false));
        assert_eq!(step(&spaces, &Value::Null, &bpe), (DROPS, false));
        assert_eq!(
            step(&Value::Null, &json!({"type": "WhitespaceSplit"}), &fallback),
            (DROPS, false)
        );
        let pattern = json!({"type": "Replace", "pattern": {"Regex": " +"}, "content": " "});
        assert_eq!(step(&pattern, &Value::Null, &fallback), (DROPS, false));
        let both = json!({"type": "Sequence", "normalizers": [pattern, pattern, pattern]});
        assert_eq!(step(&both, &Value::Null, &bpe), (SHRINK_MAX, false));
        let three = json!({"type": "Replace", "pattern": {"String": "aaa"}, "content": "b"});
        assert_eq!(step(&three, &Value::Null, &fallback), (3, false));
        let words = json!({"type": "WordPiece", "unk_token": "?", "byte_fallback": true});
        assert_eq!(step(&Value::Null, &Value::Null, &words), (DROPS, false));
    }

    #[test]
    fn strings_that_cannot_be_decoded_are_found_wherever_they_are() {
        for json in [
            &b"{\"decoder\": {\"type\": \"Byte\xff\"}}"[..],
            br#"{"model": {"vocab": {"\ud800": 1}}}"#,
            br#"{"other": ["\udfff\ud800"]}"#,
        ] {
            assert!(check(json).is_err());
        }
    }
}
