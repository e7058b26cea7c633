use serde_json::{Value, json};

use crate::serve::api::fields::Fields;
use crate::serve::api::messages::{Shape, count_tokens, read, read_fields};
use crate::serve::api::notes::Notes;
use crate::serve::ask::{Ask, Conversation, Input, Refusal, RefusalKind, ToolChoice};

/// A request with these fields beside those that must be there.
fn body(more: Value) -> Value {
    let mut body = json!({"model": "m", "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn asked(body: &Value) -> Result<(Ask, Shape, Notes), Refusal> {
    read(body.to_string().as_bytes(), false)
}

fn conversation(body: &Value) -> Conversation {
    match asked(body).unwrap().0.input {
        Input::Chat(conversation) => conversation,
        other => panic!("{other:?}"),
    }
}

fn messages(messages: Value) -> Value {
    conversation(&body(json!({"messages": messages})))
        .messages
        .into()
}

#[test]
fn a_question_is_asked_as_it_is() {
    let body = body(
        json!({"system": "Be brief.", "stream": true, "temperature": 0.5,
        "top_p": 0.25, "top_k": 40, "stop_sequences": ["x", "y"]}),
    );
    let (ask, shape, notes) = asked(&body).unwrap();
    assert_eq!(ask.model.as_deref(), Some("m"));
    assert_eq!(
        (ask.max_tokens, ask.answers, ask.logprobs),
        (Some(9), 1, None)
    );
    assert_eq!(ask.sampling.draw.temperature, Some(0.5));
    assert_eq!(
        (ask.sampling.draw.top_p, ask.sampling.draw.top_k),
        (Some(0.25), Some(40))
    );
    assert_eq!(ask.stop, ["x", "y"]);
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
fn blocks_become_the_messages_of_a_template() {
    let text = |text: &str| json!({"type": "text", "text": text});
    let kept = json!({"type": "text", "text": "<env>", "cache_control": {"type": "ephemeral"}});
    let given = json!([
        {"role": "user", "content": [kept, text("List.")]},
        {"role": "user", "content": "Now."},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "I list.", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            text("Listing."),
            {"type": "tool_use", "id": "t1", "name": "ls", "input": {"z": 1, "a": 2}},
            {"type": "tool_use", "id": "t2", "name": "pwd", "input": {}},
        ]},
        {"role": "user", "content": [
            text("<note>"),
            {"type": "tool_result", "tool_use_id": "t1", "content": "a b"},
            {"type": "tool_result", "tool_use_id": "t2", "content": [text("no"), text("way")],
             "is_error": true},
            text("Go on."),
        ]},
        {"role": "system", "content": [text("Later rules.")]},
        {"role": "assistant", "content": "Two files."},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]},
    ]);
    let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let calls = [
        call("t1", "ls", json!({"z": 1, "a": 2})),
        call("t2", "pwd", json!({})),
    ];
    let wanted = json!([
        {"role": "system", "content": "Later rules."},
        {"role": "user", "content": "<env>\nList.\n\nNow."},
        {"role": "assistant", "content": "Listing.", "reasoning_content": "I list.",
         "tool_calls": calls},
        {"role": "tool", "content": "a b", "tool_call_id": "t1", "name": "ls"},
        {"role": "tool", "content": "Error: no\nway", "tool_call_id": "t2", "name": "pwd"},
        {"role": "user", "content": "<note>\nGo on."},
        {"role": "assistant", "content": "Two files."},
        {"role": "tool", "content": "", "tool_call_id": "t3"},
    ]);
    assert_eq!(messages(given).to_string(), wanted.to_string());
}

#[test]
fn a_failed_tool_is_not_told_twice() {
    let result = |content: &str, is_error: bool| {
        let block = json!({"type": "tool_result", "tool_use_id": "t", "content": content,
            "is_error": is_error});
        messages(json!([{"role": "user", "content": [block]}]))[0]["content"].clone()
    };
    assert_eq!(result("ERROR: x", true), "ERROR: x");
    assert_eq!(result("äöüß", true), "Error: äöüß");
    assert_eq!(result("x", false), "x");
}

#[test]
fn a_system_text_comes_in_blocks_and_without_the_line_of_who_bills() {
    let text = |text: &str| json!({"type": "text", "text": text});
    let bill = "x-anthropic-billing-header: cc_version=2; cch=00000;";
    let system = |system: Value| {
        let (ask, _, notes) = asked(&body(json!({"system": system}))).unwrap();
        let Input::Chat(conversation) = ask.input else {
            panic!()
        };
        (conversation.messages[0]["content"].clone(), notes.ignored)
    };
    let noted = vec!["system.x-anthropic-billing-header".to_owned()];
    let blocks = json!([text(bill), text("You are."), text("Be brief.")]);
    assert_eq!(
        system(blocks),
        (json!("You are.\n\nBe brief."), noted.clone())
    );
    assert_eq!(
        system(json!(format!("{bill}\nYou are."))),
        (json!("You are."), noted.clone())
    );
    assert_eq!(
        system(json!([text("You are."), text(bill)])).1,
        [] as [String; 0]
    );
    assert_eq!(system(json!([text(bill)])), (json!("Hi"), noted));
}

#[test]
fn an_answer_that_has_begun_goes_on() {
    let begun = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "He"}]);
    assert!(conversation(&body(json!({"messages": begun}))).continues);
    let thought = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content":
        [{"type": "thinking", "thinking": "x", "signature": ""}]}]);
    assert!(!conversation(&body(json!({"messages": thought}))).continues);
}

#[test]
fn tools_of_the_client_are_given_and_others_are_kept_from_the_model() {
    let schema = json!({"type": "object", "properties": {"z": {}, "a": {}}});
    let body = body(json!({"tools": [
        {"name": "ls", "description": "d", "input_schema": schema, "strict": true,
         "cache_control": {"type": "ephemeral"}},
        {"type": "custom", "name": "pwd"},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "computer_20250124", "name": "computer"},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
    ], "mcp_servers": [{"type": "url"}]}));
    let (ask, _, notes) = asked(&body).unwrap();
    let withheld = [
        "web_search_20250305",
        "computer_20250124",
        "bash_20250124",
        "text_editor_20250728",
        "mcp",
    ];
    assert_eq!(notes.withheld_tools, withheld);
    assert_eq!(notes.ignored, [] as [&str; 0]);
    let Input::Chat(conversation) = ask.input else {
        panic!()
    };
    let none = json!({"type": "object", "properties": {}});
    let wanted = json!([
        {"type": "function", "function": {"name": "ls", "description": "d", "parameters": schema, "strict": true}},
        {"type": "function", "function": {"name": "pwd", "parameters": none}},
    ]);
    assert_eq!(
        Value::from(conversation.tools).to_string(),
        wanted.to_string()
    );
}

#[test]
fn a_choice_has_four_forms() {
    let choice = |choice: Value| {
        let body = body(json!({"tools": [{"name": "ls"}], "tool_choice": choice}));
        let conversation = conversation(&body);
        (conversation.choice, conversation.parallel_calls)
    };
    assert_eq!(choice(json!(null)), (ToolChoice::Auto, true));
    let alone = json!({"type": "auto", "disable_parallel_tool_use": true});
    assert_eq!(choice(alone), (ToolChoice::Auto, false));
    assert_eq!(choice(json!({"type": "any"})), (ToolChoice::Required, true));
    assert_eq!(choice(json!({"type": "none"})), (ToolChoice::None, true));
    let named = json!({"type": "tool", "name": "ls"});
    assert_eq!(choice(named), (ToolChoice::Named("ls".to_owned()), true));
}

#[test]
fn thinking_reaches_the_template() {
    let arguments = |more: Value| Value::Object(conversation(&body(more)).template_arguments);
    assert_eq!(arguments(json!({})), json!({}));
    for (kind, thinks) in [("enabled", true), ("adaptive", true), ("disabled", false)] {
        let thinking = json!({"thinking": {"type": kind}});
        assert_eq!(arguments(thinking), json!({"enable_thinking": thinks}));
    }
    let own = json!({"thinking": {"type": "enabled"}, "output_config": {"effort": "high"},
        "chat_template_kwargs": {"enable_thinking": false}});
    assert_eq!(
        arguments(own),
        json!({"enable_thinking": false, "reasoning_effort": "high"})
    );
    let budget = body(json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}));
    assert_eq!(
        asked(&budget).unwrap().2.ignored,
        ["thinking.budget_tokens"]
    );
}

#[test]
fn hints_are_taken_and_what_is_unknown_is_noted_or_refused() {
    let mut body = body(json!({"metadata": {"user_id": "u"}, "service_tier": "auto",
        "context_management": {"edits": []}, "cache_control": {"type": "ephemeral"},
        "output_config": {}, "container": null, "mcp_servers": []}));
    let strict = |body: &Value| read(body.to_string().as_bytes(), true);
    assert_eq!(strict(&body).unwrap().2, Notes::default());
    body["flavour"] = json!(1);
    assert_eq!(asked(&body).unwrap().2.ignored, ["flavour"]);
    assert_eq!(strict(&body).unwrap_err().field.as_deref(), Some("flavour"));
}

#[test]
fn what_would_change_the_answer_is_refused_by_name() {
    let user = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    let schema = json!({"format": {"type": "grammar"}});
    let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]});
    for (more, field, words) in [
        (json!({"container": "c"}), "container", "container"),
        (
            json!({"output_config": schema}),
            "output_config.format",
            "grammar",
        ),
        (
            json!({"thinking": {"type": "between_tools"}}),
            "thinking.type",
            "between_tools",
        ),
        (
            user(json!({"type": "image", "source": {}})),
            "messages[0].content[0]",
            "`image`",
        ),
        (
            user(json!({"type": "document"})),
            "messages[0].content[0]",
            "`document`",
        ),
        (user(result), "messages[0].content[0].content[0]", "`image`"),
        (
            user(json!({"type": "server_tool_use"})),
            "messages[0].content[0]",
            "server_tool_use",
        ),
    ] {
        let refusal = asked(&body(more)).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some(field));
        assert_eq!(
            (refusal.status, refusal.kind),
            (400, RefusalKind::Unsupported),
            "{field}"
        );
        assert!(refusal.message.contains(words), "{}", refusal.message);
    }
}

#[test]
fn what_is_wrong_is_refused_by_its_field() {
    let user = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    let said = |block: Value| json!({"messages": [{"role": "assistant", "content": [block]}]});
    let call = json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
    for (more, field) in [
        (json!({"max_tokens": null}), "max_tokens"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "Hi"}), "messages"),
        (json!({"messages": [1]}), "messages[0]"),
        (
            json!({"messages": [{"role": "user"}]}),
            "messages[0].content",
        ),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role"),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "user", "content": 1}]}),
            "messages[0].content",
        ),
        (user(json!("x")), "messages[0].content[0]"),
        (user(json!({})), "messages[0].content[0].type"),
        (user(json!({"type": "text"})), "messages[0].content[0].text"),
        (
            user(json!({"type": "tool_result"})),
            "messages[0].content[0].tool_use_id",
        ),
        (user(call.clone()), "messages[0].content[0]"),
        (
            said(json!({"type": "tool_use", "id": "t"})),
            "messages[0].content[0].name",
        ),
        (
            said(json!({"type": "tool_use", "name": "f"})),
            "messages[0].content[0].id",
        ),
        (
            said(json!({"type": "thinking"})),
            "messages[0].content[0].thinking",
        ),
        (said(call), "messages"),
        (json!({"system": 1}), "system"),
        (
            json!({"system": [{"type": "text", "text": "a"}, {"type": "image"}]}),
            "system[1]",
        ),
        (json!({"tools": [1]}), "tools[0]"),
        (json!({"tools": [{}]}), "tools[0].name"),
        (
            json!({"tools": [{"name": "f", "input_schema": 1}]}),
            "tools[0].input_schema",
        ),
        (
            json!({"tools": [{"name": "f", "description": 1}]}),
            "tools[0].description",
        ),
        (json!({"tool_choice": "auto"}), "tool_choice"),
        (json!({"tool_choice": {}}), "tool_choice.type"),
        (json!({"tool_choice": {"type": "most"}}), "tool_choice.type"),
        (json!({"tool_choice": {"type": "any"}}), "tool_choice"),
        (json!({"tool_choice": {"type": "tool"}}), "tool_choice.name"),
        (
            json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}}),
            "tool_choice.disable_parallel_tool_use",
        ),
        (json!({"stop_sequences": [""]}), "stop_sequences[0]"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"thinking": true}), "thinking"),
        (
            json!({"output_config": {"effort": 1}}),
            "output_config.effort",
        ),
    ] {
        let refusal = asked(&body(more)).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some(field), "{}", refusal.message);
        assert_eq!(refusal.status, 400);
        assert!(refusal.message.contains(field), "{}", refusal.message);
    }
    assert!(read(b"", false).unwrap_err().message.contains("no JSON"));
}

#[test]
fn what_is_counted_is_what_would_be_asked() {
    let body = body(
        json!({"system": "Be brief.", "tools": [{"name": "ls"}, {"type": "web"}],
        "thinking": {"type": "disabled"}, "stream": true, "stop_sequences": ["x"]}),
    );
    let json = body.to_string();
    let (model, counted, notes) = count_tokens::read(json.as_bytes(), true).unwrap();
    assert_eq!(model.as_deref(), Some("m"));
    assert_eq!(counted, conversation(&body));
    assert_eq!(notes.withheld_tools, ["web"]);
    let refusal = count_tokens::read(b"{\"messages\": [], \"model\": \"m\"}", false).unwrap_err();
    assert_eq!(refusal.field.as_deref(), Some("messages"));
    assert_eq!(count_tokens::body(7), json!({"input_tokens": 7}));
}
