//! Tensors that a checkpoint has and its model does not read, in words and for programs.

use loader::{Checkpoint, Unread};
use serde::Serialize;

use crate::output::gigabytes;

#[derive(Debug, Serialize)]
pub struct UnreadTensors {
    purpose: &'static str,
    tensors: usize,
    bytes: u64,
    example: String,
}

pub fn of(checkpoint: &Checkpoint) -> Vec<UnreadTensors> {
    let described = |unread: Unread| UnreadTensors {
        purpose: unread.purpose.name(),
        tensors: unread.tensors,
        bytes: unread.bytes,
        example: unread.example,
    };
    checkpoint.unread().into_iter().map(described).collect()
}

impl std::fmt::Display for UnreadTensors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tensors = match self.tensors {
            1 => "1 tensor".into(),
            tensors => format!("{tensors} tensors"),
        };
        let bytes = gigabytes(self.bytes);
        write!(
            f,
            "{tensors} of {bytes}, {} ({}",
            self.purpose, self.example
        )?;
        f.write_str(if self.tensors > 1 { ", ...)" } else { ")" })
    }
}

/// Files of weights beside those that are read, in words.
pub fn files_line(files: &[String]) -> Option<String> {
    match files {
        [] => None,
        [file] => Some(format!("the file {file}, which is no part of this model")),
        files => Some(format!(
            "the files {}, which are no part of this model",
            files.join(", ")
        )),
    }
}

/// The line that a plan has of them, and of files of weights that are not read at all, where there
/// are any.
pub fn line(unread: &[UnreadTensors], files: &[String]) -> Option<String> {
    let mut all: Vec<String> = unread.iter().map(ToString::to_string).collect();
    all.extend(files_line(files));
    (!all.is_empty()).then(|| format!("Not read: {}", all.join("; ")))
}
