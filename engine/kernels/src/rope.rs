//! Rotary position embedding. Knows nothing of how the frequencies were chosen or scaled.

/// Which two dimensions turn together, of `n` that turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pairing {
    /// Dimension `i` with dimension `i + n/2`.
    #[default]
    Halves,
    /// Dimension `2 * i` with dimension `2 * i + 1`.
    Neighbours,
}

/// Cosines and sines of every position, built once.
#[derive(Debug)]
pub struct RopeTable {
    half: usize,
    pairing: Pairing,
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
            positions,
            turns,
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
        assert!(
            position < self.positions,
            "position {position} of {}",
            self.positions
        );
        let row = &self.turns[position * 2 * self.half..][..2 * self.half];
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
