//! Reads log lines back. The layout that this engine and dockerd write is read by hand, anything else by serde.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::time::Timestamp;
use crate::logs::Stream;

/// One entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub stream: Stream,
    /// RFC 3339, as written.
    pub time: &'a str,
    /// The JSON object of labels and variables, as written.
    pub attrs: Option<&'a str>,
    /// The text, with its line end unless it is the beginning of a split or unfinished line.
    pub line: &'a [u8],
}

impl Entry<'_> {
    /// The time as a number; `UNSET` if it is no time.
    pub fn timestamp(&self) -> Timestamp {
        utc(self.time.as_bytes()).or_else(|| Timestamp::parse_rfc3339(self.time)).unwrap_or(Timestamp::UNSET)
    }
}

/// Decodes lines, one at a time, into buffers of its own.
#[derive(Default)]
pub struct Decoder {
    line: Vec<u8>,
    other: Option<OtherLayout>,
}

#[derive(Deserialize)]
struct OtherLayout {
    #[serde(default)]
    log: String,
    stream: Stream,
    #[serde(default)]
    time: String,
    attrs: Option<Box<RawValue>>,
}

impl Decoder {
    /// The entry in `json`, a line without its line end; `None` if it is none.
    pub fn decode<'a>(&'a mut self, json: &'a [u8]) -> Option<Entry<'a>> {
        self.line.clear();
        if let Some((stream, attrs, time)) = usual_layout(&mut self.line, json) {
            return Some(Entry { stream, time, attrs, line: &self.line });
        }
        self.other = serde_json::from_slice(json).ok();
        let other = self.other.as_ref()?;
        let attrs = other.attrs.as_ref().map(|attrs| attrs.get());
        Some(Entry { stream: other.stream, time: &other.time, attrs, line: other.log.as_bytes() })
    }
}

fn usual_layout<'a>(line: &mut Vec<u8>, json: &'a [u8]) -> Option<(Stream, Option<&'a str>, &'a str)> {
    const TIME: &[u8] = b",\"time\":\"";
    let rest = unescape(line, json.strip_prefix(b"{\"log\":\"")?)?;
    let rest = rest.strip_prefix(b",\"stream\":\"std")?;
    let (stream, rest) = match rest.strip_prefix(b"out\"") {
        Some(rest) => (Stream::Stdout, rest),
        None => (Stream::Stderr, rest.strip_prefix(b"err\"")?),
    };
    let rest = rest.strip_suffix(b"\"}")?;
    let (attrs, time) = match rest.strip_prefix(b",\"attrs\":") {
        None => (None, rest.strip_prefix(TIME)?),
        Some(rest) => {
            let end = memchr::memmem::rfind(rest, TIME)?;
            (Some(std::str::from_utf8(&rest[..end]).ok()?), &rest[end + TIME.len()..])
        }
    };
    Some((stream, attrs, std::str::from_utf8(time).ok().filter(|time| !time.contains('"'))?))
}

/// Appends the text of a JSON string whose opening quote is past; returns what follows its closing quote.
fn unescape<'a>(out: &mut Vec<u8>, mut json: &'a [u8]) -> Option<&'a [u8]> {
    loop {
        let at = memchr::memchr2(b'"', b'\\', json)?;
        out.extend_from_slice(&json[..at]);
        if json[at] == b'"' {
            return Some(&json[at + 1..]);
        }
        let escape = *json.get(at + 1)?;
        json = &json[at + 2..];
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'"' | b'\\' | b'/' => out.push(escape),
            b'u' => json = unescape_unicode(out, json)?,
            _ => return None,
        }
    }
}

/// Appends the character of `\uXXXX` (or of a pair of surrogates); `json` begins at the digits.
fn unescape_unicode<'a>(out: &mut Vec<u8>, json: &'a [u8]) -> Option<&'a [u8]> {
    let first = unit(json)?;
    let rest = &json[4..];
    let second = rest.strip_prefix(b"\\u").and_then(unit);
    let (character, rest) = match (first, second) {
        (0xD800..=0xDBFF, Some(low @ 0xDC00..=0xDFFF)) => {
            let code = 0x10000 + ((u32::from(first) - 0xD800) << 10) + (u32::from(low) - 0xDC00);
            (char::from_u32(code), &rest[6..])
        }
        _ => (char::from_u32(u32::from(first)), rest),
    };
    let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

fn unit(json: &[u8]) -> Option<u16> {
    // Rust's own parser takes a sign too.
    let digits = json.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Reads `YYYY-MM-DDTHH:MM:SS[.fraction]Z`, which is what the lines of a log have.
fn utc(text: &[u8]) -> Option<Timestamp> {
    let number = |range: std::ops::Range<usize>| {
        text.get(range)?
            .iter()
            .try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if text.len() < 20 || text.last() != Some(&b'Z') || marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let days = days_since_1970(number(0..4)?, number(5..7)?, number(8..10)?);
    let seconds = ((days * 24 + number(11..13)?) * 60 + number(14..16)?) * 60 + number(17..19)?;
    let nanos = match &text[19..text.len() - 1] {
        [] => 0,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
            number(20..text.len() - 1)? * 10i64.pow(9 - digits.len() as u32)
        }
        _ => return None,
    };
    Some(Timestamp::from_nanos(seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?))
}

/// Days from 1970-01-01 in the Gregorian calendar; years are counted from March so that the leap day is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(json: &str) -> Option<(String, Stream, String, Option<String>)> {
        let mut decoder = Decoder::default();
        let entry = decoder.decode(json.as_bytes())?;
        let line = String::from_utf8(entry.line.to_vec()).unwrap();
        Some((line, entry.stream, entry.time.to_owned(), entry.attrs.map(str::to_owned)))
    }

    #[test]
    fn both_layouts_of_a_line_are_read_alike() {
        let expected = ("a\"\\<é😀\u{2028}\n".to_owned(), Stream::Stderr, "T".to_owned(), None);
        let log = r#""log":"a\"\\\u003cé\ud83d\ude00\u2028\n""#;
        let usual = format!(r#"{{{log},"stream":"stderr","time":"T"}}"#);
        let other = format!(r#"{{"stream":"stderr", {log}, "time":"T"}}"#);
        assert_eq!(decoded(&usual).as_ref(), Some(&expected));
        assert_eq!(decoded(&other).as_ref(), Some(&expected));
        let attrs = r#"{"a":"\",\"time\":\"x"}"#;
        for json in [
            format!(r#"{{{log},"stream":"stderr","attrs":{attrs},"time":"T"}}"#),
            format!(r#"{{"attrs":{attrs},{log},"stream":"stderr","time":"T"}}"#),
        ] {
            assert_eq!(decoded(&json).unwrap().3.as_deref(), Some(attrs));
        }
    }

    #[test]
    fn what_is_no_entry_is_passed_over() {
        for json in [
            "",
            "{",
            "null",
            r#"{"log":"a"#,
            r#"{"log":"a","stream":"x","time":"T"}"#,
            r#"{"log":"\q"}"#,
            r#"{"log":"\u+041","stream":"stdout","time":"T"}"#,
        ] {
            assert_eq!(decoded(json), None, "{json}");
        }
    }

    #[test]
    fn times_are_read_as_chrono_reads_them() {
        for nanos in [0, 1, 1_500_000_000, 951_782_400_000_000_000, 1_709_164_800_000_000_010, -1_000_000_000]
        {
            let time = Timestamp::from_nanos(nanos);
            assert_eq!(utc(time.to_string().as_bytes()), Some(time), "{time}");
        }
        for bad in
            ["", "2020-01-01", "2020-01-01T00:00:00", "2020-01-01T00:00:00.Z", "2020-01-01T00:00:00+01:00"]
        {
            assert_eq!(utc(bad.as_bytes()), None);
        }
    }
}

#[cfg(test)]
mod properties {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    /// The inside of a JSON string, or nearly.
    fn literal() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[ -!#-\\[\\]-~é😀]{1,8}",
            2 => r#"\\[nrtbf"\\/]"#,
            2 => "\\\\u(00[0-9a-fA-F]{2}|20[0-9]{2}|fffd)",
            1 => Just("\\ud83d\\ude00".to_owned()),
            1 => r#"\\[qxu]|\\u\+041|\\u12g4|\\u12|""#,
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    fn attrs() -> impl Strategy<Value = Option<String>> {
        let key = prop_oneof![any::<String>(), Just("\",\"time\":\"".to_owned())];
        let map = prop::collection::btree_map(key.clone(), key, 0..3);
        prop::option::of(map.prop_map(|map| serde_json::to_string(&map).unwrap()))
    }

    proptest! {
        #![proptest_config(cases(1000))]

        #[test]
        fn a_line_is_read_as_serde_json_reads_it(
            literal in literal(),
            attrs in attrs(),
            stream in "std(out|err|in)",
        ) {
            let attrs = attrs.map(|attrs| format!("\"attrs\":{attrs},")).unwrap_or_default();
            let time = "2024-01-02T03:04:05Z";
            let line = format!(r#"{{"log":"{literal}","stream":"{stream}",{attrs}"time":"{time}"}}"#);
            let expected: Option<OtherLayout> = serde_json::from_str(&line).ok();
            let mut decoder = Decoder::default();
            let entry = decoder.decode(line.as_bytes());
            let expected = expected.as_ref().map(|other| Entry {
                stream: other.stream,
                time: &other.time,
                attrs: other.attrs.as_ref().map(|attrs| attrs.get()),
                line: other.log.as_bytes(),
            });
            prop_assert_eq!(entry, expected, "{}", line);
        }

        #[test]
        fn any_bytes_are_a_line_or_none(
            bytes in r#"(\{"log":")?([a-z"\\{},:]|\\u|,"stream":"stdout"|"time":"|","attrs":|"\}){0,12}"#,
        ) {
            let mut decoder = Decoder::default();
            if let Some(entry) = decoder.decode(bytes.as_bytes()) {
                let _ = entry.timestamp();
            }
        }

        #[test]
        fn times_are_those_that_chrono_reads(
            text in "(19|20|0[0-9])[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,10})?Z",
        ) {
            if let Ok(time) = DateTime::parse_from_rfc3339(&text)
                && let (Some(nanos), Some(read)) = (time.timestamp_nanos_opt(), utc(text.as_bytes()))
            {
                prop_assert_eq!(read, Timestamp::from_nanos(nanos), "{}", text);
            }
        }

        #[test]
        fn any_text_is_a_time_or_none(
            text in "[0-9é]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.0-9Zé]{0,12}",
        ) {
            let _ = utc(text.as_bytes());
        }
    }
}
