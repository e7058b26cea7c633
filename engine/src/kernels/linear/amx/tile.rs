//! The processor's tile registers: permission, configuration and the inner loop. Knows nothing of
//! matrices larger than a panel.
#![expect(
    unsafe_code,
    reason = "tile instructions, a system call and processor queries"
)]
// Sound because the compiler never uses tile registers itself, so none that it holds is lost; every
// use lies between `Tiles::configure` and the drop of the value on the same thread; and
// `multiply` reads and writes exactly the buffers whose sizes its documentation states.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;

/// Rows of a tile, and its columns of 32 bits.
pub(super) const SIDE: usize = 16;
/// Numbers of bf16 a row of a tile.
pub(super) const DEPTH: usize = 32;
/// Bytes of a tile.
pub(super) const TILE_BYTES: usize = 1024;
/// Tiles of weights that are multiplied with one tile of activations.
pub(super) const GROUPS: usize = 4;

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
pub(super) struct Tiles {
    /// Not to be sent: the registers are this thread's.
    thread: PhantomData<*const ()>,
}

impl Tiles {
    /// # Safety
    /// [`is_usable`] has said yes.
    pub unsafe fn configure() -> Self {
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

    /// Adds to (or, with `fresh`, sets) four tiles of sums the products of four stacks of weight
    /// tiles with a stack of activation tiles in two parts. `ahead` is asked for a step at a time.
    ///
    /// # Safety
    /// For each of `steps`: `weights` has four tiles, `activations` two (high and low part), one
    /// step after another. `sums` has four tiles.
    #[inline(always)]
    pub unsafe fn multiply(
        &self,
        weights: *const u8,
        activations: *const u8,
        sums: *mut f32,
        fresh: bool,
        steps: usize,
        mut ahead: impl FnMut(),
    ) {
        let row = 64usize;
        // SAFETY: as the caller promises; only tile registers are changed besides the memory.
        unsafe {
            if fresh {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    options(nostack, nomem, preserves_flags),
                );
            } else {
                asm!(
                    "tileloadd tmm0, [{c} + {row}]",
                    "tileloadd tmm1, [{c} + {row} + 1024]",
                    "tileloadd tmm2, [{c} + {row} + 2048]",
                    "tileloadd tmm3, [{c} + {row} + 3072]",
                    c = in(reg) sums, row = in(reg) row,
                    options(nostack, readonly, preserves_flags),
                );
            }
            for step in 0..steps {
                ahead();
                asm!(
                    "tileloadd tmm4, [{b} + {row}]",
                    "tileloadd tmm6, [{a} + {row}]",
                    "tileloadd tmm7, [{a} + {row} + 1024]",
                    "tdpbf16ps tmm0, tmm6, tmm4",
                    "tileloadd tmm5, [{b} + {row} + 1024]",
                    "tdpbf16ps tmm1, tmm7, tmm4",
                    "tdpbf16ps tmm0, tmm6, tmm5",
                    "tileloadd tmm6, [{a} + {row} + 2048]",
                    "tdpbf16ps tmm1, tmm7, tmm5",
                    "tileloadd tmm7, [{a} + {row} + 3072]",
                    "tdpbf16ps tmm2, tmm6, tmm4",
                    "tdpbf16ps tmm3, tmm7, tmm4",
                    "tdpbf16ps tmm2, tmm6, tmm5",
                    "tdpbf16ps tmm3, tmm7, tmm5",
                    a = in(reg) weights.add(step * GROUPS * TILE_BYTES),
                    b = in(reg) activations.add(step * 2 * TILE_BYTES),
                    row = in(reg) row,
                    options(nostack, readonly, preserves_flags),
                );
            }
            asm!(
                "tilestored [{c} + {row}], tmm0",
                "tilestored [{c} + {row} + 1024], tmm1",
                "tilestored [{c} + {row} + 2048], tmm2",
                "tilestored [{c} + {row} + 3072], tmm3",
                c = in(reg) sums, row = in(reg) row,
                options(nostack, preserves_flags),
            );
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
