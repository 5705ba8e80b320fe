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
    let digits = std::str::from_utf8(json.get(..4)?).ok()?;
    u16::from_str_radix(digits, 16).ok()
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
        for json in
            ["", "{", "null", r#"{"log":"a"#, r#"{"log":"a","stream":"x","time":"T"}"#, r#"{"log":"\q"}"#]
        {
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
