//! Whether compute threads had the cores that they asked for, as the system counts it: how long
//! they were ready to run and had no core, and what others did on the cores meanwhile. Reads a few
//! small files twenty times a second at most; where the system has no such files it says nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::machine::CoreTime;

/// The system counts the time of cores in ticks of ten milliseconds: shorter stretches say little.
const EVERY: Duration = Duration::from_millis(50);

/// The ticks of the kernel's interface, on every processor.
const TICKS_PER_SECOND: u32 = 100;

/// The calling thread's entry among the system's files.
fn this_thread() -> Option<PathBuf> {
    let entry = fs::read_link("/proc/thread-self").ok()?;
    Some(Path::new("/proc").join(entry))
}

/// Looks at what the compute threads get of their cores.
#[derive(Debug)]
pub struct CoreWatch {
    threads: Vec<File>,
    own: Option<File>,
    all: Option<File>,
    /// Processors that this process may use.
    processors: Vec<usize>,
    text: Vec<u8>,
    before: Option<Counts>,
}

/// What the system has counted since it started.
#[derive(Debug, Clone, Copy)]
struct Counts {
    at: Instant,
    /// How long all threads were ready to run, without a core.
    waited: Duration,
    ticks: Option<Ticks>,
}

/// Sums over the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ticks {
    busy: u64,
    stolen: u64,
    own: u64,
}

impl CoreWatch {
    /// Watches the calling thread and these.
    pub fn start(threads: impl Iterator<Item = PathBuf>) -> Self {
        let threads = this_thread().into_iter().chain(threads);
        let open = |thread: PathBuf| File::open(thread.join("schedstat")).ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut watch = Self {
            threads: threads.filter_map(open).collect(),
            own: File::open("/proc/self/stat").ok(),
            all: File::open("/proc/stat").ok(),
            processors: super::allowed(&status).unwrap_or_default(),
            text: vec![0; 16 << 10],
            before: None,
        };
        watch.before = watch.count();
        watch
    }

    /// Work begins: what came before it does not count, if it was long.
    pub fn begin(&mut self) {
        let stale = |before: &Counts| before.at.elapsed() >= EVERY;
        if self.before.as_ref().is_some_and(stale) {
            self.before = self.count();
        }
    }

    /// What the cores did since the last look, if that was long enough ago to say.
    pub fn look(&mut self) -> CoreTime {
        match &self.before {
            Some(before) if before.at.elapsed() >= EVERY => self.finish(),
            _ => CoreTime::default(),
        }
    }

    /// What they did since the last look, however long ago.
    pub fn finish(&mut self) -> CoreTime {
        let now = self.count();
        let Some((before, now)) = std::mem::replace(&mut self.before, now).zip(now) else {
            return CoreTime::default();
        };
        let threads = self.threads.len().max(1) as u32;
        let mut time = CoreTime {
            watched: now.at - before.at,
            waited: now.waited.saturating_sub(before.waited) / threads,
            ..CoreTime::default()
        };
        if let Some((before, now)) = before.ticks.zip(now.ticks) {
            let own = now.own.saturating_sub(before.own);
            let others = now.busy.saturating_sub(before.busy).saturating_sub(own);
            let stolen = now.stolen.saturating_sub(before.stolen);
            let processors = self.processors.len().max(1) as u32;
            let time_of = |ticks: u64| Duration::from_secs(ticks) / (TICKS_PER_SECOND * processors);
            time.others = time_of(others);
            time.stolen = time_of(stolen);
        }
        time
    }

    fn count(&mut self) -> Option<Counts> {
        if self.threads.is_empty() {
            return None;
        }
        let mut waited = 0;
        for thread in &self.threads {
            let text = read_again(thread, &mut self.text).ok()?;
            waited += text.split_whitespace().nth(1)?.parse::<u64>().ok()?;
        }
        Some(Counts {
            at: Instant::now(),
            waited: Duration::from_nanos(waited),
            ticks: self.ticks(),
        })
    }

    fn ticks(&mut self) -> Option<Ticks> {
        let own = read_again(self.own.as_ref()?, &mut self.text).ok()?;
        let own = own_ticks(own)?;
        let all = read_again(self.all.as_ref()?, &mut self.text).ok()?;
        let (busy, stolen) = processor_ticks(all, &self.processors)?;
        Some(Ticks { busy, stolen, own })
    }
}

/// A process's time on cores, from its line of numbers.
fn own_ticks(line: &str) -> Option<u64> {
    // The name, in brackets, may have anything in it.
    let mut fields = line.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Busy and stolen time of some processors.
fn processor_ticks(text: &str, processors: &[usize]) -> Option<(u64, u64)> {
    let (mut busy, mut stolen, mut found) = (0, 0, 0);
    for line in text.lines() {
        let Some((number, counts)) = line
            .strip_prefix("cpu")
            .and_then(|line| line.split_once(' '))
        else {
            // What follows the processors is of no use here.
            break;
        };
        let Ok(number) = number.parse::<usize>() else {
            continue;
        };
        if !processors.contains(&number) {
            continue;
        }
        let mut counts = counts.split_whitespace().map(|count| count.parse::<u64>());
        // user nice system idle iowait irq softirq steal
        let mut fields = [0; 8];
        for field in &mut fields {
            *field = counts.next()?.ok()?;
        }
        let [user, nice, system, _, _, irq, soft, steal] = fields;
        busy += user + nice + system + irq + soft;
        stolen += steal;
        found += 1;
    }
    (found > 0 && found == processors.len()).then_some((busy, stolen))
}

/// The file from its start, as it is now.
fn read_again<'a>(file: &File, text: &'a mut Vec<u8>) -> io::Result<&'a str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileExt;

        let mut length = 0;
        loop {
            if length == text.len() {
                text.resize(2 * length, 0);
            }
            match file.read_at(&mut text[length..], length as u64)? {
                0 => break,
                more => length += more,
            }
        }
        std::str::from_utf8(&text[..length]).map_err(io::Error::other)
    }
    #[cfg(not(unix))]
    {
        let _ = (file, text);
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_system_are_read() {
        let stat = "7 (a) b (c) R 1 7 7 0 -1 0 5 0 0 0 123 45 0 0 20 0 3 0 99 1 1";
        assert_eq!(own_ticks(stat), Some(168));
        assert_eq!(own_ticks("7 (cut"), None);
        let all = "cpu  9 9 9 9 9 9 9 9 0 0\n\
                   cpu0 10 1 5 100 3 2 1 7 0 0\n\
                   cpu1 20 0 0 100 0 0 0 1 0 0\n\
                   cpu2 99 0 0 100 0 0 0 9 0 0\n\
                   intr 1\ncpu0 1 1 1 1 1 1 1 1\n";
        assert_eq!(processor_ticks(all, &[0, 1]), Some((39, 8)));
        assert_eq!(processor_ticks(all, &[5]), None);
        assert_eq!(processor_ticks(all, &[]), None);
        assert_eq!(processor_ticks("", &[0]), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_that_wait_for_one_core_are_seen_to() {
        // More busy threads than processors: one of them waits.
        let busy = std::thread::available_parallelism().map_or(1, usize::from) + 1;
        let until = Instant::now() + Duration::from_millis(300);
        let spin = move || while Instant::now() < until {};
        let threads: Vec<_> = (0..busy).map(|_| std::thread::spawn(spin)).collect();
        let mut watch = CoreWatch::start(std::iter::empty());
        assert_eq!(watch.look(), CoreTime::default(), "too soon to say");
        spin();
        let time = watch.look();
        threads.into_iter().for_each(|thread| {
            let _ = thread.join();
        });
        assert!(time.watched >= Duration::from_millis(200), "{time:?}");
        assert!(time.waited.as_millis() >= 20, "{time:?}");
        assert!(time.waited <= time.watched, "{time:?}");
    }
}
