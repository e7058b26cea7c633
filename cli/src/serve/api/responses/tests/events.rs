use engine::text::{Logprob, Logprobs};
use serde_json::{Value, json};

use crate::serve::api::events::{Event, dump};
use crate::serve::api::refuse;
use crate::serve::api::responses::{Answer, read};
use crate::serve::api::usage::tests::{PEAK_GBPS, account, engine_of_account};
use crate::serve::ask::{Finish, Likely, Piece, Refusal, RefusalKind};

fn answer(more: &Value) -> Answer {
    let mut body = json!({"model": "m", "input": "Hi"});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let (_, shape, _) = read(body.to_string().as_bytes(), true).unwrap();
    Answer::new(shape, "resp_7", 1_700_000_000, PEAK_GBPS)
}

fn call(index: usize, name: &str) -> Piece {
    Piece::Call {
        index,
        id: format!("call_{index}"),
        name: name.to_owned(),
    }
}

fn arguments(index: usize, json: &str) -> Piece {
    Piece::Arguments {
        index,
        json: json.to_owned(),
    }
}

fn reasoning(text: &str) -> Piece {
    Piece::Reasoning(text.to_owned())
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

/// All events, each as what matters in it: what is said of the response is told at the end.
fn told(answer: &mut Answer, pieces: Vec<Piece>) -> Vec<Event> {
    let mut events = Vec::new();
    for piece in pieces {
        answer.piece(piece, &mut events);
    }
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event.data["sequence_number"], at);
        assert_eq!(event.data["type"], event.name.unwrap());
    }
    dump("responses", &events, &answer.clone().whole());
    events
}

/// An event without its number and without the response.
fn brief(event: &Event) -> Value {
    let mut data = event.data.clone();
    let fields = data.as_object_mut().unwrap();
    fields.shift_remove("sequence_number");
    if let Some(response) = fields.shift_remove("response") {
        fields.insert("status".to_owned(), response["status"].clone());
    }
    data
}

#[test]
fn an_answer_with_everything_in_it() {
    let mut answer = answer(&json!({}));
    let pieces = vec![
        Piece::Prompt { read: 64, of: 100 },
        Piece::Prompt { read: 100, of: 100 },
        reasoning("Hm"),
        reasoning("."),
        text("He"),
        text(""),
        text("llo"),
        call(0, "ls"),
        arguments(0, "{\"a\":"),
        arguments(0, "1}"),
        call(1, "pwd"),
        Piece::End(Finish::Calls, account()),
    ];
    let events = told(&mut answer, pieces);
    let part = |text: &str| json!({"type": "reasoning_text", "text": text});
    let said = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let thought = |status: &str, content: Value| {
        json!({"id": "rs_7_0", "type": "reasoning", "status": status, "summary": [],
            "content": content})
    };
    let message = |status: &str, content: Value| {
        json!({"id": "msg_7_1", "type": "message", "status": status, "role": "assistant",
            "content": content})
    };
    let called = |at: usize, name: &str, status: &str, arguments: &str| {
        json!({"id": format!("fc_7_{}", at + 2), "type": "function_call", "status": status,
            "call_id": format!("call_{at}"), "name": name, "arguments": arguments})
    };
    let done = [
        thought("completed", json!([part("Hm.")])),
        message("completed", json!([said("Hello")])),
        called(0, "ls", "completed", "{\"a\":1}"),
        called(1, "pwd", "completed", "{}"),
    ];
    let wanted = json!([
        {"type": "response.created", "status": "in_progress"},
        {"type": "response.in_progress", "status": "in_progress"},
        {"type": "response.in_progress", "status": "in_progress",
         "engine": {"prompt": {"read": 64, "of": 100}}},
        {"type": "response.output_item.added", "output_index": 0,
         "item": thought("in_progress", json!([]))},
        {"type": "response.content_part.added", "item_id": "rs_7_0", "output_index": 0,
         "content_index": 0, "part": part("")},
        {"type": "response.reasoning_text.delta", "item_id": "rs_7_0", "output_index": 0,
         "content_index": 0, "delta": "Hm"},
        {"type": "response.reasoning_text.delta", "item_id": "rs_7_0", "output_index": 0,
         "content_index": 0, "delta": "."},
        {"type": "response.reasoning_text.done", "item_id": "rs_7_0", "output_index": 0,
         "content_index": 0, "text": "Hm."},
        {"type": "response.content_part.done", "item_id": "rs_7_0", "output_index": 0,
         "content_index": 0, "part": part("Hm.")},
        {"type": "response.output_item.done", "output_index": 0, "item": done[0]},
        {"type": "response.output_item.added", "output_index": 1,
         "item": message("in_progress", json!([]))},
        {"type": "response.content_part.added", "item_id": "msg_7_1", "output_index": 1,
         "content_index": 0, "part": said("")},
        {"type": "response.output_text.delta", "item_id": "msg_7_1", "output_index": 1,
         "content_index": 0, "delta": "He", "logprobs": []},
        {"type": "response.output_text.delta", "item_id": "msg_7_1", "output_index": 1,
         "content_index": 0, "delta": "llo", "logprobs": []},
        {"type": "response.output_text.done", "item_id": "msg_7_1", "output_index": 1,
         "content_index": 0, "text": "Hello", "logprobs": []},
        {"type": "response.content_part.done", "item_id": "msg_7_1", "output_index": 1,
         "content_index": 0, "part": said("Hello")},
        {"type": "response.output_item.done", "output_index": 1, "item": done[1]},
        {"type": "response.output_item.added", "output_index": 2,
         "item": called(0, "ls", "in_progress", "")},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_7_2", "output_index": 2,
         "delta": "{\"a\":"},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_7_2", "output_index": 2,
         "delta": "1}"},
        {"type": "response.function_call_arguments.done", "item_id": "fc_7_2", "output_index": 2,
         "name": "ls", "arguments": "{\"a\":1}"},
        {"type": "response.output_item.done", "output_index": 2, "item": done[2]},
        {"type": "response.output_item.added", "output_index": 3,
         "item": called(1, "pwd", "in_progress", "")},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_7_3", "output_index": 3,
         "delta": "{}"},
        {"type": "response.function_call_arguments.done", "item_id": "fc_7_3", "output_index": 3,
         "name": "pwd", "arguments": "{}"},
        {"type": "response.output_item.done", "output_index": 3, "item": done[3]},
        {"type": "response.completed", "status": "completed"},
    ]);
    assert_eq!(Value::from_iter(events.iter().map(brief)), wanted);
    let whole = answer.whole();
    assert_eq!(events.last().unwrap().data["response"], whole);
    assert_eq!(whole["output"], json!(done));
}

#[test]
fn the_response_repeats_what_was_asked() {
    let tool = json!({"type": "function", "name": "ls", "description": "d",
        "parameters": {"type": "object", "properties": {}}});
    let mut answer = answer(&json!({"instructions": "Be brief.", "tools": [tool],
        "tool_choice": "required", "parallel_tool_calls": false, "temperature": 0.5, "top_p": 0.25,
        "max_output_tokens": 9, "metadata": {"a": "b"}, "prompt_cache_key": "k", "user": "u",
        "reasoning": {"effort": "low", "summary": "auto"}, "store": true, "top_logprobs": 2,
        "truncation": "auto"}));
    told(
        &mut answer,
        vec![text("x"), Piece::End(Finish::Done, account())],
    );
    let mut tool = tool;
    tool["strict"] = json!(false);
    let mut whole = answer.whole();
    whole["output"] = json!([]);
    let wanted = json!({
        "id": "resp_7", "object": "response", "created_at": 1_700_000_000, "status": "completed",
        "background": false, "error": null, "incomplete_details": null, "model": "m", "output": [],
        "previous_response_id": null, "text": {"format": {"type": "text"}},
        "truncation": "disabled", "metadata": {"a": "b"}, "prompt_cache_key": "k", "user": "u",
        "instructions": "Be brief.", "tools": [tool], "tool_choice": "required",
        "parallel_tool_calls": false, "reasoning": {"effort": "low", "summary": null},
        "temperature": 0.5, "top_p": 0.25, "max_output_tokens": 9, "top_logprobs": 2,
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
            "output_tokens": 11, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 111, "engine": engine_of_account(),
        },
    });
    assert_eq!(whole, wanted);
}

#[test]
fn an_answer_that_is_cut_off_says_so() {
    for finish in [Finish::Length, Finish::ContextFull] {
        let mut answer = answer(&json!({}));
        let pieces = vec![
            call(0, "ls"),
            arguments(0, "{\"a"),
            Piece::End(finish, account()),
        ];
        let events = told(&mut answer, pieces);
        let last = &events[events.len() - 1];
        assert_eq!(last.name, Some("response.incomplete"));
        let response = &last.data["response"];
        assert_eq!(response["status"], "incomplete");
        assert_eq!(
            response["incomplete_details"],
            json!({"reason": "max_output_tokens"})
        );
        let item = &events[events.len() - 2].data["item"];
        assert_eq!(
            (&item["status"], &item["arguments"]),
            (&json!("incomplete"), &json!("{\"a"))
        );
        assert_eq!(response["output"], json!([item]));
    }
}

#[test]
fn an_answer_of_nothing_is_completed() {
    let mut answer = answer(&json!({}));
    let events = told(&mut answer, vec![Piece::End(Finish::Stopped(0), account())]);
    let names: Vec<_> = events.iter().filter_map(|event| event.name).collect();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.completed"
        ]
    );
    assert_eq!(answer.whole()["output"], json!([]));
}

#[test]
fn a_failure_keeps_what_there_is() {
    let failed = |kind, pieces: Vec<Piece>| {
        let mut answer = answer(&json!({}));
        let mut events = Vec::new();
        for piece in pieces {
            answer.piece(piece, &mut events);
        }
        let message = "m".to_owned();
        answer.fail(
            &Refusal {
                status: 500,
                kind,
                message,
                field: None,
            },
            &mut events,
        );
        let count = events.len();
        answer.piece(text("late"), &mut events);
        answer.fail(&refuse::too_long(2, 1, "input"), &mut events);
        assert_eq!(events.len(), count, "nothing comes after the end");
        (events, answer.whole())
    };
    let (events, whole) = failed(RefusalKind::Failed, vec![text("He")]);
    dump("responses", &events, &whole);
    let last = &events[events.len() - 1];
    assert_eq!(last.name, Some("response.failed"));
    assert_eq!(last.data["response"], whole);
    assert_eq!(whole["status"], "failed");
    assert_eq!(
        whole["error"],
        json!({"code": "server_error", "message": "m"})
    );
    assert_eq!(whole["output"][0]["status"], "incomplete");
    assert_eq!(whole["output"][0]["content"][0]["text"], "He");
    for (kind, code) in [
        (
            RefusalKind::ContextLengthExceeded,
            "context_length_exceeded",
        ),
        (RefusalKind::Busy, "rate_limit_exceeded"),
        (RefusalKind::Invalid, "invalid_prompt"),
    ] {
        let (events, whole) = failed(kind, Vec::new());
        assert_eq!(events.len(), 3);
        assert_eq!(whole["error"]["code"], code);
    }
}

#[test]
fn likelihoods_go_with_the_text_that_came_of_them() {
    let likely = |token: u32| {
        let logprob = Logprob {
            token,
            logprob: -0.5,
        };
        let logprobs = Logprobs {
            chosen: logprob,
            top: vec![logprob],
        };
        let bytes = vec![b'a' + token as u8];
        Piece::Likely(vec![Likely {
            logprobs,
            bytes: bytes.clone(),
            top_bytes: vec![bytes],
        }])
    };
    let tokens = |list: &Value| -> String {
        let tokens = list.as_array().unwrap().iter();
        tokens.filter_map(|entry| entry["token"].as_str()).collect()
    };
    let mut answer = answer(&json!({"top_logprobs": 1}));
    let pieces = vec![
        likely(0),
        reasoning("r"),
        likely(1),
        text("b"),
        likely(2),
        likely(3),
        text("cd"),
        likely(4),
        Piece::End(Finish::Done, account()),
    ];
    let events = told(&mut answer, pieces);
    let of = |name: &str| -> Vec<String> {
        let events = events.iter().filter(|event| event.name == Some(name));
        events
            .map(|event| tokens(&event.data["logprobs"]))
            .collect()
    };
    assert_eq!(of("response.output_text.delta"), ["b", "cd"]);
    assert_eq!(of("response.output_text.done"), ["bcde"]);
    let whole = answer.whole();
    assert_eq!(
        tokens(&whole["output"][1]["content"][0]["logprobs"]),
        "bcde"
    );
    // It was not asked for.
    let mut answer = self::answer(&json!({}));
    told(
        &mut answer,
        vec![likely(0), text("a"), Piece::End(Finish::Done, account())],
    );
    assert_eq!(
        answer.whole()["output"][0]["content"][0]["logprobs"],
        json!([])
    );
}

#[test]
fn reasoning_is_sealed_for_clients_that_ask() {
    let asks = json!({"include": ["reasoning.encrypted_content"]});
    let mut answer = answer(&asks);
    told(
        &mut answer,
        vec![
            reasoning("Hm"),
            text("x"),
            Piece::End(Finish::Done, account()),
        ],
    );
    let item = answer.whole()["output"][0].clone();
    assert_eq!(item["encrypted_content"], "engine:reasoning:1:Hm");
    // It comes back without its content, and the template has it again.
    let back = json!({"type": "reasoning", "summary": [],
        "encrypted_content": item["encrypted_content"]});
    let body = json!({"input": [back, {"role": "assistant", "content": "x"}]});
    let (ask, _, _) = read(body.to_string().as_bytes(), true).unwrap();
    let crate::serve::ask::Input::Chat(conversation) = ask.input else {
        panic!()
    };
    assert_eq!(conversation.messages[0]["reasoning_content"], "Hm");
}

#[test]
fn arguments_of_no_call_that_is_open_are_harmless() {
    let mut answer = answer(&json!({}));
    let pieces = vec![
        arguments(3, "{}"),
        text("x"),
        arguments(0, "{}"),
        Piece::End(Finish::Done, account()),
    ];
    told(&mut answer, pieces);
    assert_eq!(answer.whole()["output"].as_array().unwrap().len(), 1);
}

#[test]
fn a_long_prompt_is_not_told_of_at_every_chunk() {
    let mut answer = answer(&json!({}));
    let chunks = (0..=1000).map(|read| Piece::Prompt {
        read: read * 26,
        of: 26_000,
    });
    let events = told(&mut answer, chunks.collect());
    assert_eq!(events.len(), 2 + 20);
    assert_eq!(events[3].data["engine"]["prompt"]["read"], 1300);
}
