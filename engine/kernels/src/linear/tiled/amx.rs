//! The processor's tile registers: permission, configuration and the inner loop. An activation goes
//! in as two parts, `high + low`, so that a product is off by at most 2^-17 of it. Knows
//! nothing of matrices larger than a panel.
#![expect(
    unsafe_code,
    reason = "tile instructions, a system call and processor queries"
)]
// Sound because the compiler never uses tile registers itself, so none that it holds is lost; every
// use lies between `Tiles::configure` and the drop of the value on the same thread; and
// `multiply` reads and writes exactly the buffers that `Operands` states.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;

use super::multiplier::{Ahead, Groups, Multiplier, Operands};
use super::plan::{GROUPS, Limits, SIDE, TILE_BYTES, TILE_FLOATS};

/// Whether the processor has bf16 tiles and the system lets this process use them. Asks the system
/// for the permission, which holds for all threads and cannot be given back.
pub(crate) fn is_usable() -> bool {
    const XSAVE: u32 = 1 << 27;
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const TILE_STATE: u64 = 0b11 << 17;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & XSAVE == 0 {
        return false;
    }
    if __cpuid_count(7, 0).edx & (AMX_BF16 | AMX_TILE) != AMX_BF16 | AMX_TILE {
        return false;
    }
    // SAFETY: the system has enabled the instruction, as just asked.
    let enabled = unsafe { _xgetbv(0) };
    enabled & TILE_STATE == TILE_STATE && permitted()
}

#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const TILE_DATA: libc::c_ulong = 18;
    // SAFETY: the call takes two numbers and only changes what this process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Tile registers configured on this thread, all of them 16 by 64 bytes; released on drop.
pub(crate) struct Tiles {
    /// Not to be sent: the registers are this thread's.
    thread: PhantomData<*const ()>,
}

impl Multiplier for Tiles {
    const LIMITS: Limits = Limits {
        parts: 2,
        block_tokens_max: 192,
        stretch_bytes: 9 << 17,
    };

    /// # Safety
    /// [`is_usable`] has said yes.
    unsafe fn ready() -> Self {
        let mut configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        configuration.row_bytes[..8].fill(64);
        configuration.rows[..8].fill(SIDE as u8);
        // SAFETY: the caller promises the instruction; it reads 64 bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly));
        }
        Tiles {
            thread: PhantomData,
        }
    }

    #[inline(always)]
    unsafe fn multiply(&self, operands: &Operands, ahead: &mut Ahead) {
        let lines_a_step = (GROUPS * SIDE).div_ceil(operands.token_tiles);
        for tile in 0..operands.token_tiles {
            // SAFETY: the caller promises the operands.
            unsafe {
                let sums = operands.sums.add(tile * GROUPS * TILE_FLOATS);
                let mut activations = operands.activations.add(tile * operands.tile_bytes);
                if operands.continues {
                    self.load(sums);
                } else {
                    self.clear();
                }
                for (weights, steps) in &operands.weights {
                    self.add_products(weights, activations, *steps, || ahead.ask(lines_a_step));
                    activations = activations.add(steps * 2 * TILE_BYTES);
                }
                self.store(sums);
            }
        }
    }
}

impl Tiles {
    /// Registers ready for use, for code that multiplies without operands.
    ///
    /// # Safety
    /// [`is_usable`] has said yes.
    pub unsafe fn configured() -> Self {
        // SAFETY: as the caller promises.
        unsafe { <Self as Multiplier>::ready() }
    }

    /// Empties the four sums.
    #[inline(always)]
    fn clear(&self) {
        // SAFETY: only tile registers change, which the compiler does not use.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack, nomem, preserves_flags),
            );
        }
    }

    /// Takes up four sums from memory.
    ///
    /// # Safety
    /// There are four tiles at `sums`.
    #[inline(always)]
    unsafe fn load(&self, sums: *const f32) {
        // SAFETY: as the caller promises; only tile registers change.
        unsafe {
            asm!(
                "tileloadd tmm0, [{sums} + {row}]",
                "tileloadd tmm1, [{sums} + {row} + 1024]",
                "tileloadd tmm2, [{sums} + {row} + 2048]",
                "tileloadd tmm3, [{sums} + {row} + 3072]",
                sums = in(reg) sums, row = in(reg) 64usize,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    /// Writes the four sums to memory.
    ///
    /// # Safety
    /// There is room for four tiles at `sums`.
    #[inline(always)]
    unsafe fn store(&self, sums: *mut f32) {
        // SAFETY: as the caller promises.
        unsafe {
            asm!(
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 1024], tmm1",
                "tilestored [{sums} + {row} + 2048], tmm2",
                "tilestored [{sums} + {row} + 3072], tmm3",
                sums = in(reg) sums, row = in(reg) 64usize,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Adds to the four sums the products of four groups of weights with one tile of activations in
    /// two parts, for some steps. Calls `ahead` before each.
    ///
    /// # Safety
    /// As [`Operands`] says of `weights` and `activations`, for one tile of tokens.
    #[inline(always)]
    unsafe fn add_products(
        &self,
        weights: &Groups,
        activations: *const u8,
        steps: usize,
        mut ahead: impl FnMut(),
    ) {
        let [mut first, mut second, mut third, mut fourth] = weights.start;
        for step in 0..steps {
            ahead();
            // The high and the low part of the activations (tmm4 and tmm5) meet each group (tmm6
            // and tmm7 in turn); the sums change in an order that keeps dependent products apart.
            // SAFETY: as the caller promises; only tile registers change.
            unsafe {
                asm!(
                    "tileloadd tmm4, [{b} + {packed}]",
                    "tileloadd tmm6, [{a0} + {row}]",
                    "tileloadd tmm7, [{a1} + {row}]",
                    "tdpbf16ps tmm0, tmm6, tmm4",
                    "tileloadd tmm5, [{b} + {packed} + 1024]",
                    "tdpbf16ps tmm1, tmm7, tmm4",
                    "tdpbf16ps tmm0, tmm6, tmm5",
                    "tileloadd tmm6, [{a2} + {row}]",
                    "tdpbf16ps tmm1, tmm7, tmm5",
                    "tileloadd tmm7, [{a3} + {row}]",
                    "tdpbf16ps tmm2, tmm6, tmm4",
                    "tdpbf16ps tmm3, tmm7, tmm4",
                    "tdpbf16ps tmm2, tmm6, tmm5",
                    "tdpbf16ps tmm3, tmm7, tmm5",
                    a0 = in(reg) first, a1 = in(reg) second,
                    a2 = in(reg) third, a3 = in(reg) fourth,
                    b = in(reg) activations.add(step * 2 * TILE_BYTES),
                    row = in(reg) weights.row_bytes, packed = in(reg) 64usize,
                    options(nostack, readonly, preserves_flags),
                );
            }
            for group in [&mut first, &mut second, &mut third, &mut fourth] {
                *group = group.wrapping_add(weights.step_bytes);
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the registers were configured on this thread. Without this the system would save
        // and restore them on every switch.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}
