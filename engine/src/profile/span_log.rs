//! Where the spans of a run are kept (feature `profiling`): in memory that is set aside before the
//! run, some hundred nanoseconds a span, and written when it is over. A thread that formats and
//! writes meanwhile would compete with the compute threads for their cores.

use std::cell::Cell;
use std::fmt::{self, Debug};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value as Json, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{self, Interest, SetGlobalDefaultError};
use tracing::{Event, Metadata, Subscriber};

use super::span::since_epoch_ns;
use kernels::advise_huge_pages;

/// What this workspace announces; others' spans stay out.
const TARGETS: [&str; 3] = ["stage", "offload", "gpu_sync"];

/// Spans and events that are kept: 128 MiB, of which the system gives what is used.
const ENTRIES_MAX: usize = 2 << 20;

/// Fields that are kept of each.
const FIELDS_MAX: usize = 2;

/// Every span of the process, from [`SpanLog::install`] on.
#[derive(Debug, Clone)]
pub struct SpanLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    paused: AtomicBool,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    entries: Vec<Entry>,
    left_out: u64,
    threads: Vec<String>,
    texts: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    metadata: &'static Metadata<'static>,
    from_ns: u64,
    /// Of an event: as `from_ns`.
    to_ns: u64,
    thread: u32,
    /// Holders of the span; its end is when the last one lets go.
    holders: u32,
    /// Of the metadata's fields, in their order.
    values: [Value; FIELDS_MAX],
}

#[derive(Debug, Clone, Copy)]
enum Value {
    None,
    Number(u64),
    /// Place among the log's texts.
    Text(u32),
}

impl SpanLog {
    /// Listens from now on, for the rest of the process.
    pub fn install() -> Result<Self, SetGlobalDefaultError> {
        since_epoch_ns(Instant::now());
        let mut entries = Vec::with_capacity(ENTRIES_MAX);
        advise_huge_pages(entries.spare_capacity_mut());
        let log = Self(Arc::new(Shared {
            paused: AtomicBool::new(false),
            log: Mutex::new(Log {
                entries,
                left_out: 0,
                threads: Vec::new(),
                texts: Vec::new(),
            }),
        }));
        subscriber::set_global_default(Listener(log.clone()))?;
        Ok(log)
    }

    /// Keeps nothing until told otherwise. To compare, and to leave out what is of no interest.
    pub fn pause(&self, paused: bool) {
        self.0.paused.store(paused, Ordering::Relaxed);
    }

    /// Spans and events so far.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes them in Chrome's trace event format, a lane a thread. What is still open ends at the
    /// last time there is.
    pub fn write_chrome(&self, to: &mut impl Write) -> io::Result<()> {
        let log = self.lock();
        let last_ns = log.last_ns();
        let mut order: Vec<usize> = (0..log.entries.len()).collect();
        // Outer spans first: earlier, or longer, or (of equal times) opened before.
        order.sort_by_key(|&at| {
            let entry = &log.entries[at];
            let longest = u64::MAX - entry.end_ns(last_ns);
            (entry.thread, entry.from_ns, longest, at)
        });
        let rest = json!({ "entries": log.entries.len(), "entries_left_out": log.left_out });
        write!(to, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{rest}")?;
        write!(to, ",\"traceEvents\":[")?;
        for (tid, name) in log.threads.iter().enumerate() {
            let named = json!({ "name": name });
            let event = json!({
                "ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": named,
            });
            write!(to, "{}\n{event}", if tid > 0 { "," } else { "" })?;
        }
        for at in order {
            write!(to, ",\n{}", log.event_of(&log.entries[at], last_ns))?;
        }
        to.write_all(b"\n]}\n")
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // Plain numbers, valid after every statement: poison means nothing here.
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// `last_ns` while it is open.
    fn end_ns(&self, last_ns: u64) -> u64 {
        match self.holders {
            0 => self.to_ns.max(self.from_ns),
            _ => last_ns,
        }
    }
}

impl Log {
    /// Keeps an entry, and gives its place; `None` when there is no room.
    fn push(&mut self, entry: Entry) -> Option<usize> {
        if self.entries.len() == ENTRIES_MAX {
            self.left_out += 1;
            return None;
        }
        self.entries.push(entry);
        Some(self.entries.len() - 1)
    }

    fn thread(&mut self) -> u32 {
        thread_local!(static THREAD: Cell<Option<u32>> = const { Cell::new(None) });
        THREAD.get().unwrap_or_else(|| {
            let index = self.threads.len() as u32;
            let name = std::thread::current().name().unwrap_or("unnamed").into();
            self.threads.push(name);
            THREAD.set(Some(index));
            index
        })
    }

    fn text(&mut self, text: &str) -> Value {
        let known = self.texts.iter().position(|known| known == text);
        let at = known.unwrap_or_else(|| {
            self.texts.push(text.into());
            self.texts.len() - 1
        });
        Value::Text(at as u32)
    }

    fn last_ns(&self) -> u64 {
        let times = self
            .entries
            .iter()
            .map(|entry| entry.from_ns.max(entry.to_ns));
        times.max().unwrap_or(0)
    }

    fn event_of(&self, entry: &Entry, last_ns: u64) -> Json {
        let micros = |ns: u64| ns as f64 / 1000.0;
        let named = entry.metadata.fields().iter().zip(entry.values);
        let args: Map<String, Json> = named
            .filter_map(|(field, value)| {
                let value = match value {
                    Value::None => return None,
                    Value::Number(number) => number.into(),
                    Value::Text(at) => self.texts[at as usize].as_str().into(),
                };
                Some((field.name().to_owned(), value))
            })
            .collect();
        let mut event = json!({
            "name": entry.metadata.name(),
            "cat": entry.metadata.target(),
            "pid": 1,
            "tid": entry.thread,
            "ts": micros(entry.from_ns),
            "args": args,
        });
        match entry.metadata.is_event() {
            true => {
                event["ph"] = "i".into();
                event["s"] = "t".into();
            }
            false => {
                event["ph"] = "X".into();
                event["dur"] = micros(entry.end_ns(last_ns) - entry.from_ns).into();
            }
        }
        event
    }
}

/// The log's ear. An id is the place of the span's entry, plus one; of a span that found no room
/// it is past them all.
struct Listener(SpanLog);

impl Listener {
    fn with(&self, id: &Id, change: impl FnOnce(&mut Log, usize)) {
        let mut log = self.0.lock();
        let at = id.into_u64() as usize - 1;
        if at < log.entries.len() {
            change(&mut log, at);
        }
    }

    /// Keeps what begins now; `fill` is given its fields.
    fn keep(
        &self,
        metadata: &'static Metadata<'static>,
        fill: impl FnOnce(&mut Fields<'_>),
    ) -> Option<usize> {
        let from_ns = since_epoch_ns(Instant::now());
        let mut log = self.0.lock();
        let mut entry = Entry {
            metadata,
            from_ns,
            to_ns: 0,
            thread: log.thread(),
            holders: 1,
            values: [Value::None; FIELDS_MAX],
        };
        fill(&mut Fields {
            log: &mut log,
            entry: &mut entry,
        });
        log.push(entry)
    }
}

impl Subscriber for Listener {
    /// Asked each time, because of pauses.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match TARGETS.contains(&metadata.target()) {
            true => Interest::sometimes(),
            false => Interest::never(),
        }
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        !self.0.0.paused.load(Ordering::Relaxed)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let at = self.keep(span.metadata(), |fields| span.record(fields));
        Id::from_u64(at.map_or(u64::MAX, |at| at as u64 + 1))
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        self.with(id, |log, at| {
            let mut entry = log.entries[at];
            values.record(&mut Fields {
                log,
                entry: &mut entry,
            });
            log.entries[at] = entry;
        });
    }

    fn event(&self, event: &Event<'_>) {
        self.keep(event.metadata(), |fields| {
            event.record(fields);
            fields.entry.to_ns = fields.entry.from_ns;
            fields.entry.holders = 0;
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.with(id, |log, at| log.entries[at].holders += 1);
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let now_ns = since_epoch_ns(Instant::now());
        let mut closed = false;
        self.with(&id, |log, at| {
            let entry = &mut log.entries[at];
            entry.holders = entry.holders.saturating_sub(1);
            closed = entry.holders == 0;
            // A span of what is over has brought its own end.
            if closed && entry.to_ns == 0 {
                entry.to_ns = now_ns;
            }
        });
        closed
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Fields<'a> {
    log: &'a mut Log,
    entry: &'a mut Entry,
}

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        if let Some(place) = self.entry.values.get_mut(field.index()) {
            *place = value;
        }
    }
}

impl Visit for Fields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "from_ns" => self.entry.from_ns = value,
            "to_ns" => self.entry.to_ns = value,
            _ => self.put(field, Value::Number(value)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let value = self.log.text(value);
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
