use serde_json::{Value, json};

use crate::serve::api::fields::Fields;
use crate::serve::api::notes::Notes;
use crate::serve::api::responses::{Shape, read, read_fields};
use crate::serve::ask::{Ask, Conversation, Input, Refusal, RefusalKind, ToolChoice};

fn asked(body: &Value) -> Result<(Ask, Shape, Notes), Refusal> {
    read(body.to_string().as_bytes(), false)
}

fn conversation(body: &Value) -> Conversation {
    match asked(body).unwrap().0.input {
        Input::Chat(conversation) => conversation,
        other => panic!("{other:?}"),
    }
}

fn messages(input: Value) -> Value {
    conversation(&json!({"model": "m", "input": input}))
        .messages
        .into()
}

#[test]
fn a_text_is_a_question() {
    let body = json!({"model": "m", "input": "Hi", "instructions": "Be brief.", "stream": true,
        "max_output_tokens": 20, "temperature": 0.5, "top_p": 0.25, "stop": "x"});
    let (ask, shape, notes) = asked(&body).unwrap();
    assert_eq!(ask.model.as_deref(), Some("m"));
    assert_eq!(
        (ask.max_tokens, ask.answers, ask.logprobs),
        (Some(20), 1, None)
    );
    assert_eq!(ask.sampling.draw.temperature, Some(0.5));
    assert_eq!(ask.sampling.draw.top_p, Some(0.25));
    assert_eq!(ask.stop, ["x"]);
    assert!(shape.stream);
    assert_eq!(notes, Notes::default());
    let Input::Chat(conversation) = ask.input else {
        panic!()
    };
    let wanted = [
        json!({"role": "system", "content": "Be brief."}),
        json!({"role": "user", "content": "Hi"}),
    ];
    assert_eq!(conversation.messages, wanted);
    assert!(conversation.parallel_calls && !conversation.continues);
    let fields = Fields::of(body.as_object().unwrap().clone());
    assert_eq!(read_fields(fields, true).unwrap().1, shape);
}

#[test]
fn items_become_the_messages_of_a_template() {
    let text = |kind: &str, text: &str| json!([{"type": kind, "text": text}]);
    let input = json!([
        {"type": "message", "role": "developer", "content": text("input_text", "Rules.")},
        {"role": "user", "content": text("input_text", "<env>")},
        {"role": "user", "content": "List."},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": null,
         "content": text("reasoning_text", "I list.")},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
         "content": [{"type": "output_text", "text": "Listing.", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "ls",
         "arguments": "{\"z\":1,\"a\":2}", "status": "completed"},
        {"type": "function_call", "call_id": "c2", "name": "pwd", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "a b"},
        {"type": "function_call_output", "call_id": "c2", "output": text("input_text", "/")},
        {"role": "assistant", "content": "Two files."},
        {"role": "user", "content": "Thanks."},
    ]);
    let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let calls = [
        call("c1", "ls", json!({"z": 1, "a": 2})),
        call("c2", "pwd", json!({})),
    ];
    let wanted = json!([
        {"role": "system", "content": "Rules."},
        {"role": "user", "content": "<env>\n\nList."},
        {"role": "assistant", "content": "Listing.", "reasoning_content": "I list.",
         "tool_calls": calls},
        {"role": "tool", "content": "a b", "tool_call_id": "c1", "name": "ls"},
        {"role": "tool", "content": "/", "tool_call_id": "c2", "name": "pwd"},
        {"role": "assistant", "content": "Two files."},
        {"role": "user", "content": "Thanks."},
    ]);
    assert_eq!(messages(input).to_string(), wanted.to_string());
}

#[test]
fn reasoning_comes_back_from_wherever_it_is() {
    let content = |item: Value| {
        let said = json!({"role": "assistant", "content": "a"});
        messages(json!([item, said]))[0]["reasoning_content"].clone()
    };
    let summary = json!([{"type": "summary_text", "text": "short"}]);
    let sealed = "engine:reasoning:1:long";
    for (item, wanted) in [
        (
            json!({"type": "reasoning", "summary": summary}),
            json!("short"),
        ),
        (
            json!({"type": "reasoning", "summary": summary, "encrypted_content": sealed}),
            json!("long"),
        ),
        (json!({"type": "reasoning", "summary": []}), json!(null)),
    ] {
        assert_eq!(content(item), wanted);
    }
    let foreign = json!({"type": "reasoning", "summary": [], "encrypted_content": "gAAA"});
    let (_, _, notes) =
        asked(&json!({"input": [foreign, {"role": "user", "content": "x"}]})).unwrap();
    assert_eq!(notes.ignored, ["input.encrypted_content"]);
}

#[test]
fn a_call_with_a_text_becomes_one_with_an_argument() {
    let input = json!([
        {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "Done"},
    ]);
    let function = json!({"name": "apply_patch", "arguments": {"input": "*** Begin"}});
    let wanted = json!([
        {"role": "assistant", "content": "", "tool_calls":
            [{"id": "c", "type": "function", "function": function}]},
        {"role": "tool", "content": "Done", "tool_call_id": "c", "name": "apply_patch"},
    ]);
    assert_eq!(messages(input), wanted);
}

#[test]
fn tools_that_cannot_be_run_are_kept_from_the_model() {
    let body = json!({"input": "x", "tool_choice": {"type": "function", "name": "ls"},
    "parallel_tool_calls": false, "tools": [
        {"type": "function", "name": "ls", "parameters": {"type": "object"}, "strict": true},
        {"type": "web_search"}, {"type": "namespace", "name": "n", "tools": []},
        {"type": "custom", "name": "apply_patch"}, {"type": "local_shell"},
    ]});
    let (ask, _, notes) = asked(&body).unwrap();
    assert_eq!(
        notes.withheld_tools,
        ["web_search", "namespace", "custom", "local_shell"]
    );
    assert_eq!(notes.ignored, [] as [&str; 0]);
    let Input::Chat(conversation) = ask.input else {
        panic!()
    };
    assert_eq!(conversation.tools.len(), 1);
    assert_eq!(conversation.choice, ToolChoice::Named("ls".to_owned()));
    assert!(!conversation.parallel_calls);
}

#[test]
fn an_effort_reaches_the_template() {
    let arguments = |reasoning: Value| {
        let body = json!({"input": "x", "reasoning": reasoning,
            "chat_template_kwargs": {"a": 1}});
        Value::Object(conversation(&body).template_arguments)
    };
    assert_eq!(
        arguments(json!({"effort": "high"})),
        json!({"a": 1, "reasoning_effort": "high"})
    );
    assert_eq!(
        arguments(json!({"effort": "none"})),
        json!({"a": 1, "enable_thinking": false})
    );
    let only_summary = json!({"effort": null, "summary": "auto"});
    assert_eq!(arguments(only_summary), json!({"a": 1}));
}

#[test]
fn likelihoods_are_asked_for_in_two_ways() {
    let logprobs = |body: Value| asked(&body).unwrap().0.logprobs;
    let include = json!(["message.output_text.logprobs"]);
    assert_eq!(logprobs(json!({"input": "x"})), None);
    assert_eq!(logprobs(json!({"input": "x", "top_logprobs": 0})), None);
    assert_eq!(logprobs(json!({"input": "x", "top_logprobs": 3})), Some(3));
    assert_eq!(logprobs(json!({"input": "x", "include": include})), Some(0));
}

#[test]
fn hints_are_taken_and_what_is_unknown_is_noted_or_refused() {
    let mut body = json!({"input": "x", "store": true, "metadata": {"a": "b"}, "user": "u",
        "prompt_cache_key": "k", "client_metadata": {}, "service_tier": "auto", "truncation": "auto",
        "safety_identifier": "s", "include": [], "stream_options": {}, "background": false,
        "previous_response_id": null, "text": {"format": {"type": "text"}}, "max_tool_calls": 3});
    let strict = |body: &Value| read(body.to_string().as_bytes(), true);
    assert_eq!(strict(&body).unwrap().2, Notes::default());
    body["text"]["verbosity"] = json!("low");
    body["flavour"] = json!(1);
    assert_eq!(
        asked(&body).unwrap().2.ignored,
        ["text.verbosity", "flavour"]
    );
    assert_eq!(strict(&body).unwrap_err().field.as_deref(), Some("flavour"));
}

#[test]
fn what_would_change_the_answer_is_refused_by_name() {
    for (name, value) in [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!({"id": "c"})),
        ("background", json!(true)),
        ("prompt", json!({"id": "p"})),
        ("moderation", json!({"model": "m"})),
        ("n", json!(2)),
        ("logit_bias", json!({"1": 1})),
        ("response_format", json!({"type": "json_object"})),
        (
            "text",
            json!({"format": {"type": "grammar", "syntax": "lark"}}),
        ),
        ("tool_choice", json!({"type": "web_search"})),
    ] {
        let mut body = json!({"input": "x"});
        body[name] = value;
        let refusal = asked(&body).unwrap_err();
        assert!(
            refusal.field.as_deref().unwrap().starts_with(name),
            "{name}"
        );
        assert_eq!(
            (refusal.status, refusal.kind),
            (400, RefusalKind::Unsupported),
            "{name}"
        );
        assert!(refusal.message.contains(name), "{}", refusal.message);
    }
}

#[test]
fn what_is_wrong_is_refused_by_its_field() {
    let item = |item: Value| json!({"input": [item]});
    for (body, field) in [
        (json!({}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": 3}), "input"),
        (json!({"input": "x", "model": 1}), "model"),
        (json!({"input": "x", "stream": "yes"}), "stream"),
        (json!({"input": "x", "instructions": []}), "instructions"),
        (
            json!({"input": "x", "max_output_tokens": 0}),
            "max_output_tokens",
        ),
        (json!({"input": "x", "temperature": 3}), "temperature"),
        (json!({"input": "x", "top_logprobs": 21}), "top_logprobs"),
        (
            json!({"input": "x", "reasoning": {"effort": 1}}),
            "reasoning.effort",
        ),
        (json!({"input": "x", "reasoning": "high"}), "reasoning"),
        (json!({"input": "x", "tools": {}}), "tools"),
        (
            json!({"input": "x", "tool_choice": "required"}),
            "tool_choice",
        ),
        (item(json!("x")), "input[0]"),
        (item(json!({"content": "x"})), "input[0].role"),
        (
            item(json!({"role": "tool", "content": "x"})),
            "input[0].role",
        ),
        (item(json!({"type": 1})), "input[0].type"),
        (
            item(json!({"type": "item_reference", "id": "i"})),
            "input[0]",
        ),
        (item(json!({"type": "web_search_call"})), "input[0]"),
        (item(json!({"type": "input_image"})), "input[0]"),
        (
            item(json!({"role": "user", "content": [{"type": "input_image"}]})),
            "input[0].content[0]",
        ),
        (
            item(json!({"type": "function_call", "name": "f"})),
            "input[0].call_id",
        ),
        (
            item(json!({"type": "function_call", "call_id": "c"})),
            "input[0].name",
        ),
        (
            item(json!({"type": "function_call_output", "output": "x"})),
            "input[0].call_id",
        ),
        (
            item(
                json!({"type": "function_call_output", "call_id": "c", "output":
                [{"type": "input_file"}]}),
            ),
            "input[0].output[0]",
        ),
        (
            item(json!({"type": "custom_tool_call", "call_id": "c", "name": "f"})),
            "input[0].input",
        ),
    ] {
        let refusal = asked(&body).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some(field), "{body}");
        assert_eq!(refusal.status, 400);
        assert!(refusal.message.contains(field), "{}", refusal.message);
    }
    assert!(
        read(b"[]", false)
            .unwrap_err()
            .message
            .contains("JSON object")
    );
}
