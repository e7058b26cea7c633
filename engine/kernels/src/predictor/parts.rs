//! What a predictor of codes is made of: its sizes and its weights, wherever they lie. Knows
//! nothing of how it is computed.

use crate::block::{BlockShape, BlockWeights};
use crate::weights::{Matrix, Weights, check_size, check_vector};

/// Sizes of a predictor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PredictorShape {
    /// Width of the rows that come in, and of the embeddings of codes.
    pub input: usize,
    pub layers: usize,
    pub block: BlockShape,
    /// Codes that a step chooses from.
    pub codes: usize,
    /// Codes of a frame that are predicted, one after another.
    pub steps: usize,
}

impl PredictorShape {
    /// Positions of a frame: two rows come in, and all chosen codes but the last.
    pub fn positions(&self) -> usize {
        self.steps + 1
    }
}

/// A predictor's weights, wherever they lie.
#[derive(Clone, Debug)]
pub struct PredictorWeights<'a> {
    /// From the width of what comes in to that of the blocks, with a bias. `None`: both are equal.
    pub projection: Option<(Matrix<'a>, Weights<'a>)>,
    pub layers: Vec<BlockWeights<'a>>,
    /// After the last block.
    pub norm: Weights<'a>,
    /// Of each step: the codes by the width of the blocks.
    pub heads: Vec<Matrix<'a>>,
    /// Of each step: a row for each of its codes, as wide as what comes in.
    pub embeddings: Vec<Matrix<'a>>,
}

impl PredictorWeights<'_> {
    /// Bytes that a frame reads.
    pub fn frame_bytes(&self) -> usize {
        let heads = self.heads.iter().map(Matrix::bytes).sum::<usize>();
        self.heads.len() * self.step_bytes() + heads
    }

    /// Bytes that each step reads, beside its head.
    fn step_bytes(&self) -> usize {
        let projection = self.projection.map_or(0, |(matrix, _)| matrix.bytes());
        let layers = self.layers.iter().map(BlockWeights::bytes);
        layers.sum::<usize>() + projection
    }

    /// # Panics
    /// If they are not of `shape`.
    pub(super) fn check(&self, shape: &PredictorShape) {
        let PredictorShape {
            input,
            layers,
            block,
            codes,
            steps,
        } = *shape;
        let found = self.layers.len();
        assert!(found == layers, "{found} layers, not {layers}");
        self.layers.iter().for_each(|layer| layer.check(&block));
        match self.projection {
            Some((matrix, bias)) => {
                check_size("projection", &matrix, block.hidden, input);
                check_vector("projection's bias", bias, block.hidden);
            }
            None => assert!(
                block.hidden == input,
                "{input} wide rows without a projection to {}",
                block.hidden
            ),
        }
        check_vector("norm", self.norm, block.hidden);
        for (name, found) in [("heads", &self.heads), ("embeddings", &self.embeddings)] {
            let found = found.len();
            assert!(found == steps, "{found} {name}, not {steps}");
        }
        for (head, embedding) in self.heads.iter().zip(&self.embeddings) {
            check_size("head", head, codes, block.hidden);
            check_size("embedding", embedding, codes, input);
        }
    }
}
