//! Speech that does not end by itself: far too long for its text, silent, or saying the same over and
//! over. Looks at sound and at what the language model's rows are; knows no text.

use std::collections::VecDeque;

/// What is wrong with speech that is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runaway {
    /// Far longer than its text takes.
    NoEnd,
    Silence,
    Loop,
}

/// So many times the expected time, and so many seconds more, may pass.
const TIMES: f64 = 3.0;
const MORE_S: f64 = 20.0;
/// Silence of that many seconds is no pause.
const SILENT_S: f64 = 10.0;
/// Below that it is silent, as a share of full scale: -60 dB.
const SILENT: f32 = 1e-3;
/// A loop is no longer than that, and goes on for as long before it is one.
const LOOP_S: f64 = 12.0;
/// How alike the rows of a loop are, as the cosine of their angle.
const ALIKE: f64 = 0.9999;

/// Watches speech frame by frame.
#[derive(Debug)]
pub(super) struct Watch {
    expected_s: f64,
    frame_s: f64,
    frames: usize,
    silent: usize,
    /// The last rows, scaled to a length of one.
    rows: VecDeque<Vec<f32>>,
    /// For each distance, how many rows in a row were as those so far before.
    alike: Vec<usize>,
}

impl Watch {
    /// Of a text that takes about so many seconds, in frames of `frame_s`; some were made before.
    pub fn new(expected_s: f64, frame_s: f64, made: usize) -> Self {
        // Frames of next to nothing, as tests have them, need no long memory.
        let kept = ((LOOP_S / frame_s) as usize).min(1 << 10);
        Self {
            expected_s,
            frame_s,
            frames: made,
            silent: 0,
            rows: VecDeque::with_capacity(kept),
            alike: vec![0; kept],
        }
    }

    /// Takes in a frame, by its loudness and the row that it was made under.
    pub fn frame(&mut self, loudness: f32, row: &[f32]) -> Option<Runaway> {
        self.frames += 1;
        self.silent = match loudness < SILENT {
            true => self.silent + 1,
            false => 0,
        };
        let looped = self.looped(row);
        if self.frames as f64 * self.frame_s > TIMES * self.expected_s + MORE_S {
            return Some(Runaway::NoEnd);
        }
        if self.silent as f64 * self.frame_s > SILENT_S {
            return Some(Runaway::Silence);
        }
        looped.then_some(Runaway::Loop)
    }

    fn looped(&mut self, row: &[f32]) -> bool {
        let length = row
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
            .sqrt();
        let same = |a: &[f32], b: &[f32]| {
            let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
            products.sum::<f64>() >= ALIKE
        };
        let mut new = match self.rows.len() == self.alike.len() {
            true => self.rows.pop_back().unwrap_or_default(),
            false => Vec::with_capacity(row.len()),
        };
        new.clear();
        new.extend(
            row.iter()
                .map(|x| (f64::from(*x) / length.max(f64::MIN_POSITIVE)) as f32),
        );
        for (alike, before) in self.alike.iter_mut().zip(&self.rows) {
            *alike = match same(before, &new) {
                true => *alike + 1,
                false => 0,
            };
        }
        self.rows.push_front(new);
        let most = self.alike.iter().copied().max().unwrap_or(0);
        most as f64 * self.frame_s > LOOP_S
    }
}

/// The root of the mean square.
pub fn loudness(sound: &[f32]) -> f32 {
    let square = sound.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    (square / sound.len().max(1) as f64).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::random::Random;

    const FRAME_S: f64 = 2.0 / 15.0;

    /// Seconds until it is stopped, and why; rows are made by `row`.
    fn stopped(
        expected_s: f64,
        loudness: f32,
        mut row: impl FnMut(usize) -> Vec<f32>,
    ) -> (f64, Runaway) {
        let mut watch = Watch::new(expected_s, FRAME_S, 0);
        for frame in 0..100_000 {
            if let Some(why) = watch.frame(loudness, &row(frame)) {
                return (frame as f64 * FRAME_S, why);
            }
        }
        panic!("never stopped");
    }

    fn random(random: &mut Random) -> Vec<f32> {
        (0..16).map(|_| random.uniform() as f32 - 0.5).collect()
    }

    #[test]
    fn what_does_not_end_is_stopped_after_a_while() {
        let mut numbers = Random::new(1);
        let (after, why) = stopped(10.0, 0.1, |_| random(&mut numbers));
        assert_eq!(why, Runaway::NoEnd);
        assert!((49.0..51.0).contains(&after), "{after}");
    }

    #[test]
    fn silence_is_stopped_and_a_pause_is_not() {
        let mut numbers = Random::new(2);
        let (after, why) = stopped(100.0, 1e-4, |_| random(&mut numbers));
        assert_eq!(why, Runaway::Silence);
        assert!((9.0..11.0).contains(&after), "{after}");
        let mut watch = Watch::new(100.0, FRAME_S, 0);
        for frame in 0..600 {
            let quiet = frame % 70 != 0;
            let loudness = if quiet { 0.0 } else { 0.2 };
            assert_eq!(watch.frame(loudness, &random(&mut numbers)), None);
        }
    }

    #[test]
    fn a_loop_is_stopped_and_a_phrase_said_twice_is_not() {
        let mut numbers = Random::new(3);
        let phrase: Vec<_> = (0..20).map(|_| random(&mut numbers)).collect();
        let (after, why) = stopped(100.0, 0.1, |frame| phrase[frame % 20].clone());
        assert_eq!(why, Runaway::Loop);
        assert!((12.0..17.0).contains(&after), "{after}");
        let mut watch = Watch::new(100.0, FRAME_S, 0);
        for frame in 0..600 {
            let twice = (frame / 20) % 3 < 2;
            let row = if twice {
                phrase[frame % 20].clone()
            } else {
                random(&mut numbers)
            };
            assert_eq!(watch.frame(0.1, &row), None, "frame {frame}");
        }
    }
}
