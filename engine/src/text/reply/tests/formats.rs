use super::samples::{CODER, HERMES, LLAMA, harmony, with_tools};
use super::*;

#[test]
fn answers_are_what_they_are() {
    for Sample {
        name,
        style,
        answer,
        said,
    } in samples()
    {
        assert_eq!(read(&style, [answer]), said, "{name}");
    }
}

#[test]
fn cuts_change_nothing() {
    for Sample {
        name,
        style,
        answer,
        said,
    } in samples()
    {
        let characters: Vec<String> = answer.chars().map(String::from).collect();
        let pieces = characters.iter().map(String::as_str);
        assert_eq!(read(&style, pieces), said, "{name}");
        let edges = edges(answer);
        for (index, &first) in edges.iter().enumerate() {
            let (head, tail) = answer.split_at(first);
            assert_eq!(read(&style, [head, tail]), said, "{name}: {head:?}");
            for &second in &edges[index + 1..] {
                let pieces = [head, &answer[first..second], &answer[second..]];
                assert_eq!(read(&style, pieces), said, "{name}: {pieces:?}");
            }
        }
    }
}

#[test]
fn text_goes_out_at_once() {
    for style in [with_tools(HERMES), with_tools(CODER)] {
        let mut reply = Reply::new(style);
        let mut said = Vec::new();
        for (piece, so_far) in [
            ("Hello", "Hello"),
            (" ", "Hello"),
            ("you", "Hello you"),
            ("\n<tool", "Hello you"),
            ("bar", "Hello you\n<toolbar"),
            ("><", "Hello you\n<toolbar>"),
        ] {
            reply.push(piece, &mut said);
            assert_eq!(words(&said), so_far);
        }
    }
}

#[test]
fn thoughts_and_channels_go_out_at_once() {
    let think = Style::of("", "<|im_start|>assistant\n<think>\n", false);
    for (style, begin) in [(think, ""), (harmony(), "<|channel|>analysis<|message|>")] {
        let mut reply = Reply::new(style);
        let mut said = Vec::new();
        reply.push(begin, &mut said);
        reply.push("Let me see<", &mut said);
        assert_eq!(said, [reasoning("Let me see")]);
    }
}

#[test]
fn a_call_is_told_with_its_last_character() {
    for Sample {
        name,
        style,
        answer,
        ..
    } in samples()
    {
        let ends = ["</tool_call>", "]", "<|call|>"];
        if !ends.iter().any(|end| answer.ends_with(end)) {
            continue;
        }
        let (most, last) = answer.split_at(answer.len() - 1);
        let mut reply = Reply::new(style);
        let mut said = Vec::new();
        reply.push(most, &mut said);
        let before = has_call(&said);
        reply.push(last, &mut said);
        assert!(!before && has_call(&said), "{name}");
    }
}

#[test]
fn what_failed_goes_out_at_once() {
    let cases = [
        (
            HERMES,
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": }",
        ),
        (HERMES, "<tool_call>\n{\"name\": x"),
        (HERMES, "<tool_call> no"),
        (HERMES, "<tool_call>{\"name\":\"f\",\"more\""),
        (CODER, "<tool_call>\n<function=f>\nx"),
        (CODER, "<function=f g\nx"),
        (LLAMA, "{\"city\""),
        (LLAMA, "{\"name\": \"Ada\", \"born\""),
        (LLAMA, "<|python_tag|>print"),
    ];
    for (template, answer) in cases {
        let mut reply = Reply::new(with_tools(template));
        let mut said = Vec::new();
        reply.push(answer, &mut said);
        assert_eq!(said, [text(answer)]);
    }
}

#[test]
fn a_call_after_a_failed_one_is_read() {
    let good = "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>";
    for bad in [
        "<",
        "<tool_<<tool_call",
        "<tool_call>",
        "<tool_call>{",
        "<tool_call>{\"name\":\"f\"}</tool",
        "<tool_call>\n<func",
    ] {
        let answer = format!("{bad}{good}");
        let expected = [&[text(bad)], &call(0, "f", "{}")[..]].concat();
        assert_eq!(read(&with_tools(HERMES), [answer.as_str()]), expected);
    }
    // The prompt has begun the message already.
    let again = "<|start|>assistant<|channel|>final<|message|>x";
    assert_eq!(read(&harmony(), [again]), [text("x")]);
    let answer = "<|start|>tool<|channel|>final<|message|>x<|start|><|start|>assistant<|channel|>final<|message|>y";
    let expected = [text("<|start|>toolx<|start|>y")];
    assert_eq!(read(&harmony(), [answer]), expected);
}

#[test]
fn parameters_become_what_the_schema_says() {
    let tools = serde_json::json!([{"type": "function", "function": {"name": "f", "parameters": {"properties": {
        "text": {"type": "string"}, "flag": {"type": "boolean"}, "either": {"type": ["string", "null"]},
        "list": {"anyOf": [{"type": "array"}, {"type": "string"}]}, "number": {"type": "integer"},
        "choice": {"enum": ["1", "2"]}
    }}}}]);
    let style = with_tools(CODER).with_tools(&tools);
    let cases = [
        ("text", "12", "\"12\""),
        ("text", "\n a\n\n", "\" a\\n\""),
        ("text", "null", "\"null\""),
        ("flag", "\nTrue\n", "true"),
        ("flag", "perhaps", "\"perhaps\""),
        ("either", "null", "null"),
        ("either", "None", "null"),
        ("either", "12", "\"12\""),
        ("list", "[1, \"a\"]", "[1, \"a\"]"),
        ("list", "[1, \"a\"", "\"[1, \\\"a\\\"\""),
        ("number", " -12 ", "-12"),
        ("number", "1e999", "\"1e999\""),
        ("choice", "1", "\"1\""),
        ("unknown", "1.50", "1.50"),
        ("unknown", "{\"a\": null}", "{\"a\": null}"),
        ("unknown", "null", "\"null\""),
        ("unknown", "\"quoted\"", "\"\\\"quoted\\\"\""),
        ("unknown", "", "\"\""),
    ];
    for (key, value, json) in cases {
        let answer = format!("<function=f><parameter={key}>{value}</parameter></function>");
        let expected = call(0, "f", &format!("{{\"{key}\": {json}}}"));
        assert_eq!(
            read(&style, [answer.as_str()]),
            expected,
            "{key}: {value:?}"
        );
    }
}
