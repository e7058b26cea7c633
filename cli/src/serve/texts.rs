//! Texts to tokens and back, and conversations to texts: the checkpoint's tokenizer and templates,
//! shared by all requests beside the model. It knows no weights and makes no pass.

use std::sync::OnceLock;

use engine::text::{Chat, ChatTemplate, Style, TextError, Tokenizer, Vocabulary};
use engine::{Blueprint, EngineError, chat_template_of};
use serde_json::{Value, json};

use super::api::refuse;
use super::ask::{Conversation, Input, Refusal, RefusalKind, ToolChoice};

mod calls;

/// A template may leave out most of a conversation.
const CONVERSATION_FACTOR: u64 = 16;

/// A checkpoint's tokenizer and templates.
#[derive(Debug)]
pub struct Texts {
    tokenizer: Option<Tokenizer>,
    /// `Err`: why there is none.
    template: Result<Template, String>,
    /// The one for conversations with tools, where that is another.
    tools_template: Option<Template>,
    /// The tokens as grammars need them, once one was asked for.
    vocabulary: OnceLock<Result<Vocabulary, String>>,
    /// The tokens that end a text.
    ends: Vec<u32>,
    /// Positions of a sequence.
    pub context: usize,
    vocab_size: usize,
}

#[derive(Debug)]
struct Template {
    compiled: ChatTemplate,
    source: String,
}

/// Tokens to be continued, and where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    pub tokens: Vec<u32>,
    /// How the answer is to be read.
    pub style: Style,
    /// What was given and the template never names.
    pub unnamed: Vec<String>,
}

/// A conversation in the model's own format.
#[derive(Debug)]
struct Rendered {
    text: String,
    style: Style,
    unnamed: Vec<String>,
}

impl Texts {
    pub fn new(blueprint: &Blueprint) -> Result<Self, EngineError> {
        let tokenizer = match blueprint.tokenizer() {
            Ok(tokenizer) => Some(tokenizer.clone()),
            Err(EngineError::NoTokenizer { .. }) => None,
            Err(error) => return Err(error),
        };
        let checkpoint = &blueprint.checkpoint;
        let of = |has_tools| -> Result<(String, Template), EngineError> {
            let (name, compiled) = chat_template_of(checkpoint, None, has_tools)?;
            let source = checkpoint.chat_template(&name)?.unwrap_or_default();
            Ok((name, Template { compiled, source }))
        };
        // A model without one, or with a broken one, still continues texts.
        let (name, template) = match of(false) {
            Ok((name, template)) => (name, Ok(template)),
            Err(error) => (String::new(), Err(error.to_string())),
        };
        let tools_template = of(true).ok().filter(|(other, _)| *other != name);
        Ok(Self {
            tokenizer,
            template,
            tools_template: tools_template.map(|(_, template)| template),
            vocabulary: OnceLock::new(),
            ends: blueprint.eos_token_ids().to_vec(),
            context: blueprint.context,
            vocab_size: blueprint.config.vocab_size,
        })
    }

    /// Why conversations cannot be had, if so.
    pub fn no_template(&self) -> Option<&str> {
        self.template.as_ref().err().map(String::as_str)
    }

    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// Takes a moment the first time.
    pub fn vocabulary(&self) -> Result<&Vocabulary, Refusal> {
        let tokenizer = self.needed()?;
        let made = || {
            let made = Vocabulary::new(tokenizer, &self.ends, self.vocab_size);
            made.map_err(|error| error.to_string())
        };
        let made = self.vocabulary.get_or_init(made);
        made.as_ref().map_err(|error| invalid(error))
    }

    /// What is to be continued, as tokens that fit.
    pub fn prompt(&self, input: &Input) -> Result<Prompt, Refusal> {
        let plain = |tokens| (tokens, Style::plain(), Vec::new());
        let (tokens, style, unnamed) = match input {
            Input::Tokens(tokens) => plain(tokens.clone()),
            Input::Text(text) => plain(self.encode(text, true)?),
            Input::Chat(conversation) => {
                let rendered = self.render(conversation)?;
                // The template writes the special tokens itself.
                let tokens = self.encode(&rendered.text, false)?;
                (tokens, rendered.style, rendered.unnamed)
            }
        };
        if tokens.is_empty() {
            return Err(invalid("the prompt is empty: give it some text"));
        }
        if tokens.len() > self.context {
            return Err(self.too_long(tokens.len()));
        }
        self.check(&tokens)?;
        Ok(Prompt {
            tokens,
            style,
            unnamed,
        })
    }

    /// The tokens of a conversation, whether they fit or not.
    pub fn count(&self, conversation: &Conversation) -> Result<usize, Refusal> {
        let rendered = self.render(conversation)?;
        Ok(self.encode(&rendered.text, false)?.len())
    }

    /// Whether the model has a row for each of them.
    pub fn check(&self, tokens: &[u32]) -> Result<(), Refusal> {
        let most = self.vocab_size;
        match tokens.iter().find(|&&token| token as usize >= most) {
            None => Ok(()),
            Some(token) => Err(invalid(&format!(
                "token {token} is beyond the {most} that the model knows"
            ))),
        }
    }

    /// The ids of a text. `special`: with the tokens that the model's texts begin with.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Refusal> {
        let tokenizer = self.needed()?;
        let most = tokenizer.text_bytes_max(self.context);
        if text.len() as u64 > most {
            // Its tokens are not counted, but there are no fewer.
            let least = text.len() as u64 / (most / self.context.max(1) as u64).max(1);
            return Err(self.too_long(least as usize));
        }
        tokenizer.encode(text, special).map_err(of_text)
    }

    pub fn decode(&self, tokens: &[u32]) -> Result<String, Refusal> {
        self.needed()?.decode(tokens).map_err(of_text)
    }

    fn render(&self, conversation: &Conversation) -> Result<Rendered, Refusal> {
        let most = self
            .needed()?
            .text_bytes_max(self.context)
            .saturating_mul(CONVERSATION_FACTOR);
        let tools = tools_of(conversation)?;
        let has_tools = !tools.is_empty();
        let found = self.template_of(has_tools).ok_or_else(|| self.no_chat())?;
        let tools = Value::from(tools);
        let mut arguments = conversation.template_arguments.clone();
        if conversation.continues {
            arguments.insert("add_generation_prompt".to_owned(), false.into());
        }
        let has_arguments = !arguments.is_empty();
        let arguments = Value::Object(arguments).to_string();
        let chat = |messages: &[Value]| {
            let mut given = json!({ "messages": messages });
            if has_tools {
                given["tools"] = tools.clone();
            }
            let given = given.to_string();
            if given.len() as u64 > most.max(1 << 20) {
                return Err(self.too_long(self.context + 1));
            }
            let mut chat = Chat::from_json(given.as_bytes()).map_err(of_text)?;
            if has_arguments {
                chat.add_arguments(arguments.as_bytes()).map_err(of_text)?;
            }
            Ok(chat)
        };
        let template = &found.compiled;
        let messages = &conversation.messages;
        let given = chat(messages)?;
        let unnamed = match has_tools || has_arguments {
            true => template.never_names(&given).map_err(of_text)?,
            false => Vec::new(),
        };
        let unnamed = unnamed.into_iter().map(str::to_owned).collect();
        let mut text = calls::render(template, &given, messages, chat)?;
        if conversation.continues {
            cut_after_last(&mut text, conversation.messages.last());
        }
        let style = Style::of(&found.source, &text, has_tools).with_tools(&tools);
        Ok(Rendered {
            text,
            style,
            unnamed,
        })
    }

    fn template_of(&self, has_tools: bool) -> Option<&Template> {
        let tools = self.tools_template.as_ref().filter(|_| has_tools);
        tools.or(self.template.as_ref().ok())
    }

    fn needed(&self) -> Result<&Tokenizer, Refusal> {
        self.tokenizer.as_ref().ok_or_else(|| {
            invalid(
                "the model came without a tokenizer: send the prompt as token ids to /v1/completions",
            )
        })
    }

    fn no_chat(&self) -> Refusal {
        let why = self.no_template().unwrap_or("there is no chat template");
        invalid(&format!(
            "conversations cannot be answered: {why}; send the text itself to /v1/completions"
        ))
    }

    fn too_long(&self, tokens: usize) -> Refusal {
        Refusal {
            field: None,
            ..refuse::too_long(tokens, self.context, "")
        }
    }
}

/// The tools that the template is shown.
fn tools_of(conversation: &Conversation) -> Result<Vec<Value>, Refusal> {
    let name = |tool: &Value| tool["function"]["name"].as_str().map(str::to_owned);
    match &conversation.choice {
        ToolChoice::None => Ok(Vec::new()),
        ToolChoice::Auto | ToolChoice::Required => {
            Ok(conversation.tools.iter().map(shown).collect())
        }
        ToolChoice::Named(wanted) => {
            let of_name = |tool: &&Value| name(tool).as_ref() == Some(wanted);
            let found: Vec<Value> = conversation
                .tools
                .iter()
                .filter(of_name)
                .map(shown)
                .collect();
            match found.is_empty() {
                true => Err(invalid(&format!(
                    "tool_choice names `{wanted}`, and no tool of the request is called so"
                ))),
                false => Ok(found),
            }
        }
    }
}

/// Without what is none of the model's business.
fn shown(tool: &Value) -> Value {
    let mut tool = tool.clone();
    if let Some(function) = tool.get_mut("function").and_then(Value::as_object_mut) {
        function.shift_remove("strict");
    }
    tool
}

/// What a template writes after the begin of an answer would end it.
fn cut_after_last(text: &mut String, last: Option<&Value>) {
    let content = last.and_then(|message| message["content"].as_str());
    let content = content.unwrap_or("").trim();
    if let Some(at) = text.rfind(content).filter(|_| !content.is_empty()) {
        text.truncate(at + content.len());
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal {
        status: 400,
        kind: RefusalKind::Invalid,
        message: message.to_owned(),
        field: None,
    }
}

/// A template's or a tokenizer's no.
fn of_text(error: TextError) -> Refusal {
    let hint = error.hint().map(|hint| format!("; {hint}"));
    invalid(&format!("{error}{}", hint.unwrap_or_default()))
}
