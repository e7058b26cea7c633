//! What a run takes of RAM that is not the model's: the program, its tokenizer, and what choosing a
//! form took for a moment. Measured where that is possible before the run.

use super::Blueprint;
use crate::error::EngineError;
use crate::machine::memory;
use crate::model::prompt;
use crate::model::reserve;
use crate::text::Tokenizer;

/// What is in RAM beside what a plan counts, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// Code and data of the program as far as they are in use, and its heap; measured.
    pub program: u64,
    /// What loading the tokenizer left in memory; before it is loaded, the most that it may take.
    pub tokenizer: u64,
    /// Both forms of matrices while they were timed, before anything was loaded. It is given back.
    pub trial: u64,
}

impl Blueprint {
    /// What the run takes of RAM beside its plan, where the system tells.
    pub fn beside(&self) -> Option<Beside> {
        Some(Beside {
            program: memory::program_bytes()?,
            tokenizer: match self.tokenizer_bytes.get() {
                Some(measured) => *measured,
                None => reserve::tokenizer_bytes(self.checkpoint.vocabulary_bytes()),
            },
            trial: self.trial_bytes,
        })
    }

    /// The most RAM that the process is expected to hold at once. `None` where the system does not
    /// tell what the program takes, and where the model is in a device's memory.
    pub fn peak_bytes(&self) -> Option<u64> {
        if self.on_device() {
            return None;
        }
        let beside = self.beside()?;
        let model = self.plan.planned_bytes_with_homes().max(beside.trial);
        Some(model + beside.program + beside.tokenizer)
    }

    /// The tokenizer, if the checkpoint came with one. It is loaded when it is first asked for, and
    /// what that leaves in memory is measured: memory that the system's allocator keeps to itself
    /// afterwards is part of it.
    pub fn tokenizer(&self) -> Result<&Tokenizer, EngineError> {
        if self.tokenizer.get().is_none() {
            let before = memory::held_bytes();
            let tokenizer = prompt::tokenizer_of(&self.checkpoint)?;
            // These cannot have been set in between: a `OnceCell` is not shared between threads.
            if let (Some(before), Some(after)) = (before, memory::held_bytes()) {
                let _ = self.tokenizer_bytes.set(after.saturating_sub(before));
            }
            let _ = self.tokenizer.set(tokenizer);
        }
        let tokenizer = self.tokenizer.get().and_then(Option::as_ref);
        tokenizer.ok_or_else(|| prompt::no_tokenizer(&self.checkpoint))
    }
}
