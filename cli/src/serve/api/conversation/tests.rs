use super::chat::from_chat;
use super::*;
use crate::serve::api::notes::Notes;

fn chat(messages: Value) -> Result<Vec<Value>, Refusal> {
    let Value::Array(messages) = messages else {
        panic!("a list");
    };
    from_chat(&messages, &[], &mut Notes::default()).map(|conversation| conversation.messages)
}

#[test]
fn a_chat_comes_out_as_templates_read_it() {
    let given = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [
            {"type": "text", "text": "What is"},
            {"type": "text", "text": "this?"},
        ]},
        {"role": "assistant", "content": null, "refusal": null, "audio": null,
         "function_call": null, "reasoning": "I ask.", "tool_calls": [
            {"id": "c1", "type": "function", "index": 0,
             "function": {"name": "look", "arguments": "{\"z\": 1, \"a\": 2}"}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "a bus"}]},
        {"role": "developer", "content": "And polite."},
        {"role": "assistant", "content": "A bus."},
        {"role": "user", "content": "Thanks", "name": null},
    ]);
    let wanted = [
        r#"{"role":"system","content":"Be brief.\n\nAnd polite."}"#,
        r#"{"role":"user","content":"What is\nthis?","name":"ann"}"#,
        concat!(
            r#"{"role":"assistant","content":"","reasoning_content":"I ask.","#,
            r#""tool_calls":[{"id":"c1","type":"function","#,
            r#""function":{"name":"look","arguments":{"z":1,"a":2}}}]}"#
        ),
        r#"{"role":"tool","content":"a bus","tool_call_id":"c1","name":"look"}"#,
        r#"{"role":"assistant","content":"A bus."}"#,
        r#"{"role":"user","content":"Thanks"}"#,
    ];
    let messages: Vec<String> = chat(given).unwrap().iter().map(Value::to_string).collect();
    assert_eq!(messages, wanted);
}

#[test]
fn what_templates_print_survives_the_way_to_them() {
    let tools = [json!({"type": "function", "function": {
        "name": "f", "parameters": {"type": "object", "properties": {"z": {}, "a": {}}}}})];
    let messages = [json!({"role": "user", "content": "x"})];
    let conversation = from_chat(&messages, &tools, &mut Notes::default()).unwrap();
    assert!(conversation.parallel_calls && !conversation.continues);
    let whole = json!({"messages": conversation.messages, "tools": conversation.tools});
    let read = engine::text::Chat::from_json(whole.to_string().as_bytes()).unwrap();
    let template = "{{ tools[0] | tojson }}".to_owned();
    let template = engine::text::ChatTemplate::new(template, Vec::new()).unwrap();
    let wanted = concat!(
        r#"{"type": "function", "function": {"name": "f", "parameters": "#,
        r#"{"type": "object", "properties": {"z": {}, "a": {}}}}}"#
    );
    assert_eq!(template.render(&read).unwrap(), wanted);
}

#[test]
fn a_refusal_of_the_assistants_is_its_text() {
    let given = json!([{"role": "assistant", "content": null, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}]}]);
    let messages = chat(given).unwrap();
    assert_eq!(messages[0]["content"], "No.");
    assert_eq!(messages[1]["content"], "Never.");
}

#[test]
fn what_is_wrong_in_a_message_is_refused_by_its_field() {
    let part = |kind: &str| json!({"role": "user", "content": [{"type": kind}]});
    let call = |call: Value| json!({"role": "assistant", "tool_calls": [call]});
    for (message, field) in [
        (json!("x"), "messages[0]"),
        (json!({"content": "x"}), "messages[0].role"),
        (json!({"role": "judge"}), "messages[0].role"),
        (json!({"role": 1}), "messages[0].role"),
        (json!({"role": "user", "content": 1}), "messages[0].content"),
        (
            json!({"role": "user", "content": [1]}),
            "messages[0].content[0]",
        ),
        (
            json!({"role": "user", "content": [{}]}),
            "messages[0].content[0].type",
        ),
        (part("text"), "messages[0].content[0].text"),
        (part("image_url"), "messages[0].content[0]"),
        (part("input_audio"), "messages[0].content[0]"),
        (part("file"), "messages[0].content[0]"),
        (
            json!({"role": "user", "content": "", "name": 1}),
            "messages[0].name",
        ),
        (
            json!({"role": "tool", "content": "x"}),
            "messages[0].tool_call_id",
        ),
        (
            json!({"role": "assistant", "audio": {}}),
            "messages[0].audio",
        ),
        (
            json!({"role": "assistant", "function_call": {}}),
            "messages[0].function_call",
        ),
        (
            json!({"role": "assistant", "tool_calls": 1}),
            "messages[0].tool_calls",
        ),
        (call(json!(1)), "messages[0].tool_calls[0].function"),
        (
            call(json!({"function": {}})),
            "messages[0].tool_calls[0].id",
        ),
        (
            call(json!({"id": "c", "function": {}})),
            "messages[0].tool_calls[0].function.name",
        ),
    ] {
        let refusal = chat(json!([message])).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some(field), "{message}");
        assert!(refusal.message.contains(field), "{}", refusal.message);
        assert_eq!(refusal.status, 400);
    }
    assert_eq!(
        chat(json!([])).unwrap_err().field.as_deref(),
        Some("messages")
    );
}

#[test]
fn an_image_is_named() {
    let image = json!({"type": "image_url", "image_url": {"url": "data:"}});
    let refusal = chat(json!([{"role": "user", "content": [image]}])).unwrap_err();
    assert_eq!(refusal.kind, crate::serve::ask::RefusalKind::Unsupported);
    assert!(
        refusal.message.contains("`image_url`"),
        "{}",
        refusal.message
    );
}

#[test]
fn turns_that_go_on_become_one_message() {
    let mut draft = Draft::default();
    draft.user_going_on("a".to_owned());
    draft.user_going_on("b".to_owned());
    for (text, thought) in [("c", ""), ("", "hm"), ("d", "so")] {
        let mut said = Assistant::default();
        said.think(thought);
        if !text.is_empty() {
            said.say(text);
        }
        draft.assistant_going_on(said);
    }
    assert!(draft.ends_with_assistants_text());
    let mut said = Assistant::default();
    said.call("1", "f", json!({}));
    draft.assistant_going_on(said);
    assert!(!draft.ends_with_assistants_text());
    draft.tool("1".to_owned(), None, "r".to_owned());
    draft.tool("?".to_owned(), None, "s".to_owned());
    let messages = draft.finish(Vec::new(), "input").unwrap().messages;
    let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}});
    let wanted = json!([
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": "c\nd", "reasoning_content": "hm\nso", "tool_calls": [call]},
        {"role": "tool", "content": "r", "tool_call_id": "1", "name": "f"},
        {"role": "tool", "content": "s", "tool_call_id": "?"},
    ]);
    assert_eq!(Value::from(messages), wanted);
}
