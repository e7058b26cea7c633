//! Several sequences through one visit of each layer: each gives the bits that it gives alone. And what
//! a sequence keeps, saved, restored and forked.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use engine::{EngineError, Kernels, Model, ModelOptions, Part, RunKind, Sequence, Session, Source};
use kernels::CacheType;
use loader::synth::{self, SynthSpec};
use loader::{DType, Family};
use offload::Residency;

const LAYERS: usize = 4;

fn write(spec: &SynthSpec, dir: &Path) -> Source {
    synth::write(dir, spec, &mut |_, _| {}).unwrap();
    Source::Directory(dir.to_owned())
}

fn options(resident: usize) -> ModelOptions {
    ModelOptions {
        residency: Residency::Layers(resident),
        sequences: 3,
        context: Some(96),
        ..Default::default()
    }
}

fn tokens(seed: usize, count: usize) -> Vec<u32> {
    let token = |i: usize| ((seed * 31 + i * 7) % 251) as u32;
    (0..count).map(token).collect()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// The kernels give the same bits however rows stand together; the tensor library sums in another order.
fn agree(kernels: Kernels, found: &[u32], expected: &[u32]) -> bool {
    let near = |(a, b): (&u32, &u32)| (f32::from_bits(*a) - f32::from_bits(*b)).abs() < 1e-5;
    match kernels {
        Kernels::Fast => found == expected,
        Kernels::Clear => found.iter().zip(expected).all(near),
    }
}

/// Three sequences' texts: prompts of different lengths, and what follows them token by token.
fn texts() -> [(Vec<u32>, Vec<u32>); 3] {
    [(1, 40, 6), (2, 3, 8), (3, 17, 4)]
        .map(|(seed, prompt, rest)| (tokens(seed, prompt), tokens(seed + 10, rest)))
}

/// The logits after the prompt and after each token that follows.
fn alone(session: &mut Session<'_>, (prompt, rest): &(Vec<u32>, Vec<u32>)) -> Vec<Vec<u32>> {
    drop(session.take_own());
    session.pass(prompt).unwrap();
    let mut all = vec![bits(session.logits())];
    for &token in rest {
        session.pass(&[token]).unwrap();
        all.push(bits(session.logits()));
    }
    all
}

/// The same of all three, which begin one after the other: prompts stand beside decodes.
fn together(session: &mut Session<'_>) -> Vec<Vec<Vec<u32>>> {
    drop(session.take_own());
    let texts = texts();
    let mut sequences: Vec<Sequence> = (0..3).map(|_| session.sequence().unwrap()).collect();
    let mut found = vec![Vec::new(); 3];
    for step in 0..12 {
        let mut parts = Vec::new();
        let mut of = Vec::new();
        for (index, sequence) in sequences.iter_mut().enumerate() {
            // The second begins a step after the first, the third two.
            let (prompt, rest) = &texts[index];
            let (tokens, kind) = match step as isize - index as isize {
                0 => (&prompt[..], RunKind::of(prompt.len(), 0)),
                at @ 1.. if (at as usize) <= rest.len() => {
                    let at = at as usize;
                    (&rest[at - 1..at], RunKind::Decode)
                }
                _ => continue,
            };
            of.push(index);
            parts.push(Part::new(sequence, tokens, kind));
        }
        if parts.is_empty() {
            continue;
        }
        let timing = session.batch(&mut parts).unwrap();
        assert_eq!(timing.units, of.len());
        let rows: usize = parts.iter().map(|part| part.tokens.len()).sum();
        assert_eq!(timing.rows, rows);
        let logits = session.logits();
        let each = logits.chunks_exact(logits.len() / of.len());
        for (&index, logits) in of.iter().zip(each) {
            found[index].push(bits(logits));
        }
    }
    found
}

#[test]
fn in_company_a_sequence_gives_the_bits_that_it_gives_alone() {
    for family in [Family::LLAMA, Family::QWEN2, Family::OLMO2, Family::PHI3] {
        for dtype in [DType::Bf16, DType::F32] {
            let directory = tempfile::tempdir().unwrap();
            let spec = SynthSpec {
                layers: LAYERS,
                dtype,
                ..SynthSpec::tiny(family)
            };
            let source = write(&spec, &directory.path().join("model"));
            for kernels in [Kernels::Fast, Kernels::Clear] {
                let mut first = None;
                for resident in [0, 2, LAYERS] {
                    let options = ModelOptions {
                        kernels,
                        ..options(resident)
                    };
                    let mut model = Model::open(&source, options).unwrap();
                    let mut session = model.session().unwrap();
                    let each: Vec<_> = texts()
                        .iter()
                        .map(|text| alone(&mut session, text))
                        .collect();
                    let all = together(&mut session);
                    assert!(all == each, "{family} {dtype:?} {kernels:?} {resident}");
                    assert!(*first.get_or_insert_with(|| each.clone()) == each);
                }
            }
        }
    }
}

#[test]
fn a_sequence_is_saved_restored_and_forked_at_any_position() {
    let directory = tempfile::tempdir().unwrap();
    let spec = SynthSpec::tiny(Family::QWEN3);
    let source = write(&spec, &directory.path().join("model"));
    for (kernels, cache_type) in [
        (Kernels::Fast, CacheType::F32),
        (Kernels::Fast, CacheType::F16),
        (Kernels::Fast, CacheType::Bf16),
        (Kernels::Clear, CacheType::F32),
    ] {
        let options = ModelOptions {
            kernels,
            cache_type: Some(cache_type),
            ..options(1)
        };
        let mut model = Model::open(&source, options).unwrap();
        let mut session = model.session().unwrap();
        let text = tokens(5, 24);
        let mut long = session.take_own().unwrap();
        let prompt = RunKind::Prompt { whole: 24 };
        let mut next = |sequence: &mut Sequence, tokens: &[u32], kind: RunKind| {
            let part = Part::new(sequence, tokens, kind);
            session.batch(&mut [part]).unwrap();
            bits(session.logits())
        };
        next(&mut long, &text, prompt);
        for at in [0, 1, 13, 24] {
            // Read anew up to there, by the products of the whole.
            let mut fresh = long.fork(0).unwrap();
            if at > 0 {
                next(&mut fresh, &text[..at], prompt);
            }
            let expected = next(&mut fresh, &[7, 8], RunKind::Verify);
            drop(fresh);
            let mut fork = long.fork(at).unwrap();
            assert_eq!(fork.tokens(), &text[..at]);
            let found = next(&mut fork, &[7, 8], RunKind::Verify);
            assert!(agree(kernels, &found, &expected), "{kernels:?} {at}");
            // The one that was forked knows nothing of it.
            assert_eq!(long.tokens(), text);
            let saved = long.save(at).unwrap();
            fork.restore(&saved, saved.tokens().len()).unwrap();
            assert_eq!(fork.tokens(), saved.tokens());
            let found = next(&mut fork, &[7, 8], RunKind::Verify);
            assert!(agree(kernels, &found, &expected), "{kernels:?} {at}");
            fork.go_back(at).unwrap();
            let found = next(&mut fork, &[7, 8], RunKind::Verify);
            assert!(agree(kernels, &found, &expected), "{kernels:?} {at}");
            assert_eq!(fork.room(), 96 - at - 2);
        }
        assert!(matches!(
            long.fork(25),
            Err(EngineError::NotSeen {
                asked: 25,
                seen: 24
            })
        ));
    }
}

/// One token after the other gives the bits of all of them as a draft; so do the parts of a prompt.
#[test]
fn a_draft_and_a_prompt_in_parts_give_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let source = write(
        &SynthSpec::tiny(Family::LLAMA),
        &directory.path().join("model"),
    );
    let mut model = Model::open(&source, options(1)).unwrap();
    let mut session = model.session().unwrap();
    let text = tokens(2, 70);
    let mut run = |parts: &[(std::ops::Range<usize>, RunKind)]| {
        let mut sequence = session.take_own().unwrap();
        for (range, kind) in parts {
            let part = Part::new(&mut sequence, &text[range.clone()], *kind);
            session.batch(&mut [part]).unwrap();
        }
        bits(session.logits())
    };
    let prompt = RunKind::Prompt { whole: 64 };
    let whole = [(0..64, prompt)];
    let expected = run(&whole);
    assert!(run(&[(0..3, prompt), (3..50, prompt), (50..64, prompt)]) == expected);
    let decode = |at: usize| (at..at + 1, RunKind::Decode);
    let one_by_one: Vec<_> = (64..70).map(decode).collect();
    let expected = run(&[&whole[..], &one_by_one].concat());
    assert!(run(&[(0..64, prompt), (64..70, RunKind::Verify)]) == expected);
}

#[test]
fn all_logits_of_a_pass_are_those_of_each_token() {
    let directory = tempfile::tempdir().unwrap();
    let source = write(
        &SynthSpec::tiny(Family::QWEN2),
        &directory.path().join("model"),
    );
    for kernels in [Kernels::Fast, Kernels::Clear] {
        let options = ModelOptions {
            kernels,
            logit_rows: 4,
            ..options(1)
        };
        let mut model = Model::open(&source, options).unwrap();
        let mut session = model.session().unwrap();
        let text = tokens(4, 40);
        let mut found = Vec::new();
        let mut look = |row: usize, logits: &[f32]| found.push((row, bits(logits)));
        let timing = session.pass_rows(&text, 2..39, &mut look).unwrap();
        assert_eq!((timing.rows, timing.units), (40, 37));
        assert_eq!(found.len(), 37);
        drop(session.take_own());
        for (row, logits) in found {
            let mut sequence = session.sequence().unwrap();
            let part = Part::new(&mut sequence, &text[..=row], RunKind::Prompt { whole: 40 });
            session.batch(&mut [part]).unwrap();
            let alone = bits(session.logits());
            assert!(agree(kernels, &logits, &alone), "{kernels:?} {row}");
        }
    }
}

#[test]
fn what_there_is_no_room_for_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let source = write(
        &SynthSpec::tiny(Family::LLAMA),
        &directory.path().join("model"),
    );
    let mut model = Model::open(&source, options(1)).unwrap();
    let mut session = model.session().unwrap();
    let mut first = session.take_own().unwrap();
    let mut second = session.sequence().unwrap();
    let third = session.sequence().unwrap();
    let refused = session.sequence().unwrap_err();
    assert!(matches!(refused, EngineError::TooManySequences { most: 3 }));
    assert!(refused.hint().is_some());
    drop(third);
    let third = session.sequence().unwrap();
    assert_eq!(third.len(), 0);
    let text = tokens(1, 60);
    let parts = &mut [part(&mut first, &text), part(&mut second, &text)];
    let refused = session.batch(parts).unwrap_err();
    let most = 96 + 2;
    assert!(
        matches!(refused, EngineError::TooManyRows { rows: 120, most: found } if found == most),
        "{refused}"
    );
    assert!(matches!(
        session.batch(&mut []),
        Err(EngineError::EmptyPrompt)
    ));
    session.batch(&mut [part(&mut first, &text)]).unwrap();
    drop(session);
    let mut session = model.session().unwrap();
    let refused = session.batch(&mut [part(&mut first, &text)]).unwrap_err();
    assert!(matches!(refused, EngineError::OtherModel), "{refused}");
}

fn part<'a>(sequence: &'a mut Sequence, tokens: &'a [u32]) -> Part<'a> {
    Part::new(sequence, tokens, RunKind::of(tokens.len(), 0))
}
