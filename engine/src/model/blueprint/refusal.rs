//! A plan that could not be carried out becomes another one, or an error that names one that could.

use offload::{OffloadError, PlanRequest, Residency, ResidencyPlan};

use super::Blueprint;
use super::choice::SLOTS_DEFAULT;
use crate::error::EngineError;
use crate::machine::memory;

impl Blueprint {
    /// One resident layer fewer, where the device had less room than it said.
    pub(crate) fn lower(&mut self) -> Result<(), EngineError> {
        let fewer = self.plan.resident_count().saturating_sub(1);
        self.plan = ResidencyPlan::new(&PlanRequest {
            residency: Residency::Layers(fewer),
            ..self.request.clone()
        })?;
        self.one_slot = None;
        Ok(())
    }

    /// Asks the system for as much memory as loading will, and gives it back. Limits that count
    /// what is asked for show themselves before anything is read.
    pub(crate) fn try_memory(&self) -> Result<(), EngineError> {
        Ok(self.try_memory_for(&self.plan)?)
    }

    fn try_memory_for(&self, plan: &ResidencyPlan) -> Result<(), OffloadError> {
        if self.on_device() {
            return Ok(());
        }
        offload::try_memory(usize::try_from(self.asked_bytes(plan)).unwrap_or(usize::MAX))
    }

    /// What loading asks of the system's memory.
    fn asked_bytes(&self, plan: &ResidencyPlan) -> u64 {
        let beside = match memory::limits()
            .iter()
            .any(|limit| limit.kind.counts_untouched())
        {
            true => plan.reserved(&self.sizes.asked()),
            false => 0,
        };
        plan.planned_bytes_with_homes() + beside
    }

    /// Where the system refused memory: the plan that makes the most of what it does give, by
    /// trying. `None` where no smaller one is given either.
    fn roomier(&self) -> Option<ResidencyPlan> {
        let asked_bytes = self.asked_bytes(&self.plan);
        (0..=self.plan.layers())
            .rev()
            .map(|resident| self.plan.resized(resident))
            .find(|plan| {
                let smaller = self.asked_bytes(plan) < asked_bytes;
                smaller && plan.fits() && self.try_memory_for(plan).is_ok()
            })
    }

    /// What follows a refusal: plans with fewer layers, if it was `auto` that chose them, or says
    /// how many would do.
    pub(crate) fn after_refusal(&mut self, refused: EngineError) -> Result<(), EngineError> {
        let roomier = self.roomier();
        match (self.options.residency, roomier) {
            (Residency::Auto, Some(plan)) => {
                self.plan = plan;
                // It compared other plans.
                self.one_slot = None;
            }
            (_, roomier) => {
                return Err(EngineError::MemoryRefused {
                    asked: self.plan.resident_count(),
                    asked_bytes: self.asked_bytes(&self.plan),
                    fits: roomier.map(|plan| plan.resident_count()),
                    source: refused.into(),
                });
            }
        }
        Ok(())
    }

    /// Plans anew with resident blocks as the checkpoint has them, for the reason given.
    pub(crate) fn keep_plain(&mut self, varied: EngineError) -> Result<(), EngineError> {
        self.blocks = self.blocks.plain();
        self.request.costs = self.costs_in(self.link.home);
        // One slot was chosen for compact layers: both are weighed again.
        if self.one_slot.take().is_some() {
            self.request.slots = SLOTS_DEFAULT;
        }
        self.plan =
            ResidencyPlan::new(&self.request).map_err(|source| EngineError::PlainTooLarge {
                varied: varied.into(),
                source,
            })?;
        self.prefer_one_slot()
    }
}
