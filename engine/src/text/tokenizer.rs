//! A checked door to the `tokenizers` crate: its panics and its errors on damaged files
//! become `TextError`s, and what a file says about truncation and padding (made for
//! training batches) is ignored. It must not know models or templates.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use loader::GgufTokenizer;
use serde_json::{Map, Value};
use tokenizers::ModelWrapper;

use super::detokenize::Detokenizer;
use super::error::TextError;
use super::guard;
use super::special::{AddedToken, SpecialTokens};

mod check;
mod gguf;
mod qwen2;

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

    /// The same of a Qwen2 tokenizer's older files.
    pub fn of_qwen2(
        vocabulary: &[u8],
        merges: &[u8],
        config: Option<&Map<String, Value>>,
        special: &SpecialTokens,
    ) -> Result<Self, TextError> {
        let json = qwen2::json(vocabulary, merges, config);
        let json = json.map_err(|reason| TextError::TokenizerConfig {
            file: "vocab.json",
            reason,
        })?;
        Self::new(&json, special)
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
mod tests;
