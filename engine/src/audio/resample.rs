//! Changes the rate of a sound. `rubato` does the arithmetic, in f64: an FFT with a windowed sinc
//! as its filter. Here its blocks are chosen, its delay is removed and the length is made exact.
//! It must not know files or loudness.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler};

use super::{AudioError, check_rate};

/// The length of the filter at the lower of the two rates. The pass band ends at about
/// `1 - 28 / FILTER_SAMPLES` of the lower Nyquist frequency.
const FILTER_SAMPLES: usize = 1024;

/// The sound at another rate: `round(len * to / from)` samples, none of them delayed.
/// Equal rates give the samples as they are.
pub fn resample(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>, AudioError> {
    check_rate(from)?;
    check_rate(to)?;
    if from == to || samples.is_empty() {
        return Ok(samples.to_vec());
    }
    let wanted = resampled_len(samples.len(), from, to);
    run(samples, from, to, wanted).map_err(|reason| AudioError::Resample {
        samples: samples.len(),
        from,
        to,
        reason,
    })
}

/// `len * to / from`, rounded; a half goes up.
pub fn resampled_len(len: usize, from: u32, to: u32) -> usize {
    let (len, from, to) = (len as u128, u128::from(from), u128::from(to));
    // At most 24 times as much for the rates that are taken: no memory holds samples that overflow.
    usize::try_from((2 * len * to + from) / (2 * from)).unwrap_or(usize::MAX)
}

fn run(samples: &[f32], from: u32, to: u32, wanted: usize) -> Result<Vec<f32>, String> {
    let (from, to) = (from as usize, to as usize);
    let unit = gcd(from, to);
    // An even number of the smallest blocks: the delay of half a block is then a whole number of
    // samples on both sides.
    let units = FILTER_SAMPLES
        .div_ceil(from.min(to) / unit)
        .next_multiple_of(2);
    let block = units * (from / unit);
    let mut fft = Fft::<f64>::new(from, to, block, 1, FixedSync::Both).map_err(text)?;

    let mut input = vec![0f64; fft.input_frames_max()];
    let mut output = vec![0f64; fft.output_frames_max()];
    let mut resampled = Vec::with_capacity(wanted);
    let mut rest = samples;
    let mut delay = fft.output_delay();
    while resampled.len() < wanted {
        let (now, later) = rest.split_at(rest.len().min(fft.input_frames_next()));
        rest = later;
        // Silence follows the end.
        input.fill(0.0);
        for (slot, &sample) in input.iter_mut().zip(now) {
            *slot = f64::from(sample);
        }
        let (input_len, output_len) = (input.len(), output.len());
        let source = SequentialSlice::new(&input, 1, input_len).map_err(text)?;
        let mut sink = SequentialSlice::new_mut(&mut output, 1, output_len).map_err(text)?;
        let (_, made) = fft
            .process_into_buffer(&source, &mut sink, None)
            .map_err(text)?;
        if made == 0 {
            return Err("no samples come out".to_owned());
        }
        let late = delay.min(made);
        delay -= late;
        let room = wanted - resampled.len();
        resampled.extend(
            output[late..made]
                .iter()
                .take(room)
                .map(|&sample| sample as f32),
        );
    }
    Ok(resampled)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    const PAIRS: [(u32, u32); 9] = [
        (48_000, 24_000),
        (44_100, 24_000),
        (24_000, 16_000),
        (16_000, 24_000),
        (8_000, 24_000),
        (22_050, 24_000),
        (24_000, 48_000),
        (192_000, 24_000),
        (44_100, 22_050),
    ];

    fn sine(hz: f64, rate: u32, len: usize) -> Vec<f32> {
        let step = TAU * hz / f64::from(rate);
        (0..len)
            .map(|i| (0.5 * (step * i as f64 + 0.3).sin()) as f32)
            .collect()
    }

    fn rms(samples: &[f32]) -> f64 {
        let squares: f64 = samples.iter().map(|&x| f64::from(x).powi(2)).sum();
        (squares / samples.len() as f64).sqrt()
    }

    /// Without the edges, where the silence before and after is heard.
    fn middle(samples: &[f32]) -> &[f32] {
        &samples[samples.len() / 4..samples.len() * 3 / 4]
    }

    fn decibel(ratio: f64) -> f64 {
        20.0 * ratio.log10()
    }

    #[test]
    fn tones_keep_their_amplitude_and_their_place() {
        for (from, to) in PAIRS {
            let nyquist = f64::from(from.min(to)) / 2.0;
            for share in [0.01, 0.1, 0.37, 0.5, 0.75, 0.9] {
                let hz = share * nyquist;
                let made = resample(&sine(hz, from, from as usize), from, to).unwrap();
                let wanted = sine(hz, to, to as usize);
                assert_eq!(made.len(), wanted.len());
                let gain = decibel(rms(middle(&made)) / rms(middle(&wanted)));
                assert!(gain.abs() < 0.1, "{from} to {to}, {hz} Hz: {gain} dB");
                // Sample by sample: a shift of a hundredth of a sample would be seen.
                let apart: Vec<f32> = made.iter().zip(&wanted).map(|(a, b)| a - b).collect();
                let apart = decibel(rms(middle(&apart)) / rms(middle(&wanted)));
                assert!(apart < -80.0, "{from} to {to}, {hz} Hz: off by {apart} dB");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone() {
        for (from, to) in PAIRS.into_iter().filter(|(from, to)| from > to) {
            let (low, high) = (f64::from(to) / 2.0, f64::from(from) / 2.0);
            for share in [0.001, 0.01, 0.1, 0.4, 0.7, 0.95] {
                let hz = low + share * (high - low);
                let tone = sine(hz, from, from as usize);
                let made = resample(&tone, from, to).unwrap();
                let left = decibel(rms(middle(&made)) / rms(&tone));
                assert!(left < -80.0, "{from} to {to}, {hz} Hz: {left} dB");
            }
        }
    }

    #[test]
    fn going_up_adds_no_images() {
        for (from, to) in PAIRS.into_iter().filter(|(from, to)| from < to) {
            for share in [0.2, 0.6, 0.9] {
                let hz = share * f64::from(from) / 2.0;
                let made = resample(&sine(hz, from, from as usize), from, to).unwrap();
                let image = tone_at(middle(&made), f64::from(from) - hz, to);
                assert!(decibel(image / 0.5) < -80.0, "{from} to {to}, {hz} Hz");
            }
        }
    }

    /// The amplitude of one frequency, through a Hann window.
    fn tone_at(samples: &[f32], hz: f64, rate: u32) -> f64 {
        let len = samples.len() as f64;
        let (mut re, mut im) = (0.0, 0.0);
        for (i, &sample) in samples.iter().enumerate() {
            let at = i as f64;
            let value = f64::from(sample) * (0.5 - 0.5 * (TAU * at / len).cos());
            let angle = TAU * hz * at / f64::from(rate);
            re += value * angle.cos();
            im += value * angle.sin();
        }
        4.0 * re.hypot(im) / len
    }

    #[test]
    fn lengths_are_exact() {
        for (from, to) in PAIRS {
            for len in [0, 1, 2, 3, 7, 100, 1023, 1024, 1025, 4801] {
                let exact = (len as f64 * f64::from(to) / f64::from(from)).round() as usize;
                assert_eq!(resample(&vec![0.25; len], from, to).unwrap().len(), exact);
            }
        }
    }

    #[test]
    fn an_impulse_stays_where_it_is() {
        let mut samples = vec![0f32; 4800];
        samples[2400] = 1.0;
        let made = resample(&samples, 48_000, 24_000).unwrap();
        let loudest = (0..made.len()).max_by(|&a, &b| made[a].total_cmp(&made[b]));
        assert_eq!(loudest, Some(1200));
        for i in 1..1000 {
            assert!((made[1200 - i] - made[1200 + i]).abs() < 1e-6);
        }
    }

    #[test]
    fn rates_without_a_common_divisor_work() {
        for (from, to) in [(44_101, 24_000), (8_009, 24_000), (47_999, 48_000)] {
            let hz = 1000.0;
            let made = resample(&sine(hz, from, from as usize), from, to).unwrap();
            let wanted = sine(hz, to, to as usize);
            let apart: Vec<f32> = made.iter().zip(&wanted).map(|(a, b)| a - b).collect();
            let apart = decibel(rms(middle(&apart)) / rms(middle(&wanted)));
            assert!(apart < -80.0, "{from} to {to}: off by {apart} dB");
        }
    }

    #[test]
    fn equal_rates_change_nothing() {
        let samples = sine(440.0, 24_000, 1000);
        assert_eq!(resample(&samples, 24_000, 24_000).unwrap(), samples);
    }

    #[test]
    fn rates_outside_the_range_are_refused() {
        for (from, to) in [(0, 24_000), (24_000, 0), (7_999, 24_000), (24_000, 192_001)] {
            assert!(matches!(
                resample(&[0.0], from, to),
                Err(AudioError::Rate { .. })
            ));
        }
    }
}
