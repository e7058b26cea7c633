use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::text::Tokenizer;
use crate::text::random::Random;

mod hostile;
mod masks;

/// Every byte as a letter, as byte-level vocabularies spell them.
pub fn letter(byte: u32) -> char {
    let others = (0..byte).filter(|it| !matches!(it, 33..=126 | 161..=172 | 174..=255));
    let code = match byte {
        33..=126 | 161..=172 | 174..=255 => byte,
        _ => 256 + others.count() as u32,
    };
    char::from_u32(code).unwrap()
}

const WORDS: [&str; 12] = [
    "{\"", "\":", "\",", "Ġ\"", "\"}", "Ġ{", "ab", "ĊĊ", "12", "true", "}}", "Ġ(",
];

fn added(id: usize, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special})
}

fn tokenizer(vocabulary: Vec<String>, decoder: &Value, fallback: bool) -> Tokenizer {
    let count = vocabulary.len();
    let ids: serde_json::Map<_, _> = vocabulary.into_iter().zip((0..).map(Value::from)).collect();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
        "added_tokens": [added(count, "<|eos|>", true), added(count + 1, "<|mark|>", true),
            added(count + 2, "<call>", false)],
        "model": {"type": "BPE", "vocab": ids, "merges": [], "byte_fallback": fallback},
    });
    Tokenizer::from_json(json.to_string().as_bytes()).unwrap()
}

/// Like GPT-2's, with an end of texts, another special token and an added word at its end.
pub fn byte_level() -> Tokenizer {
    let letters = (0..256).map(|byte| letter(byte).to_string());
    let words = WORDS.iter().map(|&word| word.to_owned());
    let decoder = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": true});
    tokenizer(letters.chain(words).collect(), &decoder, false)
}

/// Like Llama 2's, whose first word loses its space.
fn sentence_piece() -> Tokenizer {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let words = ["▁", "▁{", "{", "}", "▁a", "a", "\"", "▁\"", ":", "1", "é"].map(str::to_owned);
    let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    let decoder = json!({"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"},
        {"type": "Fuse"}, strip]});
    tokenizer(bytes.chain(words).collect(), &decoder, true)
}

fn end_of(tokenizer: &Tokenizer) -> u32 {
    tokenizer.id("<|eos|>").unwrap()
}

/// With more logits than the tokenizer knows tokens.
pub fn vocabulary(tokenizer: &Tokenizer) -> Vocabulary {
    let logits = tokenizer.vocab_size() + 5;
    Vocabulary::new(tokenizer, &[end_of(tokenizer)], logits).unwrap()
}

fn allowed(matcher: &mut Matcher, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut logits = vec![0.0; tokenizer.vocab_size() + 5];
    matcher.mask(&mut logits, true).unwrap();
    let tokens = (0..).zip(logits).filter(|(_, logit)| *logit == 0.0);
    tokens.map(|(token, _)| token).collect()
}

/// What a model without an opinion writes; `None`: it was not done after so many tokens.
pub fn written(grammar: &Grammar, tokenizer: &Tokenizer, seed: u64, most: usize) -> Option<String> {
    let mut matcher = grammar.matcher();
    let mut random = Random::new(seed);
    let mut printer = tokenizer.detokenizer().showing(&["<|mark|>"]);
    let mut text = String::new();
    for _ in 0..most {
        let tokens = allowed(&mut matcher, tokenizer);
        let token = tokens[(random.uniform() * tokens.len() as f64) as usize];
        if token == end_of(tokenizer) {
            assert!(matcher.may_end());
            return Some(text + &printer.finish());
        }
        text.push_str(&printer.push(token));
        if matcher.take(token).unwrap() {
            return Some(text + &printer.finish());
        }
    }
    None
}

fn schema(schema: Value) -> Rule {
    Rule::Schema(schema)
}

fn person() -> Value {
    json!({"type": "object", "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "kind": {"enum": ["a", "bé", null]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "maxItems": 3}},
        "required": ["name", "age", "kind", "tags"], "additionalProperties": false,
        "$defs": {"tag": {"type": "boolean"}}})
}

fn refused(rule: &Rule) -> String {
    let error = Grammar::new(&vocabulary(&byte_level()), rule).unwrap_err();
    assert!(error.hint().is_some());
    error.to_string()
}
