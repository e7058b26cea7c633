//! Results kept in a folder of their own, dated, with the machine: a number without them says
//! little a month later.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engine::Machine;

use super::results::Results;
use super::tables;
use crate::failure::Failure;
use crate::output::{try_place, write_whole};

/// Names tried before giving up.
const RUNS_MAX: usize = 1000;

fn folder_of(folder: &Path, date: &str, machine: &Machine) -> PathBuf {
    folder.join(format!("{date}-{}", machine.slug()))
}

/// Makes the folder, and sees whether it takes a file: measuring can take hours.
pub fn try_folder(folder: &Path, date: &str, machine: &Machine) -> Result<(), Failure> {
    let folder = folder_of(folder, date, machine);
    fs::create_dir_all(&folder)
        .and_then(|()| try_place(&folder.join("bench-1.txt")))
        .map_err(|error| Failure::not_written(&folder, error))
}

/// Writes `bench-K.txt` and `bench-K.json`, K the first that is free; returns the text's path.
pub fn save(folder: &Path, results: &Results) -> Result<PathBuf, Failure> {
    let folder = folder_of(folder, &results.date, &results.machine);
    fs::create_dir_all(&folder).map_err(|error| Failure::not_written(&folder, error))?;
    let free = |number: &usize| !folder.join(format!("bench-{number}.txt")).exists();
    let number = (1..RUNS_MAX).find(free).unwrap_or(RUNS_MAX);
    let json = serde_json::to_vec_pretty(&results.json()).map_err(io::Error::from);
    let path = folder.join(format!("bench-{number}.json"));
    json.and_then(|json| write_whole(&path, &json))
        .map_err(|error| Failure::not_written(&path, error))?;
    let path = folder.join(format!("bench-{number}.txt"));
    write_whole(&path, tables::text(results).as_bytes())
        .map_err(|error| Failure::not_written(&path, error))?;
    Ok(path)
}
