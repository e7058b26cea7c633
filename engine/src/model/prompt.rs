//! From a prompt to token ids that the model can take. What is wrong with a prompt should not take
//! gigabytes to find out: this happens before weights are loaded, and a text that cannot fit is
//! refused by its length, before it is tokenized.

use loader::Checkpoint;
use serde_json::Map;

use crate::error::EngineError;
use crate::model::Blueprint;
use crate::text::special::SPECIAL_TOKENS_MAP;
use crate::text::{Chat, ChatTemplate, SpecialTokens, Tokenizer, Vocabulary};

const TOKENIZER: &str = "tokenizer.json";

/// What other programs keep their vocabularies in.
const OTHER_VOCABULARIES: [&str; 6] = [
    "tokenizer.model",
    "tekken.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
    "vocab.json",
];

/// A template may leave out most of a conversation, and JSON has longer ways to write it.
const CONVERSATION_FACTOR: u64 = 16;
const CONVERSATION_BYTES_MIN: u64 = 16 << 20;
const CONVERSATION_BYTES_MAX: u64 = 256 << 20;

/// The checkpoint's tokenizer, if it came with one.
pub fn tokenizer_of(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>, EngineError> {
    if let Some(vocabulary) = checkpoint.gguf_tokenizer()? {
        let special = special_tokens_of(checkpoint)?;
        return Ok(Some(Tokenizer::of_gguf(&vocabulary, &special)?));
    }
    let Some(json) = checkpoint.file(TOKENIZER)? else {
        return Ok(None);
    };
    Ok(Some(Tokenizer::new(
        &json,
        &special_tokens_of(checkpoint)?,
    )?))
}

/// Its special tokens, as the files beside `tokenizer.json` have them.
fn special_tokens_of(checkpoint: &Checkpoint) -> Result<SpecialTokens, EngineError> {
    let none = Map::new();
    let config = checkpoint.tokenizer_config()?.unwrap_or(&none);
    let map = checkpoint.object_file(SPECIAL_TOKENS_MAP)?;
    Ok(SpecialTokens::of(config, map.as_deref())?)
}

/// The chat template of that name; without one, the template for tools where there are tools and
/// there is such a one, else the default. Also how it is called.
pub fn chat_template_of(
    checkpoint: &Checkpoint,
    asked: Option<&str>,
    has_tools: bool,
) -> Result<(String, ChatTemplate), EngineError> {
    const TOOL_USE: &str = "tool_use";
    let location = || checkpoint.location().to_owned();
    let names = checkpoint.chat_template_names()?;
    if names.is_empty() {
        let location = location();
        return Err(EngineError::NoChatTemplate { location });
    }
    let name = match asked {
        Some(asked) => asked,
        None if has_tools && names.iter().any(|name| name == TOOL_USE) => TOOL_USE,
        None => "default",
    };
    let source = checkpoint.chat_template(name)?;
    let source = source.ok_or_else(|| EngineError::NoSuchChatTemplate {
        location: location(),
        name: name.to_owned(),
        names,
    })?;
    let special = special_tokens_of(checkpoint)?.names();
    Ok((name.to_owned(), ChatTemplate::new(source, special)?))
}

/// What a conversation became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    /// The name of the template.
    pub template: String,
    /// What was given and the template never names.
    pub unnamed: Vec<String>,
}

/// A tokenizer, and how much text it can be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Prompter<'a> {
    checkpoint: &'a Checkpoint,
    tokenizer: &'a Tokenizer,
    context: usize,
}

impl<'a> Prompter<'a> {
    /// `context`: the most tokens that a prompt may have.
    pub fn new(checkpoint: &'a Checkpoint, tokenizer: &'a Tokenizer, context: usize) -> Self {
        Self {
            checkpoint,
            tokenizer,
            context,
        }
    }

    /// No longer text can have so few tokens that they fit.
    pub fn text_bytes_max(&self) -> u64 {
        self.tokenizer.text_bytes_max(self.context)
    }

    /// The longest text to put into a template, which may trim it.
    pub fn chat_text_bytes_max(&self) -> u64 {
        self.text_bytes_max().saturating_mul(CONVERSATION_FACTOR)
    }

    /// The longest conversation to read. A template may trim what it is given, or leave it out:
    /// this is for what has no end, and the text that comes of it has the bound of every text.
    pub fn conversation_bytes_max(&self) -> u64 {
        let bytes = self.chat_text_bytes_max();
        bytes.clamp(CONVERSATION_BYTES_MIN, CONVERSATION_BYTES_MAX)
    }

    /// The error of a text that is longer than it may be; `None`: how long is not known.
    pub fn too_long(&self, text_bytes: Option<u64>, most_bytes: u64) -> EngineError {
        EngineError::TextTooLong {
            text_bytes,
            most_bytes,
            context: self.context,
            longest_bytes: self.tokenizer.longest_bytes(),
        }
    }

    /// The ids of a text. `special`: with the tokens that the model's texts begin with.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, EngineError> {
        let (bytes, most) = (text.len() as u64, self.text_bytes_max());
        if text.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if bytes > most {
            return Err(self.too_long(Some(bytes), most));
        }
        Ok(self.tokenizer.encode(text, special)?)
    }

    /// The text of a conversation in the model's own chat format.
    pub fn render(&self, chat: &Chat, template: Option<&str>) -> Result<Rendered, EngineError> {
        let (name, template) = chat_template_of(self.checkpoint, template, chat.has_tools())?;
        let unnamed = template.never_names(chat)?;
        Ok(Rendered {
            unnamed: unnamed.into_iter().map(str::to_owned).collect(),
            text: template.render(chat)?,
            template: name,
        })
    }
}

impl Blueprint {
    /// What turns texts into tokens.
    pub fn prompter(&self) -> Result<Prompter<'_>, EngineError> {
        let tokenizer = self.tokenizer()?;
        Ok(Prompter::new(&self.checkpoint, tokenizer, self.context))
    }

    /// The ids that end a text: of the generation config, else of the model's.
    pub fn eos_token_ids(&self) -> &[u32] {
        let generation = &self.checkpoint.generation.eos_token_ids;
        if generation.is_empty() {
            &self.config.eos_token_ids
        } else {
            generation
        }
    }

    /// The tokens as grammars need them. Made anew each time, which takes a moment.
    pub fn vocabulary(&self) -> Result<Vocabulary, EngineError> {
        let (ends, logits) = (self.eos_token_ids(), self.config.vocab_size);
        Ok(Vocabulary::new(self.tokenizer()?, ends, logits)?)
    }

    /// The ids of a text, with the special tokens that the model's texts begin with.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.prompter()?.encode(text, true)
    }

    /// Whether a cache that holds `taken` positions already can take these tokens, and the
    /// embedding has rows for them.
    pub fn check_tokens(&self, tokens: &[u32], taken: usize) -> Result<(), EngineError> {
        let (prompt, context) = (taken + tokens.len(), self.context);
        if tokens.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if prompt > context {
            return Err(EngineError::PromptTooLong { prompt, context });
        }
        self.check_vocabulary(tokens)
    }

    /// Whether the model has a row for each of them.
    pub fn check_vocabulary(&self, tokens: &[u32]) -> Result<(), EngineError> {
        let vocab_size = self.config.vocab_size;
        match tokens.iter().find(|&&token| token as usize >= vocab_size) {
            Some(&token) => Err(EngineError::TokenOutOfRange {
                token,
                text: self
                    .tokenizer()
                    .ok()
                    .and_then(|tokenizer| tokenizer.token(token)),
                vocab_size,
            }),
            None => Ok(()),
        }
    }
}

/// There is none; what is there instead is named.
pub fn no_tokenizer(checkpoint: &Checkpoint) -> EngineError {
    let there = |name: &&&str| matches!(checkpoint.has_file(name), Ok(true));
    EngineError::NoTokenizer {
        location: checkpoint.location().into(),
        instead: OTHER_VOCABULARIES.iter().find(there).copied(),
    }
}
