//! Files that are whole or absent.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes beside the place, then renames: a reader never sees half a file, and a full disk leaves
/// what was there before.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    build_whole(path, |to| to.write_all(bytes)).map(|_bytes| ())
}

/// The same for a file that is made as it is written; returns its size.
pub fn build_whole(
    path: &Path,
    build: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<u64> {
    let beside = beside(path)?;
    let written = fill(&beside, build).and_then(|bytes| {
        fs::rename(&beside, path)?;
        Ok(bytes)
    });
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Whether a file could be put here: its folder takes a new one, and no folder is in its place.
pub fn try_place(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let beside = beside(path)?;
    File::create(&beside)?;
    fs::remove_file(&beside)
}

fn fill(
    path: &Path,
    build: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<u64> {
    let mut to = BufWriter::new(File::create(path)?);
    build(&mut to)?;
    Ok(to.into_inner()?.metadata()?.len())
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let mut name = OsString::from(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(format!(".{}.part", std::process::id()));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_fails_half_way_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stats.json");
        fs::write(&path, "before").unwrap();
        let failed = build_whole(&path, |to| {
            to.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let files = || fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(
            (fs::read_to_string(&path).unwrap().as_str(), files()),
            ("before", 1)
        );
        assert_eq!(build_whole(&path, |to| to.write_all(b"after!")).unwrap(), 6);
        assert_eq!(
            (fs::read_to_string(&path).unwrap().as_str(), files()),
            ("after!", 1)
        );
        try_place(&path).unwrap();
        assert_eq!(files(), 1);
        assert!(try_place(folder.path()).is_err());
        assert!(try_place(&folder.path().join("none/trace.json")).is_err());
    }
}
