//! Chance that can be repeated. Every decision of a schedule comes from dice of its own, made of
//! the seed, the place and a count: what one thread decides does not depend on when the others run.

use std::hint::spin_loop;
use std::thread;
use std::time::{Duration, Instant};

/// Splitmix64.
#[derive(Debug, Clone)]
pub struct Dice(u64);

/// Where a decision is taken.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    Plan,
    Start,
    Part,
    Mark,
    Visit,
    Work,
    Call,
}

impl Dice {
    pub fn new(seed: u64, place: Place, count: u64) -> Self {
        let mut dice = Self(seed ^ (place as u64) << 56 ^ count << 32);
        // Neighbouring seeds part ways.
        dice.0 = dice.roll();
        dice
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `0..limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    /// `1..=most`, the small ones more often.
    pub fn up_to(&mut self, most: u64) -> u64 {
        let most = 1 + self.below(most);
        1 + self.below(most)
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub fn pause(&mut self, pace: Pace) {
        let weight = match pace {
            Pace::Hasty => 0,
            Pace::Uneven => self.below(16),
            Pace::Slow => 8 + self.below(8),
        };
        match weight {
            0..8 => {}
            8..11 => thread::yield_now(),
            11..15 => {
                let until = Instant::now() + Duration::from_nanos(self.below(8_000));
                while Instant::now() < until {
                    spin_loop();
                }
            }
            _ => thread::sleep(Duration::from_micros(self.below(20))),
        }
    }
}

/// How long things take, in one schedule and on one side of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Hasty,
    Uneven,
    Slow,
}

impl Pace {
    pub fn chosen(dice: &mut Dice) -> Self {
        match dice.below(8) {
            0..4 => Self::Uneven,
            4..7 => Self::Hasty,
            _ => Self::Slow,
        }
    }
}
