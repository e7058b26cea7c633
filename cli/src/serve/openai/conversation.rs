//! A conversation with its tools as the chat API has them. What messages become is the APIs' common
//! matter; here are the fields around them.

use serde_json::{Map, Value};

use crate::serve::api::conversation::chat::from_chat;
use crate::serve::api::fields::Fields;
use crate::serve::api::notes::Notes;
use crate::serve::api::refuse;
use crate::serve::api::tools::choice_from_openai;
use crate::serve::ask::{Conversation, Refusal};

/// Reads `messages`, `tools` and what belongs to them.
pub fn read(fields: &mut Fields, notes: &mut Notes) -> Result<Conversation, Refusal> {
    let Some(messages) = fields.take("messages") else {
        let message = "`messages` must be a list of messages";
        return Err(refuse::invalid("messages", message));
    };
    let Value::Array(messages) = messages else {
        return Err(refuse::not_a("messages", "a list", &messages));
    };
    let tools = fields.list("tools")?;
    let mut conversation = from_chat(&messages, &tools, notes)?;
    let choice = fields.take("tool_choice");
    conversation.choice = choice_from_openai(choice.as_ref(), &conversation.tools)?;
    conversation.parallel_calls = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    conversation.template_arguments = arguments(fields)?;
    conversation.continues = fields.flag("continue_final_message")?.unwrap_or(false);
    Ok(conversation)
}

/// `chat_template_kwargs`, and what clients say outside of them that templates read.
fn arguments(fields: &mut Fields) -> Result<Map<String, Value>, Refusal> {
    const FIELD: &str = "chat_template_kwargs";
    let mut arguments = fields.object(FIELD)?.unwrap_or_default();
    for name in ["messages", "tools"] {
        if arguments.contains_key(name) {
            let message = format!("`{FIELD}` has `{name}`: send it beside it");
            return Err(refuse::invalid(FIELD, message));
        }
    }
    if let Some(add) = fields.flag("add_generation_prompt")? {
        arguments
            .entry("add_generation_prompt")
            .or_insert(add.into());
    }
    if let Some(effort) = fields.text("reasoning_effort")? {
        arguments.entry("reasoning_effort").or_insert(effort.into());
    }
    Ok(arguments)
}
