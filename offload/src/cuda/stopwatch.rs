//! Stamps on the compute stream: events of a pool that grows to what a pass needs and is then used
//! again and again.

use std::sync::Arc;
use std::time::Instant;

use cudarc::driver::{CudaEvent, DriverError};

use super::streams::{Streams, between};
use crate::error::OffloadError;
use crate::place::Stopwatch;

#[derive(Debug)]
pub(super) struct CudaStopwatch {
    streams: Arc<Streams>,
    events: Vec<CudaEvent>,
    used: usize,
}

impl CudaStopwatch {
    pub fn new(streams: &Arc<Streams>) -> Self {
        Self {
            streams: Arc::clone(streams),
            events: Vec::new(),
            used: 0,
        }
    }

    fn record(&mut self) -> Result<(), DriverError> {
        if self.used == self.events.len() {
            self.events.push(self.streams.timed_event()?);
        }
        self.events[self.used].record(&self.streams.compute)?;
        self.used += 1;
        Ok(())
    }

    /// From the first mark on, which keeps the small differences exact.
    fn times(&self, times: &mut Vec<Instant>) -> Result<(), DriverError> {
        let Some((first, used)) = self.events.first().zip(self.events.get(..self.used)) else {
            return Ok(());
        };
        if used.is_empty() {
            return Ok(());
        }
        let from = self.streams.at(first)?;
        for event in used {
            times.push(from + between(first, event)?);
        }
        Ok(())
    }
}

impl Stopwatch for CudaStopwatch {
    fn stamp(&mut self) -> Result<(), OffloadError> {
        self.record().map_err(timing)
    }

    fn read(&mut self, times: &mut Vec<Instant>) -> Result<(), OffloadError> {
        times.clear();
        let read = self.times(times);
        self.used = 0;
        read.map_err(timing)
    }
}

fn timing(error: DriverError) -> OffloadError {
    OffloadError::Device {
        doing: "timing the pass".into(),
        said: error.to_string(),
    }
}
