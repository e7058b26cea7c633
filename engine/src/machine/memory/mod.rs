//! How much memory there is and how much this process has used, as the system tells it.

use std::fs;
use std::path::Path;
use std::process;
use std::sync::OnceLock;

mod groups;

/// What sets a limit on memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// The user: `--memory`.
    Given,
    /// The memory of a device.
    Device,
    /// What the machine has left.
    Available,
    /// A control group: a container, a service, a batch job.
    ControlGroup,
    /// The shell's limit on the process's addresses.
    AddressSpace,
    /// The shell's limit on private memory that is written to.
    DataSize,
    /// A system that promises no more than it has.
    Committed,
}

impl LimitKind {
    /// The name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Device => "device",
            Self::Available => "available",
            Self::ControlGroup => "control_group",
            Self::AddressSpace => "address_space",
            Self::DataSize => "data_size",
            Self::Committed => "committed",
        }
    }

    /// Whether it is on what a process asks for, touched or not: stacks count whole, and so does
    /// what only makes addresses even.
    pub fn counts_untouched(self) -> bool {
        matches!(self, Self::AddressSpace | Self::DataSize | Self::Committed)
    }

    /// What stays free for others where the user has not said how much to take. The system's own
    /// estimate knows only this moment; what fills a control group gets its process killed. The
    /// other limits are this process's alone.
    pub fn spare_bytes(self, left_bytes: u64) -> u64 {
        match self {
            Self::Available | Self::ControlGroup => left_bytes / SPARED,
            _ => 0,
        }
    }
}

/// One part in so many.
const SPARED: u64 = 32;

/// A limit, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub kind: LimitKind,
    pub left_bytes: u64,
}

/// Every limit on this process that the system tells of.
pub fn limits() -> Vec<Limit> {
    limits_of(Path::new("/"), process::id())
}

/// The same of a made-up system.
fn limits_of(system: &Path, process: u32) -> Vec<Limit> {
    let field = |file: &str, field: &str| line_number(&system.join(file), field);
    let kib = |file: &str, name: &str| field(file, name)?.checked_mul(1024);
    let of_process = |limit: &str, used: &str| {
        let limit = field("proc/self/limits", limit)?;
        Some(limit.saturating_sub(kib("proc/self/status", used)?))
    };
    let committed = || {
        let strict = text(&system.join("proc/sys/vm/overcommit_memory"))?.trim() == "2";
        let limit = kib("proc/meminfo", "CommitLimit:").filter(|_| strict)?;
        Some(limit.saturating_sub(kib("proc/meminfo", "Committed_AS:")?))
    };
    let left = [
        (LimitKind::Available, kib("proc/meminfo", "MemAvailable:")),
        (LimitKind::ControlGroup, groups::left_bytes(system, process)),
        (
            LimitKind::AddressSpace,
            of_process("Max address space", "VmSize:"),
        ),
        (LimitKind::DataSize, of_process("Max data size", "VmData:")),
        (LimitKind::Committed, committed()),
    ];
    let limit = |(kind, left_bytes): (_, Option<u64>)| {
        Some(Limit {
            kind,
            left_bytes: left_bytes?,
        })
    };
    left.into_iter().filter_map(limit).collect()
}

/// Memory that can be used without swapping: the least that any limit leaves. `None` where the
/// system tells of none.
pub fn available_bytes() -> Option<u64> {
    limits().iter().map(|limit| limit.left_bytes).min()
}

/// The limit on the process's address space (`ulimit -v`), where there is one.
pub fn address_space_limit_bytes() -> Option<u64> {
    line_number(Path::new("/proc/self/limits"), "Max address space")
}

/// What the machine has.
pub fn installed_bytes() -> Option<u64> {
    field_bytes("/proc/meminfo", "MemTotal:")
}

/// The most memory this process has held at once.
pub fn peak_bytes() -> Option<u64> {
    field_bytes("/proc/self/status", "VmHWM:")
}

/// The memory this process holds now.
pub fn held_bytes() -> Option<u64> {
    field_bytes("/proc/self/status", "VmRSS:")
}

/// The heap of the program, before a model is in it.
static HEAP_BYTES: OnceLock<Option<u64>> = OnceLock::new();

/// Notes what the program itself takes, once in a process: to be called before a model is opened.
pub(crate) fn note_program() {
    HEAP_BYTES.get_or_init(|| field_bytes("/proc/self/status", "RssAnon:"));
}

/// What the program itself takes: its heap as it was noted, and what is in use of its files by now.
pub(crate) fn program_bytes() -> Option<u64> {
    let heap = (*HEAP_BYTES.get()?)?;
    Some(heap + field_bytes("/proc/self/status", "RssFile:")?)
}

fn field_bytes(path: &str, field: &str) -> Option<u64> {
    line_number(Path::new(path), field)?.checked_mul(1024)
}

/// The number that follows `field` at the start of a line.
fn line_number(path: &Path, field: &str) -> Option<u64> {
    let text = text(path)?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    line[field.len()..].split_whitespace().next()?.parse().ok()
}

/// A file of the system's. The names in it are whatever people called their folders.
fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_that_the_system_tells_of_is_found() {
        let system = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = system.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let left = || -> Vec<_> {
            let limits = limits_of(system.path(), 1);
            limits
                .iter()
                .map(|limit| (limit.kind.name(), limit.left_bytes))
                .collect()
        };
        assert_eq!(left(), []);
        let meminfo = "MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable:    6000 kB\n\
                       CommitLimit: 5000 kB\nCommitted_AS: 1000 kB\n";
        write("proc/meminfo", meminfo);
        write(
            "proc/self/status",
            "VmPeak: 9 kB\nVmSize:\t   100 kB\nVmData:\t 30 kB\n",
        );
        let limits = |data: &str, space: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max data size             {data}               unlimited            bytes\n\
                 Max stack size            8388608              unlimited            bytes\n\
                 Max address space         {space}              unlimited            bytes\n"
            )
        };
        write("proc/self/limits", &limits("unlimited", "unlimited"));
        let available = ("available", 6000 * 1024);
        assert_eq!(left(), [available]);
        write("proc/self/limits", &limits("31000000", "unlimited"));
        assert_eq!(left(), [available, ("data_size", 31_000_000 - 30 * 1024)]);
        write("proc/self/limits", &limits("unlimited", "1024"));
        assert_eq!(left(), [available, ("address_space", 0)]);
        write("proc/self/limits", &limits("unlimited", "unlimited"));
        // Only where the system is strict about it.
        write("proc/sys/vm/overcommit_memory", "0\n");
        assert_eq!(left(), [available]);
        write("proc/sys/vm/overcommit_memory", "2\n");
        assert_eq!(left(), [available, ("committed", 4000 * 1024)]);
    }

    #[test]
    fn this_system_tells_what_is_available() {
        assert!(available_bytes() <= installed_bytes());
        if cfg!(target_os = "linux") {
            assert!(available_bytes() > Some(0));
        }
    }
}
