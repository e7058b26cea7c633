//! Counts as they are typed. Each has a least and a most, so that no sum of them can overflow and a
//! slip of the finger is told before it is run. Knows no option that takes one.

use std::ops::RangeInclusive;

/// More than any model takes, and far from what a sum of a few can overflow.
pub const TOKENS_MAX: usize = 1_000_000_000;

/// Rounds are kept, each with all its runs.
const ROUNDS_MAX: usize = 1_000_000;

/// Slots, threads and plans: more than any machine has use for.
const FEW_MAX: usize = 65_536;

/// As many as anybody reads; each is found in the whole vocabulary.
const LOGPROBS_MAX: usize = 100;

/// A number of the range, or what is wrong with it in words.
pub fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let (least, most) = (range.start(), range.end());
    let digits = text.trim();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<usize>() {
        Ok(count) if count < *least => Err(format!("must be {least} or more")),
        Ok(count) if count <= *most => Ok(count),
        // Too many digits are a number, too.
        Ok(_) => Err(format!("must be {most} or less")),
        Err(_) if is_number => Err(format!("must be {most} or less")),
        Err(_) => Err(format!("`{text}` is not a number from {least} to {most}")),
    }
}

/// A size or a count that cannot be nothing.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    count(text, 1..=TOKENS_MAX)
}

/// Tokens of which the first foretell the last.
pub fn window(text: &str) -> Result<usize, String> {
    count(text, 2..=TOKENS_MAX)
}

/// Sequences that run together.
pub fn streams(text: &str) -> Result<usize, String> {
    count(text, 2..=FEW_MAX)
}

/// Likeliest tokens that are told with each token.
pub fn logprobs(text: &str) -> Result<usize, String> {
    count(text, 0..=LOGPROBS_MAX)
}

/// Tokens, positions, or a rank; 0 may mean something.
pub fn tokens(text: &str) -> Result<usize, String> {
    count(text, 0..=TOKENS_MAX)
}

pub fn rounds(text: &str) -> Result<usize, String> {
    count(text, 1..=ROUNDS_MAX)
}

/// Rounds that may be left out.
pub fn warmup(text: &str) -> Result<usize, String> {
    count(text, 0..=ROUNDS_MAX)
}

/// Rounds whose spread is told.
pub fn three_rounds(text: &str) -> Result<usize, String> {
    match count(text, 0..=ROUNDS_MAX)? {
        0..=2 => Err("fewer than 3 rounds say nothing about their spread".into()),
        rounds => Ok(rounds),
    }
}

/// Slots; that none is too few, the plan says.
pub fn slots(text: &str) -> Result<usize, String> {
    count(text, 0..=FEW_MAX)
}

/// Threads, plans.
pub fn few(text: &str) -> Result<usize, String> {
    count(text, 1..=FEW_MAX)
}

/// A seed.
pub fn seed(text: &str) -> Result<u64, String> {
    let wrong = |_| format!("`{text}` is not a number from 0 to {}", u64::MAX);
    text.trim().parse().map_err(wrong)
}

/// A number that may have a fraction.
pub fn decimal(text: &str) -> Result<f32, String> {
    let wrong = |_| format!("`{text}` is not a number, like 0.7");
    text.trim().parse().map_err(wrong)
}

/// A rate in GB/s.
pub fn rate(text: &str) -> Result<f64, String> {
    let wrong = |_| format!("`{text}` is not a number of GB/s, like 25 or 0.5");
    text.trim().parse().map_err(wrong)
}

/// One of a list of token ids, which may have spaces between them.
pub fn token(text: &str) -> Result<u32, String> {
    let id = text.trim();
    id.parse().map_err(|_| match id {
        "" => "a token id is missing; write them like 1,2,3".to_owned(),
        _ => format!("`{id}` is not a token id, a number from 0 to {}", u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_said_in_our_own_words() {
        assert_eq!(seed("7"), Ok(7));
        assert_eq!(decimal("0.7"), Ok(0.7));
        assert_eq!(rate(" 25 "), Ok(25.0));
        let told = [
            seed("x").unwrap_err(),
            seed("-1").unwrap_err(),
            decimal("x").unwrap_err(),
            rate("").unwrap_err(),
        ];
        for told in told {
            assert!(told.contains("is not a number"), "{told}");
        }
    }

    #[test]
    fn a_count_is_told_its_least_and_its_most() {
        assert_eq!(count("7", 1..=9), Ok(7));
        assert_eq!(count(" 9 ", 1..=9), Ok(9));
        let wrong = |text: &str| count(text, 1..=9).unwrap_err();
        assert_eq!(wrong("0"), "must be 1 or more");
        for more in ["10", "18446744073709551615", "99999999999999999999999"] {
            assert_eq!(wrong(more), "must be 9 or less");
        }
        for text in ["", "many", "-1", "1.5", "+-1"] {
            assert_eq!(wrong(text), format!("`{text}` is not a number from 1 to 9"));
        }
    }

    #[test]
    fn token_ids_may_have_spaces_around_them() {
        assert_eq!((token(" 2"), token("3 ")), (Ok(2), Ok(3)));
        for text in ["x", "-1", "1 2", "4294967296"] {
            assert!(token(text).unwrap_err().contains("is not a token id"));
        }
        assert!(token(" ").unwrap_err().contains("missing"));
    }
}
