//! Passes over a model: the rows of all runs go through every layer, which is visited once, and what
//! was waited for is timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use candle_core::Tensor;
use offload::{BlockId, LayerIndex, ResidencyPlan};

use super::past::{Measured, Past};
use crate::compute::Compute;
use crate::compute::batch::{Run, rows_of};
use crate::compute::finite::{Culprit, all_finite, broken_weights};
use crate::error::EngineError;
use crate::machine::cores::CoreWatch;
use crate::model::Model;
use crate::profile::{
    Clock, OpenSpan, PassKind, PassTiming, Recording, SpanName, Stage, Startup, span, stage,
};
use crate::text::{Candidates, Wanted};

/// Makes passes over one model, and measures them.
pub(crate) struct Passes<'m> {
    pub model: &'m mut Model,
    pub compute: Box<dyn Compute>,
    pub cancel: Arc<AtomicBool>,
    /// Layers that the pass under way has behind it.
    pub layers_done: Arc<AtomicUsize>,
    /// The clock of the pass under way.
    pub clock: Clock,
    past: Past,
    /// There if it was asked for: it reads files of the system's between tokens.
    watch: Option<CoreWatch>,
    /// Takes the times of ordering work for a device, which are not reported.
    ordering: Clock,
    pub startup: Startup,
}

impl<'m> Passes<'m> {
    pub fn new(model: &'m mut Model) -> Result<Self, EngineError> {
        let mut startup = model.startup.clone();
        startup
            .spans
            .extend(model.measuring.borrow().iter().copied());
        let compute = stage!(startup, Init, compute_of(model)?);
        let cancel = Arc::<AtomicBool>::default();
        // The flag of the session before means nothing to this one.
        model.cancel_with(&cancel);
        Ok(Self {
            past: Past::new(model.blueprint.on_device()),
            watch: None,
            model,
            compute,
            cancel,
            layers_done: Arc::default(),
            clock: Clock::default(),
            ordering: Clock::default(),
            startup,
        })
    }

    pub fn watch_cores(&mut self) {
        if self.watch.is_none() {
            self.watch = Some(CoreWatch::start(self.model.team.places()));
        }
    }

    pub fn record(&mut self) {
        // A pass that was made before does not belong on it.
        let _ = self.settle();
        self.watch_cores();
        self.clock.keep_spans();
        self.past.record(Recording::new(self.startup.spans.clone()));
    }

    pub fn take_recording(&mut self) -> Option<Recording> {
        // What a device cannot say any more is left out.
        let _ = self.settle();
        self.clock.drop_spans();
        self.past.take_recording()
    }

    /// A pass up to the head, which is what follows: [`Passes::head`] or [`Passes::head_wanted`].
    /// `units`: what the pass gives its caller to count, as a rule a token for each sequence.
    pub fn blocks(
        &mut self,
        kind: PassKind,
        units: usize,
        runs: &mut [Run<'_>],
    ) -> Result<(), EngineError> {
        for run in &*runs {
            self.model
                .blueprint
                .check_tokens(run.tokens, run.position)?;
        }
        let rows = runs.iter().map(|run| run.tokens.len()).sum();
        let most = self.model.blueprint.room().rows();
        if rows > most {
            return Err(EngineError::TooManyRows { rows, most });
        }
        let Self {
            model,
            compute,
            cancel,
            layers_done,
            clock,
            past,
            watch,
            ordering,
            ..
        } = self;
        layers_done.store(0, Ordering::Relaxed);
        if let Some(watch) = watch {
            watch.begin();
        }
        clock.begin_pass(PassTiming {
            kind,
            stack: model.blueprint.stack,
            units,
            rows,
            position: runs.first().map_or(0, |run| run.position),
            seen: runs.iter().map(|run| run.position + run.tokens.len()).sum(),
            ..PassTiming::default()
        });
        // A device tells its own times when the pass is over; here its work is only ordered.
        let clock = match model.blueprint.on_device() {
            true => ordering,
            false => clock,
        };
        model.stack.get().finish_unit()?;
        stage!(clock, Embed, compute.embed(&mut model.ends, runs)?);
        stage!(clock, Blocks, {
            for layer in LayerIndex::first(model.blueprint.config.layers) {
                if cancel.load(Ordering::Relaxed) {
                    return Err(EngineError::Interrupted);
                }
                if layer.as_usize() == model.blueprint.config.layers / 4 {
                    model.ends.begin_head()?;
                }
                let streamed = model.blueprint.plan.is_streamed(layer);
                let visit = layer_span(layer, streamed);
                let waiting = streamed.then(|| span!(Stage::Transfer.name()));
                let asked = Instant::now();
                let layout = model.blueprint.layout(layer);
                let block = BlockId::new(model.blueprint.stack, layer);
                model.stack.get().visit(block, |slab| {
                    let from = Instant::now();
                    if let Some(waiting) = waiting {
                        waiting.close();
                    }
                    if streamed {
                        clock.stage(Stage::Transfer, asked, from);
                    }
                    let done = compute.block(layer, layout, slab, runs, clock);
                    clock.span(SpanName::Layer(block), from, Instant::now());
                    done
                })?;
                visit.loaded(model.stack.get().last_load().filter(|_| streamed));
                layers_done.store(layer.as_usize() + 1, Ordering::Relaxed);
            }
            // A device has work now, and need not wait for this.
            past.read(&mut model.stack.get(), &mut **compute)?;
            // What follows waits for a device without looking at the flag.
            if let Some((layer, parts)) = last_look(&model.blueprint.plan, rows)
                && compute.come_to(layer, parts, cancel)?
            {
                return Err(EngineError::Interrupted);
            }
        });
        Ok(())
    }

    /// The logits of the last row of these runs, or the likeliest tokens if those may do and come
    /// without the logits here. What then becomes of them is part of the pass until `end_pass`.
    pub fn head_wanted(
        &mut self,
        runs: &mut [Run<'_>],
        wanted: Wanted,
    ) -> Result<Option<Candidates>, EngineError> {
        let last = rows_of(runs, runs.len() - 1).end - 1;
        let candidates = {
            let Self { model, compute, .. } = self;
            let clock = match model.blueprint.on_device() {
                true => &mut self.ordering,
                false => &mut self.clock,
            };
            stage!(clock, Head, compute.head_wanted(&model.ends, last, wanted)?)
        };
        if candidates.is_none() && !all_finite(self.compute.logits()) {
            return Err(self.not_finite(runs)?);
        }
        Ok(candidates)
    }

    /// The logits of these rows, counted over all runs.
    pub fn head(&mut self, runs: &mut [Run<'_>], rows: &[usize]) -> Result<(), EngineError> {
        {
            let Self { model, compute, .. } = self;
            let clock = match model.blueprint.on_device() {
                true => &mut self.ordering,
                false => &mut self.clock,
            };
            stage!(clock, Head, compute.head(&model.ends, rows)?);
        }
        match all_finite(self.compute.logits()) {
            true => Ok(()),
            false => Err(self.not_finite(runs)?),
        }
    }

    /// Makes the last pass again and looks at its rows after each layer. The caches have room for it:
    /// the pass has not been counted yet, and is written over.
    fn not_finite(&mut self, runs: &mut [Run<'_>]) -> Result<EngineError, EngineError> {
        let position = runs
            .last()
            .map_or(0, |run| run.position + run.tokens.len() - 1);
        let found = |culprit| Ok(EngineError::NotFinite { position, culprit });
        let Self {
            model,
            compute,
            clock,
            cancel,
            ..
        } = self;
        model.stack.get().finish_unit()?;
        compute.embed(&mut model.ends, runs)?;
        if !compute.rows_are_finite()? {
            return found(Culprit::Embedding);
        }
        for layer in LayerIndex::first(model.blueprint.config.layers) {
            if cancel.load(Ordering::Relaxed) {
                return Err(EngineError::Interrupted);
            }
            let layout = model.blueprint.layout(layer);
            let block = BlockId::new(model.blueprint.stack, layer);
            let broken = model.stack.get().visit(block, |slab| {
                compute.block(layer, layout, slab, runs, clock)?;
                let fine = compute.rows_are_finite()?;
                Ok::<_, EngineError>((!fine).then(|| broken_weights(layout, slab)))
            })?;
            if let Some(weights) = broken {
                return found(Culprit::Layer { layer, weights });
            }
        }
        for run in 0..runs.len() {
            let last = rows_of(runs, run).end - 1;
            compute.head(&model.ends, &[last])?;
            if !all_finite(compute.logits()) {
                return found(Culprit::Head);
            }
        }
        found(Culprit::Gone)
    }

    /// The final norm of one of the pass's rows, where it is computed: see [`Compute::normed_tensor`].
    pub fn normed_tensor(&mut self, row: usize) -> Result<Tensor, EngineError> {
        let Self { model, compute, .. } = self;
        compute.normed_tensor(&model.ends, row)
    }

    /// What the host's times of a stage that follows the layers are told to.
    pub fn stage_clock(&mut self) -> &mut Clock {
        match self.model.blueprint.on_device() {
            true => &mut self.ordering,
            false => &mut self.clock,
        }
    }

    /// The final norm of one of the pass's rows.
    pub fn normed(&mut self, row: usize, to: &mut [f32]) -> Result<(), EngineError> {
        let Self { model, compute, .. } = self;
        compute.normed(&model.ends, row, to)
    }

    /// The pass is over. What a device knows of it is read in the course of the next, or by `settle`.
    pub fn end_pass(&mut self) -> Result<(), EngineError> {
        if let Some(watch) = &mut self.watch {
            self.clock.cores(watch.look());
        }
        let stack = &mut self.model.stack.get();
        self.past.add(&mut self.clock, stack, &mut *self.compute)
    }

    /// Reads what is not known yet of the last pass.
    pub fn settle(&mut self) -> Result<(), EngineError> {
        self.past
            .read(&mut self.model.stack.get(), &mut *self.compute)
    }

    /// Passes that are made from now on are measured apart from those before.
    pub fn begin(&mut self) -> Result<(), EngineError> {
        self.settle()?;
        self.past.forget();
        Ok(())
    }

    /// The passes of which all is known since `forget_measured`.
    pub fn measured(&self) -> &[Measured] {
        self.past.measured()
    }

    pub fn forget_measured(&mut self) {
        self.past.forget();
    }
}

/// Up to which layer a device is waited for with an eye on the flag, and the parts its time until then
/// falls into: the last streamed layer but one, whose successor takes long. Of a prompt, whose every
/// layer may, at least to a few before the end. A resident token is over too soon to be given up.
fn last_look(plan: &ResidencyPlan, rows: usize) -> Option<(LayerIndex, usize)> {
    let (streamed, layers) = (plan.streamed_count(), plan.layers());
    let by_link = streamed
        .checked_sub(2)
        .and_then(|at| plan.streamed().nth(at));
    let by_rows = (rows > 1)
        .then(|| LayerIndex::first(layers).nth(layers.saturating_sub(1 + layers.div_ceil(8))))
        .flatten();
    by_link
        .map(|layer| (layer, streamed))
        .max(by_rows.map(|layer| (layer, layers)))
}

/// The span of a layer's visit, the waiting included. The kind of load is known when it has landed.
fn layer_span(layer: LayerIndex, streamed: bool) -> OpenSpan {
    let resident = (!streamed).then_some("resident");
    span!("layer", index = layer.as_usize(), kind = resident)
}

fn compute_of(model: &Model) -> Result<Box<dyn Compute>, EngineError> {
    let blueprint = &model.blueprint;
    // For the process, as the tensor library has it; it does nothing on the host.
    candle_core::cuda::set_gemm_reduced_precision_f32(blueprint.options.tf32);
    blueprint
        .compute
        .make(blueprint.place.as_ref(), &model.team)
}
