//! The likeliest tokens without the logits of the others: what a device sends in place of a whole
//! vocabulary. Mostly they decide what is sampled; where they do not, that is said, and the logits
//! are needed after all. Either way the token is the same.

use super::rank::Ranked;

/// The likeliest tokens of a row of logits all of which are finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidates {
    /// The likeliest first. Never empty.
    pub best: Vec<Ranked>,
    /// How many tokens there are besides.
    pub others: usize,
    /// At least and at most what those weigh together, each relative to the likeliest token, at the
    /// temperature that was asked for.
    pub others_weigh: (f64, f64),
}

impl Candidates {
    /// As many as are ever asked for.
    pub const MOST: usize = 1024;
}

/// What a sampler has to see of a pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    Logits,
    /// This many of the likeliest tokens may do, and what the others weigh at this temperature.
    Best {
        count: usize,
        temperature: f32,
    },
}

/// The candidates leave open which token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeedsAll;
