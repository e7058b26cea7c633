//! What an answer is held to: the form that was asked for, a tool that has to be called, one call and
//! no second, arguments of their schema. Where nothing is asked for, nothing is held. It knows no
//! API, and compiling takes time: not for a thread that others wait for.

use engine::text::{Grammar, Rule, Style, TextError, TextWish, ToolWish, Vocabulary, Wish};
use serde_json::{Value, json};

use super::api::refuse;
use super::ask::{Conversation, Form, Input, Refusal, ToolChoice};
use super::texts::Texts;

/// The grammar of an answer to this input; `None`: it may be anything.
pub fn grammar(
    texts: &Texts,
    input: &Input,
    style: &Style,
    form: &Form,
) -> Result<Option<Grammar>, Refusal> {
    let schema = match form {
        Form::Text => None,
        Form::Object => Some(json!({"type": "object"})),
        Form::Schema { schema, .. } => Some(schema.clone()),
    };
    let none = Conversation::default();
    let conversation = match input {
        Input::Chat(conversation) => conversation,
        Input::Text(_) | Input::Tokens(_) => &none,
    };
    let Some(wish) = wish(conversation, schema) else {
        return Ok(None);
    };
    if conversation.continues && wish.text != TextWish::Anything {
        let message = "`messages`: the last one is the begin of the answer, and what continues it cannot be \
                       held to a form or to a call. End the conversation with the user's message.";
        return Err(refuse::unsupported("messages", message));
    }
    let vocabulary = texts.vocabulary()?;
    let is_strict = |tool: &ToolWish| is_strict(conversation, &tool.name);
    let compiled = compile(vocabulary, style, &wish);
    if compiled.is_err() && !wish.tools.iter().all(is_strict) {
        // Only what is strict was promised.
        let mut less = wish.clone();
        for tool in less.tools.iter_mut().filter(|tool| !is_strict(tool)) {
            tool.parameters = None;
        }
        if let Ok(grammar) = compile(vocabulary, style, &less) {
            return Ok(Some(grammar));
        }
    }
    compiled.map(Some).map_err(|error| {
        let field = match form {
            Form::Schema { field, .. } => *field,
            Form::Object | Form::Text => "tools",
        };
        let hint = error.hint().map(|hint| format!("; {hint}"));
        refuse::invalid(
            field,
            format!("`{field}`: {error}{}", hint.unwrap_or_default()),
        )
    })
}

fn compile(vocabulary: &Vocabulary, style: &Style, wish: &Wish) -> Result<Grammar, TextError> {
    let lark = style.lark(wish, &|mark| vocabulary.special(mark));
    let lark = lark.map_err(|reason| TextError::Grammar {
        kind: "JSON schema",
        reason,
    })?;
    Grammar::new(vocabulary, &Rule::Format(lark))
}

/// `None`: nothing is asked for.
fn wish(conversation: &Conversation, schema: Option<Value>) -> Option<Wish> {
    let shown: Vec<&Value> = match &conversation.choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Auto | ToolChoice::Required => conversation.tools.iter().collect(),
        ToolChoice::Named(name) => {
            let named = |tool: &&Value| tool["function"]["name"] == name.as_str();
            conversation.tools.iter().filter(named).collect()
        }
    };
    let has_to_call = matches!(
        conversation.choice,
        ToolChoice::Required | ToolChoice::Named(_)
    );
    let one = !conversation.parallel_calls && !shown.is_empty();
    let strict = shown.iter().any(|tool| tool["function"]["strict"] == true);
    let text = match schema {
        _ if has_to_call => TextWish::Nothing,
        Some(schema) => TextWish::Json(schema),
        None if one || strict => TextWish::Anything,
        None => return None,
    };
    let tool = |tool: &&Value| {
        let function = &tool["function"];
        // Where it may say anything, a call is held to what was promised of it.
        let held = has_to_call || function["strict"] == true;
        ToolWish {
            name: function["name"].as_str().unwrap_or_default().to_owned(),
            parameters: held.then(|| function["parameters"].clone()),
        }
    };
    Some(Wish {
        text,
        tools: shown.iter().map(tool).collect(),
        several: conversation.parallel_calls,
    })
}

fn is_strict(conversation: &Conversation, name: &str) -> bool {
    let of_name = |tool: &&Value| tool["function"]["name"] == name;
    let tool = conversation.tools.iter().find(of_name);
    tool.is_some_and(|tool| tool["function"]["strict"] == true)
}
