//! Where the chance of codes comes from: a seed, or numbers that were given so that a run can be
//! compared. A number for each code of each frame, whether or not it is used.

use crate::text::random::Random;

/// The numbers that codes are drawn by.
#[derive(Debug)]
pub(super) struct Draws {
    random: Random,
    given: Option<Vec<f32>>,
    /// Of the frame under way.
    now: Vec<f64>,
    frame: usize,
}

impl Draws {
    /// Frames of so many codes; `first` were drawn before.
    pub fn new(seed: u64, given: Option<Vec<f32>>, groups: usize, first: usize) -> Self {
        let mut random = Random::new(seed);
        (0..first * groups).for_each(|_| {
            random.uniform();
        });
        Self {
            random,
            given,
            now: vec![0.0; groups],
            frame: first,
        }
    }

    /// Those of the next frame, from 0 up to but not 1.
    pub fn frame(&mut self) -> &[f64] {
        let from = self.frame * self.now.len();
        self.frame += 1;
        let given = self.given.as_ref();
        for (at, number) in self.now.iter_mut().enumerate() {
            let drawn = self.random.uniform();
            let known = given.and_then(|all| all.get(from + at));
            *number = known.map_or(drawn, |known| f64::from(*known));
        }
        &self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_own_numbers_whatever_was_given() {
        let all = |given, first| {
            let mut draws = Draws::new(5, given, 2, first);
            (0..3).map(|_| draws.frame().to_vec()).collect::<Vec<_>>()
        };
        let plain = all(None, 0);
        assert_eq!(all(None, 1)[..2], plain[1..]);
        let given = all(Some(vec![0.25, 0.5]), 0);
        assert_eq!(given[0], [0.25, 0.5]);
        assert_eq!(given[1..], plain[1..]);
        assert!(plain.concat().iter().all(|u| (0.0..1.0).contains(u)));
    }
}
