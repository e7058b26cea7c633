//! The malformed checkpoints of `corpus/`: each is refused with its own words, within a second, and
//! without allocating because of a number in a file. `corpus/make.py` made them and says what each
//! of them is; the program is run over the same ones in `cli/tests`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "corpus/corpus.rs"]
mod corpus;
mod support;

use std::path::Path;
use std::time::Duration;

use corpus::Corpus;
use engine::text::{Chat, ChatTemplate, Message, panics_are_errors};
use engine::{Blueprint, EngineError, ModelOptions, Source};
use support::Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// What opening any small checkpoint takes. Nearly all of it is for the patterns of a tokenizer,
/// which may become programs of ten megabytes.
const OPENING_BYTES_MAX: usize = 32 << 20;

/// Of the processor.
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

/// Of this process and all its threads: what else the machine is busy with is not in it.
fn processor_time() -> Duration {
    const TICKS_PER_S: u64 = 100;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program may have spaces; what follows it has none.
    let (_, after) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS_PER_S)
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
            let before = processor_time();
            let (result, peak) = Counting::peak_of(|| open(&corpus.path(name)));
            (result, peak, processor_time() - before)
        };
        let (result, peak, mut took) = measured();
        if took > TIME_MAX {
            // A neighbour on the same core makes its time longer.
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
