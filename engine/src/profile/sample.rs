//! Values of repeated runs, and what can honestly be said of them.

use std::fmt;

/// Values kept whole, in the order in which they were measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn values(&self) -> &[f64] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// Of rates at which the same work was done again and again: all work over all time. Their mean
    /// would count the fast runs most, which took the least time.
    pub fn over_total_time(&self) -> f64 {
        let times: Self = self.0.iter().map(|rate| 1.0 / rate).collect();
        1.0 / times.mean()
    }

    /// The middle value, or the mean of the two in the middle. Of nothing: not a number.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => f64::NAN,
            count => f64::midpoint(sorted[(count - 1) / 2], sorted[count / 2]),
        }
    }

    /// Of the sample itself (n - 1 in the denominator); 0 for a single value.
    pub fn std_dev(&self) -> f64 {
        let (mean, count) = (self.mean(), self.0.len());
        let squares: f64 = self.0.iter().map(|value| (value - mean).powi(2)).sum();
        if count > 1 {
            (squares / (count - 1) as f64).sqrt()
        } else {
            0.0
        }
    }

    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// This one over `other`, round by round: both values of a ratio come from the same round.
    pub fn over(&self, other: &Self) -> Self {
        self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect()
    }

    /// Whether ratios say nothing: some rounds went one way and some the other, or all lie so
    /// close to 1 that the next round may not.
    pub fn is_noise(&self) -> bool {
        let around_one = self.least() <= 1.0 && 1.0 <= self.most();
        // By factors: 8, 9 and 30 scatter widely and all say the same.
        let factors: Self = self.0.iter().map(|ratio| ratio.ln()).collect();
        around_one || factors.median().abs() < factors.std_dev()
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// The median with its spread.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no rounds");
        }
        write!(
            f,
            "{:.2} (median of {}, {:.2} to {:.2})",
            self.median(),
            self.len(),
            self.least(),
            self.most()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64]) -> Sample {
        values.iter().copied().collect()
    }

    #[test]
    fn middle_spread_and_range() {
        let odd = sample(&[5.0, 1.0, 3.0]);
        assert_eq!((odd.median(), odd.mean()), (3.0, 3.0));
        assert_eq!((odd.least(), odd.most(), odd.std_dev()), (1.0, 5.0, 2.0));
        assert_eq!(sample(&[1.0, 2.0]).median(), 1.5);
        assert_eq!(sample(&[7.0]).std_dev(), 0.0);
        assert_eq!(odd.to_string(), "3.00 (median of 3, 1.00 to 5.00)");
        assert!(sample(&[]).median().is_nan());
    }

    #[test]
    fn a_rate_is_all_work_over_all_time() {
        // 60 tokens in 1 s, 60 in 3 s.
        assert_eq!(sample(&[60.0, 20.0]).over_total_time(), 30.0);
        assert_eq!(sample(&[5.0]).over_total_time(), 5.0);
        assert!(sample(&[]).over_total_time().is_nan());
        assert!(sample(&[f64::NAN, 5.0]).over_total_time().is_nan());
    }

    #[test]
    fn a_difference_inside_the_noise_is_called_noise() {
        let (a, b) = (sample(&[10.0, 11.0, 12.0]), sample(&[10.1, 10.8, 12.3]));
        assert!(a.over(&b).is_noise());
        assert!(!a.over(&sample(&[5.0, 5.0, 6.0])).is_noise());
        assert!(sample(&[1.01, 1.3, 1.02]).is_noise());
        assert!(!sample(&[1.10, 1.12, 1.11]).is_noise());
        assert!(!sample(&[8.0, 9.0, 30.0]).is_noise());
    }
}
