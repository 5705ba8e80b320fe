//! Points in time as Docker writes them: RFC 3339 in UTC with up to nine decimals, trailing zeros cut (Go's
//! `RFC3339Nano`); "unset" is the year 1.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds since the Unix epoch, UTC. `Timestamp::UNSET` is Go's zero time, `0001-01-01T00:00:00Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Go's zero time, which Docker sends for "never".
    pub const UNSET: Self = Self(i64::MIN);

    /// The current time.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(since.as_nanos() as i64)
    }

    /// From nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch; that of the year 1 is out of range and given as `i64::MIN`.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch, as Docker gives `Created`; the year 1 is −62135596800.
    pub fn seconds(self) -> i64 {
        if self.is_unset() { -62_135_596_800 } else { self.0.div_euclid(1_000_000_000) }
    }

    /// True for Go's zero time.
    pub fn is_unset(self) -> bool {
        self == Self::UNSET
    }

    /// Time from `earlier` to `self`, zero if it is negative or either is unset.
    pub fn since(self, earlier: Self) -> Duration {
        if self.is_unset() || earlier.is_unset() {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// Reads RFC 3339. What 64 bits cannot hold becomes `UNSET` before 1677 and the last moment they hold after 2262.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let time = DateTime::parse_from_rfc3339(text).ok()?;
        let beyond = if time.timestamp() < 0 { Self::UNSET } else { Self(i64::MAX) };
        Some(time.timestamp_nanos_opt().map_or(beyond, Self))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unset() {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        let time = DateTime::<Utc>::from_timestamp_nanos(self.0);
        write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%S"))?;
        let nanos = self.0.rem_euclid(1_000_000_000);
        if nanos != 0 {
            write!(f, ".{}", format!("{nanos:09}").trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
        Self::parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

/// A Go duration: `1h30m`, `1.5h`, `300ms`. Negative ones are refused.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        total += number.parse::<f64>().ok()? * seconds_in(unit)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok())?
}

fn seconds_in(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_500_000_000, "1970-01-01T00:00:01.5Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
            (i64::MIN, "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp::from_nanos(nanos).to_string(), text);
            assert_eq!(Timestamp::parse_rfc3339(text), Some(Timestamp::from_nanos(nanos)));
        }
    }

    #[test]
    fn a_time_too_late_to_hold_is_late_not_never() {
        let late = Timestamp::parse_rfc3339("2500-01-01T00:00:00Z").unwrap();
        assert!(late > Timestamp::parse_rfc3339("2200-01-01T00:00:00Z").unwrap());
        assert!(Timestamp::parse_rfc3339("0001-01-01T00:00:00Z").unwrap().is_unset());
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    /// As Go's `time.Duration` prints itself in its longest form.
    fn written(duration: Duration) -> String {
        let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
        format!("{}h{}m{}.{nanos:09}s", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    proptest! {
        #![proptest_config(cases(1000))]

        #[test]
        fn a_time_survives_being_written(nanos in any::<i64>()) {
            let time = Timestamp::from_nanos(nanos);
            prop_assert_eq!(Timestamp::parse_rfc3339(&time.to_string()), Some(time));
        }

        #[test]
        fn later_texts_are_later_times(
            years in (0..9999u32, 0..9999u32),
            rest in "-0[1-9]-(1[0-9]|2[0-8])T[01][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,12})?Z",
        ) {
            let read = |year: u32| Timestamp::parse_rfc3339(&format!("{year:04}{rest}")).unwrap();
            let (first, second) = (read(years.0), read(years.1));
            prop_assert!(first == second || (first < second) == (years.0 < years.1), "{:?}{}", years, rest);
        }

        #[test]
        fn durations_survive_being_written(seconds in 0..1_000_000u64, nanos in 0..1_000_000_000u32) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse_duration(&written(duration)), Some(duration));
        }

        #[test]
        fn any_text_is_a_time_and_a_duration_or_none(
            text in "[0-9TZ:.hmsnuµ+é-]{0,25}|([0-9]{0,3}\\.?[0-9]{1,3}(h|m|s|ms|us|µs|ns)){1,4}",
        ) {
            let _ = Timestamp::parse_rfc3339(&text);
            if let Some(duration) = parse_duration(&text) {
                // The parts of a sum are never larger than the sum.
                let more = parse_duration(&format!("{text}1h"));
                prop_assert!(more.is_none_or(|more| more >= duration), "{}", text);
            }
        }
    }
}
