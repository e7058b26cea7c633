//! A text that cannot fit is refused by its length, for next to no memory; one that can is not.

mod support;

use engine::text::{Chat, Message};
use engine::{Blueprint, EngineError, ModelOptions, Source};
use support::Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// As `generate --chat` does it.
fn encode_chat(blueprint: &Blueprint, chat: &Chat) -> Result<Vec<u32>, EngineError> {
    let prompter = blueprint.prompter()?;
    let rendered = prompter.render(chat, None)?;
    prompter.encode(&rendered.text, false)
}

// One test: the counters are the process's.
#[test]
fn a_text_is_refused_before_it_is_tokenized() {
    let options = ModelOptions {
        memory_bytes: Some(1 << 30),
        ..ModelOptions::default()
    };
    let blueprint = Blueprint::new(&Source::Demo, options).unwrap();
    let prompter = blueprint.prompter().unwrap();
    let most = prompter.text_bytes_max();
    // As many times the longest token as there are positions.
    let longest = blueprint.tokenizer().unwrap().longest_bytes() as u64;
    assert_eq!(most, longest * blueprint.context as u64);
    // Were it tokenized, it would take over a hundred bytes for each of its own.
    let text = "a lot of it ".repeat(1 << 20);
    let (result, peak) = Counting::peak_of(|| blueprint.encode(&text));
    match result.unwrap_err() {
        EngineError::TextTooLong {
            text_bytes,
            most_bytes,
            ..
        } => {
            assert_eq!((text_bytes, most_bytes), (Some(text.len() as u64), most));
        }
        other => panic!("{other}"),
    }
    assert!(peak < 1 << 10, "{peak}");
    // A template may leave text out, so it is looked at afterwards.
    let chat = Chat::new([Message::new("user", text.as_str())]);
    let error = encode_chat(&blueprint, &chat).unwrap_err();
    assert!(matches!(error, EngineError::TextTooLong { .. }), "{error}");
    // The longest text there could be, and one byte more.
    let longest = "a".repeat(most as usize);
    assert!(blueprint.encode(&longest).is_ok());
    let error = blueprint.encode(&(longest + "a")).unwrap_err();
    assert!(matches!(error, EngineError::TextTooLong { .. }), "{error}");
}
