//! What a vocoder does one after another: where each task reads and writes, for how many times a
//! frame, and what is kept from one call to the next. Knows sizes only.

mod order;

use crate::linear::Taps;

/// Working memory that the tasks pass on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Memory {
    /// What all layers but the transformer's add to.
    Stream,
    /// Rows that a convolution sees, after those that it still sees of the call before.
    Seen,
    Inner,
    /// Inner rows of the first stages.
    Wide,
    /// The stream of the transformer.
    Hidden,
    /// Inputs of convolutions side by side.
    Gathered,
    /// Products of transposed convolutions, after those of the time before.
    Products,
    /// The caller's audio.
    Audio,
}

/// All but the caller's.
pub(super) const MEMORIES: usize = 7;

/// Rows in a memory, after so many floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub memory: Memory,
    pub first: usize,
}

impl Place {
    fn start(memory: Memory) -> Self {
        Place { memory, first: 0 }
    }
}

/// Whose weights a product has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Of {
    First,
    Rest,
    Pre,
    Input,
    Output,
    /// Of a first stage.
    Up(usize),
    Down(usize),
    Stem,
    /// Of a second stage's unit.
    Conv1(usize, usize),
    Conv2(usize, usize),
    Head,
}

/// A linear layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Product {
    pub of: Of,
    pub from: Place,
    /// Floats from one row to the next.
    pub stride: usize,
    /// Of a convolution whose inputs are not put side by side.
    pub taps: Taps,
    pub to: Place,
    /// Rows a frame.
    pub times: usize,
    /// Multiplied as many rows are. The times of a frame decide, so that a frame gives the same
    /// bits however many there are.
    pub is_many: bool,
}

/// Where a stream becomes longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    First(usize),
    Second(usize),
}

/// A transposed convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub stage: Stage,
    pub from: Place,
    pub to: Place,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    /// Rows a frame that come in.
    pub times: usize,
    pub is_many: bool,
}

impl Spread {
    /// What a time becomes before overlapping.
    pub fn products(&self) -> usize {
        self.outputs * self.kernel
    }

    /// Floats of the time before, where it adds to the one after.
    pub fn before(&self) -> usize {
        if self.kernel > self.stride {
            self.products()
        } else {
            0
        }
    }
}

/// Inputs that are put side by side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    pub width: usize,
    pub kernel: usize,
    pub apart: usize,
    pub times: usize,
}

/// Whose frequencies and gains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SnakeOf {
    Stage(usize),
    Unit1(usize, usize),
    Unit2(usize, usize),
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Task {
    /// Entries of the codes, added up.
    Look,
    Product(Product),
    /// The norm after the transformer.
    Norm,
    Gather(Window),
    Products(Spread),
    Overlap(Spread),
    /// The depthwise convolution and the norm of a first stage, for so many times a frame.
    Mix(usize, usize),
    Snake {
        of: SnakeOf,
        from: Place,
        to: Place,
        width: usize,
        times: usize,
    },
    Clamp,
    /// Copies a stage out, by its place among those that are shown.
    Show(usize),
}

/// Rows that are shown, once they are complete.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub name: String,
    pub from: Place,
    /// Floats of a row.
    pub width: usize,
    /// Rows a frame.
    pub times: usize,
    /// Floats a frame of those that are shown before it.
    pub before: usize,
}

impl Shown {
    /// Floats a frame.
    pub fn frame(&self) -> usize {
        self.times * self.width
    }
}

/// What is kept of the last rows of a memory, and put before those of the next call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kept {
    pub memory: Memory,
    /// Where in the state it begins.
    pub state: usize,
    pub floats: usize,
    /// Floats a frame.
    pub frame: usize,
}

/// A task, and what is put before rows or kept meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub task: Task,
    pub recall: Option<Kept>,
    pub keep: Option<Kept>,
}

/// All of them, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tasks {
    pub steps: Vec<Step>,
    /// The transformer comes before this one.
    pub transformer: usize,
    /// Floats of the state.
    pub state: usize,
    /// Of each memory: floats before the rows, and of the rows of a frame, at most at once.
    pub floats: [Vec<(usize, usize)>; MEMORIES],
    /// Of each worker.
    pub own: usize,
    /// `None`: nothing is.
    pub shown: Option<Vec<Shown>>,
}

impl Tasks {
    /// The stages that are shown.
    pub fn shown(&self) -> &[Shown] {
        self.shown.as_deref().unwrap_or_default()
    }
}
