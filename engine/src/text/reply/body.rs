//! What stands between a tag that announces calls and the end of them, in each way that models write
//! it. All calls of one body are told together or none. It must not know what is outside.

use super::call::{Call, JsonCall, Meant};
use super::function::Function;
use super::json::{Object, Step};
use super::style::Marks;
use super::types::Types;
use super::watch::is_blank;

const FUNCTION: &str = "<function=";
const ARGUMENTS: &str = "[ARGS]";
const CALL_ID: &str = "[CALL_ID]";

/// A longer name is none.
const NAME_BYTES_MAX: usize = 256;

#[derive(Debug, Clone)]
pub(super) struct Body {
    marks: &'static Marks,
    /// Empty where no tag has opened it.
    close: &'static str,
    at: At,
    whole: Vec<Whole>,
}

/// A call that has all that it needs.
#[derive(Debug, Clone)]
enum Whole {
    Json(JsonCall),
    Function(Function),
    Named { name: String, arguments: Object },
}

#[derive(Debug, Clone)]
enum At {
    /// Nothing but blanks so far.
    Begin,
    /// Bytes of the function's tag that were there.
    FunctionTag(usize),
    Function(Function),
    Object(JsonCall),
    List(InList),
    Named(Named),
    /// Bytes of the closing tag that were there.
    Close(usize),
}

#[derive(Debug, Clone)]
enum InList {
    Begin,
    Object(JsonCall),
    AfterObject,
    AfterComma,
}

/// `name[ARGS]{..}`, with `[CALL_ID]..` in between, or nothing.
#[derive(Debug, Clone)]
enum Named {
    Name(String),
    /// After the name, with what there is of a tag.
    Tag(String, String),
    CallId(String),
    Begin(String),
    Arguments(String, Object),
}

impl Body {
    pub(super) fn new(marks: &'static Marks) -> Self {
        Self::at(marks, marks.close, At::Begin)
    }

    /// Of an object that no tag announced.
    pub(super) fn bare(marks: &'static Marks) -> Self {
        Self::at(marks, "", At::Object(JsonCall::new(Meant::Bare)))
    }

    /// After `<function=`, without a tag around it.
    pub(super) fn function(marks: &'static Marks) -> Self {
        Self::at(marks, "", At::Function(Function::new()))
    }

    fn at(marks: &'static Marks, close: &'static str, at: At) -> Self {
        let whole = Vec::new();
        Self {
            marks,
            close,
            at,
            whole,
        }
    }

    pub(super) fn step(&mut self, c: char) -> Step {
        match &mut self.at {
            At::Begin => return self.begin(c),
            At::FunctionTag(there) => match tag_step(FUNCTION, there, c) {
                Step::Done => self.at = At::Function(Function::new()),
                step => return step,
            },
            At::Function(function) => match function.step(c) {
                Step::Done => {
                    let whole = Whole::Function(function.clone());
                    return self.ends(whole);
                }
                step => return step,
            },
            At::Object(object) => match object.step(c) {
                Step::Done => {
                    let whole = Whole::Json(object.clone());
                    return self.ends(whole);
                }
                step => return step,
            },
            At::List(list) => match list_step(list, c, &mut self.whole) {
                Step::Done => return self.close(),
                step => return step,
            },
            At::Named(named) => match named.step(c) {
                Step::Done => match named.clone() {
                    Named::Arguments(name, arguments) => {
                        return self.ends(Whole::Named { name, arguments });
                    }
                    _ => return Step::Fail,
                },
                step => return step,
            },
            At::Close(0) if is_blank(c) => {}
            At::Close(there) => return tag_step(self.close, there, c),
        }
        Step::More
    }

    fn begin(&mut self, c: char) -> Step {
        self.at = match c {
            _ if is_blank(c) => return Step::More,
            '{' => At::Object(JsonCall::new(Meant::Tagged)),
            '[' => At::List(InList::Begin),
            '<' if self.marks.functions => At::FunctionTag(0),
            _ if self.marks.names && is_of_name(c) => At::Named(Named::Name(String::new())),
            _ => return Step::Fail,
        };
        match self.at {
            At::List(_) => Step::More,
            _ => self.step(c),
        }
    }

    fn ends(&mut self, whole: Whole) -> Step {
        self.whole.push(whole);
        self.close()
    }

    fn close(&mut self) -> Step {
        self.at = At::Close(0);
        match self.close {
            "" => Step::Done,
            _ => Step::More,
        }
    }

    /// Bytes at the end of what was written that may be the begin of another tag, should this one
    /// fail.
    pub(super) fn pending(&self) -> usize {
        match &self.at {
            At::FunctionTag(there) | At::Close(there) => *there,
            At::Function(function) => function.pending(),
            At::Named(Named::Tag(_, tag)) => tag.len(),
            At::Begin | At::Object(_) | At::List(_) | At::Named(_) => 0,
        }
    }

    /// The calls, if all is there but the closing tag, which a cut or a hidden token may have cost.
    pub(super) fn calls(&self, types: &Types) -> Option<Vec<Call>> {
        if !matches!(self.at, At::Close(_)) {
            return None;
        }
        let calls = self.whole.iter().map(|whole| match whole {
            Whole::Json(object) => object.call(),
            Whole::Function(function) => function.call(types),
            Whole::Named { name, arguments } => {
                super::json::is_object(arguments.text()).then(|| Call {
                    name: name.clone(),
                    json: arguments.text().to_owned(),
                })
            }
        });
        let calls: Option<Vec<Call>> = calls.collect();
        calls.filter(|calls| !calls.is_empty())
    }
}

fn list_step(list: &mut InList, c: char, whole: &mut Vec<Whole>) -> Step {
    match list {
        InList::Object(object) => match object.step(c) {
            Step::Done => {
                whole.push(Whole::Json(object.clone()));
                *list = InList::AfterObject;
                Step::More
            }
            step => step,
        },
        _ if is_blank(c) => Step::More,
        InList::AfterObject => match c {
            ',' => {
                *list = InList::AfterComma;
                Step::More
            }
            ']' => Step::Done,
            _ => Step::Fail,
        },
        InList::Begin | InList::AfterComma => {
            let mut object = JsonCall::new(Meant::Tagged);
            let step = object.step(c);
            *list = InList::Object(object);
            step
        }
    }
}

impl Named {
    fn step(&mut self, c: char) -> Step {
        match self {
            Self::Name(name) if is_of_name(c) && name.len() < NAME_BYTES_MAX => name.push(c),
            Self::Name(name) => {
                let name = std::mem::take(name);
                match c {
                    '[' => *self = Self::Tag(name, c.to_string()),
                    _ => return self.begin(name, c),
                }
            }
            Self::Tag(name, tag) => {
                tag.push(c);
                match tag.as_str() {
                    ARGUMENTS => *self = Self::Begin(std::mem::take(name)),
                    CALL_ID => *self = Self::CallId(std::mem::take(name)),
                    tag if ARGUMENTS.starts_with(tag) || CALL_ID.starts_with(tag) => {}
                    _ => {
                        tag.pop();
                        return Step::Fail;
                    }
                }
            }
            Self::CallId(name) if c == '[' => {
                *self = Self::Tag(std::mem::take(name), c.to_string());
            }
            Self::CallId(_) if is_of_name(c) => {}
            Self::CallId(_) => return Step::Fail,
            Self::Begin(_) if is_blank(c) => {}
            Self::Begin(name) => {
                let name = std::mem::take(name);
                return self.begin(name, c);
            }
            Self::Arguments(_, arguments) => return arguments.step(c),
        }
        Step::More
    }

    fn begin(&mut self, name: String, c: char) -> Step {
        let mut arguments = Object::default();
        let step = arguments.step(c);
        *self = Self::Arguments(name, arguments);
        step
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/')
}

/// One character of a tag of ASCII, of which some is there.
fn tag_step(tag: &str, there: &mut usize, c: char) -> Step {
    if !tag[*there..].starts_with(c) {
        return Step::Fail;
    }
    *there += 1;
    match *there == tag.len() {
        true => Step::Done,
        false => Step::More,
    }
}
