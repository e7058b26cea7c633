//! Events of a trace on their way out. Knows the format and nothing of runs.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Events on their way out.
pub(super) struct Trace<'w, W> {
    pub to: &'w mut W,
    pub origin: Instant,
    pub first: bool,
}

/// A stretch of time in a lane.
pub(super) struct Event<'a> {
    pub name: &'a str,
    pub category: &'a str,
    pub lane: usize,
    pub from: Instant,
    pub to: Instant,
    pub args: Value,
}

impl<W: Write> Trace<'_, W> {
    pub fn open(&mut self, other_data: &Value) -> io::Result<()> {
        write!(
            self.to,
            "{{\"displayTimeUnit\":\"ms\",\"otherData\":{other_data},\"traceEvents\":["
        )
    }

    pub fn close(&mut self) -> io::Result<()> {
        self.to.write_all(b"\n]}\n")
    }

    /// Microseconds since the origin, to the nanosecond: what nests in time nests in the file.
    pub fn at(&self, when: Instant) -> String {
        micros(when.saturating_duration_since(self.origin))
    }

    pub fn raw(&mut self, line: &str) -> io::Result<()> {
        let between = if std::mem::take(&mut self.first) {
            "\n"
        } else {
            ",\n"
        };
        write!(self.to, "{between}{line}")
    }

    pub fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        let line = format!(
            "{{\"name\":{},\"cat\":\"{}\",\"ph\":\"X\",\"ts\":{},\"dur\":{},\"pid\":1,\"tid\":{},\"args\":{}}}",
            Value::from(event.name),
            event.category,
            self.at(event.from),
            micros(event.to.saturating_duration_since(event.from)),
            event.lane,
            event.args,
        );
        self.raw(&line)
    }

    pub fn metadata(&mut self, what: &str, lane: usize, args: &Value) -> io::Result<()> {
        self.raw(&format!(
            "{{\"name\":\"{what}\",\"ph\":\"M\",\"pid\":1,\"tid\":{lane},\"args\":{args}}}"
        ))
    }

    pub fn counter(&mut self, name: &str, when: Instant, unit: &str, value: f64) -> io::Result<()> {
        let at = self.at(when);
        self.raw(&format!(
            "{{\"name\":\"{name}\",\"ph\":\"C\",\"ts\":{at},\"pid\":1,\"args\":{{\"{unit}\":{value:.3}}}}}"
        ))
    }
}

fn micros(time: Duration) -> String {
    let nanos = time.as_nanos();
    format!("{}.{:03}", nanos / 1000, nanos % 1000)
}
