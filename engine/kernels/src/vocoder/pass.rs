//! Some frames on their way through a vocoder, as one region of the team: its tasks one after
//! another, and the transformer's blocks between them. Knows nothing of how many calls there are.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because the steps of a phase write buffers that no step of the same phase reads, except for
// elements of the step's own: rows, or outputs of one linear layer. What is kept is copied from a
// memory that the task's other steps only read, to a part of the state that nothing else uses; what
// was kept is copied before rows that the task's other steps write, and that none reads. All
// buffers are borrowed exclusively for the region.

use smallvec::SmallVec;

use super::parts::{VocoderShape, VocoderWeights};
use super::tasks::{Kept, MEMORIES, Memory, Of, Place, Product, Spread, Stage, Step, Task, Tasks};
use crate::block::{Pass as BlockPass, ReadyPass};
use crate::cache::SharedCache;
use crate::conv::{ConvWeights, Transposed};
use crate::level::Level;
use crate::linear::{Epilogue, Linear, PanelLinear, Then};
use crate::rope::RopeTable;
use crate::run::{Run, RunKind};
use crate::scratch::Buffers;
use crate::shared::Shared;
use crate::team::{Cut, Region, Steps};
use crate::weights::{Matrix, Weights};

/// Frames that go through together.
pub(super) struct Pass<'a, 'w> {
    pub shape: &'a VocoderShape,
    pub weights: &'a VocoderWeights<'w>,
    pub tasks: &'a Tasks,
    pub codes: &'a [u32],
    pub frames: usize,
    /// The first frame's position in the caches.
    pub first: usize,
    pub caches: SmallVec<[SharedCache<'a>; 8]>,
    pub rope: &'a RopeTable,
    pub buffers: Buffers<'a>,
    pub state: Shared<'a, f32>,
    pub memories: [Shared<'a, f32>; MEMORIES],
    pub own: Shared<'a, f32>,
    /// Stages that are shown, each with room for so many frames.
    pub shown: Shared<'a, f32>,
    pub room: usize,
    pub audio: Shared<'a, f32>,
    pub level: Level,
    pub threads: usize,
    /// Phases of a block of the transformer.
    pub block_phases: usize,
}

/// What a phase is.
enum Phase<'a> {
    Task(&'a Step),
    /// Of a layer's block.
    Block(usize, usize),
}

impl Region for Pass<'_, '_> {
    fn phases(&self) -> usize {
        self.tasks.steps.len() + self.shape.layers * self.block_phases
    }

    fn open(&self, phase: usize) -> usize {
        match self.at(phase) {
            Phase::Block(layer, phase) => self.in_block(layer, |pass| pass.open(phase)),
            Phase::Task(step) => {
                let more = [step.recall, step.keep].iter().flatten().count();
                self.steps(&step.task) + more
            }
        }
    }

    fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        let step = match self.at(phase) {
            Phase::Block(layer, phase) => {
                return self.in_block(layer, |pass| pass.work(phase, steps));
            }
            Phase::Task(step) => step,
        };
        let count = self.steps(&step.task);
        // SAFETY: the steps are of this phase, and the phases before it are over; what is recalled
        // or kept has a step of its own.
        unsafe {
            while let Some(next) = steps.next_of_all() {
                if next < count {
                    steps.within(0..count, |steps| self.task(&step.task, steps));
                    continue;
                }
                steps.next();
                match (next - count, step.recall, step.keep) {
                    (0, Some(kept), _) => self.recall(kept),
                    (_, _, Some(kept)) => self.keep(kept),
                    _ => unreachable!("step {next} of {count}"),
                }
            }
        }
    }
}

impl<'a, 'w: 'a> Pass<'a, 'w> {
    /// Counts the phases.
    pub fn ready(mut self) -> Self {
        if self.shape.layers > 0 {
            self.block_phases = self.in_block(0, |pass| pass.phases());
        }
        self
    }

    fn at(&self, phase: usize) -> Phase<'a> {
        let (before, blocks) = (
            self.tasks.transformer,
            self.shape.layers * self.block_phases,
        );
        match phase.checked_sub(before) {
            None => Phase::Task(&self.tasks.steps[phase]),
            Some(phase) if phase < blocks => {
                Phase::Block(phase / self.block_phases, phase % self.block_phases)
            }
            Some(phase) => Phase::Task(&self.tasks.steps[before + phase - blocks]),
        }
    }

    /// Steps of a task, without what is recalled or kept.
    fn steps(&self, task: &Task) -> usize {
        match task {
            Task::Product(product) if product.is_many => self.panels(product).steps(self.threads),
            Task::Product(product) => self.linear(product).steps(self.level, 0, self.threads),
            Task::Products(spread) => self.transposed(spread).steps(),
            _ => self.cut(task).steps(),
        }
    }

    /// The rows of a task that is no product.
    fn cut(&self, task: &Task) -> Cut {
        let times = match task {
            Task::Gather(window) => window.times,
            Task::Overlap(spread) => spread.times,
            Task::Mix(_, times) | Task::Snake { times, .. } => *times,
            Task::Clamp => self.shape.samples(),
            _ => 1,
        };
        Cut::pieces(4, times * self.frames, self.threads)
    }

    /// # Safety
    /// The steps are of this task; what is before it is over.
    unsafe fn task(&self, task: &Task, steps: &mut Steps<'_>) {
        let worker = steps.worker();
        // SAFETY: passed on from the caller.
        unsafe {
            match task {
                Task::Product(product) if product.is_many => {
                    return self.panels(product).work(self.level, steps);
                }
                Task::Product(product) => {
                    return self.linear(product).work(self.level, 0, steps);
                }
                Task::Products(spread) => {
                    let products = self.transposed(spread);
                    return steps.for_each(|step| products.work_step(self.level, step, worker));
                }
                _ => {}
            }
            let cut = self.cut(task);
            for rows in steps.map(|step| cut.piece(step)) {
                match task {
                    Task::Look => self.look(rows, worker),
                    Task::Norm => self.norm(rows),
                    Task::Gather(window) => self.gather(window, rows),
                    Task::Overlap(spread) => self.overlap(spread, rows),
                    Task::Mix(stage, _) => self.mix(*stage, rows, worker),
                    Task::Snake {
                        of,
                        from,
                        to,
                        width,
                        ..
                    } => self.snake(*of, *from, *to, *width, rows, worker),
                    Task::Clamp => self.clamp(rows),
                    Task::Show(stage) => self.show(&self.tasks.shown()[*stage], rows),
                    Task::Product(_) | Task::Products(_) => unreachable!("done above"),
                }
            }
        }
    }

    /// The rows at a place.
    pub(super) fn rows(&self, place: Place) -> Shared<'a, f32> {
        let memory = match place.memory {
            Memory::Audio => self.audio,
            memory => self.memories[memory as usize],
        };
        memory.part(place.first..memory.len())
    }

    pub(super) fn memory(&self, memory: Memory) -> Shared<'a, f32> {
        self.rows(Place { memory, first: 0 })
    }

    /// Each worker's floats, and how many one has.
    pub(super) fn own(&self) -> (Shared<'a, f32>, usize) {
        (self.own, self.own.len() / self.threads)
    }

    pub(super) fn spread_conv(&self, spread: &Spread) -> &'a ConvWeights<'w> {
        match spread.stage {
            Stage::First(stage) => &self.weights.upsample[stage].conv,
            Stage::Second(stage) => &self.weights.stages[stage].conv,
        }
    }

    fn transposed(&self, spread: &Spread) -> Transposed<'a> {
        let products = Place {
            memory: Memory::Products,
            first: spread.before(),
        };
        Transposed {
            weights: &self.spread_conv(spread).weight,
            x: self.rows(spread.from),
            rows: spread.times * self.frames,
            out: self.rows(products),
            panels: spread.is_many.then(|| self.own()),
            threads: self.threads,
        }
    }

    fn panels(&self, product: &Product) -> PanelLinear<'a> {
        PanelLinear {
            linear: self.linear(product),
            by_input: false,
            taps: product.taps,
            own: self.own(),
        }
    }

    /// A linear layer; where its rows are not multiplied in panels it takes one phase.
    fn linear(&self, product: &Product) -> Linear<'a> {
        let w = self.weights;
        type Parts<'a> = (&'a Matrix<'a>, Option<Weights<'a>>);
        let conv = |conv: &'a ConvWeights<'w>| (&conv.weight, Some(conv.bias));
        let unit = |stage: usize, unit: usize| &w.stages[stage].units[unit];
        let (weights, bias): Parts<'_> = match product.of {
            Of::First => (&w.first_out, None),
            Of::Rest => (&w.rest_out, None),
            Of::Pre => conv(&w.pre_conv),
            Of::Input => (&w.input.0, Some(w.input.1)),
            Of::Output => (&w.output.0, Some(w.output.1)),
            Of::Up(at) => (&w.upsample[at].linear1, Some(w.upsample[at].bias1)),
            Of::Down(at) => (&w.upsample[at].linear2, Some(w.upsample[at].bias2)),
            Of::Stem => conv(&w.stem),
            Of::Conv1(stage, at) => conv(&unit(stage, at).conv1),
            Of::Conv2(stage, at) => conv(&unit(stage, at).conv2),
            Of::Head => conv(&w.head),
        };
        let then = match product.of {
            Of::Rest | Of::Down(_) | Of::Conv2(..) => Then::Add,
            Of::Up(_) => Then::Gelu,
            _ => Then::Store,
        };
        let gain = match product.of {
            Of::Down(at) => Some(w.upsample[at].gamma),
            _ => None,
        };
        Linear {
            weights,
            x: self.rows(product.from),
            x_stride: product.stride,
            rows: product.times * self.frames,
            // A frame gives the same bits however many there are.
            kind: RunKind::Decode,
            epilogue: Epilogue {
                then,
                bias,
                gain,
                out: self.rows(product.to),
                stride: weights.rows(),
            },
            tiles: Shared::new(&mut []),
            // Nothing is quantised.
            rounded: Shared::new(&mut []),
        }
    }

    /// A block of the transformer, as a part of this region.
    fn in_block<R>(&self, layer: usize, work: impl FnOnce(&ReadyPass<'_>) -> R) -> R {
        let block = self.shape.block;
        let weights = &self.weights.layers[layer];
        let run = Run {
            kind: RunKind::Decode,
            position: self.first,
            rows: self.frames,
            cache: self.caches[layer],
            heads: (block.kv_heads, block.head_dim),
        };
        let pass = BlockPass {
            shape: block,
            weights: &weights.block,
            scales: [Some(weights.attention_scale), Some(weights.ffn_scale)],
            rope: self.rope,
            window: Some(self.shape.window),
            runs: &[run],
            first: 0,
            rows: self.frames,
            kind: RunKind::Decode,
            level: self.level,
            threads: self.threads,
            hidden: self.memory(Memory::Hidden),
            buffers: self.buffers,
        };
        work(&pass.ready())
    }

    /// # Safety
    /// One step does this, in a phase whose other steps use neither place.
    unsafe fn recall(&self, kept: Kept) {
        // SAFETY: as the caller promises.
        unsafe {
            let to = self.memory(kept.memory).get_mut(0..kept.floats);
            to.copy_from_slice(self.state.get(kept.state..kept.state + kept.floats));
        }
    }

    /// # Safety
    /// One step does this, in a phase whose other steps only read the memory.
    unsafe fn keep(&self, kept: Kept) {
        let from = self.frames * kept.frame;
        // SAFETY: as the caller promises.
        unsafe {
            let to = self.state.get_mut(kept.state..kept.state + kept.floats);
            to.copy_from_slice(self.memory(kept.memory).get(from..from + kept.floats));
        }
    }
}
