//! Every level, form and number of rows gives the same bits, and they are the right ones.
#![expect(unsafe_code, reason = "memory that ends where a test wants it to")]

use encoding::Block;
use half::f16;

use super::formats::{Unpacked, dequantise, octet_bytes, scales_at, unpack};
use super::rounded::{GROUP, OCTET};
use super::*;
use crate::testing::{Random, blocks, levels};

/// A row, rounded.
fn rounded_at(level: Level, x: &[f32]) -> Vec<Octet> {
    let mut out = vec![Octet::ZERO; octets(x.len())];
    round_row(level, x, &mut out);
    out
}

/// One product by the definition in `product.rs`, in f64 but for the rounding of the activations.
fn dot_plainly(encoding: Encoding, row: &[u8], x: &[Octet]) -> f64 {
    let mut w = Unpacked::ZERO;
    let mut sum = 0.0f64;
    for (bytes, x) in row.chunks(octet_bytes(encoding)).zip(x) {
        unpack(encoding, bytes, &mut w);
        for i in 0..w.q.len() {
            let (g, h) = (i / GROUP, i % GROUP / 16);
            let scale = f64::from(w.d[g]) * f64::from(w.factor[g][h]);
            let minus = f64::from(w.least[g]) * f64::from(w.minus[g][h]);
            let x = f64::from(x.scale[g]) * f64::from(x.q[i]);
            sum += (scale * f64::from(w.q[i]) - minus) * x;
        }
    }
    sum
}

fn encodings() -> impl Iterator<Item = Encoding> {
    Encoding::ALL
        .into_iter()
        .filter(|encoding| !encoding.is_plain())
}

fn assert_same(a: &[Octet], b: &[Octet]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.q, b.q);
        assert_eq!(a.scale.map(f32::to_bits), b.scale.map(f32::to_bits));
        assert_eq!(a.sums, b.sums);
    }
}

#[test]
fn blocks_say_what_the_fixtures_say() {
    let file = include_bytes!("../../tests/fixtures/blocks.bin");
    let mut rest = &file[..];
    let mut found = 0;
    while !rest.is_empty() {
        let name = std::str::from_utf8(&rest[..8])
            .unwrap()
            .trim_end_matches('\0');
        let encoding = encodings()
            .find(|e| e.name() == name.to_lowercase())
            .unwrap();
        let size = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
        let (bytes, numbers) = (size(8), size(12));
        let (raw, values) = rest[16..].split_at(bytes);
        let mut out = vec![0.0; numbers];
        dequantise(encoding, raw, &mut out);
        for (i, value) in out.iter().enumerate() {
            let wanted = f32::from_le_bytes(values[4 * i..4 * i + 4].try_into().unwrap());
            assert_eq!(*value, wanted, "{name} {i}");
        }
        rest = &values[4 * numbers..];
        found += 1;
    }
    assert_eq!(found, encodings().count());
}

#[test]
fn all_forms_give_the_same_bits() {
    let mut random = Random::new(7);
    for round in 0..12 {
        for encoding in encodings() {
            let Block { numbers, bytes } = encoding.block();
            let most = if numbers == 256 { 7 } else { 40 };
            let cols = (1 + random.below(most)) * numbers;
            let rows = 1 + random.below(6) + 16 * random.below(4);
            let before = random.below(64);
            let all = blocks(encoding, rows * cols, &mut random);
            // In a buffer of its own with nothing behind it, at any alignment.
            let mut at = vec![0u8; before];
            at.extend(&all);
            let at = at.into_boxed_slice();
            let at = &at[before..];
            assert_eq!(at.len(), rows * cols / numbers * bytes);
            let matrix = Quantised::new(encoding, at, rows, cols);
            let count = 1 + (round + random.below(9)) % 9;
            let spread = 10f32.powi(random.below(9) as i32 - 4);
            let x: Vec<Vec<f32>> = (0..count)
                .map(|_| {
                    let mut x: Vec<f32> = (0..cols)
                        .map(|_| random.number().powi(3) * spread)
                        .collect();
                    // Some groups of zeros, and of next to nothing.
                    for group in x.chunks_mut(32) {
                        match random.below(12) {
                            0 => group.fill(0.0),
                            1 => group.fill(1e-38),
                            2 => group[3] = 3e4 * spread,
                            _ => {}
                        }
                    }
                    x
                })
                .collect();
            let mut wanted: Option<Vec<Vec<f32>>> = None;
            for level in levels() {
                let rounded: Vec<_> = x.iter().map(|x| rounded_at(level, x)).collect();
                for (rounded, x) in rounded.iter().zip(&x) {
                    assert_same(rounded, &rounded_at(Level::Portable, x));
                }
                // All together, and one by one.
                let mut out = vec![vec![f32::NAN; rows]; count];
                let refs: Vec<&[Octet]> = rounded.iter().map(|x| &x[..]).collect();
                let mut outs: Vec<&mut [f32]> = out.iter_mut().map(|o| &mut o[..]).collect();
                dot_rows(level, &matrix, 0..rows, &refs, &mut outs);
                for (n, out) in out.iter().enumerate() {
                    for (r, value) in out.iter().enumerate() {
                        let mut alone = [0.0];
                        dot_rows(level, &matrix, r..r + 1, &refs[n..=n], &mut [&mut alone]);
                        assert_eq!(alone[0].to_bits(), value.to_bits(), "{level} {encoding}");
                        let row = &at[r * at.len() / rows..(r + 1) * at.len() / rows];
                        let exact = dot_plainly(encoding, row, &rounded[n]);
                        let size = magnitude(encoding, row, &rounded[n]);
                        let error = (f64::from(*value) - exact).abs();
                        assert!(
                            error <= 1e-6 * size,
                            "{level} {encoding} {value} {exact} {size}"
                        );
                    }
                }
                let bits = |out: &Vec<Vec<f32>>| -> Vec<u32> {
                    out.iter().flatten().map(|v| v.to_bits()).collect()
                };
                match &wanted {
                    None => wanted = Some(out),
                    Some(wanted) => {
                        assert_eq!(
                            bits(wanted),
                            bits(&out),
                            "{level} {encoding} {cols} {count}"
                        )
                    }
                }
            }
        }
    }
}

/// The sum of the absolute products of a row: what a rounding error is relative to.
fn magnitude(encoding: Encoding, row: &[u8], x: &[Octet]) -> f64 {
    let numbers = row.len() / encoding.block().bytes * encoding.block().numbers;
    let mut w = vec![0.0; numbers];
    dequantise(encoding, row, &mut w);
    let x = x
        .iter()
        .flat_map(|o| (0..OCTET).map(|i| f64::from(o.scale[i / GROUP]) * f64::from(o.q[i])));
    w.iter()
        .zip(x)
        .map(|(w, x)| (f64::from(*w) * x).abs())
        .sum()
}

#[test]
fn what_is_not_finite_makes_its_row_nan_and_no_other() {
    let mut random = Random::new(9);
    for encoding in encodings() {
        let cols = 512
            + if encoding.block().numbers == 32 {
                96
            } else {
                0
            };
        let all = blocks(encoding, 3 * cols, &mut random);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for level in levels() {
                let mut x = vec![vec![0.5f32; cols]; 3];
                x[1][cols - 7] = odd;
                let rounded: Vec<_> = x.iter().map(|x| rounded_at(level, x)).collect();
                let refs: Vec<&[Octet]> = rounded.iter().map(|x| &x[..]).collect();
                let mut out = [[0.0f32; 3]; 3];
                let mut outs: Vec<&mut [f32]> = out.iter_mut().map(|o| &mut o[..]).collect();
                let matrix = Quantised::new(encoding, &all, 3, cols);
                dot_rows(level, &matrix, 0..3, &refs, &mut outs);
                assert!(out[1].iter().all(|v| v.is_nan()), "{level} {encoding}");
                assert!(out[0].iter().chain(&out[2]).all(|v| v.is_finite()));
            }
        }
    }
}

#[test]
fn the_largest_integers_are_exact() {
    // All codes and scales at their extremes, with activations of 127 and -127.
    for encoding in encodings() {
        for fill in [0x00u8, 0xff, 0x80, 0x7f, 0x0f, 0xf0] {
            let cols = 256;
            let mut all = vec![fill; encoding.bytes(1, cols).unwrap()];
            for block in all.chunks_mut(encoding.block().bytes) {
                for at in scales_at(encoding) {
                    block[*at..at + 2].copy_from_slice(&f16::from_f32(1.0).to_le_bytes());
                }
            }
            for sign in [1.0f32, -1.0] {
                let x = vec![sign * 127.0; cols];
                let mut bits = Vec::new();
                for level in levels() {
                    let rounded = rounded_at(level, &x);
                    let mut out = [0.0];
                    let matrix = Quantised::new(encoding, &all, 1, cols);
                    dot_rows(level, &matrix, 0..1, &[&rounded], &mut [&mut out]);
                    let exact = dot_plainly(encoding, &all, &rounded);
                    let size = magnitude(encoding, &all, &rounded);
                    assert!(
                        (f64::from(out[0]) - exact).abs() <= 1e-6 * size,
                        "{level} {encoding}"
                    );
                    bits.push(out[0].to_bits());
                }
                assert!(bits.iter().all(|b| *b == bits[0]), "{encoding} {fill}");
            }
        }
    }
}

/// Rows that end where readable memory ends.
#[test]
#[cfg(unix)]
fn nothing_behind_the_rows_is_read() {
    let mut random = Random::new(11);
    // Whole pages of any system.
    let (pages, page) = (1 << 20, 64 << 10);
    // SAFETY: fresh pages; the last of them is made unreadable, and never given back.
    let memory = unsafe {
        let (both, how) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        let at = libc::mmap(std::ptr::null_mut(), pages + page, both, how, -1, 0).cast::<u8>();
        assert_eq!(
            libc::mprotect(at.add(pages).cast(), page, libc::PROT_NONE),
            0
        );
        std::slice::from_raw_parts_mut(at, pages)
    };
    for encoding in encodings() {
        let long = encoding.block().numbers == 256;
        for cols in if long {
            [256, 512, 768]
        } else {
            [32, 256, 480]
        } {
            for rows in [1, 3, 16, 33, 50] {
                for count in [1, 2, 4, 9, 130] {
                    let all = blocks(encoding, rows * cols, &mut random);
                    let at = &mut memory[pages - all.len()..];
                    at.copy_from_slice(&all);
                    let matrix = Quantised::new(encoding, at, rows, cols);
                    let x: Vec<f32> = (0..cols).map(|_| random.number()).collect();
                    let rounded = rounded_at(Level::detect(), &x);
                    let refs = vec![&rounded[..]; count];
                    let mut wanted = vec![0.0f32; rows];
                    dot_rows(
                        Level::Portable,
                        &matrix,
                        0..rows,
                        &refs[..1],
                        &mut [&mut wanted],
                    );
                    for level in levels().skip(1) {
                        let mut out = vec![vec![0.0f32; rows]; count];
                        let mut outs: Vec<&mut [f32]> =
                            out.iter_mut().map(|o| &mut o[..]).collect();
                        dot_rows(level, &matrix, 0..rows, &refs, &mut outs);
                        assert!(out.iter().all(|out| *out == wanted), "{level} {encoding}");
                    }
                }
            }
        }
    }
}

#[test]
fn odd_groups_are_rounded_alike() {
    let least = f32::from_bits((127 - 119) << 23);
    let below = f32::from_bits(least.to_bits() - 1);
    let most = [
        f32::MAX,
        least,
        below,
        0.0,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1e-45,
        127.5,
        -1.0,
    ];
    let mut random = Random::new(13);
    for cols in [32 * most.len(), 32 * most.len() + 256, 512] {
        let mut x = vec![0.0f32; cols];
        for (group, top) in x.chunks_mut(32).zip(most.iter().cycle()) {
            for x in group.iter_mut() {
                *x = if top.is_finite() {
                    top * random.number()
                } else {
                    random.number()
                };
            }
            group[random.below(32)] = *top;
            // Halfway between whole numbers.
            if *top == 127.5 {
                group.copy_from_slice(&std::array::from_fn::<f32, 32, _>(|i| i as f32 - 15.5));
                group[0] = 127.0;
            }
        }
        let wanted = rounded_at(Level::Portable, &x);
        for level in levels() {
            // Over something else.
            let mut rounded = rounded_at(level, &vec![3.0; cols]);
            round_row(level, &x, &mut rounded);
            assert_same(&rounded, &wanted);
        }
        let q = &wanted[1].q[..32];
        assert_eq!(&q[..4], [127, -14, -14, -12]);
    }
}

#[test]
fn a_scale_that_is_not_finite_is_found() {
    let mut random = Random::new(17);
    for encoding in encodings() {
        let (rows, cols) = (3, 512);
        let mut all = blocks(encoding, rows * cols, &mut random);
        assert!(Quantised::new(encoding, &all, rows, cols).is_finite());
        for at in scales_at(encoding) {
            let last = all.len() - encoding.block().bytes + at;
            let before = [all[last], all[last + 1]];
            all[last..last + 2].copy_from_slice(&f16::INFINITY.to_le_bytes());
            assert!(!Quantised::new(encoding, &all, rows, cols).is_finite());
            all[last..last + 2].copy_from_slice(&before);
        }
    }
}
