//! The older files of a Qwen2 tokenizer, vocab.json and merges.txt, as a `tokenizer.json`, so that they
//! go through the same door, and the same checks, as every other.

use serde_json::{Map, Value, json};

use super::gguf::QWEN_2;

/// The content of a `tokenizer.json`, or why there can be none. `config`: tokenizer_config.json.
pub(super) fn json(
    vocabulary: &[u8],
    merges: &[u8],
    config: Option<&Map<String, Value>>,
) -> Result<Vec<u8>, String> {
    let vocabulary: Map<String, Value> =
        serde_json::from_slice(vocabulary).map_err(|error| format!("vocab.json: {error}"))?;
    let merges =
        std::str::from_utf8(merges).map_err(|error| format!("merges.txt is no text: {error}"))?;
    let merges: Vec<&str> = (merges.lines())
        .filter(|line| !line.starts_with("#version") && !line.trim().is_empty())
        .collect();
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(config)?,
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": { "Regex": QWEN_2 },
                    "behavior": "Isolated",
                    "invert": false,
                },
                {
                    "type": "ByteLevel",
                    "add_prefix_space": false,
                    "trim_offsets": false,
                    "use_regex": false,
                },
            ],
        },
        "post_processor": null,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": false,
            "trim_offsets": false,
            "use_regex": false,
        },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    });
    serde_json::to_vec(&file).map_err(|error| error.to_string())
}

/// Tokens that are found in a text before it is cut into words, by their ids.
fn added(config: Option<&Map<String, Value>>) -> Result<Value, String> {
    const FIELD: &str = "added_tokens_decoder";
    let Some(listed) = config.and_then(|config| config.get(FIELD)) else {
        return Ok(json!([]));
    };
    let wrong = || format!("{FIELD} of tokenizer_config.json is no list of tokens by their ids");
    let mut all = Vec::new();
    for (id, token) in listed.as_object().ok_or_else(wrong)? {
        let id: u32 = id.parse().map_err(|_| wrong())?;
        let mut token = token.as_object().ok_or_else(wrong)?.clone();
        token.insert("id".into(), id.into());
        all.push((id, Value::Object(token)));
    }
    all.sort_by_key(|(id, _)| *id);
    Ok(all.into_iter().map(|(_, token)| token).collect())
}
