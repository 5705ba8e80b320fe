//! Points in time in parameters: `since` and `until` of streams as Unix time, of filters also as durations and dates.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::api::decode::{NumberFault, parse_integer};
use crate::base::time::{Timestamp, parse_duration};

/// A text that is no point in time, in Go's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMoment {
    #[error("strconv.ParseInt: parsing {text:?}: {fault}")]
    Number { text: String, fault: NumberFault },
    #[error("failed to parse value as time or duration: {0:?}")]
    Neither(String),
}

/// Reads `seconds[.nanoseconds]` since the Unix epoch. Fewer than nine decimals are the first of nine.
pub fn unix(text: &str) -> Result<Timestamp, InvalidMoment> {
    let number = |text: &str| match parse_integer(text) {
        Ok(number) => Ok(number),
        Err(fault) => Err(InvalidMoment::Number { text: text.to_owned(), fault }),
    };
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let seconds = number(seconds)?;
    number(decimals)?;
    let nanos = number(&format!("{decimals:0<9.9}"))?;
    let whole = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Ok(Timestamp::from_nanos(whole.clamp(i128::from(i64::MIN + 1), i128::from(i64::MAX)) as i64))
}

/// Reads a duration before `now` (`24h`), a date or time (taken as UTC without a zone), or Unix time.
pub fn before(text: &str, now: Timestamp) -> Result<Timestamp, InvalidMoment> {
    if let Some(duration) = parse_duration(text).filter(|_| text != "0") {
        let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        return Ok(Timestamp::from_nanos(now.nanos().saturating_sub(nanos)));
    }
    if let Some(time) = date(text) {
        return Ok(time);
    }
    unix(text).map_err(|_| InvalidMoment::Neither(text.to_owned()))
}

fn date(text: &str) -> Option<Timestamp> {
    if let Some(time) = Timestamp::parse_rfc3339(text) {
        return Some(time);
    }
    for format in ["%Y-%m-%dT%H:%M%:z", "%Y-%m-%dT%H%:z"] {
        if let Ok(time) = DateTime::parse_from_str(&text.replace(['Z', 'z'], "+00:00"), format) {
            return time.timestamp_nanos_opt().map(Timestamp::from_nanos);
        }
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return time.and_utc().timestamp_nanos_opt().map(Timestamp::from_nanos);
        }
    }
    let day = NaiveDate::parse_from_str(text.trim_end_matches(['Z', 'z']), "%Y-%m-%d").ok()?;
    day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_nanos_opt().map(Timestamp::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

    #[test]
    fn unix_times_have_up_to_nine_decimals() {
        for (text, nanos) in [
            ("1700000000", 1_700_000_000_000_000_000),
            ("1700000000.000000001", 1_700_000_000_000_000_001),
            ("1.5", 1_500_000_000),
            ("1.1234567891", 1_123_456_789),
            ("0", 0),
        ] {
            assert_eq!(unix(text), Ok(Timestamp::from_nanos(nanos)), "{text}");
        }
        assert_eq!(unix("x").unwrap_err().to_string(), "strconv.ParseInt: parsing \"x\": invalid syntax");
        assert!(unix("1.x").is_err());
        assert!(unix("1.é").is_err());
        assert!(unix("").is_err());
    }

    #[test]
    fn filters_take_durations_dates_and_unix_times() {
        for (text, nanos) in [
            ("10s", 1_699_999_990_000_000_000),
            ("1h30m", 1_699_994_600_000_000_000),
            ("1.5h", 1_699_994_600_000_000_000),
            ("1699999990", 1_699_999_990_000_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
            ("2023-11-14T22:13:20", 1_700_000_000_000_000_000),
            ("2023-11-14T22:13", 1_699_999_980_000_000_000),
            ("2023-11-14T23:13+01:00", 1_699_999_980_000_000_000),
            ("2023-11-14", 1_699_920_000_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(before(text, NOW), Ok(Timestamp::from_nanos(nanos)), "{text}");
        }
        for bad in ["", "x", "5 parsecs", "10", "-5x"] {
            assert_eq!(before(bad, NOW).is_err(), bad != "10", "{bad}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn unix_time_is_read_as_it_was_written(seconds in 0..9_000_000_000i64, nanos in 0..1_000_000_000i64) {
            let time = Timestamp::from_nanos(seconds * 1_000_000_000 + nanos);
            let text = format!("{seconds}.{nanos:09}");
            prop_assert_eq!(unix(&text), Ok(time));
            prop_assert_eq!(unix(text.trim_end_matches('0')).unwrap_or(time), time);
            prop_assert_eq!(before(&text, Timestamp::now()), Ok(time));
        }

        #[test]
        fn later_numbers_are_no_earlier_times(a in any::<i64>(), b in any::<i64>()) {
            let read = |seconds: i64| unix(&seconds.to_string()).unwrap();
            prop_assert!(read(a.min(b)) <= read(a.max(b)));
            prop_assert!(!read(a).is_unset());
        }

        #[test]
        fn a_date_is_the_same_in_each_of_its_forms(
            day in "(1[789]|20)[0-9]{2}-0[1-9]-(1[0-9]|2[0-8])",
            time in "[01][0-9]:[0-5][0-9]",
            now in any::<i64>(),
        ) {
            let read = |text: &str| before(text, Timestamp::from_nanos(now)).unwrap();
            let full = read(&format!("{day}T{time}:00Z"));
            for form in [format!("{day}T{time}"), format!("{day}T{time}Z"), format!("{day}T{time}+00:00")] {
                prop_assert_eq!(read(&form), full, "{}", form);
            }
            prop_assert_eq!(read(&day), read(&format!("{day}T00:00:00Z")));
            prop_assert!(read(&day) <= full);
        }

        #[test]
        fn any_text_is_a_moment_or_none(text in "[0-9TZz:.+hmsé-]{0,25}|[0-9]{1,9}[hms]", now in any::<i64>()) {
            let _ = before(&text, Timestamp::from_nanos(now));
            let _ = unix(&text);
        }
    }
}
