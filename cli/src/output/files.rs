//! Files that are whole or absent.
//!
//! A file is written under another name beside its place and then renamed. The files under way are
//! on one list, whose lock is held while one is made or renamed: the thread that ends the process
//! takes the lock for good, removes what is on the list, and knows that nothing comes after it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

static UNDER_WAY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Writes beside the place, then renames: a reader never sees half a file, and a full disk leaves
/// what was there before.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    build_whole(path, |to| to.write_all(bytes)).map(|_bytes| ())
}

/// The same for a file that is made as it is written; returns its size. A device or a pipe gets
/// the bytes as they come: a rename would put a file in its place.
pub fn build_whole(
    path: &Path,
    build: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<u64> {
    if takes_bytes_as_they_come(path) {
        return fill(File::options().write(true).open(path)?, build);
    }
    let path = behind_links(path);
    let (part, file) = Part::create(beside(&path)?)?;
    let bytes = fill(file, build)?;
    part.rename_to(&path)?;
    Ok(bytes)
}

/// Whether a file could be put here: its folder takes a new one, and no folder is in its place.
pub fn try_place(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if takes_bytes_as_they_come(path) {
        return Ok(());
    }
    Part::create(beside(&behind_links(path))?).map(|_removed| ())
}

/// Removes what is half-written, and keeps it from being finished: the process is about to end.
pub fn abandon() {
    remove_all(under_way());
}

/// The same, where the caller may hold the list's lock.
pub fn abandon_if_free() {
    match UNDER_WAY.try_lock() {
        Ok(parts) => remove_all(parts),
        Err(TryLockError::Poisoned(parts)) => remove_all(parts.into_inner()),
        Err(TryLockError::WouldBlock) => {}
    }
}

/// A folder that is made under another name first; its maker removes it if that fails.
#[derive(Debug)]
pub struct PartFolder(PathBuf);

impl PartFolder {
    pub fn announce(path: PathBuf) -> Self {
        under_way().push(path.clone());
        Self(path)
    }
}

impl Drop for PartFolder {
    fn drop(&mut self) {
        under_way().retain(|path| *path != self.0);
    }
}

fn remove_all(parts: MutexGuard<'_, Vec<PathBuf>>) {
    /// A folder may be written into while it is removed.
    const TRIES: usize = 100;
    for part in &*parts {
        let gone = |_: &usize| match part.is_dir() {
            true => fs::remove_dir_all(part).is_ok(),
            false => fs::remove_file(part).is_ok() || !part.exists(),
        };
        // A part that stays cannot be reported.
        let _ = (0..TRIES).find(gone);
    }
    // The lock is kept for good: see the module.
    std::mem::forget(parts);
}

fn under_way() -> MutexGuard<'static, Vec<PathBuf>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file beside its place. Removed unless it is renamed.
#[derive(Debug)]
struct Part(PathBuf);

impl Part {
    fn create(path: PathBuf) -> io::Result<(Self, File)> {
        let mut under_way = under_way();
        let file = File::create(&path)?;
        under_way.push(path.clone());
        Ok((Self(path), file))
    }

    fn rename_to(self, path: &Path) -> io::Result<()> {
        let _under_way = under_way();
        fs::rename(&self.0, path)
        // Dropping finds nothing under the old name.
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut under_way = under_way();
        let _ = fs::remove_file(&self.0);
        under_way.retain(|path| *path != self.0);
    }
}

/// A link stays, and the file that it leads to is written.
fn behind_links(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn takes_bytes_as_they_come(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

fn fill(file: File, build: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<u64> {
    let mut to = BufWriter::new(file);
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
