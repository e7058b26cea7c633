use half::bf16;

use super::*;
use crate::level::Level;
use crate::team::Team;
use crate::testing::Random;

fn packed(team: &Team, from: &[bf16], cols: usize) -> Result<Vec<u64>, TooManyStrays> {
    let bytes = Compact::bytes_for(from.len() / cols, cols).expect("a compact form");
    // What is not written must not matter.
    let mut to = vec![u64::MAX; bytes.div_ceil(8)];
    pack(
        team,
        from,
        cols,
        &mut bytemuck::cast_slice_mut(&mut to)[..bytes],
    )?;
    Ok(to)
}

fn unpacked(to: &[u64], rows: usize, cols: usize) -> Vec<bf16> {
    let bytes = Compact::bytes_for(rows, cols).expect("a compact form");
    let matrix = Compact::new(&bytemuck::cast_slice(to)[..bytes], rows, cols);
    let mut out = vec![bf16::NAN; rows * cols];
    for (row, out) in out.chunks_exact_mut(cols).enumerate() {
        matrix.row_into(row, |col, number| out[col] = number);
    }
    out
}

fn bits(numbers: &[bf16]) -> &[u16] {
    bytemuck::cast_slice(numbers)
}

fn teams() -> impl Iterator<Item = Team> {
    let levels = Level::ALL.into_iter().filter(|level| level.is_supported());
    levels.flat_map(|level| [1, 3].map(|threads| Team::with_level(threads, level)))
}

/// Like weights: sums of several even draws, so that small numbers are as rare as they are there.
fn weights(count: usize, random: &mut Random) -> Vec<bf16> {
    let mut weight = || (0..6).map(|_| random.number()).sum::<f32>() * 0.02;
    (0..count).map(|_| bf16::from_f32(weight())).collect()
}

#[test]
fn every_bit_comes_back() {
    let mut random = Random::new(5);
    for team in teams() {
        for (rows, cols) in [(1, 128), (7, 128), (33, 384), (50, 1536)] {
            let from = weights(rows * cols, &mut random);
            let to = packed(&team, &from, cols).expect("room for the strays");
            assert_eq!(
                bits(&unpacked(&to, rows, cols)),
                bits(&from),
                "{team:?} {rows} x {cols}"
            );
        }
    }
}

#[test]
fn zeros_outliers_and_no_numbers_come_back() {
    let odd = [
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1e-40,
        -1e-30,
        1e30,
        f32::MAX,
    ]
    .map(bf16::from_f32);
    let mut random = Random::new(6);
    let team = Team::new(2);
    let (rows, cols) = (16, 1280);
    // In turn: rows without odd numbers, rows that also have one kind, and rows of nothing else.
    for kind in odd {
        let mut from = weights(rows * cols, &mut random);
        for (row, numbers) in from.chunks_exact_mut(cols).enumerate() {
            match row % 4 {
                1 => numbers
                    .iter_mut()
                    .skip(row)
                    .step_by(700)
                    .for_each(|n| *n = kind),
                3 => numbers.fill(kind),
                _ => {}
            }
        }
        let to = packed(&team, &from, cols).expect("room for the strays");
        assert_eq!(bits(&unpacked(&to, rows, cols)), bits(&from), "{kind}");
    }
}

#[test]
fn weights_take_three_quarters_and_few_of_them_stray() {
    let mut random = Random::new(7);
    let team = Team::new(2);
    let (rows, cols) = (200, 1536);
    let from = weights(rows * cols, &mut random);
    let to = packed(&team, &from, cols).expect("room for the strays");
    let bytes = Compact::bytes_for(rows, cols).expect("a compact form");
    let matrix = Compact::new(&bytemuck::cast_slice(&to)[..bytes], rows, cols);
    let strays: usize = (0..rows).map(|row| matrix.strays(row).count()).sum();
    assert!(strays > 0, "nothing to test");
    assert!(
        strays * 2000 < from.len(),
        "{strays} strays of {}",
        from.len()
    );
    assert!(bytes * 100 < size_of_val(&*from) * 77, "{bytes} bytes");
    assert!(matrix.bytes() < bytes);
}

#[test]
fn numbers_of_all_sizes_are_refused() {
    let mut random = Random::new(8);
    let all = |random: &mut Random| bf16::from_bits((random.number() * 32767.0) as i16 as u16);
    let from: Vec<bf16> = (0..64 * 256).map(|_| all(&mut random)).collect();
    let error = packed(&Team::new(2), &from, 256).expect_err("too many strays");
    assert_eq!(error.most, 64);
    assert!(error.strays > error.most);
}

#[test]
fn only_whole_groups_have_a_compact_form() {
    for (cols, has) in [
        (128, true),
        (1536, true),
        (65_536, true),
        (0, false),
        (64, false),
        (200, false),
        (65_664, false),
    ] {
        assert_eq!(Compact::bytes_for(3, cols).is_some(), has, "{cols}");
    }
}
