//! All working memory of a vocoder, allocated once for the most frames that go through together.
//! Knows sizes only.

use super::parts::VocoderShape;
use super::tasks::{MEMORIES, Tasks};
use crate::level::Level;
use crate::rope::RopeTable;
use crate::scratch::{Scratch, ScratchSize};
use crate::shared::{Buffer, LINE, round_up};
use crate::team::Team;

/// How much working memory a vocoder takes: what a plan counts, and a [`VocoderScratch`] is made
/// from.
#[derive(Debug, Clone, PartialEq)]
pub struct VocoderScratchSize {
    shape: VocoderShape,
    tasks: Tasks,
    frames: usize,
    threads: usize,
    /// Floats of each memory.
    floats: [usize; MEMORIES],
    own: usize,
    block: ScratchSize,
}

impl VocoderScratchSize {
    /// For up to `frames` frames together of `shape`, computed by so many threads at `level`. More
    /// frames are computed piece by piece.
    pub fn of(level: Level, threads: usize, shape: &VocoderShape, frames: usize) -> Self {
        let (frames, threads) = (frames.max(1), threads.max(1));
        let tasks = Tasks::of(shape, false);
        let most = |needs: &Vec<(usize, usize)>| {
            let all = needs.iter().map(|(first, frame)| first + frame * frames);
            all.max().unwrap_or(0)
        };
        VocoderScratchSize {
            shape: shape.clone(),
            frames,
            threads,
            floats: tasks.floats.each_ref().map(most),
            own: round_up(tasks.own, LINE),
            block: ScratchSize::of(level, threads, &shape.block, frames),
            tasks,
        }
    }

    /// The same with room for what each stage gives: [`VocoderScratch::stages`] then has it.
    pub fn with_stages(self) -> Self {
        VocoderScratchSize {
            tasks: Tasks::of(&self.shape, true),
            ..self
        }
    }

    /// Floats of the stages that are shown.
    fn shown(&self) -> usize {
        let last = self.tasks.shown().last();
        self.frames * last.map_or(0, |it| it.before + it.frame())
    }

    /// Bytes that a [`VocoderScratch`] of this size allocates.
    pub fn bytes(&self) -> usize {
        let buffers = self.floats.iter().map(|floats| Buffer::bytes_for(*floats));
        let own = Buffer::bytes_for(self.threads * self.own);
        let pairs = self.shape.block.head_dim / 2;
        let rope = RopeTable::bytes_for(pairs, self.frames) + pairs * size_of::<f64>();
        let steps = size_of_val(&*self.tasks.steps);
        let shown = Buffer::bytes_for(self.shown());
        buffers.sum::<usize>() + own + shown + rope + steps + self.block.bytes()
    }
}

/// Working memory of [`decode_codes`](super::decode_codes).
#[derive(Debug)]
pub struct VocoderScratch {
    pub(super) shape: VocoderShape,
    pub(super) tasks: Tasks,
    pub(super) frames: usize,
    pub(super) threads: usize,
    pub(super) memories: [Buffer; MEMORIES],
    /// Each worker's.
    pub(super) own: Buffer,
    /// Stages that are shown, one after the other, each for as many frames as there may be.
    pub(super) shown: Buffer,
    /// Of the positions of a call.
    pub(super) rope: RopeTable,
    pub(super) frequencies: Vec<f64>,
    pub(super) block: Scratch,
}

impl VocoderScratch {
    /// Memory for up to `frames` frames together of `shape`, computed by `team`.
    pub fn new(team: &Team, shape: &VocoderShape, frames: usize) -> Self {
        let size = VocoderScratchSize::of(team.level(), team.threads(), shape, frames);
        Self::sized(&size)
    }

    /// Memory of that size.
    pub fn sized(size: &VocoderScratchSize) -> Self {
        let pairs = size.shape.block.head_dim / 2;
        let theta = f64::from(size.shape.rope_theta);
        let frequency = |pair| theta.powf(-(pair as f64) / pairs as f64);
        VocoderScratch {
            shape: size.shape.clone(),
            tasks: size.tasks.clone(),
            frames: size.frames,
            threads: size.threads,
            memories: size.floats.map(Buffer::zeroed),
            own: Buffer::zeroed(size.threads * size.own),
            shown: Buffer::zeroed(size.shown()),
            rope: RopeTable::unturned(pairs, size.frames),
            frequencies: (0..pairs).map(frequency).collect(),
            block: Scratch::sized(&size.block),
        }
    }

    /// Frames that go through together.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// What each stage gave of the frames that went through together last, by its name: row after
    /// row, and how many of these a frame has. Nothing, but for a size
    /// [`with_stages`](VocoderScratchSize::with_stages).
    pub fn stages(&self) -> impl Iterator<Item = (&str, usize, &[f32])> {
        self.tasks.shown().iter().map(|it| {
            let from = it.before * self.frames;
            let rows = &self.shown[from..from + it.frame() * self.frames];
            (it.name.as_str(), it.times, rows)
        })
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let buffers = self.memories.iter().chain([&self.own, &self.shown]);
        let lists = size_of_val(&*self.tasks.steps) + size_of_val(&*self.frequencies);
        buffers.map(Buffer::bytes).sum::<usize>() + lists + self.rope.bytes() + self.block.bytes()
    }
}
