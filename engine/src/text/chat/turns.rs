//! A conversation that grows: turns are added and taken back, and it is written as it was read. It
//! must not know who says what next.

use minijinja::Value;

use super::input::{Chat, Message, wrong};
use crate::text::{TextError, python};

const SYSTEM: &str = "system";

impl Chat {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Who said the last one; `None` also where that is not told.
    pub fn last_role(&self) -> Option<String> {
        role(self.messages.last()?)
    }

    /// What the system message says, where it is a text.
    pub fn system(&self) -> Option<String> {
        let first = self.messages.first().filter(|first| is_system(first))?;
        let content = first.get_attr("content").ok()?;
        content.as_str().map(str::to_owned)
    }

    pub fn push(&mut self, message: Message) {
        self.messages.push(value(message));
    }

    /// Takes the last message back.
    pub fn drop_last(&mut self) {
        self.messages.pop();
    }

    /// Puts it in the place of the system message, or before all others.
    pub fn set_system(&mut self, text: &str) {
        let message = value(Message::new(SYSTEM, text));
        match self.messages.first_mut() {
            Some(first) if is_system(first) => *first = message,
            _ => self.messages.insert(0, message),
        }
    }

    /// Forgets all messages but that of the system.
    pub fn clear(&mut self) {
        let kept = self.messages.first().is_some_and(is_system);
        self.messages.truncate(usize::from(kept));
    }

    /// As [`Chat::from_json`] reads it: the list of messages, or an object where there is more.
    pub fn to_json(&self) -> Result<String, TextError> {
        let messages = Value::from(self.messages.clone());
        let named = |name: &'static str, value: &Option<Value>| value.clone().map(|it| (name, it));
        let more = [
            named("tools", &self.tools),
            named("documents", &self.documents),
        ];
        let more: Vec<_> = more.into_iter().flatten().collect();
        let whole = match more.is_empty() {
            true => messages,
            false => Value::from_pairs([("messages", messages)].into_iter().chain(more)),
        };
        python::indented(&whole).map_err(|error| wrong("messages", error.to_string()))
    }
}

fn value(message: Message) -> Value {
    Value::from_pairs([("role", message.role), ("content", message.content)])
}

fn role(message: &Value) -> Option<String> {
    let role = message.get_attr("role").ok()?;
    role.as_str().map(str::to_owned)
}

fn is_system(message: &Value) -> bool {
    role(message).as_deref() == Some(SYSTEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_and_go_behind_the_system_message() {
        let mut chat = Chat::new([]);
        assert_eq!(
            (chat.len(), chat.system(), chat.last_role()),
            (0, None, None)
        );
        chat.push(Message::new("user", "Hi"));
        chat.set_system("Be brief.");
        chat.set_system("Be kind.");
        assert_eq!(chat.system().as_deref(), Some("Be kind."));
        assert_eq!((chat.len(), chat.last_role().as_deref()), (2, Some("user")));
        chat.push(Message::new("assistant", "Hello"));
        chat.drop_last();
        assert_eq!(chat.last_role().as_deref(), Some("user"));
        chat.clear();
        assert_eq!(
            (chat.len(), chat.last_role().as_deref()),
            (1, Some("system"))
        );
    }

    #[test]
    fn what_was_read_is_written_so_that_it_reads_the_same() {
        for json in [
            r#"[{"role":"user","content":"a \"b\" \n ü","n":1.0,"z":null,"a":[2,{"y":1,"x":true}]}]"#,
            r#"{"messages":[{"role":"user","content":"x"}],"tools":[{"name":"f","b":1,"a":2}]}"#,
            r#"{"messages":[{"role":"assistant","reasoning":"r","content":""}],"documents":[{}]}"#,
        ] {
            let chat = Chat::from_json(json.as_bytes()).unwrap();
            let written = chat.to_json().unwrap();
            let again = Chat::from_json(written.as_bytes()).unwrap();
            assert_eq!(format!("{chat:?}"), format!("{again:?}"), "{written}");
            assert_eq!(written, again.to_json().unwrap());
        }
    }
}
