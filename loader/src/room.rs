//! How much room the disk of a path has.

use std::path::Path;

/// Room on the file system that a path is on, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskRoom {
    pub total_bytes: u64,
    /// What this user may fill.
    pub free_bytes: u64,
}

/// `None` where the system does not say. What does not exist yet is asked about where it would be.
pub fn disk_room(path: &Path) -> Option<DiskRoom> {
    let absolute = std::path::absolute(path).ok()?;
    let there = absolute.ancestors().find(|path| path.exists())?;
    room_of(there)
}

#[cfg(unix)]
fn room_of(path: &Path) -> Option<DiskRoom> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(DiskRoom {
        total_bytes: found.f_blocks.checked_mul(found.f_frsize)?,
        free_bytes: found.f_bavail.checked_mul(found.f_frsize)?,
    })
}

#[cfg(not(unix))]
fn room_of(_path: &Path) -> Option<DiskRoom> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_what_does_not_exist_is_that_of_its_folder() {
        let temp = tempfile::tempdir().unwrap();
        let here = disk_room(temp.path()).unwrap();
        assert!(
            here.free_bytes > 0 && here.free_bytes <= here.total_bytes,
            "{here:?}"
        );
        let there = disk_room(&temp.path().join("a/b/c")).unwrap();
        assert_eq!(there.total_bytes, here.total_bytes);
    }
}
