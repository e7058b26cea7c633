//! Stands for `device` in a build without the feature `cuda`: there is no device to have kernels
//! for, and the types' names are the clear version's.

pub use super::clear::{ClearCompute as DeviceCompute, ClearSize as DeviceSize};
