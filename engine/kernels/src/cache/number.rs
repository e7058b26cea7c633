//! The numbers that a cache keeps, and how they are rounded and widened.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::isa::{Element, InOrder};

/// The format that keys and values are kept in. They are rounded once, when they are written, to
/// the nearest number (of two that are as near, the even one); attention widens what it reads, and
/// computes in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheType {
    /// As they were computed.
    #[default]
    F32,
    /// Eleven significant bits, up to 65,504: what is larger becomes infinite.
    F16,
    /// Eight significant bits, as large as in f32.
    Bf16,
}

impl CacheType {
    /// All of them.
    pub const ALL: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Bf16];

    /// As it is typed and reported.
    pub fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::Bf16 => "bf16",
        }
    }

    /// Bytes a number.
    pub fn bytes(self) -> usize {
        match self {
            CacheType::F32 => size_of::<f32>(),
            CacheType::F16 => size_of::<f16>(),
            CacheType::Bf16 => size_of::<bf16>(),
        }
    }
}

/// A number as a cache keeps it.
pub(crate) trait CacheNumber: Element + bytemuck::Pod {
    /// Rounds numbers; as many as there is room for.
    fn narrow(from: &[f32], to: &mut [Self]);
    /// Widens them, which is exact.
    fn widen(from: &[Self], to: &mut [f32]);
}

impl CacheNumber for f32 {
    fn narrow(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    fn widen(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl CacheNumber for f16 {
    fn narrow(from: &[f32], to: &mut [f16]) {
        to.convert_from_f32_slice(from);
    }

    fn widen(from: &[f16], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
}

impl CacheNumber for InOrder {
    fn narrow(from: &[f32], to: &mut [InOrder]) {
        assert!(from.len() == to.len());
        (to.iter_mut().zip(from)).for_each(|(to, from)| *to = InOrder(bf16::from_f32(*from)));
    }

    fn widen(from: &[InOrder], to: &mut [f32]) {
        assert!(from.len() == to.len());
        (to.iter_mut().zip(from)).for_each(|(to, InOrder(from))| *to = from.to_f32());
    }
}
