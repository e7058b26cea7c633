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
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const PROCESS: u32 = 4321;
    /// As the kernel writes that the first version has no limit.
    const NONE_FIRST: &str = "9223372036854771712";

    const FIRST: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup \
                         rw,memory";
    const SECOND: &str = "35 31 0:32 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw";
    /// What comes before and beside them.
    const OTHERS: &str = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                          31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                          32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct";

    /// A made-up system.
    struct System(tempfile::TempDir);

    impl System {
        /// With the lines of `/proc/self/cgroup`, and those mounts.
        fn new(groups: &str, mounts: &[&str]) -> Self {
            let system = Self(tempfile::tempdir().unwrap());
            let mounts = [&[OTHERS], mounts].concat().join("\n");
            system.file("proc/self/cgroup", groups);
            system.file("proc/self/mountinfo", &mounts);
            system
        }

        fn file(&self, name: &str, text: &str) -> &Self {
            let file = self.0.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
            self
        }

        /// A group below the mount: its limit in MiB or in words, what is used of it, and how much
        /// of that are files.
        fn first(&self, group: &str, limit: &str, used: u64, files: u64) -> &Self {
            let at = format!("sys/fs/cgroup/memory/{group}");
            let (used, files) = (used * MIB, files * MIB);
            self.file(&format!("{at}/memory.limit_in_bytes"), &mib(limit))
                .file(&format!("{at}/memory.usage_in_bytes"), &used.to_string())
                .file(
                    &format!("{at}/memory.stat"),
                    // What is in memory only is in the cache as well, and does not give way.
                    &format!(
                        "cache {used}\nshmem 9\ninactive_file 77777\nactive_file 77777\n\
                         hierarchical_memory_limit {NONE_FIRST}\ntotal_cache {used}\n\
                         total_inactive_file {}\ntotal_active_file {}\n",
                        files / 4,
                        files - files / 4
                    ),
                )
        }

        fn second(&self, group: &str, limit: &str, used: u64, files: u64) -> &Self {
            let at = format!("sys/fs/cgroup/{group}");
            let (used, files) = (used * MIB, files * MIB);
            self.file(&format!("{at}/memory.max"), &mib(limit))
                .file(&format!("{at}/memory.high"), "max\n")
                .file(&format!("{at}/memory.current"), &format!("{used}\n"))
                .file(
                    &format!("{at}/memory.stat"),
                    &format!(
                        "anon 5\nfile {used}\nshmem 9\ninactive_file {}\nactive_file {}\n",
                        files / 4,
                        files - files / 4
                    ),
                )
        }

        #[track_caller]
        fn leaves(&self, expected_mib: impl Into<Option<u64>>) -> &Self {
            let left = left_bytes(self.0.path(), PROCESS);
            assert_eq!(left, expected_mib.into().map(|mib| mib * MIB));
            self
        }
    }

    fn mib(limit: &str) -> String {
        match limit.parse::<u64>() {
            Ok(mib) if mib < 1 << 30 => format!("{}\n", mib * MIB),
            _ => format!("{limit}\n"),
        }
    }

    #[test]
    fn the_least_of_all_ancestors_counts_in_both_versions() {
        let system = System::new("5:cpu,cpuacct:/else\n4:memory:/a/b/c\n", &[FIRST]);
        system.first("", NONE_FIRST, 5000, 0).leaves(None);
        system.first("a/b/c", "900", 100, 0).leaves(800);
        system.first("a/b", NONE_FIRST, 100, 0).leaves(800);
        // More in all and less left; of what is used, files give way.
        system.first("a", "1000", 900, 300).leaves(400);
        system.first("a", "1000", 1200, 100).leaves(0);
        // A neighbour's is not ours.
        system
            .first("a", "1000", 100, 0)
            .first("a/b/other", "1", 0, 0)
            .leaves(800);

        let system = System::new("0::/user.slice/job\n", &[SECOND]);
        system
            .leaves(None)
            .second("user.slice/job", "max", 10, 0)
            .leaves(None);
        system.second("user.slice", "700", 300, 200).leaves(600);
        system.second("user.slice/job", "500", 10, 10).leaves(500);
        // Beyond it the process is not ended, but slowed down.
        let high = "sys/fs/cgroup/user.slice/job/memory.high";
        system.file(high, &mib("450")).leaves(450);
    }

    #[test]
    fn where_both_are_mounted_the_one_that_limits_memory_counts() {
        let second = "38 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let groups = "9:name=systemd:/x\n4:memory:/batch\n0::/x\n";
        let system = System::new(groups, &[FIRST, second]);
        system.file("sys/fs/cgroup/unified/x/cgroup.procs", "4321\n");
        system.first("batch", "300", 100, 50).leaves(250);
    }

    #[test]
    fn limits_out_of_sight_are_told_by_the_group_itself() {
        let system = System::new("4:memory:/docker/c0ffee\n", &[FIRST]);
        let stat = "sys/fs/cgroup/memory/docker/c0ffee/memory.stat";
        let told = format!(
            "hierarchical_memory_limit {}\ntotal_inactive_file 0\n",
            400 * MIB
        );
        system
            .first("docker/c0ffee", "900", 100, 0)
            .file(stat, &told)
            .leaves(300);
    }

    #[test]
    fn a_group_that_does_not_count_for_those_above_ends_the_walk() {
        let system = System::new("4:memory:/a/b\n", &[FIRST]);
        system
            .first("a/b", "900", 100, 0)
            .first("a", "50", 0, 0)
            .leaves(50);
        let above = "sys/fs/cgroup/memory/a/memory.use_hierarchy";
        system.file(above, "0\n").leaves(800);
        system.file(above, "1\n").leaves(50);
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_mounts_root() {
        // With a namespace of its own.
        let system = System::new("0::/\n", &[SECOND]);
        system.second("", "512", 12, 0).leaves(500);
        // Without, over a part of the hierarchy that is mounted.
        for (path, below) in [("/docker/c0ffee", ""), ("/docker/c0ffee/x", "x")] {
            let mount = FIRST.replace(" / /sys", " /docker/c0ffee /sys");
            let system = System::new(&format!("4:memory:{path}\n"), &[&mount]);
            system.first(below, "512", 12, 0).leaves(500);
        }
        // The path is the host's, and what is mounted is the container's: older container runners.
        let system = System::new("4:memory:/docker/c0ffee\n", &[FIRST]);
        system.first("", "512", 12, 0).leaves(500);
        let mount = SECOND.replace(" / /sys", " /elsewhere /sys");
        let system = System::new("0::/docker/c0ffee\n", &[&mount]);
        system.second("", "512", 12, 0).leaves(500);
        // A name that only begins alike is another's.
        let mount = FIRST.replace(" / /sys", " /docker/c0 /sys");
        let system = System::new("4:memory:/docker/c0ffee\n", &[FIRST, &mount]);
        system.first("docker/c0ffee", "512", 12, 0).leaves(500);
    }

    #[test]
    fn a_mount_from_above_the_namespace_is_searched_for_the_process() {
        let mount = SECOND.replace(" / /sys", " /../.. /sys");
        let system = System::new("0::/job\n", &[&mount]);
        system
            .second("", "max", 0, 0)
            .second("pods", "900", 0, 0)
            .leaves(None);
        system
            .second("pods/other/job", "5", 0, 0)
            .file("sys/fs/cgroup/pods/other/job/cgroup.procs", "1\n43210\n")
            .second("pods/ours/job", "700", 100, 0)
            .file("sys/fs/cgroup/pods/ours/job/cgroup.procs", "17\n4321\n")
            .leaves(600);
        system.second("pods", "650", 100, 0).leaves(550);
        // The process is outside of its namespace, and not where the mount is.
        let system = System::new("0::/../job\n", &[SECOND]);
        system
            .second("", "512", 12, 0)
            .second("job", "5", 0, 0)
            .leaves(500);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!(unescaped(r"/a\040b\011\134c\12"), "/a b\t\\c\\12");
        let mount = FIRST.replace("/sys/fs/cgroup/memory", r"/my\040groups");
        let system = System::new("4:memory:/a:b c\n", &[&mount]);
        let at = "my groups/a:b c";
        system
            .file(&format!("{at}/memory.limit_in_bytes"), &mib("300"))
            .file(&format!("{at}/memory.usage_in_bytes"), "0\n")
            .leaves(300);
    }

    #[test]
    fn what_makes_no_sense_is_no_limit() {
        for (groups, mounts) in [
            ("", ""),
            (
                "4:memory\nmemory:/x\n:::\n1:memory:/x\n0::/x",
                "35 31 0:32 /\n- cgroup2\n - \n",
            ),
            ("0::/x\n", "35 31 0:32 / /sys/fs/cgroup rw - cgroup2"),
        ] {
            let system = System::new(groups, &[mounts]);
            system
                .file("sys/fs/cgroup/x/memory.max", "many\n")
                .leaves(None);
        }
        let system = System::new("0::/x\n", &[SECOND]);
        system.second("x", "-5", 3, 0).leaves(None);
        system
            .second("x", "18446744073709551615", 3, 0)
            .leaves(None);
        system
            .second("x", "99999999999999999999999", 3, 0)
            .leaves(None);
        assert_eq!(left_bytes(Path::new("/nowhere"), PROCESS), None);
    }
}
