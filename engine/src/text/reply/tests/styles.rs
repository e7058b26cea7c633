use super::samples::{CODER, HARMONY, HERMES, LLAMA, MISTRAL, PIPES, with_tools};
use super::*;

/// The opening tag of the format that is found.
fn found(template: &str) -> &'static str {
    match with_tools(template).format {
        Format::Tagged(marks) if marks.bare_functions => "<function=",
        Format::Tagged(marks) => marks.open,
        Format::Harmony(_) => "<|channel|>",
        Format::Thoughts => "",
    }
}

#[test]
fn formats_are_found_in_templates() {
    assert_eq!(found(HERMES), "<tool_call>");
    assert_eq!(found(CODER), "<function=");
    assert_eq!(found(LLAMA), "<|python_tag|>");
    assert_eq!(found(MISTRAL), "[TOOL_CALLS]");
    assert_eq!(found(PIPES), "<|tool_call|>");
    assert_eq!(found(HARMONY), "<|channel|>");
    assert_eq!(found("{{ messages[0].content }}"), "<tool_call>");
    let newer = "<|start_header_id|>{{ '{\"name\": \"' + name + '\", \"parameters\": ' }}";
    assert_eq!(found(newer), "<|python_tag|>");
}

#[test]
fn without_tools_nothing_is_a_call() {
    for Sample { name, answer, .. } in samples() {
        for template in [HERMES, CODER, LLAMA, MISTRAL, PIPES, HARMONY] {
            let said = read(&Style::of(template, "", false), [answer]);
            assert!(!has_call(&said), "{name}");
        }
        assert_eq!(read(&Style::plain(), [answer]), [text(answer)]);
    }
    let answer = "<|channel|>commentary to=functions.f<|message|>{}<|call|>";
    assert_eq!(
        read(&Style::of(HARMONY, "", false), [answer]),
        [text(answer)]
    );
}

#[test]
fn the_prompt_decides_where_an_answer_begins() {
    let answer = "a\n</think>\n\nb";
    let of = |prompt| read(&Style::of("", prompt, false), [answer]);
    assert_eq!(of("<think>\n"), [reasoning("a"), text("b")]);
    assert_eq!(of("<think>\n\n</think>\n\n"), [text(answer)]);
    assert_eq!(of("<think> is what the user wrote"), [text(answer)]);
    let channels = |prompt: &str| read(&Style::of(HARMONY, prompt, true), ["a<|end|>b"]);
    let begun = "<|start|>user<|message|>x<|end|><|start|>assistant<|channel|>";
    let body = |channel| channels(&format!("{begun}{channel}<|message|>So"));
    assert_eq!(body("analysis"), [reasoning("a"), text("b")]);
    assert_eq!(body("final"), [text("ab")]);
    assert_eq!(
        channels("<|start|>user<|message|>x<|end|>"),
        [text("a<|end|>b")]
    );
}

#[test]
fn thoughts_come_first_or_not_at_all() {
    let style = with_tools(HERMES);
    let quoted = "The tag <think> begins </think> thoughts.";
    assert_eq!(read(&style, [quoted]), [text(quoted)]);
    let twice = "<think>a</think>b<think>c</think>";
    let expected = [reasoning("a"), text("b<think>c</think>")];
    assert_eq!(read(&style, [twice]), expected);
    assert_eq!(read(&style, ["\n<think>\n\n</think>\n\nb"]), [text("b")]);
    assert_eq!(read(&style, ["<think>a </thin"]), [reasoning("a </thin")]);
    let opened_again = Style::of("", "<think>", false);
    let expected = [reasoning("a <think>"), text("b")];
    assert_eq!(
        read(&opened_again, ["<think>\na <think></think>b"]),
        expected
    );
}

#[test]
fn marks_that_have_to_be_shown_are_named() {
    assert_eq!(
        with_tools(MISTRAL).shows(),
        ["<think>", "</think>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"]
    );
    assert!(with_tools(HARMONY).shows().contains(&"<|constrain|>"));
    assert_eq!(
        Style::of(MISTRAL, "", false).shows(),
        ["<think>", "</think>"]
    );
    assert!(Style::plain().shows().is_empty());
    for template in [HERMES, CODER, LLAMA, PIPES] {
        let style = with_tools(template);
        assert!(style.shows().iter().all(|mark| !mark.is_empty()));
        assert!(style.shows().len() >= 3);
    }
}
