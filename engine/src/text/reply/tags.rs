//! Answers in which tags stand around thoughts and calls. One character at a time changes the state,
//! so how the text was cut cannot matter. It must not know how a call is written.

use super::body::Body;
use super::json::Step;
use super::style::{Format, Marks, Style, Think};
use super::watch::{Seen, Watch, is_blank};
use super::{Out, Said};

#[derive(Debug)]
pub(super) struct Tags {
    style: Style,
    place: Place,
    watch: Watch,
    /// What was said before decides what may come: thoughts and calls without a tag only begin.
    said_text: bool,
    has_thought: bool,
    /// Whether a tag has just ended: blanks after it are no content.
    after_tag: bool,
    /// Whether that was the end of calls.
    after_call: bool,
    /// What may begin here, and what it means.
    texts: Vec<&'static str>,
    marks: Vec<Mark>,
}

#[derive(Debug)]
enum Place {
    Text,
    Thoughts(&'static Think),
    /// In calls, with what was written of them.
    Calls(Box<Body>, String),
}

#[derive(Debug, Clone, Copy)]
enum Mark {
    Think(&'static Think),
    EndOfThoughts,
    Calls(&'static Marks),
    Function(&'static Marks),
    Object(&'static Marks),
    /// A tag without a meaning.
    Nothing,
}

impl Tags {
    pub(super) fn new(style: Style) -> Self {
        let mut tags = Self {
            place: style.thinking.map_or(Place::Text, Place::Thoughts),
            after_tag: style.thinking.is_some(),
            style,
            watch: Watch::default(),
            said_text: false,
            has_thought: false,
            after_call: false,
            texts: Vec::new(),
            marks: Vec::new(),
        };
        tags.look();
        tags
    }

    pub(super) fn step(&mut self, c: char, out: &mut Out<'_>) {
        let Place::Calls(body, written) = &mut self.place else {
            return self.watch(c, out);
        };
        match body.step(c) {
            Step::More => written.push(c),
            Step::Done => {
                written.push(c);
                self.end_calls(out);
            }
            Step::Fail => {
                let mut written = std::mem::take(written);
                // A tag that begins here is read anew; it is not whole, so no calls begin again.
                let again = written.split_off(written.len().saturating_sub(body.pending()));
                self.place = Place::Text;
                self.say(&written, out);
                again.chars().for_each(|c| self.watch(c, out));
                self.step(c, out);
            }
        }
    }

    pub(super) fn finish(&mut self, out: &mut Out<'_>) {
        if matches!(self.place, Place::Calls(..)) {
            self.end_calls(out);
        }
        let held = self.watch.take();
        self.say(&held, out);
    }

    /// Tells the calls that were written, or what was written.
    fn end_calls(&mut self, out: &mut Out<'_>) {
        let Place::Calls(body, written) = std::mem::replace(&mut self.place, Place::Text) else {
            return;
        };
        match body.calls(&self.style.types) {
            Some(calls) => {
                calls.into_iter().for_each(|call| out.call(call));
                self.after_tag = true;
                self.after_call = true;
            }
            None => self.say(&written, out),
        }
        self.look();
    }

    fn watch(&mut self, c: char, out: &mut Out<'_>) {
        let nothing = self.after_tag || self.texts.is_empty();
        if is_blank(c) && self.watch.is_empty() && nothing {
            if !self.after_tag {
                self.say(c.encode_utf8(&mut [0; 4]), out);
            }
            return;
        }
        if c == ';' && self.may_follow() && self.watch.is_blank() {
            return self.watch.keep(c);
        }
        match self.watch.step(c, &self.texts, true) {
            Seen::Undecided => {}
            Seen::Text { text, again } => {
                self.say(&text, out);
                // Less than a mark, and less each time.
                again.chars().for_each(|c| self.watch(c, out));
            }
            Seen::Mark(index) => {
                let written = self.watch.take();
                if let Some(&mark) = self.marks.get(index) {
                    self.enter(mark, written);
                    self.look();
                }
            }
        }
    }

    fn enter(&mut self, mark: Mark, written: String) {
        let body = match mark {
            Mark::Think(think) => {
                self.place = Place::Thoughts(think);
                self.after_tag = true;
                return;
            }
            Mark::EndOfThoughts => {
                self.place = Place::Text;
                self.has_thought = true;
                self.after_tag = true;
                return;
            }
            Mark::Nothing => {
                self.after_tag = true;
                return;
            }
            Mark::Calls(marks) => Body::new(marks),
            Mark::Function(marks) => Body::function(marks),
            Mark::Object(marks) => {
                let mut body = Body::bare(marks);
                // Its first character was the mark.
                let _ = body.step('{');
                body
            }
        };
        self.place = Place::Calls(Box::new(body), written);
    }

    /// What may begin here, from now on.
    fn look(&mut self) {
        self.texts.clear();
        self.marks.clear();
        if let Place::Thoughts(think) = self.place {
            self.may(think.close, Mark::EndOfThoughts);
            // Some models open again what the prompt has opened.
            if !self.has_thought {
                self.may(think.open, Mark::Think(think));
            }
            return;
        }
        if !self.said_text && !self.has_thought && !self.after_call {
            for index in 0..self.style.thinks.len() {
                let think = self.style.thinks[index];
                self.may(think.open, Mark::Think(think));
            }
        }
        let Format::Tagged(marks) = self.style.format else {
            return;
        };
        self.may(marks.open, Mark::Calls(marks));
        if marks.bare_functions {
            self.may("<function=", Mark::Function(marks));
        }
        if marks.bare_objects && !self.said_text {
            self.may("{", Mark::Object(marks));
        }
        if self.after_call && !marks.stray.is_empty() {
            self.may(marks.stray, Mark::Nothing);
        }
    }

    fn may(&mut self, text: &'static str, mark: Mark) {
        self.texts.push(text);
        self.marks.push(mark);
    }

    /// Whether `;` may stand between calls here.
    fn may_follow(&self) -> bool {
        let bare = matches!(self.style.format, Format::Tagged(marks) if marks.bare_objects);
        bare && self.after_call && matches!(self.place, Place::Text)
    }

    fn say(&mut self, text: &str, out: &mut Out<'_>) {
        if text.is_empty() {
            return;
        }
        self.after_tag = false;
        let thinks = matches!(self.place, Place::Thoughts(_));
        out.say(match thinks {
            true => Said::Reasoning(text.to_owned()),
            false => Said::Text(text.to_owned()),
        });
        let first = match thinks {
            true => !self.has_thought,
            false => !self.said_text || self.after_call,
        };
        if first && !text.chars().all(is_blank) {
            self.has_thought |= thinks;
            self.said_text |= !thinks;
            self.after_call &= thinks;
            self.look();
        }
    }
}
