//! Tokens to text as they come: each push returns what can be printed now, never half a
//! character, and all pieces together are what decoding everything at once gives. The work
//! per token does not grow with the text. It must not know stop strings or printing.
//!
//! Byte-level vocabularies (GPT-2's alphabet) spell bytes, so a token's bytes stand alone
//! and only UTF-8 has to be pieced together. Every other decoder may look at neighbours
//! (a leading space that only the first word loses): there a few tokens of context are
//! decoded with and without the new one, and the difference is the new text.
//!
//! One difference from decoding at once is wanted: with byte fallback, the crate replaces a
//! whole run of bytes when any byte of it is bad; here good characters before it were
//! printed already, and only the bad bytes are replaced.

use tokenizers::DecoderWrapper;

use super::tokenizer::Tokenizer;

#[cfg(test)]
mod tests;

const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Tokens that may wait for the rest of a character: it has at most four bytes.
const WAITING_TOKENS_MAX: usize = 3;

/// Context may have to grow while it decodes to nothing (stripped spaces), up to this.
const CONTEXT_TOKENS_MAX: usize = 8;

/// The printing state of one sequence.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    state: State,
    /// Special tokens that are printed all the same.
    shown: Vec<u32>,
}

#[derive(Debug, Clone)]
enum State {
    ByteLevel(Utf8Pieces),
    Window(Window),
}

impl Detokenizer {
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let state = match tokenizer.decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => State::ByteLevel(Utf8Pieces::default()),
            decoder => State::Window(Window {
                byte_fallback: decoder.is_some_and(has_byte_fallback),
                ..Window::default()
            }),
        };
        Self {
            tokenizer: tokenizer.clone(),
            state,
            shown: Vec::new(),
        }
    }

    /// Prints these special tokens too, as the vocabulary spells them: the marks of a format that is
    /// read from the text. Other tokens print as they do anyway.
    pub fn showing<T: AsRef<str>>(mut self, tokens: &[T]) -> Self {
        let ids = (tokens.iter()).filter_map(|token| self.tokenizer.id(token.as_ref()));
        self.shown = ids.filter(|&id| self.tokenizer.is_special(id)).collect();
        self
    }

    /// What can be printed now that this token is known. Unknown tokens print nothing, and special
    /// ones only where they are to be shown.
    pub fn push(&mut self, id: u32) -> String {
        if self.shown.contains(&id) {
            // It stands between texts, and is no neighbour of either.
            let mut printed = self.finish();
            printed.extend(self.tokenizer.token(id));
            return printed;
        }
        let Some(token) = self.tokenizer.printable(id) else {
            return String::new();
        };
        match &mut self.state {
            State::ByteLevel(pieces) => pieces.push(&byte_level_bytes(&token), Bad::OnePerSequence),
            State::Window(window) => match fallback_byte(&token) {
                Some(byte) if window.byte_fallback => window.push_byte(&self.tokenizer, id, byte),
                _ => window.push_word(&self.tokenizer, id),
            },
        }
    }

    /// What was waiting for more, once no more tokens will come.
    pub fn finish(&mut self) -> String {
        match &mut self.state {
            State::ByteLevel(pieces) => pieces.finish(Bad::OnePerSequence),
            State::Window(window) => window.finish(&self.tokenizer),
        }
    }
}

impl Tokenizer {
    /// The bytes of text that the token stands for in the middle of a text. Special tokens are spelled
    /// out; an id that the tokenizer does not know stands for nothing.
    pub fn bytes(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.token(id) else {
            return Vec::new();
        };
        if self.is_special(id) {
            return token.into_bytes();
        }
        let byte = fallback_byte(&token);
        match (self.decoder(), byte) {
            (Some(DecoderWrapper::ByteLevel(_)), _) => byte_level_bytes(&token),
            (decoder, Some(byte)) if decoder.is_some_and(has_byte_fallback) => vec![byte],
            // What stands for a space between words, there.
            (Some(_), _) => token.replace('\u{2581}', " ").into_bytes(),
            (None, _) => token.into_bytes(),
        }
    }

    /// Whether texts are their tokens' bytes, one after the other, but for a space at their begin.
    pub(super) fn spells_bytes(&self) -> bool {
        match self.decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => true,
            Some(DecoderWrapper::Metaspace(_)) => true,
            decoder => decoder.is_some_and(has_byte_fallback),
        }
    }

    /// Whether the token is one that stands for a byte where there is no other.
    pub(super) fn is_single_byte(&self, id: u32) -> bool {
        let fallback = self.decoder().is_some_and(has_byte_fallback);
        fallback
            && self
                .token(id)
                .is_some_and(|token| fallback_byte(&token).is_some())
    }
}

fn has_byte_fallback(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteFallback(_) => true,
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(has_byte_fallback),
        _ => false,
    }
}

/// `<0xE2>` as a byte.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// A token's bytes in GPT-2's alphabet; a token with any other character stands for itself.
fn byte_level_bytes(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of_letter).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The printable bytes of Latin-1 stand for themselves, the other 68 for U+0100 and up.
fn byte_of_letter(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// How many replacement characters bad bytes get: two conventions that must be followed.
#[derive(Debug, Clone, Copy)]
enum Bad {
    OnePerSequence,
    OnePerByte,
}

/// Bytes in, whole characters out; at most three bytes wait.
#[derive(Debug, Clone, Default)]
struct Utf8Pieces {
    waiting: Vec<u8>,
}

impl Utf8Pieces {
    fn push(&mut self, bytes: &[u8], bad: Bad) -> String {
        self.waiting.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.waiting.as_slice();
        for chunk in self.waiting.utf8_chunks() {
            text.push_str(chunk.valid());
            rest = &rest[chunk.valid().len()..];
            let cut_short = chunk.invalid().len() == rest.len()
                && std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
            if cut_short {
                break;
            }
            rest = &rest[chunk.invalid().len()..];
            push_bad(&mut text, chunk.invalid().len(), bad);
        }
        let done = self.waiting.len() - rest.len();
        self.waiting.drain(..done);
        text
    }

    fn finish(&mut self, bad: Bad) -> String {
        let mut text = String::new();
        push_bad(&mut text, self.waiting.len(), bad);
        self.waiting.clear();
        text
    }
}

fn push_bad(text: &mut String, bytes: usize, bad: Bad) {
    let count = match bad {
        Bad::OnePerSequence => bytes.min(1),
        Bad::OnePerByte => bytes,
    };
    text.extend(std::iter::repeat_n(REPLACEMENT, count));
}

#[derive(Debug, Clone, Default)]
struct Window {
    byte_fallback: bool,
    /// Tokens already printed, as many as the next one's text can depend on.
    context: Vec<u32>,
    context_text: String,
    /// Tokens of a character that is not complete.
    waiting: Vec<u32>,
    /// Byte tokens of a character that is not complete.
    byte_ids: Vec<u32>,
    bytes: Utf8Pieces,
}

impl Window {
    fn push_word(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let mut printed = self.end_bytes(tokenizer);
        self.waiting.push(id);
        let text = self.waiting_text(tokenizer);
        if text.ends_with(REPLACEMENT) && self.waiting.len() <= WAITING_TOKENS_MAX {
            return printed;
        }
        printed.push_str(&text);
        let ids = std::mem::take(&mut self.waiting);
        self.slide(tokenizer, ids);
        printed
    }

    fn push_byte(&mut self, tokenizer: &Tokenizer, id: u32, byte: u8) -> String {
        let mut printed = self.flush_words(tokenizer);
        self.byte_ids.push(id);
        let text = self.bytes.push(&[byte], Bad::OnePerByte);
        if text.is_empty() {
            return printed;
        }
        let waiting = self.byte_ids.len() - self.bytes.waiting.len();
        let ids: Vec<u32> = self.byte_ids.drain(..waiting).collect();
        if self.context_text.is_empty() && !text.contains(REPLACEMENT) {
            // Nothing was printed: the decoder may strip this, as it would a first word.
            self.waiting = ids;
            printed.push_str(&self.waiting_text(tokenizer));
            let ids = std::mem::take(&mut self.waiting);
            self.slide(tokenizer, ids);
        } else {
            printed.push_str(&text);
            self.slide(tokenizer, ids);
        }
        printed
    }

    fn finish(&mut self, tokenizer: &Tokenizer) -> String {
        let mut printed = self.flush_words(tokenizer);
        printed.push_str(&self.end_bytes(tokenizer));
        printed
    }

    fn flush_words(&mut self, tokenizer: &Tokenizer) -> String {
        if self.waiting.is_empty() {
            return String::new();
        }
        let text = self.waiting_text(tokenizer);
        let ids = std::mem::take(&mut self.waiting);
        self.slide(tokenizer, ids);
        text
    }

    /// A word came: the bytes before it will never be a character.
    fn end_bytes(&mut self, tokenizer: &Tokenizer) -> String {
        let text = self.bytes.finish(Bad::OnePerByte);
        if !self.byte_ids.is_empty() {
            let ids = std::mem::take(&mut self.byte_ids);
            self.slide(tokenizer, ids);
        }
        text
    }

    /// What the waiting tokens add to the text before them.
    fn waiting_text(&self, tokenizer: &Tokenizer) -> String {
        let ids = [self.context.as_slice(), self.waiting.as_slice()].concat();
        let mut text = decode(tokenizer, &ids);
        let shared: usize = std::iter::zip(text.chars(), self.context_text.chars())
            .take_while(|(a, b)| a == b)
            .map(|(a, _)| a.len_utf8())
            .sum();
        text.split_off(shared)
    }

    /// These tokens were printed: they are the new context, with the old one as long as they
    /// alone decode to nothing (their neighbour's text could still depend on what was before).
    fn slide(&mut self, tokenizer: &Tokenizer, ids: Vec<u32>) {
        self.context_text = decode(tokenizer, &ids);
        if self.context_text.is_empty() {
            self.context.extend(ids);
            let extra = self.context.len().saturating_sub(CONTEXT_TOKENS_MAX);
            self.context.drain(..extra);
            self.context_text = decode(tokenizer, &self.context);
        } else {
            self.context = ids;
        }
    }
}

/// Text must go on: a decoder that fails on these tokens costs one replacement character.
fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    tokenizer
        .decode(ids)
        .unwrap_or_else(|_| REPLACEMENT.to_string())
}
