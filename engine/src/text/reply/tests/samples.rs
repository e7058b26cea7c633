use super::*;

/// An answer as a model writes it, and what it is.
pub(super) struct Sample {
    pub name: &'static str,
    pub style: Style,
    pub answer: &'static str,
    pub said: Vec<Said>,
}

/// Snippets of templates, as short as shows the format.
pub(in crate::text::reply) const HERMES: &str = "{%- if tools %}<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>{% endif %}";
pub(in crate::text::reply) const CODER: &str = "{{- '<tool_call>\\n<function=' + call.name + '>\\n<parameter=' + name + '>\\n' }}</parameter></function></tool_call>";
pub(in crate::text::reply) const LLAMA: &str =
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{{- \"<|python_tag|>\" + name }}";
pub(in crate::text::reply) const MISTRAL: &str = "{{- '[TOOL_CALLS][' }}{{- '{\"name\": ' }}";
pub(in crate::text::reply) const PIPES: &str =
    "{{- '<|tool_call|>' + (calls | tojson) + '<|/tool_call|>' }}";
pub(in crate::text::reply) const HARMONY: &str =
    "{{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}";

pub(super) fn with_tools(template: &str) -> Style {
    Style::of(template, "hello", true)
}

pub(super) fn harmony() -> Style {
    Style::of(
        HARMONY,
        "<|start|>user<|message|>hi<|end|><|start|>assistant",
        true,
    )
}

pub(super) fn samples() -> Vec<Sample> {
    let weather = |index| call(index, "get_weather", "{\"city\": \"Paris\"}").to_vec();
    let sample = |name, style, answer, said: &[&[Said]]| Sample {
        name,
        style,
        answer,
        said: said.concat(),
    };
    vec![
        sample(
            "hermes",
            with_tools(HERMES),
            "<think>\nWhere?\n</think>\n\nI look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
            &[&[reasoning("Where?"), text("I look.")], &weather(0)],
        ),
        sample(
            "hermes: two calls, and text between and after",
            with_tools(HERMES),
            "<tool_call>{\"arguments\":{},\"name\":\"a\"}</tool_call> and é <tool_call>\n{\"name\":\"b\",\"arguments\":\n{\"x\":[1,{}]}}</tool_call>\nDone. <b>\n",
            &[
                &call(0, "a", "{}"),
                &[text("and é")],
                &call(1, "b", "{\"x\":[1,{}]}"),
                &[text("Done. <b>\n")],
            ],
        ),
        sample(
            "hermes: a tag inside a string",
            with_tools(HERMES),
            "<tool_call>{\"name\": \"write\", \"arguments\": {\"t\": \"</tool_call>\\\"}}<tool_call>\"}}</tool_call>",
            &[&call(
                0,
                "write",
                "{\"t\": \"</tool_call>\\\"}}<tool_call>\"}",
            )],
        ),
        sample(
            "hermes: arguments inside a string",
            with_tools(HERMES),
            "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>",
            &[&call(0, "f", "{\"a\": 1}")],
        ),
        sample(
            "coder",
            with_tools(CODER),
            "I look.\n\n<tool_call>\n<function=find>\n<parameter=what>\na </b>\nc\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>",
            &[
                &[text("I look.")],
                &call(0, "find", "{\"what\": \"a </b>\\nc\", \"n\": 3}"),
            ],
        ),
        sample(
            "coder: without the outer tags, or half of them",
            with_tools(CODER),
            "<function=a>\n</function>\n</tool_call>\n<function=b><parameter=x>true</parameter></function> Done.",
            &[
                &call(0, "a", "{}"),
                &call(1, "b", "{\"x\": true}"),
                &[text("Done.")],
            ],
        ),
        sample(
            "llama",
            with_tools(LLAMA),
            "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}; {\"type\": \"function\", \"name\": \"b\", \"parameters\": {}}",
            &[&weather(0), &call(1, "b", "{}")],
        ),
        sample(
            "llama: with its tag",
            with_tools(LLAMA),
            "<|python_tag|>{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}",
            &[&weather(0)],
        ),
        sample(
            "mistral",
            with_tools(MISTRAL),
            "I look.[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}, \"id\": \"call00001\"}, {\"name\": \"b\", \"arguments\": {}}]",
            &[&[text("I look.")], &weather(0), &call(1, "b", "{}")],
        ),
        sample(
            "mistral: names before arguments",
            with_tools(MISTRAL),
            "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]b[CALL_ID]x1[ARGS] {}[TOOL_CALLS]c{\"d\":1}",
            &[&weather(0), &call(1, "b", "{}"), &call(2, "c", "{\"d\":1}")],
        ),
        sample(
            "pipes",
            with_tools(PIPES),
            "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}]<|/tool_call|>",
            &[&weather(0)],
        ),
        sample(
            "harmony",
            harmony(),
            "<|channel|>analysis<|message|>Where?\n<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Paris\"}<|call|>",
            &[&[reasoning("Where?\n")], &weather(0)],
        ),
        sample(
            "harmony: an answer",
            harmony(),
            "<|channel|>analysis<|message|>2 < 3<|end|><|start|>assistant<|channel|>final<|message|>Yes: 2 <| 3<|return|>",
            &[&[reasoning("2 < 3"), text("Yes: 2 <| 3")]],
        ),
        sample(
            "harmony: recipients before the channel, a preamble, two calls",
            harmony(),
            " to=functions.a<|channel|>commentary<|message|>{}<|call|><|start|>assistant<|channel|>commentary<|message|>Now b.<|end|><|start|>assistant<|channel|>commentary to=functions.b code<|message|> {\"n\":1} ",
            &[
                &call(0, "a", "{}"),
                &[text("Now b.")],
                &call(1, "b", "{\"n\":1}"),
            ],
        ),
        sample(
            "thoughts of other tags, opened by the prompt",
            Style::of("{{ '[THINK]' }}", "question[THINK]", false),
            "2 < 3[/THIN] \n[/THINK]\nYes.\n",
            &[&[reasoning("2 < 3[/THIN]"), text("Yes.\n")]],
        ),
    ]
}
