//! Where chance comes from: a seed, or numbers that were given so that a run can be compared.

use crate::text::random::Random;

/// Draws, and what is taken in place of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Noise {
    pub seed: u64,
    /// One for each voice.
    pub voice_scales: Option<Vec<f32>>,
    /// For each voice, frames by latent; all voices as long as the longest.
    pub voices: Option<Vec<f32>>,
    /// For each frame of speech, a latent.
    pub frames: Option<Vec<f32>>,
}

/// The draws of a run, apart for voices and frames: what is given of one changes none of the other.
#[derive(Debug)]
pub(super) struct Draws {
    voices: Normal,
    frames: Normal,
    given: Noise,
}

impl Draws {
    pub fn new(noise: Noise) -> Self {
        Self {
            voices: Normal::new(noise.seed),
            frames: Normal::new(noise.seed ^ 0x5eec_4f3a_11e5),
            given: noise,
        }
    }

    /// How much noise a voice gets.
    pub fn voice_scale(&mut self, voice: usize) -> f32 {
        let given = self.given.voice_scales.as_ref();
        let drawn = self.voices.draw();
        given
            .and_then(|all| all.get(voice))
            .copied()
            .unwrap_or(drawn)
    }

    /// The noise of a voice's frames, of which the longest voice has `most`.
    pub fn voice(&mut self, voice: usize, most: usize, latent: usize, to: &mut [f32]) {
        let from = voice * most * latent;
        let given = self.given.voices.as_ref();
        for (at, number) in to.iter_mut().enumerate() {
            let drawn = self.voices.draw();
            let known = given.and_then(|all| all.get(from + at));
            *number = known.copied().unwrap_or(drawn);
        }
    }

    /// Frames that were made before take their draws.
    pub fn skip_frames(&mut self, frames: usize, latent: usize) {
        (0..frames * latent).for_each(|_| {
            self.frames.draw();
        });
    }

    /// What a frame begins with.
    pub fn frame(&mut self, frame: usize, to: &mut [f32]) {
        let from = frame * to.len();
        let given = self.given.frames.as_ref();
        for (at, number) in to.iter_mut().enumerate() {
            let drawn = self.frames.draw();
            let known = given.and_then(|all| all.get(from + at));
            *number = known.copied().unwrap_or(drawn);
        }
    }
}

/// Numbers of the normal distribution.
#[derive(Debug)]
struct Normal(Random);

impl Normal {
    fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// By Box and Muller; the second of each pair is left unused, so that a number depends on how
    /// many came before and on nothing else.
    fn draw(&mut self) -> f32 {
        let (radius, angle) = (1.0 - self.0.uniform(), self.0.uniform());
        let radius = (-2.0 * radius.ln()).sqrt();
        (radius * (std::f64::consts::TAU * angle).cos()) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_normal_and_a_seeds_own() {
        let draw = |seed| {
            let mut normal = Normal::new(seed);
            (0..20_000).map(|_| normal.draw()).collect::<Vec<f32>>()
        };
        let (a, b) = (draw(1), draw(2));
        assert_eq!(a, draw(1));
        assert_ne!(a, b);
        let mean = a.iter().sum::<f32>() / a.len() as f32;
        let square = a.iter().map(|x| x * x).sum::<f32>() / a.len() as f32;
        assert!(
            mean.abs() < 0.03 && (square - 1.0).abs() < 0.05,
            "{mean} {square}"
        );
        let far = a.iter().filter(|x| x.abs() > 2.0).count() as f32 / a.len() as f32;
        assert!((far - 0.0455).abs() < 0.01, "{far}");
    }

    #[test]
    fn what_is_given_takes_the_place_of_a_draw_and_of_no_other() {
        let drawn = |given: Option<Vec<f32>>| {
            let mut draws = Draws::new(Noise {
                seed: 7,
                frames: given,
                ..Noise::default()
            });
            let mut all = Vec::new();
            for frame in 0..3 {
                let mut to = [0.0; 2];
                draws.frame(frame, &mut to);
                all.extend(to);
            }
            (all, draws.voice_scale(0))
        };
        let (plain, scale) = drawn(None);
        let (given, same) = drawn(Some(vec![5.0, 6.0]));
        assert_eq!(given[..2], [5.0, 6.0]);
        assert_eq!((&given[2..], same), (&plain[2..], scale));
    }
}
