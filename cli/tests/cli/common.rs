//! The built binary, run as a user runs it, and checkpoints to run it on.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use loader::Family;
use loader::synth::{self, SynthSpec};
use serde_json::Value;
use tempfile::TempDir;

/// What a run came to.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A clear error with a next step, and not a word on stdout.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(self.stderr.contains("error: "), "{self:?}");
        assert!(self.stderr.contains("\nhint: "), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {self:?}");
        }
        self
    }
}

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

pub fn engine<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    let output = command().args(args).output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `engine` with the words of one line; paths with spaces need [`engine`].
pub fn run(line: &str) -> Run {
    engine(line.split_whitespace())
}

/// A checkpoint on disk that goes away with the test.
pub struct Made {
    _temp: TempDir,
    pub dir: PathBuf,
}

impl Made {
    pub fn name(&self) -> String {
        self.dir.display().to_string()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `engine SUBCOMMAND --model DIR ...`.
    pub fn run(&self, subcommand: &str, rest: &str) -> Run {
        let name = self.name();
        let start = [subcommand, "--model", &name];
        engine(start.into_iter().chain(rest.split_whitespace()))
    }
}

pub fn make(spec: &SynthSpec) -> Made {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    synth::write(&dir, spec, &mut |_, _| {}).unwrap();
    Made { _temp: temp, dir }
}

/// Three layers, 256 tokens of vocabulary, 512 positions.
pub fn tiny() -> SynthSpec {
    SynthSpec::tiny(Family::QWEN2)
}

/// A tokenizer of as many words as asked for: `w0`, `w1`, ...
pub fn write_tokenizer(dir: &Path, words: usize) {
    let vocabulary: serde_json::Map<String, Value> = (0..words)
        .map(|word| (format!("w{word}"), word.into()))
        .collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"}
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}
