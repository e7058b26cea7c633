//! Stands for `device` in a build without the feature `cuda`: there is no device to have kernels
//! for, and the type's name is the clear version's.

pub use super::clear::ClearCompute as DeviceCompute;
