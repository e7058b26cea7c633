//! Passes that are over, from their end to when all is known of them. On the host that is at once.
//! A device's times are read a pass later, when it has its orders for the next: before, it would
//! wait while they are read.

use offload::{LoadRecord, StreamedStack, Visits};

use crate::compute::Compute;
use crate::error::EngineError;
use crate::profile::{Clock, PassTiming, Recording, Stage};

/// A pass of which all is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    pub timing: PassTiming,
    /// One for each streamed layer.
    pub loads: Vec<LoadRecord>,
}

/// What is known of the passes made so far.
#[derive(Debug)]
pub(crate) struct Past {
    on_device: bool,
    /// The clock of the pass that ended last, with its visits while they have not been read.
    clock: Clock,
    visits: Visits,
    unread: bool,
    /// The passes measured since `forget`: one, or at the end up to two. Kept and filled again,
    /// like all of this.
    measured: [Measured; 2],
    known: usize,
    recording: Option<Recording>,
}

impl Past {
    pub fn new(on_device: bool) -> Self {
        Self {
            on_device,
            clock: Clock::default(),
            visits: Visits::default(),
            unread: false,
            measured: Default::default(),
            known: 0,
            recording: None,
        }
    }

    /// Keeps a timeline of every pass from now on.
    pub fn record(&mut self, recording: Recording) {
        self.clock.keep_spans();
        self.recording = Some(recording);
    }

    pub fn take_recording(&mut self) -> Option<Recording> {
        self.clock.drop_spans();
        self.recording.take()
    }

    /// The pass that `clock` measured is over, and so is what a device had to do for it.
    pub fn add(
        &mut self,
        clock: &mut Clock,
        stack: &mut StreamedStack,
        compute: &mut dyn Compute,
    ) -> Result<(), EngineError> {
        // The one before, if no device was waited for since.
        self.read(stack, compute)?;
        clock.end_pass();
        std::mem::swap(&mut self.clock, clock);
        stack.set_aside(&mut self.visits);
        compute.end_pass();
        self.unread = true;
        match self.on_device {
            true => Ok(()),
            false => self.read(stack, compute),
        }
    }

    /// Reads what is not known yet of the pass that ended last.
    pub fn read(
        &mut self,
        stack: &mut StreamedStack,
        compute: &mut dyn Compute,
    ) -> Result<(), EngineError> {
        if !std::mem::take(&mut self.unread) {
            return Ok(());
        }
        if self.known == self.measured.len() {
            // They are not read. The last is what may be asked for.
            self.measured.rotate_left(1);
            self.known -= 1;
        }
        let Measured { timing, loads } = &mut self.measured[self.known];
        loads.clear();
        stack.read(&mut self.visits, loads)?;
        if self.on_device {
            compute.tell(&mut self.clock)?;
            for load in &*loads {
                let (asked, met) = (load.asked_at, load.visit_from());
                self.clock.device_stage(Stage::Transfer, asked, met);
            }
        }
        *timing = *self.clock.pass();
        if let Some(recording) = &mut self.recording {
            recording.add(&self.clock, loads);
        }
        self.known += 1;
        Ok(())
    }

    /// The passes measured since `forget`.
    pub fn measured(&self) -> &[Measured] {
        &self.measured[..self.known]
    }

    pub fn forget(&mut self) {
        self.known = 0;
    }
}
