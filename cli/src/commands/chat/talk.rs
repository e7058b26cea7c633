//! The conversation: what was said, what was asked and has no answer, and the prompt that all of it
//! becomes. It must not know how an answer is made or shown.

use engine::text::{Chat, Message, Style};
use engine::{Blueprint, EngineError, Prompter, chat_template_of};

use crate::args::ConversationArgs;
use crate::failure::{Failure, Usage};
use crate::output::Console;
use crate::prompt;

/// The name that templates ask for whether to think.
const THINKING: &str = "enable_thinking";

/// A conversation under way.
#[derive(Debug)]
pub struct Talk {
    pub chat: Chat,
    template: Option<String>,
    template_kwargs: Option<String>,
    /// What `/think` or `/nothink` asked for.
    thinking: Option<bool>,
    /// Before the turn under way.
    before: Option<Chat>,
    /// The message of that turn, and the last one whose turn came to nothing.
    asked: Option<String>,
    unanswered: Option<String>,
    /// Answers that were asked for again: each is drawn with another seed.
    pub retries: u64,
}

/// What the model is given.
#[derive(Debug)]
pub struct Prompt {
    pub ids: Vec<u32>,
    /// How the answer is to be read.
    pub style: Style,
}

impl Talk {
    /// Tries the template: what is wrong with it should not take gigabytes to find out.
    pub fn begin(
        args: &ConversationArgs,
        prompter: &Prompter<'_>,
        console: &Console,
    ) -> Result<Self, Failure> {
        let mut talk = Self {
            chat: Chat::new([]),
            template: args.template.clone(),
            template_kwargs: args.template_kwargs.clone(),
            thinking: None,
            before: None,
            asked: None,
            unanswered: None,
            retries: 0,
        };
        if let Some(text) = &args.system {
            talk.chat.set_system(text);
        }
        let mut chat = talk.given()?;
        chat.push(Message::new("user", "Hi"));
        let rendered = prompter.render(&chat, args.template.as_deref())?;
        prompt::tell(&rendered, args.system.as_deref(), console);
        Ok(talk)
    }

    /// The conversation, with what else the template is given.
    fn given(&self) -> Result<Chat, EngineError> {
        let mut chat = self.chat.clone();
        if let Some(json) = &self.template_kwargs {
            chat.add_arguments(json.as_bytes())?;
        }
        // Of two arguments of one name, the later one counts.
        if let Some(thinking) = self.thinking {
            chat.add_arguments(format!("{{\"{THINKING}\": {thinking}}}").as_bytes())?;
        }
        Ok(chat)
    }

    pub fn prompt(&self, prompter: &Prompter<'_>) -> Result<Prompt, Failure> {
        let rendered = prompter.render(&self.given()?, self.template.as_deref())?;
        // The template writes the special tokens itself.
        let ids = match prompter.encode(&rendered.text, false) {
            Err(EngineError::TextTooLong { context, .. }) => {
                let bytes = rendered.text.len();
                return Err(Usage::ConversationBytes { bytes, context }.into());
            }
            ids => ids?,
        };
        Ok(Prompt {
            ids,
            // Of thoughts alone: calls are shown as they are written.
            style: Style::of("", &rendered.text, false),
        })
    }

    /// A turn begins with this message; without one, with the last that there was.
    pub fn ask(&mut self, message: Option<String>) -> Result<(), Usage> {
        let before = self.chat.clone();
        self.asked = message.or_else(|| self.unanswered.take());
        match (&self.asked, self.chat.last_role().as_deref()) {
            (Some(message), _) => self.chat.push(Message::new("user", message)),
            (None, Some("assistant")) => {
                self.chat.drop_last();
                self.retries += 1;
            }
            (None, last) if self.chat.is_empty() || last == Some("system") => {
                return Err(Usage::NothingToRetry);
            }
            // A conversation that was loaded may end so.
            (None, _) => {}
        }
        self.before = Some(before);
        Ok(())
    }

    /// The turn ends with this answer.
    pub fn answered(&mut self, text: String) {
        self.chat.push(Message::new("assistant", text));
        (self.before, self.asked, self.unanswered) = (None, None, None);
    }

    /// The turn comes to nothing: all is as before it, and its message is kept.
    pub fn take_back(&mut self) {
        if let Some(before) = self.before.take() {
            self.chat = before;
        }
        if let Some(message) = self.asked.take() {
            self.unanswered = Some(message);
        }
    }

    /// Goes on with another conversation.
    pub fn load(&mut self, chat: Chat) {
        (self.chat, self.unanswered) = (chat, None);
    }

    /// Whether to think, from now on. Whether the template asks for it.
    pub fn think(&mut self, thinking: bool, blueprint: &Blueprint) -> Result<bool, EngineError> {
        self.thinking = Some(thinking);
        let chat = self.given()?;
        let asked = self.template.as_deref();
        let (_, template) = chat_template_of(&blueprint.checkpoint, asked, chat.has_tools())?;
        Ok(!template.never_names(&chat)?.contains(&THINKING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk() -> Talk {
        Talk {
            chat: Chat::new([]),
            template: None,
            template_kwargs: None,
            thinking: None,
            before: None,
            asked: None,
            unanswered: None,
            retries: 0,
        }
    }

    fn said(talk: &Talk) -> String {
        let json = talk.chat.to_json().unwrap();
        let messages: Vec<Message> = serde_json::from_str(&json).unwrap();
        let short = |message: &Message| format!("{}{}", &message.role[..1], message.content);
        messages.iter().map(short).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_turn_is_answered_or_taken_back_and_asked_again() {
        let mut talk = talk();
        assert_eq!(talk.ask(None), Err(Usage::NothingToRetry));
        talk.chat.set_system("s");
        assert_eq!(talk.ask(None), Err(Usage::NothingToRetry));
        talk.ask(Some("1".into())).unwrap();
        talk.answered("a".into());
        // Again: the answer goes, and comes back where there is no other.
        talk.ask(None).unwrap();
        assert_eq!((said(&talk).as_str(), talk.retries), ("ss u1", 1));
        talk.take_back();
        assert_eq!(said(&talk), "ss u1 aa");
        // A message whose turn came to nothing is asked by a retry, even in a new conversation.
        talk.ask(Some("2".into())).unwrap();
        talk.take_back();
        assert_eq!(said(&talk), "ss u1 aa");
        talk.chat.clear();
        for _ in 0..2 {
            talk.ask(None).unwrap();
            assert_eq!((said(&talk).as_str(), talk.retries), ("ss u2", 1));
            talk.take_back();
        }
        talk.ask(None).unwrap();
        talk.answered("b".into());
        assert_eq!(said(&talk), "ss u2 ab");
        talk.ask(None).unwrap();
        assert_eq!((said(&talk).as_str(), talk.retries), ("ss u2", 2));
        talk.answered("c".into());
        // One that was loaded may end with a message.
        let loaded = Chat::new([Message::new("user", "3")]);
        talk.load(loaded);
        talk.ask(None).unwrap();
        assert_eq!((said(&talk).as_str(), talk.retries), ("u3", 2));
    }
}
