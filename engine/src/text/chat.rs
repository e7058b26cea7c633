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
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde::{Deserialize, Serialize};

use super::error::TextError;
use super::{guard, python};
use meter::{Limits, Meter};

mod library;
mod meter;
mod operators;
mod rewrite;
#[cfg(test)]
mod tests;

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
/// by the macro and once by who called it, and counts twice.
const OUTPUT_BYTES_MIN: usize = 4 << 20;
const OUTPUT_PER_MESSAGE_BYTE: usize = 16;

/// Everything made along the way, whether it is still needed or not; what is held is less.
const MADE_BYTES_MIN: usize = 64 << 20;
const MADE_PER_MESSAGE_BYTE: usize = 64;

/// Everything compared, searched and printed. What it takes is time: about a second.
const READ_BYTES_MIN: usize = 1 << 30;
const READ_PER_MESSAGE_BYTE: usize = 256;

/// A message counts as this much beside its text.
const MESSAGE_BYTES: usize = 256;

const REASON_CHARS_MAX: usize = 400;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: String,
    pub content: String,
}

impl Message {
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// A checked template and the special tokens it may write.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    bos: Option<String>,
    eos: Option<String>,
}

impl ChatTemplate {
    /// The most memory that rendering short messages takes, whatever the template. Long messages
    /// add a few hundred bytes for each of theirs.
    pub const MEMORY_BYTES_MAX: usize = 256 << 20;

    pub fn new(
        source: String,
        bos: Option<String>,
        eos: Option<String>,
    ) -> Result<Self, TextError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(TextError::TemplateLimit {
                line: None,
                allowed: SOURCE_BYTES_MAX as u64,
                unit: "bytes of source",
            });
        }
        let template = Self { source, bos, eos };
        template.on_a_thread(|| compile(&template.source).map(drop).map_err(|e| explain(&e)))?;
        Ok(template)
    }

    /// `add_generation_prompt`: end with the words that open the assistant's turn.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        self.on_a_thread(|| self.render_here(messages, add_generation_prompt))
    }

    fn on_a_thread<T: Send>(
        &self,
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

    fn render_here(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let meter = Arc::new(Meter::new(limits(messages)));
        let run = || -> Result<String, Error> {
            let program = compile(&self.source)?;
            let environment = environment(&meter);
            let mut text = String::new();
            eval(
                &environment,
                &program.0,
                self.context(messages, add_generation_prompt),
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

    fn context(&self, messages: &[Message], add_generation_prompt: bool) -> Value {
        let message = |message: &Message| {
            Value::from_pairs([
                ("role", message.role.as_str()),
                ("content", message.content.as_str()),
            ])
        };
        let mut names = vec![
            ("messages", messages.iter().map(message).collect::<Value>()),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            // transformers defines these even when there are none.
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        let special = [("bos_token", &self.bos), ("eos_token", &self.eos)];
        for (name, token) in special {
            if let Some(token) = token {
                names.push((name, Value::from(token.as_str())));
            }
        }
        Value::from_pairs(names)
    }
}

fn limits(messages: &[Message]) -> Limits {
    let message_bytes: usize = messages
        .iter()
        .map(|message| message.role.len() + message.content.len() + MESSAGE_BYTES)
        .sum();
    let limit = |min: usize, per_byte: usize| (min + message_bytes.saturating_mul(per_byte)) as u64;
    Limits {
        made_bytes: limit(MADE_BYTES_MIN, MADE_PER_MESSAGE_BYTE),
        read_bytes: limit(READ_BYTES_MIN, READ_PER_MESSAGE_BYTE),
        written_bytes: limit(OUTPUT_BYTES_MIN, OUTPUT_PER_MESSAGE_BYTE),
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
    operators::extend(&mut environment, meter);
    let meter = Arc::clone(meter);
    environment.set_formatter(move |output, state, value| {
        meter.write(value)?;
        minijinja::escape_formatter(output, state, value)
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
