//! The engine on a CUDA device against the engine on the CPU and against transformers: for every
//! family the same logits, and for every N and home the same bits. Needs a device; built with the
//! feature `cuda` only.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::{
    EngineError, GenerationOptions, Kernels, Model, ModelOptions, Source,
    profile::{Summary, Window},
    text::{Sampler, Sampling},
};
use loader::synth::{self, SynthSpec};
use loader::{DType, Family};
use offload::{Home, LoadKind, PlaceChoice, Prefetch, Residency};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    prompt_tokens: Vec<u32>,
    last_logits: Vec<f32>,
    greedy: Vec<u32>,
    long_prompt_tokens: Vec<u32>,
    long_last_logits: Vec<f32>,
    /// What it was computed for, where that decides between factors.
    context: Option<usize>,
}

impl Expected {
    fn of(directory: &Path) -> Self {
        let text = fs::read(directory.join("expected.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

/// The largest difference, as a share of the largest logit: in f32, and in the 8 significant bits
/// of bf16 or the 11 of f16, rounded after every operation.
fn relative_max(numbers: DType) -> f32 {
    match numbers {
        DType::F32 => 2e-4,
        DType::F16 => 1e-2,
        DType::Bf16 => 6e-2,
    }
}

/// Where the fixtures lie: beside this file, or where `ENGINE_FIXTURES` says if the test was built
/// on another machine.
fn fixtures() -> Vec<PathBuf> {
    let root = std::env::var_os("ENGINE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
        PathBuf::from,
    );
    let mut found: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").exists())
        .collect();
    found.sort();
    assert!(found.len() >= 12, "{found:?}");
    found
}

fn on_device(
    source: &Source,
    residency: Residency,
    home: Option<Home>,
    kernels: Kernels,
    dtype: Option<DType>,
) -> Model {
    let context = match source {
        Source::Directory(path) if path.join("expected.json").exists() => {
            Expected::of(path).context
        }
        _ => None,
    };
    let options = ModelOptions {
        context,
        dtype,
        residency,
        home,
        kernels,
        device: PlaceChoice::Cuda(0),
        ..ModelOptions::default()
    };
    Model::open(source, options).unwrap()
}

fn logits(model: &mut Model, tokens: &[u32]) -> Vec<f32> {
    let mut session = model.session().unwrap();
    session.pass(tokens).unwrap();
    session.logits().to_vec()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[track_caller]
fn close(what: &str, found: &[f32], expected: &[f32], relative_max: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    let off = found
        .iter()
        .zip(expected)
        .fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(
        off <= relative_max * largest,
        "{what}: off by {off:e} of {largest}"
    );
}

fn holds(directory: &Path, kernels: Kernels, dtype: Option<DType>) {
    let source = Source::Directory(directory.into());
    let expected = Expected::of(directory);
    let layers = source.open().unwrap().config.layers;
    let mut first: Option<Vec<u32>> = None;
    for (resident, home) in [
        (layers, None),
        (layers / 2, Some(Home::Ram)),
        (0, Some(Home::Ram)),
        (0, Some(Home::Disk)),
    ] {
        let mut model = on_device(&source, Residency::Layers(resident), home, kernels, dtype);
        let numbers = DType::of(model.blueprint().encoding()).unwrap();
        let what = format!(
            "{}, {resident} of {layers} layers resident, home {home:?}, {kernels:?}, {numbers:?}",
            directory.display()
        );
        let found = logits(&mut model, &expected.prompt_tokens);
        close(&what, &found, &expected.last_logits, relative_max(numbers));
        assert_eq!(
            first.get_or_insert_with(|| bits(&found)),
            &bits(&found),
            "{what}"
        );
        let found = logits(&mut model, &expected.long_prompt_tokens);
        close(
            &what,
            &found,
            &expected.long_last_logits,
            relative_max(numbers),
        );
        // Single rows have kernels of their own; the long way to the window's end is gone once.
        let (tokens, logits) = match resident == layers {
            true => (&expected.long_prompt_tokens, &expected.long_last_logits),
            false => (&expected.prompt_tokens, &expected.last_logits),
        };
        close(
            &format!("{what}, token by token"),
            &token_by_token(&mut model, tokens),
            logits,
            relative_max(numbers),
        );
        if numbers == DType::F32 {
            assert_eq!(
                generated(&mut model, &expected.prompt_tokens, expected.greedy.len()),
                expected.greedy,
                "{what}"
            );
        }
    }
}

/// The same as `logits`, in passes of one token each.
fn token_by_token(model: &mut Model, tokens: &[u32]) -> Vec<f32> {
    let mut session = model.session().unwrap();
    for token in tokens {
        session.pass(&[*token]).unwrap();
    }
    session.logits().to_vec()
}

fn generated(model: &mut Model, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut session = model.session().unwrap();
    let options = GenerationOptions {
        max_new_tokens: count,
        ignore_eos: true,
        ..Default::default()
    };
    let mut generation = session.generate(prompt.to_vec(), options).unwrap();
    generation.by_ref().for_each(|piece| drop(piece.unwrap()));
    generation.report().tokens
}

#[test]
fn in_the_weights_own_numbers_every_family_agrees() {
    for directory in fixtures() {
        holds(&directory, Kernels::Fast, None);
        holds(&directory, Kernels::Clear, None);
    }
}

#[test]
fn in_f32_every_family_agrees() {
    for directory in fixtures() {
        holds(&directory, Kernels::Fast, Some(DType::F32));
        holds(&directory, Kernels::Clear, Some(DType::F32));
    }
}

/// Longer than what one block of threads of the attention kernel looks at.
#[test]
fn a_row_sees_all_of_a_long_context() {
    let text = "Once there was a little dog who went to the park to play. ".repeat(40);
    let logits = |kernels| {
        let dtype = Some(DType::F32);
        let mut model = on_device(&Source::Demo, Residency::Auto, None, kernels, dtype);
        let mut prompt = model.blueprint().encode(&text).unwrap();
        assert!(prompt.len() > 600, "{}", prompt.len());
        let last = prompt.split_off(prompt.len() - 3);
        let mut session = model.session().unwrap();
        session.pass(&prompt).unwrap();
        for token in last {
            session.pass(&[token]).unwrap();
        }
        session.logits().to_vec()
    };
    close(
        "demo",
        &logits(Kernels::Fast),
        &logits(Kernels::Clear),
        2e-4,
    );
}

#[test]
fn the_demo_says_the_same_for_every_n_and_loads_ahead() {
    let mut first: Option<Vec<u32>> = None;
    for resident in [28, 20, 0] {
        let mut model = on_device(
            &Source::Demo,
            Residency::Layers(resident),
            None,
            Kernels::Fast,
            None,
        );
        let prompt = model.blueprint().encode("Once upon a time").unwrap();
        let streaming = model.streaming(None);
        let mut session = model.session().unwrap();
        let options = GenerationOptions {
            max_new_tokens: 12,
            ..Default::default()
        };
        let mut generation = session.generate(prompt, options).unwrap();
        let mut window = Window::default();
        let (mut ahead, mut loads) = (0, 0);
        let mut known = Vec::new();
        loop {
            let more = generation.next().transpose().unwrap().is_some();
            known.push(generation.measured().len());
            for pass in generation.measured() {
                let kinds = pass.loads.iter().map(|load| load.kind);
                ahead += kinds.filter(|&kind| kind == LoadKind::Async).count();
                loads += pass.loads.len();
                assert_eq!(pass.loads.len(), 28 - resident);
                window.add(&pass.timing, &pass.loads);
            }
            if !more {
                break;
            }
        }
        // Each pass while the device is at work on the next, and the last with the end.
        assert_eq!(known[0], 0, "{known:?}");
        assert!(known[1..].iter().all(|&passes| passes == 1), "{known:?}");
        // What the device does is timed by the device.
        let tree = format!("{}", generation.report().timing.tree());
        let mlp = tree
            .lines()
            .find(|line| line.trim_start().starts_with("mlp"));
        assert!(mlp.is_some_and(|line| !line.contains(" - ")), "{tree}");
        // A thread that a busy machine wakes late makes a load late: now and then, not often.
        assert!(ahead * 10 >= loads * 9, "{ahead} of {loads} were ahead");
        let tokens = generation.report().tokens;
        assert_eq!(
            first.get_or_insert_with(|| tokens.clone()),
            &tokens,
            "N = {resident}"
        );
        if resident < 28 {
            let summary = Summary {
                token: 12,
                window: &window,
                streaming: &streaming,
            };
            let text = summary.to_string();
            assert!(text.contains("ASYNC"), "{text}");
        }
    }
}

/// What is sampled from what the device sends is what is sampled from all its logits.
#[test]
fn the_device_samples_what_its_logits_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let spec = SynthSpec {
        vocab_size: 3_000,
        std_dev: 0.4,
        ..SynthSpec::tiny(Family::LLAMA)
    };
    synth::write(&path, &spec, &mut |_, _| {}).unwrap();
    let source = Source::Directory(path);
    let mut model = on_device(&source, Residency::Auto, None, Kernels::Fast, None);
    let settings: [fn(&mut Sampling); 8] = [
        |s| s.temperature = 0.0,
        |s| (s.temperature, s.repetition_penalty) = (0.0, 1.5),
        |s| s.top_k = 20,
        |s| (s.top_k, s.top_p, s.repetition_penalty) = (20, 0.8, 1.05),
        |s| s.top_p = 0.9,
        |s| (s.min_p, s.temperature) = (0.1, 1.3),
        |s| s.repetition_penalty = 0.9,
        |s| s.temperature = 30.0,
    ];
    for (seed, change) in settings.into_iter().enumerate() {
        let mut sampling = Sampling {
            temperature: 0.8,
            seed: seed as u64,
            ..Sampling::default()
        };
        change(&mut sampling);
        let options = GenerationOptions {
            max_new_tokens: 8,
            ignore_eos: true,
            sampling,
            ..Default::default()
        };
        let mut session = model.session().unwrap();
        let (output, _) = session
            .generate_with_timing(vec![1, 2, 3], options)
            .unwrap();

        let mut session = model.session().unwrap();
        let mut sampler = Sampler::new(sampling, spec.vocab_size).unwrap();
        let (mut tokens, mut seen) = (vec![1, 2, 3], 0);
        while tokens.len() < 3 + 8 {
            session.pass(&tokens[seen..]).unwrap();
            seen = tokens.len();
            let token = sampler.sample(session.logits(), &tokens);
            tokens.push(token.unwrap());
        }
        assert_eq!(output.tokens, tokens[3..], "{sampling:?}");
    }
}

#[test]
fn numbers_that_are_none_become_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let spec = SynthSpec {
        std_dev: 1e37,
        ..SynthSpec::tiny(Family::LLAMA)
    };
    synth::write(&path, &spec, &mut |_, _| {}).unwrap();
    let source = Source::Directory(path);
    let mut model = on_device(&source, Residency::Auto, None, Kernels::Fast, None);
    for temperature in [0.0, 1.0] {
        let mut session = model.session().unwrap();
        let options = GenerationOptions {
            sampling: Sampling {
                temperature,
                ..Sampling::default()
            },
            ..Default::default()
        };
        let output = session.generate_with_timing(vec![1, 2, 3], options);
        assert!(
            matches!(output, Err(EngineError::NotFinite { .. })),
            "{output:?}"
        );
    }
}

#[test]
fn without_prefetch_every_load_is_sync_and_the_tokens_are_the_same() {
    let tokens = |prefetch| {
        let options = ModelOptions {
            residency: Residency::Layers(10),
            prefetch,
            device: PlaceChoice::Cuda(0),
            ..ModelOptions::default()
        };
        let mut model = Model::open(&Source::Demo, options).unwrap();
        let prompt = model.blueprint().encode("One day").unwrap();
        generated(&mut model, &prompt, 8)
    };
    assert_eq!(tokens(Prefetch::Ahead), tokens(Prefetch::AtNeed));
}

#[test]
fn what_a_gpu_cannot_do_is_refused() {
    let options = ModelOptions {
        link_gbps: Some(1.0),
        device: PlaceChoice::Cuda(0),
        ..ModelOptions::default()
    };
    assert!(matches!(
        Model::open(&Source::Demo, options),
        Err(EngineError::EmulatedOnDevice)
    ));
}

/// The last pass of a generation that was left is not known yet when the next one begins.
#[test]
fn a_generation_that_is_left_leaves_nothing_to_the_next() {
    let mut model = on_device(
        &Source::Demo,
        Residency::Layers(14),
        None,
        Kernels::Fast,
        None,
    );
    let mut session = model.session().unwrap();
    let options = GenerationOptions {
        max_new_tokens: 4,
        ignore_eos: true,
        ..Default::default()
    };
    let mut left = session.generate(vec![1, 2, 3], options.clone()).unwrap();
    left.next().unwrap().unwrap();
    left.next().unwrap().unwrap();
    let mut generation = session.generate(vec![4, 5, 6, 7, 8], options).unwrap();
    let mut known = 0;
    while let Some(piece) = generation.next() {
        piece.unwrap();
        known += generation.measured().len();
    }
    known += generation.measured().len();
    let totals = generation.report().totals;
    assert_eq!((totals.prompt.rows, totals.decode_passes, known), (5, 3, 4));
}

/// Over a link so slow that a token takes seconds, which the stand-in can be told to have: in a
/// process of its own.
#[test]
fn a_wait_for_a_device_can_be_given_up() {
    if std::env::var_os("CUDA_STAND_IN").is_none() {
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "gives_up_its_waits"])
        .env("CUDA_STAND_IN_LINK_GBPS", "0.001")
        .output()
        .unwrap();
    // None of that name would be a success.
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{output:?}");
}

/// With all layers resident there is no link to be late, but a prompt's kernels may be.
#[test]
fn a_prompt_that_a_device_is_at_can_be_given_up() {
    if std::env::var_os("CUDA_STAND_IN").is_none() {
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "gives_up_a_prompt"])
        .env("CUDA_STAND_IN_DELAY_US", "300000")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{output:?}");
}

#[test]
#[ignore = "run by the test above, on a slow device"]
fn gives_up_a_prompt() {
    let mut model = on_device(&Source::Demo, Residency::All, None, Kernels::Fast, None);
    let flag = Arc::new(AtomicBool::new(false));
    let mut session = model.session().unwrap();
    session.cancel_with(Arc::clone(&flag));
    std::thread::scope(|scope| {
        // When the prompt has all its orders: the device takes seconds for them.
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(1000));
            flag.store(true, Ordering::Relaxed);
        });
        let started = Instant::now();
        let given_up = session.pass(&[1, 2, 3]);
        let took = started.elapsed();
        assert!(
            matches!(given_up, Err(EngineError::Interrupted)),
            "{given_up:?}"
        );
        assert!(took < Duration::from_millis(1600), "{took:?}");
    });
    // The device goes on with what it was ordered to do; the answer after it is the same.
    flag.store(false, Ordering::Relaxed);
    session.pass(&[1, 2, 3]).unwrap();
    let after = session.logits().to_vec();
    drop(session);
    let mut fresh = model.session().unwrap();
    fresh.pass(&[1, 2, 3]).unwrap();
    assert_eq!(fresh.logits(), after);
}

/// Of copies that are staged it is the visit that waits, of those from pinned homes the token's
/// end.
#[test]
#[ignore = "run by the test above, with a slow link"]
fn gives_up_its_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    // 0.8 MB a layer.
    let spec = SynthSpec {
        hidden_size: 192,
        intermediate_size: 512,
        ..SynthSpec::tiny(Family::QWEN2)
    };
    synth::write(&path, &spec.with_layers(4), &mut |_, _| {}).unwrap();
    let source = Source::Directory(path);
    let tokens = |model: &mut Model, flag: &Arc<AtomicBool>| -> Vec<u32> {
        let mut session = model.session().unwrap();
        session.cancel_with(Arc::clone(flag));
        let options = GenerationOptions {
            max_new_tokens: 2,
            ignore_eos: true,
            ..Default::default()
        };
        let generation = session.generate(vec![1, 2, 3], options).unwrap();
        generation.map(|piece| piece.unwrap().token).collect()
    };
    let never = Arc::default();
    let mut resident = on_device(&source, Residency::Layers(4), None, Kernels::Fast, None);
    let expected = tokens(&mut resident, &never);
    for home in [Home::Disk, Home::Ram] {
        let mut model = on_device(
            &source,
            Residency::Layers(0),
            Some(home),
            Kernels::Fast,
            None,
        );
        let flag = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                flag.store(true, Ordering::Relaxed);
            });
            let started = Instant::now();
            assert_eq!(tokens(&mut model, &flag), [0; 0], "{home:?}");
            let took = started.elapsed();
            assert!(took < Duration::from_millis(600), "{home:?}: {took:?}");
        });
        assert_eq!(tokens(&mut model, &never), expected, "{home:?}");
    }
}
