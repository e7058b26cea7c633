//! Brings a voice to the loudness that VibeVoice's processor brings it to. Sums are kept in f64
//! and samples in f32, which agrees with numpy in float32. It must not know rates or files.

/// What VibeVoice's processor aims at, in dB below full scale.
pub const TARGET_DBFS: f64 = -25.0;
/// What VibeVoice's processor adds to a divisor.
pub const EPS: f64 = 1e-6;

/// Scales to `target_dbfs` by the root mean square, then divides by the peak where that is above 1.
/// Silence stays silence. The samples must be finite.
pub fn normalise(samples: &mut [f32], target_dbfs: f64, eps: f64) {
    if samples.is_empty() {
        return;
    }
    let squares: f64 = samples
        .iter()
        .map(|&sample| f64::from(sample).powi(2))
        .sum();
    let rms = (squares / samples.len() as f64).sqrt();
    let scale = (10f64.powf(target_dbfs / 20.0) / (rms + eps)) as f32;
    let mut peak = 0f32;
    for sample in samples.iter_mut() {
        *sample *= scale;
        peak = peak.max(sample.abs());
    }
    if peak > 1.0 {
        let divisor = peak + eps as f32;
        for sample in samples {
            *sample /= divisor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::testing::Random;

    fn random(seed: u64, len: usize, gain: f32) -> Vec<f32> {
        let mut random = Random(seed);
        (0..len).map(|_| random.sample() * gain).collect()
    }

    /// What numpy makes of the same samples in float32: at 0, 1, the middle and the end.
    fn check(seed: u64, len: usize, gain: f32, target_dbfs: f64, wanted: [f64; 4]) {
        let mut samples = random(seed, len, gain);
        normalise(&mut samples, target_dbfs, EPS);
        for (at, wanted) in [0, 1, len / 2, len - 1].into_iter().zip(wanted) {
            let relative = (f64::from(samples[at]) - wanted).abs() / wanted.abs();
            assert!(
                relative < 1e-6,
                "sample {at} of {len}: {} for {wanted}",
                samples[at]
            );
        }
    }

    #[test]
    fn agrees_with_numpy() {
        let quiet = [
            0.01303017046302557,
            0.04811454936861992,
            0.012633482925593853,
            0.07883675396442413,
        ];
        check(1, 1000, 0.3, TARGET_DBFS, quiet);
        let faint = [
            0.01765976846218109,
            0.04825025796890259,
            -0.008707799948751926,
            0.07612098008394241,
        ];
        check(2, 4097, 1e-3, TARGET_DBFS, faint);
        // Above 1 after the first step.
        let loud = [
            -0.7734128832817078,
            0.4007493555545807,
            -0.4071768820285797,
            -0.8920808434486389,
        ];
        check(3, 1000, 1.0, -3.0, loud);
        let long = [
            -0.013339477591216564,
            0.07636679708957672,
            0.006359382066875696,
            0.07348478585481644,
        ];
        check(4, 100_000, 0.5, TARGET_DBFS, long);
    }

    #[test]
    fn the_target_is_met_and_the_peak_stays_below_one() {
        let mut samples = random(5, 10_000, 0.2);
        normalise(&mut samples, TARGET_DBFS, EPS);
        let squares: f64 = samples.iter().map(|&x| f64::from(x).powi(2)).sum();
        let dbfs = 10.0 * (squares / samples.len() as f64).log10();
        assert!((dbfs - TARGET_DBFS).abs() < 1e-3, "{dbfs}");

        normalise(&mut samples, 0.0, EPS);
        let peak = samples.iter().fold(0f32, |peak, x| peak.max(x.abs()));
        assert!(peak < 1.0 && peak > 0.99999, "{peak}");
    }

    #[test]
    fn silence_stays_silence() {
        let mut samples = vec![0f32; 100];
        normalise(&mut samples, TARGET_DBFS, EPS);
        assert_eq!(samples, vec![0f32; 100]);
        normalise(&mut [], TARGET_DBFS, EPS);
    }
}
