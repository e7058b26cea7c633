//! Synthetic checkpoints in a temporary directory, and a second, independent way to read them.

#![allow(
    dead_code,
    reason = "every test file is a crate of its own and uses its share of these"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use loader::synth::{self, SynthSpec};
use loader::{BlockLayout, Family, Role, RopeScaling};
use serde_json::Value;
use tempfile::TempDir;

/// A checkpoint on disk that goes away with the test.
pub struct Made {
    _temp: TempDir,
    pub dir: PathBuf,
}

pub fn make(spec: &SynthSpec) -> Made {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    synth::write(&dir, spec, &mut |_, _| {}).unwrap();
    Made { _temp: temp, dir }
}

/// Every family, with every optional weight somewhere.
pub fn specs() -> Vec<SynthSpec> {
    let llama = SynthSpec {
        attention_bias: true,
        mlp_bias: true,
        ..SynthSpec::tiny(Family::LLAMA)
    };
    let mut specs: Vec<SynthSpec> = Family::ALL.into_iter().map(SynthSpec::tiny).collect();
    specs.push(llama);
    specs
}

/// Of a model with heads of 16.
pub fn longrope() -> RopeScaling {
    RopeScaling::LongRope {
        short_factors: vec![1.0, 1.0, 1.05, 1.1, 1.2, 1.5, 2.0, 2.5],
        long_factors: vec![1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
        attention_factor: 1.19,
        original_max_positions: 128,
    }
}

/// A safetensors file taken apart.
pub struct Parts {
    pub header: Value,
    pub data: Vec<u8>,
}

pub fn take_apart(file: &Path) -> Parts {
    let bytes = std::fs::read(file).unwrap();
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    Parts {
        header: serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap(),
        data: bytes[8 + header_bytes..].to_vec(),
    }
}

/// Writes those tensors of a bf16 checkpoint of one file anew in f32: the same numbers.
pub fn widen(dir: &Path, is_wide: impl Fn(&str) -> bool) {
    let file = dir.join("model.safetensors");
    let Parts { mut header, data } = take_apart(&file);
    let mut widened = Vec::new();
    let tensors = header.as_object_mut().unwrap().iter_mut();
    for (name, tensor) in tensors.filter(|(name, _)| *name != "__metadata__") {
        let offset = |index: usize| tensor["data_offsets"][index].as_u64().unwrap() as usize;
        let stored = &data[offset(0)..offset(1)];
        let start = widened.len();
        if is_wide(name) {
            widened.extend(stored.chunks_exact(2).flat_map(|it| [0, 0, it[0], it[1]]));
            tensor["dtype"] = "F32".into();
        } else {
            widened.extend(stored);
        }
        tensor["data_offsets"] = serde_json::json!([start, widened.len()]);
    }
    put_together(&file, header.to_string().as_bytes(), &widened);
}

pub fn put_together(file: &Path, header: &[u8], data: &[u8]) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    std::fs::write(file, bytes).unwrap();
}

/// All tensors of a directory, read by the format's own library: name -> bytes as stored.
pub fn reference_tensors(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut tensors = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "safetensors") {
            let bytes = std::fs::read(&path).unwrap();
            for (name, view) in safetensors::SafeTensors::deserialize(&bytes)
                .unwrap()
                .iter()
            {
                let known = tensors.insert(name.to_string(), view.data().to_vec());
                assert!(known.is_none(), "{name} twice");
            }
        }
    }
    tensors
}

/// The slab of one block as it must come out, without conversion. Bytes between weights are 0.
pub fn reference_slab(
    tensors: &BTreeMap<String, Vec<u8>>,
    layer: usize,
    layout: &BlockLayout,
) -> Vec<u8> {
    let mut slab = vec![0; layout.slab_bytes()];
    let fused = tensors.contains_key("model.layers.0.self_attn.qkv_proj.weight");
    for place in layout.placements() {
        let names: &[&str] = match place.role {
            Role::InputNorm => &["input_layernorm.weight"],
            Role::Qkv if fused => &["self_attn.qkv_proj.weight"],
            Role::GateUp if fused => &["mlp.gate_up_proj.weight"],
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
            Role::PostNorm | Role::OutNorm => &["post_attention_layernorm.weight"],
            Role::GateUp => &["mlp.gate_proj.weight", "mlp.up_proj.weight"],
            Role::GateUpBias => &["mlp.gate_proj.bias", "mlp.up_proj.bias"],
            Role::Down => &["mlp.down_proj.weight"],
            Role::DownBias => &["mlp.down_proj.bias"],
            Role::DownNorm => &["post_feedforward_layernorm.weight"],
            Role::Embedding
            | Role::FinalNorm
            | Role::Head
            | Role::Projector(..)
            | Role::Component(_) => {
                unreachable!("outside the blocks")
            }
        };
        let fused: Vec<u8> = names
            .iter()
            .flat_map(|name| tensors[&format!("model.layers.{layer}.{name}")].clone())
            .collect();
        let mut rest = &fused[..];
        for part in &place.parts {
            let bytes;
            (bytes, rest) = rest.split_at(part.bytes);
            slab[part.offset..part.offset + part.bytes].copy_from_slice(bytes);
        }
        assert!(rest.is_empty(), "{:?}", place.role);
    }
    slab
}
