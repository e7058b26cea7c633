//! Stamps on the compute stream: events of two pools that grow to what a pass needs and then take
//! turns. One is read while the other is on the stream.

use std::sync::Arc;
use std::time::Instant;

use cudarc::driver::{CudaEvent, DriverError};

use super::streams::{Streams, between};
use crate::error::OffloadError;
use crate::place::Stopwatch;

#[derive(Debug)]
pub(super) struct CudaStopwatch {
    streams: Arc<Streams>,
    now: Pool,
    aside: Pool,
}

#[derive(Debug, Default)]
struct Pool {
    events: Vec<CudaEvent>,
    used: usize,
}

impl CudaStopwatch {
    pub fn new(streams: &Arc<Streams>) -> Self {
        Self {
            streams: Arc::clone(streams),
            now: Pool::default(),
            aside: Pool::default(),
        }
    }
}

impl Pool {
    fn record(&mut self, streams: &Streams) -> Result<(), DriverError> {
        if self.used == self.events.len() {
            self.events.push(streams.timed_event()?);
        }
        self.events[self.used].record(&streams.compute)?;
        self.used += 1;
        Ok(())
    }

    /// From the first mark on, which keeps the small differences exact.
    fn times(&self, streams: &Streams, times: &mut Vec<Instant>) -> Result<(), DriverError> {
        let Some((first, used)) = self.events.first().zip(self.events.get(..self.used)) else {
            return Ok(());
        };
        if used.is_empty() {
            return Ok(());
        }
        let from = streams.at(first)?;
        for event in used {
            times.push(from + between(first, event)?);
        }
        Ok(())
    }
}

impl Stopwatch for CudaStopwatch {
    fn stamp(&mut self) -> Result<(), OffloadError> {
        self.now.record(&self.streams).map_err(timing)
    }

    fn has_come(&self, back: usize) -> Result<bool, OffloadError> {
        let at = self.now.used.checked_sub(back + 1);
        let event = at.and_then(|at| self.now.events.get(at));
        event.map_or(Ok(true), |event| event.try_is_complete().map_err(timing))
    }

    fn set_aside(&mut self) {
        std::mem::swap(&mut self.now, &mut self.aside);
        self.now.used = 0;
    }

    fn forget(&mut self) {
        self.now.used = 0;
    }

    fn read(&mut self, times: &mut Vec<Instant>) -> Result<(), OffloadError> {
        times.clear();
        self.aside.times(&self.streams, times).map_err(timing)
    }
}

fn timing(error: DriverError) -> OffloadError {
    OffloadError::Device {
        doing: "timing the pass".into(),
        said: error.to_string(),
    }
}
