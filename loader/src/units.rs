//! Numbers as people read them, in one way for errors, plans, reports and progress. Memory in
//! powers of two, like the limits it is compared with; files, traffic and rates in powers of ten,
//! like the disks and links they are compared with. Three digits that matter.

const BINARY: [(&str, u64); 4] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const DECIMAL: [(&str, u64); 4] = [
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Memory: `1.46 GiB`, `713 MiB`, `12.5 KiB`, `17 B`.
pub fn memory(bytes: u64) -> String {
    scaled(bytes, &BINARY)
}

/// Files, and what crosses a link: `1.57 GB`, `713 MB`, `12.5 kB`, `17 B`.
pub fn gigabytes(bytes: u64) -> String {
    scaled(bytes, &DECIMAL)
}

fn scaled(bytes: u64, units: &[(&str, u64)]) -> String {
    let step = units[0].1 as f64;
    // What would be rounded to a whole one of the next unit is one of the next.
    let enough = |unit: &&(&str, u64)| bytes as f64 >= unit.1 as f64 * (1.0 - 0.5 / step);
    match units.iter().rev().find(enough) {
        Some((name, unit)) if bytes >= units[0].1 => {
            format!("{} {name}", three_digits(bytes as f64 / *unit as f64))
        }
        _ => format!("{bytes} B"),
    }
}

/// What is needed of a limit that it does not fit into, and the limit, so that they can be told
/// apart: in powers of ten where the limit was given that way, and with as many digits as it takes.
pub fn needed_of(needed_bytes: u64, limit_bytes: u64) -> (String, String) {
    let mega = DECIMAL[1].1;
    let units = match (limit_bytes.is_multiple_of(mega), limit_bytes % BINARY[1].1) {
        (true, 1..) => DECIMAL,
        _ => BINARY,
    };
    let short = [needed_bytes, limit_bytes].map(|bytes| scaled(bytes, &units));
    let [needed, limit] = match short {
        [needed, limit] if needed != limit => [needed, limit],
        _ => {
            let fine = units.iter().rev().find_map(|(name, unit)| {
                let whole = needed_bytes.div_ceil(*unit);
                let room = limit_bytes / unit;
                (whole != room && room >= 1000)
                    .then(|| [whole, room].map(|n| format!("{n} {name}")))
            });
            fine.unwrap_or_else(|| [needed_bytes, limit_bytes].map(|bytes| format!("{bytes} B")))
        }
    };
    (needed, limit)
}

/// A size as it can be typed, to the byte: `2GiB`, `1536MiB`, `6GB`, `12345`.
pub fn typed(bytes: u64) -> String {
    let whole = |unit: &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(unit.1);
    let binary = BINARY.iter().rev().find(whole);
    let decimal = DECIMAL.iter().rev().find(whole);
    // The shorter number is the one that was meant.
    let unit = match (binary, decimal) {
        (Some(binary), Some(decimal)) if decimal.1 > binary.1 => Some(decimal),
        (binary, decimal) => binary.or(decimal),
    };
    match unit {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// `0.0123`, `0.480`, `9.87`, `12.3`, `713`.
pub fn three_digits(value: f64) -> String {
    let size = value.abs();
    match size {
        size if size < 9.995 => {
            // Nothing has no digit that matters; what is not a number is said as it is.
            let zeros = match size > 0.0 && size < 0.9995 {
                true => (-size.log10() - 1e-9).ceil().clamp(1.0, 12.0) as usize,
                false => 0,
            };
            let text = format!("{value:.*}", 2 + zeros);
            // 0.09996 is 0.100, with one digit less.
            match zeros > 0 && text.trim_start_matches(['-', '0', '.']).len() > 3 {
                true => format!("{value:.*}", 1 + zeros),
                false => text,
            }
        }
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A rate in a line whose format has one digit after the point (`6.6`, `24.8`): where that leaves
/// less than two digits that matter, three of them.
pub fn rate(value: f64) -> String {
    match value.abs() >= 0.9995 || value == 0.0 {
        true => format!("{value:.1}"),
        false => three_digits(value),
    }
}

/// `498 tok/s`, `6.61 tok/s`; below one a second, what one takes: `3.02 s/token`.
pub fn tokens(per_s: f64) -> String {
    match per_s > 0.0 && per_s < 0.9995 {
        true => format!("{} s/token", three_digits(1.0 / per_s)),
        false => format!("{} tok/s", three_digits(per_s)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_traffic() {
        assert_eq!(memory(17), "17 B");
        assert_eq!(memory(1023), "1023 B");
        assert_eq!(memory(1024), "1.00 KiB");
        assert_eq!(memory(6 << 30), "6.00 GiB");
        assert_eq!(memory((1 << 30) - 1), "1.00 GiB");
        assert_eq!(memory(713 << 20), "713 MiB");
        assert_eq!(memory(u64::MAX), "16777216 TiB");
        assert_eq!(gigabytes(999), "999 B");
        assert_eq!(gigabytes(887_808), "888 kB");
        assert_eq!(gigabytes(466_000_000), "466 MB");
        assert_eq!(gigabytes(3_730_000_000), "3.73 GB");
        assert_eq!(gigabytes(999_999_999), "1.00 GB");
    }

    #[test]
    fn three_digits_matter_however_small() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.000_123_4, "0.000123"),
            (0.012_34, "0.0123"),
            (0.099_96, "0.100"),
            (0.1, "0.100"),
            (0.331, "0.331"),
            (0.999_4, "0.999"),
            (0.999_6, "1.00"),
            (-0.05, "-0.0500"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (1325.4, "1325"),
        ] {
            assert_eq!(three_digits(value), text, "{value}");
        }
    }

    #[test]
    fn a_slow_rate_keeps_its_digits() {
        assert_eq!(rate(6.61), "6.6");
        assert_eq!(rate(24.84), "24.8");
        assert_eq!(rate(0.046_2), "0.0462");
        assert_eq!(rate(0.331), "0.331");
        assert_eq!(tokens(498.3), "498 tok/s");
        assert_eq!(tokens(6.612), "6.61 tok/s");
        assert_eq!(tokens(1.0), "1.00 tok/s");
        assert_eq!(tokens(0.331), "3.02 s/token");
        assert_eq!(tokens(0.046_2), "21.6 s/token");
        assert_eq!(tokens(0.0), "0.00 tok/s");
    }

    #[test]
    fn a_size_can_be_typed_again() {
        for (bytes, text) in [
            (2 << 30, "2GiB"),
            (3 << 29, "1536MiB"),
            (6_000_000_000, "6GB"),
            (1_500_000_000, "1500MB"),
            (1_000_000_000_000, "1TB"),
            (100 << 10, "100KiB"),
            (12_345, "12345"),
            (0, "0"),
        ] {
            assert_eq!(typed(bytes), text);
        }
    }

    #[test]
    fn what_does_not_fit_is_not_told_as_the_same_number() {
        let said = |needed, limit| needed_of(needed, limit);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(said(14_208 << 20, 2 << 30), pair("13.9 GiB", "2.00 GiB"));
        assert_eq!(
            said(2_100_000_000, 2_000_000_000),
            pair("2.10 GB", "2.00 GB")
        );
        assert_eq!(
            said((2 << 30) + (3 << 20), 2 << 30),
            pair("2051 MiB", "2048 MiB")
        );
        assert_eq!(said((2 << 30) + 5, 2 << 30), pair("2049 MiB", "2048 MiB"));
        assert_eq!(said(301, 300), pair("301 B", "300 B"));
    }
}
