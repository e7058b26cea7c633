//! Chat templates give the text that transformers gives: over the templates of
//! `fixtures/chat`, whose expected texts its `make.py` wrote, or over those of the file that
//! `CHAT_CASES` names, written by the same script from other templates.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use engine::text::{Chat, ChatTemplate, TextError};
use serde_json::Value;

const CASES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/chat/cases.json"
);

fn render(template: &Value, special: &Value, given: &Value) -> Result<String, TextError> {
    let special = special.as_object().unwrap().iter();
    let special = special.map(|(name, token)| (name.clone(), token.as_str().unwrap().to_owned()));
    let template = ChatTemplate::new(template.as_str().unwrap().to_owned(), special.collect())?;
    let mut chat = Chat::from_json(given["chat"].as_str().unwrap().as_bytes())?;
    chat.add_arguments(given["arguments"].as_str().unwrap().as_bytes())?;
    template.render(&chat)
}

#[test]
fn templates_give_what_transformers_gives() {
    let file = std::env::var("CHAT_CASES").unwrap_or_else(|_| CASES.to_owned());
    let all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let cases = all["cases"].as_array().unwrap();
    assert!(cases.len() > 90, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let (name, chat) = (
            case["template"].as_str().unwrap(),
            case["chat"].as_str().unwrap(),
        );
        let got = render(
            &all["templates"][name],
            &all["special"],
            &all["chats"][chat],
        );
        let same = match case["text"].as_str() {
            Some(expected) => got.as_ref().is_ok_and(|text| text == expected),
            // By the template, or because of it: not by a limit, and not because of what was given.
            None => matches!(
                got,
                Err(TextError::Template { .. } | TextError::TemplateRefused { .. })
            ),
        };
        if !same {
            wrong.push(format!("{name}, {chat}:\n  {got:?}\n  expected {case}"));
        }
    }
    let (count, all) = (wrong.len(), cases.len());
    assert!(
        wrong.is_empty(),
        "{count} of {all} differ:\n{}",
        wrong.join("\n")
    );
}
