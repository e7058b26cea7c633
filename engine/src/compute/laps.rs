//! What a device did when, for the clock of a pass: marks on its own time line, read when the pass
//! is over. The host meanwhile only orders, and times nothing.

use std::time::Instant;

use offload::{LayerIndex, OffloadError, Place, Stopwatch};

use crate::profile::{Clock, SpanName, Stage};

/// The marks of the pass under way. On the host there is no stopwatch, and all of this is nothing.
#[derive(Debug)]
pub struct Laps {
    watch: Option<Box<dyn Stopwatch>>,
    marks: Vec<Mark>,
    times: Vec<Instant>,
}

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
        Self {
            watch: place.stopwatch(),
            marks: Vec::new(),
            times: Vec::new(),
        }
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

    /// Tells the clock of all marks, and forgets them. The device has been waited for.
    pub fn tell(&mut self, clock: &mut Clock) -> Result<(), OffloadError> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        watch.read(&mut self.times)?;
        // A pass that was cut short left marks of its own, and they are read with these.
        let pairs = self.marks.drain(..).zip(&self.times);
        let (mut from, mut layer_from) = (None, None);
        let mut blocks: Option<(Instant, Instant)> = None;
        for (mark, &at) in pairs {
            match mark {
                Mark::Begin => layer_from = Some(at),
                Mark::Stage(stage) => clock.device_stage(stage, from.unwrap_or(at), at),
                Mark::Layer(layer, stage) => {
                    clock.device_stage(stage, from.unwrap_or(at), at);
                    let began = layer_from.unwrap_or(at);
                    clock.span(SpanName::Layer(layer), began, at);
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
