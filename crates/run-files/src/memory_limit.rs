//! An amount of memory as people write it.

use std::str::FromStr;

/// An amount of memory, in bytes: `8GiB`, `512MiB`, `8GB`, `500MB`, or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemoryLimit(pub u64);

/// A text that is no amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no amount of memory; write it as 8GiB, 512MiB, 8GB or 500MB")]
pub struct UnknownAmount {
    /// What was given.
    pub given: String,
}

impl FromStr for MemoryLimit {
    type Err = UnknownAmount;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let units = [
            ("GiB", 1u64 << 30),
            ("MiB", 1 << 20),
            ("GB", 1_000_000_000),
            ("MB", 1_000_000),
            ("", 1),
        ];
        let (number, unit) = units
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
            .unwrap_or((text, 1));
        let amount = number.trim().parse::<f64>().ok();
        amount
            .map(|amount| amount * unit as f64)
            .filter(|bytes| bytes.is_finite() && *bytes >= 1.0 && *bytes < u64::MAX as f64)
            .map(|bytes| Self(bytes as u64))
            .ok_or_else(|| UnknownAmount {
                given: text.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_both_kinds_of_units() {
        for (text, bytes) in [
            ("8GiB", 8 << 30),
            ("0.5 GiB", 512 << 20),
            ("512MiB", 512 << 20),
            ("8GB", 8_000_000_000),
            ("500MB", 500_000_000),
            ("4096", 4096),
        ] {
            assert_eq!(text.parse(), Ok(MemoryLimit(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1GiB", "0", "8TB", "eight", "nan", "1e99GiB"] {
            assert!(text.parse::<MemoryLimit>().is_err(), "{text}");
        }
    }
}
