//! Counts what a template makes, reads and writes, and stops it at a limit. What is counted is
//! everything ever made, not what is still held: simpler, and never less.
//!
//! A list can hold itself many times over, so a few hundred bytes of values can print as more than
//! the universe has room for. Whatever walks a value is therefore preceded by [`Meter::read`],
//! which walks it first and gives up at the limit.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// A value of its own, or an item of a list.
const VALUE_BYTES: u64 = 32;
/// Visiting a value takes as long as reading this much text.
const VALUE_WORK: u64 = 256;
/// Going through a map takes that much more, beside its keys and values.
const MAP_WORK: u64 = 1024;
/// As many digits as a float can print.
const FLOAT_BYTES: u64 = 350;
/// What a letter may become when it is printed within a list.
const ESCAPED: u64 = 6;

/// What a template may use up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub made_bytes: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
}

/// The limit that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub allowed: u64,
    pub unit: &'static str,
}

#[derive(Debug)]
pub(super) struct Meter {
    made: Count,
    read: Count,
    written: Count,
    exceeded: OnceLock<Exceeded>,
}

#[derive(Debug)]
struct Count {
    so_far: AtomicU64,
    most: u64,
    unit: &'static str,
}

impl Count {
    fn new(most: u64, unit: &'static str) -> Self {
        let so_far = AtomicU64::new(0);
        Self { so_far, most, unit }
    }

    /// Whether `more` still fits.
    fn fits(&self, more: u64) -> bool {
        self.so_far.load(Ordering::Relaxed).saturating_add(more) <= self.most
    }
}

impl Meter {
    pub fn new(limits: Limits) -> Self {
        Self {
            made: Count::new(limits.made_bytes, "bytes of memory"),
            read: Count::new(limits.read_bytes, "bytes of values looked through"),
            written: Count::new(limits.written_bytes, "bytes of output"),
            exceeded: OnceLock::new(),
        }
    }

    /// The limit that ended the template, if one did.
    pub fn exceeded(&self) -> Option<Exceeded> {
        self.exceeded.get().copied()
    }

    fn stop(&self, count: &Count) -> Error {
        let (allowed, unit) = (count.most, count.unit);
        let _ = self.exceeded.set(Exceeded { allowed, unit });
        Error::new(ErrorKind::InvalidOperation, "a limit was met")
    }

    fn charge(&self, count: &Count, more: u64) -> Result<(), Error> {
        if !count.fits(more) {
            return Err(self.stop(count));
        }
        count.so_far.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Before something is made whose size can be told: refused while it is only a number.
    pub fn may_make(&self, bytes: u64) -> Result<(), Error> {
        match self.made.fits(bytes) {
            true => Ok(()),
            false => Err(self.stop(&self.made)),
        }
    }

    pub fn work(&self, bytes: u64) -> Result<(), Error> {
        self.charge(&self.read, bytes)
    }

    pub fn write(&self, value: &Value) -> Result<(), Error> {
        let bytes = self.read(value)?;
        self.charge(&self.written, bytes)?;
        self.charge(&self.made, bytes)
    }

    /// Walks all of a value; returns how much it is, printed at its widest.
    pub fn read(&self, value: &Value) -> Result<u64, Error> {
        if let Some(text) = value.as_str() {
            self.work(text.len() as u64 + 1)?;
            return Ok(text.len() as u64);
        }
        let mut total = 0;
        let mut open = vec![value.clone()];
        while let Some(value) = open.pop() {
            let bytes = ESCAPED * text_bytes(&value)
                + match value.is_number() && !value.is_integer() {
                    true => FLOAT_BYTES,
                    false => VALUE_BYTES,
                };
            self.work(VALUE_WORK.max(bytes))?;
            total += bytes;
            match value.kind() {
                ValueKind::Map => {
                    self.work(MAP_WORK)?;
                    let pairs = value.as_object().and_then(|map| map.try_iter_pairs());
                    for (key, value) in pairs.into_iter().flatten() {
                        open.extend([key, value]);
                    }
                }
                ValueKind::Seq | ValueKind::Iterable => open.extend(self.items(&value)?),
                _ => {}
            }
            // A list in itself never ends.
            self.may_make(VALUE_BYTES * open.len() as u64)?;
        }
        Ok(total)
    }

    /// How much is on the surface of a value: a text, or its items without what is in them.
    pub fn glance(&self, value: &Value) -> Result<u64, Error> {
        let bytes = match value.kind() {
            ValueKind::Iterable => return self.read(value),
            ValueKind::Seq | ValueKind::Map => VALUE_BYTES * (1 + value.len().unwrap_or(0) as u64),
            _ => text_bytes(value).max(1),
        };
        self.work(bytes)?;
        Ok(bytes)
    }

    /// The items of a list, counted as they come: a lazy list may have any number of them.
    pub fn items(&self, list: &Value) -> Result<Vec<Value>, Error> {
        let mut items = Vec::new();
        for item in list.try_iter()?.checked() {
            self.may_make(VALUE_BYTES * (1 + items.len() as u64))?;
            items.push(item?);
        }
        Ok(items)
    }

    /// Counts a new value; a lazy list becomes a real one, so that no later step is a surprise.
    pub fn made(&self, value: Value) -> Result<Value, Error> {
        let value = match value.kind() {
            ValueKind::Iterable => Value::from(self.items(&value)?),
            _ => value,
        };
        let mut bytes = VALUE_BYTES + text_bytes(&value);
        if matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
            for item in value.try_iter()? {
                bytes += VALUE_BYTES + text_bytes(&item);
            }
        }
        self.charge(&self.made, bytes)?;
        Ok(value)
    }
}

fn text_bytes(value: &Value) -> u64 {
    match value.kind() {
        ValueKind::Bytes => value.as_bytes().map_or(0, |bytes| bytes.len() as u64),
        _ => value.as_str().map_or(0, |text| text.len() as u64),
    }
}
