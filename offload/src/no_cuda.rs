//! Stands for `cuda` in a build without the feature: there are no devices.

use std::sync::Arc;
use std::time::Duration;

use crate::error::OffloadError;
use crate::place::Place;
use crate::survey::DeviceSurvey;

pub(crate) fn count() -> usize {
    0
}

pub(crate) fn open(_ordinal: usize) -> Result<Arc<dyn Place>, OffloadError> {
    Err(OffloadError::NotBuilt)
}

pub(crate) fn survey(_ordinal: usize, _budget: Duration) -> Result<DeviceSurvey, OffloadError> {
    Err(OffloadError::NotBuilt)
}
