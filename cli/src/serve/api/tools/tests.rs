use super::*;

fn weather() -> Value {
    json!({"type": "function", "function": {"name": "weather", "parameters": {}}})
}

#[test]
fn both_forms_of_openai_give_the_same_and_keep_the_order_of_a_schema() {
    let schema = r#"{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"integer"}},"required":["z"]}"#;
    let of_chat = format!(
        r#"{{"function":{{"parameters":{schema},"strict":true,"name":"f","description":"d"}},"type":"function"}}"#
    );
    let of_responses = format!(
        r#"{{"strict":false,"parameters":{schema},"name":"f","description":"d","type":"function"}}"#
    );
    let wanted = format!(
        r#"{{"type":"function","function":{{"name":"f","description":"d","parameters":{schema}}}}}"#
    );
    for (given, is_strict) in [(of_chat, true), (of_responses, false)] {
        let mut notes = Notes::default();
        let tool: Value = serde_json::from_str(&given).unwrap();
        let mut tools = from_openai(&[tool], &mut notes).unwrap();
        let function = tools[0]["function"].as_object_mut().unwrap();
        assert_eq!(function.shift_remove("strict").is_some(), is_strict);
        assert_eq!(tools[0].to_string(), wanted);
        assert_eq!(notes.ignored, [] as [&str; 0]);
    }
}

#[test]
fn a_function_without_parameters_gets_none_by_name() {
    let given = json!({"type": "function", "name": "now", "description": null, "parameters": null});
    let tools = from_openai(&[given], &mut Notes::default()).unwrap();
    let parameters = json!({"type": "object", "properties": {}});
    let function = json!({"name": "now", "parameters": parameters});
    assert_eq!(tools, [json!({"type": "function", "function": function})]);
}

#[test]
fn other_kinds_are_kept_from_the_model() {
    let mut notes = Notes::default();
    let given = [
        json!({"type": "web_search"}),
        json!({"type": "custom", "name": "apply_patch"}),
        json!({"type": "web_search", "x": 1}),
    ];
    assert_eq!(from_openai(&given, &mut notes).unwrap(), [] as [Value; 0]);
    assert_eq!(notes.withheld_tools, ["web_search", "custom"]);
}

#[test]
fn a_wrong_tool_is_refused_by_its_field() {
    for (tool, field) in [
        (json!(3), "tools[0]"),
        (json!({"name": "f"}), "tools[0].type"),
        (json!({"type": "function"}), "tools[0].name"),
        (
            json!({"type": "function", "function": 1}),
            "tools[0].function",
        ),
        (
            json!({"type": "function", "function": {}}),
            "tools[0].function.name",
        ),
        (json!({"type": "function", "name": " "}), "tools[0].name"),
        (
            json!({"type": "function", "name": "f", "description": 1}),
            "tools[0].description",
        ),
        (
            json!({"type": "function", "function": {"name": "f", "parameters": []}}),
            "tools[0].function.parameters",
        ),
    ] {
        let refusal = from_openai(std::slice::from_ref(&tool), &mut Notes::default()).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some(field), "{tool}");
        assert!(refusal.message.contains(field), "{}", refusal.message);
    }
}

#[test]
fn a_choice_is_held_against_the_tools() {
    let tools = [weather()];
    let choice = |given: Value, tools: &[Value]| choice_from_openai(Some(&given), tools);
    assert_eq!(choice_from_openai(None, &tools), Ok(ToolChoice::Auto));
    assert_eq!(choice(json!("auto"), &[]), Ok(ToolChoice::Auto));
    assert_eq!(choice(json!("none"), &[]), Ok(ToolChoice::None));
    assert_eq!(choice(json!("required"), &tools), Ok(ToolChoice::Required));
    let named = Ok(ToolChoice::Named("weather".to_owned()));
    assert_eq!(
        choice(json!({"type": "function", "name": "weather"}), &tools),
        named
    );
    let nested = json!({"type": "function", "function": {"name": "weather"}});
    assert_eq!(choice(nested, &tools), named);
    for (given, words) in [
        (json!("required"), "no tool that can be called"),
        (json!("sometimes"), "`sometimes`"),
        (
            json!({"type": "function", "name": "weather"}),
            "none of the 0 tools",
        ),
        (json!({"type": "function"}), "is missing"),
        (json!({"type": "web_search"}), "`web_search`"),
        (json!(1), "a number"),
    ] {
        let refusal = choice(given, &[]).unwrap_err();
        assert!(refusal.message.contains(words), "{}", refusal.message);
        assert_eq!(refusal.status, 400);
    }
}

#[test]
fn arguments_become_an_object_in_their_order() {
    let read = |given: Value| arguments(Some(&given));
    let object = read(json!(r#" {"z": 1, "a": {"y": [null], "b": "\u00e4"}} "#));
    assert_eq!(object.to_string(), r#"{"z":1,"a":{"y":[null],"b":"ä"}}"#);
    for none in [json!(""), json!(" "), json!("null"), json!(null), json!({})] {
        assert_eq!(read(none), json!({}));
    }
}

#[test]
fn arguments_that_are_no_object_stay_a_text() {
    let deep = "[".repeat(9000);
    for text in ["{", " {\"a\": tr", "[1]", "3", deep.as_str()] {
        assert_eq!(arguments(Some(&json!(text))), json!(text));
    }
    assert_eq!(
        arguments(Some(&json!([1, {"a": null}]))),
        json!(r#"[1,{"a":null}]"#)
    );
}
