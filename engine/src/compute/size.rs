//! What computes take of memory, as values: a plan counts one, and the compute is then made from the
//! same one. So there is no second formula to differ from what is allocated.

use std::sync::Arc;

use kernels::{CacheType, Level, Team};
use loader::DType;
use offload::Place;

use super::clear::{ClearCompute, ClearSize};
use super::device::{DeviceCompute, DeviceSize};
use super::fast::{FastCompute, FastSize};
use super::{Compute, Kernels, SharedConfig};
use crate::error::EngineError;

/// Bytes that a compute takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Keys and values, at full capacity.
    pub cache: u64,
    /// Everything else that it makes, at the moment when it is most.
    pub scratch: u64,
    /// What the allocator keeps of memory that was given back, for the next that asks: of computes
    /// that allocate in passes.
    pub kept: u64,
}

/// What a run computes with, and how large all of it is.
#[derive(Debug, Clone)]
pub enum ComputeSize {
    Fast(FastSize),
    Clear(ClearSize),
    Device(DeviceSize),
}

/// How much passes through the layers at once, and is kept in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Positions of a sequence.
    pub context: usize,
    /// Sequences that are there together.
    pub sequences: usize,
    /// Rows whose logits are computed together.
    pub logit_rows: usize,
    /// The most rows of a prompt that pass through together.
    pub prompt_rows: usize,
    /// Positions of all sequences together.
    pub positions: usize,
}

impl Room {
    /// Room for at least one sequence, and at least one row of logits for each.
    pub fn of(context: usize, sequences: usize, logit_rows: usize) -> Self {
        let sequences = sequences.max(1);
        Self {
            context,
            sequences,
            logit_rows: logit_rows.max(sequences),
            prompt_rows: context,
            positions: sequences * context,
        }
    }

    /// No more rows of a prompt together than these.
    pub fn in_chunks(self, rows: Option<usize>) -> Self {
        let rows = rows.unwrap_or(self.context);
        Self {
            prompt_rows: rows.clamp(1, self.context),
            ..self
        }
    }

    /// Sequences that share these positions; one alone may have all of its context.
    pub fn sharing(self, positions: Option<usize>) -> Self {
        let all = self.sequences * self.context;
        let positions = positions.unwrap_or(all);
        Self {
            positions: positions.clamp(self.context, all),
            ..self
        }
    }

    /// Rows of a pass: one sequence's prompt, or a chunk of it, beside the next token of each other.
    pub fn rows(&self) -> usize {
        self.prompt_rows + self.sequences - 1
    }
}

/// What the sizes follow from, beside the model.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    pub kernels: Kernels,
    pub room: Room,
    pub cache_type: CacheType,
    /// Those that compute on the host.
    pub threads: usize,
    /// What a device computes in; `None` is the host.
    pub of_device: Option<DType>,
    /// The weights.
    pub weights: Weights<'a>,
}

/// What the sizes need to know of a model's weights.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    pub blocks: &'a crate::weights::blocks::Blocks,
    /// `None`: there is no head, because no logits are wanted.
    pub head: Option<loader::Encoding>,
    /// Some of them are in an encoding of blocks.
    pub quantised: bool,
}

impl ComputeSize {
    pub fn of(config: SharedConfig, setup: Setup<'_>) -> Self {
        let Setup {
            room, cache_type, ..
        } = setup;
        match (setup.kernels, setup.of_device) {
            (Kernels::Fast, None) => {
                let (level, quantised) = (Level::detect(), setup.weights.quantised);
                Self::Fast(FastSize::of(
                    config,
                    room,
                    cache_type,
                    (level, setup.threads),
                    quantised,
                ))
            }
            (Kernels::Fast, Some(own)) => Self::Device(DeviceSize::on_device(config, room, own)),
            (Kernels::Clear, Some(own)) => Self::Clear(ClearSize::on_device(config, room, own)),
            (Kernels::Clear, None) => {
                Self::Clear(ClearSize::on_host(config, room, cache_type, setup.weights))
            }
        }
    }

    pub fn needs(&self) -> Needs {
        match self {
            Self::Fast(size) => size.needs(),
            Self::Clear(size) => size.needs(),
            Self::Device(size) => size.needs(),
        }
    }

    /// Bytes that the cache would take less in two bytes a number, where it is in four by choice.
    pub fn smaller_cache_saves(&self) -> Option<u64> {
        match self {
            Self::Fast(size) => size.smaller_cache_saves(),
            Self::Clear(_) | Self::Device(_) => None,
        }
    }

    /// Makes it.
    pub fn make(
        &self,
        place: &dyn Place,
        team: &Arc<Team>,
    ) -> Result<Box<dyn Compute>, EngineError> {
        Ok(match self.clone() {
            Self::Fast(size) => Box::new(FastCompute::new(size, Arc::clone(team))),
            Self::Clear(size) => Box::new(ClearCompute::new(size, place)?),
            Self::Device(size) => Box::new(DeviceCompute::new(size, place)?),
        })
    }
}
