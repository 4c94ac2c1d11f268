//! Points in time as Docker writes them: RFC 3339 with up to nine digits, `0001-01-01` for never.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time, in nanoseconds since 1970, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Never: what Docker shows for a container that was not started yet.
    pub const NEVER: Self = Self(i64::MIN);

    /// Now.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    /// From nanoseconds since 1970.
    pub const fn from_unix_ns(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since 1970; never is the year 1, as Go counts it.
    pub fn unix_ns(self) -> i64 {
        self.0
    }

    /// Seconds since 1970.
    pub fn unix(self) -> i64 {
        if self == Self::NEVER {
            -62_135_596_800
        } else {
            self.0.div_euclid(1_000_000_000)
        }
    }

    /// Whether this is never.
    pub fn is_never(self) -> bool {
        self == Self::NEVER
    }

    /// How long ago this was; zero if it is in the future.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// Time from `earlier` to this; zero if it is the other way round.
    pub fn since(self, earlier: Self) -> Duration {
        let difference = self.0.saturating_sub(earlier.0);
        Duration::from_nanos(u64::try_from(difference).unwrap_or(0))
    }

    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        if time.year() <= 1 {
            return Some(Self::NEVER);
        }
        i64::try_from(time.unix_timestamp_nanos()).ok().map(Self)
    }

    /// Reads what clients send for `since` and `until`: seconds with up to nine decimals, or
    /// RFC 3339.
    pub fn parse_parameter(text: &str) -> Option<Self> {
        let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
        let Ok(seconds) = seconds.parse::<i64>() else {
            return Self::parse(text);
        };
        if decimals.len() > 9 || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let nanoseconds: i64 = format!("{decimals:0<9}").parse().ok()?;
        seconds
            .checked_mul(1_000_000_000)?
            .checked_add(nanoseconds)
            .map(Self)
    }

    /// The calendar form, for texts that need parts of it.
    pub fn calendar(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        let time = self.calendar();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        )?;
        let nanoseconds = time.nanosecond();
        if nanoseconds != 0 {
            let decimals = format!("{nanoseconds:09}");
            write!(f, ".{}", decimals.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::NEVER
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_go_writes_it() {
        for (nanoseconds, text) in [
            (1_795_221_781_651_678_079, "2026-11-21T00:43:01.651678079Z"),
            (1_795_221_781_650_000_000, "2026-11-21T00:43:01.65Z"),
            (1_795_221_781_000_000_000, "2026-11-21T00:43:01Z"),
        ] {
            let time = Timestamp::from_unix_ns(nanoseconds);
            assert_eq!(time.to_string(), text);
            assert_eq!(Timestamp::parse(text), Some(time));
        }
        assert_eq!(Timestamp::NEVER.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(
            Timestamp::parse("0001-01-01T00:00:00Z"),
            Some(Timestamp::NEVER)
        );
    }

    #[test]
    fn parameters_are_seconds_or_a_date() {
        let half = Timestamp::from_unix_ns(1_500_000_000);
        assert_eq!(Timestamp::parse_parameter("1.5"), Some(half));
        assert_eq!(
            Timestamp::parse_parameter("1970-01-01T00:00:01.5Z"),
            Some(half)
        );
        assert_eq!(Timestamp::parse_parameter("soon"), None);
    }
}
