//! What a block is made of: what it does, its weights by role, and the stored tensors that make up
//! each of them. Follows from the configuration alone. Knows neither where bytes are nor in which
//! numbers.

use crate::ModelConfig;

/// What a block does to the rows that pass through it, beside its sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockSpec {
    pub norms: Norms,
    pub mixer: Mixer,
    pub feed_forward: FeedForward,
    /// What attention and feed-forward part give is multiplied by this before it is added.
    pub residual_multiplier: f64,
}

/// Where a block normalises rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// What goes into attention, and what goes into the feed-forward part.
    Before,
    /// What comes out of them, before it is added to the residual stream.
    After,
}

/// How rows hear of each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mixer {
    Attention {
        biases: AttentionBiases,
        head_norms: HeadNorms,
        /// What scores are multiplied by. `None`: 1 over the root of the head's dimensions.
        scale: Option<f64>,
    },
}

/// What is done outside the blocks, beside embedding, norm and head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EndsSpec {
    /// What the rows that enter the first block are multiplied by.
    pub embedding_multiplier: f64,
    pub logits_divisor: f64,
}

impl EndsSpec {
    pub const PLAIN: Self = Self {
        embedding_multiplier: 1.0,
        logits_divisor: 1.0,
    };
}

/// Which projections of attention add a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionBiases {
    None,
    /// Those of queries, keys and values.
    Qkv,
    /// These and the output's.
    All,
}

/// How queries and keys are normalised before they are turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadNorms {
    None,
    /// Each head by itself.
    Each,
    /// All heads of a row together.
    Whole,
}

/// What is done to each row by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FeedForward {
    /// `down(silu(gate) * up)`, all of them with a bias or none.
    SwiGlu { biases: bool },
}

impl BlockSpec {
    /// Attention and a gated feed-forward part behind a norm each; no biases, no norms of heads, no
    /// multipliers.
    pub const PLAIN: Self = Self {
        norms: Norms::Before,
        mixer: Mixer::Attention {
            biases: AttentionBiases::None,
            head_norms: HeadNorms::None,
            scale: None,
        },
        feed_forward: FeedForward::SwiGlu { biases: false },
        residual_multiplier: 1.0,
    };
}

/// What a weight is for. Fused weights stand as one: their rows follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The norm of what enters attention.
    InputNorm,
    /// Rows of query, key, value.
    Qkv,
    QkvBias,
    QNorm,
    KNorm,
    Out,
    OutBias,
    /// The norm of what `Out` gives.
    OutNorm,
    /// The norm of what enters the feed-forward part.
    PostNorm,
    /// Rows of gate, up.
    GateUp,
    GateUpBias,
    Down,
    DownBias,
    /// The norm of what `Down` gives.
    DownNorm,
    /// Outside the blocks, as the two that follow.
    Embedding,
    FinalNorm,
    Head,
    /// Of a fuser's block, which is none of a model's.
    Projector(Half, ProjectorPart),
    /// Of a part that stands beside the language model: the tensor of that number in its list.
    Component(u16),
}

/// What a projector changes: it has the same parts for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Half {
    Key,
    Value,
}

impl Half {
    pub const ALL: [Self; 2] = [Self::Key, Self::Value];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
        }
    }
}

/// A weight of one half of a projector. The numbers count its MLP blocks: 0 is the first, which
/// both paths share, 1 that of the path to the heads' gates, 2 and more those of the path to the
/// output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProjectorPart {
    /// From source and target side by side, the source's channels first.
    In,
    InBias,
    Norm(u8),
    Up(u8),
    Down(u8),
    /// One row for each of the target's heads.
    HeadGate,
    HeadGateBias,
    Out,
    OutBias,
}

impl ProjectorPart {
    const fn is_matrix(self) -> bool {
        matches!(
            self,
            Self::In | Self::Up(_) | Self::Down(_) | Self::HeadGate | Self::Out
        )
    }
}

impl Role {
    /// Those of a model's block.
    pub const OF_BLOCK: [Self; 14] = [
        Self::InputNorm,
        Self::Qkv,
        Self::QkvBias,
        Self::QNorm,
        Self::KNorm,
        Self::Out,
        Self::OutBias,
        Self::OutNorm,
        Self::PostNorm,
        Self::GateUp,
        Self::GateUpBias,
        Self::Down,
        Self::DownBias,
        Self::DownNorm,
    ];

    /// Whether the weight is a matrix that a projection multiplies with.
    pub const fn is_projection(self) -> bool {
        match self {
            Self::Projector(_, part) => part.is_matrix(),
            _ => matches!(self, Self::Qkv | Self::Out | Self::GateUp | Self::Down),
        }
    }
}

/// One weight of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightSpec {
    pub role: Role,
    /// The stored tensors that make it up, in the order of its rows.
    pub tensors: Vec<TensorSpec>,
}

/// One stored tensor of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// What follows the layer's number.
    pub name: &'static str,
    /// `[rows, columns]` or `[elements]`.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Rows and columns; a vector is a column.
    pub fn size(&self) -> (usize, usize) {
        rows_and_cols(&self.shape)
    }
}

/// A vector is a column, and of a tensor with more dimensions the first counts its rows.
pub(crate) fn rows_and_cols(shape: &[usize]) -> (usize, usize) {
    match shape {
        [rows, rest @ ..] if !rest.is_empty() => (*rows, rest.iter().product()),
        _ => (shape.iter().product(), 1),
    }
}

impl ModelConfig {
    /// The weights of every block, in the order of a slab.
    pub fn block_weights(&self) -> Vec<WeightSpec> {
        self.block_weights_named(self.family.names)
    }

    /// The same of a file that has other names for the tensors.
    pub(crate) fn block_weights_named(
        &self,
        names: impl Fn(Role) -> &'static [&'static str],
    ) -> Vec<WeightSpec> {
        Role::OF_BLOCK
            .into_iter()
            .filter(|&role| self.has(role))
            .map(|role| self.weight(role, names(role)))
            .collect()
    }

    fn has(&self, role: Role) -> bool {
        let Mixer::Attention {
            biases, head_norms, ..
        } = self.block.mixer;
        let FeedForward::SwiGlu { biases: mlp_biases } = self.block.feed_forward;
        match role {
            Role::Qkv | Role::Out | Role::GateUp | Role::Down => true,
            Role::InputNorm | Role::PostNorm => self.block.norms == Norms::Before,
            Role::OutNorm | Role::DownNorm => self.block.norms == Norms::After,
            Role::QkvBias => biases != AttentionBiases::None,
            Role::OutBias => biases == AttentionBiases::All,
            Role::QNorm | Role::KNorm => head_norms != HeadNorms::None,
            Role::GateUpBias | Role::DownBias => mlp_biases,
            Role::Embedding
            | Role::FinalNorm
            | Role::Head
            | Role::Projector(..)
            | Role::Component(_) => false,
        }
    }

    /// The rows (or elements) of each of a weight's parts, and its columns if it is a matrix.
    fn parts(&self, role: Role) -> (Vec<usize>, Option<usize>) {
        let (hidden, ffn) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.q_size(), self.kv_size());
        let Mixer::Attention { head_norms, .. } = self.block.mixer;
        match role {
            Role::InputNorm | Role::PostNorm | Role::OutNorm | Role::DownNorm => {
                (vec![hidden], None)
            }
            Role::Qkv => (vec![q, kv, kv], Some(hidden)),
            Role::QkvBias => (vec![q, kv, kv], None),
            Role::QNorm | Role::KNorm if head_norms != HeadNorms::Whole => {
                (vec![self.head_dim], None)
            }
            Role::QNorm => (vec![q], None),
            Role::KNorm => (vec![kv], None),
            Role::Out => (vec![hidden], Some(q)),
            Role::OutBias | Role::DownBias => (vec![hidden], None),
            Role::GateUp => (vec![ffn, ffn], Some(hidden)),
            Role::GateUpBias => (vec![ffn, ffn], None),
            Role::Down => (vec![hidden], Some(ffn)),
            Role::Embedding | Role::Head => (vec![self.vocab_size], Some(hidden)),
            Role::FinalNorm => (vec![hidden], None),
            Role::Projector(..) | Role::Component(_) => (Vec::new(), None),
        }
    }

    /// A weight that is stored under one name is one tensor, whatever its parts are.
    fn weight(&self, role: Role, names: &[&'static str]) -> WeightSpec {
        let (mut rows, columns) = self.parts(role);
        if names.len() == 1 {
            rows = vec![rows.iter().sum()];
        }
        assert_eq!(rows.len(), names.len(), "names of {role:?}");
        let tensor = |(&name, rows)| TensorSpec {
            name,
            shape: [rows].into_iter().chain(columns).collect(),
        };
        WeightSpec {
            role,
            tensors: names.iter().zip(rows).map(tensor).collect(),
        }
    }
}
