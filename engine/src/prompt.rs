//! From a prompt to token ids that the model can take. Belongs to the blueprint: what is wrong
//! with a prompt should not take gigabytes to find out.

use loader::Checkpoint;

use crate::blueprint::Blueprint;
use crate::error::EngineError;
use crate::text::{Chat, ChatTemplate, Tokenizer};

/// The checkpoint's tokenizer, if it came with one; refused when it belongs to another model.
pub fn tokenizer_of(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>, EngineError> {
    let Some(json) = checkpoint.file("tokenizer.json")? else {
        return Ok(None);
    };
    let tokenizer = Tokenizer::from_json(&json)?;
    let embedding = checkpoint.config.vocab_size;
    match tokenizer.vocab_size() {
        tokenizer if tokenizer > embedding => Err(EngineError::VocabularyMismatch {
            tokenizer,
            embedding,
        }),
        _ => Ok(Some(tokenizer)),
    }
}

impl Blueprint {
    /// The tokenizer, read when it is first asked for.
    pub fn tokenizer(&self) -> Result<&Tokenizer, EngineError> {
        if self.tokenizer.get().is_none() {
            // Nobody can have set it in between: a `OnceCell` is not shared between threads.
            let _ = self.tokenizer.set(tokenizer_of(&self.checkpoint)?);
        }
        let tokenizer = self.tokenizer.get().and_then(Option::as_ref);
        tokenizer.ok_or_else(|| EngineError::NoTokenizer {
            location: self.checkpoint.location().into(),
        })
    }

    /// The ids of a text, with the special tokens that the model's texts begin with.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        if text.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        Ok(self.tokenizer()?.encode(text, true)?)
    }

    /// The ids of a conversation in the model's own chat format, ready for its answer.
    pub fn encode_chat(&self, chat: &Chat) -> Result<Vec<u32>, EngineError> {
        let tokenizer = self.tokenizer()?;
        let source = self.checkpoint.chat_template()?;
        let source = source.ok_or_else(|| EngineError::NoChatTemplate {
            location: self.checkpoint.location().into(),
        })?;
        let special = self.checkpoint.special_tokens()?;
        let special = [("bos_token", special.bos), ("eos_token", special.eos)];
        let special = special.into_iter();
        let special = special.filter_map(|(name, token)| Some((name.to_owned(), token?)));
        let template = ChatTemplate::new(source, special.collect())?;
        // The template writes the special tokens itself.
        Ok(tokenizer.encode(&template.render(chat)?, false)?)
    }

    /// Whether a cache that holds `taken` positions already can take these tokens, and the
    /// vocabulary knows them.
    pub fn check_tokens(&self, tokens: &[u32], taken: usize) -> Result<(), EngineError> {
        let (prompt, context) = (taken + tokens.len(), self.context);
        let vocab_size = self.config.vocab_size;
        if tokens.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if prompt > context {
            return Err(EngineError::PromptTooLong { prompt, context });
        }
        match tokens.iter().find(|&&token| token as usize >= vocab_size) {
            Some(&token) => Err(EngineError::TokenOutOfRange { token, vocab_size }),
            None => Ok(()),
        }
    }
}
