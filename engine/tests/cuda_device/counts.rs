//! What a process asked of the stand-in for a device, as the stand-in counted it.

use std::collections::BTreeMap;
use std::process::Output;

/// Where the stand-in is to write its counts.
pub const COUNT: &str = "CUDA_STAND_IN_COUNT";

/// Times and bytes, by kind and name.
#[derive(Debug)]
pub struct Counts(BTreeMap<(String, String), (u64, u64)>);

impl Counts {
    pub fn of(&self, kind: &str, name: &str) -> (u64, u64) {
        let key = (kind.to_owned(), name.to_owned());
        self.0.get(&key).copied().unwrap_or_default()
    }

    /// Of a kind, whatever its names.
    pub fn all(&self, kind: &str) -> (u64, u64) {
        let of_kind = self.0.iter().filter(|((of, _), _)| of == kind);
        of_kind.fold((0, 0), |(times, bytes), (_, sum)| {
            (times + sum.0, bytes + sum.1)
        })
    }
}

/// The counts of a process that is told which file to write them to.
pub fn counts_of(run: impl FnOnce(&str) -> Output) -> Counts {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counts.tsv");
    let output = run(file.to_str().unwrap());
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [kind, name, times, bytes] = fields[..] else {
            panic!("{line}");
        };
        let key = (kind.to_owned(), name.to_owned());
        (key, (times.parse().unwrap(), bytes.parse().unwrap()))
    };
    Counts(text.lines().skip(1).map(line).collect())
}
