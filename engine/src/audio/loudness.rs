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
