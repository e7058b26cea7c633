//! A checked door to the `tokenizers` crate: its panics and its errors on damaged files
//! become `TextError`s, and what a file says about truncation and padding (made for
//! training batches) is ignored. It must not know models or templates.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use loader::GgufTokenizer;
use tokenizers::ModelWrapper;

use super::detokenize::Detokenizer;
use super::error::TextError;
use super::guard;
use super::special::{AddedToken, SpecialTokens};

mod check;
mod gguf;

/// Cheap to clone: the vocabulary is shared.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    vocab_size: usize,
    /// The most bytes of text that one token stands for, unless something is dropped on the way.
    longest_bytes: usize,
    /// How many times smaller a text may become on its way to tokens.
    shrinks: u64,
}

impl Tokenizer {
    /// Reads a `tokenizer.json` that has no other file beside it.
    pub fn from_json(json: &[u8]) -> Result<Self, TextError> {
        Self::new(json, &SpecialTokens::default())
    }

    /// Reads a `tokenizer.json`, and adds the special tokens that other files name. Added tokens
    /// that are not in the model's vocabulary are numbered after it, whatever id the files give
    /// them, as transformers does it too.
    pub fn new(json: &[u8], special: &SpecialTokens) -> Result<Self, TextError> {
        let refuse = |reason: String| TextError::TokenizerJson {
            json_bytes: json.len(),
            reason,
        };
        let shrink = check::check(json).map_err(refuse)?;
        guarded(|| {
            let mut inner = tokenizers::Tokenizer::from_bytes(json)?;
            inner.with_truncation(None)?.with_padding(None);
            add(&mut inner, special)?;
            let added = inner.get_added_tokens_decoder();
            let bytes = |token: &String| match shrink.byte_level {
                // Each of its letters is a byte.
                true => token.chars().count(),
                false => token.len(),
            };
            let vocabulary = inner.get_vocab(false);
            let longest = vocabulary.keys().map(bytes).max().into_iter();
            let longest = longest.chain(added.values().map(|token| token.content.len()));
            let swallows = added.values().any(|token| token.lstrip || token.rstrip);
            let largest = vocabulary.values().chain(added.keys()).max();
            Ok(Self {
                vocab_size: largest.map_or(0, |&id| (id as usize).saturating_add(1)),
                // A letter that is not in the vocabulary has up to four.
                longest_bytes: longest.max().unwrap_or(0).max(4),
                shrinks: match swallows {
                    true => shrink.factor.max(check::DROPS),
                    false => shrink.factor,
                },
                inner: Arc::new(inner),
            })
        })
        .map_err(refuse)
    }

    /// The same of the vocabulary in a GGUF file.
    pub fn of_gguf(vocabulary: &GgufTokenizer, special: &SpecialTokens) -> Result<Self, TextError> {
        let refuse = |reason: String| TextError::GgufTokenizer {
            file: vocabulary.file.clone(),
            reason,
        };
        let json = gguf::json(vocabulary).map_err(refuse)?;
        Self::new(&json, special).map_err(|error| match error {
            TextError::TokenizerJson { reason, .. } => refuse(reason),
            other => other,
        })
    }

    /// No text that is longer than this has so few tokens. Where a tokenizer drops text (spaces
    /// between words, what it does not know), up to fifteen parts of sixteen are taken for dropped.
    pub fn text_bytes_max(&self, tokens: usize) -> u64 {
        let bytes = (tokens as u64).saturating_mul(self.longest_bytes as u64);
        bytes.saturating_mul(self.shrinks)
    }

    /// The most bytes of text that one token stands for.
    pub fn longest_bytes(&self) -> usize {
        self.longest_bytes
    }

    /// `add_special`: let the tokenizer add its own begin and end tokens. Not after a chat
    /// template, which writes them itself; tokens spelled out in `text` count either way.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        guarded(|| {
            Ok(self
                .inner
                .encode_fast(text, add_special)?
                .get_ids()
                .to_vec())
        })
        .map_err(|reason| TextError::Encode {
            text_bytes: text.len(),
            reason,
        })
    }

    /// All of it at once, special tokens left out. To print while generating, use a
    /// [`Detokenizer`].
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        // One of the crate's decoders cannot bear to be given nothing.
        if !ids.iter().any(|&id| self.printable(id).is_some()) {
            return Ok(String::new());
        }
        guarded(|| self.inner.decode(ids, true)).map_err(|reason| TextError::Decode {
            tokens: ids.len(),
            reason,
        })
    }

    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(self)
    }

    /// The largest id + 1, added tokens included. Models often have a wider output than this.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// How a word becomes tokens.
    pub fn kind(&self) -> &'static str {
        match self.inner.get_model() {
            ModelWrapper::BPE(_) => "BPE",
            ModelWrapper::WordPiece(_) => "WordPiece",
            ModelWrapper::WordLevel(_) => "WordLevel",
            ModelWrapper::Unigram(_) => "Unigram",
        }
    }

    /// The token as the vocabulary spells it, which is not how it prints.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    pub fn is_special(&self, id: u32) -> bool {
        self.token(id)
            .is_some_and(|token| self.inner.get_added_vocabulary().is_special_token(&token))
    }

    /// The token, unless it is special or unknown: those are never printed.
    pub(super) fn printable(&self, id: u32) -> Option<String> {
        let special = self.inner.get_added_vocabulary();
        self.token(id)
            .filter(|token| !special.is_special_token(token))
    }

    pub(super) fn decoder(&self) -> Option<&tokenizers::DecoderWrapper> {
        self.inner.get_decoder()
    }
}

/// Adds what transformers adds: tokens that are described otherwise than in `tokenizer.json`, and
/// special ones that are not among its added tokens.
fn add(inner: &mut tokenizers::Tokenizer, special: &SpecialTokens) -> tokenizers::Result<()> {
    let known: HashSet<_> = inner.get_added_tokens_decoder().into_values().collect();
    let described = special.described.iter().map(added_token);
    let mut new: Vec<_> = described.filter(|token| !known.contains(token)).collect();
    let named = special.named.iter().map(|(_, token)| token);
    let names: HashSet<_> = named.clone().map(|token| token.content.as_str()).collect();
    let mut there: HashSet<_> = known
        .iter()
        .chain(&new)
        .map(|token| token.content.clone())
        .collect();
    for token in named.chain(&special.extra) {
        if there.insert(token.content.clone()) {
            new.push(added_token(token));
        }
    }
    // Where the configuration describes no tokens, a name makes an ordinary one special.
    if special.described.is_empty() {
        let ordinary = known.iter().filter(|token| !token.special);
        new.extend(
            ordinary
                .filter(|token| names.contains(token.content.as_str()))
                .cloned(),
        );
    }
    for token in &mut new {
        token.special |= names.contains(token.content.as_str());
    }
    inner.add_tokens(new).map(drop)
}

fn added_token(token: &AddedToken) -> tokenizers::AddedToken {
    tokenizers::AddedToken::from(token.content.as_str(), token.special)
        .single_word(token.single_word)
        .lstrip(token.lstrip)
        .rstrip(token.rstrip)
        .normalized(token.normalized)
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .finish_non_exhaustive()
    }
}

/// Nothing is observed half-done after a panic: a tokenizer is only read once it is built.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    guard::guarded(work)?.map_err(|error| in_words(&error.to_string()))
}

/// What a parser says of the kinds that it tried, none of which this was.
fn in_words(error: &str) -> String {
    let Some((_, rest)) = error.split_once("untagged enum ") else {
        return error.to_owned();
    };
    let part = [
        ("Model", "model"),
        ("Normalizer", "normalizer"),
        ("PreTokenizer", "pre_tokenizer"),
        ("PostProcessor", "post_processor"),
        ("Decoder", "decoder"),
    ];
    let part = part.iter().find(|(kind, _)| rest.starts_with(kind));
    let part = part.map_or("a part of it".to_owned(), |(_, name)| {
        format!("its `{name}`")
    });
    let at = rest.find(" at line").map_or("", |at| &rest[at..]);
    format!("{part} is of an unknown kind, or incomplete{at}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_of_an_unknown_kind_is_named() {
        let told = |json: &[u8]| Tokenizer::from_json(json).unwrap_err().to_string();
        let error = told(br#"{"version": "1.0", "model": {"type": "X"}}"#);
        assert!(
            error.contains("its `model` is of an unknown kind"),
            "{error}"
        );
        let error = told(br#"{"normalizer": {"type": "X"}, "model": {"type": "BPE"}}"#);
        assert!(error.contains("its `normalizer` is of"), "{error}");
        assert!(!error.contains("untagged"), "{error}");
    }

    fn words() -> serde_json::Value {
        json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": null,
            "added_tokens": [
                {"id": 4, "content": "<|end|>", "single_word": false, "lstrip": false,
                 "rstrip": false, "normalized": false, "special": true}
            ],
            "normalizer": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|end|>", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [4], "tokens": ["<|end|>"]}}
            },
            "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "c": 2, "?": 3}, "unk_token": "?"}
        })
    }

    fn load(json: &serde_json::Value) -> Result<Tokenizer, TextError> {
        Tokenizer::from_json(json.to_string().as_bytes())
    }

    #[test]
    fn encodes_whole_texts_with_and_without_special_tokens() {
        let tokenizer = load(&words()).unwrap();
        assert_eq!(tokenizer.encode("a b c", false).unwrap(), [0, 1, 2]);
        assert_eq!(tokenizer.encode("a b c", true).unwrap(), [0, 1, 2, 4]);
        assert_eq!(tokenizer.encode("a <|end|> b", false).unwrap(), [0, 4, 1]);
        assert_eq!(tokenizer.decode(&[0, 4, 1]).unwrap(), "a b");
        assert_eq!(tokenizer.decode(&[4, 99]).unwrap(), "");
        assert_eq!(tokenizer.encode("", false).unwrap(), Vec::<u32>::new());
    }

    /// Every byte as a letter, as byte-level vocabularies spell them.
    fn byte_letters() -> Vec<char> {
        let printable = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let mut others = 256..;
        let letter = |byte: u32| match printable(&byte) {
            true => byte,
            false => others.next().unwrap_or_default(),
        };
        let letters = (0..256).map(letter);
        letters.filter_map(char::from_u32).collect()
    }

    #[test]
    fn no_text_has_fewer_tokens_than_its_length_allows() {
        let bytes: serde_json::Map<_, _> = byte_letters()
            .into_iter()
            .enumerate()
            .map(|(id, letter)| (letter.to_string(), json!(id)))
            .chain([
                ("ab".to_owned(), json!(256)),
                ("abab".to_owned(), json!(257)),
            ])
            .collect();
        let byte_level = json!({"type": "BPE", "vocab": bytes, "merges": ["a b", "ab ab"]});
        let fallback: serde_json::Map<_, _> = (0..256)
            .map(|byte| (format!("<0x{byte:02X}>"), json!(byte)))
            .chain([
                ("▁".to_owned(), json!(256)),
                ("▁a".to_owned(), json!(257)),
                ("a".to_owned(), json!(258)),
            ])
            .collect();
        let fallback = json!({"type": "BPE", "vocab": fallback, "merges": ["▁ a"], "byte_fallback": true,
            "unk_token": "<0x00>", "fuse_unk": true});
        let whole = json!({"type": "WordLevel", "vocab": {"ab": 0, "?": 1}, "unk_token": "?"});
        let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let kinds = [
            (json!(null), level.clone(), byte_level.clone()),
            (json!({"type": "NFC"}), level.clone(), byte_level.clone()),
            (json!({"type": "NFKC"}), level.clone(), byte_level.clone()),
            (json!({"type": "Lowercase"}), level, byte_level),
            (spaces, json!(null), fallback),
            (json!(null), json!({"type": "WhitespaceSplit"}), whole),
        ];
        for (normalizer, pre_tokenizer, model) in kinds {
            let mut json = words();
            let words_only = model["type"] == "WordLevel";
            json["post_processor"] = json!(null);
            json["normalizer"] = normalizer;
            json["pre_tokenizer"] = pre_tokenizer;
            json["model"] = model;
            let tokenizer = load(&json).unwrap();
            for text in [
                "abababab",
                "ａｂ𝐚𝐛",
                "가나",
                "ΐΰ",
                "KKÅ",
                "e\u{301}e\u{301}",
                "a               b",
                "\0\0\0",
                "🙂é",
                "<|end|><|end|>",
                "xyzzy",
            ] {
                // A word that is not known is one token, however long it is.
                if words_only && !text.contains(' ') {
                    continue;
                }
                let text = text.repeat(40);
                let count = tokenizer.encode(&text, false).unwrap().len();
                let most = tokenizer.text_bytes_max(count);
                assert!(
                    text.len() as u64 <= most,
                    "{text:?}: {count} tokens, {most} bytes, {json}"
                );
            }
        }
    }

    #[test]
    fn the_vocabulary_ends_after_its_largest_id() {
        let mut gap = words();
        gap["model"]["vocab"]["c"] = json!(70);
        assert_eq!(load(&gap).unwrap().vocab_size(), 71);
        let tokenizer = load(&words()).unwrap();
        assert_eq!(tokenizer.vocab_size(), 5);
        assert_eq!(tokenizer.token(4).as_deref(), Some("<|end|>"));
        assert_eq!(tokenizer.token(5), None);
        assert_eq!(tokenizer.id("b"), Some(1));
        assert!(tokenizer.is_special(4) && !tokenizer.is_special(1));
    }

    #[test]
    fn a_damaged_file_is_an_error_wherever_it_is_cut() {
        let whole = words().to_string();
        for end in 0..whole.len() {
            let error = Tokenizer::from_json(&whole.as_bytes()[..end]).unwrap_err();
            assert!(matches!(error, TextError::TokenizerJson { .. }));
        }
    }

    #[test]
    fn a_hostile_file_never_panics() {
        let hostile = [
            json!(null),
            json!([]),
            json!({"nested": 1}),
            json!({"type": "Strip", "content": " ", "start": 0, "stop": 9}),
            json!({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false}),
            json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
            json!({"type": "BPE", "vocab": {"a": 0}, "merges": ["a b", "x"]}),
            json!({"type": "BPE", "vocab": {"a": 4_294_967_295_u32}, "merges": [], "byte_fallback": true}),
            json!({"type": "Unigram", "vocab": [], "unk_id": 7}),
            json!({"type": "WordPiece", "vocab": {}, "unk_token": "x", "continuing_subword_prefix": "é", "max_input_chars_per_word": 0}),
            json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Strip", "content": "a", "start": 1, "stop": 3}]}),
            json!([{"id": 4_294_967_295_u32, "content": "", "single_word": true, "lstrip": true,
                    "rstrip": true, "normalized": true, "special": true}]),
        ];
        for key in [
            "added_tokens",
            "normalizer",
            "pre_tokenizer",
            "post_processor",
            "decoder",
            "model",
        ] {
            for value in &hostile {
                let mut json = words();
                json[key] = value.clone();
                if let Ok(tokenizer) = load(&json) {
                    let text = format!("a <|end|> {} é🙂 ", "a".repeat(200));
                    let _ = tokenizer.encode(&text, true);
                    let _ = tokenizer.decode(&[0, 4, 1, 77]);
                    let mut stream = tokenizer.detokenizer();
                    for id in [0, 4, 1, 77, u32::MAX] {
                        let _ = stream.push(id);
                    }
                    let _ = stream.finish();
                }
            }
        }
    }
}
