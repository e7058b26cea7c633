use serde_json::{Value, json};

use super::*;
use crate::text::grammar::tests::{byte_level, letter, vocabulary, written};
use crate::text::reply::tests::samples::{CODER, HARMONY, HERMES, LLAMA, MISTRAL, PIPES};
use crate::text::{Grammar, Reply, Rule, Said, Tokenizer};

const NAMES: &str = "{{ '[TOOL_CALLS]' + name + '[ARGS]' + arguments }}";
const THINKS: &str = "{% if thinks %}<think>{% endif %}<tool_call>";
const ROLE: &str = "<|start|>user<|message|>hi<|end|><|start|>assistant";

const TEMPLATES: [(&str, &str); 8] = [
    (HERMES, ""),
    (THINKS, "<think>\n"),
    (CODER, ""),
    (LLAMA, ""),
    (MISTRAL, ""),
    (NAMES, ""),
    (PIPES, ""),
    (HARMONY, ROLE),
];

fn tools() -> Vec<ToolWish> {
    let parameters = json!({"type": "object", "required": ["n", "kind", "of"],
        "additionalProperties": false, "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 31},
            "kind": {"type": "string", "enum": ["a b", "ü"]},
            "of": {"$ref": "#/$defs/of"},
            "more": {"type": "array", "maxItems": 2, "items": {"type": "boolean"}}},
        "$defs": {"of": {"type": "boolean"}}});
    vec![
        ToolWish {
            name: "get_weather".to_owned(),
            parameters: Some(parameters),
        },
        ToolWish {
            name: "get".to_owned(),
            parameters: Some(
                json!({"type": "object", "properties": {}, "additionalProperties": false}),
            ),
        },
    ]
}

fn wish(text: TextWish, several: bool) -> Wish {
    let tools = tools();
    Wish {
        text,
        tools,
        several,
    }
}

fn grammar(style: &Style, wish: &Wish, tokenizer: &Tokenizer) -> Grammar {
    let vocabulary = vocabulary(tokenizer);
    let lark = style.lark(wish, &|mark| vocabulary.special(mark)).unwrap();
    Grammar::new(&vocabulary, &Rule::Format(lark.clone()))
        .unwrap_or_else(|error| panic!("{error}\n{lark}"))
}

/// What is read of an answer.
fn read(style: &Style, text: &str) -> Vec<Said> {
    let mut reply = Reply::new(style.clone());
    let mut said = Vec::new();
    reply.push(text, &mut said);
    reply.finish(&mut said);
    said
}

/// The calls of an answer: names and arguments.
fn calls(said: &[Said]) -> Vec<(String, Value)> {
    let mut calls: Vec<(String, Value)> = Vec::new();
    for piece in said {
        match piece {
            Said::Call { name, .. } => calls.push((name.clone(), Value::Null)),
            Said::Arguments { json, .. } => {
                calls.last_mut().unwrap().1 = serde_json::from_str(json).unwrap();
            }
            Said::Text(_) | Said::Reasoning(_) => {}
        }
    }
    calls
}

fn is_right((name, arguments): &(String, Value)) -> bool {
    match name.as_str() {
        "get" => arguments == &json!({}),
        "get_weather" => {
            (1..=31).contains(&arguments["n"].as_u64().unwrap())
                && ["a b", "ü"].contains(&arguments["kind"].as_str().unwrap())
                && arguments["of"].is_boolean()
        }
        _ => false,
    }
}

/// What a model without an opinion answers. It would think for ever, so it does not begin to.
fn answer(style: &Style, wish: &Wish, seed: u64) -> String {
    let tokenizer = byte_level();
    let grammar = grammar(style, wish, &tokenizer);
    written(&grammar, &tokenizer, seed, 20_000).unwrap_or_else(|| panic!("{style:?}"))
}

#[test]
fn a_call_that_has_to_come_is_read_as_one() {
    for (template, prompt) in TEMPLATES {
        if prompt.starts_with("<think>") {
            continue;
        }
        // Its thoughts would have no end.
        let prompt = match template == HARMONY {
            true => "<|start|>assistant<|channel|>analysis<|message|>So",
            false => prompt,
        };
        let style = Style::of(template, prompt, true)
            .with_tools(&json!([{"function": {"name": "get_weather",
            "parameters": tools()[0].parameters}}]));
        for seed in 0..4 {
            for several in [false, true] {
                if template == HARMONY {
                    continue;
                }
                let text = answer(&style, &wish(TextWish::Nothing, several), seed);
                let said = read(&style, &text);
                let calls = calls(&said);
                assert!(
                    !calls.is_empty() && calls.iter().all(is_right),
                    "{text:?}: {said:?}"
                );
                assert!(several || calls.len() == 1, "{text:?}");
                let words = said.iter().any(|piece| matches!(piece, Said::Text(_)));
                assert!(!words, "{text:?}: {said:?}");
            }
        }
    }
}

/// Whether the text is one that the grammar allows, and whether it is then complete.
fn follows(style: &Style, wish: &Wish, text: &str) -> Result<bool, String> {
    let tokenizer = byte_level();
    let mut matcher = grammar(style, wish, &tokenizer).matcher();
    let mut complete = false;
    let mut done = String::new();
    for byte in text.bytes() {
        let token = tokenizer.id(&letter(byte.into()).to_string()).unwrap();
        if complete || matcher.take(token).map(|is| complete = is).is_err() {
            return Err(done);
        }
        done.push(char::from(byte));
    }
    match complete || matcher.may_end() {
        true => Ok(complete),
        false => Err(format!("{done}...")),
    }
}

#[test]
fn thoughts_and_texts_come_before_a_call() {
    let call = "<tool_call>\n{\"name\": \"get\", \"arguments\": {}}\n</tool_call>";
    let style = Style::of(THINKS, "", true);
    let must = wish(TextWish::Nothing, false);
    assert_eq!(follows(&style, &must, call), Ok(true));
    let thought = format!("<think>\nWell <tool_call> 1 < 2\n</think>\n\n{call}");
    assert_eq!(follows(&style, &must, &thought), Ok(true));
    assert!(follows(&style, &must, "Well").is_err());
    assert!(follows(&style, &must, &format!("{call}{call}")).is_err());
    let open = Style::of(THINKS, "<think>\n", true);
    assert_eq!(
        follows(&open, &must, &format!("Well\n</think>\n\n{call}")),
        Ok(true)
    );
    assert!(follows(&open, &must, call).is_err());
    let closed = Style::of(THINKS, "<think>\n\n</think>\n\n", true);
    assert!(follows(&closed, &must, &thought).is_err());

    let may = wish(TextWish::Anything, false);
    for text in ["Well.", "", "1 < 2, {\"a\"} <tool>"] {
        assert_eq!(follows(&style, &may, text), Ok(false), "{text}");
    }
    for before in [
        "",
        "I look.\n",
        "<think>\nhm <tool_call>\n</think>\n\n",
        "<think>\nhm</think>I look.",
    ] {
        assert_eq!(
            follows(&style, &may, &format!("{before}{call}")),
            Ok(true),
            "{before}"
        );
        let wrong = format!("{before}<tool_call>\n{{\"name\": \"other\"");
        assert!(follows(&style, &may, &wrong).is_err());
    }
    assert!(follows(&style, &may, &format!("{call} Done.")).is_err());
    let several = wish(TextWish::Anything, true);
    assert_eq!(
        follows(&style, &several, &format!("a{call}\n{call}")),
        Ok(false)
    );
}

#[test]
fn a_text_may_have_to_be_json() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
        "additionalProperties": false});
    let json = wish(TextWish::Json(schema), false);
    let text = "{\"a\": true}";
    for (template, prompt) in TEMPLATES {
        if [LLAMA, HARMONY].contains(&template) || !prompt.is_empty() {
            continue;
        }
        let style = Style::of(template, prompt, true);
        assert_eq!(follows(&style, &json, text), Ok(true), "{template}");
        assert!(follows(&style, &json, "{\"a\": 1}").is_err());
    }
    let thinks = Style::of(THINKS, "", true);
    assert_eq!(
        follows(&thinks, &json, &format!("<think>hm</think>\n{text}")),
        Ok(true)
    );
    let without = Style::of(THINKS, "", false);
    let alone = Wish {
        tools: Vec::new(),
        ..json.clone()
    };
    assert_eq!(
        follows(&without, &alone, &format!("<think>hm</think>\n{text}")),
        Ok(true)
    );
    assert_eq!(follows(&Style::of("", "", false), &alone, text), Ok(true));
    let channels = Style::of(HARMONY, ROLE, false);
    let header =
        "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>";
    assert_eq!(
        follows(&channels, &alone, &format!("{header}{text}")),
        Ok(true)
    );
    assert!(follows(&channels, &alone, text).is_err());
    let vocabulary = vocabulary(&byte_level());
    let llama = Style::of(LLAMA, "", true);
    let error = llama
        .lark(&json, &|mark| vocabulary.special(mark))
        .unwrap_err();
    assert!(error.contains("cannot be told"), "{error}");
}

#[test]
fn channels_hold_calls_and_texts() {
    let style = Style::of(HARMONY, ROLE, true);
    let thought = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant";
    let call = "<|channel|>commentary to=functions.get <|constrain|>json<|message|>{}";
    let must = wish(TextWish::Nothing, false);
    assert_eq!(follows(&style, &must, call), Ok(true));
    assert_eq!(
        follows(&style, &must, &format!("{thought}{call}")),
        Ok(true)
    );
    assert!(follows(&style, &must, "<|channel|>final<|message|>x").is_err());
    let text = "<|channel|>final<|message|>x";
    let may = wish(TextWish::Anything, true);
    assert_eq!(
        follows(&style, &may, &format!("{thought}{text}")),
        Ok(false)
    );
    assert_eq!(follows(&style, &may, call), Ok(true));
}

#[test]
fn the_formats_that_samples_have_are_allowed() {
    let one = |template: &str, text: &str| {
        let style = Style::of(template, "", true);
        for (wanted, several) in [(TextWish::Nothing, false), (TextWish::Anything, true)] {
            let wish = wish(wanted, several);
            let said = read(&style, text);
            assert_eq!(calls(&said).len(), 1, "{text}");
            assert!(
                follows(&style, &wish, text).is_ok(),
                "{text}: {:?}",
                follows(&style, &wish, text)
            );
        }
    };
    let arguments = "{\"n\": 3, \"kind\": \"ü\", \"of\": true}";
    one(
        HERMES,
        &format!(
            "<tool_call>\n{{\"name\": \"get_weather\", \"arguments\": {arguments}}}\n</tool_call>"
        ),
    );
    one(
        LLAMA,
        &format!("{{\"name\": \"get_weather\", \"parameters\": {arguments}}}"),
    );
    one(
        MISTRAL,
        &format!("[TOOL_CALLS] [{{\"name\": \"get_weather\", \"arguments\": {arguments}}}]"),
    );
    one(NAMES, &format!("[TOOL_CALLS]get_weather[ARGS]{arguments}"));
    one(
        PIPES,
        &format!("<|tool_call|>[{{\"name\": \"get_weather\", \"arguments\": {arguments}}}]"),
    );
    one(
        CODER,
        "<tool_call>\n<function=get_weather>\n<parameter=n>\n3\n</parameter>\n<parameter=kind>\nü\n</parameter>\n<parameter=of>\ntrue\n</parameter>\n</function>\n</tool_call>",
    );
}

#[test]
fn names_and_marks_are_quoted() {
    let style = Style::of(HERMES, "", true);
    let odd = Wish {
        text: TextWish::Nothing,
        tools: vec![ToolWish {
            name: "a\"b\\c\n".to_owned(),
            parameters: None,
        }],
        several: false,
    };
    let text =
        "<tool_call>\n{\"name\": \"a\\\"b\\\\c\\n\", \"arguments\": {\"x\": 1}}\n</tool_call>";
    assert_eq!(follows(&style, &odd, text), Ok(true));
    assert_eq!(calls(&read(&style, text))[0].0, "a\"b\\c\n");
}
