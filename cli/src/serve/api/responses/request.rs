//! A request of the responses API: what is asked, what its answer has to repeat, and what is
//! refused.

use serde_json::{Map, Value, json};

use super::input;
use crate::serve::api::fields::Fields;
use crate::serve::api::notes::Notes;
use crate::serve::api::{form, refuse, sampling, tools};
use crate::serve::ask::{Ask, Conversation, Input, Refusal};

/// Fields that change nothing in an answer. `store` is among them: nothing is stored. So is
/// `truncation`, since nothing is ever left out of a conversation: one that is too long is refused,
/// and the answer says `disabled`.
pub(super) const HINTS: &[&str] = &[
    "access_programs",
    "background_options",
    "client_metadata",
    "image",
    "include",
    "max_tool_calls",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "truncation",
    "user",
];

/// Hints that the answer repeats.
const REPEATED: &[&str] = &[
    "max_tool_calls",
    "metadata",
    "prompt_cache_key",
    "safety_identifier",
    "user",
];

pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
    (
        "background",
        "answers are given while the client waits. Leave it out.",
    ),
    (
        "conversation",
        "nothing is stored. Send the whole conversation as `input`.",
    ),
    (
        "logit_bias",
        "this API has none; `/v1/chat/completions` does.",
    ),
    ("moderation", "nothing here moderates."),
    (
        "n",
        "this API gives one answer; `/v1/chat/completions` gives more.",
    ),
    (
        "previous_response_id",
        "nothing is stored. Send the whole conversation as `input`.",
    ),
    (
        "prompt",
        "no templates of prompts are stored. Send the text as `input`.",
    ),
    ("response_format", "this API has it as `text.format`."),
];

const LOGPROBS: &str = "message.output_text.logprobs";
const ENCRYPTED: &str = "reasoning.encrypted_content";
const TOP_LOGPROBS_MAX: u64 = 20;

/// What an answer repeats of its request, and how it is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    pub stream: bool,
    /// The model as the client named it; for the server to fill in where it didn't.
    pub model: Option<String>,
    /// Reasoning comes with a text that clients send back as it is.
    pub(super) sealed: bool,
    pub(super) logprobs: bool,
    pub(super) repeated: Map<String, Value>,
}

/// A request from its body alone.
#[cfg(test)]
pub fn read(body: &[u8], strict: bool) -> Result<(Ask, Shape, Notes), Refusal> {
    read_fields(Fields::of_body(body)?, strict)
}

/// The same of a body that was read elsewhere.
pub fn read_fields(mut fields: Fields, strict: bool) -> Result<(Ask, Shape, Notes), Refusal> {
    let mut notes = Notes::default();
    fields.refuse(UNSUPPORTED)?;
    let mut repeated = Map::new();
    for name in REPEATED {
        if let Some(value) = fields.take(name) {
            repeated.insert((*name).to_owned(), value);
        }
    }
    let include = fields.texts("include")?;
    let stream = fields.flag("stream")?.unwrap_or(false);
    let model = fields.text("model")?;
    let max_tokens = fields.count("max_output_tokens", 1..=u64::MAX)?;
    let sampling = sampling::read(&mut fields, sampling::TEMPERATURE_MAX)?;
    let stop = sampling::stops(&mut fields, "stop")?;
    let top_logprobs = fields.count("top_logprobs", 0..=TOP_LOGPROBS_MAX)?;
    let top_logprobs = top_logprobs.filter(|count| *count > 0);
    let logprobs =
        top_logprobs.or_else(|| include.iter().any(|name| name == LOGPROBS).then_some(0));

    let form = fields.look("text").and_then(|text| text.get("format"));
    let told_form = form.cloned().unwrap_or_else(|| json!({"type": "text"}));
    let form = form::read(form, "text.format")?;
    repeated.insert("text".to_owned(), json!({"format": told_form}));
    let (conversation, told) = conversation(&mut fields, &mut notes)?;
    repeated.extend(told);
    for (name, value) in [
        ("temperature", json!(sampling.draw.temperature)),
        ("top_p", json!(sampling.draw.top_p)),
        ("max_output_tokens", json!(max_tokens)),
        ("top_logprobs", json!(top_logprobs)),
    ] {
        repeated.insert(name.to_owned(), value);
    }
    fields.finish(HINTS, strict, &mut notes)?;

    let shape = Shape {
        stream,
        model: model.clone(),
        sealed: include.iter().any(|name| name == ENCRYPTED),
        logprobs: logprobs.is_some(),
        repeated,
    };
    let ask = Ask {
        model,
        input: Input::Chat(conversation),
        sampling,
        bias: Vec::new(),
        stop,
        form,
        max_tokens,
        logprobs,
        token_ids: false,
        answers: 1,
    };
    Ok((ask, shape, notes))
}

/// The conversation, and the fields of it that the answer repeats.
pub(super) fn conversation(
    fields: &mut Fields,
    notes: &mut Notes,
) -> Result<(Conversation, Map<String, Value>), Refusal> {
    let instructions = fields.text("instructions")?;
    let given_tools = fields.list("tools")?;
    let given_choice = fields.take("tool_choice");
    let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    let functions = tools::from_openai(&given_tools, notes)?;
    let choice = tools::choice_from_openai(given_choice.as_ref(), &functions)?;
    let told_tools: Vec<Value> = functions.iter().map(told_tool).collect();
    let draft = input::read(instructions.as_deref(), fields.take("input"), notes)?;
    let mut conversation = draft.finish(functions, "input")?;
    conversation.choice = choice;
    conversation.parallel_calls = parallel;
    let (arguments, reasoning) = template_arguments(fields)?;
    conversation.template_arguments = arguments;
    text(fields, notes)?;

    let mut told = Map::new();
    told.insert("instructions".to_owned(), json!(instructions));
    told.insert("tools".to_owned(), told_tools.into());
    let choice = given_choice.unwrap_or_else(|| json!("auto"));
    told.insert("tool_choice".to_owned(), choice);
    told.insert("parallel_tool_calls".to_owned(), json!(parallel));
    told.insert("reasoning".to_owned(), reasoning);
    Ok((conversation, told))
}

/// A tool as this API has it.
fn told_tool(tool: &Value) -> Value {
    let function = &tool["function"];
    json!({
        "type": "function",
        "name": function["name"],
        "description": function["description"],
        "parameters": function["parameters"],
        "strict": function["strict"] == true,
    })
}

/// What templates are asked, and `reasoning` as the answer repeats it. No effort is no thinking;
/// the summary is a hint, reasoning is told as it is.
fn template_arguments(fields: &mut Fields) -> Result<(Map<String, Value>, Value), Refusal> {
    let mut arguments = fields.object("chat_template_kwargs")?.unwrap_or_default();
    let mut reasoning = fields.object("reasoning")?.unwrap_or_default();
    let effort = reasoning
        .shift_remove("effort")
        .filter(|effort| !effort.is_null());
    match &effort {
        None => {}
        Some(Value::String(word)) if word == "none" => {
            arguments.entry("enable_thinking").or_insert(json!(false));
        }
        Some(Value::String(word)) => {
            arguments.entry("reasoning_effort").or_insert(json!(word));
        }
        Some(other) => return Err(refuse::not_a("reasoning.effort", "a text", other)),
    }
    Ok((arguments, json!({"effort": effort, "summary": null})))
}

/// `text`, but for its format.
fn text(fields: &mut Fields, notes: &mut Notes) -> Result<(), Refusal> {
    let text = fields.object("text")?.unwrap_or_default();
    if text.get("verbosity").is_some_and(|word| !word.is_null()) {
        notes.ignore("text.verbosity");
    }
    Ok(())
}
