use serde_json::{Value, json};

use crate::serve::api::events::{Event, dump};
use crate::serve::api::messages::{Answer, read};
use crate::serve::api::refuse;
use crate::serve::api::usage::tests::{PEAK_GBPS, account, engine_of_account};
use crate::serve::ask::{Finish, Piece};

fn answer() -> Answer {
    let body = json!({"model": "m", "max_tokens": 9, "stop_sequences": ["x", "y"],
        "messages": [{"role": "user", "content": "Hi"}]});
    let (_, shape, _) = read(body.to_string().as_bytes(), true).unwrap();
    Answer::new(shape, "msg_7", PEAK_GBPS)
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

fn told(answer: &mut Answer, pieces: Vec<Piece>) -> Vec<Event> {
    let mut events = Vec::new();
    for piece in pieces {
        answer.piece(piece, &mut events);
    }
    for event in &events {
        assert_eq!(event.data["type"], event.name.unwrap());
    }
    dump("messages", &events, &answer.clone().whole());
    events
}

fn begun(input: usize, cached: usize) -> Value {
    json!({"type": "message_start", "message": {
        "id": "msg_7", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {
            "input_tokens": input, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached, "output_tokens": 0,
        },
    }})
}

fn usage() -> Value {
    json!({"input_tokens": 36, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 64,
        "output_tokens": 11, "engine": engine_of_account()})
}

#[test]
fn an_answer_with_everything_in_it() {
    let mut answer = answer();
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
    let ping =
        |read: usize| json!({"type": "ping", "engine": {"prompt": {"read": read, "of": 100}}});
    let start = |index: usize, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = |index: usize, kind: &str, name: &str, text: &str| {
        json!({"type": "content_block_delta", "index": index,
            "delta": {"type": kind, name: text}})
    };
    let stop = |index: usize| json!({"type": "content_block_stop", "index": index});
    let tool = |at: usize, name: &str, input: Value| json!({"type": "tool_use", "id": format!("call_{at}"), "name": name, "input": input});
    let wanted = json!([
        begun(36, 64),
        ping(64),
        ping(100),
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, "thinking_delta", "thinking", "Hm"),
        delta(0, "thinking_delta", "thinking", "."),
        delta(0, "signature_delta", "signature", "unsigned"),
        stop(0),
        start(1, json!({"type": "text", "text": ""})),
        delta(1, "text_delta", "text", "He"),
        delta(1, "text_delta", "text", "llo"),
        stop(1),
        start(2, tool(0, "ls", json!({}))),
        delta(2, "input_json_delta", "partial_json", "{\"a\":"),
        delta(2, "input_json_delta", "partial_json", "1}"),
        stop(2),
        start(3, tool(1, "pwd", json!({}))),
        stop(3),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
         "usage": usage()},
        {"type": "message_stop"},
    ]);
    let data: Vec<Value> = events.into_iter().map(|event| event.data).collect();
    assert_eq!(Value::from(data), wanted);
    let wanted = json!({
        "id": "msg_7", "type": "message", "role": "assistant", "model": "m", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "unsigned"},
            {"type": "text", "text": "Hello"},
            tool(0, "ls", json!({"a": 1})),
            tool(1, "pwd", json!({})),
        ],
        "stop_reason": "tool_use", "stop_sequence": null, "usage": usage(),
    });
    assert_eq!(answer.whole(), wanted);
}

#[test]
fn every_end_has_its_name() {
    for (finish, reason, sequence) in [
        (Finish::Done, "end_turn", json!(null)),
        (Finish::Stopped(1), "stop_sequence", json!("y")),
        (Finish::Stopped(9), "stop_sequence", json!(null)),
        (Finish::Length, "max_tokens", json!(null)),
        (
            Finish::ContextFull,
            "model_context_window_exceeded",
            json!(null),
        ),
        (Finish::Calls, "tool_use", json!(null)),
    ] {
        let mut answer = answer();
        let events = told(&mut answer, vec![text("a"), Piece::End(finish, account())]);
        let delta = &events[events.len() - 2].data["delta"];
        assert_eq!(
            delta,
            &json!({"stop_reason": reason, "stop_sequence": sequence})
        );
        let whole = answer.whole();
        assert_eq!(
            (&whole["stop_reason"], &whole["stop_sequence"]),
            (&json!(reason), &sequence)
        );
    }
}

#[test]
fn an_answer_of_nothing_begins_and_ends() {
    let mut answer = answer();
    let mut events = Vec::new();
    answer.start(&mut events);
    answer.start(&mut events);
    answer.piece(Piece::End(Finish::Done, account()), &mut events);
    answer.piece(text("late"), &mut events);
    let names: Vec<_> = events.iter().filter_map(|event| event.name).collect();
    assert_eq!(names, ["message_start", "message_delta", "message_stop"]);
    assert_eq!(events[0].data, begun(0, 0));
    assert_eq!(answer.whole()["content"], json!([]));
}

#[test]
fn a_prompt_that_is_new_has_nothing_cached() {
    let mut answer = answer();
    let pieces = vec![
        Piece::Prompt { read: 100, of: 100 },
        Piece::End(Finish::Done, account()),
    ];
    assert_eq!(told(&mut answer, pieces)[0].data, begun(100, 0));
}

#[test]
fn arguments_that_are_cut_off_are_not_lost() {
    let mut answer = answer();
    let pieces = vec![
        call(0, "ls"),
        arguments(0, "{\"a"),
        arguments(7, "x"),
        Piece::End(Finish::Length, account()),
    ];
    let events = told(&mut answer, pieces);
    assert_eq!(events[2].data["delta"]["partial_json"], "{\"a");
    let whole = answer.whole();
    assert_eq!(whole["content"], json!([{"type": "text", "text": "{\"a"}]));
    assert_eq!(whole["stop_reason"], "max_tokens");
}

#[test]
fn a_failure_is_an_event_and_the_last() {
    let mut answer = answer();
    let mut events = Vec::new();
    answer.piece(text("a"), &mut events);
    answer.fail(&refuse::too_long(9, 4, "messages"), &mut events);
    let count = events.len();
    answer.fail(&refuse::missing("x"), &mut events);
    answer.piece(Piece::End(Finish::Done, account()), &mut events);
    assert_eq!(events.len(), count, "nothing comes after the end");
    dump("messages", &events, &Value::Null);
    let last = &events[count - 1];
    assert_eq!(last.name, Some("error"));
    assert_eq!(last.data["error"]["type"], "invalid_request_error");
    let message = last.data["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("prompt is too long: 9 tokens > 4 maximum"),
        "{message}"
    );
}
