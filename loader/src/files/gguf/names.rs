//! What GGUF files call the tensors of our families. The names here on the left are those that the
//! rest of this crate has for them.

/// Of a block's tensors, after the layer's number.
const IN_BLOCK: [(&str, &str); 18] = [
    ("input_layernorm.weight", "attn_norm.weight"),
    ("self_attn.q_proj.weight", "attn_q.weight"),
    ("self_attn.k_proj.weight", "attn_k.weight"),
    ("self_attn.v_proj.weight", "attn_v.weight"),
    ("self_attn.q_proj.bias", "attn_q.bias"),
    ("self_attn.k_proj.bias", "attn_k.bias"),
    ("self_attn.v_proj.bias", "attn_v.bias"),
    ("self_attn.q_norm.weight", "attn_q_norm.weight"),
    ("self_attn.k_norm.weight", "attn_k_norm.weight"),
    ("self_attn.o_proj.weight", "attn_output.weight"),
    ("self_attn.o_proj.bias", "attn_output.bias"),
    ("post_attention_layernorm.weight", "ffn_norm.weight"),
    ("mlp.gate_proj.weight", "ffn_gate.weight"),
    ("mlp.up_proj.weight", "ffn_up.weight"),
    ("mlp.gate_proj.bias", "ffn_gate.bias"),
    ("mlp.up_proj.bias", "ffn_up.bias"),
    ("mlp.down_proj.weight", "ffn_down.weight"),
    ("mlp.down_proj.bias", "ffn_down.bias"),
];

/// Frequencies in a layer, which follow from the metadata.
pub(crate) const ROTATION: &str = "attn_rot_embd.weight";
pub(crate) const LAYERS: &str = "blk.";
pub(crate) const EMBEDDING: &str = "token_embd.weight";
pub(crate) const FINAL_NORM: &str = "output_norm.weight";
pub(crate) const HEAD: &str = "output.weight";

/// What divides the frequencies of the rotation, one for each pair of a head's dimensions.
pub(crate) const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// What the tensor is called in a block. A name that has no other is its own.
pub(crate) fn in_block(name: &'static str) -> &'static str {
    let found = IN_BLOCK.iter().find(|(ours, _)| *ours == name);
    found.map_or(name, |(_, theirs)| theirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::SynthSpec;
    use crate::{Checkpoint, Family, synth};

    #[test]
    fn every_tensor_of_every_family_has_a_name() {
        for family in [Family::LLAMA, Family::MISTRAL, Family::QWEN2, Family::QWEN3] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("model");
            let spec = SynthSpec {
                attention_bias: family == Family::LLAMA,
                mlp_bias: family == Family::LLAMA,
                ..SynthSpec::tiny(family)
            };
            synth::write(&path, &spec, &mut |_, _| {}).unwrap();
            let config = Checkpoint::open(&path).unwrap().config;
            for tensor in config.block_weights().iter().flat_map(|it| &it.tensors) {
                assert_ne!(in_block(tensor.name), tensor.name);
            }
        }
    }
}
