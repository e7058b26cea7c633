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
    Access, AccessReport, AlignedBuf, BlockLayout, Checkpoint, Chunk, DIRECT_ALIGN_BYTES, DType,
    Error, Family, Route, Whole, assign, convert,
};

fn read(checkpoint: &Checkpoint, layer: usize, layout: &BlockLayout, access: Access) -> Vec<u8> {
    let source = checkpoint.block(layer, layout).unwrap();
    let mut slab = vec![0; layout.slab_bytes()];
    loader::read_block(checkpoint.sources(), &source, &mut slab, access).unwrap();
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
            assert_eq!(on_disk.dtype(), dtype);
            let embedded = embed(&made.dir);
            assert_eq!(embedded.access_report(), AccessReport::Embedded);
            assert_eq!(embedded.config, on_disk.config);
            let layout = on_disk.block_layout(dtype);
            assert_eq!(layout, embedded.block_layout(dtype));
            for layer in 0..spec.layers {
                let expected = reference_slab(&tensors, layer, &layout);
                for access in [Access::Buffered, Access::Direct] {
                    assert!(read(&on_disk, layer, &layout, access) == expected);
                    assert!(read(&embedded, layer, &layout, access) == expected);
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
            ..SynthSpec::tiny(Family::Qwen3).with_dtype(stored)
        });
        let on_disk = Checkpoint::open(&made.dir).unwrap();
        for checkpoint in [&on_disk, &embed(&made.dir)] {
            for (which, dtype) in [Whole::Embedding, Whole::LmHead]
                .into_iter()
                .flat_map(|which| DType::ALL.map(|dtype| (which, dtype)))
            {
                let source = checkpoint.weight(which, dtype).unwrap();
                let mut whole = vec![0; source.slab_bytes()];
                loader::read_block(checkpoint.sources(), &source, &mut whole, Access::Buffered)
                    .unwrap();
                let rows = checkpoint.rows(which, dtype).unwrap();
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
    let made = make(&SynthSpec::tiny(Family::Qwen3));
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let rows = checkpoint
        .rows(Whole::Embedding, checkpoint.dtype())
        .unwrap();
    let whole = checkpoint
        .weight(Whole::Embedding, checkpoint.dtype())
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
        let made = make(&SynthSpec::tiny(Family::Qwen3).with_dtype(stored));
        let checkpoint = Checkpoint::open(&made.dir).unwrap();
        let plain = checkpoint.block_layout(stored);
        let stored_slab = read(&checkpoint, 1, &plain, Access::Buffered);
        for wanted in DType::ALL {
            let layout = checkpoint.block_layout(wanted);
            for access in [Access::Buffered, Access::Direct] {
                let slab = read(&checkpoint, 1, &layout, access);
                for (from, to) in plain.placements().iter().zip(layout.placements()) {
                    assert_eq!((from.role, &from.shape), (to.role, &to.shape));
                    let mut expected = vec![0; to.bytes];
                    let bytes = &stored_slab[from.offset..from.offset + from.bytes];
                    convert(stored, bytes, wanted, &mut expected);
                    assert!(slab[to.offset..to.offset + to.bytes] == expected);
                }
            }
        }
    }
}

#[test]
fn weights_outside_the_blocks_come_whole_and_a_tied_head_is_the_embedding() {
    for tied_embeddings in [false, true] {
        let made = make(&SynthSpec {
            tied_embeddings,
            ..SynthSpec::tiny(Family::Llama)
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
            let source = checkpoint.weight(which, DType::Bf16).unwrap();
            assert_eq!(source.label(), name);
            let elements: usize = checkpoint.weight_shape(which).iter().product();
            assert_eq!(source.slab_bytes(), elements * 2);
            let mut slab = vec![0; source.slab_bytes()];
            loader::read_block(checkpoint.sources(), &source, &mut slab, Access::Direct).unwrap();
            assert!(slab == tensors[name]);
        }
    }
}

/// Straight where the address suits the file, through buffers elsewhere.
#[test]
fn a_large_weight_comes_the_same_wherever_its_memory_begins() {
    let made = make(&SynthSpec {
        hidden_size: 512,
        vocab_size: 3000,
        ..SynthSpec::tiny(Family::Llama).with_layers(1)
    });
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let source = checkpoint.weight(Whole::LmHead, DType::Bf16).unwrap();
    let sources = checkpoint.sources();
    let mut expected = vec![0; source.slab_bytes()];
    loader::read_block(sources, &source, &mut expected, Access::Buffered).unwrap();
    let Route { shift, chunks } = source.route(sources);
    let straight = chunks.iter().filter(|chunk| chunk.straight).count();
    assert_eq!((straight, chunks.len()), (2, 4));
    for begin in [shift, 0, 1, shift ^ 2, shift ^ 512] {
        let mut memory = AlignedBuf::new(begin + expected.len());
        let slab = &mut memory.as_mut_slice()[begin..begin + expected.len()];
        loader::read_block(sources, &source, slab, Access::Direct).unwrap();
        assert!(slab == expected, "{begin}");
    }
}

#[test]
fn every_block_of_a_model_has_the_same_layout_and_aligned_weights() {
    for spec in specs() {
        let made = make(&spec);
        let checkpoint = Checkpoint::open(&made.dir).unwrap();
        let layout = checkpoint.block_layout(DType::Bf16);
        let mut end = 0;
        for place in layout.placements() {
            assert_eq!(place.offset % loader::SLAB_ALIGN_BYTES, 0);
            assert!(place.offset >= end);
            end = place.offset + place.bytes;
            assert_eq!(layout.get(place.role), Some(place));
        }
        assert!(end <= layout.slab_bytes());
        let stored: u64 = checkpoint.block(0, &layout).unwrap().stored_bytes();
        assert_eq!(stored, layout.weight_bytes() as u64);
    }
}

#[test]
fn a_shard_that_shrinks_is_reported_with_its_name_and_sizes() {
    for access in [Access::Buffered, Access::Direct] {
        for keep_bytes in [0, 1, 4096, 100_000, 131_072] {
            let made = make(&SynthSpec::tiny(Family::Qwen2));
            let checkpoint = Checkpoint::open(&made.dir).unwrap();
            let layout = checkpoint.block_layout(DType::Bf16);
            let source = checkpoint.block(2, &layout).unwrap();
            let file = made.dir.join("model.safetensors");
            let full_bytes = std::fs::metadata(&file).unwrap().len();
            let handle = std::fs::File::options().write(true).open(&file).unwrap();
            handle.set_len(keep_bytes).unwrap();
            let mut slab = vec![0; layout.slab_bytes()];
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
    let made = make(&SynthSpec::tiny(Family::Mistral));
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let layout = checkpoint.block_layout(DType::Bf16);
    let source = checkpoint.block(0, &layout).unwrap();
    let mut slab = vec![0; layout.slab_bytes() - 1];
    let error =
        loader::read_block(checkpoint.sources(), &source, &mut slab, Access::Direct).unwrap_err();
    assert!(matches!(error, Error::SlabSize { .. }), "{error}");
    let error = checkpoint.block(3, &layout).unwrap_err();
    assert_eq!(error.to_string(), "there is no layer 3: the model has 3");
}

#[test]
fn chunks_can_be_run_by_hand_in_any_order() {
    let made = make(&SynthSpec::tiny(Family::Qwen2));
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let layout = checkpoint.block_layout(DType::Bf16);
    let expected = reference_slab(&reference_tensors(&made.dir), 1, &layout);
    let chunks = checkpoint.block(1, &layout).unwrap().chunks();
    let mut slab = vec![0; layout.slab_bytes()];
    let mut buf = AlignedBuf::for_chunks();
    for mut fill in assign(&chunks, &mut slab).into_iter().rev() {
        fill.run(checkpoint.sources(), &mut buf, Access::Direct)
            .unwrap();
    }
    assert!(slab == expected);
}

/// Of real files: the bytes that pass no buffer, and all of them in the right places.
#[test]
fn a_route_reads_most_bytes_straight_to_their_places() {
    // Matrices of 128 KiB, so that what cannot be read straight is little beside them.
    let spec = SynthSpec {
        hidden_size: 256,
        intermediate_size: 512,
        ..SynthSpec::tiny(Family::Qwen2)
    };
    let made = make(&spec);
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let layout = checkpoint.block_layout(DType::Bf16);
    let tensors = reference_tensors(&made.dir);
    for layer in 0..checkpoint.config.layers {
        let block = checkpoint.block(layer, &layout).unwrap();
        let Route { shift, chunks } = block.route(checkpoint.sources());
        assert!(shift < DIRECT_ALIGN_BYTES && shift % DType::Bf16.bytes() == 0);
        let straight = chunks.iter().filter(|chunk| chunk.straight);
        let straight: usize = straight.map(Chunk::stored_bytes).sum();
        assert!(straight * 10 > layout.weight_bytes() * 8, "{straight}");
        let mut memory = AlignedBuf::new(DIRECT_ALIGN_BYTES + layout.slab_bytes());
        let slab = &mut memory.as_mut_slice()[shift..shift + layout.slab_bytes()];
        let mut buf = AlignedBuf::new(0);
        for mut fill in assign(&chunks, slab) {
            fill.run(checkpoint.sources(), &mut buf, Access::Direct)
                .unwrap();
        }
        assert!(slab == reference_slab(&tensors, layer, &layout));
    }
}

#[test]
fn the_read_rate_counts_real_bytes_for_the_time_it_was_given() {
    let made = make(&SynthSpec::tiny(Family::Qwen2));
    let budget = Duration::from_millis(50);
    for checkpoint in [Checkpoint::open(&made.dir).unwrap(), embed(&made.dir)] {
        let rate = loader::measure_read_gbps(&checkpoint, budget).unwrap();
        assert!(rate.bytes > 0 && rate.seconds >= budget.as_secs_f64());
        // The best stretch is as fast as all of them together at least, and cannot hold more than all.
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
        make(&SynthSpec::tiny(Family::Llama)),
        make(&SynthSpec::tiny(Family::Llama).with_seed(9)),
    );
    let weights = "model.safetensors";
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let layout = checkpoint.block_layout(checkpoint.dtype());
    let expected = read(&checkpoint, 1, &layout, Access::Buffered);
    std::fs::rename(other.dir.join(weights), made.dir.join(weights)).unwrap();
    assert_eq!(read(&checkpoint, 1, &layout, Access::Direct), expected);
    assert_eq!(checkpoint.access_report(), AccessReport::PageCache);
}
