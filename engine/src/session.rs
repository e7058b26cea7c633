//! One sequence over a model: its run state, and passes. A pass sends rows (a prompt, or one
//! token) through every layer, visiting each block once, and times what it waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use offload::{BlockId, LayerIndex, LoadRecord};

use crate::compute::clear::ClearCompute;
use crate::compute::fast::FastCompute;
use crate::compute::{Compute, Kernels};
use crate::error::EngineError;
use crate::generation::{Generation, GenerationOptions};
use crate::load::STACK;
use crate::model::Model;
use crate::profile::PassTiming;

/// See the module.
pub struct Session<'m> {
    model: &'m mut Model,
    compute: Box<dyn Compute>,
    /// Positions already in the cache.
    position: usize,
    loads: Vec<LoadRecord>,
    cancel: Arc<AtomicBool>,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl<'m> Session<'m> {
    pub(crate) fn new(model: &'m mut Model) -> Result<Self, EngineError> {
        let config = Arc::clone(&model.blueprint.config);
        let context = model.blueprint.context;
        let compute: Box<dyn Compute> = match model.blueprint.options.kernels {
            Kernels::Fast => Box::new(FastCompute::new(config, context, Arc::clone(&model.team))),
            Kernels::Clear => Box::new(ClearCompute::new(config, context, &model.device)?),
        };
        let loads = Vec::with_capacity(2 * model.stack.streamed_count());
        Ok(Self {
            model,
            compute,
            position: 0,
            loads,
            cancel: Arc::default(),
        })
    }

    pub fn model(&self) -> &Model {
        self.model
    }

    /// Setting this ends the pass under way at its next layer, with [`EngineError::Interrupted`].
    pub fn cancel_with(&mut self, flag: Arc<AtomicBool>) {
        self.cancel = flag;
    }

    /// Positions still free in the cache.
    pub fn room(&self) -> usize {
        self.model.blueprint.context - self.position
    }

    /// Sends `tokens` through the model after what it has seen already. All of them share one
    /// visit of each layer.
    pub fn pass(&mut self, tokens: &[u32]) -> Result<PassTiming, EngineError> {
        self.model.blueprint.check_tokens(tokens, self.position)?;
        let Self {
            model,
            compute,
            loads,
            cancel,
            position,
        } = self;
        let started = Instant::now();
        model.stack.finish_unit()?;
        loads.clear();
        compute.embed(&model.ends, tokens, *position)?;
        let mut in_blocks = Duration::ZERO;
        for layer in LayerIndex::first(model.blueprint.config.layers) {
            if cancel.load(Ordering::Relaxed) {
                return Err(EngineError::Interrupted);
            }
            model.stack.visit(BlockId::new(STACK, layer), |slab| {
                let from = Instant::now();
                let done = compute.block(layer, slab);
                in_blocks += from.elapsed();
                done
            })?;
        }
        let at_head = Instant::now();
        compute.finish(&model.ends)?;
        model.stack.take_records(loads);
        *position += tokens.len();
        Ok(PassTiming {
            rows: tokens.len(),
            total: started.elapsed(),
            compute: in_blocks,
            stalled: loads.iter().map(|load| load.pre).sum(),
            head: at_head.elapsed(),
            sampling: Duration::ZERO,
        })
    }

    /// The logits after the last pass's last token. Yours to change: sampling does.
    pub fn logits(&mut self) -> &mut [f32] {
        self.compute.logits()
    }

    /// The loads of the last pass.
    pub fn loads(&self) -> &[LoadRecord] {
        &self.loads
    }

    /// Generates after `prompt`, token by token. The last token given out has not been seen by the
    /// model yet: to go on later, begin the next prompt with it.
    pub fn generate(
        &mut self,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<Generation<'_, 'm>, EngineError> {
        Generation::new(self, prompt, options)
    }
}
