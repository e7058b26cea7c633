//! Rotary position embedding in the half-split convention: dimension `i` turns with dimension
//! `i + n/2`. Knows nothing of how the frequencies were chosen or scaled.

/// Cosines and sines of every position, built once.
#[derive(Debug)]
pub struct RopeTable {
    half: usize,
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
            positions,
            turns,
        }
    }

    /// Positions that the table covers.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.turns)
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
        let (low, high) = head[..2 * self.half].split_at_mut(self.half);
        for ((l, h), (c, s)) in low.iter_mut().zip(high).zip(cos.iter().zip(sin)) {
            (*l, *h) = (*l * c - *h * s, *h * c + *l * s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_keeps_length_and_leaves_the_rest() {
        let table = RopeTable::new(&[1.0, 0.1, 0.01], 50);
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
}
