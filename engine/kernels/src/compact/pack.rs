//! Making a matrix compact, with all threads, at about the speed of memory: first what the codes of
//! each row mean and how many strays that leaves, which says where each row's strays go; then the
//! rows themselves.
#![expect(unsafe_code, reason = "workers write rows of one matrix")]
// Sound because every row's groups, head and strays are disjoint from all others', and each row is
// one worker's.

use half::bf16;

use super::{
    GROUP, GROUP_BYTES, NUMBERS_A_STRAY, Parts, RowHead, Stray, TAILS, exponent_of, tail_of,
};
use crate::isa::{Isa, Kernel, dispatch};
use crate::shared::Shared;
use crate::team::{Cut, Team};

/// The numbers of a matrix have too many different exponents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyStrays {
    pub strays: usize,
    pub most: usize,
}

/// Rows that a worker takes at a time.
const ROWS: usize = 16;

/// Makes `from`, a matrix of `cols` columns, compact in `to`, which begins at a multiple of eight.
///
/// # Panics
/// If the sizes do not agree with [`Compact::bytes_for`].
pub fn pack(team: &Team, from: &[bf16], cols: usize, to: &mut [u8]) -> Result<(), TooManyStrays> {
    let rows = from.len() / cols.max(1);
    let parts = Parts::of(rows, cols).filter(|parts| parts.bytes() == to.len());
    let Some(parts) = parts.filter(|_| from.len() == rows * cols) else {
        panic!(
            "{} numbers of {cols} columns into {} bytes",
            from.len(),
            to.len()
        );
    };
    let from: &[u16] = bytemuck::cast_slice(from);
    let (groups, rest) = to.split_at_mut(parts.groups);
    let (heads, strays) = rest.split_at_mut(parts.heads);
    let heads: &mut [u64] = bytemuck::cast_slice_mut(heads);
    let strays: &mut [u32] = bytemuck::cast_slice_mut(strays);
    let shared = Shared::new(heads);
    let cut = Cut::at_least(ROWS, rows, team.threads());
    team.deal(cut, |share, _| {
        let from = &from[share.start * cols..share.end * cols];
        // SAFETY: the rows are this worker's; levels in use are supported.
        unsafe {
            dispatch(
                team.level(),
                Heads {
                    from,
                    cols,
                    to: shared.get_mut(share),
                },
            )
        };
    });
    let mut first = 0;
    for head in &mut heads[..rows] {
        let own = RowHead::from_bits(*head);
        // Beyond the last row stands where its strays end.
        let count = own.strays as usize;
        *head = RowHead {
            strays: first as u32,
            ..own
        }
        .to_bits();
        first += count;
    }
    heads[rows] = RowHead {
        strays: first as u32,
        ..RowHead::default()
    }
    .to_bits();
    if first > strays.len() {
        return Err(TooManyStrays {
            strays: first,
            most: strays.len(),
        });
    }
    let heads = &*heads;
    let row_bytes = cols / GROUP * GROUP_BYTES;
    let (groups, strays) = (Shared::new(groups), Shared::new(strays));
    team.deal(cut, |share, _| {
        for row in share {
            let [head, next] = [row, row + 1].map(|row| RowHead::from_bits(heads[row]));
            let from = &from[row * cols..(row + 1) * cols];
            // SAFETY: as above.
            unsafe {
                let groups = groups.get_mut(row * row_bytes..(row + 1) * row_bytes);
                let strays = strays.get_mut(head.strays as usize..next.strays as usize);
                dispatch(
                    team.level(),
                    Row {
                        head,
                        from,
                        groups,
                        strays,
                    },
                );
            }
        }
    });
    Ok(())
}

/// The heads of some rows, each with the number of its strays.
struct Heads<'a> {
    from: &'a [u16],
    cols: usize,
    to: &'a mut [u64],
}

impl Kernel for Heads<'_> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        for (row, head) in self.from.chunks_exact(self.cols).zip(self.to) {
            *head = head_of(row).to_bits();
        }
    }
}

/// The sixteen exponents that leave the fewest strays. Mostly these are the largest, or begin one or
/// two below: as long as leaving out the large ones gains more of the small. A row for which that
/// does badly, such as one with a single number far above all others, has its exponents counted.
#[inline(always)]
fn head_of(row: &[u16]) -> RowHead {
    let top = row.iter().fold(0, |top, &bits| top.max(bits & 0x7f80));
    let top = exponent_of(top);
    if top < 16 {
        return RowHead::default();
    }
    let zeros = row.iter().any(|&bits| exponent_of(bits) == 0);
    let at = |base: u8| {
        let head = RowHead::of(base, zeros);
        let strays = row
            .iter()
            .map(|&bits| u32::from(!head.code(exponent_of(bits)).1));
        RowHead {
            strays: strays.sum(),
            ..head
        }
    };
    let mut best = at(top - 15);
    while best.strays > 0 && best.base > 0 {
        let lower = at(best.base - 1);
        if lower.strays >= best.strays {
            break;
        }
        best = lower;
    }
    match best.strays as usize * NUMBERS_A_STRAY > row.len() {
        true => best_of_counts(row, zeros),
        false => best,
    }
}

#[cold]
#[inline(never)]
fn best_of_counts(row: &[u16], zeros: bool) -> RowHead {
    let mut counts = [0u32; 256];
    for &bits in row {
        counts[usize::from(exponent_of(bits))] += 1;
    }
    let at = |base: u8| {
        let head = RowHead::of(base, zeros);
        let stray = (0..=255u8).filter(|&exponent| !head.code(exponent).1);
        let strays = stray.map(|exponent| counts[usize::from(exponent)]).sum();
        RowHead { strays, ..head }
    };
    let heads = (0..=240).map(at);
    heads.min_by_key(|head| head.strays).unwrap_or_default()
}

/// One row, whose strays have their places.
struct Row<'a> {
    head: RowHead,
    from: &'a [u16],
    groups: &'a mut [u8],
    strays: &'a mut [u32],
}

impl Kernel for Row<'_> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        let mut strays = self.strays.iter_mut();
        let groups = self.groups.chunks_exact_mut(GROUP_BYTES);
        for (at, (from, group)) in self.from.chunks_exact(GROUP).zip(groups).enumerate() {
            let (codes, tails) = group.split_at_mut(TAILS);
            for (tail, &bits) in tails.iter_mut().zip(from) {
                *tail = tail_of(bits);
            }
            let mut all_coded = true;
            for (from, codes) in from.chunks_exact(64).zip(codes.chunks_exact_mut(32)) {
                let (low, high) = from.split_at(32);
                for ((code, &low), &high) in codes.iter_mut().zip(low).zip(high) {
                    let (low, low_coded) = self.head.code(exponent_of(low));
                    let (high, high_coded) = self.head.code(exponent_of(high));
                    *code = low | high << 4;
                    all_coded &= low_coded & high_coded;
                }
            }
            if all_coded {
                continue;
            }
            for (i, &bits) in from.iter().enumerate() {
                if !self.head.code(exponent_of(bits)).1
                    && let Some(stray) = strays.next()
                {
                    *stray = Stray::new(at * GROUP + i, bits).0;
                }
            }
        }
    }
}
