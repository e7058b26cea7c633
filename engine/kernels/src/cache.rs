//! Keys and values of one layer, with a fixed capacity, allocated once, in f32 or in half its
//! bytes. Knows nothing of attention beyond the layout it reads.
#![expect(unsafe_code, reason = "hands rows of shared buffers to their writers")]
// Sound because a caller that writes a row promises that nothing else uses it meanwhile.

mod number;

use std::ops::Range;

use half::f16;

use super::isa::{InOrder, MAX_LANES};
use super::shared::{Buffer, Shared, round_up};
use number::CacheNumber;
pub use number::CacheType;

/// The cache of one layer, in small pages (at 3,500 positions it was read as fast in huge ones):
/// for each key-value head, a row a position, padded with zeros to whole vectors.
#[derive(Debug)]
pub struct LayerCache {
    kind: CacheType,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    /// Words that hold one number, or two.
    keys: Buffer,
    values: Buffer,
}

impl LayerCache {
    /// Room for `capacity` positions.
    pub fn new(kind: CacheType, kv_heads: usize, head_dim: usize, capacity: usize) -> Self {
        let words = Self::words(kind, kv_heads, head_dim, capacity);
        LayerCache {
            kind,
            kv_heads,
            head_dim,
            capacity,
            keys: Buffer::growing(words),
            values: Buffer::growing(words),
        }
    }

    /// Bytes that a cache of this size allocates, known before it is made.
    pub fn bytes_for(kind: CacheType, kv_heads: usize, head_dim: usize, capacity: usize) -> usize {
        2 * Buffer::bytes_for(Self::words(kind, kv_heads, head_dim, capacity))
    }

    /// Bytes of pages that a cache may have begun and not filled: those at both ends of what each of
    /// its heads holds.
    pub fn begun_bytes(kv_heads: usize) -> usize {
        const PAGE: usize = 4096;
        2 * kv_heads * 2 * PAGE
    }

    /// Bytes that a position takes.
    pub fn position_bytes(kind: CacheType, kv_heads: usize, head_dim: usize) -> usize {
        2 * kv_heads * round_up(head_dim, MAX_LANES) * kind.bytes()
    }

    /// Words of its keys, and as many of its values. Whole ones, because rows are of whole vectors.
    fn words(kind: CacheType, kv_heads: usize, head_dim: usize, capacity: usize) -> usize {
        let each = Self::position_bytes(kind, kv_heads, head_dim) / 2;
        capacity * each / size_of::<f32>()
    }

    /// What its numbers are.
    pub fn kind(&self) -> CacheType {
        self.kind
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

    /// The key of one head at one position, as it was turned to that position, widened.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not as long as one.
    pub fn key_into(&self, kv_head: usize, position: usize, out: &mut [f32]) {
        read(self.kind, &self.keys, self.row(kv_head, position), out);
    }

    /// The value of one head at one position, likewise.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not as long as one.
    pub fn value_into(&self, kv_head: usize, position: usize, out: &mut [f32]) {
        read(self.kind, &self.values, self.row(kv_head, position), out);
    }

    /// Writes one position of one head from outside a block: for caches that are projected from
    /// another model's, or restored.
    ///
    /// # Panics
    /// If there is no such row, or `key` or `value` is not as long as one.
    pub fn set(&mut self, kv_head: usize, position: usize, key: &[f32], value: &[f32]) {
        let row = self.row(kv_head, position);
        write(self.kind, &mut self.keys, row.clone(), key);
        write(self.kind, &mut self.values, row, value);
    }

    /// The first `positions` positions, in a cache with room for `capacity`.
    ///
    /// # Panics
    /// If either cache has not so many.
    pub fn copied(&self, positions: usize, capacity: usize) -> Self {
        let mut to = Self::new(self.kind, self.kv_heads, self.head_dim, capacity);
        to.copy_from(self, positions);
        to
    }

    /// Takes over the first positions of another cache of the same model. What is behind them stays
    /// what it was, and is written over in time.
    pub fn copy_from(&mut self, from: &Self, positions: usize) {
        assert!(
            positions <= from.capacity && positions <= self.capacity,
            "{positions} positions of {} into {}",
            from.capacity,
            self.capacity
        );
        assert!(
            (self.kind, self.kv_heads, self.head_dim) == (from.kind, from.kv_heads, from.head_dim)
        );
        // Words of a row of one head.
        let row = round_up(self.head_dim, MAX_LANES) * self.kind.bytes() / size_of::<f32>();
        let count = positions * row;
        for head in 0..self.kv_heads {
            let start = head * from.capacity * row;
            let into = head * self.capacity * row;
            let (keys, values) = (&mut self.keys[into..], &mut self.values[into..]);
            keys[..count].copy_from_slice(&from.keys[start..][..count]);
            values[..count].copy_from_slice(&from.values[start..][..count]);
        }
    }

    /// Takes out the first positions; so many that follow become the first.
    pub(crate) fn drop_first(&mut self, positions: usize, stay: usize) {
        let end = positions + stay;
        assert!(end <= self.capacity, "{end} positions of {}", self.capacity);
        let row = round_up(self.head_dim, MAX_LANES) * self.kind.bytes() / size_of::<f32>();
        for head in 0..self.kv_heads {
            let start = head * self.capacity * row;
            let from = start + positions * row..start + end * row;
            self.keys.copy_within(from.clone(), start);
            self.values.copy_within(from, start);
        }
    }

    /// Bytes that a cache like it allocates for so many positions.
    pub fn bytes_of(&self, positions: usize) -> usize {
        Self::bytes_for(self.kind, self.kv_heads, self.head_dim, positions)
    }

    /// Shares it with the workers of a region.
    pub(crate) fn share(&mut self) -> SharedCache<'_> {
        let (keys, values) = (&mut self.keys, &mut self.values);
        SharedCache {
            capacity: self.capacity,
            stride: round_up(self.head_dim, MAX_LANES),
            rows: match self.kind {
                CacheType::F32 => SharedRows::F32(KeysValues::over(keys, values)),
                CacheType::F16 => SharedRows::F16(KeysValues::over(keys, values)),
                CacheType::Bf16 => SharedRows::Bf16(KeysValues::over(keys, values)),
            },
        }
    }

    /// The numbers of a row, without the padding.
    fn row(&self, kv_head: usize, position: usize) -> Range<usize> {
        assert!(
            kv_head < self.kv_heads && position < self.capacity,
            "outside the cache"
        );
        let stride = round_up(self.head_dim, MAX_LANES);
        let start = (kv_head * self.capacity + position) * stride;
        start..start + self.head_dim
    }
}

fn read(kind: CacheType, words: &[f32], row: Range<usize>, out: &mut [f32]) {
    fn of<E: CacheNumber>(words: &[f32], row: Range<usize>, out: &mut [f32]) {
        E::widen(&bytemuck::cast_slice(words)[row], out);
    }
    match kind {
        CacheType::F32 => of::<f32>(words, row, out),
        CacheType::F16 => of::<f16>(words, row, out),
        CacheType::Bf16 => of::<InOrder>(words, row, out),
    }
}

fn write(kind: CacheType, words: &mut [f32], row: Range<usize>, from: &[f32]) {
    fn of<E: CacheNumber>(words: &mut [f32], row: Range<usize>, from: &[f32]) {
        E::narrow(from, &mut bytemuck::cast_slice_mut(words)[row]);
    }
    match kind {
        CacheType::F32 => of::<f32>(words, row, from),
        CacheType::F16 => of::<f16>(words, row, from),
        CacheType::Bf16 => of::<InOrder>(words, row, from),
    }
}

/// A cache as the workers see it.
#[derive(Clone, Copy)]
pub(crate) struct SharedCache<'a> {
    pub capacity: usize,
    /// Numbers a row.
    pub stride: usize,
    pub rows: SharedRows<'a>,
}

impl SharedCache<'_> {
    /// Where the row of one head at one position starts.
    pub fn at(&self, kv_head: usize, position: usize) -> usize {
        (kv_head * self.capacity + position) * self.stride
    }
}

/// The rows, in the format they are kept in.
#[derive(Clone, Copy)]
pub(crate) enum SharedRows<'a> {
    F32(KeysValues<'a, f32>),
    F16(KeysValues<'a, f16>),
    Bf16(KeysValues<'a, InOrder>),
}

impl SharedRows<'_> {
    /// Bytes a number.
    pub fn number_bytes(&self) -> usize {
        match self {
            SharedRows::F32(_) => size_of::<f32>(),
            SharedRows::F16(_) => size_of::<f16>(),
            SharedRows::Bf16(_) => size_of::<InOrder>(),
        }
    }

    /// The key whose row starts at `at`, widened.
    ///
    /// # Safety
    /// Nothing writes that row meanwhile.
    pub unsafe fn read_key(&self, at: usize, key: &mut [f32]) {
        // SAFETY: passed on from the caller.
        unsafe {
            match self {
                SharedRows::F32(rows) => read_row(&rows.keys, at, key),
                SharedRows::F16(rows) => read_row(&rows.keys, at, key),
                SharedRows::Bf16(rows) => read_row(&rows.keys, at, key),
            }
        }
    }

    /// The value whose row starts at `at`, widened.
    ///
    /// # Safety
    /// Nothing writes that row meanwhile.
    pub unsafe fn read_value(&self, at: usize, value: &mut [f32]) {
        // SAFETY: passed on from the caller.
        unsafe {
            match self {
                SharedRows::F32(rows) => read_row(&rows.values, at, value),
                SharedRows::F16(rows) => read_row(&rows.values, at, value),
                SharedRows::Bf16(rows) => read_row(&rows.values, at, value),
            }
        }
    }

    /// Writes the row of a key that starts at `at`.
    ///
    /// # Safety
    /// Nothing else reads or writes that row meanwhile.
    pub unsafe fn write_key(&self, at: usize, key: &[f32]) {
        // SAFETY: passed on from the caller.
        unsafe {
            match self {
                SharedRows::F32(rows) => write_row(&rows.keys, at, key),
                SharedRows::F16(rows) => write_row(&rows.keys, at, key),
                SharedRows::Bf16(rows) => write_row(&rows.keys, at, key),
            }
        }
    }

    /// Writes the row of a value that starts at `at`.
    ///
    /// # Safety
    /// Nothing else reads or writes that row meanwhile.
    pub unsafe fn write_value(&self, at: usize, value: &[f32]) {
        // SAFETY: passed on from the caller.
        unsafe {
            match self {
                SharedRows::F32(rows) => write_row(&rows.values, at, value),
                SharedRows::F16(rows) => write_row(&rows.values, at, value),
                SharedRows::Bf16(rows) => write_row(&rows.values, at, value),
            }
        }
    }
}

/// # Safety
/// Nothing writes that row meanwhile.
unsafe fn read_row<E: CacheNumber>(rows: &Shared<'_, E>, at: usize, to: &mut [f32]) {
    // SAFETY: passed on from the caller.
    E::widen(unsafe { rows.get(at..at + to.len()) }, to);
}

/// # Safety
/// Nothing else reads or writes that row meanwhile.
unsafe fn write_row<E: CacheNumber>(rows: &Shared<'_, E>, at: usize, from: &[f32]) {
    // SAFETY: passed on from the caller.
    E::narrow(from, unsafe { rows.get_mut(at..at + from.len()) });
}

/// Keys and values in one format.
pub(crate) struct KeysValues<'a, E> {
    pub keys: Shared<'a, E>,
    pub values: Shared<'a, E>,
}

impl<E> Clone for KeysValues<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for KeysValues<'_, E> {}

impl<'a, E: CacheNumber> KeysValues<'a, E> {
    fn over(keys: &'a mut [f32], values: &'a mut [f32]) -> Self {
        KeysValues {
            keys: Shared::new(bytemuck::cast_slice_mut(keys)),
            values: Shared::new(bytemuck::cast_slice_mut(values)),
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// What `kind` makes of a number, by the definition of its format.
    fn rounded(kind: CacheType, number: f32) -> f32 {
        match kind {
            CacheType::F32 => number,
            CacheType::F16 => f16::from_f32(number).to_f32(),
            CacheType::Bf16 => bf16::from_f32(number).to_f32(),
        }
    }

    #[test]
    fn rows_come_back_rounded_and_touch_no_other() {
        let (kv_heads, head_dim, capacity) = (3, 20, 5);
        for kind in CacheType::ALL {
            let mut cache = LayerCache::new(kind, kv_heads, head_dim, capacity);
            let number = |head: usize, position: usize, i: usize| {
                (head * 100 + position * 10) as f32 + 0.1 * (i as f32 - 7.3)
            };
            for head in 0..kv_heads {
                for position in 0..capacity {
                    let key: Vec<f32> = (0..head_dim).map(|i| number(head, position, i)).collect();
                    let value: Vec<f32> = key.iter().map(|k| -3.0 * k).collect();
                    cache.set(head, position, &key, &value);
                }
            }
            let mut out = vec![f32::NAN; head_dim];
            for head in 0..kv_heads {
                for position in 0..capacity {
                    let expected = |factor: f32| -> Vec<f32> {
                        let all = (0..head_dim).map(|i| factor * number(head, position, i));
                        all.map(|number| rounded(kind, number)).collect()
                    };
                    cache.key_into(head, position, &mut out);
                    assert_eq!(out, expected(1.0), "{kind:?} {head} {position}");
                    cache.value_into(head, position, &mut out);
                    assert_eq!(out, expected(-3.0), "{kind:?} {head} {position}");
                }
            }
        }
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_and_ties_to_even() {
        let ulp = |kind| match kind {
            CacheType::F32 => f32::EPSILON,
            CacheType::F16 => f16::EPSILON.to_f32(),
            CacheType::Bf16 => bf16::EPSILON.to_f32(),
        };
        for kind in [CacheType::F16, CacheType::Bf16] {
            let ulp = ulp(kind);
            let mut cache = LayerCache::new(kind, 1, 6, 1);
            let key = [
                1.0 + 0.5 * ulp,
                1.0 + 1.5 * ulp,
                -1.0 - 0.75 * ulp,
                1.0 + 0.25 * ulp,
                7e4,
                f32::NAN,
            ];
            cache.set(0, 0, &key, &[0.0; 6]);
            let mut out = [0.0; 6];
            cache.key_into(0, 0, &mut out);
            assert_eq!(
                out[..4],
                [1.0, 1.0 + 2.0 * ulp, -1.0 - ulp, 1.0],
                "{kind:?}"
            );
            assert_eq!(out[4].is_infinite(), kind == CacheType::F16);
            assert!(out[5].is_nan());
        }
    }

    #[test]
    fn a_copy_has_the_first_positions_whatever_its_size() {
        for kind in CacheType::ALL {
            let mut cache = LayerCache::new(kind, 2, 20, 7);
            for (head, position) in (0..2).flat_map(|head| (0..7).map(move |at| (head, at))) {
                let key: Vec<f32> = (0..20).map(|i| (head * 7 + position + i) as f32).collect();
                let value: Vec<f32> = key.iter().map(|it| -it).collect();
                cache.set(head, position, &key, &value);
            }
            for capacity in [5, 7, 12] {
                let copy = cache.copied(5, capacity);
                assert_eq!((copy.capacity(), copy.kind()), (capacity, kind));
                let (mut of, mut in_copy) = ([0.0; 20], [0.0; 20]);
                for (head, position) in (0..2).flat_map(|head| (0..5).map(move |at| (head, at))) {
                    cache.key_into(head, position, &mut of);
                    copy.key_into(head, position, &mut in_copy);
                    assert_eq!(of, in_copy, "{kind:?} {capacity}");
                    cache.value_into(head, position, &mut of);
                    copy.value_into(head, position, &mut in_copy);
                    assert_eq!(of, in_copy, "{kind:?} {capacity}");
                }
            }
        }
    }

    #[test]
    fn the_bytes_are_those_that_are_allocated() {
        for kind in CacheType::ALL {
            for (kv_heads, head_dim, capacity) in [(1, 1, 1), (2, 24, 700), (4, 128, 33)] {
                let planned = LayerCache::bytes_for(kind, kv_heads, head_dim, capacity);
                let cache = LayerCache::new(kind, kv_heads, head_dim, capacity);
                assert_eq!(cache.kind(), kind);
                assert_eq!(cache.bytes(), planned, "{kind:?} {head_dim}");
                // Each buffer is rounded to lines and may start a line late.
                let numbers = capacity * LayerCache::position_bytes(kind, kv_heads, head_dim);
                let extra = planned - numbers;
                assert!(extra <= 2 * 2 * 64, "{kind:?} {head_dim}: {extra}");
            }
        }
        let half = LayerCache::position_bytes(CacheType::Bf16, 2, 24);
        assert_eq!(half, LayerCache::position_bytes(CacheType::F32, 2, 24) / 2);
        assert_eq!(half, 2 * 2 * 32 * 2);
    }

    #[test]
    #[should_panic(expected = "outside the cache")]
    fn there_is_no_row_after_the_last() {
        LayerCache::new(CacheType::F16, 2, 8, 4).key_into(1, 4, &mut [0.0; 8]);
    }
}
