//! Who is in the next pass: requests that arrive while others run, their prompts cut into chunks that
//! hold nobody up for long, the next tokens of all that run beside them. A pass serves them all with
//! one visit of each layer. It knows nothing of networks, and waits for nothing but its passes.

use std::time::{Duration, Instant};

use super::continuation::Continuation;
use super::generation::{Ended, GeneratedToken, GenerationOptions};
use super::sequence::{Part, Sequence};
use super::session::Session;
use crate::compute::batch::RunKind;
use crate::error::EngineError;

/// How a server schedules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleOptions {
    /// Tokens of a prompt's chunk; `None`: as many as take 200 ms.
    pub chunk: Option<usize>,
    /// Memory for states that no request uses, to begin others from.
    pub kept_bytes: u64,
}

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
    /// From its first token to its last.
    pub generating: Duration,
    /// Its passes' waiting for streamed layers.
    pub stalled: Duration,
    /// What its passes brought over the link, and the time that they took.
    pub link_bytes: u64,
    pub passes: Duration,
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    pub running: usize,
    pub waiting: usize,
    /// Positions that running sequences hold, and that there are.
    pub held: usize,
    pub positions: usize,
    /// Bytes of states that no request uses.
    pub kept_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Scheduler<'m> {
    session: Session<'m>,
    #[expect(dead_code, reason = "chunks and kept states come next")]
    options: ScheduleOptions,
    waiting: std::collections::VecDeque<Request>,
    running: Vec<(Request, Sequence)>,
}

#[derive(Debug)]
struct Request {
    id: u64,
    continuation: Continuation,
    account: Account,
    submitted: Instant,
}

impl<'m> Scheduler<'m> {
    /// The model must be open for as many sequences as shall run together.
    pub fn new(session: Session<'m>, options: ScheduleOptions) -> Self {
        Self {
            session,
            options,
            waiting: Default::default(),
            running: Vec::new(),
        }
    }

    pub fn session(&self) -> &Session<'m> {
        &self.session
    }

    /// Takes a request; `id` is the caller's. What can be said at once against it is said here.
    pub fn submit(
        &mut self,
        id: u64,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<(), EngineError> {
        let model = self.session.model();
        model.blueprint().check_tokens(&prompt, 0)?;
        let continuation = Continuation::new(model, prompt, options)?;
        self.waiting.push_back(Request {
            id,
            continuation,
            account: Account::default(),
            submitted: Instant::now(),
        });
        Ok(())
    }

    /// Nobody wants it any more. It is told nothing further.
    pub fn drop_request(&mut self, id: u64) {
        self.waiting.retain(|request| request.id != id);
        self.running.retain(|(request, _)| request.id != id);
    }

    pub fn load(&self) -> Load {
        Load {
            running: self.running.len(),
            waiting: self.waiting.len(),
            ..Load::default()
        }
    }

    /// One pass, and what it told whom. `false`: there was nothing to do.
    pub fn step(&mut self, tell: &mut dyn FnMut(u64, Told)) -> Result<bool, EngineError> {
        let most = self.session.model().blueprint().options.sequences;
        while self.running.len() < most {
            let Some(request) = self.waiting.pop_front() else {
                break;
            };
            self.running.push((request, self.session.sequence()?));
        }
        let Self {
            session, running, ..
        } = self;
        if running.is_empty() {
            return Ok(false);
        }
        let mut parts = Vec::new();
        for (request, sequence) in running.iter_mut() {
            if let Some((_, tokens)) = request.continuation.next(sequence.room()) {
                let kind = RunKind::of(tokens.len(), sequence.len());
                parts.push(Part {
                    sequence,
                    tokens,
                    kind,
                });
            }
        }
        let count = parts.len();
        if count > 0 {
            session.batch(&mut parts)?;
        }
        drop(parts);
        let logits = session.logits();
        let size = logits.len() / count.max(1);
        let mut at = 0;
        let mut ended = Vec::new();
        for (request, _) in running.iter_mut() {
            let id = request.id;
            if request.continuation.ended().is_none() {
                let token = request
                    .continuation
                    .sample(&mut logits[at * size..][..size])?;
                at += 1;
                if !request.continuation.is_end(token) {
                    tell(id, Told::Token(request.continuation.take(token)));
                }
            }
            if let Some(why) = request.continuation.ended() {
                request.account.generated_tokens = request.continuation.generated().len();
                request.account.prompt_tokens = request.continuation.prompt_tokens();
                request.account.generating = request.submitted.elapsed();
                let rest = request.continuation.rest();
                tell(
                    id,
                    Told::Ended {
                        rest,
                        ended: why,
                        account: request.account,
                    },
                );
                ended.push(id);
            }
        }
        running.retain(|(request, _)| !ended.contains(&request.id));
        Ok(true)
    }
}
