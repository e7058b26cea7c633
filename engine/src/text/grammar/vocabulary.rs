//! A tokenizer's tokens as a tree of their bytes, which masks are made over. Made once for a model,
//! which takes a moment and some memory, and shared by all grammars.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{ParserFactory, TokenParser};
use toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::super::error::TextError;
use super::super::guard;
use super::super::tokenizer::Tokenizer;
use super::error::in_words;
use super::limits;

/// A longer token is left out: no tokenizer has one that says anything.
const TOKEN_BYTES_MAX: usize = 1 << 12;

/// Parts of the vocabulary that a mask may take whole: the insides of strings, and blanks.
const PARTS: [&str; 3] = [
    r"[\x20\x0A\x0D\x09]+",
    r#"[^"\\\x00-\x1F\x7F]{1,10}"#,
    r#"[^"\\\x00-\x1F\x7F]+"#,
];

/// The bytes of every token. Cheap to clone.
#[derive(Clone)]
pub struct Vocabulary(Arc<Inner>);

struct Inner {
    factory: ParserFactory,
    tokenizer: Tokenizer,
    logits: usize,
    ends: Vec<u32>,
    /// Tokens that begin with a space, which the first one of a text loses, and the token of the
    /// rest: in the order of their ids. Empty where none is lost.
    first: Vec<(u32, u32)>,
}

impl Vocabulary {
    /// `ends`: the tokens that end a text; `logits`: how many the model gives, which may be more
    /// tokens than the tokenizer knows, or fewer.
    pub fn new(tokenizer: &Tokenizer, ends: &[u32], logits: usize) -> Result<Self, TextError> {
        if !tokenizer.spells_bytes() {
            return Err(TextError::GrammarTokenizer {
                kind: tokenizer.kind(),
            });
        }
        let failed = |reason: String| TextError::Grammar {
            kind: "vocabulary",
            reason,
        };
        let ends: Vec<u32> = ends
            .iter()
            .copied()
            .filter(|&id| (id as usize) < logits)
            .collect();
        let words = words(tokenizer, &ends, logits);
        let first = first_words(tokenizer, &words);
        let factory = guard::guarded(|| {
            let info = TokRxInfo::new(logits as u32, ends.first().copied().unwrap_or(u32::MAX));
            let trie = TokTrie::from(&info, &words);
            let trie = match ends.is_empty() {
                true => trie,
                false => trie.with_eos_tokens(&ends),
            };
            let tokens: TokEnv = Arc::new(Tokens(trie));
            let capabilities = InferenceCapabilities::default();
            ParserFactory::new(&tokens, capabilities, &PARTS.map(str::to_owned))
        });
        let mut factory = factory
            .map_err(failed)?
            .map_err(|error| failed(in_words(&error)))?;
        *factory.limits_mut() = limits();
        factory.quiet();
        Ok(Self(Arc::new(Inner {
            factory,
            tokenizer: tokenizer.clone(),
            logits,
            ends,
            first,
        })))
    }

    /// The id of a mark of a format, where it is a special token.
    pub fn special(&self, mark: &str) -> Option<u32> {
        let id = self.0.tokenizer.id(mark)?;
        let is_known = (id as usize) < self.0.logits;
        (is_known && (self.0.tokenizer.is_special(id) || self.is_end(id))).then_some(id)
    }

    pub(super) fn parser(&self, grammar: TopLevelGrammar) -> Result<TokenParser, String> {
        let parser = self.0.factory.create_parser(grammar);
        parser.map_err(|error| in_words(&error))
    }

    pub(super) fn logits(&self) -> usize {
        self.0.logits
    }

    pub(super) fn ends(&self) -> &[u32] {
        &self.0.ends
    }

    pub(super) fn is_end(&self, token: u32) -> bool {
        self.0.ends.contains(&token)
    }

    pub(super) fn first(&self) -> &[(u32, u32)] {
        &self.0.first
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary")
            .field("logits", &self.0.logits)
            .finish_non_exhaustive()
    }
}

/// What each token stands for. Empty: it may not come.
fn words(tokenizer: &Tokenizer, ends: &[u32], logits: usize) -> Vec<Vec<u8>> {
    let mut words = vec![Vec::new(); logits];
    let mut seen: HashMap<Vec<u8>, (u32, bool)> = HashMap::new();
    for id in 0..logits as u32 {
        let mut bytes = tokenizer.bytes(id);
        if bytes.is_empty() || bytes.len() > TOKEN_BYTES_MAX {
            continue;
        }
        let is_special = tokenizer.is_special(id) || ends.contains(&id);
        if is_special {
            bytes.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
        } else if bytes[0] == TokTrie::SPECIAL_TOKEN_MARKER {
            // No text has this byte.
            continue;
        }
        let is_byte = tokenizer.is_single_byte(id);
        match seen.get(&bytes) {
            Some(&(other, true)) if !is_byte => words[other as usize].clear(),
            Some(_) => continue,
            None => {}
        }
        seen.insert(bytes.clone(), (id, is_byte));
        words[id as usize] = bytes;
    }
    words
}

/// See [`Inner::first`].
fn first_words(tokenizer: &Tokenizer, words: &[Vec<u8>]) -> Vec<(u32, u32)> {
    let spaced = |word: &[u8]| word.len() > 1 && word[0] == b' ';
    let probe = words
        .iter()
        .position(|word| spaced(word) && word[1].is_ascii_alphabetic());
    let loses = probe.is_some_and(|id| {
        let printed = tokenizer.decode(&[id as u32]);
        printed.is_ok_and(|text| !text.starts_with(' '))
    });
    if !loses {
        return Vec::new();
    }
    let ids: HashMap<&[u8], u32> = (0..)
        .zip(words)
        .filter(|(_, word)| !word.is_empty())
        .map(|(id, word)| (word.as_slice(), id))
        .collect();
    let spaced = (0..)
        .zip(words)
        .filter(|(_, word)| word.first() == Some(&b' '));
    // A space alone has nothing left to be: it stands for itself, and may not come first.
    let rest = |(id, word): (u32, &Vec<u8>)| (id, ids.get(&word[1..]).copied().unwrap_or(id));
    spaced.map(rest).collect()
}

/// Texts are never turned into tokens: a forced text is masked, and the model spells it.
struct Tokens(TokTrie);

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(text)
    }

    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}
