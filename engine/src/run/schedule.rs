//! Who is in the next pass: requests that arrive while others run, their prompts cut into chunks that
//! hold nobody up for long, and beside them the next tokens of all that run. One pass serves them all
//! with one visit of each layer. It knows nothing of networks, and waits for nothing but its passes.
//!
//! First come, first served. A request begins from what was seen of its prompt before ([`places`]).
//! Where sequences share fewer positions than they may grow to, the youngest gives way: it waits, and
//! is computed again from its tokens, with the same bits.

use std::collections::VecDeque;
use std::time::Instant;

use super::continuation::Continuation;
use super::generation::GenerationOptions;
use super::sequence::Part;
use super::session::Session;
use crate::error::EngineError;
use crate::profile::PassTiming;

mod leaver;
mod outcome;
mod pace;
mod places;
mod request;

pub use leaver::Leaver;
use pace::Pace;
use places::{Places, in_common};
use request::Request;
pub use request::{Account, Told};

/// A prompt that has so much more in common with one that is being read waits until it is read.
const WORTH_WAITING_TOKENS: usize = 64;

/// How requests are served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleOptions {
    /// Tokens of prompts in a pass; `None`: as many as take 200 ms beside others' next tokens.
    pub chunk: Option<usize>,
    /// Memory for states that no request uses, to begin others from. The model was opened with as
    /// much in its plan.
    pub kept_bytes: u64,
    /// Whether requests begin from what others have seen.
    pub reuse: bool,
}

impl Default for ScheduleOptions {
    fn default() -> Self {
        Self {
            chunk: None,
            kept_bytes: 0,
            reuse: true,
        }
    }
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    pub running: usize,
    pub waiting: usize,
    /// Positions whose memory is taken, and that there are.
    pub held: usize,
    pub positions: usize,
    /// Bytes of states that no request uses.
    pub kept_bytes: u64,
}

/// Requests, and the session that serves them.
#[derive(Debug)]
pub struct Scheduler<'m> {
    session: Session<'m>,
    chunk: Option<usize>,
    places: Places,
    pace: Pace,
    leaver: Leaver,
    waiting: VecDeque<Request>,
    /// Those that have a place; the one that has waited longest first.
    running: Vec<Request>,
    /// After a pass that failed: each runs alone for a pass, so that only the culprit fails.
    apart: Vec<u64>,
}

/// A request's part of the next pass.
#[derive(Debug, Clone, Copy)]
struct Planned {
    /// Its index among those that run.
    at: usize,
    /// How many tokens are read, of its prompt or the next one.
    tokens: usize,
}

impl<'m> Scheduler<'m> {
    /// The model must be open for as many sequences as shall run together.
    pub fn new(mut session: Session<'m>, options: ScheduleOptions) -> Result<Self, EngineError> {
        let leaver = Leaver::default();
        session.cancel_with(leaver.flag());
        // All places are the scheduler's.
        drop(session.take_own()?);
        Ok(Self {
            places: Places::new(&session, options.kept_bytes, options.reuse),
            session,
            chunk: options.chunk,
            pace: Pace::default(),
            leaver,
            waiting: VecDeque::new(),
            running: Vec::new(),
            apart: Vec::new(),
        })
    }

    pub fn session(&self) -> &Session<'m> {
        &self.session
    }

    /// What ends passes from another thread.
    pub fn leaver(&self) -> Leaver {
        self.leaver.clone()
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
        self.waiting.push_back(Request::new(id, continuation));
        Ok(())
    }

    /// Its client is gone: it is told nothing further.
    pub fn drop_request(&mut self, id: u64) {
        self.waiting.retain(|request| request.id != id);
        if let Some(at) = self.running.iter().position(|request| request.id == id) {
            let request = self.running.remove(at);
            self.places.free(request.place);
        }
    }

    pub fn load(&self) -> Load {
        let (held, positions) = self.places.positions();
        Load {
            running: self.running.len(),
            waiting: self.waiting.len(),
            held,
            positions,
            kept_bytes: self.places.kept_bytes(),
        }
    }

    /// One pass, and what it told whom. `false`: there was nothing to do.
    pub fn step(&mut self, tell: &mut dyn FnMut(u64, Told)) -> Result<bool, EngineError> {
        self.end_the_full(tell);
        self.admit(tell)?;
        // Some want no token at all.
        self.end_the_full(tell);
        let planned = self.plan();
        if planned.is_empty() {
            return Ok(false);
        }
        match self.pass(&planned) {
            Ok(timing) => self.tell_all(&planned, &timing, tell),
            // The clients that it was made for are gone.
            Err(EngineError::Interrupted) => {}
            Err(error) => self.failed(&planned, error, tell),
        }
        Ok(true)
    }

    /// Those that have no further token to come: asked for none, or the context is full.
    fn end_the_full(&mut self, tell: &mut dyn FnMut(u64, Told)) {
        let context = self.session.model().blueprint().context;
        for request in &mut self.running {
            let room = context - (request.continuation.tokens().len() - 1);
            let _ = request.continuation.next(room);
        }
        self.take_out(tell);
    }

    /// Gives places to those that wait.
    fn admit(&mut self, tell: &mut dyn FnMut(u64, Told)) -> Result<(), EngineError> {
        let mut at = 0;
        while let Some(request) = self.waiting.get(at) {
            let tokens = request.continuation.tokens();
            if self.comes_soon(tokens) {
                at += 1;
                continue;
            }
            let Some((place, seen)) = self.places.take(&self.session, tokens)? else {
                // Those behind it do not go first: it might wait for ever.
                break;
            };
            let Some(mut request) = self.waiting.remove(at) else {
                break;
            };
            if request.began.is_none() {
                request.began = Some(Instant::now());
                request.account.cached_tokens = seen.min(request.continuation.prompt_tokens());
                tell(request.id, Told::Prompt { read: seen });
            }
            (request.place, request.seen) = (place, seen);
            self.running.push(request);
        }
        Ok(())
    }

    /// Whether one that runs is reading what this one begins with.
    fn comes_soon(&self, tokens: &[u32]) -> bool {
        let known = self.places.known(tokens);
        let reading = self.running.iter().filter(|request| request.reads());
        self.places.reuses()
            && reading
                .map(|request| {
                    let prompt = request.continuation.prompt_tokens();
                    in_common(&request.continuation.tokens()[..prompt], tokens)
                })
                .any(|common| common >= known + WORTH_WAITING_TOKENS)
    }

    /// Who reads how much in the next pass.
    fn plan(&mut self) -> Vec<Planned> {
        if let Some(alone) = self.next_apart() {
            let tokens = self.running[alone].next(self.rows_max()).0.len();
            return vec![Planned { at: alone, tokens }];
        }
        self.make_room();
        let says = |request: &&Request| !request.reads();
        let others = self.running.iter().filter(says).count();
        let chunk = self.chunk.unwrap_or_else(|| self.pace.rows(others));
        let mut left = chunk.min(self.rows_max());
        let mut planned = Vec::with_capacity(self.running.len());
        for (at, request) in self.running.iter().enumerate() {
            if left == 0 && request.reads() {
                continue;
            }
            let tokens = request.next(left).0.len();
            if request.reads() {
                left -= tokens;
            }
            planned.push(Planned { at, tokens });
        }
        planned
    }

    /// Rows of prompts that a pass has room for.
    fn rows_max(&self) -> usize {
        self.session.model().blueprint().room().prompt_rows
    }

    /// The next of those that run alone, because a pass of theirs failed.
    fn next_apart(&mut self) -> Option<usize> {
        while let Some(id) = self.apart.pop() {
            let at = self.running.iter().position(|request| request.id == id);
            if at.is_some() {
                return at;
            }
        }
        None
    }

    /// A position more for each that gets a token; where there are too few, the youngest gives way.
    fn make_room(&mut self) {
        loop {
            let grow = self.running.iter().filter(|request| !request.reads());
            let grow: Vec<usize> = grow.map(|request| request.place).collect();
            if self.places.grow(&grow) || self.running.len() < 2 {
                return;
            }
            let youngest = self.running.iter().enumerate();
            let youngest = youngest.max_by_key(|(_, request)| request.submitted);
            let Some((at, _)) = youngest else {
                return;
            };
            let mut request = self.running.remove(at);
            self.places.clear(request.place);
            request.seen = 0;
            self.waiting.push_front(request);
        }
    }

    fn pass(&mut self, planned: &[Planned]) -> Result<PassTiming, EngineError> {
        let only_reads = planned
            .iter()
            .all(|planned| self.running[planned.at].reads());
        let readers = planned.iter().map(|planned| self.running[planned.at].id);
        let readers: Vec<u64> = readers.filter(|_| only_reads).collect();
        self.leaver.begin(readers.into_iter());
        // Each place's sequence once, in the order of the parts.
        let mut sequences: Vec<_> = self.places.sequences().collect();
        let mut parts = Vec::with_capacity(planned.len());
        for planned in planned {
            let request = &self.running[planned.at];
            let Some(sequence) = sequences[request.place].take() else {
                continue;
            };
            let (tokens, kind) = request.next(planned.tokens);
            parts.push(Part {
                sequence,
                tokens,
                kind,
                logits: request.says_after(planned.tokens),
            });
        }
        self.session.batch(&mut parts)
    }
}
