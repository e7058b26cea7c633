//! Requests that share passes: each gets the tokens that it gets alone, begins from what was seen before,
//! and holds nobody up. Against a model of three small layers, streamed and resident.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::path::Path;

use engine::text::Sampling;
use engine::{
    Account, Ended, EngineError, GeneratedToken, GenerationOptions, Model, ModelOptions,
    ScheduleOptions, Scheduler, Session, Source, Told,
};
use loader::Family;
use loader::synth::{self, SynthSpec};
use offload::Residency;

/// A folder with a model, and requests for it.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with_layers(3)
    }

    fn with_layers(layers: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let spec = SynthSpec::tiny(Family::QWEN3).with_layers(layers);
        synth::write(&directory.path().join("model"), &spec, &mut |_, _| {}).unwrap();
        Self { directory }
    }

    fn weights(&self) -> std::path::PathBuf {
        self.directory.path().join("model/model.safetensors")
    }

    fn open(&self, resident: usize, sequences: usize) -> Model {
        self.open_with(ModelOptions {
            residency: Residency::Layers(resident),
            sequences,
            context: Some(256),
            ..ModelOptions::default()
        })
    }

    fn open_with(&self, options: ModelOptions) -> Model {
        let folder: &Path = &self.directory.path().join("model");
        Model::open(&Source::Directory(folder.to_owned()), options).unwrap()
    }
}

/// What a request came to.
#[derive(Debug, Default)]
struct Came {
    tokens: Vec<u32>,
    /// Those of each token's probability: of what was computed, where a token is only the largest.
    bits: Vec<u32>,
    reads: Vec<usize>,
    ended: Option<(Ended, Account)>,
    failed: Option<String>,
}

#[derive(Debug, Default)]
struct All(HashMap<u64, Came>);

impl All {
    fn told(&mut self, id: u64, told: Told) {
        let came = self.0.entry(id).or_default();
        assert!(
            came.ended.is_none() && came.failed.is_none(),
            "{id} had ended"
        );
        match told {
            Told::Prompt { read } => came.reads.push(read),
            Told::Token(token) => {
                came.tokens.push(token.token);
                came.bits.push(bits(&token));
            }
            Told::Ended { ended, account, .. } => came.ended = Some((ended, account)),
            Told::Failed(error) => came.failed = Some(error.to_string()),
        }
    }

    fn account(&self, id: u64) -> Account {
        self.0[&id].ended.unwrap().1
    }

    fn cached(&self, id: u64) -> usize {
        self.account(id).cached_tokens
    }
}

fn bits(token: &GeneratedToken) -> u32 {
    token.logprobs.as_ref().unwrap().chosen.logprob.to_bits()
}

/// What a session gives alone: tokens, and the bits of their probabilities.
fn generated(
    session: &mut Session<'_>,
    prompt: Vec<u32>,
    options: GenerationOptions,
) -> (Vec<u32>, Vec<u32>) {
    let all = session.generate(prompt, options).unwrap();
    all.map(|token| token.unwrap())
        .map(|token| (token.token, bits(&token)))
        .unzip()
}

fn prompt(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32)
        .map(|i| (seed * 37 + i * 11 + i * i * seed) % 256)
        .collect()
}

fn ask(new: usize, drawn: Option<u64>) -> GenerationOptions {
    GenerationOptions {
        max_new_tokens: new,
        sampling: Sampling {
            temperature: if drawn.is_some() { 0.9 } else { 0.0 },
            seed: drawn.unwrap_or_default(),
            ..Sampling::default()
        },
        ignore_eos: true,
        logprobs: Some(1),
        ..GenerationOptions::default()
    }
}

/// Steps until there is nothing to do; how many steps it took.
fn run(scheduler: &mut Scheduler<'_>, all: &mut All) -> usize {
    let mut steps = 0;
    while scheduler.step(&mut |id, told| all.told(id, told)).unwrap() {
        steps += 1;
        assert!(steps < 10_000, "it never ends: {:?}", scheduler.load());
    }
    let load = scheduler.load();
    assert_eq!((load.running, load.waiting), (0, 0));
    steps
}

/// Of different lengths, greedy and drawn.
fn requests() -> Vec<(Vec<u32>, GenerationOptions)> {
    let shapes = [
        (1, 40, 9, None),
        (2, 3, 30, Some(5)),
        (3, 100, 5, Some(6)),
        (4, 1, 12, None),
    ];
    shapes
        .map(|(seed, len, new, drawn)| (prompt(seed, len), ask(new, drawn)))
        .to_vec()
}

fn alone(model: &mut Model) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut session = model.session().unwrap();
    let each = requests().into_iter().map(|(prompt, options)| {
        session.restart().unwrap();
        generated(&mut session, prompt, options)
    });
    each.collect()
}

fn scheduler(model: &mut Model, options: ScheduleOptions) -> Scheduler<'_> {
    Scheduler::new(model.session().unwrap(), options).unwrap()
}

#[test]
fn each_gets_the_tokens_that_it_gets_alone() {
    let bench = Bench::new();
    for resident in [0, 2, 3] {
        let mut model = bench.open(resident, 4);
        let expected = alone(&mut model);
        for chunk in [None, Some(1), Some(7), Some(64)] {
            let options = ScheduleOptions {
                chunk,
                reuse: false,
                ..ScheduleOptions::default()
            };
            let mut scheduler = scheduler(&mut model, options);
            let mut all = All::default();
            // They come one after the other, while those before are under way.
            for (id, (prompt, options)) in requests().into_iter().enumerate() {
                scheduler.submit(id as u64, prompt, options).unwrap();
                for _ in 0..2 {
                    scheduler.step(&mut |id, told| all.told(id, told)).unwrap();
                }
            }
            run(&mut scheduler, &mut all);
            for (id, (tokens, bits)) in expected.iter().enumerate() {
                let came = &all.0[&(id as u64)];
                assert_eq!(&came.bits, bits, "{resident} {chunk:?} {id}");
                assert_eq!(&came.tokens, tokens, "{resident} {chunk:?} {id}");
                let (ended, account) = came.ended.unwrap();
                assert_eq!(ended, Ended::MaxNewTokens);
                assert_eq!(account.generated_tokens, tokens.len());
                assert_eq!(account.cached_tokens, 0);
                assert_eq!(account.link_bytes > 0, resident < 3);
                assert!(came.reads.is_sorted());
                assert_eq!(came.reads.last(), Some(&account.prompt_tokens));
            }
        }
    }
}

#[test]
fn a_chunk_is_no_longer_than_it_may_be_and_others_go_on_meanwhile() {
    let bench = Bench::new();
    let mut model = bench.open(3, 2);
    let options = ScheduleOptions {
        chunk: Some(10),
        ..ScheduleOptions::default()
    };
    let mut scheduler = scheduler(&mut model, options);
    let mut all = All::default();
    scheduler.submit(1, prompt(1, 4), ask(50, None)).unwrap();
    scheduler.step(&mut |id, told| all.told(id, told)).unwrap();
    scheduler.submit(2, prompt(2, 95), ask(2, None)).unwrap();
    for _ in 0..10 {
        scheduler.step(&mut |id, told| all.told(id, told)).unwrap();
    }
    assert_eq!(all.0[&1].tokens.len(), 11);
    let chunks: Vec<usize> = (1..=9).map(|i| i * 10).collect();
    assert_eq!(all.0[&2].reads, [vec![0], chunks, vec![95]].concat());
    assert_eq!(all.0[&2].tokens.len(), 1);
    run(&mut scheduler, &mut all);
}

#[test]
fn a_conversation_goes_on_from_what_was_seen() {
    let bench = Bench::new();
    let state = 1 << 20;
    for sequences in [1, 2] {
        let mut model = bench.open(3, sequences);
        let options = ScheduleOptions {
            kept_bytes: 4 * state,
            ..ScheduleOptions::default()
        };
        let mut scheduler = scheduler(&mut model, options);
        let mut all = All::default();
        let mut talks = [prompt(1, 60), prompt(2, 50)];
        let mut id = 0;
        let mut before = [0, 0];
        // A, B, A, B: each turn begins where the turn before ended.
        for turn in 0..3 {
            for talk in 0..2 {
                scheduler
                    .submit(id, talks[talk].clone(), ask(8, None))
                    .unwrap();
                run(&mut scheduler, &mut all);
                let cached = all.cached(id);
                match turn {
                    0 => assert_eq!(cached, 0),
                    _ => assert_eq!(cached, before[talk], "{sequences} {turn} {talk}"),
                }
                talks[talk].extend(&all.0[&id].tokens);
                // The last token was told, and never read.
                before[talk] = talks[talk].len() - 1;
                talks[talk].extend(prompt(9 + turn, 5));
                id += 1;
            }
        }
        // The same once more: all but the last token, whose logits are wanted.
        let talk = talks[0].clone();
        scheduler.submit(100, talk.clone(), ask(8, None)).unwrap();
        run(&mut scheduler, &mut all);
        scheduler.submit(101, talk.clone(), ask(8, None)).unwrap();
        run(&mut scheduler, &mut all);
        assert_eq!(all.cached(101), talk.len() - 1);
        assert_eq!(all.0[&101].tokens, all.0[&100].tokens);
        // An edited turn, then the old one again.
        let mut edited = talk.clone();
        edited[40] = (edited[40] + 1) % 256;
        scheduler.submit(102, edited, ask(8, None)).unwrap();
        run(&mut scheduler, &mut all);
        assert_eq!(all.cached(102), 40);
        scheduler.submit(103, talk.clone(), ask(8, None)).unwrap();
        run(&mut scheduler, &mut all);
        assert_eq!(all.cached(103), talk.len() - 1);
        assert_eq!(all.0[&103].tokens, all.0[&100].tokens);
        let kept = scheduler.load().kept_bytes;
        assert!(kept > 0 && kept <= 4 * state, "{kept}");
    }
}

#[test]
fn kept_states_stay_within_their_memory() {
    let bench = Bench::new();
    let mut model = bench.open(3, 1);
    // A position is 3 layers of 2 heads of 16 numbers, twice.
    let position = 3 * 2 * 16 * 2 * 4;
    let options = ScheduleOptions {
        kept_bytes: 2 * 110 * position,
        ..ScheduleOptions::default()
    };
    let mut scheduler = scheduler(&mut model, options);
    let mut all = All::default();
    for id in 0..5 {
        scheduler
            .submit(id, prompt(id as u32, 100), ask(2, None))
            .unwrap();
        run(&mut scheduler, &mut all);
        let load = scheduler.load();
        assert!(load.kept_bytes <= 2 * 110 * position, "{load:?}");
    }
    // The last is in its place, and two before it are kept; the oldest are not.
    for (id, cached) in [(4, 99), (3, 99), (0, 0)] {
        scheduler
            .submit(10 + id, prompt(id as u32, 100), ask(2, None))
            .unwrap();
        run(&mut scheduler, &mut all);
        assert_eq!(all.cached(10 + id), cached, "{id}");
    }
}

#[test]
fn several_answers_to_one_prompt_read_it_once() {
    let bench = Bench::new();
    let mut model = bench.open(3, 4);
    let mut scheduler = scheduler(&mut model, ScheduleOptions::default());
    let mut all = All::default();
    let shared = prompt(7, 120);
    for id in 0..4 {
        scheduler
            .submit(id, shared.clone(), ask(10, Some(id)))
            .unwrap();
    }
    run(&mut scheduler, &mut all);
    let cached: Vec<usize> = (0..4).map(|id| all.cached(id)).collect();
    assert_eq!(cached, [0, 119, 119, 119]);
    // And each is what it is alone.
    for id in 0..4 {
        drop(scheduler);
        scheduler = self::scheduler(&mut model, ScheduleOptions::default());
        let mut one = All::default();
        scheduler
            .submit(id, shared.clone(), ask(10, Some(id)))
            .unwrap();
        run(&mut scheduler, &mut one);
        assert_eq!(one.0[&id].tokens, all.0[&id].tokens);
    }
}

#[test]
fn where_positions_run_out_the_youngest_waits_and_loses_nothing() {
    let bench = Bench::new();
    let mut whole = bench.open(2, 4);
    let asked = |id: u64| (prompt(id as u32 + 1, 60), ask(120, Some(id)));
    let mut expected = Vec::new();
    for id in 0..4 {
        let (prompt, options) = asked(id);
        let mut session = whole.session().unwrap();
        expected.push(generated(&mut session, prompt, options));
    }
    // Four could take 720 positions, and there are 400.
    let mut model = bench.open_with(ModelOptions {
        residency: Residency::Layers(2),
        sequences: 4,
        context: Some(256),
        positions: Some(400),
        prompt_rows: Some(32),
        ..ModelOptions::default()
    });
    for reuse in [false, true] {
        let options = ScheduleOptions {
            reuse,
            ..ScheduleOptions::default()
        };
        let mut scheduler = scheduler(&mut model, options);
        let mut all = All::default();
        for id in 0..4 {
            let (prompt, options) = asked(id);
            scheduler.submit(id, prompt, options).unwrap();
        }
        let (mut together, mut gave_way) = (0, 0);
        while scheduler.step(&mut |id, told| all.told(id, told)).unwrap() {
            let load = scheduler.load();
            assert!(
                load.held <= load.positions && load.positions == 400,
                "{load:?}"
            );
            together = together.max(load.running);
            gave_way += usize::from(load.running < 4 && load.waiting > 0);
        }
        assert_eq!(together, 4, "they began together");
        for (id, (tokens, bits)) in (0..4).zip(&expected) {
            assert_eq!(&all.0[&id].tokens, tokens, "{id}");
            // With reuse it may begin from what another computed as a prompt.
            assert!(reuse || &all.0[&id].bits == bits, "{id}");
        }
        assert!(gave_way > 0);
    }
    let (all_of_it, shared) = (
        whole.blueprint().plan.fixed(),
        model.blueprint().plan.fixed(),
    );
    assert!(shared.cache < all_of_it.cache, "{shared:?} {all_of_it:?}");
}

#[test]
fn a_full_context_ends_a_request_and_no_other() {
    let bench = Bench::new();
    let mut model = bench.open(3, 2);
    let mut scheduler = scheduler(&mut model, ScheduleOptions::default());
    let mut all = All::default();
    scheduler.submit(1, prompt(1, 250), ask(100, None)).unwrap();
    scheduler.submit(2, prompt(2, 20), ask(100, None)).unwrap();
    scheduler.submit(3, prompt(3, 20), ask(0, None)).unwrap();
    let refused = scheduler
        .submit(4, prompt(4, 257), ask(1, None))
        .unwrap_err();
    assert!(matches!(
        refused,
        EngineError::PromptTooLong {
            prompt: 257,
            context: 256
        }
    ));
    run(&mut scheduler, &mut all);
    let ended = |id| all.0[&id].ended.unwrap().0;
    assert_eq!((ended(1), all.0[&1].tokens.len()), (Ended::ContextFull, 7));
    assert_eq!(
        (ended(2), all.0[&2].tokens.len()),
        (Ended::MaxNewTokens, 100)
    );
    assert_eq!((ended(3), all.0[&3].tokens.len()), (Ended::MaxNewTokens, 0));
}

#[test]
fn who_leaves_ends_the_pass_that_is_only_theirs() {
    let bench = Bench::with_layers(30);
    // The link takes three seconds for all of them.
    let mut model = bench.open_with(ModelOptions {
        residency: Residency::Layers(0),
        context: Some(256),
        link_gbps: Some(0.001),
        ..ModelOptions::default()
    });
    let mut scheduler = scheduler(&mut model, ScheduleOptions::default());
    let mut all = All::default();
    scheduler.submit(1, prompt(1, 100), ask(4, None)).unwrap();
    let leaver = scheduler.leaver();
    let from = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            leaver.leave(1);
        });
        assert!(scheduler.step(&mut |id, told| all.told(id, told)).unwrap());
    });
    assert!(from.elapsed().as_secs_f64() < 1.5, "{:?}", from.elapsed());
    scheduler.drop_request(1);
    assert!(!scheduler.step(&mut |id, told| all.told(id, told)).unwrap());
    assert!(all.0[&1].ended.is_none() && all.0[&1].tokens.is_empty());
}

/// Writes infinite numbers over the embedding's row of a token.
fn break_token(weights: &Path, token: usize) {
    let mut bytes = std::fs::read(weights).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let offset = json["model.embed_tokens.weight"]["data_offsets"][0]
        .as_u64()
        .unwrap() as usize;
    let row = 8 + header + offset + token * 64 * 2;
    for number in bytes[row..row + 64 * 2].chunks_exact_mut(2) {
        number.copy_from_slice(&0x7f80_u16.to_le_bytes());
    }
    std::fs::write(weights, bytes).unwrap();
}

#[test]
fn a_request_that_fails_takes_no_other_with_it() {
    let bench = Bench::new();
    break_token(&bench.weights(), 77);
    let mut model = bench.open(1, 3);
    let good = |id: u64| -> Vec<u32> {
        let tokens = prompt(id as u32 + 1, 30).into_iter();
        tokens.filter(|&token| token != 77).collect()
    };
    let options = ask(20, None);
    let mut expected = Vec::new();
    for id in [0, 2] {
        let mut session = model.session().unwrap();
        let output = session
            .generate_with_timing(good(id), options.clone())
            .unwrap()
            .0;
        assert!(!output.tokens.contains(&77));
        expected.push(output.tokens);
    }
    let mut scheduler = scheduler(&mut model, ScheduleOptions::default());
    let mut all = All::default();
    scheduler.submit(0, good(0), options.clone()).unwrap();
    for _ in 0..5 {
        scheduler.step(&mut |id, told| all.told(id, told)).unwrap();
    }
    scheduler
        .submit(1, vec![1, 2, 77, 4], options.clone())
        .unwrap();
    scheduler.submit(2, good(2), options).unwrap();
    run(&mut scheduler, &mut all);
    assert_eq!(all.0[&0].tokens, expected[0]);
    assert_eq!(all.0[&2].tokens, expected[1]);
    let failed = all.0[&1].failed.as_ref().unwrap();
    assert!(failed.contains("embedding"), "{failed}");
}

#[test]
fn many_requests_come_and_go_and_no_place_is_lost() {
    let bench = Bench::new();
    let mut model = bench.open_with(ModelOptions {
        residency: Residency::Layers(1),
        sequences: 4,
        context: Some(128),
        positions: Some(300),
        ..ModelOptions::default()
    });
    let options = ScheduleOptions {
        kept_bytes: 100_000,
        ..ScheduleOptions::default()
    };
    let mut scheduler = scheduler(&mut model, options);
    let mut all = All::default();
    let mut random = 12345_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let (mut submitted, mut dropped) = (0, Vec::new());
    while submitted < 400 {
        for _ in 0..next(4) {
            let len = 1 + next(100) as usize;
            // A few texts that many begin with.
            let asked = (
                prompt(next(4) as u32, len),
                ask(next(20) as usize, Some(submitted)),
            );
            scheduler.submit(submitted, asked.0, asked.1).unwrap();
            submitted += 1;
        }
        if submitted > 0 && next(3) == 0 {
            let id = submitted - 1 - next(submitted.min(8));
            if all.0.get(&id).is_none_or(|came| came.ended.is_none()) {
                scheduler.drop_request(id);
                dropped.push(id);
            }
        }
        for _ in 0..next(6) {
            scheduler.step(&mut |id, told| all.told(id, told)).unwrap();
        }
        let load = scheduler.load();
        assert!(
            load.held <= load.positions && load.kept_bytes <= 100_000,
            "{load:?}"
        );
    }
    run(&mut scheduler, &mut all);
    for id in 0..submitted {
        let ended = all.0.get(&id).is_some_and(|came| came.ended.is_some());
        assert!(ended != dropped.contains(&id), "{id}");
    }
    assert!(dropped.len() > 20);
}
