//! Decodes the parameters of path and query the way dockerd does.
//!
//! Owns the form (query and, for what is sent url-encoded, the body) and the reading of its values. A parameter that
//! the request's API version does not have counts as absent. Knows no operation: the generated structs call it.

use std::ops::RangeInclusive;

use percent_encoding::percent_decode;

use crate::api::filters::{Filters, InvalidFilters};
use crate::api::versions::ApiVersion;

/// What is wrong with a parameter; all of it is the client's fault.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// As Go's url.ParseQuery has it.
    #[error("invalid semicolon separator in query")]
    Semicolon,
    /// As Go's strconv.Atoi says it.
    #[error("strconv.Atoi: parsing {text:?}: {fault}")]
    Integer { text: String, fault: NumberFault },
    #[error("{words} {text:?}: {fault}")]
    Size { words: &'static str, text: String, fault: NumberFault },
    #[error(transparent)]
    Filters(#[from] InvalidFilters),
}

/// Why a number was refused, in Go's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NumberFault {
    #[error("invalid syntax")]
    Syntax,
    #[error("value out of range")]
    Range,
}

/// Made for every operation's parameters from the table.
pub trait Decode: Sized {
    /// Takes what the operation knows out of the request.
    fn decode(source: &mut Decoder<'_>) -> Result<Self, DecodeError>;
}

/// The keys and values of a query or of a url-encoded body.
#[derive(Clone, Default, Debug)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads `a=b&c=d`.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        if text.contains(';') {
            return Err(DecodeError::Semicolon);
        }
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let split = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Ok(Self(split.map(|(key, value)| (unescape(key), unescape(value))).collect()))
    }

    /// Adds the values of a body; they come before those of the query, as in Go's `Request.Form`.
    pub fn with_body(self, body: Form) -> Self {
        let Form(mut pairs) = body;
        pairs.extend(self.0);
        Self(pairs)
    }

    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn unescape(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8_lossy().into_owned()
}

/// One request's parameters while they are decoded.
pub struct Decoder<'a> {
    names: std::vec::IntoIter<String>,
    form: &'a Form,
    version: ApiVersion,
}

impl<'a> Decoder<'a> {
    /// `names` are those of the path from left to right.
    pub fn new(names: Vec<String>, form: &'a Form, version: ApiVersion) -> Self {
        Self { names: names.into_iter(), form, version }
    }

    /// The next name of the path.
    pub fn path(&mut self) -> String {
        self.names.next().unwrap_or_default()
    }

    /// Absent is the default; empty, `0`, `no`, `false` and `none` are false and all else is true.
    pub fn boolean(&self, key: &str, span: RangeInclusive<u16>, default: bool) -> bool {
        self.values(key, span).next().map_or(default, is_true)
    }

    /// A number; absent and empty are `None`.
    pub fn integer(&self, key: &str, span: RangeInclusive<u16>) -> Result<Option<i64>, DecodeError> {
        let Some(text) = self.text(key, span) else { return Ok(None) };
        match parse_integer(&text) {
            Ok(number) => Ok(Some(number)),
            Err(fault) => Err(DecodeError::Integer { text, fault }),
        }
    }

    /// A number of rows or columns; it must be there.
    pub fn size(
        &self,
        key: &str,
        span: RangeInclusive<u16>,
        words: &'static str,
    ) -> Result<u32, DecodeError> {
        let text = self.text(key, span).unwrap_or_default();
        let number = match text.starts_with('+') {
            true => Err(NumberFault::Syntax),
            false => parse_integer(&text),
        };
        let number = number.and_then(|number| u32::try_from(number).map_err(|_| NumberFault::Range));
        number.map_err(|fault| DecodeError::Size { words, text, fault })
    }

    /// A text; absent and empty are `None`.
    pub fn text(&self, key: &str, span: RangeInclusive<u16>) -> Option<String> {
        self.values(key, span).next().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// All values of a repeated key.
    pub fn texts(&self, key: &str, span: RangeInclusive<u16>) -> Vec<String> {
        self.values(key, span).map(str::to_owned).collect()
    }

    /// Filters in either of their JSON forms.
    pub fn filters(&self, key: &str, span: RangeInclusive<u16>) -> Result<Filters, DecodeError> {
        Ok(self.text(key, span).map_or_else(|| Ok(Filters::default()), |text| Filters::parse(&text))?)
    }

    fn values<'k>(&'k self, key: &'k str, span: RangeInclusive<u16>) -> impl Iterator<Item = &'k str> {
        // 1.24 has no specification of its own and is decoded as 1.25.
        let known = span.contains(&self.version.minor().max(25));
        self.form.all(key).filter(move |_| known)
    }
}

/// dockerd's reading of a boolean.
pub fn is_true(text: &str) -> bool {
    !matches!(text.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

/// A decimal number as Go's strconv.Atoi takes it.
pub fn parse_integer(text: &str) -> Result<i64, NumberFault> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        PosOverflow | NegOverflow => NumberFault::Range,
        _ => NumberFault::Syntax,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::spec::params;

    fn decode<P: Decode>(names: &[&str], query: &str, minor: u16) -> Result<P, String> {
        let form = Form::parse(query).map_err(|error| error.to_string())?;
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        P::decode(&mut Decoder::new(names, &form, ApiVersion::of_minor(minor)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn booleans_are_read_as_dockerd_reads_them() {
        for (query, all) in [
            ("", false),
            ("all", false),
            ("all=", false),
            ("all=0", false),
            ("all=No", false),
            ("all=%20false", false),
            ("all=NONE", false),
            ("all=1", true),
            ("all=true", true),
            ("all=maybe", true),
            ("all=0&all=1", false),
        ] {
            assert_eq!(decode::<params::ContainerList>(&[], query, 55).unwrap().all, all, "{query}");
        }
        assert!(decode::<params::ContainerStats>(&["x"], "", 55).unwrap().stream);
        assert!(!decode::<params::ContainerStats>(&["x"], "stream=0", 55).unwrap().stream);
    }

    #[test]
    fn numbers_are_refused_in_dockerds_words() {
        for (query, message) in [
            ("limit=abc", "strconv.Atoi: parsing \"abc\": invalid syntax"),
            (
                "limit=99999999999999999999",
                "strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
            ("limit=1;2", "invalid semicolon separator in query"),
            ("filters=x", "invalid filter"),
        ] {
            assert_eq!(decode::<params::ContainerList>(&[], query, 55).unwrap_err(), message);
        }
        assert_eq!(decode::<params::ContainerList>(&[], "limit=-1", 55).unwrap().limit, Some(-1));
        for (query, message) in [
            ("w=1", "invalid resize height \"\": invalid syntax"),
            ("h=1&w=-1", "invalid resize width \"-1\": value out of range"),
            ("h=1&w=%2B1", "invalid resize width \"+1\": invalid syntax"),
            ("h=4294967296&w=1", "invalid resize height \"4294967296\": value out of range"),
        ] {
            assert_eq!(decode::<params::ContainerResize>(&["x"], query, 55).unwrap_err(), message);
        }
    }

    #[test]
    fn a_parameter_newer_than_the_request_is_ignored() {
        let stop = |minor| decode::<params::ContainerStop>(&["x"], "signal=INT&t=3", minor).unwrap();
        assert_eq!(stop(41).signal, None);
        assert_eq!(stop(42).signal.as_deref(), Some("INT"));
        assert_eq!(stop(24).t, Some(3));
        assert_eq!(stop(24).id, "x");
    }

    #[test]
    fn texts_and_lists_are_unescaped() {
        let images = decode::<params::ImageGetAll>(&[], "names=a%2Fb%3A1&names=c+d", 55).unwrap();
        assert_eq!(images.names, ["a/b:1", "c d"]);
        assert_eq!(decode::<params::ContainerLogs>(&["x"], "", 55).unwrap().tail, "all");
    }

    #[test]
    fn values_of_a_body_come_before_those_of_the_query() {
        let form = Form::parse("t=1").unwrap().with_body(Form::parse("t=2").unwrap());
        assert_eq!(form.all("t").collect::<Vec<_>>(), ["2", "1"]);
    }
}

#[cfg(test)]
mod properties {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn a_form_is_read_as_it_was_written(
            pairs in prop::collection::vec((any::<String>(), "[a +]{0,4}|.{0,9}"), 0..5),
        ) {
            // A space is written in either way.
            let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().replacen("%20", "+", 1);
            let text: Vec<_> = pairs.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
            prop_assert_eq!(Form::parse(&text.join("&")).unwrap().0, pairs);
        }

        #[test]
        fn any_query_without_semicolon_is_a_form(text in "[a=&%+;2Fé]{0,20}") {
            match Form::parse(&text) {
                Ok(form) => prop_assert!(form.0.len() <= text.split('&').count() && !text.contains(';')),
                Err(_) => prop_assert!(text.contains(';')),
            }
        }

        #[test]
        fn numbers_are_those_of_64_bits(text in "[+-]?([0-9]{0,21}|[0-9]{0,9}[a +])") {
            let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
            let number = text.trim_start_matches('+').parse::<i128>().ok();
            let expected = match number {
                _ if digits.is_empty() || digits.bytes().any(|b| !b.is_ascii_digit()) => Err(NumberFault::Syntax),
                Some(number) => i64::try_from(number).map_err(|_| NumberFault::Range),
                None => Err(NumberFault::Syntax),
            };
            prop_assert_eq!(parse_integer(&text), expected);
        }
    }
}
