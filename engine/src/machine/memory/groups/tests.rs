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
    /// A system with those lines of `/proc/self/cgroup`, and those mounts.
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
    // It has a namespace of its own.
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
