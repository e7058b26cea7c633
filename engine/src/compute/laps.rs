//! What a device did when, for the clock of a pass: marks on its own time line, read when the pass
//! is over, as a rule while the device is at work on the next. The host meanwhile only orders, and
//! times nothing.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use offload::{BlockId, LayerIndex, OffloadError, Place, Stopwatch};

use crate::profile::{Clock, SpanName, Stage};

/// The marks of the pass under way, and of the one before. On the host there is no stopwatch, and all
/// of this is nothing.
#[derive(Debug)]
pub struct Laps {
    watch: Option<Box<dyn Stopwatch>>,
    marks: Vec<Mark>,
    aside: Vec<Mark>,
    times: Vec<Instant>,
}

/// Naps between two looks at a device, within these: half of a part of what has been waited for.
const NAPS: RangeInclusive<Duration> = Duration::from_micros(20)..=Duration::from_millis(1);

/// What a moment on the device ends.
#[derive(Debug, Clone, Copy)]
enum Mark {
    /// Nothing: from here on is counted.
    Begin,
    Stage(Stage),
    /// A layer, and the last of its stages.
    Layer(LayerIndex, Stage),
}

impl Laps {
    pub fn on(place: &dyn Place) -> Self {
        Self::with(place.stopwatch())
    }

    /// Those of work that others time.
    pub fn none() -> Self {
        Self::with(None)
    }

    fn with(watch: Option<Box<dyn Stopwatch>>) -> Self {
        Self {
            watch,
            marks: Vec::new(),
            aside: Vec::new(),
            times: Vec::new(),
        }
    }

    /// A pass begins. One that was cut short left marks of its own, which are dropped.
    pub fn begin_pass(&mut self) -> Result<(), OffloadError> {
        self.marks.clear();
        if let Some(watch) = &mut self.watch {
            watch.forget();
        }
        self.begin()
    }

    pub fn begin(&mut self) -> Result<(), OffloadError> {
        self.mark(Mark::Begin)
    }

    pub fn end(&mut self, stage: Stage) -> Result<(), OffloadError> {
        self.mark(Mark::Stage(stage))
    }

    pub fn end_layer(&mut self, layer: LayerIndex, stage: Stage) -> Result<(), OffloadError> {
        self.mark(Mark::Layer(layer, stage))
    }

    fn mark(&mut self, mark: Mark) -> Result<(), OffloadError> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        watch.stamp()?;
        self.marks.push(mark);
        Ok(())
    }

    /// Lets the device come to the end of a layer that it has its orders for, unless the flag is raised
    /// before: whether it was. Until then its time falls into `parts` of about the same length, and as
    /// much is left after it: a nap is over long before the device would have nothing to do.
    pub fn come_to(
        &self,
        layer: LayerIndex,
        parts: usize,
        cancel: &AtomicBool,
    ) -> Result<bool, OffloadError> {
        let is_it = |mark: &Mark| matches!(mark, Mark::Layer(of, _) if *of == layer);
        let back = self.marks.iter().rev().position(is_it);
        let (Some(watch), Some(back)) = (&self.watch, back) else {
            return Ok(false);
        };
        let parts = u32::try_from(parts).unwrap_or(u32::MAX / 2);
        let from = Instant::now();
        while !watch.has_come(back)? {
            if cancel.load(Ordering::Relaxed) {
                return Ok(true);
            }
            let nap = from.elapsed() / (2 * parts);
            thread::sleep(nap.clamp(*NAPS.start(), *NAPS.end()));
        }
        Ok(false)
    }

    /// The pass is over, and `tell` is about it from now on.
    pub fn end_pass(&mut self) {
        std::mem::swap(&mut self.marks, &mut self.aside);
        if let Some(watch) = &mut self.watch {
            watch.set_aside();
        }
    }

    /// Tells the clock of the last pass's marks. The device has been waited for at its end.
    pub fn tell(&mut self, clock: &mut Clock) -> Result<(), OffloadError> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        watch.read(&mut self.times)?;
        let pairs = self.aside.drain(..).zip(&self.times);
        let (mut from, mut layer_from) = (None, None);
        let mut blocks: Option<(Instant, Instant)> = None;
        for (mark, &at) in pairs {
            match mark {
                Mark::Begin => layer_from = Some(at),
                Mark::Stage(stage) => clock.device_stage(stage, from.unwrap_or(at), at),
                Mark::Layer(layer, stage) => {
                    clock.device_stage(stage, from.unwrap_or(at), at);
                    let began = layer_from.unwrap_or(at);
                    let block = BlockId::new(clock.pass().stack, layer);
                    clock.span(SpanName::Layer(block), began, at);
                    blocks = Some((blocks.map_or(began, |(from, _)| from), at));
                }
            }
            from = Some(at);
        }
        if let Some((from, to)) = blocks {
            clock.device_stage(Stage::Blocks, from, to);
        }
        Ok(())
    }
}
