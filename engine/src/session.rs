//! One sequence over a model: its run state, and passes. A pass sends rows (a prompt, or one
//! token) through every layer, visiting each block once, and times what it waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use offload::{BlockId, LayerIndex, LoadRecord, ResidencyPlan};

use crate::compute::Compute;
use crate::compute::finite::{Culprit, all_finite, broken_weights};
use crate::error::EngineError;
use crate::machine::cores::CoreWatch;
use crate::model::Model;
use crate::model::load::STACK;
use crate::profile::{
    Clock, OpenSpan, PassTiming, Recording, SpanName, Stage, Startup, Timing, span, stage,
};
use crate::run::generation::{Generation, GenerationOptions, Output};
use crate::run::past::{Measured, Past};
use crate::text::{Candidates, Wanted};

/// See the module.
pub struct Session<'m> {
    model: &'m mut Model,
    compute: Box<dyn Compute>,
    /// Positions already in the cache.
    position: usize,
    cancel: Arc<AtomicBool>,
    /// Layers that the pass under way has behind it.
    layers_done: Arc<AtomicUsize>,
    /// Of the pass under way.
    pub(crate) clock: Clock,
    past: Past,
    /// Where somebody asked for it: it reads files of the system's between tokens.
    watch: Option<CoreWatch>,
    /// Takes the times of ordering work for a device, which nobody asks for.
    ordering: Clock,
    pub(crate) startup: Startup,
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
            position: 0,
            cancel,
            layers_done: Arc::default(),
            clock: Clock::default(),
            ordering: Clock::default(),
            startup,
        })
    }

    pub fn model(&self) -> &Model {
        self.model
    }

    /// Setting this ends the pass under way at its next layer, or while it waits for one, with
    /// [`EngineError::Interrupted`].
    pub fn cancel_with(&mut self, flag: Arc<AtomicBool>) {
        self.model.cancel_with(&flag);
        self.cancel = flag;
    }

    /// The layers that the pass under way has behind it, for whoever watches from another thread. On
    /// a device it is what was ordered, and says nothing of what is done.
    pub fn layers_done(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.layers_done)
    }

    /// Watches from now on whether compute has the cores that it asks for: the timing of a pass then
    /// says it.
    pub fn watch_cores(&mut self) {
        if self.watch.is_none() {
            self.watch = Some(CoreWatch::start(self.model.team.places()));
        }
    }

    /// Keeps a timeline of every pass from now on; [`Session::take_recording`] has it.
    pub fn record(&mut self) {
        // A pass that was made before does not belong on it.
        let _ = self.settle();
        self.watch_cores();
        self.clock.keep_spans();
        self.past.record(Recording::new(self.startup.spans.clone()));
    }

    /// The timeline so far, and the end of recording.
    pub fn take_recording(&mut self) -> Option<Recording> {
        // What a device cannot say any more is left out.
        let _ = self.settle();
        self.clock.drop_spans();
        self.past.take_recording()
    }

    /// Positions still free in the cache.
    pub fn room(&self) -> usize {
        self.model.blueprint.context - self.position
    }

    /// Sends `tokens` through the model after what it has seen already. All of them share one
    /// visit of each layer.
    pub fn pass(&mut self, tokens: &[u32]) -> Result<PassTiming, EngineError> {
        self.settle()?;
        self.forget_measured();
        self.forward(tokens, Wanted::Logits)?;
        self.end_pass()?;
        self.settle()?;
        Ok(self
            .measured()
            .last()
            .map_or_else(PassTiming::default, |pass| pass.timing))
    }

    /// A pass up to its logits, or to the likeliest tokens if those may do and come without the logits
    /// here. What then becomes of them is part of the pass until `end_pass`.
    pub(crate) fn forward(
        &mut self,
        tokens: &[u32],
        wanted: Wanted,
    ) -> Result<Option<Candidates>, EngineError> {
        self.model.blueprint.check_tokens(tokens, self.position)?;
        let Self {
            model,
            compute,
            cancel,
            layers_done,
            position,
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
        clock.begin_pass(tokens.len(), *position);
        // A device tells its own times when the pass is over; here its work is only ordered.
        let clock = match model.blueprint.on_device() {
            true => ordering,
            false => clock,
        };
        model.stack.finish_unit()?;
        stage!(
            clock,
            Embed,
            compute.embed(&mut model.ends, tokens, *position)?
        );
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
                model.stack.visit(BlockId::new(STACK, layer), |slab| {
                    let from = Instant::now();
                    if let Some(waiting) = waiting {
                        waiting.close();
                    }
                    if streamed {
                        clock.stage(Stage::Transfer, asked, from);
                    }
                    let done = compute.block(layer, layout, slab, clock);
                    clock.span(SpanName::Layer(layer), from, Instant::now());
                    done
                })?;
                visit.loaded(model.stack.last_load().filter(|_| streamed));
                layers_done.store(layer.as_usize() + 1, Ordering::Relaxed);
            }
            // A device has work now, and need not wait for this.
            past.read(&mut model.stack, &mut **compute)?;
            // What follows waits for a device without looking at the flag.
            if let Some((layer, parts)) = last_look(&model.blueprint.plan, tokens.len())
                && compute.come_to(layer, parts, cancel)?
            {
                return Err(EngineError::Interrupted);
            }
        });
        let candidates = stage!(clock, Head, compute.finish_wanted(&model.ends, wanted)?);
        if candidates.is_none() && !all_finite(compute.logits()) {
            return Err(self.not_finite(tokens)?);
        }
        self.position += tokens.len();
        Ok(candidates)
    }

    /// Makes the last pass again and looks at its rows after each layer. The cache has room for it:
    /// the pass has not been counted yet, and is written over.
    fn not_finite(&mut self, tokens: &[u32]) -> Result<EngineError, EngineError> {
        let position = self.position + tokens.len() - 1;
        let found = |culprit| Ok(EngineError::NotFinite { position, culprit });
        let Self {
            model,
            compute,
            clock,
            cancel,
            ..
        } = self;
        model.stack.finish_unit()?;
        compute.embed(&mut model.ends, tokens, self.position)?;
        if !compute.rows_are_finite()? {
            return found(Culprit::Embedding);
        }
        for layer in LayerIndex::first(model.blueprint.config.layers) {
            if cancel.load(Ordering::Relaxed) {
                return Err(EngineError::Interrupted);
            }
            let layout = model.blueprint.layout(layer);
            let broken = model.stack.visit(BlockId::new(STACK, layer), |slab| {
                compute.block(layer, layout, slab, clock)?;
                let fine = compute.rows_are_finite()?;
                Ok::<_, EngineError>((!fine).then(|| broken_weights(layout, slab)))
            })?;
            if let Some(weights) = broken {
                return found(Culprit::Layer { layer, weights });
            }
        }
        compute.finish(&model.ends)?;
        found(match all_finite(compute.logits()) {
            true => Culprit::Gone,
            false => Culprit::Head,
        })
    }

    /// The pass is over. What a device knows of it is read in the course of the next, or by `settle`.
    pub(crate) fn end_pass(&mut self) -> Result<(), EngineError> {
        if let Some(watch) = &mut self.watch {
            self.clock.cores(watch.look());
        }
        let (stack, compute) = (&mut self.model.stack, &mut *self.compute);
        self.past.add(&mut self.clock, stack, compute)
    }

    /// Reads what is not known yet of the last pass.
    pub(crate) fn settle(&mut self) -> Result<(), EngineError> {
        self.past.read(&mut self.model.stack, &mut *self.compute)
    }

    /// The passes of which all has come to be known since `forget_measured`.
    pub(crate) fn measured(&self) -> &[Measured] {
        self.past.measured()
    }

    pub(crate) fn forget_measured(&mut self) {
        self.past.forget();
    }

    /// The logits after the last token of the last [`Session::pass`]. Yours to change: sampling does.
    /// What is generated on a device may have needed none, and leaves older ones here.
    pub fn logits(&mut self) -> &mut [f32] {
        self.compute.logits()
    }

    /// The same, where the last pass may have brought candidates in their place.
    pub(crate) fn all_logits(&mut self) -> Result<(&mut [f32], &mut Clock), EngineError> {
        self.compute.bring_logits()?;
        Ok((self.compute.logits(), &mut self.clock))
    }

    /// The loads of the last [`Session::pass`].
    pub fn loads(&self) -> &[LoadRecord] {
        self.measured().last().map_or(&[], |pass| &pass.loads)
    }

    /// Generates to the end, and tells where the time went.
    ///
    /// ```
    /// use engine::{GenerationOptions, Model, ModelOptions, Source};
    ///
    /// let mut model = Model::open(&Source::Demo, ModelOptions::default())?;
    /// let prompt = model.blueprint().encode("Once upon a time")?;
    /// let options = GenerationOptions { max_new_tokens: 4, ..GenerationOptions::default() };
    /// let (output, timing) = model.session()?.generate_with_timing(prompt, options)?;
    /// assert_eq!(output.tokens.len(), 4);
    /// assert!(timing.prefill_ms > 0.0);
    /// println!("{}", timing.tree());
    /// # Ok::<(), engine::EngineError>(())
    /// ```
    pub fn generate_with_timing(
        &mut self,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<(Output, Timing), EngineError> {
        let mut generation = self.generate(prompt, options)?;
        let mut text = String::new();
        for piece in &mut generation {
            text.push_str(&piece?.text);
        }
        text.push_str(&generation.rest());
        let report = generation.report();
        let output = Output {
            text,
            tokens: report.tokens,
            ended: report.ended,
        };
        Ok((output, report.timing))
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

/// Of a layer's visit, the waiting included. What kind of load it was is known when it has landed.
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
