use super::samples::{CODER, HARMONY, HERMES, LLAMA, MISTRAL, PIPES, harmony, with_tools};
use super::*;

/// A small generator of chance.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }
}

/// Whether what is missing of `written` in `told` is tags and blanks alone, in this order.
fn only_loses(written: &str, told: &str) -> bool {
    const TAGS: [&str; 14] = [
        "<think>",
        "</think>",
        "[/THINK]",
        "<|channel|>analysis<|message|>",
        "<|channel|>final<|message|>",
        "<|channel|>commentary<|message|>",
        "<|start|>assistant",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "</tool_call>",
        "<|/tool_call|>",
        "; ",
        "<|python_tag|>",
    ];
    let Some(first) = written.chars().next() else {
        return told.is_empty();
    };
    let bare = written.trim_start();
    let tag = TAGS.iter().find_map(|tag| bare.strip_prefix(tag));
    tag.is_some_and(|rest| only_loses(rest, told))
        || (told.strip_prefix(first))
            .is_some_and(|told| only_loses(&written[first.len_utf8()..], told))
        || (first.is_whitespace() && only_loses(&written[1..], told))
}

#[test]
fn an_answer_cut_off_anywhere_loses_nothing() {
    for Sample {
        name,
        style,
        answer,
        said,
    } in samples()
    {
        for at in edges(answer) {
            let cut = read(&style, [&answer[..at]]);
            // The calls that are told are those of the whole answer.
            let calls = |said: &[Said]| -> Vec<Said> {
                let no_words = |piece: &&Said| !matches!(piece, Said::Text(_) | Said::Reasoning(_));
                said.iter().filter(no_words).cloned().collect()
            };
            let (told, all) = (calls(&cut), calls(&said));
            assert!(all.starts_with(&told), "{name}: {:?}", &answer[..at]);
            if told.is_empty() {
                let words = words(&cut);
                assert!(
                    only_loses(&answer[..at], &words),
                    "{name}: {:?} {words:?}",
                    &answer[..at]
                );
            }
        }
    }
}

#[test]
fn arguments_of_a_cut_call_come_back_as_text() {
    for (style, answer) in [
        (
            with_tools(HERMES),
            "\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, \"b",
        ),
        (
            with_tools(CODER),
            "<tool_call>\n<function=f>\n<parameter=a>\nb\n</parameter",
        ),
        (
            with_tools(LLAMA),
            "{\"name\": \"f\", \"parameters\": {\"a\": 1}",
        ),
        (
            with_tools(MISTRAL),
            "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}, ",
        ),
        (with_tools(MISTRAL), "[TOOL_CALLS]f[ARGS]{\"a\": 1"),
        (
            with_tools(PIPES),
            "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}",
        ),
        (
            harmony(),
            "<|channel|>commentary to=functions.f<|message|>{\"a\": 1",
        ),
    ] {
        assert_eq!(read(&style, [answer]), [text(answer)]);
    }
}

#[test]
fn a_missing_end_costs_no_call() {
    for (template, answer) in [
        (
            HERMES,
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}\n</tool",
        ),
        (CODER, "<tool_call>\n<function=f>\n</function>\n"),
        (PIPES, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]"),
    ] {
        assert_eq!(read(&with_tools(template), [answer]), call(0, "f", "{}"));
    }
}

#[test]
fn objects_that_are_no_calls_are_text() {
    for json in [
        "{}",
        "{\"name\": 1, \"arguments\": {}}",
        "{\"name\": \"\", \"arguments\": {}}",
        "{\"arguments\": {}}",
        "{\"name\": \"f\", \"arguments\": []}",
        "{\"name\": \"f\", \"arguments\": \"{\"}",
        "{\"name\": \"f\", \"arguments\": {}, \"arguments\": {}}",
        "{\"name\": \"f\", \"arguments\": {}, \"parameters\": {}}",
        "{\"name\": \"f\", \"name\": \"g\", \"arguments\": {}}",
        "{\"name\": \"f\", \"arguments\": {\"a\": 1e999}}",
        "{\"name\": \"f\", \"arguments\": {\"a\": \"\\ud800\"}}",
        "[]",
        "[{\"name\": \"f\"}, {}]",
        "<function=f><parameter=a>1</parameter><parameter=a>2</parameter></function>",
        "<function=></function>",
    ] {
        let answer = format!("So: <tool_call>\n{json}\n</tool_call> ");
        assert_eq!(
            read(&with_tools(HERMES), [answer.as_str()]),
            [text(&answer)],
            "{json}"
        );
    }
    let other = "<|channel|>commentary to=browser.search<|message|>{}<|call|>";
    assert_eq!(read(&harmony(), [other]), [text(other)]);
    // Bare, it has to have arguments.
    let bare = "{\"name\": \"f\"}";
    assert_eq!(read(&with_tools(LLAMA), [bare]), [text(bare)]);
    let late = "So: {\"name\": \"f\", \"parameters\": {}}";
    assert_eq!(read(&with_tools(LLAMA), [late]), [text(late)]);
}

#[test]
fn garbage_is_text_whatever_it_is_made_of() {
    let parts: Vec<&str> = "<tool_call>|</tool_call>|<function=|f|>|<parameter=|a|</parameter>|</function>|{|}|[|]|:|,|\"|\\|\\u12|-1.5e3|true|nul|{\"name\":\"f\",\"arguments\":|{\"a\":[1,{}]}|{\"name\": \"f\", \"parameters\": {}}|;| |\n|é🙂|[TOOL_CALLS]|[ARGS]|[CALL_ID]"
        .split('|').chain(["<|python_tag|>", "<|tool_call|>", "<|/tool_call|>", "<|start|>", "<|start|>assistant",
        "<|channel|>", "<|channel|>commentary to=functions.f", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>"])
        .collect();
    let mut random = Xorshift(88_172_645_463_325_252);
    let mut calls = 0;
    for round in 0..30_000 {
        let template = [HERMES, CODER, LLAMA, MISTRAL, PIPES, HARMONY][round % 6];
        let style = with_tools(template);
        let count = random.below(14);
        let pieces: Vec<&str> = (0..count)
            .map(|_| parts[random.below(parts.len())])
            .collect();
        let answer = pieces.concat();
        let said = read(&style, pieces);
        assert_eq!(read(&style, [answer.as_str()]), said, "{answer:?}");
        calls += usize::from(has_call(&said));
        for piece in &said {
            if let Said::Arguments { json, .. } = piece {
                assert!(json::is_object(json), "{answer:?} {json}");
            }
        }
        let harmony = template == HARMONY && answer.contains("<|message|>");
        if !has_call(&said) && !harmony {
            assert_eq!(words(&said), answer);
        }
    }
    assert!(calls > 100, "{calls} of them have calls");
}

#[test]
fn depth_and_length_cost_no_more_than_their_bytes() {
    let style = with_tools(HERMES);
    let begun = "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":";
    let deep = format!("{begun}{}", "[".repeat(100_000));
    assert_eq!(read(&style, [deep.as_str()]), [text(&deep)]);
    for inner in ["[", "{\"a\":"] {
        let deep = format!("{begun}{}", inner.repeat(120));
        let mut said = Vec::new();
        Reply::new(style.clone()).push(&deep, &mut said);
        assert_eq!(said, [text(&deep)]);
        // As deep as objects may be.
        let least = format!("{begun}{}", inner.repeat(90));
        said.clear();
        Reply::new(style.clone()).push(&least, &mut said);
        assert_eq!(said, []);
    }
    let long = "x\\n".repeat(200_000);
    let answer =
        format!("<tool_call>{{\"name\":\"f\",\"arguments\":{{\"a\":\"{long}\"}}}}</tool_call>");
    assert_eq!(
        read(&style, [answer.as_str()]),
        call(0, "f", &format!("{{\"a\":\"{long}\"}}"))
    );
    for unit in [
        "<tool_call>",
        "<tool_call>{\"",
        " ",
        "<tool_call><function=a><parameter=b>",
        "<<<<tool_cal",
    ] {
        let answer = unit.repeat(1_000_000 / unit.len());
        assert_eq!(read(&with_tools(CODER), [answer.as_str()]), [text(&answer)]);
    }
}

#[test]
fn the_scanner_of_objects_knows_json() {
    let parts = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"a\"",
        "\"\\n\\u00e9\"",
        "\"\\x\"",
        "0",
        "01",
        "-",
        "-0.5",
        "1.",
        "1e-5",
        "E-2",
        "true",
        "fals",
        "null",
        " ",
        "\n",
        "\"",
        "\t",
    ];
    let mut random = Xorshift(2_463_534_242);
    let mut whole = 0;
    for _ in 0..200_000 {
        let mut text = String::from("{\"k\":");
        for _ in 0..random.below(7) {
            text.push_str(parts[random.below(parts.len())]);
        }
        text.push('}');
        let mut object = json::Object::default();
        let steps: Vec<json::Step> = text.chars().map(|c| object.step(c)).collect();
        let (last, before) = steps.split_last().unwrap();
        let taken =
            *last == json::Step::Done && before.iter().all(|step| *step == json::Step::More);
        assert_eq!(taken, json::is_object(&text), "{text}");
        if taken {
            whole += 1;
            let fields: serde_json::Map<String, serde_json::Value> = object
                .fields()
                .map(|(key, value)| (json::string(key).unwrap(), json::value(value).unwrap()))
                .collect();
            assert_eq!(
                serde_json::Value::Object(fields),
                json::value(&text).unwrap()
            );
        }
    }
    assert!(whole > 1000, "{whole}");
}
