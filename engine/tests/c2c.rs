//! Cache-to-cache against its reference, restated in torch (`fixtures/c2c/make.py`), and against the
//! engine's own promises: the same bits whatever stays, and the base's own where every gate is closed.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::c2c::{C2c, C2cBlueprint, C2cOptions, C2cSession, Sharer, Sharing};
use engine::kernels::CacheType;
use engine::profile::Timing;
use engine::profile::files::{self, Origin, RunRecord};
use engine::{EngineError, GenerationOptions, Kernels, Model, ModelOptions, Part, RunKind, Source};
use loader::DType;
use loader::synth::{self, FuserSpec};
use offload::{Home, LoadKind, PlanError, Prefetch, Residency, StackId};
use serde::Deserialize;

/// The largest difference, as a share of the largest number.
const RELATIVE_MAX: f32 = 1e-4;
const TOKENS: usize = 32;

#[derive(Deserialize)]
struct Expected {
    prompts: BTreeMap<String, Vec<u32>>,
    tokens: BTreeMap<String, BTreeMap<String, Vec<u32>>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/c2c")
}

fn expected() -> Expected {
    serde_json::from_slice(&fs::read(fixtures().join("expected.json")).unwrap()).unwrap()
}

/// One of the numbers that the reference wrote down.
struct Numbers(Vec<u8>);

impl Numbers {
    fn read() -> Self {
        Self(fs::read(fixtures().join("expected.safetensors")).unwrap())
    }

    fn get(&self, name: &str) -> Vec<f32> {
        let bytes = u64::from_le_bytes(self.0[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&self.0[8..8 + bytes]).unwrap();
        let at = |index: usize| header[name]["data_offsets"][index].as_u64().unwrap() as usize;
        let data = &self.0[8 + bytes..][at(0)..at(1)];
        let numbers = data.chunks_exact(4);
        numbers
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    }
}

fn of(folder: &str) -> Source {
    Source::Directory(fixtures().join(folder))
}

fn sharer(fuser: &str) -> Sharer {
    let teacher = match fuser {
        "fuser-2" => "teacher-2",
        _ => "teacher",
    };
    Sharer {
        teacher: of(teacher),
        fuser: fixtures().join(fuser),
    }
}

/// The fusers of a run of the reference.
fn sharers(run: &str) -> Vec<Sharer> {
    match run {
        "parallel" | "sequential" => vec![sharer("fuser"), sharer("fuser-2")],
        run => vec![sharer(run)],
    }
}

fn options(run: &str, [base, teacher, projectors]: [Residency; 3]) -> C2cOptions {
    C2cOptions {
        base: ModelOptions {
            residency: base,
            // Long passes over bf16 are rounded at one level of the kernels.
            dtype: Some(DType::F32),
            ..ModelOptions::default()
        },
        teacher,
        projectors,
        sharing: match run {
            "sequential" => Sharing::Sequential,
            _ => Sharing::Parallel,
        },
    }
}

fn open(run: &str, options: C2cOptions) -> C2c {
    C2c::open(&of("base"), &sharers(run), options).unwrap()
}

/// What came of a run, to the bit.
#[derive(Debug, Clone, PartialEq)]
struct Came {
    tokens: Vec<u32>,
    /// Of each token, row by row.
    logits: Vec<f32>,
}

fn run(session: &mut C2cSession<'_>, prompt: &[u32]) -> Came {
    let options = GenerationOptions {
        max_new_tokens: TOKENS,
        ignore_eos: true,
        ..GenerationOptions::default()
    };
    let mut fused = session.generate(prompt.to_vec(), options).unwrap();
    fused.generation.keep_logits();
    let mut came = Came {
        tokens: Vec::new(),
        logits: Vec::new(),
    };
    while let Some(piece) = fused.generation.next() {
        came.tokens.push(piece.unwrap().token);
        came.logits.extend(fused.generation.logits().unwrap());
    }
    came
}

fn came(run_of: &str, options: C2cOptions, prompt: &[u32]) -> Came {
    run(&mut open(run_of, options).session().unwrap(), prompt)
}

#[track_caller]
fn close(what: &str, found: &[f32], expected: &[f32]) {
    let most = |numbers: &mut dyn Iterator<Item = f32>| numbers.fold(0.0_f32, f32::max);
    let largest = most(&mut expected.iter().map(|value| value.abs()));
    let off = most(&mut found.iter().zip(expected).map(|(a, b)| (a - b).abs()));
    println!("{what}: {:e} of the largest", off / largest);
    assert!(off <= RELATIVE_MAX * largest, "{what}: {off} of {largest}");
}

const ALL: [Residency; 3] = [Residency::All; 3];
const NONE: [Residency; 3] = [Residency::Layers(0); 3];
const HALF: [Residency; 3] = [
    Residency::Layers(2),
    Residency::Layers(3),
    Residency::Layers(1),
];

#[test]
fn every_run_agrees_with_the_reference_whatever_stays() {
    let (expected, numbers) = (expected(), Numbers::read());
    for (of_run, prompts) in expected.tokens.iter().filter(|(run, _)| *run != "base") {
        for (name, tokens) in prompts {
            let prompt = &expected.prompts[name];
            let logits = numbers.get(&format!("{of_run}.{name}.logits"));
            let mut first: Option<Came> = None;
            for stays in [NONE, HALF, ALL] {
                let stays = match of_run.as_str() {
                    // It has two projectors, and the second teacher two layers.
                    "fuser-2" | "parallel" | "sequential" => stays.map(|it| match it {
                        Residency::Layers(count) => Residency::Layers(count.min(2)),
                        other => other,
                    }),
                    "fuser-closed" => [stays[0], stays[1], Residency::Auto],
                    _ => stays,
                };
                let what = format!("{of_run} {name} {stays:?}");
                let came = came(of_run, options(of_run, stays), prompt);
                assert_eq!(came.tokens, *tokens, "{what}");
                close(&what, &came.logits[..logits.len()], &logits);
                match &first {
                    None => first = Some(came),
                    Some(first) => assert!(*first == came, "{what}: other bits"),
                }
            }
        }
    }
}

#[test]
fn the_rewritten_caches_are_the_references() {
    let (expected, numbers) = (expected(), Numbers::read());
    for kernels in [Kernels::Fast, Kernels::Clear] {
        let mut options = options("fuser", HALF);
        options.base.kernels = kernels;
        let mut models = open("fuser", options);
        let mut session = models.session().unwrap();
        let lead = session.read(&expected.prompts["short"]).unwrap();
        assert_eq!(lead.projections, 4);
        for target in 0..4 {
            let kept = session.kept(target).unwrap();
            for (half, found) in [("key", kept.keys), ("value", kept.values)] {
                let name = format!("fuse.{target}.{half}.out");
                let reference = numbers.get(&format!("fuser.short.{name}"));
                assert_eq!(found.len(), reference.len());
                close(&format!("{kernels:?} {name}"), &found, &reference);
            }
        }
    }
}

#[test]
fn weights_as_they_are_stored_give_the_references_tokens() {
    if engine::kernels::level() == "avx512bf16" {
        // Rounded, as it says of itself.
        return;
    }
    let expected = expected();
    for of_run in ["fuser", "fuser-bf16", "fuser-safetensors", "parallel"] {
        let name = of_run.replace("-safetensors", "-bf16");
        let mut options = options(of_run, HALF);
        options.base.dtype = None;
        options.projectors = Residency::Layers(1);
        options.teacher = Residency::Layers(1);
        let came = came(of_run, options, &expected.prompts["long"]);
        assert_eq!(came.tokens, expected.tokens[&name]["long"], "{of_run}");
    }
}

/// The same models as GGUF files: those of the Llama family keep a key's numbers in another order,
/// as a teacher and as a base.
#[test]
fn gguf_files_give_what_their_models_give() {
    if engine::kernels::level() == "avx512bf16" {
        // Rounded, as it says of itself.
        return;
    }
    let prompt = &expected().prompts["short"];
    let folder = tempfile::tempdir().unwrap();
    let turned = folder.path().join("fuser");
    let config = |name| {
        loader::Checkpoint::open(&fixtures().join(name))
            .unwrap()
            .config
    };
    let spec = FuserSpec::between(&config("teacher"), &config("base")).with_widths(12, 16);
    synth::write_fuser(&turned, &spec, &mut |_, _| {}).unwrap();
    let file = |name| Source::Directory(fixtures().join(format!("../gguf/c2c-{name}.gguf")));
    for kernels in [Kernels::Fast, Kernels::Clear] {
        // A teacher of the Llama family under a base of Qwen's, and the other way round.
        for (base, teacher, fuser) in [
            ("base", "teacher", fixtures().join("fuser")),
            ("teacher", "base", turned.clone()),
        ] {
            let came = |stays, base: Source, teacher: Source| {
                let mut options = options("fuser", stays);
                options.base.dtype = None;
                options.base.kernels = kernels;
                let sharers = [Sharer {
                    teacher,
                    fuser: fuser.clone(),
                }];
                let mut models = C2c::open(&base, &sharers, options).unwrap();
                let mut session = models.session().unwrap();
                let came = run(&mut session, prompt);
                session.read(prompt).unwrap();
                let kept = session.kept(3).unwrap();
                (came, kept.keys, kept.values)
            };
            let what = format!("{base} {kernels:?}");
            let (wanted, keys, values) = came(ALL, of(base), of(teacher));
            let found = came(ALL, file(base), file(teacher));
            close(&format!("{what} keys"), &found.1, &keys);
            close(&format!("{what} values"), &found.2, &values);
            assert_eq!(found.0.tokens, wanted.tokens, "{what}");
            close(&what, &found.0.logits, &wanted.logits);
            assert!(came(NONE, file(base), file(teacher)) == found, "{what}");
        }
    }
}

#[test]
fn no_link_and_no_order_of_loads_changes_a_bit() {
    let prompt = &expected().prompts["short"];
    for of_run in ["fuser-bf16", "sequential"] {
        let plain = came(of_run, options(of_run, ALL), prompt);
        for (home, prefetch, slots) in [
            (Home::Disk, Prefetch::Ahead, 1),
            (Home::Disk, Prefetch::AtNeed, 2),
            (Home::Ram, Prefetch::Ahead, 3),
        ] {
            let mut options = options(of_run, NONE);
            options.base.home = Some(home);
            options.base.prefetch = prefetch;
            options.base.slots = Some(slots);
            let came = came(of_run, options, prompt);
            assert!(came == plain, "{of_run} {home:?} {prefetch:?} {slots}");
        }
    }
}

#[test]
fn closed_gates_leave_the_base_bit_for_bit() {
    let expected = expected();
    for name in ["short", "long"] {
        let prompt = &expected.prompts[name];
        let of_base = ModelOptions {
            dtype: Some(DType::F32),
            logit_rows: 1,
            ..ModelOptions::default()
        };
        let mut model = Model::open(&of("base"), of_base).unwrap();
        let mut session = model.session().unwrap();
        let (last, all) = prompt.split_last().unwrap();
        let mut own = session.take_own().unwrap();
        let kind = RunKind::Prompt { whole: all.len() };
        let mut parts = [Part {
            logits: false,
            ..Part::new(&mut own, all, kind)
        }];
        session.batch(&mut parts).unwrap();
        let mut alone = Came {
            tokens: Vec::new(),
            logits: Vec::new(),
        };
        let mut next = *last;
        for _ in 0..TOKENS {
            let tokens = [next];
            let mut parts = [Part::new(&mut own, &tokens, RunKind::Decode)];
            session.batch(&mut parts).unwrap();
            let logits = session.logits();
            alone.logits.extend(&*logits);
            let best = (0..).zip(&*logits).max_by(|a, b| a.1.total_cmp(b.1));
            next = best.unwrap().0;
            alone.tokens.push(next);
        }
        for stays in [[NONE[0], NONE[1], Residency::Auto], ALL] {
            let fused = came("fuser-closed", options("fuser-closed", stays), prompt);
            assert!(fused == alone, "{name} {stays:?}");
        }
        // And open ones are not a detail.
        for of_run in ["fuser", "fuser-key", "fuser-value"] {
            let fused = came(of_run, options(of_run, ALL), prompt);
            let vocabulary = alone.logits.len() / TOKENS;
            let (was, is) = (&alone.logits[..vocabulary], &fused.logits[..vocabulary]);
            let norm = |of: &mut dyn Iterator<Item = f32>| of.map(|x| x * x).sum::<f32>().sqrt();
            let moved = norm(&mut was.iter().zip(is).map(|(a, b)| a - b));
            assert!(moved > 0.1 * norm(&mut was.iter().copied()), "{of_run}");
            let mut different = fused.tokens.clone();
            different.sort_unstable();
            different.dedup();
            assert!(different.len() >= 16, "{of_run}: {different:?}");
        }
    }
}

#[test]
fn only_the_half_with_an_open_gate_changes() {
    let prompt = &expected().prompts["short"];
    let kept = |of_run: &str| {
        let mut models = open(of_run, options(of_run, HALF.map(|_| Residency::Auto)));
        let mut session = models.session().unwrap();
        session.read(prompt).unwrap();
        (0..4)
            .map(|layer| session.kept(layer).unwrap())
            .collect::<Vec<_>>()
    };
    let (closed, key, value) = (kept("fuser-closed"), kept("fuser-key"), kept("fuser-value"));
    for layer in 0..4 {
        assert!(key[layer].values == closed[layer].values);
        assert!(key[layer].keys != closed[layer].keys);
        assert!(value[layer].keys == closed[layer].keys);
        assert!(value[layer].values != closed[layer].values);
    }
    // Layers that nothing is mapped to stay as they are.
    let partial = kept("fuser-partial");
    for layer in 0..4 {
        let same = partial[layer] == closed[layer];
        assert_eq!(same, layer % 2 == 0, "layer {layer}");
    }
}

#[test]
fn a_rounded_cache_stays_close_by_either_kernels() {
    let prompt = &expected().prompts["long"];
    let kept = |kernels, cache_type| {
        let mut options = options("fuser", ALL);
        options.base.kernels = kernels;
        options.base.cache_type = Some(cache_type);
        let mut models = open("fuser", options);
        let mut session = models.session().unwrap();
        session.read(prompt).unwrap();
        session.kept(2).unwrap()
    };
    let exact = kept(Kernels::Fast, CacheType::F32);
    for (cache_type, share) in [(CacheType::F16, 5e-3), (CacheType::Bf16, 4e-2)] {
        for kernels in [Kernels::Fast, Kernels::Clear] {
            let rounded = kept(kernels, cache_type);
            let largest = exact.keys.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let off = rounded.keys.iter().zip(&exact.keys);
            let off = off.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(
                off > 0.0 && off <= share * largest,
                "{cache_type:?} {off} {largest}"
            );
        }
    }
}

#[test]
fn a_session_reads_one_prompt_after_the_other() {
    let expected = expected();
    let (short, long) = (&expected.prompts["short"], &expected.prompts["long"]);
    for stays in [NONE, ALL] {
        let mut models = open("fuser", options("fuser", stays));
        let mut session = models.session().unwrap();
        let first = run(&mut session, short);
        assert_eq!(
            run(&mut session, long).tokens,
            expected.tokens["fuser"]["long"]
        );
        assert!(run(&mut session, short) == first);
        // What is wrong with a prompt loses nothing.
        assert!(matches!(session.read(&[]), Err(EngineError::EmptyPrompt)));
        assert!(session.read(&[1, 2, 10_000]).is_err());
        // One that is given up in the middle of the lead.
        let flag = Arc::new(AtomicBool::new(true));
        session.cancel_with(Arc::clone(&flag));
        let given_up = session.read(long).map(drop).unwrap_err();
        assert!(matches!(given_up, EngineError::Interrupted), "{given_up}");
        flag.store(false, Ordering::Relaxed);
        assert!(run(&mut session, short) == first);
        drop(session);
        let mut session = models.session().unwrap();
        assert!(run(&mut session, short) == first, "another session");
    }
}

#[test]
fn a_prompt_of_one_token_is_the_bases_alone() {
    let mut models = open("fuser", options("fuser", NONE));
    let mut session = models.session().unwrap();
    let lead = session.read(&[7]).unwrap();
    assert!(lead.passes.is_empty());
    let fused = run(&mut session, &[7]);
    let of_base = ModelOptions {
        dtype: Some(DType::F32),
        ..ModelOptions::default()
    };
    let mut model = Model::open(&of("base"), of_base).unwrap();
    let options = GenerationOptions {
        max_new_tokens: TOKENS,
        ignore_eos: true,
        ..GenerationOptions::default()
    };
    let mut alone = model.session().unwrap();
    let (output, _) = alone.generate_with_timing(vec![7], options).unwrap();
    assert_eq!(fused.tokens, output.tokens);
    // And the ring goes on from there.
    let prompt = &expected().prompts["short"];
    assert_eq!(
        run(&mut session, prompt).tokens,
        expected().tokens["fuser"]["short"]
    );
}

#[test]
fn the_next_stack_is_on_its_way_while_the_last_is_computed() {
    let prompt = &expected().prompts["long"];
    let mut models = open("fuser", options("fuser", NONE));
    let mut session = models.session().unwrap();
    let generation = GenerationOptions {
        max_new_tokens: 4,
        ignore_eos: true,
        ..GenerationOptions::default()
    };
    let mut fused = session.generate(prompt.clone(), generation).unwrap();
    let lead = fused.lead.clone();
    let mut decode = Vec::new();
    while let Some(piece) = fused.generation.next() {
        piece.unwrap();
        decode.extend(fused.generation.measured().to_vec());
    }
    let passes: Vec<_> = lead.passes.iter().map(|pass| &pass.measured).collect();
    let counts: Vec<_> = passes.iter().map(|pass| pass.loads.len()).collect();
    assert_eq!(counts, [4, 6, 4]);
    for (pass, next) in passes
        .iter()
        .zip(passes.iter().skip(1).chain([&&decode[0]]))
    {
        let (last, first) = (pass.loads.last().unwrap(), next.loads.first().unwrap());
        assert_ne!(last.block.stack, first.block.stack);
        assert!(first.issued_at < last.visit_to, "{:?}", first.block);
    }
    let all = passes.iter().flat_map(|pass| &pass.loads);
    assert!(all.into_iter().all(|load| load.kind == LoadKind::Async));
    // Teacher and projectors are visited once.
    let stacks = decode.iter().flat_map(|pass| &pass.loads);
    assert!(
        stacks
            .into_iter()
            .all(|load| load.block.stack == StackId(0))
    );
}

#[test]
fn one_limit_holds_for_all_and_auto_keeps_the_base_first() {
    let prompt = &expected().prompts["short"];
    let auto = [Residency::Auto; 3];
    let plan = |memory| {
        let mut options = options("fuser", auto);
        options.base.memory_bytes = Some(memory);
        options.base.context = Some(64);
        C2cBlueprint::new(&of("base"), &sharers("fuser"), options)
    };
    let whole = plan(1 << 30).unwrap();
    let all = whole.plan().total_bytes();
    let mut last = [usize::MAX; 3];
    let mut seen = 0;
    for memory in (0..all).rev().step_by(8 << 10) {
        let blueprint = match plan(memory) {
            Ok(blueprint) => blueprint,
            Err(EngineError::Plan(PlanError::TooLargeTogether { .. }) | EngineError::Of { .. }) => {
                break;
            }
            Err(other) => panic!("{other}"),
        };
        assert!(blueprint.plan().total_bytes() <= memory);
        let counts: Vec<_> = blueprint
            .stacks()
            .map(|(_, plan)| plan.resident_count())
            .collect();
        assert!(counts[0] <= last[0], "{counts:?} after {last:?}");
        // The teacher gets what the base leaves.
        assert!(
            counts[0] == 4 || counts[1..].iter().sum::<usize>() <= 1,
            "{counts:?}"
        );
        last = counts.try_into().unwrap();
        seen += 1;
        if seen % 8 == 0 {
            let mut models = C2c::load(blueprint, &mut |_| {}).unwrap();
            let came = run(&mut models.session().unwrap(), prompt);
            assert_eq!(came.tokens, expected().tokens["fuser"]["short"]);
        }
    }
    assert!(seen > 8 && last[0] < 4, "{seen} {last:?}");
    let refused = plan(10_000).unwrap_err();
    assert!(refused.hint().is_some());
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let refused = |sharers: &[Sharer]| {
        let options = options("fuser", ALL);
        C2cBlueprint::new(&of("base"), sharers, options).unwrap_err()
    };
    assert!(matches!(refused(&[]), EngineError::NoTeacher));
    // A fuser for other shapes.
    let other = Sharer {
        teacher: of("teacher"),
        fuser: fixtures().join("fuser-2"),
    };
    let told = refused(&[other]);
    assert!(
        told.to_string().contains("fuser-2") && told.hint().is_some(),
        "{told}"
    );
    // A teacher with another vocabulary, without a tokenizer to tell more.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other");
    let spec = loader::synth::SynthSpec {
        vocab_size: 299,
        ..loader::synth::SynthSpec::tiny(loader::Family::LLAMA)
    };
    loader::synth::write(&path, &spec, &mut |_, _| {}).unwrap();
    let other = Sharer {
        teacher: Source::Directory(path),
        fuser: fixtures().join("fuser"),
    };
    let told = refused(&[other]);
    assert!(
        matches!(told, EngineError::OtherVocabulary { .. }),
        "{told}"
    );
    assert!(told.hint().is_some());
    // More layers than there are, with the model that has them not, and its own flag.
    let mut options = options(
        "fuser",
        [Residency::All, Residency::Layers(7), Residency::All],
    );
    options.base.residency = Residency::All;
    let told = C2cBlueprint::new(&of("base"), &sharers("fuser"), options.clone()).unwrap_err();
    assert!(told.to_string().contains("teacher"), "{told}");
    let hint = told.hint().unwrap();
    assert!(hint.contains("--teacher-gpu-layers 6"), "{hint}");
    (options.teacher, options.projectors) = (Residency::All, Residency::Layers(5));
    let told = C2cBlueprint::new(&of("base"), &sharers("fuser"), options).unwrap_err();
    assert!(told.to_string().contains("the projectors"), "{told}");
    let hint = told.hint().unwrap();
    assert!(hint.contains("--projector-gpu-layers 4"), "{hint}");
}

#[test]
fn files_name_the_stacks() {
    let mut models = open("fuser", options("fuser", NONE));
    let streaming = models.streaming(None);
    let mut session = models.session().unwrap();
    session.record();
    let generation = GenerationOptions {
        max_new_tokens: 5,
        ignore_eos: true,
        ..GenerationOptions::default()
    };
    let mut fused = session
        .generate(expected().prompts["long"].clone(), generation)
        .unwrap();
    (&mut fused.generation).for_each(|piece| drop(piece.unwrap()));
    let report = fused.generation.report();
    let rows = fused.lead.rows(&report);
    let recording = session.take_recording().unwrap();
    assert_eq!(recording.steps.len(), 3 + 5);
    let origin = Origin {
        version: "1".into(),
        commit: None,
        date: "2026-01-31".into(),
        command: "mine".into(),
        seed: None,
        machine: "mine".into(),
    };
    let timing: &Timing = &report.timing;
    let run = RunRecord {
        model: "three",
        name: "c2c",
        origin: &origin,
        unit: files::Unit::Token,
        ended: "max_new_tokens",
        tokens: 5,
        recording: &recording,
        rows: &rows,
        timing,
        streaming: &streaming,
        peak_memory_bytes: None,
    };
    let text = |write: fn(&RunRecord<'_>, &mut Vec<u8>) -> std::io::Result<()>| {
        let mut bytes = Vec::new();
        write(&run, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let table = text(files::write_tsv);
    let names: Vec<_> = table
        .lines()
        .map(|line| line.split('\t').next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "Stage",
            "Base Model Embedding",
            "Base Model Prefill (computation)",
            "Teacher Model Embedding",
            "Teacher Model Prefill (computation)",
            "Projector (KV projection)",
            "Decode Step (per token)",
            "step[1]",
            "step[2]",
            "step[3]",
            "step[4]",
            "step[5]"
        ]
    );
    let field = |line: usize, at: usize| {
        let line = table.lines().nth(line).unwrap();
        line.split('\t').nth(at).unwrap().to_owned()
    };
    assert_eq!((field(5, 2), field(6, 2)), ("4".into(), "5".into()));
    let trace: serde_json::Value = serde_json::from_str(&text(files::write_trace)).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let lane = |name: &str| {
        let named = events.iter().find(|event| event["args"]["name"] == name);
        named.unwrap_or_else(|| panic!("no lane {name}"))["tid"].clone()
    };
    for (stack, layers) in [("base", 4 * 6), ("teacher", 6), ("projectors", 4)] {
        let lane = lane(&format!("compute: {stack}"));
        let in_lane = events.iter().filter(|event| event["tid"] == lane);
        let computed = in_lane.filter(|event| event["cat"] == "compute");
        let names: Vec<_> = computed
            .map(|event| event["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), layers, "{stack}");
        assert!(names.contains(&&*format!("layer {stack} 3")), "{names:?}");
    }
    let stats: serde_json::Value = serde_json::from_str(&text(files::write_stats)).unwrap();
    assert_eq!(stats["passes"]["Projector (KV projection)"]["count"], 4);
    assert!(stats["total_operations"].as_u64().unwrap() > 0);
    let top = stats["top_10_cpu_ops"].as_array().unwrap();
    assert!(
        top.iter()
            .any(|operation| operation["name"] == "projection")
    );
    assert!(stats["top_10_cuda_ops"].as_array().is_some());
}
