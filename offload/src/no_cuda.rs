//! Stands for `cuda` in a build without the feature: there are no devices.

use std::sync::Arc;
use std::time::Duration;

use candle_core::Tensor;

use crate::error::OffloadError;
use crate::memory::slab::SlabBytes;
use crate::place::Place;
use crate::survey::DeviceSurvey;

pub(crate) fn count() -> usize {
    0
}

pub(crate) fn open(_ordinal: usize) -> Result<Arc<dyn Place>, OffloadError> {
    Err(OffloadError::NotBuilt)
}

pub fn device_address(_tensor: &Tensor) -> Result<u64, OffloadError> {
    Err(OffloadError::NotBuilt)
}

pub fn slab_address(_slab: &SlabBytes) -> Result<u64, OffloadError> {
    Err(OffloadError::NotBuilt)
}

pub(crate) fn survey(_ordinal: usize, _budget: Duration) -> Result<DeviceSurvey, OffloadError> {
    Err(OffloadError::NotBuilt)
}
