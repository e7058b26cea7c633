//! What a block is made of: its weights by role, and the stored tensors that make up each of them.
//! Follows from the configuration alone. Knows neither where bytes are nor in which numbers.

use crate::ModelConfig;

/// What a weight is for. Fused weights stand as one: their rows follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    InputNorm,
    /// Rows of query, key, value.
    Qkv,
    QkvBias,
    QNorm,
    KNorm,
    Out,
    OutBias,
    PostNorm,
    /// Rows of gate, up.
    GateUp,
    GateUpBias,
    Down,
    DownBias,
    /// Outside the blocks, as the two that follow.
    Embedding,
    FinalNorm,
    Head,
}

impl Role {
    /// Whether the weight is a matrix that a projection multiplies with.
    pub const fn is_projection(self) -> bool {
        matches!(self, Self::Qkv | Self::Out | Self::GateUp | Self::Down)
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
    /// After the layer's number.
    pub name: &'static str,
    /// `[rows, columns]` or `[elements]`.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Rows and columns; a vector is a column.
    pub fn size(&self) -> (usize, usize) {
        match *self.shape {
            [rows, cols] => (rows, cols),
            _ => (self.shape.iter().product(), 1),
        }
    }
}

impl WeightSpec {
    fn new<const N: usize>(role: Role, tensors: [(&'static str, &[usize]); N]) -> Self {
        let tensor = |(name, shape): (&'static str, &[usize])| TensorSpec {
            name,
            shape: shape.to_vec(),
        };
        Self {
            role,
            tensors: tensors.into_iter().map(tensor).collect(),
        }
    }
}

impl ModelConfig {
    /// The weights of every block, in the order of a slab.
    pub fn block_weights(&self) -> Vec<WeightSpec> {
        let (hidden, ffn) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.q_size(), self.kv_size());
        let weight = |present: bool, weight: WeightSpec| present.then_some(weight);
        let all = [
            weight(
                true,
                WeightSpec::new(Role::InputNorm, [("input_layernorm.weight", &[hidden])]),
            ),
            weight(
                true,
                WeightSpec::new(
                    Role::Qkv,
                    [
                        ("self_attn.q_proj.weight", &[q, hidden]),
                        ("self_attn.k_proj.weight", &[kv, hidden]),
                        ("self_attn.v_proj.weight", &[kv, hidden]),
                    ],
                ),
            ),
            weight(
                self.qkv_bias,
                WeightSpec::new(
                    Role::QkvBias,
                    [
                        ("self_attn.q_proj.bias", &[q]),
                        ("self_attn.k_proj.bias", &[kv]),
                        ("self_attn.v_proj.bias", &[kv]),
                    ],
                ),
            ),
            weight(
                self.qk_norm,
                WeightSpec::new(Role::QNorm, [("self_attn.q_norm.weight", &[self.head_dim])]),
            ),
            weight(
                self.qk_norm,
                WeightSpec::new(Role::KNorm, [("self_attn.k_norm.weight", &[self.head_dim])]),
            ),
            weight(
                true,
                WeightSpec::new(Role::Out, [("self_attn.o_proj.weight", &[hidden, q])]),
            ),
            weight(
                self.out_bias,
                WeightSpec::new(Role::OutBias, [("self_attn.o_proj.bias", &[hidden])]),
            ),
            weight(
                true,
                WeightSpec::new(
                    Role::PostNorm,
                    [("post_attention_layernorm.weight", &[hidden])],
                ),
            ),
            weight(
                true,
                WeightSpec::new(
                    Role::GateUp,
                    [
                        ("mlp.gate_proj.weight", &[ffn, hidden]),
                        ("mlp.up_proj.weight", &[ffn, hidden]),
                    ],
                ),
            ),
            weight(
                self.mlp_bias,
                WeightSpec::new(
                    Role::GateUpBias,
                    [("mlp.gate_proj.bias", &[ffn]), ("mlp.up_proj.bias", &[ffn])],
                ),
            ),
            weight(
                true,
                WeightSpec::new(Role::Down, [("mlp.down_proj.weight", &[hidden, ffn])]),
            ),
            weight(
                self.mlp_bias,
                WeightSpec::new(Role::DownBias, [("mlp.down_proj.bias", &[hidden])]),
            ),
        ];
        all.into_iter().flatten().collect()
    }
}
