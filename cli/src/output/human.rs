//! Times and counts as people read them; bytes and rates are [`loader::units`]'.

use std::time::Duration;

pub use loader::units::{gigabytes, memory, three_digits, tokens};

/// `1.54 B`, `494 M`, `12.3 K`: parameters.
pub fn short_count(count: u64) -> String {
    match count as f64 {
        count if count >= 999.5e6 => format!("{} B", three_digits(count / 1e9)),
        count if count >= 999.5e3 => format!("{} M", three_digits(count / 1e6)),
        count if count >= 1e3 => format!("{} K", three_digits(count / 1e3)),
        count => format!("{count}"),
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// `85.3 ms`, `1.54 s`, `73 s`.
pub fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 0.9995 => format!("{} ms", three_digits(seconds * 1000.0)),
        seconds => format!("{} s", three_digits(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_that_matter() {
        assert_eq!(short_count(1_543_714_304), "1.54 B");
        assert_eq!(short_count(494_000_000), "494 M");
        assert_eq!(seconds(Duration::from_micros(85_300)), "85.3 ms");
        assert_eq!(seconds(Duration::from_millis(1540)), "1.54 s");
    }
}
