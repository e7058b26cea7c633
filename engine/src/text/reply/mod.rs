//! An answer's text, as it comes, into what the model thought, what it says, and the tools that it
//! calls. It looks at characters alone: it must not know tokens, HTTP, models or checkpoints.
//!
//! | format | found in a template by | calls | ends |
//! |---|---|---|---|
//! | Hermes, Qwen | `<tool_call>`, or nothing | `<tool_call>{"name": .., "arguments": {..}}</tool_call>` | with the tag |
//! | Qwen3-Coder | `<function=` and `<parameter=` | `<tool_call><function=NAME><parameter=KEY>text</parameter></function></tool_call>`, the outer tags may be missing | with the tag |
//! | Llama 3 | `<\|python_tag\|>`, or `<\|start_header_id\|>` and `"parameters"` | `{"name": .., "parameters": {..}}` at the begin, with the tag or without; `;` between several | with the object |
//! | Mistral | `[TOOL_CALLS]` | `[TOOL_CALLS][{"name": .., "arguments": {..}}, ..]`, `[TOOL_CALLS]NAME[ARGS]{..}` | with the list, the object |
//! | Granite 3, Phi-4-mini | `<\|tool_call\|>` | `<\|tool_call\|>[{"name": .., "arguments": {..}}, ..]` | with the list |
//! | gpt-oss | `<\|channel\|>` and `<\|message\|>` | `<\|channel\|>commentary to=functions.NAME <\|constrain\|>json<\|message\|>{..}<\|call\|>` | with the message |
//!
//! What stands after a tag decides how it is read: an object or a list of objects in any of them, a
//! function's tags in the first two, a name in Mistral's. Thoughts are what stands between think
//! tags at the begin of an answer (`<think>`, and others that the template has), or in gpt-oss's
//! channel `analysis`. Calls inside thoughts are thoughts. Blanks beside a tag belong to the tag, but
//! for gpt-oss's, where they are text.
//!
//! **A call is told once its whole text is valid**, its arguments in one piece. An answer may be cut
//! off after any token, and its JSON may go wrong at the last brace: who has told half of the
//! arguments by then has told a call that no one can run, and cannot take it back to say the same as
//! text. So the text of a call waits. What can no longer be a call goes out as text, exactly as it
//! was written, at the first character that does not fit; reading goes on with that character. At
//! the end of the answer, a call that lacks only its closing tag counts: a token that ends an answer
//! is often that tag, and is not printed. Fields of a call that mean nothing here (`id`, `type`) are
//! not told; an object with any other field is no call.
//!
//! The special tokens of a format are hidden by a detokenizer that was not told to show them:
//! [`Style::shows`] names them.

mod body;
mod call;
mod function;
mod harmony;
mod json;
pub mod lark;
mod style;
mod tags;
mod types;
mod watch;

#[cfg(test)]
mod tests;

pub use lark::{TextWish, ToolWish, Wish};
pub use style::Style;

use call::Call;
use harmony::Harmony;
use style::Format;
use tags::Tags;

/// A piece of an answer. Pieces of one kind that follow each other are one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Reasoning(String),
    Text(String),
    /// A tool is called; calls are counted from 0.
    Call {
        index: usize,
        name: String,
    },
    /// Its arguments, a JSON object.
    Arguments {
        index: usize,
        json: String,
    },
}

/// Reads one answer. See the module.
#[derive(Debug)]
pub struct Reply {
    reader: Reader,
    calls: usize,
}

#[derive(Debug)]
enum Reader {
    Tags(Box<Tags>),
    Harmony(Box<Harmony>),
}

impl Reply {
    pub fn new(style: Style) -> Self {
        let reader = match style.format {
            Format::Harmony(channel) => {
                Reader::Harmony(Box::new(Harmony::new(channel, style.has_tools)))
            }
            Format::Thoughts | Format::Tagged(_) => Reader::Tags(Box::new(Tags::new(style))),
        };
        Self { reader, calls: 0 }
    }

    /// Takes the next piece of the answer, and adds what is certain now. How the answer is cut into
    /// pieces changes how `said` is cut, and nothing else.
    pub fn push(&mut self, text: &str, said: &mut Vec<Said>) {
        let calls = &mut self.calls;
        let mut out = Out { said, calls };
        for c in text.chars() {
            match &mut self.reader {
                Reader::Tags(tags) => tags.step(c, &mut out),
                Reader::Harmony(harmony) => harmony.step(c, &mut out),
            }
        }
    }

    /// Adds what was held back, once no more text will come.
    pub fn finish(&mut self, said: &mut Vec<Said>) {
        let calls = &mut self.calls;
        let mut out = Out { said, calls };
        match &mut self.reader {
            Reader::Tags(tags) => tags.finish(&mut out),
            Reader::Harmony(harmony) => harmony.finish(&mut out),
        }
    }
}

/// Where a reader says what it found.
struct Out<'a> {
    said: &'a mut Vec<Said>,
    calls: &'a mut usize,
}

impl Out<'_> {
    /// Adds a piece, to the one before if it is of the same kind.
    fn say(&mut self, piece: Said) {
        match (self.said.last_mut(), piece) {
            (Some(Said::Text(last)), Said::Text(text))
            | (Some(Said::Reasoning(last)), Said::Reasoning(text)) => last.push_str(&text),
            (_, Said::Text(text) | Said::Reasoning(text)) if text.is_empty() => {}
            (_, piece) => self.said.push(piece),
        }
    }

    fn call(&mut self, call: Call) {
        let index = *self.calls;
        *self.calls += 1;
        let Call { name, json } = call;
        self.say(Said::Call { index, name });
        self.say(Said::Arguments { index, json });
    }
}
