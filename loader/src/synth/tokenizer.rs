//! A tokenizer of single bytes, for random checkpoints that need one: a text has as many tokens as bytes.

use serde_json::{Map, Value, json};

/// Knows these words and these special tokens, by their ids, and of everything else single bytes.
pub(super) fn of_bytes(words: &[&str], special: &[(&str, u32)]) -> Value {
    let mut vocab: Map<String, Value> = Map::new();
    for (id, letter) in letters().into_iter().enumerate() {
        vocab.insert(letter.into(), id.into());
    }
    let mut merges = Vec::new();
    for word in words {
        for end in 1..word.len() {
            let (start, letter, whole) = (&word[..end], &word[end..=end], &word[..=end]);
            merges.push(json!([start, letter]));
            let id = vocab.len();
            vocab.insert(whole.into(), id.into());
        }
    }
    // The ids of special tokens are those of the model, which may leave gaps.
    let owned = |(content, id): &(&str, u32)| ((*content).to_owned(), Value::from(*id));
    vocab.extend(special.iter().map(owned));
    let added = special.iter().map(|(content, id)| {
        json!({
            "id": id,
            "content": content,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": true,
        })
    });
    let added: Vec<Value> = added.collect();
    let split = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
    let byte_level = json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": false,
        "use_regex": false,
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": split},
                    "behavior": "Isolated",
                    "invert": false,
                },
                byte_level,
            ],
        },
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges,
        },
    })
}

/// The letter that stands for each byte, in the order of the bytes: itself where it can be seen, and
/// one from 256 on where it cannot.
fn letters() -> Vec<char> {
    let mut unseen = 256..;
    let letter = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => Some(char::from(byte)),
        _ => unseen.next().and_then(char::from_u32),
    };
    (0..=u8::MAX).filter_map(letter).collect()
}
