//! The malformed checkpoints beside this file, for the tests of the library and of the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;

/// How one of them must be refused.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// Of the program; the library has no such thing.
    pub exit: i32,
    pub words: Vec<String>,
    /// Symbolic links to make in a copy: the source tree has none.
    #[serde(default)]
    links: BTreeMap<String, String>,
}

pub struct Corpus {
    pub cases: BTreeMap<String, Case>,
    folder: PathBuf,
    copies: TempDir,
}

impl Corpus {
    /// `folder`: where this file is.
    pub fn open(folder: PathBuf) -> Self {
        let json = fs::read(folder.join("expected.json")).unwrap();
        let cases: BTreeMap<String, Case> = serde_json::from_slice(&json).unwrap();
        assert!(cases.len() >= 320, "{}", cases.len());
        let corpus = Self {
            cases,
            folder: folder.join("checkpoints"),
            copies: tempfile::tempdir().unwrap(),
        };
        corpus.copy("fine");
        for (name, case) in &corpus.cases {
            if !case.links.is_empty() {
                let copy = corpus.copy(name);
                for (file, target) in &case.links {
                    link(target, &copy.join(file));
                }
            }
        }
        corpus
    }

    /// The directory of a checkpoint; `fine` is one that is in order.
    pub fn path(&self, name: &str) -> PathBuf {
        match self.copies.path().join(name) {
            copy if copy.exists() => copy,
            _ => self.folder.join(name),
        }
    }

    fn copy(&self, name: &str) -> PathBuf {
        let to = self.copies.path().join(name);
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(self.folder.join(name)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        to
    }
}

#[cfg(unix)]
fn link(target: &str, at: &Path) {
    std::os::unix::fs::symlink(target, at).unwrap();
}

#[cfg(not(unix))]
fn link(_target: &str, at: &Path) {
    panic!(
        "{} is a link, and links are made on unix only here",
        at.display()
    );
}
