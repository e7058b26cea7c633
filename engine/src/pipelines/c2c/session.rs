//! A run: the lead, in which all models read the prompt and the projectors rewrite what the base
//! keeps of it, and then a generation of the base.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use kernels::LayerCache;
use offload::{Itinerary, StackId};

use super::model::C2c;
use super::projecting::Projecting;
use crate::compute::batch::State;
use crate::compute::rope::pairing;
use crate::error::EngineError;
use crate::model::Model;
use crate::model::shared::SharedStack;
use crate::profile::Recording;
use crate::run::generation::{Generation, GenerationOptions};
use crate::run::past::Measured;
use crate::run::session::Session;

/// A base that a teacher's cache is fused into.
#[derive(Debug)]
pub struct C2cSession<'m> {
    base: Session<'m>,
    teachers: Vec<Session<'m>>,
    projecting: Projecting<'m>,
    stack: SharedStack,
    itinerary: &'m Itinerary,
    is_fresh: &'m mut bool,
    cancel: Arc<AtomicBool>,
    lead: Lead,
    /// When it began.
    started: Instant,
}

/// What a pass of the lead was.
#[derive(Debug, Clone, PartialEq)]
pub struct LeadPass {
    pub stack: StackId,
    pub measured: Measured,
}

/// The passes before the last token of the prompt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lead {
    /// The base's, the teachers', and the projectors'.
    pub passes: Vec<LeadPass>,
    /// Projectors that were computed.
    pub projections: usize,
}

/// A generation of the base over a cache that was rewritten.
#[derive(Debug)]
pub struct Fused<'s, 'm> {
    pub lead: &'s Lead,
    pub generation: Generation<'s, 'm>,
}

/// What a sequence keeps in one layer: for each head of keys and values, a row a position.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub heads: usize,
    pub positions: usize,
    pub dim: usize,
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

impl<'m> C2cSession<'m> {
    pub(super) fn new(c2c: &'m mut C2c) -> Result<Self, EngineError> {
        let C2c {
            models,
            beside,
            stack,
            itinerary,
            plans,
            is_fresh,
            ..
        } = c2c;
        let Some((base, teachers)) = models.split_first_mut() else {
            unreachable!("a run without a model");
        };
        let projecting = Projecting::new(beside, plans, base);
        let base = base.session()?;
        let teachers = teachers.iter_mut().map(Model::session);
        let mut session = Self {
            base,
            teachers: teachers.collect::<Result<_, _>>()?,
            projecting,
            stack: stack.clone(),
            itinerary,
            is_fresh,
            cancel: Arc::default(),
            lead: Lead::default(),
            started: Instant::now(),
        };
        // Each model's session has brought a flag of its own.
        session.cancel_with(Arc::default());
        Ok(session)
    }

    /// The model that answers.
    pub fn base(&self) -> &Model {
        self.base.model()
    }

    /// Setting this ends the pass under way with [`EngineError::Interrupted`].
    pub fn cancel_with(&mut self, flag: Arc<AtomicBool>) {
        for session in [&mut self.base].into_iter().chain(&mut self.teachers) {
            session.cancel_with(Arc::clone(&flag));
        }
        self.cancel = flag;
    }

    /// Watches from now on whether compute has the cores that it asks for.
    pub fn watch_cores(&mut self) {
        self.base.watch_cores();
        self.teachers.iter_mut().for_each(Session::watch_cores);
    }

    /// Keeps a timeline of every pass from now on; [`C2cSession::take_recording`] has it.
    pub fn record(&mut self) {
        self.base.record();
        self.teachers.iter_mut().for_each(Session::record);
        self.projecting.record();
    }

    /// The timeline of all models so far, and the end of recording.
    pub fn take_recording(&mut self) -> Option<Recording> {
        let teachers = self.teachers.iter_mut().map(Session::take_recording);
        let others = teachers.chain([self.projecting.take_recording()]);
        let others: Vec<_> = others.flatten().collect();
        let own = self.base.take_recording()?;
        Some(others.into_iter().fold(own, Recording::beside))
    }

    /// The layers that the lead has behind it, of the base, of each teacher, and of the projectors:
    /// to be watched from another thread.
    pub fn layers_done(&self) -> Vec<Arc<AtomicUsize>> {
        let models = [&self.base].into_iter().chain(&self.teachers);
        let projected = [Arc::clone(&self.projecting.done)];
        models.map(Session::layers_done).chain(projected).collect()
    }

    /// All models read the prompt but its last token, and the projectors rewrite what the base keeps
    /// of it. [`C2cSession::answer`] then goes on.
    pub fn read(&mut self, prompt: &[u32]) -> Result<&Lead, EngineError> {
        self.started = Instant::now();
        self.lead = Lead::default();
        let Some((_, all)) = prompt.split_last() else {
            return Err(EngineError::EmptyPrompt);
        };
        self.base.model().blueprint().check_tokens(prompt, 0)?;
        // A teacher that has nothing to read is not asked.
        for teacher in self.teachers.iter().filter(|_| !all.is_empty()) {
            let blueprint = teacher.model().blueprint();
            let checked = blueprint.check_tokens(all, 0);
            checked.map_err(|source| EngineError::Of {
                which: format!("the teacher {}", blueprint.checkpoint.location()),
                flag: "--teacher-gpu-layers",
                source: source.into(),
            })?;
        }
        self.begin(all.is_empty())?;
        self.base.restart()?;
        self.teachers.iter_mut().try_for_each(Session::restart)?;
        if all.is_empty() {
            // There is nothing to rewrite.
            return Ok(&self.lead);
        }
        for session in [&mut self.base].into_iter().chain(&mut self.teachers) {
            let stack = session.model().blueprint().stack;
            session.warm_up(all[0])?;
            let measured = session.read(all)?.clone();
            self.lead.passes.push(LeadPass { stack, measured });
        }
        let teachers = self.teachers.iter_mut().map(|teacher| state_of(teacher));
        let teachers: Vec<&State> = teachers.map(|state| &*state).collect();
        let base = state_of(&mut self.base);
        let stack = &self.stack;
        let positions = all.len();
        let projected = (self.projecting).run(stack, &teachers, base, positions, &self.cancel)?;
        if let Some((pass, count)) = projected {
            self.lead.projections = count;
            self.lead.passes.push(pass);
        }
        Ok(&self.lead)
    }

    /// The ring goes back to the begin of the lead, or to what follows it.
    fn begin(&mut self, without_lead: bool) -> Result<(), EngineError> {
        let is_fresh = std::mem::take(self.is_fresh);
        let next = match without_lead {
            true => self.itinerary.cycle_only(),
            false if is_fresh => return Ok(()),
            false => self.itinerary.clone(),
        };
        Ok(self.stack.get().follow(next)?)
    }

    /// Reads the prompt, and gives what the base then says.
    pub fn generate(
        &mut self,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<Fused<'_, 'm>, EngineError> {
        self.read(&prompt)?;
        self.answer(prompt, options)
    }

    /// What the base says after a prompt that was read.
    pub fn answer(
        &mut self,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<Fused<'_, 'm>, EngineError> {
        let (seen, asked) = (self.base.len(), prompt.len().saturating_sub(1));
        if seen != asked {
            return Err(EngineError::NotSeen { asked, seen });
        }
        let (base, lead, started) = (&mut self.base, &self.lead, self.started);
        let read = lead.passes.iter().map(|pass| &pass.measured);
        let generation = Generation::after_reading(base, prompt, options, started, read)?;
        Ok(Fused { lead, generation })
    }

    /// The logits after the base's last pass.
    pub fn logits(&mut self) -> &mut [f32] {
        self.base.logits()
    }

    /// What the base keeps of the text in one of its layers. Keys are in the order of the published
    /// models, whatever that of the file is.
    pub fn kept(&mut self, layer: usize) -> Result<Kept, EngineError> {
        let (positions, config) = (self.base.len(), self.base.model().config());
        let (heads, dim, order) = (config.kv_heads, config.head_dim, pairing(config));
        let mut kept = Kept {
            heads,
            positions,
            dim,
            keys: vec![0.0; heads * positions * dim],
            values: vec![0.0; heads * positions * dim],
        };
        match state_of(&mut self.base) {
            State::Caches(caches) => {
                let into = |read: fn(&LayerCache, usize, usize, &mut [f32]), to: &mut [f32]| {
                    for (at, row) in to.chunks_exact_mut(dim).enumerate() {
                        read(&caches[layer], at / positions, at % positions, row);
                    }
                };
                into(LayerCache::key_into, &mut kept.keys);
                into(LayerCache::value_into, &mut kept.values);
            }
            State::Tensors(tensors) => {
                let (keys, values) = &tensors[layer];
                for (from, to) in [(keys, &mut kept.keys), (values, &mut kept.values)] {
                    let from = from.narrow(1, 0, positions)?.flatten_all()?;
                    // waits: where somebody wants to look at a cache
                    *to = from.to_dtype(candle_core::DType::F32)?.to_vec1()?;
                }
            }
        }
        let heads = kept.keys.chunks_exact_mut(dim);
        heads.for_each(|head| order.straighten(head));
        Ok(kept)
    }
}

/// A session here never gives its sequence away.
fn state_of<'a>(session: &'a mut Session<'_>) -> &'a mut State {
    match session.own_state() {
        Some(state) => state,
        None => unreachable!("the session's sequence was taken"),
    }
}
