//! The malformed checkpoints of `corpus/`: each is refused with its own words, within a second, and
//! without allocating because of a number in a file. `corpus/make.py` made them and says what each
//! of them is; the program is run over the same ones in `cli/tests`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "corpus/corpus.rs"]
mod corpus;
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use corpus::Corpus;
use engine::text::{Chat, ChatTemplate, Message, panics_are_errors};
use engine::{Blueprint, EngineError, ModelOptions, Source};
use support::Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// What opening any small checkpoint takes. Nearly all of it is for the patterns of a tokenizer,
/// which may become programs of ten megabytes.
const OPENING_BYTES_MAX: usize = 32 << 20;

const TIME_MAX: Duration = Duration::from_secs(1);

/// Everything that is read before the first weight.
fn open(directory: &Path) -> Result<(), EngineError> {
    let source = Source::Directory(directory.to_path_buf());
    let blueprint = Blueprint::new(&source, ModelOptions::default())?;
    let tokens = blueprint.encode("a b")?;
    blueprint.check_tokens(&tokens, 0)?;
    let prompter = blueprint.prompter()?;
    let rendered = prompter.render(&Chat::new([Message::new("user", "a b")]), None)?;
    prompter.encode(&rendered.text, false)?;
    Ok(())
}

// One test: the counters are the process's.
#[test]
fn each_is_refused_in_its_own_words_quickly_and_without_memory() {
    let corpus = Corpus::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus"));
    let cases = &corpus.cases;
    open(&corpus.path("fine")).unwrap();
    // A backtrace would be the largest thing here.
    std::panic::set_hook(Box::new(|panic| {
        if !panics_are_errors() {
            eprintln!("{panic}");
        }
    }));
    let mut wrong = Vec::new();
    for (name, expected) in cases {
        let measured = || {
            let started = Instant::now();
            let (result, peak) = Counting::peak_of(|| open(&corpus.path(name)));
            (result, peak, started.elapsed())
        };
        let (result, peak, mut took) = measured();
        if took > TIME_MAX {
            // The machine may have been busy with something else.
            took = measured().2;
        }
        let (text, hint) = match result {
            Ok(()) => ("(no error)".to_owned(), None),
            Err(error) => (error.to_string(), error.hint()),
        };
        assert!(matches!(expected.exit, 1 | 3), "{name}");
        let missing = expected.words.iter().find(|&word| !text.contains(word));
        let memory_max = match name.starts_with("template-") {
            true => ChatTemplate::MEMORY_BYTES_MAX,
            false => OPENING_BYTES_MAX,
        };
        if missing.is_some() || hint.is_none() || peak > memory_max || took > TIME_MAX {
            wrong.push(format!(
                "{name}: {text}\n    missing {missing:?}, hint {hint:?}, {peak} bytes, {took:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}
