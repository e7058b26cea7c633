//! The whole engine over checkpoints made on the fly: streaming must not change a bit, whatever
//! the plan, and its report must say what happened.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use engine::kernels::CacheType;
use engine::profile::{LinkPeak, Summary, Window};
use engine::{
    Blueprint, EngineError, GenerationOptions, Kernels, Measured, Model, ModelOptions, Source,
};
use loader::synth::{self, SynthSpec};
use loader::{DType, Encoding, Family, Role};
use offload::{Home, LayerIndex, LoadKind, Prefetch, Residency, Spread};

fn synth(directory: &Path, dtype: DType) -> Source {
    let path = directory.join("model");
    let spec = SynthSpec::tiny(Family::QWEN3)
        .with_layers(5)
        .with_dtype(dtype)
        .with_seed(7);
    synth::write(&path, &spec, &mut |_, _| {}).unwrap();
    Source::Directory(path)
}

fn tokens(source: &Source, options: ModelOptions) -> Vec<u32> {
    let mut model = Model::open(source, options).unwrap();
    let mut session = model.session().unwrap();
    let options = GenerationOptions {
        max_new_tokens: 12,
        ignore_eos: true,
        ..Default::default()
    };
    let mut generation = session.generate(vec![1, 2, 3, 4, 5], options).unwrap();
    let tokens = generation
        .by_ref()
        .map(|piece| piece.unwrap().token)
        .collect();
    assert_eq!(generation.report().tokens, tokens);
    tokens
}

#[test]
fn every_plan_gives_the_same_tokens() {
    let directory = tempfile::tempdir().unwrap();
    for dtype in [DType::Bf16, DType::F16, DType::F32] {
        let directory = directory.path().join(dtype.name());
        let source = synth(&directory, dtype);
        let all = ModelOptions {
            residency: Residency::All,
            ..Default::default()
        };
        let expected = tokens(&source, all.clone());
        for resident in 0..=4 {
            for (slots, spread, prefetch, home, link_gbps) in [
                (2, Spread::Even, Prefetch::Ahead, Some(Home::Disk), None),
                (1, Spread::ResidentFirst, Prefetch::Ahead, None, None),
                (
                    3,
                    Spread::ResidentLast,
                    Prefetch::AtNeed,
                    Some(Home::Ram),
                    None,
                ),
                (2, Spread::Even, Prefetch::Ahead, None, Some(0.5)),
            ] {
                let residency = Residency::Layers(resident);
                let options = ModelOptions {
                    residency,
                    slots: Some(slots),
                    spread,
                    prefetch,
                    home,
                    link_gbps,
                    ..all.clone()
                };
                assert_eq!(tokens(&source, options.clone()), expected, "{options:?}");
            }
        }
    }
}

/// Writes some tensors of a bf16 checkpoint of one file anew in f32: the same numbers.
fn widen(directory: &Path, is_wide: impl Fn(&str) -> bool) {
    let file = directory.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let mut data = Vec::new();
    let tensors = header.as_object_mut().unwrap().iter_mut();
    for (name, tensor) in tensors.filter(|(name, _)| *name != "__metadata__") {
        let offset = |at: usize| start + tensor["data_offsets"][at].as_u64().unwrap() as usize;
        let stored = &bytes[offset(0)..offset(1)];
        let from = data.len();
        if is_wide(name) {
            data.extend(stored.chunks_exact(2).flat_map(|it| [0, 0, it[0], it[1]]));
            tensor["dtype"] = "F32".into();
        } else {
            data.extend(stored);
        }
        tensor["data_offsets"] = serde_json::json!([from, data.len()]);
    }
    let header = header.to_string().into_bytes();
    let parts = [&(header.len() as u64).to_le_bytes()[..], &header, &data];
    fs::write(&file, parts.concat()).unwrap();
}

/// Norms in f32, one of three parts of a fused matrix, and a layer larger than the others: as they
/// are, in one size of slot.
#[test]
fn layers_of_several_dtypes_give_the_same_tokens_streamed_and_resident() {
    let directory = tempfile::tempdir().unwrap();
    let source = synth(directory.path(), DType::Bf16);
    let all = ModelOptions {
        residency: Residency::All,
        ..Default::default()
    };
    let narrow = tokens(&source, all.clone());
    let Source::Directory(model) = &source else {
        unreachable!("it is on disk");
    };
    let wide = |name: &str| {
        name.contains("norm") || name.contains("v_proj") || name.contains("layers.1.mlp")
    };
    widen(model, wide);
    let expected = tokens(&source, all.clone());
    // The same numbers: only what follows a sum in f32 could differ, and greedy tokens do not.
    assert_eq!(expected, narrow);
    for kernels in [Kernels::Fast, Kernels::Clear] {
        for resident in 0..=4 {
            for home in [Home::Disk, Home::Ram] {
                let options = ModelOptions {
                    residency: Residency::Layers(resident),
                    home: Some(home),
                    kernels,
                    ..all.clone()
                };
                let model = Model::open(&source, options.clone()).unwrap();
                let blueprint = model.blueprint();
                let norms = blueprint
                    .layout(LayerIndex(0))
                    .get(Role::InputNorm)
                    .unwrap();
                assert_eq!(norms.parts[0].encoding, Encoding::F32);
                assert_eq!(blueprint.encoding(), Encoding::Bf16);
                let [first, second] = [0, 1].map(|it| blueprint.plan.cost(LayerIndex(it)));
                assert!(first.resident < second.resident);
                drop(model);
                assert_eq!(tokens(&source, options.clone()), expected, "{options:?}");
            }
        }
    }
}

#[test]
fn another_dtype_is_converted_the_same_way_resident_and_streamed() {
    let directory = tempfile::tempdir().unwrap();
    let source = synth(directory.path(), DType::F32);
    let options = |residency| ModelOptions {
        residency,
        dtype: Some(DType::Bf16),
        ..Default::default()
    };
    let expected = tokens(&source, options(Residency::All));
    assert_eq!(tokens(&source, options(Residency::Layers(0))), expected);
}

#[test]
fn the_report_counts_every_load_and_byte() {
    let directory = tempfile::tempdir().unwrap();
    let source = synth(directory.path(), DType::Bf16);
    for (prefetch, kind) in [
        (Prefetch::Ahead, LoadKind::Async),
        (Prefetch::AtNeed, LoadKind::Sync),
    ] {
        let residency = Residency::Layers(2);
        let options = ModelOptions {
            residency,
            prefetch,
            ..Default::default()
        };
        let mut model = Model::open(&source, options).unwrap();
        let streaming = model.streaming(Some(LinkPeak {
            gbps: 1.0,
            lacking: None,
        }));
        let stored = model.blueprint().blocks.packed(LayerIndex(0)).clone();
        let mut session = model.session().unwrap();
        let options = GenerationOptions {
            max_new_tokens: 6,
            ignore_eos: true,
            ..Default::default()
        };
        let mut generation = session.generate(vec![1, 2, 3], options).unwrap();
        let mut window = Window::default();
        while let Some(piece) = generation.next() {
            piece.unwrap();
            // On the host a pass is known when it is over.
            let [Measured { timing, loads }] = generation.measured() else {
                panic!("{:?}", generation.measured());
            };
            assert_eq!(loads.len(), 3);
            assert!(loads.iter().all(|load| load.kind == kind));
            assert!(
                timing.compute() + timing.stalled() <= timing.total,
                "{timing:?}"
            );
            window.add(timing, loads);
        }
        let totals = generation.report().totals;
        assert_eq!(totals.loads_async + totals.loads_sync, 18);
        assert_eq!(totals.bytes, 18 * stored.stored_bytes());
        assert_eq!(
            totals.async_percent(),
            Some(if kind == LoadKind::Async { 100 } else { 0 })
        );
        assert_eq!((totals.prompt.rows, totals.decode_passes), (3, 5));
        let summary = Summary {
            token: 6,
            window: &window,
            streaming: &streaming,
        }
        .to_string();
        let expected = match kind {
            LoadKind::Async => "Async usage: 3/3 layers (100%)",
            LoadKind::Sync => "Async usage: 0/3 layers (0%)",
        };
        assert!(summary.contains(expected), "{summary}");
    }
}

#[test]
fn the_clear_blocks_and_the_fast_ones_agree() {
    let directory = tempfile::tempdir().unwrap();
    let source = synth(directory.path(), DType::F32);
    let logits = |kernels| {
        let options = ModelOptions {
            kernels,
            ..Default::default()
        };
        let mut model = Model::open(&source, options).unwrap();
        let mut session = model.session().unwrap();
        // Longer than a chunk, so that chunks inside a visit are seen too.
        let prompt: Vec<u32> = (0..300).map(|at| at % 50).collect();
        session.pass(&prompt).unwrap();
        session.pass(&[9]).unwrap();
        session.logits().to_vec()
    };
    let (fast, clear) = (logits(Kernels::Fast), logits(Kernels::Clear));
    let largest = clear
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    for (a, b) in fast.iter().zip(&clear) {
        assert!((a - b).abs() <= 1e-4 * largest, "{a} {b}");
    }
}

/// The largest difference of two sets of logits, as a share of the largest logit.
fn off(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn a_cache_of_two_bytes_is_rounded_alike_by_both_and_costs_little() {
    let directory = tempfile::tempdir().unwrap();
    let source = synth(directory.path(), DType::F32);
    let logits = |kernels, cache_type, resident| {
        let options = ModelOptions {
            kernels,
            cache_type,
            residency: Residency::Layers(resident),
            ..Default::default()
        };
        let mut model = Model::open(&source, options).unwrap();
        let mut session = model.session().unwrap();
        let prompt: Vec<u32> = (0..300).map(|at| at * 7 % 50).collect();
        session.pass(&prompt).unwrap();
        session.pass(&[9]).unwrap();
        session.logits().to_vec()
    };
    let exact = logits(Kernels::Fast, None, 5);
    assert_eq!(logits(Kernels::Fast, Some(CacheType::F32), 5), exact);
    for (cache_type, off_max) in [(CacheType::F16, 2e-3), (CacheType::Bf16, 2e-2)] {
        let fast = logits(Kernels::Fast, Some(cache_type), 5);
        let clear = logits(Kernels::Clear, Some(cache_type), 5);
        let rounding = off(&fast, &exact);
        println!(
            "{cache_type:?}: {rounding:e}, against clear {:e}",
            off(&fast, &clear)
        );
        assert!(
            rounding > 0.0 && rounding < off_max,
            "{cache_type:?}: off by {rounding:e}"
        );
        // A number between two is rounded to the other one now and then; all of them are not.
        let apart = off(&fast, &clear);
        assert!(
            apart < 0.2 * rounding,
            "{cache_type:?}: {apart:e} of {rounding:e}"
        );
        assert_eq!(logits(Kernels::Fast, Some(cache_type), 1), fast);
    }
}

#[test]
fn a_plan_counts_the_cache_in_its_own_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let source = synth(directory.path(), DType::Bf16);
    let cache = |cache_type, kernels| {
        let options = ModelOptions {
            cache_type,
            kernels,
            context: Some(100),
            // A limit that is given has no reserve, which would shrink with the cache.
            memory_bytes: Some(1 << 30),
            ..Default::default()
        };
        let blueprint = Blueprint::new(&source, options).unwrap();
        assert_eq!(blueprint.cache_type, cache_type.unwrap_or_default());
        (blueprint.plan.fixed().cache, blueprint.plan.total_bytes())
    };
    let (bytes, total) = cache(None, Kernels::Fast);
    assert_eq!(cache(Some(CacheType::F32), Kernels::Fast), (bytes, total));
    for two_bytes in [CacheType::F16, CacheType::Bf16] {
        let (half, less) = cache(Some(two_bytes), Kernels::Fast);
        // Each of the ten buffers has a line of 64 bytes more, in any type.
        assert_eq!(half, bytes / 2 + 32 * 10);
        assert_eq!(total - less, bytes - half);
        // The clear blocks keep what they compute with, without lines of their own.
        let clear = cache(Some(two_bytes), Kernels::Clear).0;
        assert_eq!(clear, bytes - 64 * 10);
    }
}

/// At the level `avx512bf16` a long pass over bf16 weights rounds activations to bf16, eight
/// significant bits, once a layer; at all others it is f32 throughout, as the clear blocks are.
fn long_pass_relative_max() -> f32 {
    match engine::kernels::level() {
        "avx512bf16" => 2e-2,
        _ => 1e-4,
    }
}

#[test]
fn a_long_prompt_in_bf16_is_near_the_clear_blocks_and_streams_to_the_bit() {
    let directory = tempfile::tempdir().unwrap();
    let source = synth(directory.path(), DType::Bf16);
    let logits = |kernels, resident| {
        let options = ModelOptions {
            kernels,
            residency: Residency::Layers(resident),
            ..Default::default()
        };
        let mut model = Model::open(&source, options).unwrap();
        let mut session = model.session().unwrap();
        let prompt: Vec<u32> = (0..100).map(|at| at * 7 % 250).collect();
        session.pass(&prompt).unwrap();
        session.logits().to_vec()
    };
    let (fast, clear) = (logits(Kernels::Fast, 5), logits(Kernels::Clear, 5));
    let largest = clear
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let off = fast
        .iter()
        .zip(&clear)
        .fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    let bound = long_pass_relative_max() * largest;
    assert!(off <= bound, "off by {off:e} of {largest}");
    for resident in [0, 2] {
        assert_eq!(logits(Kernels::Fast, resident), fast, "{resident} resident");
    }
}

#[test]
fn what_cannot_be_is_refused_before_loading() {
    let directory = tempfile::tempdir().unwrap();
    let source = synth(directory.path(), DType::Bf16);
    let refused = |options| Blueprint::new(&source, options).unwrap_err();
    let all = ModelOptions::default;
    assert!(matches!(
        refused(ModelOptions {
            residency: Residency::Layers(6),
            ..all()
        }),
        EngineError::Plan(_)
    ));
    assert!(matches!(
        refused(ModelOptions {
            context: Some(1 << 30),
            ..all()
        }),
        EngineError::ContextTooLong { .. }
    ));
    let disk = Some(Home::Disk);
    assert!(matches!(
        refused(ModelOptions {
            link_gbps: Some(1.0),
            home: disk,
            ..all()
        }),
        EngineError::EmulatedDisk
    ));
    assert!(matches!(
        refused(ModelOptions {
            link_gbps: Some(0.0),
            ..all()
        }),
        EngineError::LinkRate { .. }
    ));
    assert!(matches!(
        refused(ModelOptions {
            memory_bytes: Some(1000),
            ..all()
        }),
        EngineError::Plan(_)
    ));
}

#[test]
fn a_prompt_that_cannot_be_is_refused_and_the_session_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let source = synth(directory.path(), DType::Bf16);
    let options = ModelOptions {
        context: Some(4),
        ..Default::default()
    };
    let mut model = Model::open(&source, options).unwrap();
    let mut session = model.session().unwrap();
    assert!(matches!(session.pass(&[]), Err(EngineError::EmptyPrompt)));
    assert!(matches!(
        session.pass(&[1; 5]),
        Err(EngineError::PromptTooLong { .. })
    ));
    assert!(matches!(
        session.pass(&[u32::MAX]),
        Err(EngineError::TokenOutOfRange { .. })
    ));
    session.pass(&[1; 4]).unwrap();
    assert_eq!(session.room(), 0);
}

#[test]
fn a_pass_that_was_cancelled_leaves_the_model_usable() {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    let directory = tempfile::tempdir().unwrap();
    let source = synth(directory.path(), DType::Bf16);
    let options = ModelOptions {
        residency: Residency::Layers(1),
        ..Default::default()
    };
    let expected = tokens(&source, options.clone());
    let mut model = Model::open(&source, options).unwrap();
    let mut session = model.session().unwrap();
    session.cancel_with(Arc::new(AtomicBool::new(true)));
    assert!(matches!(session.pass(&[1]), Err(EngineError::Interrupted)));
    let mut session = model.session().unwrap();
    let options = GenerationOptions {
        max_new_tokens: 12,
        ignore_eos: true,
        ..Default::default()
    };
    let generation = session.generate(vec![1, 2, 3, 4, 5], options).unwrap();
    let tokens: Vec<u32> = generation.map(|piece| piece.unwrap().token).collect();
    assert_eq!(tokens, expected);
}

#[test]
fn a_wait_that_is_cancelled_ends_at_once_and_its_copy_is_used_later() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    let spec = SynthSpec {
        hidden_size: 192,
        intermediate_size: 512,
        ..SynthSpec::tiny(Family::QWEN2)
    };
    synth::write(&path, &spec.with_layers(2), &mut |_, _| {}).unwrap();
    let source = Source::Directory(path);
    let generation = GenerationOptions {
        max_new_tokens: 2,
        ignore_eos: true,
        ..Default::default()
    };
    let tokens = |model: &mut Model, flag: &Arc<AtomicBool>| -> Vec<u32> {
        let mut session = model.session().unwrap();
        session.cancel_with(Arc::clone(flag));
        let generation = session.generate(vec![1, 2, 3], generation.clone()).unwrap();
        generation.map(|piece| piece.unwrap().token).collect()
    };
    let never = Arc::default();
    let mut resident = Model::open(&source, ModelOptions::default()).unwrap();
    let expected = tokens(&mut resident, &never);
    for prefetch in [Prefetch::Ahead, Prefetch::AtNeed] {
        // Nearly a second for the layer.
        let options = ModelOptions {
            residency: Residency::Layers(1),
            link_gbps: Some(0.001),
            prefetch,
            ..Default::default()
        };
        let mut model = Model::open(&source, options).unwrap();
        let flag = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                flag.store(true, Ordering::Relaxed);
            });
            let started = Instant::now();
            assert_eq!(tokens(&mut model, &flag), [0; 0]);
            assert!(started.elapsed() < Duration::from_millis(500));
        });
        assert_eq!(tokens(&mut model, &never), expected);
    }
}

#[test]
fn an_embedding_that_is_not_the_head_is_left_on_disk_with_the_layers() {
    let directory = tempfile::tempdir().unwrap();
    let source = |name: &str, spec: SynthSpec| {
        let path = directory.path().join(name);
        synth::write(&path, &spec, &mut |_, _| {}).unwrap();
        Source::Directory(path)
    };
    let tiny = || SynthSpec::tiny(Family::LLAMA).with_layers(3);
    let untied = source("untied", tiny());
    let tied = source(
        "tied",
        SynthSpec {
            tied_embeddings: true,
            ..tiny()
        },
    );
    let options = |resident, home| ModelOptions {
        residency: Residency::Layers(resident),
        home: Some(home),
        ..Default::default()
    };
    let left = |source: &Source, options| {
        let blueprint = Blueprint::new(source, options).unwrap();
        let plan = &blueprint.plan;
        let whole = blueprint.plan_for(3).fixed().ends;
        assert_eq!(plan.fixed().ends + plan.ends_left(), whole);
        plan.ends_left()
    };
    let sizes = tiny();
    // But for the room that a pass's rows come to.
    let expected = ((sizes.vocab_size - 64) * sizes.hidden_size * 2) as u64;
    for resident in 0..3 {
        assert_eq!(left(&untied, options(resident, Home::Disk)), expected);
        assert_eq!(left(&untied, options(resident, Home::Ram)), 0);
        assert_eq!(left(&tied, options(resident, Home::Disk)), 0);
    }
    assert_eq!(left(&untied, options(3, Home::Disk)), 0);
    let verify = ModelOptions {
        verify: true,
        ..options(0, Home::Disk)
    };
    assert_eq!(left(&untied, verify), 0);

    // More than fit the room, some of them twice.
    let prompt: Vec<u32> = (0..300).map(|at| at * 7 % 200).collect();
    for kernels in [Kernels::Fast, Kernels::Clear] {
        for dtype in [DType::Bf16, DType::F32] {
            let [whole, rows] = [3, 0].map(|resident| {
                let options = ModelOptions {
                    kernels,
                    dtype: Some(dtype),
                    ..options(resident, Home::Disk)
                };
                let mut model = Model::open(&untied, options).unwrap();
                let mut session = model.session().unwrap();
                session.pass(&prompt).unwrap();
                session.pass(&[255]).unwrap();
                session.logits().to_vec()
            });
            assert!(whole == rows, "{kernels:?} {dtype}");
        }
    }
}
