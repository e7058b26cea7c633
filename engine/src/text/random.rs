//! The arithmetic of chance, written out so that a seed gives the same tokens on every
//! platform: a small generator, and an exponential of which each step is one IEEE
//! operation (the system's `exp` differs in its last bit from one libm to the next).
//! It must not know what is being drawn.

/// xoshiro256++, its state filled from the seed by splitmix64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut counter = seed;
        Self {
            state: std::array::from_fn(|_| splitmix64(&mut counter)),
        }
    }

    /// Uniform in [0, 1), with all 53 bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * STEP
    }

    fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }
}

fn splitmix64(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *counter;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// e^x for x <= 0, within 2 units in the last place; 0 where the result would be subnormal.
pub(super) fn exp_nonpositive(x: f32) -> f32 {
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer without a library call.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let exponent = shifted - ROUND;
    let r = x - exponent * LN_2_HIGH - exponent * LN_2_LOW;
    // Taylor: |r| <= ln 2 / 2, so the first term left out is under 6e-9.
    let mut sum = 1.0 / 5040.0;
    for term in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum * r + term;
    }
    // The integer stands in the low bits already; a cast would check its range.
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    // A mask and not a condition: a loop over this then has no branch and is vectorised.
    let keep = u32::from(x >= -87.0).wrapping_neg();
    f32::from_bits((sum * power).to_bits() & keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_xoshiro256_plus_plus() {
        let mut random = Random {
            state: [1, 2, 3, 4],
        };
        let first: Vec<u64> = (0..4).map(|_| random.next_u64()).collect();
        assert_eq!(
            first,
            [
                41_943_041,
                58_720_359,
                3_588_806_011_781_223,
                3_591_011_842_654_386
            ]
        );
    }

    #[test]
    fn the_seed_is_spread_by_splitmix64() {
        let mut counter = 1_234_567;
        assert_eq!(splitmix64(&mut counter), 6_457_827_717_110_365_317);
        assert_eq!(splitmix64(&mut counter), 3_203_168_211_198_807_973);
    }

    #[test]
    fn uniform_stays_below_one_and_averages_a_half() {
        let mut random = Random::new(7);
        let mut sum = 0.0;
        for _ in 0..100_000 {
            let u = random.uniform();
            assert!((0.0..1.0).contains(&u));
            sum += u;
        }
        assert!((sum / 100_000.0 - 0.5).abs() < 0.005);
    }

    #[test]
    fn exp_matches_the_library_to_two_ulp() {
        let mut worst = 0;
        for step in 0..870_000 {
            let x = -(step as f32) * 1e-4;
            let exact = f64::from(x).exp() as f32;
            let got = exp_nonpositive(x);
            worst = worst.max(got.to_bits().abs_diff(exact.to_bits()));
        }
        assert!(worst <= 2, "{worst} ulp");
        assert_eq!(exp_nonpositive(0.0), 1.0);
        assert_eq!(exp_nonpositive(-88.0), 0.0);
        assert_eq!(exp_nonpositive(f32::NEG_INFINITY), 0.0);
    }
}
