//! What the control groups that this process is in leave of their memory. A limit holds for a
//! group and all below it, so the least that any of them leaves is what counts: first and second
//! version, and both at once. Knows paths and numbers; only text files are read, below a root that
//! tests choose.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{line_number, text};

/// The root group of the first version has a limit too, of nearly all numbers there are.
const NO_LIMIT: u64 = 1 << 60;

/// A group that another namespace hides the name of is looked for among so many.
const LOOKED_AT_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

/// A hierarchy as it is mounted: the group `root` and what is below it is at `at`. Both as they
/// read in this process's namespace; where that namespace begins below `root`, it starts with `..`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    root: PathBuf,
    at: PathBuf,
}

/// The least that is left in any group of the process `process`. `system` is `/`, but for tests.
pub(super) fn left_bytes(system: &Path, process: u32) -> Option<u64> {
    let groups = text(&system.join("proc/self/cgroup"))?;
    let mounts = text(&system.join("proc/self/mountinfo"))?;
    let mounts: Vec<Mount> = mounts.lines().filter_map(mount).collect();
    let left = groups
        .lines()
        .filter_map(group)
        .flat_map(|(version, path)| {
            let mut shown: Vec<(PathBuf, PathBuf)> = of_version(&mounts, version)
                .filter_map(|mount| {
                    let top = below_root(system, &mount.at);
                    let own = top.join(folder(&top, &mount.root, &path, process)?);
                    Some((top, own))
                })
                .collect();
            if shown.is_empty() {
                // No mount shows the group: then what is mounted is all that can be known of it.
                let tops = of_version(&mounts, version).map(|mount| below_root(system, &mount.at));
                shown.extend(tops.take(1).map(|top| (top.clone(), top)));
            }
            shown
                .into_iter()
                .filter_map(move |(top, own)| left_up_to(version, &top, &own))
        });
    left.min()
}

fn of_version(mounts: &[Mount], version: Version) -> impl Iterator<Item = &Mount> {
    mounts.iter().filter(move |mount| mount.version == version)
}

/// The least that is left in the group `own` and those above it.
fn left_up_to(version: Version, top: &Path, own: &Path) -> Option<u64> {
    // In the first version a group could be told that those below it are none of its business.
    let counts =
        |group: &&Path| *group == own || number(&group.join("memory.use_hierarchy")) != Some(0);
    own.ancestors()
        .take_while(|group| group.starts_with(top))
        .take_while(counts)
        .filter_map(|group| left_in(version, group))
        .min()
}

/// A line of `/proc/self/cgroup`: the hierarchy that can limit memory, and the process's group.
fn group(line: &str) -> Option<(Version, PathBuf)> {
    let (number, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let version = match controllers {
        "" if number == "0" => Version::Second,
        _ if controllers.split(',').any(|name| name == "memory") => Version::First,
        _ => return None,
    };
    Some((version, path.into()))
}

/// A line of `/proc/self/mountinfo`, if it is of such a hierarchy.
fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, at) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let version = match kind.next()? {
        "cgroup2" => Version::Second,
        "cgroup" if kind.nth(1)?.split(',').any(|option| option == "memory") => Version::First,
        _ => return None,
    };
    Some(Mount {
        version,
        root: unescaped(root).into(),
        at: unescaped(at).into(),
    })
}

/// Spaces and the like are written as three octal digits.
fn unescaped(text: &str) -> String {
    let mut plain = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(code.unwrap_or(first));
        rest = if code.is_some() { &rest[4..] } else { after };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Where the group `path` is below `top`, at which the group `root` is mounted; nothing where it
/// is not there. All names are as this process reads them.
fn folder(top: &Path, root: &Path, path: &Path, process: u32) -> Option<PathBuf> {
    let names = |path: &Path| -> Vec<PathBuf> {
        let named = |part: &Component<'_>| !matches!(part, Component::RootDir);
        let parts = path.components().filter(named);
        parts.map(|part| PathBuf::from(part.as_os_str())).collect()
    };
    let (root, path) = (names(root), names(path));
    let same = root.iter().zip(&path).take_while(|(a, b)| a == b).count();
    let (above, below) = (&root[same..], path[same..].iter().collect::<PathBuf>());
    let up = Path::new("..");
    if below.starts_with(up) || above.iter().any(|name| name != up) {
        return None;
    }
    // Where the mount begins above this process's namespace, the names between are hidden. The
    // group that has this process is the one.
    let mut between = vec![PathBuf::new()];
    for _ in above {
        let inside = between.iter().flat_map(|group| folders(top, group));
        between = inside.take(LOOKED_AT_MAX).collect();
    }
    if above.is_empty() {
        return Some(below);
    }
    let has_it = |group: &PathBuf| {
        let processes = text(&top.join(group).join("cgroup.procs")).unwrap_or_default();
        processes.lines().any(|line| line.parse() == Ok(process))
    };
    let mut groups = between.into_iter().map(|group| group.join(&below));
    // Where it is not found, the mount's own limit still holds.
    Some(groups.find(has_it).unwrap_or_default())
}

/// The folders inside `top/group`, as they are named below `top`.
fn folders(top: &Path, group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(top.join(group)) else {
        return Vec::new();
    };
    let folders = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let is_folder = entry.file_type().ok()?.is_dir();
        is_folder.then(|| group.join(entry.file_name()))
    });
    folders.collect()
}

/// What one group leaves, if it has a limit.
fn left_in(version: Version, group: &Path) -> Option<u64> {
    let at = |name: &str| number(&group.join(name));
    let stat = |field: &str| line_number(&group.join("memory.stat"), field);
    let (limits, used, files) = match version {
        Version::First => (
            // The second is the least of this group and those above, the ones out of sight too.
            [
                at("memory.limit_in_bytes"),
                stat("hierarchical_memory_limit "),
            ],
            at("memory.usage_in_bytes")?,
            ["total_inactive_file ", "total_active_file "],
        ),
        Version::Second => (
            // Beyond the first it is ended, beyond the second it is slowed down until it crawls.
            [at("memory.max"), at("memory.high")],
            at("memory.current")?,
            ["inactive_file ", "active_file "],
        ),
    };
    let limit = limits
        .into_iter()
        .flatten()
        .filter(|&limit| limit < NO_LIMIT)
        .min()?;
    // Files that were read count as used, and give way when memory is asked for.
    let files: u64 = files.into_iter().filter_map(stat).sum();
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

fn number(file: &Path) -> Option<u64> {
    text(file)?.trim().parse().ok()
}

/// An absolute path as it is below `system`.
fn below_root(system: &Path, path: &Path) -> PathBuf {
    system.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests;
