//! A request on its way through a scheduler: what it has read, what it reads next, and what it is told.

use std::time::{Duration, Instant};

use crate::compute::batch::RunKind;
use crate::error::EngineError;
use crate::run::continuation::Continuation;
use crate::run::generation::{Ended, GeneratedToken};

/// What becomes of a request, in order: chunks of its prompt, tokens, its end.
#[derive(Debug)]
pub enum Told {
    /// So many tokens of its prompt are read; the first time, those that were there already.
    Prompt {
        read: usize,
    },
    Token(GeneratedToken),
    Ended {
        /// Text that was held back for a stop string.
        rest: String,
        ended: Ended,
        /// Which of the texts to stop at did.
        stopped_by: Option<usize>,
        account: Account,
    },
    Failed(EngineError),
}

/// What a request took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Account {
    pub prompt_tokens: usize,
    /// Those of the prompt that were there already, from another request.
    pub cached_tokens: usize,
    pub generated_tokens: usize,
    /// Until it had a place.
    pub queued: Duration,
    /// From there to its first token.
    pub prompt: Duration,
    /// From its first token to its end.
    pub generating: Duration,
    /// What its grammar took to say which tokens may come.
    pub masking: Duration,
    /// Its passes' waiting for streamed layers.
    pub stalled: Duration,
    /// What its passes brought over the link, and the time that they took.
    pub link_bytes: u64,
    pub passes: Duration,
}

#[derive(Debug)]
pub(super) struct Request {
    pub id: u64,
    pub continuation: Continuation,
    pub account: Account,
    pub submitted: Instant,
    /// When it first had a place.
    pub began: Option<Instant>,
    pub first_token: Option<Instant>,
    pub place: usize,
    /// Tokens that its sequence has seen.
    pub seen: usize,
}

impl Request {
    pub fn new(id: u64, continuation: Continuation) -> Self {
        Self {
            id,
            continuation,
            account: Account::default(),
            submitted: Instant::now(),
            began: None,
            first_token: None,
            place: 0,
            seen: 0,
        }
    }

    /// The next tokens to read, at most so many, and how.
    pub fn next(&self, chunk: usize) -> (&[u32], RunKind) {
        let prompt = self.continuation.prompt_tokens();
        let tokens = self.continuation.tokens();
        if self.seen < prompt {
            let end = prompt.min(self.seen + chunk);
            return (&tokens[self.seen..end], RunKind::Prompt { whole: prompt });
        }
        if !self.reads() {
            return (&tokens[self.seen..], RunKind::Decode);
        }
        // It gave way, and comes to where it was with the same bits.
        let end = tokens.len().min(self.seen + chunk);
        (&tokens[self.seen..end], RunKind::Verify)
    }

    /// Whether it has more to read than the token that it was given last.
    pub fn reads(&self) -> bool {
        self.seen < self.continuation.prompt_tokens()
            || self.seen + 1 < self.continuation.tokens().len()
    }

    /// Whether a pass that reads so many of its tokens gives it the next one.
    pub fn says_after(&self, tokens: usize) -> bool {
        self.seen + tokens == self.continuation.tokens().len()
    }

    pub fn finished(&mut self) -> Account {
        let now = Instant::now();
        let began = self.began.unwrap_or(now);
        let first = self.first_token.unwrap_or(now);
        Account {
            prompt_tokens: self.continuation.prompt_tokens(),
            generated_tokens: self.continuation.generated().len(),
            queued: began - self.submitted,
            prompt: first.saturating_duration_since(began),
            generating: now - first,
            ..self.account
        }
    }
}
