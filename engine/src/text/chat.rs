//! Messages to a prompt, through the Jinja template that a model brings along. The
//! environment is the one transformers renders templates in; the words Python adds to it
//! are in `python`. It must not know tokens, files or the network, and neither can a
//! template: there is no loader to include from.
//!
//! A template is a program from a stranger. It runs on a thread of its own with a counted
//! number of instructions, a limit on output, and a stack deep enough for the deepest value
//! that many instructions can nest (dropping or printing one recurses, and a stack overflow
//! would take the process). What is not bounded is memory: Jinja has operators that double
//! a string, and the template engine offers no hook to count it.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde::{Deserialize, Serialize};

use super::error::TextError;
use super::python;
use super::tokenizer::panic_text;

#[cfg(test)]
mod tests;

const NAME: &str = "chat";

/// Real templates take some fifty instructions a message.
const INSTRUCTIONS_MAX: u64 = 250_000;

/// One instruction nests at most one list deeper, and printing a level takes under 700 bytes
/// of stack in a release build. The pages are only reserved, not touched.
const STACK_BYTES: usize = 512 << 20;

/// Macros and includes of themselves; real ones walk a schema, a few levels deep.
const RECURSION_MAX: usize = 200;

const SOURCE_BYTES_MAX: usize = 1 << 20;

/// Output may be this much, and a few times the messages.
const OUTPUT_BYTES_MIN: usize = 1 << 20;
const OUTPUT_PER_MESSAGE_BYTE: usize = 4;
const OUTPUT_PER_MESSAGE_BYTES: usize = 4096;

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

/// A compiled template and the special tokens it may write.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: Option<String>,
    eos: Option<String>,
}

impl ChatTemplate {
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
        let mut environment = Environment::new();
        environment.set_debug(false);
        environment.set_syntax(syntax().map_err(|error| explain(&error))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(INSTRUCTIONS_MAX));
        environment.set_recursion_limit(RECURSION_MAX);
        python::extend(&mut environment);
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| explain(&error))?;
        Ok(Self {
            environment,
            bos,
            eos,
        })
    }

    /// `add_generation_prompt`: end with the words that open the assistant's turn.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("chat-template".to_owned())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, || self.render_here(messages, add_generation_prompt))
                .map_err(|source| TextError::TemplateThread {
                    stack_bytes: STACK_BYTES,
                    source,
                })?
                .join()
                .unwrap_or_else(|panic| {
                    Err(TextError::Template {
                        line: None,
                        reason: panic_text(&*panic),
                    })
                })
        })
    }

    fn render_here(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let content_bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let mut output = Output {
            bytes: Vec::new(),
            bytes_max: OUTPUT_BYTES_MIN
                + content_bytes.saturating_mul(OUTPUT_PER_MESSAGE_BYTE)
                + messages.len() * OUTPUT_PER_MESSAGE_BYTES,
            exceeded: false,
        };
        let result = self
            .environment
            .get_template(NAME)
            .and_then(|template| {
                template
                    .render_captured_to(self.context(messages, add_generation_prompt), &mut output)
            })
            .map(drop);
        match result {
            Ok(()) => String::from_utf8(output.bytes).map_err(|error| TextError::Template {
                line: None,
                reason: error.to_string(),
            }),
            Err(error) if output.exceeded => Err(TextError::TemplateLimit {
                line: error.line(),
                allowed: output.bytes_max as u64,
                unit: "bytes of output",
            }),
            Err(error) => Err(explain(&error)),
        }
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

/// A writer that fails when a template writes without end.
struct Output {
    bytes: Vec<u8>,
    bytes_max: usize,
    exceeded: bool,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.bytes_max - self.bytes.len() {
            self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
