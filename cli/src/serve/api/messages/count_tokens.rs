//! `/v1/messages/count_tokens`: the prompt of a request that is not answered. It is the same
//! conversation as if it were.

use serde_json::{Value, json};

use super::request::conversation;
use crate::serve::api::fields::Fields;
use crate::serve::api::notes::Notes;
use crate::serve::ask::{Conversation, Refusal};

/// What a request to be answered may have beside what is counted.
const HINTS: &[&str] = &[
    "anthropic_beta",
    "anthropic_version",
    "betas",
    "cache_control",
    "context_management",
    "max_tokens",
    "metadata",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "temperature",
    "top_k",
    "top_p",
    "user_profile_id",
    "workspace_id",
];

/// The model that the client named, and what is to be counted.
#[cfg(test)]
pub fn read(body: &[u8], strict: bool) -> Result<(Option<String>, Conversation, Notes), Refusal> {
    read_fields(Fields::of_body(body)?, strict)
}

/// The same of a body that was read elsewhere.
pub fn read_fields(
    mut fields: Fields,
    strict: bool,
) -> Result<(Option<String>, Conversation, Notes), Refusal> {
    let mut notes = Notes::default();
    let model = fields.text("model")?;
    let conversation = conversation(&mut fields, &mut notes)?;
    fields.finish(HINTS, strict, &mut notes)?;
    Ok((model, conversation, notes))
}

/// The answer.
pub fn body(tokens: usize) -> Value {
    json!({"input_tokens": tokens})
}
