//! Messages to a prompt, through the Jinja template that a model brings along. The
//! environment is the one transformers renders templates in; the words Python adds to it
//! are in `python`. It must not know tokens, files or the network, and neither can a
//! template: there is no loader to include from.
//!
//! A template is a program from a stranger. It runs on a thread of its own with a counted number
//! of instructions and a stack deep enough for the deepest value that many instructions can nest
//! (dropping or printing one recurses, and a stack overflow would take the process). Every
//! operator, filter, test, function and method it can reach is counted before it works (`meter`):
//! what it makes, what it walks, what it writes. [`ChatTemplate::MEMORY_BYTES_MAX`] is what comes
//! of it.

use std::sync::Arc;

use minijinja::machinery::{CodeGenerator, eval, make_string_output, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use super::error::TextError;
use super::{guard, python};
pub use input::{Chat, Message};
use meter::{Limits, Meter};

mod input;
mod library;
mod meter;
mod operators;
mod pieces;
mod rewrite;
mod tags;
#[cfg(test)]
mod tests;
mod turns;
mod words;

const NAME: &str = "chat";

/// Real templates take some fifty instructions a message.
const INSTRUCTIONS_MAX: u64 = 400_000;

/// One instruction nests at most one list deeper, and printing a level takes under 700 bytes
/// of stack in a release build. The pages are only reserved, not touched.
const STACK_BYTES: usize = 512 << 20;

/// Macros and includes of themselves; real ones walk a schema, a few levels deep.
const RECURSION_MAX: usize = 200;

const SOURCE_BYTES_MAX: usize = 1 << 20;

/// Output may be this much, and a few times the messages. A macro's output is written twice, once
/// by the macro and once by its caller, and counts twice.
const OUTPUT_BYTES_MIN: usize = 4 << 20;
const OUTPUT_PER_GIVEN_BYTE: usize = 16;

/// Everything made along the way, whether it is still needed or not; what is held is less.
const MADE_BYTES_MIN: usize = 64 << 20;
const MADE_PER_GIVEN_BYTE: usize = 64;

/// Everything compared, searched and printed. What it takes is time: about a second.
const READ_BYTES_MIN: usize = 1 << 30;
const READ_PER_GIVEN_BYTE: usize = 256;

const REASON_CHARS_MAX: usize = 400;

/// A checked template and the special tokens it may write.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    /// Name and text: `bos_token` and the like.
    special: Vec<(String, String)>,
}

impl ChatTemplate {
    /// The most memory that rendering short messages takes, whatever the template. Long messages
    /// add a few hundred bytes for each of theirs.
    pub const MEMORY_BYTES_MAX: usize = 256 << 20;

    /// `special`: the special tokens that it finds by their names, like `bos_token`.
    pub fn new(source: String, special: Vec<(String, String)>) -> Result<Self, TextError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(TextError::TemplateLimit {
                line: None,
                allowed: SOURCE_BYTES_MAX as u64,
                unit: "bytes of source",
            });
        }
        let source = on_a_thread(|| {
            let source = tags::without_generation(&source, syntax().map_err(|e| explain(&e))?);
            compile(&source).map_err(|e| explain(&e))?;
            Ok(source)
        })?;
        Ok(Self { source, special })
    }

    pub fn render(&self, chat: &Chat) -> Result<String, TextError> {
        on_a_thread(|| self.render_here(chat))
    }

    /// Which of the names that were given the template never mentions: they have no effect.
    pub fn never_names<'c>(&self, chat: &'c Chat) -> Result<Vec<&'c str>, TextError> {
        let names = on_a_thread(|| {
            let syntax = syntax().map_err(|e| explain(&e))?;
            Ok(tags::names(&self.source, syntax))
        })?;
        Ok(chat.given().filter(|&name| !names.contains(name)).collect())
    }

    fn render_here(&self, chat: &Chat) -> Result<String, TextError> {
        let meter = Arc::new(Meter::new(limits(chat.bytes())));
        let run = || -> Result<String, Error> {
            let program = compile(&self.source)?;
            let environment = environment(&meter);
            let mut text = String::new();
            eval(
                &environment,
                &program.0,
                chat.context(&self.special),
                &program.1,
                &mut make_string_output(&mut text),
                AutoEscape::None,
            )?;
            Ok(text)
        };
        run().map_err(|error| match meter.exceeded() {
            Some(limit) => TextError::TemplateLimit {
                line: error.line(),
                allowed: limit.allowed,
                unit: limit.unit,
            },
            None => explain(&error),
        })
    }
}

fn on_a_thread<T: Send>(
    work: impl FnOnce() -> Result<T, TextError> + Send,
) -> Result<T, TextError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("chat-template".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || guard::guarded(work))
            .map_err(|source| TextError::TemplateThread {
                stack_bytes: STACK_BYTES,
                source,
            })?
            .join()
            .unwrap_or_else(|_| Err("internal failure".to_owned()))
            .unwrap_or_else(|reason| Err(TextError::Template { line: None, reason }))
    })
}

fn limits(given_bytes: usize) -> Limits {
    let limit = |min: usize, per_byte: usize| (min + given_bytes.saturating_mul(per_byte)) as u64;
    Limits {
        made_bytes: limit(MADE_BYTES_MIN, MADE_PER_GIVEN_BYTE),
        read_bytes: limit(READ_BYTES_MIN, READ_PER_GIVEN_BYTE),
        written_bytes: limit(OUTPUT_BYTES_MIN, OUTPUT_PER_GIVEN_BYTE),
    }
}

/// What is there to run a template in: nothing but what is put in here, and everything in here
/// is counted.
fn environment(meter: &Arc<Meter>) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_debug(false);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_fuel(Some(INSTRUCTIONS_MAX));
    environment.set_recursion_limit(RECURSION_MAX);
    library::extend(&mut environment, meter);
    words::extend(&mut environment, meter);
    pieces::extend(&mut environment, meter);
    operators::extend(&mut environment, meter);
    let meter = Arc::clone(meter);
    environment.set_formatter(move |output, state, value| {
        meter.write(value)?;
        match python::float(value) {
            Some(text) => output.write_str(&text).map_err(Error::from),
            None => minijinja::escape_formatter(output, state, value),
        }
    });
    environment
}

type Program<'s> = (
    minijinja::machinery::Instructions<'s>,
    std::collections::BTreeMap<&'s str, minijinja::machinery::Instructions<'s>>,
);

fn compile(source: &str) -> Result<Program<'_>, Error> {
    let rewritten = rewrite::template(&parse(source, NAME, syntax()?)?)?;
    let mut generator = CodeGenerator::new(NAME, source);
    generator.compile_stmt(&rewritten);
    Ok(generator.finish())
}

/// A block tag takes its indentation and its line end with it.
fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
}

fn explain(error: &Error) -> TextError {
    let line = error.line();
    if let Some(reason) = python::refusal(error) {
        return TextError::TemplateRefused {
            reason: shorten(reason),
        };
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return TextError::TemplateLimit {
            line,
            allowed: INSTRUCTIONS_MAX,
            unit: "instructions",
        };
    }
    let reason = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    TextError::Template {
        line,
        reason: shorten(reason),
    }
}

/// A message may quote a value, and a value may be anything.
fn shorten(mut reason: String) -> String {
    if let Some((end, _)) = reason.char_indices().nth(REASON_CHARS_MAX) {
        reason.truncate(end);
        reason.push('…');
    }
    reason
}
