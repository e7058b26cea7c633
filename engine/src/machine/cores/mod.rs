//! How many threads should compute: one a physical core. Two on one core share its vector units and
//! its path to memory, which is all that this work needs. And whether they got these cores.

mod watch;

use std::collections::BTreeSet;
use std::fs;
use std::thread;

pub use watch::CoreWatch;

/// Physical cores that this process may use, as far as the system says; else the processors.
pub fn physical() -> usize {
    // Counts what a container or an affinity mask leaves.
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let siblings = |processor: usize| {
        let topology = format!("/sys/devices/system/cpu/cpu{processor}/topology");
        fs::read_to_string(topology + "/thread_siblings_list").ok()
    };
    distinct(&status, siblings).map_or(processors, |cores| cores.min(processors))
}

/// What the processor's last cache holds, as far as the system says.
pub fn last_cache_bytes() -> Option<usize> {
    let size = |level: u32| {
        let file = format!("/sys/devices/system/cpu/cpu0/cache/index{level}/size");
        let text = fs::read_to_string(file).ok()?;
        let kib: usize = text.trim().strip_suffix('K')?.parse().ok()?;
        kib.checked_mul(1024)
    };
    [3, 2].into_iter().find_map(size)
}

/// Sets of siblings among the processors that a process with this `status` may run on. Nothing if
/// the system does not tell, or only in part.
fn distinct(status: &str, siblings: impl Fn(usize) -> Option<String>) -> Option<usize> {
    let cores: Option<BTreeSet<String>> = allowed(status)?
        .into_iter()
        .map(|processor| Some(siblings(processor)?.trim().to_owned()))
        .collect();
    cores.map(|cores| cores.len()).filter(|cores| *cores > 0)
}

/// The processors that a process with this `status` may run on.
fn allowed(status: &str) -> Option<Vec<usize>> {
    let line = |line: &'_ str| Some(line.strip_prefix("Cpus_allowed_list:")?.trim().to_owned());
    list(&status.lines().find_map(line)?)
}

/// Numbers as the kernel lists them: `0-3,8`.
fn list(text: &str) -> Option<Vec<usize>> {
    /// More than any kernel is built for: a range beyond it is not one.
    const PROCESSORS_MAX: usize = 1 << 16;
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= PROCESSORS_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &str, siblings: fn(usize) -> Option<String>, expected: Option<usize>) {
        let status = format!("Name:\tengine\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\n");
        assert_eq!(distinct(&status, siblings), expected, "{allowed}");
    }

    #[test]
    fn siblings_count_once() {
        // Eight processors, two a core: 0 with 4, 1 with 5, and so on.
        let paired = |at: usize| Some(format!("{},{}\n", at % 4, at % 4 + 4));
        check("0-7", paired, Some(4));
        check("0-3", paired, Some(4));
        check("0,4", paired, Some(1));
        check("1,4-6", paired, Some(3));
        check("0-1", |at| Some(at.to_string()), Some(2));
    }

    #[test]
    fn what_the_system_does_not_tell_is_not_guessed() {
        check("0-7", |_| None, None);
        check("0-7", |at| (at < 4).then(|| at.to_string()), None);
        for list in ["", "all", "0-", "0-99999999999"] {
            check(list, |at| Some(at.to_string()), None);
        }
        assert_eq!(distinct("Name:\tengine\n", |at| Some(at.to_string())), None);
        assert!(physical() >= 1);
    }
}
