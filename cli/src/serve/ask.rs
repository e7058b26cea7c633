//! What a client asks for and what it is told, whichever API it speaks: each API translates its
//! requests into an [`Ask`], and the [`Piece`]s of the answer into its own events. It must not know
//! HTTP, and nothing here computes.

use engine::Account;
use engine::text::Logprobs;
use serde_json::{Map, Value};

use crate::args::DrawArgs;

/// One request, as every API asks it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The model that the client named.
    pub model: Option<String>,
    pub input: Input,
    pub sampling: Asked,
    /// Added to the logits of these tokens.
    pub bias: Vec<(u32, f32)>,
    pub stop: Vec<String>,
    /// What the answer's text has to be.
    pub form: Form,
    /// `None`: as many as the context holds.
    pub max_tokens: Option<usize>,
    /// The likeliest tokens to tell with each token; `Some(0)`: only its own probability.
    pub logprobs: Option<usize>,
    /// Whether the ids of the tokens are told as well.
    pub token_ids: bool,
    /// Answers to give.
    pub answers: usize,
}

/// What an answer's text has to be.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Form {
    #[default]
    Text,
    /// JSON, an object.
    Object,
    /// JSON that a schema describes, and the field that has it.
    Schema { schema: Value, field: &'static str },
}

/// What is to be continued.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    Chat(Conversation),
    /// A text, with the special tokens that the model's texts begin with.
    Text(String),
    Tokens(Vec<u32>),
}

/// A conversation in the form that chat templates read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// Objects with `role` (system, user, assistant, tool), `content` as a text, and, where they have
    /// them, `reasoning_content`, `tool_calls` (`function.arguments` as an object, or as a text
    /// where they are the JSON of none), `tool_call_id`, `name`. One system message at most, and at
    /// the front.
    pub messages: Vec<Value>,
    /// As OpenAI's chat API has them: `{"type": "function", "function": {"name", "description",
    /// "parameters"}}`. Those that are `strict` say so; templates are not shown it.
    pub tools: Vec<Value>,
    pub choice: ToolChoice,
    /// Whether it may call several tools in one answer.
    pub parallel_calls: bool,
    /// `chat_template_kwargs`.
    pub template_arguments: Map<String, Value>,
    /// The last message is the begin of the answer, to be continued.
    pub continues: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    #[default]
    Auto,
    None,
    Required,
    Named(String),
}

/// What was asked for of the sampler; the rest is the server's default.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Asked {
    pub draw: DrawArgs,
    pub seed: Option<u64>,
    /// To go on past the model's own end of text: for measurements.
    pub ignore_eos: bool,
}

/// A part of an answer, in the order in which it comes.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// So many tokens of the prompt are read, of so many.
    Prompt {
        read: usize,
        of: usize,
    },
    Reasoning(String),
    Text(String),
    /// A call of a tool begins; `index` counts the calls of one answer.
    Call {
        index: usize,
        id: String,
        name: String,
    },
    /// More of its arguments, which are JSON when all of them are there.
    Arguments {
        index: usize,
        json: String,
    },
    /// One for each token, where they were asked for; beside the text that came of it.
    Likely(Vec<Likely>),
    /// The ids of tokens, where they were asked for.
    Tokens(Vec<u32>),
    End(Finish, Account),
}

/// A token and how likely it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Likely {
    pub logprobs: Logprobs,
    /// The bytes that it stands for, and those of the likeliest.
    pub bytes: Vec<u8>,
    pub top_bytes: Vec<Vec<u8>>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model was done.
    Done,
    /// A text of the client's ended it: which of `Ask::stop`.
    Stopped(usize),
    /// `max_tokens`.
    Length,
    /// The context is full.
    ContextFull,
    Calls,
}

/// A request that is not answered: its status, and what an API makes a body of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub kind: RefusalKind,
    /// What is wrong, with the numbers, and what to do.
    pub message: String,
    /// The field of the request.
    pub field: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    Invalid,
    /// A field or value that would change the answer and is not supported.
    Unsupported,
    ContextLengthExceeded,
    Key,
    Forbidden,
    NotFound,
    TooLarge,
    /// The queue is full: 429.
    Busy,
    Loading,
    Failed,
}
