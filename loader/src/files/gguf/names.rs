//! What GGUF files call tensors. The families say which of them they have; most have the usual ones.

use crate::Role;

/// Frequencies in a layer, which follow from the metadata.
pub(crate) const ROTATION: &str = "attn_rot_embd.weight";
pub(crate) const LAYERS: &str = "blk.";
pub(crate) const EMBEDDING: &str = "token_embd.weight";
pub(crate) const FINAL_NORM: &str = "output_norm.weight";
pub(crate) const HEAD: &str = "output.weight";

/// What divides the frequencies of the rotation, one for each pair of a head's dimensions.
pub(crate) const ROPE_DIVISORS: &str = "rope_freqs.weight";
/// The same for short and for long texts.
pub(crate) const ROPE_SHORT: &str = "rope_factors_short.weight";
pub(crate) const ROPE_LONG: &str = "rope_factors_long.weight";

pub(super) const FUSED_QKV_BIAS: &str = "attn_qkv.bias";

/// The names of a block's tensors, after the layer's number: query, key and value apart, gate and
/// up apart.
pub(crate) fn usual(role: Role) -> &'static [&'static str] {
    match role {
        Role::InputNorm => &["attn_norm.weight"],
        Role::Qkv => &["attn_q.weight", "attn_k.weight", "attn_v.weight"],
        Role::QkvBias => &["attn_q.bias", "attn_k.bias", "attn_v.bias"],
        Role::QNorm => &["attn_q_norm.weight"],
        Role::KNorm => &["attn_k_norm.weight"],
        Role::Out => &["attn_output.weight"],
        Role::OutBias => &["attn_output.bias"],
        Role::OutNorm => &["post_attention_norm.weight"],
        Role::PostNorm => &["ffn_norm.weight"],
        Role::GateUp => &["ffn_gate.weight", "ffn_up.weight"],
        Role::GateUpBias => &["ffn_gate.bias", "ffn_up.bias"],
        Role::Down => &["ffn_down.weight"],
        Role::DownBias => &["ffn_down.bias"],
        Role::DownNorm => &["post_ffw_norm.weight"],
        // Outside the layers.
        Role::Embedding
        | Role::FinalNorm
        | Role::Head
        | Role::Projector(..)
        | Role::Component(_) => &[],
    }
}

/// The one tensor that a weight is where writers may fuse what others keep apart.
pub(crate) const fn fused(role: Role) -> Option<&'static [&'static str]> {
    match role {
        Role::Qkv => Some(&["attn_qkv.weight"]),
        Role::QkvBias => Some(&[FUSED_QKV_BIAS]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Family;

    #[test]
    fn every_weight_of_every_family_has_names_of_its_own() {
        for family in Family::ALL {
            let Some(gguf) = &family.gguf else {
                continue;
            };
            let mut names = BTreeSet::new();
            for role in Role::OF_BLOCK {
                assert!(!(gguf.names)(role).is_empty(), "{family} {role:?}");
                for name in (gguf.names)(role).iter().chain(fused(role).unwrap_or(&[])) {
                    assert!(names.insert(name), "{family} {role:?}: {name}");
                }
            }
        }
    }

    #[test]
    fn an_architecture_is_one_family() {
        let known = || Family::ALL.into_iter().filter_map(|it| it.gguf.as_ref());
        let names: BTreeSet<&str> = known().map(|gguf| gguf.architecture).collect();
        assert_eq!(names.len(), known().count());
    }
}
