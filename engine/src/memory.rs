//! How much memory there is and how much this process has used, as the system tells it.

use std::fs;

/// Memory that can be used without swapping: the system's estimate, or what is left of the
/// control group's limit or of the process's own if that is less. `None` where the system does not
/// say.
pub fn available_bytes() -> Option<u64> {
    let system = field_bytes("/proc/meminfo", "MemAvailable:");
    let limits = [system, group_left_bytes(), address_space_left_bytes()];
    limits.into_iter().flatten().min()
}

/// The limit on the process's address space (`ulimit -v`), where there is one.
pub fn address_space_limit_bytes() -> Option<u64> {
    line_number("/proc/self/limits", "Max address space")
}

fn address_space_left_bytes() -> Option<u64> {
    let limit = address_space_limit_bytes()?;
    let used = field_bytes("/proc/self/status", "VmSize:")?;
    Some(limit.saturating_sub(used))
}

/// What a container's limit leaves, where there is one (control groups, second version).
fn group_left_bytes() -> Option<u64> {
    let number = |path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limit: u64 = number("/sys/fs/cgroup/memory.max")?;
    let used: u64 = number("/sys/fs/cgroup/memory.current")?;
    // Files that were read count as used, and give way when memory is asked for.
    let files: u64 = ["inactive_file ", "active_file "]
        .iter()
        .filter_map(|field| line_number("/sys/fs/cgroup/memory.stat", field))
        .sum();
    Some(limit.saturating_sub(used.saturating_sub(files)))
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

fn field_bytes(path: &str, field: &str) -> Option<u64> {
    line_number(path, field).map(|kib| kib * 1024)
}

/// The number that follows `field` at the start of a line.
fn line_number(path: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    line[field.len()..].split_whitespace().next()?.parse().ok()
}
