//! What a vocoder keeps of a stream from one call to the next. Knows sizes only.

use super::parts::VocoderShape;
use super::tasks::Tasks;
use crate::attention::TILE;
use crate::cache::{CacheType, LayerCache};
use crate::shared::Buffer;

/// What convolutions and the transformer still see of what went through before. One for each
/// stream.
#[derive(Debug)]
pub struct VocoderState {
    pub(super) shape: VocoderShape,
    pub(super) floats: Buffer,
    pub(super) caches: Vec<LayerCache>,
    /// Positions in the caches.
    pub(super) filled: usize,
    /// Frames that went through before those in the caches.
    pub(super) before: u64,
}

/// Positions that stay, at most, when those that nothing sees any more are taken out of a cache.
/// Whole tiles are, so that the sums of attention do not depend on when that happens.
fn staying(window: usize) -> usize {
    window - 1 + TILE - 1
}

fn capacity(window: usize) -> usize {
    staying(window).next_multiple_of(TILE) + TILE
}

impl VocoderState {
    /// Of a stream that begins.
    ///
    /// # Panics
    /// If the window is of nothing.
    pub fn new(shape: &VocoderShape) -> Self {
        assert!(shape.window > 0, "a window of nothing");
        let (kv_heads, head_dim) = (shape.block.kv_heads, shape.block.head_dim);
        let capacity = capacity(shape.window);
        let cache = |_| LayerCache::new(CacheType::F32, kv_heads, head_dim, capacity);
        VocoderState {
            shape: shape.clone(),
            floats: Buffer::zeroed(Tasks::of(shape, false).state),
            caches: (0..shape.layers).map(cache).collect(),
            filled: 0,
            before: 0,
        }
    }

    /// Bytes that a state of that shape allocates.
    pub fn bytes_for(shape: &VocoderShape) -> usize {
        let (kv_heads, head_dim) = (shape.block.kv_heads, shape.block.head_dim);
        let capacity = capacity(shape.window);
        let cache = LayerCache::bytes_for(CacheType::F32, kv_heads, head_dim, capacity);
        let caches = shape.layers * (cache + size_of::<LayerCache>());
        Buffer::bytes_for(Tasks::of(shape, false).state) + caches
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let caches = self.caches.iter().map(LayerCache::bytes).sum::<usize>();
        self.floats.bytes() + caches + size_of_val(&*self.caches)
    }

    /// Frames that went through.
    pub fn frames(&self) -> u64 {
        self.before + self.filled as u64
    }

    /// The stream begins anew.
    pub fn reset(&mut self) {
        self.floats.fill(0.0);
        (self.filled, self.before) = (0, 0);
    }

    /// Frames that there is always room for at once.
    pub(super) fn frames_max(&self) -> usize {
        capacity(self.shape.window) - staying(self.shape.window)
    }

    /// Makes room for so many positions.
    pub(super) fn make_room(&mut self, frames: usize) {
        let window = self.shape.window;
        if self.filled + frames <= capacity(window) {
            return;
        }
        let seen = (self.filled + 1).saturating_sub(window);
        let first = seen / TILE * TILE;
        let stay = self.filled - first;
        for cache in &mut self.caches {
            cache.drop_first(first, stay);
        }
        (self.filled, self.before) = (stay, self.before + first as u64);
    }
}
