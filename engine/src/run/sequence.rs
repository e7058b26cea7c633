//! One sequence: the tokens that the model has seen, and what it keeps of them in the layers. Owned:
//! a chat, a branch, a draft. It can go back, be forked, saved and restored at any position.

use std::sync::Arc;

use crate::compute::SharedConfig;
use crate::compute::batch::{RunKind, State};
use crate::error::EngineError;

/// See the module. [`Session::sequence`](crate::Session::sequence) makes one.
#[derive(Debug)]
pub struct Sequence {
    pub(crate) state: State,
    pub(crate) tokens: Vec<u32>,
    context: usize,
    seat: Seat,
}

/// The first positions of a sequence, in as much memory as they need.
#[derive(Debug)]
pub struct Saved {
    state: State,
    tokens: Vec<u32>,
    of: SharedConfig,
}

/// One sequence's part of a batch.
#[derive(Debug)]
pub struct Part<'a> {
    pub sequence: &'a mut Sequence,
    /// What follows what it has seen.
    pub tokens: &'a [u32],
    pub kind: RunKind,
    /// Whether the logits after the last of them are wanted: not within a prompt.
    pub logits: bool,
}

impl<'a> Part<'a> {
    /// The logits after its last token are wanted.
    pub fn new(sequence: &'a mut Sequence, tokens: &'a [u32], kind: RunKind) -> Self {
        Self {
            sequence,
            tokens,
            kind,
            logits: true,
        }
    }
}

/// A place for a sequence. There are as many as the plan counted.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    taken: Arc<()>,
    most: usize,
    of: SharedConfig,
}

impl Seat {
    pub(crate) fn new(most: usize, of: SharedConfig) -> Self {
        Self {
            taken: Arc::default(),
            most,
            of,
        }
    }

    /// Another one, if there is one left.
    fn take(&self) -> Result<Self, EngineError> {
        // The first one is not a sequence's, but the session's.
        match Arc::strong_count(&self.taken) <= self.most {
            true => Ok(self.clone()),
            false => Err(EngineError::TooManySequences { most: self.most }),
        }
    }
}

impl Sequence {
    pub(crate) fn new(
        seat: &Seat,
        context: usize,
        state: impl FnOnce() -> Result<State, EngineError>,
    ) -> Result<Self, EngineError> {
        let seat = seat.take()?;
        Ok(Self {
            state: state()?,
            tokens: Vec::with_capacity(context),
            context,
            seat,
        })
    }

    /// The tokens that the model has seen.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Positions still free.
    pub fn room(&self) -> usize {
        self.context - self.tokens.len()
    }

    pub(crate) fn belongs_to(&self, seat: &Seat) -> bool {
        Arc::ptr_eq(&self.seat.taken, &seat.taken)
    }

    /// Goes back to the first `len` tokens.
    pub fn go_back(&mut self, len: usize) -> Result<(), EngineError> {
        self.check(len)?;
        self.tokens.truncate(len);
        Ok(())
    }

    /// Another sequence that has seen the first `len` tokens.
    pub fn fork(&self, len: usize) -> Result<Self, EngineError> {
        self.check(len)?;
        let state = || self.state.copied(len, self.context);
        let mut fork = Self::new(&self.seat, self.context, state)?;
        fork.tokens.extend(&self.tokens[..len]);
        Ok(fork)
    }

    /// The first `len` tokens and what is kept of them. It takes no place of a sequence, and its memory
    /// is the caller's to count.
    pub fn save(&self, len: usize) -> Result<Saved, EngineError> {
        self.check(len)?;
        Ok(Saved {
            state: self.state.copied(len, len)?,
            tokens: self.tokens[..len].to_vec(),
            of: Arc::clone(&self.seat.of),
        })
    }

    /// The memory that its first `len` tokens would take, saved.
    pub(crate) fn saved_bytes(&self, len: usize) -> u64 {
        self.state.bytes_for(len) + (len * size_of::<u32>()) as u64
    }

    /// Goes on from the first `len` tokens that were saved; what it has seen itself is forgotten.
    pub fn restore(&mut self, saved: &Saved, len: usize) -> Result<(), EngineError> {
        if !Arc::ptr_eq(&saved.of, &self.seat.of) {
            return Err(EngineError::OtherModel);
        }
        let seen = saved.tokens.len();
        if len > seen {
            return Err(EngineError::NotSeen { asked: len, seen });
        }
        self.state.copy_from(&saved.state, len)?;
        self.tokens.clear();
        self.tokens.extend(&saved.tokens[..len]);
        Ok(())
    }

    /// Goes on from the first `len` tokens that another sequence has seen.
    pub fn adopt(&mut self, other: &Self, len: usize) -> Result<(), EngineError> {
        other.check(len)?;
        if !other.belongs_to(&self.seat) {
            return Err(EngineError::OtherModel);
        }
        self.state.copy_from(&other.state, len)?;
        self.tokens.clear();
        self.tokens.extend(&other.tokens[..len]);
        Ok(())
    }

    fn check(&self, len: usize) -> Result<(), EngineError> {
        match len <= self.tokens.len() {
            true => Ok(()),
            false => Err(EngineError::NotSeen {
                asked: len,
                seen: self.tokens.len(),
            }),
        }
    }
}

impl Saved {
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The memory that it takes.
    pub fn bytes(&self) -> u64 {
        self.state.bytes() + size_of_val(&*self.tokens) as u64
    }
}
