//! What a block is made of: its sizes and its weights, wherever they lie. Knows nothing of how it
//! is computed.

use crate::weights::{Matrix, Weights};

/// Sizes that all blocks of a stack share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockShape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Inner width of the feed-forward part.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; divides `heads`.
    pub kv_heads: usize,
    /// Dimensions a head.
    pub head_dim: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f32,
    /// What scores are multiplied by. `None`: 1 over the root of `head_dim`.
    pub scale: Option<f32>,
    /// What attention and feed-forward part give is multiplied by this before it is added.
    pub residual: f32,
}

impl BlockShape {
    /// Rows of the fused query, key and value projection.
    pub fn qkv_rows(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    pub(super) fn score_scale(&self) -> f32 {
        self.scale.unwrap_or(1.0 / (self.head_dim as f32).sqrt())
    }
}

/// One block's weights, wherever they lie.
#[derive(Clone, Copy, Debug)]
pub struct BlockWeights<'a> {
    /// `hidden`: of what enters attention.
    pub input_norm: Option<Weights<'a>>,
    /// Query rows, key rows, value rows; by `hidden`.
    pub qkv: Matrix<'a>,
    /// One for each row of `qkv`.
    pub qkv_bias: Option<Weights<'a>>,
    /// `head_dim`: a norm over each query head; `heads * head_dim`: one over all of them.
    pub q_norm: Option<Weights<'a>>,
    /// The same for the key heads.
    pub k_norm: Option<Weights<'a>>,
    /// `hidden` by `heads * head_dim`.
    pub out: Matrix<'a>,
    /// `hidden`.
    pub out_bias: Option<Weights<'a>>,
    /// `hidden`: of what `out` gives, before it is added to the residual stream.
    pub out_norm: Option<Weights<'a>>,
    /// `hidden`: of what enters the feed-forward part.
    pub post_norm: Option<Weights<'a>>,
    /// Gate rows, then up rows: `2 * ffn` by `hidden`.
    pub gate_up: Matrix<'a>,
    /// One for each row of `gate_up`.
    pub gate_up_bias: Option<Weights<'a>>,
    /// `hidden` by `ffn`.
    pub down: Matrix<'a>,
    /// `hidden`.
    pub down_bias: Option<Weights<'a>>,
    /// `hidden`: of what `down` gives, before it is added to the residual stream.
    pub down_norm: Option<Weights<'a>>,
}

impl BlockWeights<'_> {
    /// Bytes that a forward pass reads.
    pub fn bytes(&self) -> usize {
        let vectors = [
            self.input_norm,
            self.qkv_bias,
            self.q_norm,
            self.k_norm,
            self.out_bias,
            self.out_norm,
            self.post_norm,
            self.gate_up_bias,
            self.down_bias,
            self.down_norm,
        ];
        let matrices = [self.qkv, self.out, self.gate_up, self.down];
        vectors.iter().flatten().map(Weights::bytes).sum::<usize>()
            + matrices.iter().map(Matrix::bytes).sum::<usize>()
    }

    /// Whether queries and keys are normalised over all heads of a row together.
    pub(super) fn norms_all_heads(&self, shape: &BlockShape) -> bool {
        let norms = [self.q_norm, self.k_norm].into_iter().flatten();
        norms
            .map(|norm| norm.len())
            .any(|len| len != shape.head_dim)
    }

    pub(crate) fn check(&self, shape: &BlockShape) {
        let BlockShape {
            hidden,
            ffn,
            heads,
            kv_heads,
            head_dim,
            ..
        } = *shape;
        assert!(
            kv_heads > 0 && heads % kv_heads == 0,
            "{heads} heads over {kv_heads}"
        );
        let matrix = |name, m: &Matrix<'_>, rows, cols| {
            assert!(
                m.rows() == rows && m.cols() == cols,
                "{name} is {} x {}, not {rows} x {cols}",
                m.rows(),
                m.cols()
            );
        };
        let vector = |name, v: Option<Weights<'_>>, len| {
            let found = v.map_or(len, |v| v.len());
            assert!(found == len, "{name} has {found} numbers, not {len}");
        };
        matrix("qkv", &self.qkv, shape.qkv_rows(), hidden);
        matrix("out", &self.out, hidden, heads * head_dim);
        matrix("gate_up", &self.gate_up, 2 * ffn, hidden);
        matrix("down", &self.down, hidden, ffn);
        vector("input_norm", self.input_norm, hidden);
        vector("out_norm", self.out_norm, hidden);
        vector("post_norm", self.post_norm, hidden);
        vector("down_norm", self.down_norm, hidden);
        vector("qkv_bias", self.qkv_bias, shape.qkv_rows());
        let (q_heads, k_heads) = match self.norms_all_heads(shape) {
            true => (heads, kv_heads),
            false => (1, 1),
        };
        vector("q_norm", self.q_norm, q_heads * head_dim);
        vector("k_norm", self.k_norm, k_heads * head_dim);
        vector("out_bias", self.out_bias, hidden);
        vector("gate_up_bias", self.gate_up_bias, 2 * ffn);
        vector("down_bias", self.down_bias, hidden);
    }
}
