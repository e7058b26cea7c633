//! A worse system than the one at hand: `faults.c`, compiled once and preloaded into the engine.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::common::command;

/// The engine with the faults that these variables of `faults.c` describe.
pub fn faulty(faults: &[(&str, &str)]) -> Command {
    let mut command = command();
    command.env("LD_PRELOAD", library());
    command.envs(faults.iter().copied());
    command
}

fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let library = folder.join("faults.so");
        // Beside its place first: another run of the tests may have it loaded.
        let part = folder.join(format!("faults.{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/faults.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&part)
            .args([source, "-ldl"])
            .status()
            .unwrap_or_else(|error| panic!("these tests need cc, as linking does: {error}"));
        assert!(compiled.success(), "cc cannot compile {source}");
        std::fs::rename(&part, &library).unwrap();
        library
    })
}
