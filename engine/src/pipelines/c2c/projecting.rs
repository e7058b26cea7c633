//! The pass of the projectors: a visit for each, in which one layer of the base's cache is rewritten.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use offload::{ResidencyPlan, Visits};

use super::plan::{Beside, Sharing, Visit};
use super::session::LeadPass;
use crate::compute::batch::State;
use crate::compute::projection::{KeptLayer, Projection};
use crate::error::EngineError;
use crate::model::Model;
use crate::model::shared::SharedStack;
use crate::profile::{Clock, PassKind, PassTiming, Recording, SpanName, Stage};
use crate::run::past::Measured;

/// A projection under way.
#[derive(Debug)]
pub(super) struct Projecting<'m> {
    beside: &'m Beside,
    plans: &'m [ResidencyPlan],
    visits: Vec<Visit>,
    /// Of each teacher's fuser.
    projections: Vec<Projection>,
    /// On a device each projector is waited for, so that its time is its own.
    device: candle_core::Device,
    /// Where streamed blocks come from a disk in the layout of its pages.
    home: offload::Home,
    clock: Clock,
    recording: Option<Recording>,
    /// Projectors that the pass under way has behind it.
    pub done: Arc<AtomicUsize>,
}

impl<'m> Projecting<'m> {
    pub fn new(beside: &'m Beside, plans: &'m [ResidencyPlan], base: &Model) -> Self {
        let make = beside.projectors.iter();
        Self {
            visits: beside.visits(),
            projections: make.map(|of| of.size.make(&base.team)).collect(),
            device: base.blueprint.place.device().clone(),
            home: base.blueprint.link.home,
            clock: Clock::default(),
            recording: None,
            done: Arc::default(),
            beside,
            plans,
        }
    }

    pub fn record(&mut self) {
        self.clock.keep_spans();
        self.recording = Some(Recording::new(Vec::new()));
    }

    pub fn take_recording(&mut self) -> Option<Recording> {
        self.clock.drop_spans();
        self.recording.take()
    }

    /// Rewrites the first `positions` positions of the base. Gives the pass, with the
    /// projectors that were computed; `None` where no gate is open.
    pub fn run(
        &mut self,
        stack: &SharedStack,
        teachers: &[&State],
        base: &mut State,
        positions: usize,
        cancel: &AtomicBool,
    ) -> Result<Option<(LeadPass, usize)>, EngineError> {
        let Some(first) = self.visits.first() else {
            return Ok(None);
        };
        let of = first.block.stack;
        self.clock.begin_pass(PassTiming {
            kind: PassKind::Prompt,
            stack: of,
            rows: positions,
            seen: positions,
            ..PassTiming::default()
        });
        stack.get().finish_unit()?;
        let from = Instant::now();
        let visits = std::mem::take(&mut self.visits);
        let done = self.visit_all(&visits, stack, (teachers, base, positions), cancel);
        self.visits = visits;
        done?;
        self.clock.stage(Stage::Blocks, from, Instant::now());
        self.clock.end_pass();
        let mut measured = Measured::default();
        {
            let (mut stack, mut aside) = (stack.get(), Visits::default());
            stack.set_aside(&mut aside);
            stack.read(&mut aside, &mut measured.loads)?;
        }
        measured.timing = *self.clock.pass();
        if let Some(recording) = &mut self.recording {
            recording.add(&self.clock, &measured.loads);
        }
        let pass = LeadPass {
            stack: of,
            measured,
        };
        Ok(Some((pass, self.visits.len())))
    }

    fn visit_all(
        &mut self,
        visits: &[Visit],
        stack: &SharedStack,
        (teachers, base, positions): (&[&State], &mut State, usize),
        cancel: &AtomicBool,
    ) -> Result<(), EngineError> {
        // The layer as the base made it, where several add to it.
        let mut clean: Option<(usize, State)> = None;
        let adds_up = self.beside.sharing == Sharing::Parallel && teachers.len() > 1;
        for (index, visit) in visits.iter().enumerate() {
            self.done.store(index, Ordering::Relaxed);
            if cancel.load(Ordering::Relaxed) {
                return Err(EngineError::Interrupted);
            }
            let target = visit.mapped.target;
            if adds_up && clean.as_ref().is_none_or(|(of, _)| *of != target) {
                clean = Some((target, base.layer_copied(target, positions)?));
            }
            let clean = clean
                .as_ref()
                .map(|(_, state)| KeptLayer { state, layer: 0 });
            self.project(visit, stack, (teachers, clean, base, positions))?;
        }
        Ok(())
    }

    fn project(
        &mut self,
        visit: &Visit,
        stack: &SharedStack,
        (teachers, clean, base, positions): (&[&State], Option<KeptLayer<'_>>, &mut State, usize),
    ) -> Result<(), EngineError> {
        let layer = visit.block.layer;
        let blocks = &self.beside.extras[visit.sharer].blocks;
        let streamed = self.plans[visit.sharer].is_streamed(layer);
        let layout = match streamed && self.device.is_cpu() {
            true => blocks.streamed(layer, self.home).layout(),
            false => blocks.resident(layer),
        };
        let source = KeptLayer {
            state: teachers[visit.sharer],
            layer: visit.mapped.source,
        };
        let (projection, clock) = (&mut self.projections[visit.sharer], &mut self.clock);
        let device = &self.device;
        let asked = Instant::now();
        stack.get().visit(visit.block, |slab| {
            let from = Instant::now();
            if streamed {
                clock.stage(Stage::Transfer, asked, from);
            }
            let target = (base, visit.mapped.target);
            projection.fuse((layout, slab), source, clean, target, positions)?;
            // waits: for each projector of a prompt, so that its time is its own
            device.synchronize()?;
            let to = Instant::now();
            clock.stage(Stage::Projection, from, to);
            clock.span(SpanName::Layer(visit.block), from, to);
            Ok(())
        })
    }
}
