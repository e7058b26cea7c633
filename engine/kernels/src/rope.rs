//! Rotary position embedding. Knows nothing of how the frequencies were chosen or scaled.

use smallvec::SmallVec;

/// Which two dimensions turn together, of `n` that turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pairing {
    /// Dimension `i` with dimension `i + n/2`.
    #[default]
    Halves,
    /// Dimension `2 * i` with dimension `2 * i + 1`.
    Neighbours,
}

impl Pairing {
    /// Where a head whose dimensions pair this way has what one of halves has at `index`.
    pub fn place(self, dim: usize, index: usize) -> usize {
        match self {
            Pairing::Halves => index,
            Pairing::Neighbours => 2 * (index % (dim / 2)) + index / (dim / 2),
        }
    }

    /// The dimensions of a head in the order of halves.
    pub fn straighten(self, head: &mut [f32]) {
        if self != Pairing::Halves {
            let (dim, kept) = (head.len(), SmallVec::<[f32; 256]>::from_slice(head));
            let places = head.iter_mut().enumerate();
            places.for_each(|(index, x)| *x = kept[self.place(dim, index)]);
        }
    }
}

/// Cosines and sines of every position, built once.
#[derive(Debug)]
pub struct RopeTable {
    half: usize,
    pairing: Pairing,
    /// The first position that it covers, and how many.
    first: usize,
    positions: usize,
    /// A row a position: `half` cosines, then `half` sines.
    turns: Vec<f32>,
}

impl RopeTable {
    /// A table over `inverse_frequencies`, one for each pair of dimensions (fewer than half of
    /// the head's leaves its last dimensions as they are), for positions below `positions`.
    pub fn new(inverse_frequencies: &[f32], positions: usize) -> Self {
        RopeTable::scaled(inverse_frequencies, positions, 1.0)
    }

    /// The same with every cosine and sine multiplied by `scale`: the attention factor of some
    /// ways to extend the context.
    pub fn scaled(inverse_frequencies: &[f32], positions: usize, scale: f32) -> Self {
        let half = inverse_frequencies.len();
        let mut turns = Vec::with_capacity(2 * half * positions);
        for position in 0..positions {
            // The product is rounded to f32 as in the models' own code; the turn itself is exact.
            let turn = |f: &f32| f64::from(position as f32 * f);
            turns.extend(
                inverse_frequencies
                    .iter()
                    .map(|f| turn(f).cos() as f32 * scale),
            );
            turns.extend(
                inverse_frequencies
                    .iter()
                    .map(|f| turn(f).sin() as f32 * scale),
            );
        }
        RopeTable {
            half,
            pairing: Pairing::default(),
            first: 0,
            positions,
            turns,
        }
    }

    /// A table that is made anew for each few positions of a stream without end: see
    /// [`RopeTable::turn`].
    pub(crate) fn unturned(pairs: usize, positions: usize) -> Self {
        RopeTable {
            half: pairs,
            pairing: Pairing::default(),
            first: 0,
            positions,
            turns: vec![0.0; 2 * pairs * positions],
        }
    }

    /// Makes it anew for positions from `first` on, which are turned as those from `angle` on are:
    /// exactly, however far the stream has come.
    pub(crate) fn turn(&mut self, first: usize, angle: u64, inverse_frequencies: &[f64]) {
        assert!(inverse_frequencies.len() == self.half);
        self.first = first;
        for (at, row) in self.turns.chunks_exact_mut(2 * self.half).enumerate() {
            let (cosines, sines) = row.split_at_mut(self.half);
            let angle = (angle + at as u64) as f64;
            for ((cos, sin), f) in cosines.iter_mut().zip(sines).zip(inverse_frequencies) {
                let (s, c) = (angle * f).sin_cos();
                (*cos, *sin) = (c as f32, s as f32);
            }
        }
    }

    /// The same for heads whose dimensions are paired so.
    pub fn paired(self, pairing: Pairing) -> Self {
        RopeTable { pairing, ..self }
    }

    /// Positions that the table covers.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.turns)
    }

    /// The same before it is made, of so many pairs of dimensions that turn.
    pub fn bytes_for(pairs: usize, positions: usize) -> usize {
        2 * pairs * positions * size_of::<f32>()
    }

    /// Turns one head to `position`.
    ///
    /// # Panics
    /// If the position is beyond the table or the head smaller than the rotation.
    #[inline]
    pub fn apply(&self, position: usize, head: &mut [f32]) {
        let row = position.wrapping_sub(self.first);
        assert!(
            row < self.positions,
            "position {position} of {} from {} on",
            self.positions,
            self.first
        );
        let row = &self.turns[row * 2 * self.half..][..2 * self.half];
        let (cos, sin) = row.split_at(self.half);
        let head = &mut head[..2 * self.half];
        let turns = cos.iter().zip(sin);
        match self.pairing {
            Pairing::Halves => {
                let (low, high) = head.split_at_mut(self.half);
                for ((l, h), (c, s)) in low.iter_mut().zip(high).zip(turns) {
                    (*l, *h) = (*l * c - *h * s, *h * c + *l * s);
                }
            }
            Pairing::Neighbours => {
                let (pairs, _) = head.as_chunks_mut::<2>();
                for ([l, h], (c, s)) in pairs.iter_mut().zip(turns) {
                    (*l, *h) = (*l * c - *h * s, *h * c + *l * s);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_keeps_length_and_leaves_the_rest() {
        let table = RopeTable::new(&[1.0, 0.1, 0.01], 50);
        assert_eq!(table.bytes(), RopeTable::bytes_for(3, 50));
        let original = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        let mut head = original;
        table.apply(0, &mut head);
        assert_eq!(head, original);
        table.apply(7, &mut head);
        for i in 0..3 {
            let angle = 7.0 * [1.0f64, 0.1, 0.01][i];
            let expected =
                f64::from(original[i]) * angle.cos() - f64::from(original[i + 3]) * angle.sin();
            assert!((f64::from(head[i]) - expected).abs() < 1e-5);
        }
        assert_eq!(head[6], 7.0);
    }

    #[test]
    fn a_stream_turns_as_a_table_does_and_stays_exact() {
        let frequencies = [1.0f32, 0.125, 0.015625];
        let table = RopeTable::new(&frequencies, 50);
        let mut stream = RopeTable::unturned(3, 4);
        let wide = frequencies.map(f64::from);
        let original = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        for angle in [0, 3, 40] {
            stream.turn(7, angle, &wide);
            for at in 0..4 {
                let (mut a, mut b) = (original, original);
                table.apply(angle as usize + at, &mut a);
                stream.apply(7 + at, &mut b);
                assert_eq!(a, b, "{angle} {at}");
            }
        }
        // A day of a hundred positions a second.
        let far = 8_640_001;
        stream.turn(0, far, &wide);
        let mut head = original;
        stream.apply(1, &mut head);
        for i in 0..3 {
            let angle = (far + 1) as f64 * wide[i];
            let expected =
                f64::from(original[i]) * angle.cos() - f64::from(original[i + 3]) * angle.sin();
            assert!((f64::from(head[i]) - expected).abs() < 1e-6);
        }
    }

    /// The same turns of the same pairs, wherever these lie.
    #[test]
    fn neighbours_turn_as_halves_do() {
        let frequencies = [1.0, 0.1, 0.01];
        let halves = RopeTable::new(&frequencies, 50);
        let neighbours = RopeTable::new(&frequencies, 50).paired(Pairing::Neighbours);
        let mut head = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        let order = [0, 3, 1, 4, 2, 5, 6];
        let mut interleaved = order.map(|at| head[at]);
        halves.apply(7, &mut head);
        neighbours.apply(7, &mut interleaved);
        assert_eq!(order.map(|at| head[at]), interleaved);
    }
}
