//! What a token costs: how much crosses from the device, and how often the host waits for it.

use std::fs;
use std::path::Path;

use engine::text::Sampling;
use engine::{GenerationOptions, Model, ModelOptions, Source};
use loader::Family;
use loader::synth::{self, SynthSpec};
use offload::PlaceChoice;

use crate::counts::{COUNT, Counts, counts_of};
use crate::stand_in::{alone, is_there};

/// For the process that generates: a folder, tokens, temperature, top-p, top-k.
const ASKED: &str = "GENERATES";

/// More tokens than there are candidates of; some of them stand out.
fn model(folder: &Path) {
    let spec = SynthSpec {
        vocab_size: 8_000,
        std_dev: 0.4,
        ..SynthSpec::tiny(Family::QWEN2)
    };
    synth::write(folder, &spec, &mut |_, _| {}).unwrap();
}

/// What so many tokens more take.
struct More {
    short: Counts,
    long: Counts,
}

const MORE: u64 = 8;

impl More {
    fn of(folder: &Path, settings: &str) -> Self {
        let run = |tokens: u64| {
            let asked = format!("{} {tokens} {settings}", folder.display());
            counts_of(|file| alone("tokens::generates", &[(COUNT, file), (ASKED, &asked)]))
        };
        Self {
            short: run(2),
            long: run(2 + MORE),
        }
    }

    fn of_kind(&self, kind: &str, name: &str) -> (u64, u64) {
        let (short, long) = (self.short.of(kind, name), self.long.of(kind, name));
        (long.0 - short.0, long.1 - short.1)
    }
}

#[test]
fn one_small_copy_a_token_comes_back() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    model(&path);
    for settings in ["0 1 0", "0.7 0.9 0", "0.7 0.95 50"] {
        let more = More::of(&path, settings);
        let (copies, bytes) = more.of_kind("copy", "to the host");
        assert_eq!(copies, MORE, "{settings}");
        assert!(bytes <= MORE * (16 << 10), "{settings}: {bytes}");
        assert_eq!(more.of_kind("wait", "for a stream").0, MORE, "{settings}");
        assert_eq!(more.of_kind("launch", "select_best").0, MORE, "{settings}");
    }
    // As likely each as the other: the draw ends beyond the candidates, and all logits come.
    let (copies, bytes) = More::of(&path, "1e9 1 0").of_kind("copy", "to the host");
    assert!(
        copies > MORE && bytes > MORE / 2 * 32_000,
        "{copies}, {bytes}"
    );
}

#[test]
#[ignore = "run by the test above, alone"]
fn generates() {
    let asked = std::env::var(ASKED).unwrap();
    let asked: Vec<&str> = asked.split(' ').collect();
    let [folder, tokens, temperature, top_p, top_k] = asked[..] else {
        panic!("{asked:?}");
    };
    assert!(fs::exists(folder).unwrap());
    let options = ModelOptions {
        device: PlaceChoice::Cuda(0),
        ..ModelOptions::default()
    };
    let mut model = Model::open(&Source::Directory(folder.into()), options).unwrap();
    let options = GenerationOptions {
        max_new_tokens: tokens.parse().unwrap(),
        ignore_eos: true,
        sampling: Sampling {
            temperature: temperature.parse().unwrap(),
            top_p: top_p.parse().unwrap(),
            top_k: top_k.parse().unwrap(),
            ..Sampling::default()
        },
        ..GenerationOptions::default()
    };
    let mut session = model.session().unwrap();
    let (output, _) = session
        .generate_with_timing(vec![1, 2, 3], options)
        .unwrap();
    assert_eq!(output.tokens.len(), tokens.parse::<usize>().unwrap());
}
