//! What most families call their tensors. A norm after attention has the name that others give to
//! the one before the feed-forward part: where it stands is the block's to say.

use crate::{Purpose, Role};

/// Query, key and value apart, gate and up apart.
pub(super) fn usual(role: Role) -> &'static [&'static str] {
    match role {
        Role::InputNorm => &["input_layernorm.weight"],
        Role::Qkv => &[
            "self_attn.q_proj.weight",
            "self_attn.k_proj.weight",
            "self_attn.v_proj.weight",
        ],
        Role::QkvBias => &[
            "self_attn.q_proj.bias",
            "self_attn.k_proj.bias",
            "self_attn.v_proj.bias",
        ],
        Role::QNorm => &["self_attn.q_norm.weight"],
        Role::KNorm => &["self_attn.k_norm.weight"],
        Role::Out => &["self_attn.o_proj.weight"],
        Role::OutBias => &["self_attn.o_proj.bias"],
        Role::OutNorm => &["post_attention_layernorm.weight"],
        Role::PostNorm => &["post_attention_layernorm.weight"],
        Role::GateUp => &["mlp.gate_proj.weight", "mlp.up_proj.weight"],
        Role::GateUpBias => &["mlp.gate_proj.bias", "mlp.up_proj.bias"],
        Role::Down => &["mlp.down_proj.weight"],
        Role::DownBias => &["mlp.down_proj.bias"],
        Role::DownNorm => &["post_feedforward_layernorm.weight"],
        // Outside the layers.
        Role::Embedding
        | Role::FinalNorm
        | Role::Head
        | Role::Projector(..)
        | Role::Component(_) => &[],
    }
}

/// Frequencies that old exports carry in each layer; they follow from config.json.
pub(super) fn rotation(part: &str) -> Option<Purpose> {
    (part == "self_attn.rotary_emb.inv_freq").then_some(Purpose::Rotation)
}
