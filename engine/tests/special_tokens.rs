//! A tokenizer knows the special tokens that transformers knows, whichever file beside
//! `tokenizer.json` names them. `fixtures/special/make.py` wrote what is expected.

use engine::text::{SpecialTokens, Tokenizer};
use serde_json::Value;

const CASES: &str = include_str!("fixtures/special/cases.json");

#[test]
fn special_tokens_are_those_of_transformers() {
    let all: Value = serde_json::from_str(CASES).unwrap();
    let json = all["tokenizer"].to_string();
    let text = all["text"].as_str().unwrap();
    let cases = all["cases"].as_object().unwrap();
    assert!(cases.len() > 10);
    for (name, case) in cases {
        let config = case["config"].to_string();
        let map = (!case["map"].is_null()).then(|| case["map"].to_string());
        let map = map.as_ref().map(String::as_bytes);
        let special = SpecialTokens::read(Some(config.as_bytes()), map).unwrap();
        let names = special.names().into_iter();
        let names: Value = names
            .map(|(name, text)| (name, Value::from(text)))
            .collect();
        assert_eq!(names, case["names"], "{name}");
        let tokenizer = Tokenizer::new(json.as_bytes(), &special).unwrap();
        let ids = tokenizer.encode(text, false).unwrap();
        assert_eq!(Value::from(ids.clone()), case["ids"], "{name}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), case["decoded"], "{name}");
        // And as it comes, token by token.
        let mut stream = tokenizer.detokenizer();
        let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
        streamed += &stream.finish();
        assert_eq!(streamed, case["decoded"].as_str().unwrap(), "{name}");
    }
}
