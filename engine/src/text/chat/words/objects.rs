//! `joiner` and `cycler`: objects that remember what they gave.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Memory};

use minijinja::value::{Kwargs, Object, ObjectRepr, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::refuse;

/// `joiner(', ')`: nothing when it is called first, the text from then on.
#[derive(Debug)]
pub(super) struct Joiner {
    text: Value,
    called: AtomicBool,
}

impl Joiner {
    pub(super) fn of(args: &[Value]) -> Result<Value, Error> {
        let (placed, kwargs): (Option<Value>, Kwargs) = from_args(args)?;
        let text = match placed {
            Some(text) => text,
            None => kwargs
                .get::<Option<Value>>("sep")?
                .unwrap_or_else(|| Value::from(", ")),
        };
        kwargs.assert_all_used()?;
        let called = AtomicBool::new(false);
        Ok(Value::from_object(Self { text, called }))
    }
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let () = from_args(args)?;
        Ok(match self.called.swap(true, Memory::Relaxed) {
            true => self.text.clone(),
            false => Value::from(""),
        })
    }

    /// Not what is in it: the meter walks lists and maps only.
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<joiner>")
    }
}

/// `cycler('odd', 'even')`: one after the other, again and again.
#[derive(Debug)]
pub(super) struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl Cycler {
    pub(super) fn of(args: &[Value]) -> Result<Value, Error> {
        if args.is_empty() {
            return Err(refuse("a cycler needs something to cycle through"));
        }
        Ok(Value::from_object(Self {
            items: args.to_vec(),
            at: AtomicUsize::new(0),
        }))
    }

    fn current(&self) -> Option<Value> {
        self.items.get(self.at.load(Memory::Relaxed)).cloned()
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str() {
            Some("current") => self.current(),
            _ => None,
        }
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        name: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let () = from_args(args)?;
        match name {
            "next" => {
                let current = self.current();
                let next = (self.at.load(Memory::Relaxed) + 1) % self.items.len();
                self.at.store(next, Memory::Relaxed);
                Ok(current.unwrap_or_default())
            }
            "reset" => {
                self.at.store(0, Memory::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<cycler>")
    }
}
