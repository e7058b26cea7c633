//! Everything a plan is computed from.

use std::sync::Arc;

use super::cost::{Costs, FixedBytes};

/// Where the resident layers sit among the streamed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    /// Streamed layers evenly between resident ones: two slots then keep the link busy.
    #[default]
    Even,
    /// The first N layers are resident, the rest is streamed in one run.
    ResidentFirst,
    /// The last N layers are resident.
    ResidentLast,
}

impl Spread {
    pub fn name(self) -> &'static str {
        match self {
            Self::Even => "spread",
            Self::ResidentFirst => "first",
            Self::ResidentLast => "last",
        }
    }
}

/// How many layers are to stay resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residency {
    Layers(usize),
    All,
    /// As many as the memory limit of the request allows.
    Auto,
}

/// What a run takes beside its plan of the memory that a limit is on: threads, page tables,
/// whatever has no line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReserveBytes {
    pub fixed: u64,
    /// More of it while anything is streamed.
    pub streaming: u64,
    /// For each resident block, slot and home.
    pub each_slab: u64,
    /// A byte for so many of the plan's; 0 is none.
    pub one_in: u64,
}

/// The host's memory, where the plan is for another's: homes in RAM are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoom {
    pub available_bytes: u64,
    /// The other memory is emulated, and so the plan's own bytes are there as well.
    pub has_plan: bool,
    pub reserve: ReserveBytes,
}

/// Everything a plan is computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRequest {
    /// Of every layer.
    pub costs: Arc<Costs>,
    pub fixed: FixedBytes,
    pub residency: Residency,
    pub spread: Spread,
    /// Slots asked for; at least 1.
    pub slots: usize,
    /// The most the plan may take. `None`: no limit was given and none could be found.
    pub memory_bytes: Option<u64>,
    /// What is kept of that for the run itself.
    pub reserve: ReserveBytes,
    pub host: Option<HostRoom>,
}

impl PlanRequest {
    pub fn layers(&self) -> usize {
        self.costs.blocks.len()
    }
}
