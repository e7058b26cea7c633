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
