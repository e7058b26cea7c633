//! Which block: the names of stacks and of the layers in them. Names only; counts and sizes of
//! blocks are plain numbers and never mix with these.

use std::fmt;

/// A stack of equal blocks: the only one of a text model, or one of several experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct StackId(pub u16);

/// A block's place in its stack, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerIndex(pub u16);

impl LayerIndex {
    pub fn as_usize(self) -> usize {
        usize::from(self.0)
    }

    /// The layers `0..count` in order.
    pub fn first(count: usize) -> impl Iterator<Item = Self> + Clone {
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        (0..count).map(Self)
    }
}

impl fmt::Display for LayerIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One block of one stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId {
    pub stack: StackId,
    pub layer: LayerIndex,
    /// 0: what every visit of the layer needs. From 1 on: parts that data asks for, like experts.
    pub part: u16,
}

impl BlockId {
    pub const fn new(stack: StackId, layer: LayerIndex) -> Self {
        let part = 0;
        Self { stack, layer, part }
    }

    /// A part of the same layer.
    pub const fn part(self, part: u16) -> Self {
        Self { part, ..self }
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.part != 0 {
            write!(f, "part {} of ", self.part)?;
        }
        match self.stack {
            StackId(0) => write!(f, "layer {}", self.layer),
            StackId(stack) => write!(f, "layer {} of stack {stack}", self.layer),
        }
    }
}
