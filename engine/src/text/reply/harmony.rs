//! Answers in the channels of gpt-oss: messages with a header that says whom they are for. All of
//! the format hangs on special tokens: hidden, the whole answer is text. It must not know tags of
//! other formats.

use super::call::Call;
use super::json::{self, Object, Step};
use super::watch::{Seen, Watch, is_blank};
use super::{Out, Said};

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const CONSTRAIN: &str = "<|constrain|>";

/// All marks of the format.
pub(super) const MARKS: [&str; 7] = [
    START,
    CHANNEL,
    MESSAGE,
    CONSTRAIN,
    "<|end|>",
    "<|return|>",
    "<|call|>",
];
/// Where a message ends, and, from the fourth on, another begins.
const ENDS: [&str; 5] = ["<|end|>", "<|return|>", "<|call|>", START, CHANNEL];
const BEGINS: [&str; 2] = [START, CHANNEL];

const ROLE: &str = "assistant";
/// A longer header is none.
const HEADER_BYTES_MAX: usize = 256;

/// Where the prompt leaves the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Outside,
    /// After the role.
    Role,
    Reasoning,
    Text,
}

impl Channel {
    pub(super) fn of_prompt(prompt: &str) -> Self {
        let Some((_, open)) = prompt.rsplit_once(START) else {
            return Self::Outside;
        };
        if open == ROLE {
            return Self::Role;
        }
        let Some((header, body)) = open.split_once(MESSAGE) else {
            return Self::Outside;
        };
        let ended = ENDS.iter().any(|end| body.contains(end));
        match for_whom(header) {
            Some(For::Reasoning) if !ended => Self::Reasoning,
            Some(For::Text) if !ended => Self::Text,
            _ => Self::Outside,
        }
    }
}

#[derive(Debug)]
pub(super) struct Harmony {
    has_tools: bool,
    place: Place,
    watch: Watch,
}

#[derive(Debug)]
enum Place {
    Outside,
    /// The header with its role, and what of it is the answer's.
    Header {
        header: String,
        written: String,
    },
    Reasoning,
    Text,
    Call(Arguments),
}

/// Whom a header's message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum For {
    Reasoning,
    Text,
    Function(String),
}

/// A message that may be a call.
#[derive(Debug)]
struct Arguments {
    name: String,
    written: String,
    object: Object,
    begun: bool,
    end: String,
}

impl Harmony {
    pub(super) fn new(channel: Channel, has_tools: bool) -> Self {
        let place = match channel {
            Channel::Outside => Place::Outside,
            Channel::Role => header(ROLE, String::new()),
            Channel::Reasoning => Place::Reasoning,
            Channel::Text => Place::Text,
        };
        let watch = Watch::default();
        Self {
            has_tools,
            place,
            watch,
        }
    }

    pub(super) fn step(&mut self, c: char, out: &mut Out<'_>) {
        match &mut self.place {
            Place::Outside => self.outside(c, out),
            Place::Reasoning | Place::Text => self.message(c, out),
            Place::Header { header, written } => {
                header.push(c);
                match header.strip_suffix(MESSAGE) {
                    Some(whole) => {
                        let message = for_whom(whole);
                        written.push(c);
                        let written = std::mem::take(written);
                        self.begin(message, written, out);
                    }
                    None if may_be_header(header) => written.push(c),
                    None => self.give_up(c, out),
                }
            }
            Place::Call(call) => match call.step(c) {
                Step::More => {}
                Step::Done => {
                    let end = call.end.clone();
                    self.end_call(out);
                    self.after(&end);
                }
                Step::Fail => self.give_up(c, out),
            },
        }
    }

    pub(super) fn finish(&mut self, out: &mut Out<'_>) {
        let held = self.watch.take();
        match self.place {
            Place::Reasoning => out.say(Said::Reasoning(held)),
            Place::Call(_) => self.end_call(out),
            Place::Outside | Place::Text | Place::Header { .. } => {
                out.say(Said::Text(self.written()));
                out.say(Said::Text(held));
            }
        }
    }

    fn outside(&mut self, c: char, out: &mut Out<'_>) {
        match self.watch.step(c, &BEGINS, false) {
            Seen::Undecided => {}
            Seen::Text { text, again } => {
                out.say(Said::Text(text));
                again.chars().for_each(|c| self.outside(c, out));
            }
            Seen::Mark(_) => {
                let mark = self.watch.take();
                self.after(&mark);
            }
        }
    }

    fn message(&mut self, c: char, out: &mut Out<'_>) {
        match self.watch.step(c, &ENDS, false) {
            Seen::Undecided => {}
            Seen::Text { text, again } => {
                match self.place {
                    Place::Reasoning => out.say(Said::Reasoning(text)),
                    _ => out.say(Said::Text(text)),
                }
                again.chars().for_each(|c| self.message(c, out));
            }
            Seen::Mark(_) => {
                let mark = self.watch.take();
                self.after(&mark);
            }
        }
    }

    fn begin(&mut self, message: Option<For>, written: String, out: &mut Out<'_>) {
        self.place = match message {
            Some(For::Reasoning) => Place::Reasoning,
            Some(For::Text) => Place::Text,
            Some(For::Function(name)) if self.has_tools => Place::Call(Arguments {
                name,
                written,
                object: Object::default(),
                begun: false,
                end: String::new(),
            }),
            Some(For::Function(_)) | None => {
                out.say(Said::Text(written));
                Place::Outside
            }
        };
    }

    /// After a mark outside of a header: the next one begins, or nothing.
    fn after(&mut self, mark: &str) {
        self.place = match mark {
            START => header("", mark.to_owned()),
            CHANNEL => header(&format!("{ROLE}{CHANNEL}"), mark.to_owned()),
            _ => Place::Outside,
        };
    }

    /// What was written is text, and this character is read anew, with a mark that it may end.
    fn give_up(&mut self, c: char, out: &mut Out<'_>) {
        let mut written = self.written();
        let begun = written
            .rfind('<')
            .filter(|&at| !written[at..].contains('>'));
        let again = written.split_off(begun.unwrap_or(written.len()));
        out.say(Said::Text(written));
        self.place = Place::Outside;
        // Less than a mark: no header can begin and fail before the last character.
        again.chars().for_each(|c| self.outside(c, out));
        self.step(c, out);
    }

    fn end_call(&mut self, out: &mut Out<'_>) {
        let Place::Call(call) = std::mem::replace(&mut self.place, Place::Outside) else {
            return;
        };
        match json::is_object(call.object.text()) {
            true => out.call(Call {
                name: call.name,
                json: call.object.text().to_owned(),
            }),
            false => out.say(Said::Text(call.written)),
        }
    }

    fn written(&mut self) -> String {
        match &mut self.place {
            Place::Header { written, .. } => std::mem::take(written),
            Place::Call(call) => std::mem::take(&mut call.written),
            Place::Outside | Place::Reasoning | Place::Text => String::new(),
        }
    }
}

impl Arguments {
    fn step(&mut self, c: char) -> Step {
        let step = self.next(c);
        if step != Step::Fail {
            self.written.push(c);
        }
        step
    }

    fn next(&mut self, c: char) -> Step {
        if !self.object.is_whole() {
            if !self.begun && is_blank(c) {
                return Step::More;
            }
            self.begun = true;
            return match self.object.step(c) {
                Step::Done => Step::More,
                step => step,
            };
        }
        if self.end.is_empty() && is_blank(c) {
            return Step::More;
        }
        let end = format!("{}{c}", self.end);
        if !ENDS.iter().any(|mark| mark.starts_with(&end)) {
            return Step::Fail;
        }
        self.end = end;
        match ENDS.contains(&self.end.as_str()) {
            true => Step::Done,
            false => Step::More,
        }
    }
}

fn header(header: &str, written: String) -> Place {
    Place::Header {
        header: header.to_owned(),
        written,
    }
}

/// Whether this can become `assistant to=NAME<|channel|>NAME to=NAME <|constrain|>json<|message|>`.
fn may_be_header(header: &str) -> bool {
    let begins = |text: &str, with: &str| text.starts_with(with) || with.starts_with(text);
    let rest = header.strip_prefix(ROLE);
    let role = match rest {
        Some(rest) => begins(rest, CHANNEL) || begins(rest, " to="),
        None => ROLE.starts_with(header),
    };
    let last = header.rfind('<').map_or("", |at| &header[at..]);
    let mark = [CHANNEL, CONSTRAIN, MESSAGE]
        .iter()
        .any(|mark| begins(last, mark));
    role && mark && header.len() <= HEADER_BYTES_MAX && !header.contains('\n')
}

fn for_whom(header: &str) -> Option<For> {
    let rest = header.strip_prefix(ROLE)?;
    let (before, after) = rest.split_once(CHANNEL)?;
    let after = after.replace(CONSTRAIN, " ");
    let mut words = after.split_whitespace();
    let channel = words.next()?;
    let recipient = before
        .split_whitespace()
        .chain(words)
        .find_map(|word| word.strip_prefix("to="));
    match (channel, recipient) {
        ("analysis" | "commentary", Some(recipient)) => {
            let name = recipient.strip_prefix("functions.")?;
            (!name.is_empty()).then(|| For::Function(name.to_owned()))
        }
        ("analysis", None) => Some(For::Reasoning),
        ("commentary" | "final", None) => Some(For::Text),
        _ => None,
    }
}
