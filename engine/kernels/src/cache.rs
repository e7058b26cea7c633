//! Keys and values of one layer, with a fixed capacity, allocated once. Knows nothing of
//! attention beyond the layout it reads.

use super::isa::MAX_LANES;
use super::shared::{Buffer, Shared, round_up};

/// The cache of one layer, in small pages (at 3,500 positions it was read as fast in huge ones): for each key-value head, a row a position, padded with zeros to whole
/// vectors.
#[derive(Debug)]
pub struct LayerCache {
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    keys: Buffer,
    values: Buffer,
}

impl LayerCache {
    /// Room for `capacity` positions.
    pub fn new(kv_heads: usize, head_dim: usize, capacity: usize) -> Self {
        let floats = kv_heads * capacity * round_up(head_dim, MAX_LANES);
        LayerCache {
            kv_heads,
            head_dim,
            capacity,
            keys: Buffer::growing(floats),
            values: Buffer::growing(floats),
        }
    }

    /// Bytes that a cache of this size takes, known before it is made.
    pub fn bytes_for(kv_heads: usize, head_dim: usize, capacity: usize) -> usize {
        2 * kv_heads * capacity * round_up(head_dim, MAX_LANES) * size_of::<f32>()
    }

    /// Positions it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Key-value heads.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Dimensions of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }

    /// The key of one head at one position, as it was turned to that position.
    pub fn key(&self, kv_head: usize, position: usize) -> &[f32] {
        &self.keys[self.row(kv_head, position)][..self.head_dim]
    }

    /// The value of one head at one position.
    pub fn value(&self, kv_head: usize, position: usize) -> &[f32] {
        &self.values[self.row(kv_head, position)][..self.head_dim]
    }

    /// Writes one position of one head from outside a block: for caches that are projected from
    /// another model's, or restored.
    pub fn set(&mut self, kv_head: usize, position: usize, key: &[f32], value: &[f32]) {
        let row = self.row(kv_head, position);
        let dim = self.head_dim;
        self.keys[row.clone()][..dim].copy_from_slice(key);
        self.values[row][..dim].copy_from_slice(value);
    }

    /// Shares it with the workers of a region.
    pub(crate) fn share(&mut self) -> SharedCache<'_> {
        SharedCache {
            capacity: self.capacity,
            stride: round_up(self.head_dim, MAX_LANES),
            keys: Shared::new(&mut self.keys),
            values: Shared::new(&mut self.values),
        }
    }

    fn row(&self, kv_head: usize, position: usize) -> std::ops::Range<usize> {
        assert!(
            kv_head < self.kv_heads && position < self.capacity,
            "outside the cache"
        );
        let stride = round_up(self.head_dim, MAX_LANES);
        let start = (kv_head * self.capacity + position) * stride;
        start..start + stride
    }
}

/// A cache as the workers see it.
#[derive(Clone, Copy)]
pub(crate) struct SharedCache<'a> {
    pub capacity: usize,
    /// Floats a row.
    pub stride: usize,
    pub keys: Shared<'a, f32>,
    pub values: Shared<'a, f32>,
}

impl SharedCache<'_> {
    /// Where the row of one head at one position starts.
    pub fn at(&self, kv_head: usize, position: usize) -> usize {
        (kv_head * self.capacity + position) * self.stride
    }
}
