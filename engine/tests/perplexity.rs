//! Perplexity in windows, against what transformers computes (`fixtures/perplexity.py`).
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use engine::{EngineError, Kernels, Model, ModelOptions, Source, Windows, perplexity};
use offload::Residency;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    tokens: Vec<u32>,
    cuts: Vec<Cut>,
}

#[derive(Deserialize)]
struct Cut {
    window: usize,
    stride: usize,
    scored: usize,
    nll: f64,
}

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn open(name: &str, options: ModelOptions) -> Model {
    Model::open(&Source::Directory(fixtures().join(name)), options).unwrap()
}

#[test]
fn it_is_the_perplexity_that_transformers_finds() {
    let json = fs::read(fixtures().join("perplexity.json")).unwrap();
    let all: BTreeMap<String, Expected> = serde_json::from_slice(&json).unwrap();
    assert_eq!(all.len(), 6);
    for (name, Expected { tokens, cuts }) in &all {
        for (kernels, resident, logit_rows) in [
            (Kernels::Fast, 0, 32),
            (Kernels::Fast, 1, 1),
            (Kernels::Fast, 2, 7),
            (Kernels::Clear, 1, 32),
        ] {
            let options = ModelOptions {
                kernels,
                logit_rows,
                residency: Residency::Layers(resident),
                context: Some(200),
                ..ModelOptions::default()
            };
            let mut model = open(name, options);
            let mut session = model.session().unwrap();
            for cut in cuts {
                let windows = Windows {
                    window: cut.window,
                    stride: cut.stride,
                };
                let mut told = Vec::new();
                let mut tell = |scored: &engine::Scored| told.push(*scored);
                let found = perplexity(&mut session, tokens, windows, &mut tell).unwrap();
                assert_eq!(found.tokens, cut.scored, "{name} {windows:?}");
                assert_eq!(told.len(), windows.count(tokens.len()));
                assert_eq!(told.last(), Some(&found));
                let off = (found.perplexity() / cut.nll.exp() - 1.0).abs();
                assert!(off < 1e-4, "{name} {kernels:?} {windows:?}: off by {off:e}");
                assert!(found.error() > 0.0 && found.error() < found.perplexity());
            }
        }
    }
}

#[test]
fn windows_that_score_nothing_are_refused() {
    let mut model = open("llama-3", ModelOptions::default());
    let mut session = model.session().unwrap();
    for (window, stride) in [(1, 1), (4, 0), (4, 5)] {
        let windows = Windows { window, stride };
        let refused = perplexity(&mut session, &[3, 4, 5], windows, &mut |_| ()).unwrap_err();
        assert!(matches!(refused, EngineError::Windows { .. }), "{refused}");
        assert!(refused.hint().is_some());
    }
    let windows = Windows {
        window: 4,
        stride: 2,
    };
    let refused = perplexity(&mut session, &[3], windows, &mut |_| ()).unwrap_err();
    assert!(
        matches!(refused, EngineError::NothingToScore { tokens: 1 }),
        "{refused}"
    );
}
