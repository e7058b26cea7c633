//! What a device is and what it reaches: for a list of devices, and for the limits in reports.

use std::time::Duration;

use crate::cuda;
use crate::error::OffloadError;
use crate::memory::numa::NumaNode;

/// One device as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSurvey {
    pub name: String,
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// Major and minor.
    pub compute_capability: (i32, i32),
    /// The newest CUDA that the driver knows, major and minor.
    pub driver: (i32, i32),
    /// The bus while copies ran over it; an idle one may have gone to sleep.
    pub pcie: Option<Pcie>,
    /// The host's memory that it is near to, where there are several.
    pub numa_node: Option<NumaNode>,
    /// Host to device, from pinned memory and from ordinary memory, in GB/s.
    pub pinned_gbps: f64,
    pub pageable_gbps: f64,
    /// Its own memory, read and written by a copy, in GB/s.
    pub memory_gbps: f64,
}

/// A PCIe link as the system describes it, like "32.0 GT/s PCIe" times 16.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pcie {
    pub speed: String,
    pub width: u32,
}

/// How long each rate is measured.
const BUDGET: Duration = Duration::from_millis(300);

/// Every device there is, measured. Empty without a driver, or in a build without the feature.
pub fn survey() -> Result<Vec<DeviceSurvey>, OffloadError> {
    (0..cuda::count())
        .map(|ordinal| cuda::survey(ordinal, BUDGET))
        .collect()
}
