//! Where streamed weights come from, and how fast that is.

use std::ops::RangeInclusive;
use std::time::Duration;

use loader::Checkpoint;
use offload::{Home, LinkInfo, Place};

use super::Blueprint;
use crate::error::EngineError;
use crate::machine::cores::CoreWatch;
use crate::model::options::ModelOptions;
use crate::profile::LinkPeak;

/// Rates that can be emulated: from slower than a disk to faster than memory.
const LINK_GBPS: RangeInclusive<f64> = 0.001..=10_000.0;

/// How long measuring the link's peak may take.
const PEAK_BUDGET: Duration = Duration::from_millis(300);

impl Blueprint {
    /// What the link reaches when it does nothing else: measured now, over the model's own bytes.
    /// For an emulated link it is the rate that was set.
    pub fn measure_peak(&self) -> Result<Option<LinkPeak>, EngineError> {
        if self.plan.streamed_count() == 0 {
            return Ok(None);
        }
        if let Some(gbps) = self.link.emulated_gbps {
            return Ok(Some(LinkPeak {
                gbps,
                lacking: None,
            }));
        }
        let mut watch = CoreWatch::start(std::iter::empty());
        let gbps = match self.link.home {
            Home::Disk => loader::measure_read_gbps(&self.checkpoint, PEAK_BUDGET)?.gbps,
            Home::Ram => self.place.measure_link_gbps(PEAK_BUDGET)?,
        };
        Ok(Some(LinkPeak {
            gbps,
            lacking: watch.finish().crowded(),
        }))
    }
}

pub(super) fn link_info(
    checkpoint: &Checkpoint,
    options: &ModelOptions,
    place: &dyn Place,
) -> Result<LinkInfo, EngineError> {
    let on_device = !place.device().is_cpu();
    if let Some(gbps) = options.link_gbps {
        if !LINK_GBPS.contains(&gbps) {
            return Err(EngineError::LinkRate { gbps });
        }
        if options.home == Some(Home::Disk) {
            return Err(EngineError::EmulatedDisk);
        }
        if on_device {
            return Err(EngineError::EmulatedOnDevice);
        }
    }
    let emulated_gbps = options.link_gbps;
    // On a CPU memory is what is scarce: a streamed layer then must not live in it.
    let home = match (options.home, emulated_gbps) {
        (Some(home), _) => home,
        (None, Some(_)) => Home::Ram,
        (None, None) if on_device => Home::Ram,
        (None, None) => Home::Disk,
    };
    Ok(link_to(home, checkpoint, place, emulated_gbps))
}

pub(super) fn link_to(
    home: Home,
    checkpoint: &Checkpoint,
    place: &dyn Place,
    emulated_gbps: Option<f64>,
) -> LinkInfo {
    let access = match home {
        Home::Disk => checkpoint.access_report().to_string(),
        Home::Ram if place.device().is_cpu() => "memory copy".into(),
        // Whether all of it can be pinned shows when it is.
        Home::Ram => match place.near() {
            Some(node) => format!("the copy engine from pinned memory, on {node}"),
            None => "the copy engine from pinned memory".into(),
        },
    };
    LinkInfo {
        home,
        access,
        emulated_gbps,
    }
}
