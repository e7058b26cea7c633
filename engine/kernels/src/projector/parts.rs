//! What a projector is made of: its sizes and its weights, wherever they lie. Knows nothing of how
//! it is computed.

use smallvec::SmallVec;

use crate::rope::Pairing;

use crate::weights::{Matrix, Weights, check_matrix, check_vector};

/// Sizes of a projector, for keys and for values alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectorShape {
    /// Key-value heads of the model whose cache is read.
    pub source_heads: usize,
    /// Dimensions of such a head.
    pub source_dim: usize,
    /// In which order its keys have them. A projector knows the order of [`Pairing::Halves`].
    pub source_keys: Pairing,
    /// Key-value heads of the model whose cache is rewritten.
    pub target_heads: usize,
    /// Dimensions of such a head.
    pub target_dim: usize,
    /// In which order its keys have them.
    pub target_keys: Pairing,
    /// Width of the rows between the projections.
    pub hidden: usize,
    /// Inner width of the blocks, but of the one before the head gates: that is `hidden`.
    pub intermediate: usize,
    /// Blocks on the way from a cache to its residual, and one: at least 3.
    pub layers: usize,
}

impl ProjectorShape {
    /// Channels of a position: of the source's heads, then of the target's.
    pub fn input(&self) -> usize {
        self.source_heads * self.source_dim + self.output()
    }

    /// Channels of the target's heads.
    pub fn output(&self) -> usize {
        self.target_heads * self.target_dim
    }

    /// Blocks after the first, on the way to the residual.
    pub fn rest(&self) -> usize {
        self.layers.saturating_sub(2)
    }
}

/// One block: `x + down(gelu(up(norm(x))))`.
#[derive(Clone, Copy, Debug)]
pub struct MlpWeights<'a> {
    /// `hidden`.
    pub norm: Weights<'a>,
    /// The inner width by `hidden`.
    pub up: Matrix<'a>,
    /// `hidden` by the inner width.
    pub down: Matrix<'a>,
}

/// The half of a projector that rewrites keys, or values.
#[derive(Clone, Debug)]
pub struct HalfWeights<'a> {
    /// `hidden` by the channels of both caches: source, then target.
    pub input: Matrix<'a>,
    /// `hidden`.
    pub input_bias: Weights<'a>,
    /// The block that what follows shares.
    pub first: MlpWeights<'a>,
    /// The block before the head gates, of inner width `hidden`.
    pub scalar: MlpWeights<'a>,
    /// `target_heads` by `hidden`: how much of the residual each head takes, before the sigmoid.
    pub head_gate: Matrix<'a>,
    /// `target_heads`.
    pub head_gate_bias: Weights<'a>,
    /// `layers - 2` blocks before the residual.
    pub rest: SmallVec<[MlpWeights<'a>; 1]>,
    /// The target's channels by `hidden`: the residual.
    pub out: Matrix<'a>,
    /// The target's channels.
    pub out_bias: Weights<'a>,
}

/// A projector's weights, wherever they lie.
#[derive(Clone, Debug)]
pub struct ProjectorWeights<'a> {
    /// `None`: its gate is closed, and keys stay as they are.
    pub key: Option<HalfWeights<'a>>,
    /// The same of values.
    pub value: Option<HalfWeights<'a>>,
}

impl ProjectorWeights<'_> {
    /// Bytes that fusing a chunk reads.
    pub fn bytes(&self) -> usize {
        let halves = [&self.key, &self.value].into_iter().flatten();
        halves.map(HalfWeights::bytes).sum()
    }

    pub(super) fn check(&self, shape: &ProjectorShape) {
        for half in [&self.key, &self.value].into_iter().flatten() {
            half.check(shape);
        }
    }
}

impl<'a> HalfWeights<'a> {
    fn blocks(&self) -> impl Iterator<Item = &MlpWeights<'a>> {
        [&self.first, &self.scalar].into_iter().chain(&self.rest)
    }

    pub(super) fn bytes(&self) -> usize {
        let matrices = [&self.input, &self.head_gate, &self.out].map(Matrix::bytes);
        let vectors = [self.input_bias, self.head_gate_bias, self.out_bias];
        let block =
            |block: &MlpWeights<'_>| block.norm.bytes() + block.up.bytes() + block.down.bytes();
        matrices.iter().sum::<usize>()
            + vectors.iter().map(Weights::bytes).sum::<usize>()
            + self.blocks().map(block).sum::<usize>()
    }

    fn check(&self, shape: &ProjectorShape) {
        let ProjectorShape {
            hidden,
            intermediate,
            target_heads,
            ..
        } = *shape;
        let output = shape.output();
        assert!(
            self.rest.len() == shape.rest(),
            "{} blocks before the residual, not {}",
            self.rest.len(),
            shape.rest()
        );
        check_matrix("input", &self.input, hidden, shape.input());
        check_vector("input_bias", self.input_bias, hidden);
        check_matrix("head_gate", &self.head_gate, target_heads, hidden);
        check_vector("head_gate_bias", self.head_gate_bias, target_heads);
        check_matrix("out", &self.out, output, hidden);
        check_vector("out_bias", self.out_bias, output);
        for (index, block) in self.blocks().enumerate() {
            let inner = if index == 1 { hidden } else { intermediate };
            check_vector("norm", block.norm, hidden);
            check_matrix("up", &block.up, inner, hidden);
            check_matrix("down", &block.down, hidden, inner);
        }
    }
}
