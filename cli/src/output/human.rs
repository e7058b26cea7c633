//! Numbers as people read them. Memory in powers of two, like the limits it is compared with;
//! traffic in powers of ten, like the links it is compared with.

use std::time::Duration;

/// `1.46 GiB`, `713 MiB`, `12.5 KiB`, `17 B`.
pub fn memory(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to 1024 is one of the next.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

/// `1.57 GB`, `713 MB`, `12.5 kB`, `17 B`.
pub fn gigabytes(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 999.5e6 => format!("{} GB", three_digits(bytes / 1e9)),
        bytes if bytes >= 999.5e3 => format!("{} MB", three_digits(bytes / 1e6)),
        bytes if bytes >= 1e3 => format!("{} kB", three_digits(bytes / 1e3)),
        bytes => format!("{bytes} B"),
    }
}

/// `0.48`, `12.3`, `713`.
pub fn three_digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

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
        assert_eq!(memory(17), "17 B");
        assert_eq!(memory(1024), "1.00 KiB");
        assert_eq!(memory(6 << 30), "6.00 GiB");
        assert_eq!(memory((1 << 30) - 1), "1.00 GiB");
        assert_eq!(memory(713 << 20), "713 MiB");
        assert_eq!(memory(u64::MAX), "16777216 TiB");
        assert_eq!(gigabytes(466_000_000), "466 MB");
        assert_eq!(gigabytes(3_730_000_000), "3.73 GB");
        assert_eq!(gigabytes(999_999_999), "1.00 GB");
        assert_eq!(short_count(1_543_714_304), "1.54 B");
        assert_eq!(short_count(494_000_000), "494 M");
        assert_eq!(seconds(Duration::from_micros(85_300)), "85.3 ms");
        assert_eq!(seconds(Duration::from_millis(1540)), "1.54 s");
    }
}
