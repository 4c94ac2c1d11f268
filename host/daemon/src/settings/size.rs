//! Amounts of memory and disk, as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes. Units are powers of 1024, as in docker's own flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no size: write a number and a unit, such as `512MiB` or `4g`")]
pub struct SizeError(String);

const UNITS: &[(char, u32)] = &[('k', 10), ('m', 20), ('g', 30), ('t', 40)];

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let wrong = || SizeError(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(lower.len());
        let (number, unit) = lower.split_at(digits);
        let unit = unit.trim();
        let shift = match unit {
            "" | "b" => 0,
            _ => {
                let mut letters = unit.chars();
                let first = letters.next();
                let known = UNITS.iter().find(|(name, _)| Some(*name) == first);
                match (known, letters.as_str()) {
                    (Some((_, shift)), "" | "b" | "ib") => *shift,
                    _ => return Err(wrong()),
                }
            }
        };
        let factor = 1_u64 << shift;
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(wrong);
        }
        let fraction: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = fraction * factor as f64;
        // Beyond 2^63 nothing is meant seriously, and the cast below would no longer be exact.
        if !(0.0..9.0e18).contains(&bytes) {
            return Err(wrong());
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .rev()
            .find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1_u64 << shift));
        match unit {
            Some((name, shift)) => {
                write!(f, "{}{}iB", self.0 >> shift, name.to_ascii_uppercase())
            }
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("64GiB", 64_u64 << 30),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("1 tb", 1 << 40),
            ("4096", 4096),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        for text in ["", "big", "4x", "4gig", "-1", "1e3", "99999999999t", "é"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_in_the_largest_whole_unit() {
        assert_eq!(ByteSize(64 << 30).to_string(), "64GiB");
        assert_eq!(ByteSize((1 << 30) + 1).to_string(), "1073741825");
        assert_eq!(ByteSize(0).to_string(), "0");
    }
}
