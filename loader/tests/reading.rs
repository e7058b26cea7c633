//! Blocks read through the public door, against the format's own library.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, in its helpers too"
)]

mod common;

use std::time::Duration;

use common::{make, reference_slab, reference_tensors, specs};
use loader::synth::SynthSpec;
use loader::{
    Access, AccessReport, AlignedBuf, Arrangement, BlockLayout, BlockSource, Checkpoint, Chunk,
    DIRECT_ALIGN_BYTES, DType, Encoding, Error, Family, Move, Role, Whole, assign, convert,
};

fn block(checkpoint: &Checkpoint, layer: usize) -> BlockSource {
    checkpoint.block(layer, None, Arrangement::Packed).unwrap()
}

fn read(checkpoint: &Checkpoint, source: &BlockSource, access: Access) -> Vec<u8> {
    let mut slab = vec![0; source.slab_bytes()];
    loader::read_block(checkpoint.sources(), source, &mut slab, access).unwrap();
    slab
}

/// The same checkpoint as if it had been compiled into the program.
fn embed(dir: &std::path::Path) -> Checkpoint {
    let files: Vec<(&'static str, &'static [u8])> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let bytes = std::fs::read(path).unwrap();
            (&*name.leak(), &*bytes.leak())
        })
        .collect();
    Checkpoint::embedded("demo", &files).unwrap()
}

#[test]
fn direct_buffered_embedded_and_the_reference_agree_for_every_family_and_dtype() {
    for spec in specs() {
        for dtype in DType::ALL {
            // Small shards, so that blocks span files.
            let spec = SynthSpec {
                dtype,
                shard_bytes: 50_000,
                ..spec.clone()
            };
            let made = make(&spec);
            let tensors = reference_tensors(&made.dir);
            let on_disk = Checkpoint::open(&made.dir).unwrap();
            assert!(on_disk.sources().len() > 3);
            assert_eq!(on_disk.encoding(), dtype.encoding());
            let embedded = embed(&made.dir);
            assert_eq!(embedded.access_report(), AccessReport::Embedded);
            assert_eq!(embedded.config, on_disk.config);
            for layer in 0..spec.layers {
                let source = block(&on_disk, layer);
                assert_eq!(source, block(&embedded, layer));
                let expected = reference_slab(&tensors, layer, source.layout());
                for access in [Access::Buffered, Access::Direct] {
                    assert!(read(&on_disk, &source, access) == expected);
                    assert!(read(&embedded, &source, access) == expected);
                }
            }
        }
    }
}

#[test]
fn rows_are_those_of_the_whole_weight_in_any_order_and_dtype() {
    for stored in DType::ALL {
        let made = make(&SynthSpec {
            tied_embeddings: false,
            ..SynthSpec::tiny(Family::QWEN3).with_dtype(stored)
        });
        let on_disk = Checkpoint::open(&made.dir).unwrap();
        for checkpoint in [&on_disk, &embed(&made.dir)] {
            for (which, dtype) in [Whole::Embedding, Whole::LmHead]
                .into_iter()
                .flat_map(|which| DType::ALL.map(|dtype| (which, dtype)))
            {
                let source = checkpoint
                    .weight(which, Some(dtype), Arrangement::Packed)
                    .unwrap();
                let mut whole = vec![0; source.slab_bytes()];
                loader::read_block(checkpoint.sources(), &source, &mut whole, Access::Buffered)
                    .unwrap();
                let rows = checkpoint.rows(which, Some(dtype)).unwrap();
                let last = checkpoint.config.vocab_size as u32 - 1;
                for wanted in [
                    vec![],
                    vec![last],
                    vec![3, 0, 3, last, 1, 2, 3],
                    (0..=last).rev().collect(),
                ] {
                    let size = rows.row_bytes();
                    let mut found = vec![0; wanted.len() * size];
                    rows.read(&wanted, &mut found).unwrap();
                    let expected = wanted.iter().flat_map(|&row| {
                        let at = row as usize * size;
                        &whole[at..at + size]
                    });
                    assert!(found.iter().eq(expected), "{which:?} {stored} {dtype}");
                }
            }
        }
    }
}

#[test]
fn a_row_past_the_end_of_a_file_that_shrank_is_an_error() {
    let made = make(&SynthSpec::tiny(Family::QWEN3));
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let rows = checkpoint.rows(Whole::Embedding, None).unwrap();
    let whole = checkpoint
        .weight(Whole::Embedding, None, Arrangement::Packed)
        .unwrap();
    let piece = &whole.pieces()[0];
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(checkpoint.sources()[piece.source].name());
    file.unwrap().set_len(piece.offset + 10).unwrap();
    let mut to = vec![0; 2 * rows.row_bytes()];
    let error = rows.read(&[7, 0], &mut to).unwrap_err();
    assert!(matches!(error, Error::Shrunk { .. }), "{error}");
}

#[test]
fn a_slab_of_another_dtype_holds_the_converted_weights() {
    for stored in DType::ALL {
        let made = make(&SynthSpec::tiny(Family::QWEN3).with_dtype(stored));
        let checkpoint = Checkpoint::open(&made.dir).unwrap();
        let plain = block(&checkpoint, 1);
        let stored_slab = read(&checkpoint, &plain, Access::Buffered);
        for wanted in DType::ALL {
            let source = checkpoint
                .block(1, Some(wanted), Arrangement::Packed)
                .unwrap();
            for access in [Access::Buffered, Access::Direct] {
                let slab = read(&checkpoint, &source, access);
                let parts = plain.layout().parts().zip(source.layout().parts());
                for ((from_role, from), (to_role, to)) in parts {
                    assert_eq!(
                        (from_role, from.rows, from.cols),
                        (to_role, to.rows, to.cols)
                    );
                    let mut expected = vec![0; to.bytes];
                    let bytes = &stored_slab[from.offset..from.offset + from.bytes];
                    convert(stored.encoding(), bytes, wanted.encoding(), &mut expected);
                    assert!(slab[to.offset..to.offset + to.bytes] == expected);
                }
            }
        }
    }
}

/// As many are saved: norms in f32, and here and there a layer.
#[test]
fn a_checkpoint_of_several_dtypes_is_read_as_it_is() {
    let made = make(&SynthSpec {
        attention_bias: true,
        ..SynthSpec::tiny(Family::LLAMA)
    });
    let narrow = Checkpoint::open(&made.dir).unwrap();
    let expected = reference_tensors(&made.dir);
    let biases = |name: &str| name.contains("q_proj.bias");
    let wide = |name: &str| name.contains("norm") || name.contains("layers.1.mlp") || biases(name);
    common::widen(&made.dir, wide);
    let mixed = Checkpoint::open(&made.dir).unwrap();
    assert_eq!(mixed.encoding(), Encoding::Bf16);
    let tensors = reference_tensors(&made.dir);
    assert!(
        tensors
            .iter()
            .any(|(name, bytes)| bytes.len() != expected[name].len())
    );
    for layer in 0..3 {
        for arrangement in [Arrangement::Packed, Arrangement::Paged] {
            let source = mixed.block(layer, None, arrangement).unwrap();
            let slab = read(&mixed, &source, Access::Direct);
            let plain = block(&narrow, layer);
            let plain_layout = BlockLayout::packed(&mixed.config.block_weights(), DType::Bf16);
            assert_eq!(**plain.layout(), plain_layout);
            for place in source.layout().placements() {
                let f32s = match place.role {
                    Role::InputNorm | Role::PostNorm => true,
                    // One of three is f32: they are one vector, and lose nothing.
                    Role::QkvBias => true,
                    Role::GateUp | Role::Down => layer == 1,
                    _ => false,
                };
                let wanted = if f32s { Encoding::F32 } else { Encoding::Bf16 };
                let [part] = &place.parts[..] else {
                    panic!("{place:?}");
                };
                assert_eq!(part.encoding, wanted, "{:?} of layer {layer}", place.role);
            }
            // The same numbers as those of the checkpoint that it was made of.
            let narrowed = mixed
                .block(layer, Some(DType::Bf16), Arrangement::Packed)
                .unwrap();
            assert_eq!(narrowed.layout(), plain.layout());
            let bytes =
                |checkpoint: &Checkpoint, source| read(checkpoint, source, Access::Buffered);
            assert!(bytes(&mixed, &narrowed) == reference_slab(&expected, layer, plain.layout()));
            assert_eq!(slab.len(), source.slab_bytes());
        }
    }
}

#[test]
fn weights_outside_the_blocks_come_whole_and_a_tied_head_is_the_embedding() {
    for tied_embeddings in [false, true] {
        let made = make(&SynthSpec {
            tied_embeddings,
            ..SynthSpec::tiny(Family::LLAMA)
        });
        let tensors = reference_tensors(&made.dir);
        let checkpoint = Checkpoint::open(&made.dir).unwrap();
        let head = if tied_embeddings {
            "model.embed_tokens.weight"
        } else {
            "lm_head.weight"
        };
        for (which, name) in [
            (Whole::Embedding, "model.embed_tokens.weight"),
            (Whole::FinalNorm, "model.norm.weight"),
            (Whole::LmHead, head),
        ] {
            let source = checkpoint.weight(which, None, Arrangement::Packed).unwrap();
            assert_eq!(source.label(), name);
            let elements: usize = checkpoint.weight_shape(which).iter().product();
            assert_eq!(source.slab_bytes(), (elements * 2).next_multiple_of(256));
            let slab = read(&checkpoint, &source, Access::Direct);
            assert!(slab[..elements * 2] == tensors[name]);
        }
    }
}

/// Straight where the memory begins at a page, through buffers elsewhere.
#[test]
fn a_large_weight_comes_the_same_wherever_its_memory_begins() {
    let made = make(&SynthSpec {
        hidden_size: 512,
        vocab_size: 3000,
        ..SynthSpec::tiny(Family::LLAMA).with_layers(1)
    });
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let source = checkpoint
        .weight(Whole::LmHead, None, Arrangement::Paged)
        .unwrap();
    let (_, part) = source.layout().parts().next().unwrap();
    let weight = part.offset..part.offset + part.bytes;
    let expected = &reference_tensors(&made.dir)["lm_head.weight"];
    assert_eq!(part.offset, source.pieces()[0].offset as usize % 4096);
    let chunks = source.chunks();
    assert!(chunks.len() == 2 && chunks.iter().all(|chunk| chunk.straight));
    for begin in [0, 1, 2, 512, 4096] {
        let mut memory = AlignedBuf::new(begin + source.slab_bytes());
        let slab = &mut memory.as_mut_slice()[begin..begin + source.slab_bytes()];
        for access in [Access::Direct, Access::Buffered] {
            slab.fill(0xa5);
            loader::read_block(checkpoint.sources(), &source, slab, access).unwrap();
            assert!(slab[weight.clone()] == expected[..], "{begin} {access:?}");
        }
    }
    // Not even memory that begins elsewhere makes the file one that does no direct reads.
    assert_eq!(
        checkpoint.access_report(),
        Checkpoint::open(&made.dir).unwrap().access_report()
    );
}

#[test]
fn every_block_of_a_model_has_the_same_layout_and_aligned_weights() {
    for spec in specs() {
        let made = make(&spec);
        let checkpoint = Checkpoint::open(&made.dir).unwrap();
        let source = block(&checkpoint, 0);
        let layout = source.layout();
        let mut end = 0;
        for (_, part) in layout.parts() {
            assert_eq!(part.offset % loader::SLAB_ALIGN_BYTES, 0);
            assert!(part.offset >= end);
            end = part.offset + part.bytes;
        }
        for place in layout.placements() {
            assert_eq!(layout.get(place.role), Some(place));
            // One encoding, so one matrix.
            assert_eq!(place.parts.len(), 1);
        }
        assert!(end <= layout.slab_bytes());
        assert_eq!(source.stored_bytes(), layout.weight_bytes() as u64);
        let config = &checkpoint.config;
        let expected = BlockLayout::packed(&config.block_weights(), DType::Bf16);
        for layer in 0..config.layers {
            assert_eq!(**block(&checkpoint, layer).layout(), expected);
        }
    }
}

#[test]
fn a_shard_that_shrinks_is_reported_with_its_name_and_sizes() {
    for access in [Access::Buffered, Access::Direct] {
        for keep_bytes in [0, 1, 4096, 100_000, 131_072] {
            let made = make(&SynthSpec::tiny(Family::QWEN2));
            let checkpoint = Checkpoint::open(&made.dir).unwrap();
            let source = block(&checkpoint, 2);
            let file = made.dir.join("model.safetensors");
            let full_bytes = std::fs::metadata(&file).unwrap().len();
            let handle = std::fs::File::options().write(true).open(&file).unwrap();
            handle.set_len(keep_bytes).unwrap();
            let mut slab = vec![0; source.slab_bytes()];
            let error =
                loader::read_block(checkpoint.sources(), &source, &mut slab, access).unwrap_err();
            match error {
                Error::Shrunk {
                    file: named,
                    expected_bytes,
                    found_bytes,
                } => {
                    assert_eq!(named, file.display().to_string());
                    assert_eq!((expected_bytes, found_bytes), (full_bytes, keep_bytes));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_slab_that_is_too_small_and_a_layer_that_is_not_there_are_errors() {
    let made = make(&SynthSpec::tiny(Family::MISTRAL));
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let source = block(&checkpoint, 0);
    let mut slab = vec![0; source.slab_bytes() - 1];
    let error =
        loader::read_block(checkpoint.sources(), &source, &mut slab, Access::Direct).unwrap_err();
    assert!(matches!(error, Error::SlabSize { .. }), "{error}");
    let error = checkpoint.block(3, None, Arrangement::Packed).unwrap_err();
    assert_eq!(error.to_string(), "there is no layer 3: the model has 3");
}

#[test]
fn chunks_can_be_run_by_hand_in_any_order() {
    let made = make(&SynthSpec::tiny(Family::QWEN2));
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let source = block(&checkpoint, 1);
    let expected = reference_slab(&reference_tensors(&made.dir), 1, source.layout());
    let chunks = source.chunks();
    let mut slab = vec![0; source.slab_bytes()];
    let mut buf = AlignedBuf::for_chunks();
    for mut fill in assign(&chunks, &mut slab).into_iter().rev() {
        fill.run(checkpoint.sources(), &mut buf, Access::Direct)
            .unwrap();
    }
    assert!(slab == expected);
}

/// Of real files, whose tensors begin and end anywhere in a page: the bytes that pass no buffer,
/// and all of them in the right places.
#[test]
fn large_tensors_come_straight_into_pages_of_their_own() {
    // Matrices of some 140 KB, of no whole number of pages.
    let spec = SynthSpec {
        hidden_size: 264,
        intermediate_size: 520,
        heads: 17,
        kv_heads: 17,
        ..SynthSpec::tiny(Family::QWEN2)
    };
    let made = make(&spec);
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let tensors = reference_tensors(&made.dir);
    for layer in 0..checkpoint.config.layers {
        let paged = checkpoint.block(layer, None, Arrangement::Paged).unwrap();
        let chunks = paged.chunks();
        let straight = chunks.iter().filter(|chunk| chunk.straight);
        let straight: usize = straight.map(Chunk::stored_bytes).sum();
        let layout = paged.layout();
        let matrices = layout.parts().filter(|(role, _)| role.is_projection());
        let large: usize = matrices.map(|(_, part)| part.bytes).sum();
        assert_eq!(straight, large);
        // Within two pages a matrix of what packed takes.
        let packed = block(&checkpoint, layer);
        assert!(layout.slab_bytes() <= packed.slab_bytes() + 7 * 2 * DIRECT_ALIGN_BYTES);
        let mut memory = AlignedBuf::new(layout.slab_bytes());
        let slab = &mut memory.as_mut_slice()[..layout.slab_bytes()];
        let mut buf = AlignedBuf::new(0);
        for mut fill in assign(&chunks, slab) {
            fill.run(checkpoint.sources(), &mut buf, Access::Direct)
                .unwrap();
        }
        // Moved to where packed has them, they are the whole block.
        let mut moved = vec![0; packed.slab_bytes()];
        for Move { from, to, bytes } in layout.moves_to(packed.layout()) {
            moved[to..to + bytes].copy_from_slice(&slab[from..from + bytes]);
        }
        let expected = reference_slab(&tensors, layer, packed.layout());
        for (_, part) in packed.layout().parts() {
            let range = part.offset..part.offset + part.bytes;
            assert!(moved[range.clone()] == expected[range], "{part:?}");
        }
    }
}

#[test]
fn the_read_rate_counts_real_bytes_for_the_time_it_was_given() {
    let made = make(&SynthSpec::tiny(Family::QWEN2));
    let budget = Duration::from_millis(50);
    for checkpoint in [Checkpoint::open(&made.dir).unwrap(), embed(&made.dir)] {
        let rate = loader::measure_read_gbps(&checkpoint, budget).unwrap();
        assert!(rate.bytes > 0 && rate.seconds >= budget.as_secs_f64());
        // The best stretch is as fast as all of them together at least, and cannot hold more than
        // all.
        let mean = rate.bytes as f64 / 1e9 / rate.seconds;
        assert!(
            rate.gbps >= mean - 1e-9 && rate.gbps <= 3.0 * mean + 1e-9,
            "{rate:?}"
        );
        assert_eq!(rate.access, checkpoint.access_report());
    }
}

/// The direct handle is opened by name, and later than the file whose header was read.
#[cfg(unix)]
#[test]
fn a_file_that_was_replaced_before_the_first_direct_read_is_not_mixed_in() {
    let (made, other) = (
        make(&SynthSpec::tiny(Family::LLAMA)),
        make(&SynthSpec::tiny(Family::LLAMA).with_seed(9)),
    );
    let weights = "model.safetensors";
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let source = block(&checkpoint, 1);
    let expected = read(&checkpoint, &source, Access::Buffered);
    std::fs::rename(other.dir.join(weights), made.dir.join(weights)).unwrap();
    assert_eq!(read(&checkpoint, &source, Access::Direct), expected);
    assert_eq!(checkpoint.access_report(), AccessReport::PageCache);
}
