//! Sizes as people type them: `6GiB`, `6G`, `6144MiB`, `1.5g`, or plain bytes. Knows no option
//! that takes one.

use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error("`{number}` is not a number; write a size like 6GiB, 6144MiB or 6442450944")]
    Number { number: String },
    #[error("`{unit}` is not a unit; use B, KiB, MiB, GiB, TiB (or K, M, G, T for the same)")]
    Unit { unit: String },
    #[error("a size is more than 0 and less than 16 EiB")]
    Range,
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        let digits = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = factor(unit.trim())?;
        let wrong = || SizeError::Number {
            number: if number.is_empty() { text } else { number }.to_owned(),
        };
        // Whole numbers take the exact way: 64 bits do not fit into a float.
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(factor).ok_or(SizeError::Range)?,
            Err(_) => {
                let bytes = number.parse::<f64>().map_err(|_| wrong())? * factor as f64;
                if bytes >= u64::MAX as f64 {
                    return Err(SizeError::Range);
                }
                bytes as u64
            }
        };
        if bytes == 0 {
            return Err(SizeError::Range);
        }
        Ok(Self(bytes))
    }
}

fn factor(unit: &str) -> Result<u64, SizeError> {
    Ok(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        // Powers of ten, as the standard has them.
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => {
            return Err(SizeError::Unit {
                unit: unit.to_owned(),
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, bytes: u64) {
        assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        check("6GiB", 6 << 30);
        check("6G", 6 << 30);
        check("6g", 6 << 30);
        check("6144MiB", 6 << 30);
        check(" 6 GiB ", 6 << 30);
        check("1.5GiB", 3 << 29);
        check("6GB", 6_000_000_000);
        check("512k", 512 << 10);
        check("6442450944", 6 << 30);
        check("18446744073709551615", u64::MAX);
    }

    #[test]
    fn what_is_no_size_says_why() {
        for text in ["", "GiB", "many", "-1G", "1.2.3G", "."] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(
                matches!(error, SizeError::Number { .. } | SizeError::Unit { .. }),
                "{text}: {error}"
            );
        }
        assert_eq!(
            "6 GiBs".parse::<Size>(),
            Err(SizeError::Unit {
                unit: "GiBs".into()
            })
        );
        for text in ["0", "0.2", "99999999999T", "18446744073709551616"] {
            assert_eq!(text.parse::<Size>(), Err(SizeError::Range), "{text}");
        }
    }
}
