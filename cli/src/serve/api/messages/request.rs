//! A request of the messages API: what is asked, what its answer has to know, and what is refused.

use serde_json::{Map, Value, json};

use super::{blocks, tools};
use crate::serve::api::conversation::Draft;
use crate::serve::api::conversation::parts::text;
use crate::serve::api::fields::Fields;
use crate::serve::api::notes::Notes;
use crate::serve::api::{form, refuse, sampling};
use crate::serve::ask::{Ask, Conversation, Input, Refusal};

/// Fields that change nothing in an answer.
const HINTS: &[&str] = &[
    "anthropic_beta",
    "anthropic_version",
    "betas",
    "cache_control",
    "context_management",
    "diagnostics",
    "inference_geo",
    "metadata",
    "service_tier",
    "speed",
    "user_profile_id",
    "workspace_id",
];

const UNSUPPORTED: &[(&str, &str)] = &[
    ("container", "nothing here runs code. Leave it out."),
    ("fallbacks", "this server has one model. Leave it out."),
];

const FORMAT: &str = "output_config.format";

/// Begins a line that some clients put before their system text: it is for whoever bills, and
/// another in each request, so that nothing after it could be found in a cache.
const BILLING: &str = "x-anthropic-";

/// What an answer has to know of its request.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    pub stream: bool,
    /// The model as the client named it; for the server to fill in where it didn't.
    pub model: Option<String>,
    pub(super) stops: Vec<String>,
}

/// A request from its body alone.
#[cfg(test)]
pub fn read(body: &[u8], strict: bool) -> Result<(Ask, Shape, Notes), Refusal> {
    read_fields(Fields::of_body(body)?, strict)
}

/// The same of a body that was read elsewhere.
pub fn read_fields(mut fields: Fields, strict: bool) -> Result<(Ask, Shape, Notes), Refusal> {
    let mut notes = Notes::default();
    let stream = fields.flag("stream")?.unwrap_or(false);
    let model = fields.text("model")?;
    let max_tokens = fields.count("max_tokens", 1..=u64::MAX)?;
    let max_tokens = max_tokens.ok_or_else(|| refuse::missing("max_tokens"))?;
    let sampling = sampling::read(&mut fields, sampling::TEMPERATURE_MAX)?;
    let stop = sampling::stops(&mut fields, "stop_sequences")?;
    let form = form::read(format_of(&fields), FORMAT)?;
    let conversation = conversation(&mut fields, &mut notes)?;
    fields.finish(HINTS, strict, &mut notes)?;
    let shape = Shape {
        stream,
        model: model.clone(),
        stops: stop.clone(),
    };
    let ask = Ask {
        model,
        input: Input::Chat(conversation),
        sampling,
        bias: Vec::new(),
        stop,
        form,
        max_tokens: Some(max_tokens),
        logprobs: None,
        token_ids: false,
        answers: 1,
    };
    Ok((ask, shape, notes))
}

/// The form of the answer, which is no part of the prompt.
fn format_of(fields: &Fields) -> Option<&Value> {
    fields.look("output_config")?.get("format")
}

/// Fields that make the prompt: the same for an answer and for a count.
pub(super) fn conversation(
    fields: &mut Fields,
    notes: &mut Notes,
) -> Result<Conversation, Refusal> {
    fields.refuse(UNSUPPORTED)?;
    let functions = tools::read(&fields.list("tools")?, notes)?;
    if !fields.list("mcp_servers")?.is_empty() {
        notes.withhold_tool("mcp");
    }
    let (choice, parallel) = tools::choice(fields.object("tool_choice")?, &functions)?;

    let mut draft = Draft::default();
    system(&mut draft, fields.take("system"), notes)?;
    let messages = match fields.take("messages") {
        None => return Err(refuse::missing("messages")),
        Some(Value::Array(messages)) => messages,
        Some(other) => return Err(refuse::not_a("messages", "a list", &other)),
    };
    if messages.is_empty() {
        let message = "`messages` has no message: there is nothing to answer.";
        return Err(refuse::invalid("messages", message));
    }
    for (at, message) in messages.iter().enumerate() {
        blocks::message(&mut draft, message, &format!("messages[{at}]"))?;
    }
    if draft.ends_with_calls() {
        let message = "`messages` ends with calls of tools, and what they gave is missing: send it \
                       in `tool_result` blocks of a user's message.";
        return Err(refuse::invalid("messages", message));
    }
    let continues = draft.ends_with_assistants_text();
    let mut conversation = draft.finish(functions, "messages")?;
    conversation.choice = choice;
    conversation.parallel_calls = parallel;
    conversation.continues = continues;
    conversation.template_arguments = template_arguments(fields, notes)?;
    Ok(conversation)
}

fn system(draft: &mut Draft, system: Option<Value>, notes: &mut Notes) -> Result<(), Refusal> {
    let blocks = match system {
        None => return Ok(()),
        Some(Value::Array(blocks)) => blocks,
        Some(text @ Value::String(_)) => vec![text],
        Some(other) => {
            return Err(refuse::not_a(
                "system",
                "a text or a list of blocks",
                &other,
            ));
        }
    };
    for (at, block) in blocks.iter().enumerate() {
        let one = Value::from(std::slice::from_ref(block));
        let block = text(Some(&one), "system").map_err(|mut refusal| {
            // Its place is that in the whole list.
            let place = |text: String| text.replacen("system[0]", &format!("system[{at}]"), 1);
            refusal.field = refusal.field.map(place);
            refusal.message = place(refusal.message);
            refusal
        })?;
        match at == 0 && block.starts_with(BILLING) {
            true => {
                notes.ignore("system.x-anthropic-billing-header");
                let rest = block.split_once('\n').map_or("", |(_, rest)| rest);
                draft.system(rest.to_owned());
            }
            false => draft.system(block),
        }
    }
    Ok(())
}

/// `thinking` and `output_config`. Where a client says nothing of thinking, the template does what
/// it does by itself.
fn template_arguments(
    fields: &mut Fields,
    notes: &mut Notes,
) -> Result<Map<String, Value>, Refusal> {
    let mut arguments = fields.object("chat_template_kwargs")?.unwrap_or_default();
    if let Some(thinking) = fields.object("thinking")? {
        let thinks = match thinking.get("type").and_then(Value::as_str) {
            Some("enabled" | "adaptive") => true,
            Some("disabled") => false,
            kind => {
                let message = format!(
                    "`thinking.type` is `{}`, which is none of enabled, adaptive and disabled.",
                    refuse::quoted(kind.unwrap_or("missing"))
                );
                return Err(refuse::unsupported("thinking.type", message));
            }
        };
        arguments.entry("enable_thinking").or_insert(json!(thinks));
        for name in ["budget_tokens", "display"] {
            if thinking.get(name).is_some_and(|value| !value.is_null()) {
                notes.ignore(&format!("thinking.{name}"));
            }
        }
    }
    let output = fields.object("output_config")?.unwrap_or_default();
    match output.get("effort") {
        None | Some(Value::Null) => {}
        Some(Value::String(word)) => {
            arguments.entry("reasoning_effort").or_insert(json!(word));
        }
        Some(other) => return Err(refuse::not_a("output_config.effort", "a text", other)),
    }
    Ok(arguments)
}
