use super::*;

#[test]
fn a_schema_holds_over_any_tokenizer() {
    for tokenizer in [byte_level(), sentence_piece()] {
        let grammar = Grammar::new(&vocabulary(&tokenizer), &schema(person())).unwrap();
        for seed in 0..20 {
            let text = written(&grammar, &tokenizer, seed, 400).unwrap();
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
            let keys: Vec<_> = value.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["name", "age", "kind", "tags"]);
            let name = value["name"].as_str().unwrap().chars().count();
            assert!((1..=6).contains(&name), "{text}");
            assert!(value["age"].as_u64().unwrap() <= 130);
            assert!(
                ["a", "bé"].map(Value::from).contains(&value["kind"]) || value["kind"].is_null()
            );
            let tags = value["tags"].as_array().unwrap();
            assert!((1..=3).contains(&tags.len()) && tags.iter().all(Value::is_boolean));
        }
    }
}

#[test]
fn special_tokens_come_where_they_are_named_and_ends_where_it_may_end() {
    let tokenizer = byte_level();
    let (end, mark) = (end_of(&tokenizer), tokenizer.id("<|mark|>").unwrap());
    let vocabulary = vocabulary(&tokenizer);
    let any = Grammar::new(&vocabulary, &Rule::Regex("(?s:.*)".to_owned())).unwrap();
    let tokens = allowed(&mut any.matcher(), &tokenizer);
    assert!(tokens.contains(&end) && !tokens.contains(&mark));
    assert!(tokens.contains(&tokenizer.id("<call>").unwrap()));
    // None is past what the tokenizer knows.
    assert!(
        tokens
            .iter()
            .all(|&token| (token as usize) < tokenizer.vocab_size())
    );
    let mut logits = vec![0.0; tokenizer.vocab_size() + 5];
    any.matcher().mask(&mut logits, false).unwrap();
    assert_eq!(logits[end as usize], f32::NEG_INFINITY);

    for lark in [
        "start: <|mark|> \"ab\"".to_owned(),
        format!("start: <[{mark}]> \"ab\""),
    ] {
        let named = Grammar::new(&vocabulary, &Rule::Lark(lark)).unwrap();
        let mut matcher = named.matcher();
        assert_eq!(allowed(&mut matcher, &tokenizer), [mark]);
        assert!(!matcher.take(mark).unwrap());
        assert_eq!(allowed(&mut matcher, &tokenizer).len(), 2);
        let text = written(&named, &tokenizer, 1, 9);
        assert_eq!(text.as_deref(), Some("<|mark|>ab"));
    }
}

#[test]
fn a_complete_grammar_says_so() {
    let tokenizer = byte_level();
    let grammar = Grammar::new(&vocabulary(&tokenizer), &Rule::Regex("a+b".to_owned())).unwrap();
    let mut matcher = grammar.matcher();
    let a = tokenizer.id("a").unwrap();
    assert!(!matcher.take(a).unwrap());
    // A fork goes its own way.
    let mut fork = matcher.fork();
    assert!(!fork.may_end());
    assert!(fork.take(tokenizer.id("b").unwrap()).unwrap());
    assert!(fork.may_end());
    assert!(!matcher.take(a).unwrap());
    let all = allowed(&mut matcher, &tokenizer);
    let expected = ["a", "b", "ab"].map(|token| tokenizer.id(token).unwrap());
    assert_eq!(all, expected);
    assert!(matcher.take(tokenizer.id("ab").unwrap()).unwrap());
}

#[test]
fn the_first_word_has_no_space_and_others_have() {
    let tokenizer = sentence_piece();
    let id = |token: &str| tokenizer.id(token).unwrap();
    let rule = Rule::Regex("a a".to_owned());
    let grammar = Grammar::new(&vocabulary(&tokenizer), &rule).unwrap();
    let mut matcher = grammar.matcher();
    assert_eq!(allowed(&mut matcher, &tokenizer), [id("▁a"), id("a")]);
    matcher.take(id("▁a")).unwrap();
    assert_eq!(allowed(&mut matcher, &tokenizer), [id("▁"), id("▁a")]);
    for seed in 0..5 {
        assert_eq!(
            written(&grammar, &tokenizer, seed, 9).as_deref(),
            Some("a a")
        );
    }
    // A letter has one token, a character without one its bytes.
    let rule = Rule::Regex("é1ü".to_owned());
    let grammar = Grammar::new(&vocabulary(&tokenizer), &rule).unwrap();
    assert_eq!(written(&grammar, &tokenizer, 0, 9).as_deref(), Some("é1ü"));
}

#[test]
fn wrong_numbers_are_left_to_be_reported() {
    let tokenizer = byte_level();
    let grammar = Grammar::new(&vocabulary(&tokenizer), &Rule::Object).unwrap();
    let mut logits = vec![f32::NAN; tokenizer.vocab_size() + 5];
    grammar.matcher().mask(&mut logits, true).unwrap();
    assert!(logits.iter().all(|logit| logit.is_nan()));
    let mut few = vec![0.0; 3];
    let error = grammar.matcher().mask(&mut few, true).unwrap_err();
    assert!(matches!(error, TextError::LogitsLength { got: 3, .. }));
}

#[test]
fn formats_without_a_meaning_are_notes() {
    let tokenizer = byte_level();
    let rule = schema(
        json!({"type": "object", "additionalProperties": false, "required": ["format"],
        "properties": {"format": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9}}}),
    );
    let grammar = Grammar::new(&vocabulary(&tokenizer), &rule).unwrap();
    let text = written(&grammar, &tokenizer, 3, 200).unwrap();
    assert!(serde_json::from_str::<Value>(&text).unwrap()["format"].is_u64());
    // A value is data.
    let constant = json!({"const": {"format": "x"}});
    let grammar = Grammar::new(&vocabulary(&tokenizer), &schema(constant)).unwrap();
    let text = written(&grammar, &tokenizer, 3, 200).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({"format": "x"})
    );
}

#[test]
fn blanks_have_an_end() {
    let tokenizer = byte_level();
    let grammar = Grammar::new(
        &vocabulary(&tokenizer),
        &schema(json!({"type": "object",
        "additionalProperties": false})),
    )
    .unwrap();
    let mut matcher = grammar.matcher();
    matcher.take(tokenizer.id("{").unwrap()).unwrap();
    let (newline, space) = (tokenizer.id("Ċ").unwrap(), tokenizer.id("Ġ").unwrap());
    matcher.take(newline).unwrap();
    let mut spaces = 0;
    while allowed(&mut matcher, &tokenizer).contains(&space) {
        matcher.take(space).unwrap();
        spaces += 1;
    }
    assert_eq!(spaces, 40);
}
