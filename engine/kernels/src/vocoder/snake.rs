//! The activation of a vocoder's convolutions, over rows. Knows nothing of what they are.
#![expect(unsafe_code, reason = "vector loads from raw pointers")]
// Sound because all slices have the lengths that are checked, and the last channels go through
// padded copies.

use crate::isa::{Isa, Kernel, MAX_LANES};

/// `to = x + gain * sin(frequency * x)^2`, row by row; in place where there is nowhere else.
pub(super) struct SnakeRows<'a> {
    pub from: Option<&'a [f32]>,
    pub to: &'a mut [f32],
    pub frequency: &'a [f32],
    pub gain: &'a [f32],
}

impl Kernel for SnakeRows<'_> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let width = self.frequency.len();
        assert!(self.gain.len() == width && self.to.len().is_multiple_of(width));
        let to = self.to.as_mut_ptr();
        let from = self.from.map_or(to.cast_const(), |from| {
            assert!(from.len() == self.to.len());
            from.as_ptr()
        });
        let (frequency, gain) = (self.frequency.as_ptr(), self.gain.as_ptr());
        let whole = width / I::LANES * I::LANES;
        for row in (0..self.to.len()).step_by(width) {
            for at in (0..whole).step_by(I::LANES) {
                // SAFETY: a vector from `at` on is inside each row; the instructions are there.
                unsafe {
                    let x = I::load(from.add(row + at));
                    let y = snake::<I>(x, frequency.add(at), gain.add(at));
                    I::store(to.add(row + at), y);
                }
            }
            if whole < width {
                let rest = width - whole;
                let mut padded = [[0.0f32; MAX_LANES]; 3];
                // SAFETY: so many channels are left of the row; arrays hold the widest vector.
                unsafe {
                    let parts = [from.add(row), frequency, gain];
                    for (part, padded) in parts.into_iter().zip(&mut padded) {
                        let part = part.add(whole);
                        std::ptr::copy_nonoverlapping(part, padded.as_mut_ptr(), rest);
                    }
                    let [x, frequency, gain] = &mut padded;
                    let y = snake::<I>(I::load(x.as_ptr()), frequency.as_ptr(), gain.as_ptr());
                    I::store(x.as_mut_ptr(), y);
                    std::ptr::copy_nonoverlapping(x.as_ptr(), to.add(row + whole), rest);
                }
            }
        }
    }
}

/// # Safety
/// A vector at each pointer, and the instructions of `I`.
#[inline(always)]
unsafe fn snake<I: Isa>(x: I::V, frequency: *const f32, gain: *const f32) -> I::V {
    // SAFETY: as the caller promises.
    unsafe {
        let wave = I::sine_squared(I::mul(x, I::load(frequency)));
        I::fma(wave, I::load(gain), x)
    }
}
