//! A GGUF file's vocabulary as a `tokenizer.json`, so that it goes through the same door, and the
//! same checks, as every other. Such a file names the way to cut a text into words, and llama.cpp
//! knows what the names mean; here they are patterns. A name that is not known is refused: another
//! pattern would give other tokens, silently.

mod words;

use std::collections::HashMap;

use loader::{GgufTokenizer, TokenType};
use serde_json::{Map, Value, json};

pub(super) use words::QWEN_2;
use words::{DEFAULT, PRE};

/// A vocabulary of pairs is made from its tokens, each cut at every letter: longer ones than this
/// are no part of a word.
const PIECE_BYTES_MAX: usize = 512;

/// What a space is in a vocabulary of this kind.
const SPACE: &str = "\u{2581}";

/// The content of a `tokenizer.json`, or why there can be none.
pub(super) fn json(vocabulary: &GgufTokenizer) -> Result<Vec<u8>, String> {
    let tokens = texts(vocabulary)?;
    let parts = match vocabulary.model.as_str() {
        "gpt2" => byte_pairs(vocabulary, &tokens)?,
        "llama" => sentence_pieces(vocabulary, &tokens)?,
        other => {
            return Err(format!(
                "`tokenizer.ggml.model` is {other}, and gpt2 and llama are known"
            ));
        }
    };
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(vocabulary, &tokens),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": ends(vocabulary, &tokens, parts.begins, parts.byte_level),
        "decoder": parts.decoder,
        "model": parts.model,
    });
    serde_json::to_vec(&file).map_err(|error| error.to_string())
}

struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
    begins: bool,
    byte_level: bool,
}

fn texts(vocabulary: &GgufTokenizer) -> Result<Vec<&str>, String> {
    let text = |(id, text)| {
        std::str::from_utf8(text).map_err(|error| format!("token {id} is no text: {error}"))
    };
    vocabulary.tokens.iter().enumerate().map(text).collect()
}

fn kind(vocabulary: &GgufTokenizer, id: usize) -> TokenType {
    let kind = vocabulary.types.get(id).copied();
    kind.unwrap_or(TokenType::Normal)
}

/// The tokens by their texts. Those that are there to fill rows are left out: no text has them, and
/// they print as nothing.
fn vocab(vocabulary: &GgufTokenizer, tokens: &[&str]) -> Map<String, Value> {
    let used = tokens.iter().enumerate();
    used.filter(|(id, _)| kind(vocabulary, *id) != TokenType::Unused)
        .map(|(id, text)| ((*text).to_owned(), json!(id)))
        .collect()
}

/// Phi-3's special tokens but for these take the spaces and line ends that follow. Its files do not say
/// so: llama.cpp, too, knows them by the model's name.
const PHI_3: [&str; 2] = ["phi-3", "phi3"];
const TAKE_NOTHING: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// Tokens that are found in a text before it is cut into words.
fn added(vocabulary: &GgufTokenizer, tokens: &[&str]) -> Value {
    let name = vocabulary.name.as_deref().unwrap_or("").to_lowercase();
    let takes_spaces = PHI_3.iter().any(|part| name.contains(part));
    let found = tokens.iter().enumerate().filter_map(|(id, text)| {
        let special = match kind(vocabulary, id) {
            TokenType::Control | TokenType::Unknown => true,
            TokenType::UserDefined => false,
            TokenType::Normal | TokenType::Unused | TokenType::Byte => return None,
        };
        (!text.is_empty()).then(|| {
            json!({
                "id": id,
                "content": text,
                "single_word": false,
                "lstrip": false,
                "rstrip": takes_spaces && !TAKE_NOTHING.contains(text),
                "normalized": false,
                "special": special,
            })
        })
    });
    found.collect()
}

/// Bytes as letters, and merges of pairs in their order.
fn byte_pairs(vocabulary: &GgufTokenizer, tokens: &[&str]) -> Result<Parts, String> {
    let words = match vocabulary.pre.as_deref() {
        None | Some("default") => &DEFAULT,
        Some(pre) => {
            let found = PRE.iter().find(|(names, _)| names.contains(&pre));
            let (_, words) = found.ok_or_else(|| {
                let known = PRE.iter().flat_map(|(names, _)| *names);
                let known: Vec<&str> = known.copied().collect();
                format!(
                    "`tokenizer.ggml.pre` is {pre}, and default, {} are known",
                    known.join(", ")
                )
            })?;
            words
        }
    };
    let merges = vocabulary.merges.iter().enumerate().map(|(index, merge)| {
        let merge = std::str::from_utf8(merge).ok();
        // A letter that is a space itself stands first, if anywhere.
        let pair = merge.and_then(|merge| {
            let first = merge.chars().next()?.len_utf8();
            let at = first + merge[first..].find(' ')?;
            Some([&merge[..at], &merge[at + 1..]])
        });
        pair.ok_or_else(|| format!("merge {index} is no pair of texts"))
    });
    let merges = merges.collect::<Result<Vec<_>, _>>()?;
    if merges.is_empty() {
        return Err("`tokenizer.ggml.merges` is missing".into());
    }
    let split = |pattern: &&str| {
        json!({
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": false,
        })
    };
    let digits = words
        .digits
        .then(|| json!({"type": "Digits", "individual_digits": true}));
    let bytes = json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": false,
        "use_regex": false,
    });
    let steps: Vec<Value> = digits
        .into_iter()
        .chain(words.patterns.iter().map(split))
        .chain([bytes.clone()])
        .collect();
    Ok(Parts {
        normalizer: Value::Null,
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": steps}),
        decoder: bytes,
        model: json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": words.whole,
            "vocab": vocab(vocabulary, tokens),
            "merges": merges,
        }),
        begins: words.begins,
        byte_level: true,
    })
}

/// Pieces with scores: of all neighbours that are a piece together, those with the highest score
/// are merged first. What is no piece becomes its bytes.
fn sentence_pieces(vocabulary: &GgufTokenizer, tokens: &[&str]) -> Result<Parts, String> {
    if vocabulary.remove_extra_whitespaces == Some(true) {
        return Err("`tokenizer.ggml.remove_extra_whitespaces` is true, and false is known".into());
    }
    if vocabulary.scores.len() != tokens.len() {
        return Err("`tokenizer.ggml.scores` is missing".into());
    }
    let prefix = vocabulary.add_space_prefix.unwrap_or(true);
    let replace = |old: &str, new: &str| json!({"type": "Replace", "pattern": {"String": old}, "content": new});
    let prepend = prefix.then(|| json!({"type": "Prepend", "prepend": SPACE}));
    let normalizers: Vec<Value> = prepend.into_iter().chain([replace(" ", SPACE)]).collect();
    let mut decoders = vec![
        replace(SPACE, " "),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unknown = tokens.get(vocabulary.unknown.unwrap_or(0) as usize);
    Ok(Parts {
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocab(vocabulary, tokens),
            "merges": pairs(vocabulary, tokens)?,
        }),
        begins: true,
        byte_level: false,
    })
}

/// Every way to make a piece of two others, those of high scores first.
fn pairs<'a>(vocabulary: &GgufTokenizer, tokens: &[&'a str]) -> Result<Vec<[&'a str; 2]>, String> {
    let pieces: HashMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| {
            let kind = kind(vocabulary, *id);
            matches!(kind, TokenType::Normal | TokenType::UserDefined)
        })
        .map(|(id, text)| (*text, id))
        .collect();
    let mut found = Vec::new();
    for (&text, &id) in &pieces {
        if text.len() > PIECE_BYTES_MAX {
            return Err(format!(
                "token {id} has {} bytes, at most {PIECE_BYTES_MAX} are taken",
                text.len()
            ));
        }
        let score = vocabulary.scores[id];
        if score.is_nan() {
            return Err(format!("the score of token {id} is NaN"));
        }
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if pieces.contains_key(left) && pieces.contains_key(right) {
                found.push((score, id, [left, right]));
            }
        }
    }
    // Where scores are equal the order is that of the ids, so that it is one.
    found.sort_by(|a, b| {
        let by_score = b.0.total_cmp(&a.0);
        by_score
            .then(a.1.cmp(&b.1))
            .then(a.2[0].len().cmp(&b.2[0].len()))
    });
    Ok(found.into_iter().map(|(_, _, pair)| pair).collect())
}

/// The tokens that a text begins and ends with.
fn ends(vocabulary: &GgufTokenizer, tokens: &[&str], begins: bool, byte_level: bool) -> Value {
    let default = |id: Option<u32>, else_id: u32| match byte_level {
        true => id,
        false => Some(id.unwrap_or(else_id)),
    };
    let given = |id: Option<u32>| {
        let id = id? as usize;
        Some((id, *tokens.get(id)?))
    };
    let begin = vocabulary.add_bos.unwrap_or(begins);
    let begin = given(default(vocabulary.bos, 1)).filter(|_| begin);
    let end = vocabulary.add_eos.unwrap_or(false);
    let end = given(default(vocabulary.eos, 2)).filter(|_| end);
    if begin.is_none() && end.is_none() {
        return Value::Null;
    }
    let special = |text: &str| json!({"SpecialToken": {"id": text, "type_id": 0}});
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let around = |inner: Vec<Value>| {
        let begin = begin.map(|(_, text)| special(text));
        let end = end.map(|(_, text)| special(text));
        begin
            .into_iter()
            .chain(inner)
            .chain(end)
            .collect::<Vec<_>>()
    };
    let named: Map<String, Value> = [begin, end]
        .into_iter()
        .flatten()
        .map(|(id, text)| {
            let token = json!({"id": text, "ids": [id], "tokens": [text]});
            (text.to_owned(), token)
        })
        .collect();
    json!({
        "type": "TemplateProcessing",
        "single": around(vec![text("A")]),
        "pair": around(vec![text("A"), text("B")]),
        "special_tokens": named,
    })
}
