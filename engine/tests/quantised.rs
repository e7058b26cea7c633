//! Models in quantised encodings, made here in the format that people have them in: streamed is
//! resident to the bit, both kernels agree, and nothing is larger than the file has it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use engine::{Kernels, Model, ModelOptions, Source};
use half::f16;
use loader::{Encoding, Role};
use offload::{Home, LayerIndex, Residency};

const HIDDEN: usize = 256;
const FFN: usize = 512;
const LAYERS: usize = 4;
const VOCABULARY: usize = 96;

/// A small generator: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Random blocks, whose numbers are around a twentieth.
    fn tensor(&mut self, encoding: Encoding, rows: usize, cols: usize) -> Vec<u8> {
        let mut bytes = vec![0; encoding.bytes(rows, cols).unwrap()];
        bytes.fill_with(|| self.next() as u8);
        // Where a block's scales are, and how large its whole numbers are.
        let (scales, most): (&[usize], f32) = match encoding {
            Encoding::F32 => {
                for number in bytes.chunks_exact_mut(4) {
                    let value = (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5;
                    number.copy_from_slice(&(value * 0.1 + 1.0).to_le_bytes());
                }
                return bytes;
            }
            Encoding::Bf16 => {
                for number in bytes.chunks_exact_mut(2) {
                    let value = (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5;
                    number.copy_from_slice(&half::bf16::from_f32(value * 0.1).to_le_bytes());
                }
                return bytes;
            }
            Encoding::Q8_0 => (&[0], 128.0),
            Encoding::Q4K => (&[0, 2], 15.0 * 63.0),
            Encoding::Q6K => (&[208], 32.0 * 128.0),
            other => panic!("no scales known of {other}"),
        };
        for block in bytes.chunks_exact_mut(encoding.block().bytes) {
            for &at in scales {
                let scale = f16::from_f32(0.05 / most);
                block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        bytes
    }
}

struct Tensor {
    name: String,
    encoding: Encoding,
    rows: usize,
    cols: usize,
}

/// A "K_M" mix: queries and keys in one encoding and values in another, and every second layer with
/// more of the larger one; the last of Q8_0, with one part in bf16.
fn tensors() -> Vec<Tensor> {
    let mut all = Vec::new();
    let mut push = |name: String, encoding, rows, cols| {
        all.push(Tensor {
            name,
            encoding,
            rows,
            cols,
        });
    };
    push(
        "token_embd.weight".into(),
        Encoding::Q4K,
        VOCABULARY,
        HIDDEN,
    );
    for layer in 0..LAYERS {
        let (most, some) = match layer {
            3 => (Encoding::Q8_0, Encoding::Bf16),
            _ => (Encoding::Q4K, Encoding::Q6K),
        };
        let large = if layer % 2 == 1 { some } else { most };
        let mut block = |name: &str, encoding, rows, cols| {
            push(format!("blk.{layer}.{name}.weight"), encoding, rows, cols);
        };
        block("attn_norm", Encoding::F32, HIDDEN, 1);
        block("attn_q", most, HIDDEN, HIDDEN);
        block("attn_k", most, HIDDEN / 2, HIDDEN);
        block("attn_v", some, HIDDEN / 2, HIDDEN);
        block("attn_output", most, HIDDEN, HIDDEN);
        block("ffn_norm", Encoding::F32, HIDDEN, 1);
        block("ffn_gate", most, FFN, HIDDEN);
        block("ffn_up", large, FFN, HIDDEN);
        block("ffn_down", large, HIDDEN, FFN);
    }
    push("output_norm.weight".into(), Encoding::F32, HIDDEN, 1);
    push("output.weight".into(), Encoding::Q6K, VOCABULARY, HIDDEN);
    all
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}

/// A GGUF file of version 3.
fn write(file: &Path) {
    let tensors = tensors();
    let numbers: [(&str, usize); 7] = [
        ("embedding_length", HIDDEN),
        ("feed_forward_length", FFN),
        ("block_count", LAYERS),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("context_length", 256),
        ("vocab_size", VOCABULARY),
    ];
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((numbers.len() as u64 + 2).to_le_bytes());
    text(&mut bytes, "general.architecture");
    bytes.extend(8_u32.to_le_bytes());
    text(&mut bytes, "llama");
    text(&mut bytes, "llama.attention.layer_norm_rms_epsilon");
    bytes.extend(6_u32.to_le_bytes());
    bytes.extend(1e-5_f32.to_le_bytes());
    for (name, number) in numbers {
        text(&mut bytes, &format!("llama.{name}"));
        bytes.extend(4_u32.to_le_bytes());
        bytes.extend((number as u32).to_le_bytes());
    }
    let mut data: Vec<u8> = Vec::new();
    let mut random = Random(3);
    for tensor in &tensors {
        let Tensor {
            name,
            encoding,
            rows,
            cols,
        } = tensor;
        text(&mut bytes, name);
        let dimensions: &[usize] = if *cols == 1 {
            &[*rows]
        } else {
            &[*cols, *rows]
        };
        bytes.extend((dimensions.len() as u32).to_le_bytes());
        for &dimension in dimensions {
            bytes.extend((dimension as u64).to_le_bytes());
        }
        let kind: u32 = match encoding {
            Encoding::F32 => 0,
            Encoding::Q8_0 => 8,
            Encoding::Q4K => 12,
            Encoding::Q6K => 14,
            Encoding::Bf16 => 30,
            other => panic!("{other}"),
        };
        bytes.extend(kind.to_le_bytes());
        bytes.extend((data.len() as u64).to_le_bytes());
        data.extend(random.tensor(*encoding, *rows, *cols));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(data);
    fs::write(file, bytes).unwrap();
}

/// The logits after a prompt in one pass, and after two more tokens.
fn logits(model: &mut Model) -> [Vec<u32>; 2] {
    let mut session = model.session().unwrap();
    session.pass(&[1, 5, 9, 2, 70, 33]).unwrap();
    let bits = |logits: &[f32]| -> Vec<u32> { logits.iter().map(|it| it.to_bits()).collect() };
    let prompt = bits(session.logits());
    session.pass(&[7]).unwrap();
    session.pass(&[8]).unwrap();
    [prompt, bits(session.logits())]
}

fn off(found: &[u32], expected: &[u32]) -> f32 {
    let number = |&bits: &u32| f32::from_bits(bits);
    let largest = expected
        .iter()
        .map(number)
        .fold(0.0_f32, |most, it| most.max(it.abs()));
    let differences = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (number(a) - number(b)).abs());
    differences.fold(0.0, f32::max) / largest
}

#[test]
fn quantised_layers_are_streamed_and_computed_as_the_file_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mixed.gguf");
    write(&file);
    let source = Source::Directory(file);
    let open = |options: ModelOptions| Model::open(&source, options).unwrap();
    let options = |resident, home, kernels| ModelOptions {
        residency: Residency::Layers(resident),
        home: Some(home),
        kernels,
        ..ModelOptions::default()
    };
    let mut both = Vec::new();
    for kernels in [Kernels::Fast, Kernels::Clear] {
        let expected = logits(&mut open(options(LAYERS, Home::Disk, kernels)));
        assert!(
            expected
                .iter()
                .flatten()
                .all(|bits| f32::from_bits(*bits).is_finite())
        );
        for resident in 0..LAYERS {
            for home in [Home::Disk, Home::Ram] {
                let mut model = open(options(resident, home, kernels));
                assert!(
                    logits(&mut model) == expected,
                    "{kernels:?} {resident} {home:?}"
                );
            }
        }
        both.push(expected);
    }
    // Activations of eight bits are what the two differ in.
    for (fast, clear) in both[0].iter().zip(&both[1]) {
        let off = off(fast, clear);
        assert!(off > 0.0 && off < 0.05, "{off}");
    }
}

#[test]
fn no_byte_more_than_the_file_has_crosses_the_link_or_stays() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mixed.gguf");
    write(&file);
    let options = ModelOptions {
        residency: Residency::Layers(2),
        ..ModelOptions::default()
    };
    let model = Model::open(&Source::Directory(file), options).unwrap();
    let blueprint = model.blueprint();
    let stored = |layer: usize| -> u64 {
        let start = format!("blk.{layer}.");
        let tensors = tensors()
            .into_iter()
            .filter(|it| it.name.starts_with(&start));
        let bytes = tensors.map(|it| it.encoding.bytes(it.rows, it.cols).unwrap() as u64);
        bytes.sum()
    };
    let plan = &blueprint.plan;
    let layers = |layer: LayerIndex| stored(layer.as_usize());
    let streamed: u64 = plan.streamed().map(layers).sum();
    assert_eq!(plan.streamed_bytes_per_pass(), streamed);
    // Resident, but for the gaps that whole lines take.
    let resident: u64 = plan.resident().map(layers).sum();
    let gaps = 2 * 12 * loader::SLAB_ALIGN_BYTES as u64;
    assert!(
        (resident..=resident + gaps).contains(&plan.resident_bytes()),
        "{plan:?}"
    );
    // Layers of other sizes pass through slots of one size.
    let slabs = [0, 1, 3].map(|layer| plan.cost(LayerIndex(layer)).weights);
    assert!(slabs[0] < slabs[1] && slabs[1] < slabs[2], "{slabs:?}");
    assert!(plan.resized(0).slab_bytes() >= slabs[2]);
    // One fused matrix in two encodings.
    let layout = blueprint.layout(LayerIndex(1));
    let qkv = layout.get(Role::Qkv).unwrap();
    let encodings: Vec<Encoding> = qkv.parts.iter().map(|part| part.encoding).collect();
    assert!(encodings.contains(&Encoding::Q4K) && encodings.contains(&Encoding::Q6K));
}
