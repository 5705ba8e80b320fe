//! Log entries as a client gets them: framed unless the container has a terminal, with time and attributes in front
//! if asked for.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::logs::Stream;
use crate::logs::follow::Render;
use crate::logs::frame::{self, Channel, HEADER};
use crate::logs::json_file::Entry;

/// What Go's `url.QueryEscape` leaves alone; a space becomes `+` there.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');

/// How entries are to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    pub framing: Framing,
    pub timestamps: bool,
    pub details: bool,
    pub stdout: bool,
    pub stderr: bool,
}

pub use crate::api::call::Framing;

/// Writes entries in a style.
pub struct Text {
    style: Style,
    /// The time of the last entry as read and as shown: entries that were read at once share it.
    time: (String, String),
}

impl Text {
    pub fn new(style: Style) -> Self {
        Self { style, time: Default::default() }
    }
}

impl Render for Text {
    fn render(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        let wanted = match entry.stream {
            Stream::Stdout => self.style.stdout,
            Stream::Stderr => self.style.stderr,
        };
        if !wanted {
            return;
        }
        let start = out.len();
        if self.style.framing == Framing::Multiplexed {
            out.extend_from_slice(&[0; HEADER]);
        }
        let payload = out.len();
        if self.style.timestamps {
            if self.time.0 != entry.time {
                self.time = (entry.time.to_owned(), nine_digits(entry.time));
            }
            out.extend_from_slice(self.time.1.as_bytes());
            out.push(b' ');
        }
        if self.style.details {
            out.extend_from_slice(details(entry.attrs).as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.line);
        if self.style.framing == Framing::Multiplexed {
            let length = u32::try_from(out.len() - payload).unwrap_or(u32::MAX);
            out[start..payload].copy_from_slice(&frame::header(Channel::from(entry.stream), length));
        }
    }
}

/// `2006-01-02T15:04:05.000000000Z`: what was cut from the decimals comes back, so that lines align.
fn nine_digits(time: &str) -> String {
    let Some(time) = time.strip_suffix('Z') else { return time.to_owned() };
    let (seconds, decimals) = time.split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{decimals:0<9}Z")
}

/// `a=1,b=2`, both sides escaped as in a query.
fn details(attrs: Option<&str>) -> String {
    let attrs: BTreeMap<String, String> =
        attrs.and_then(|attrs| serde_json::from_str(attrs).ok()).unwrap_or_default();
    let escape = |text: &str| utf8_percent_encode(text, ESCAPED).to_string().replace(' ', "+");
    let pairs: Vec<String> = attrs.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry<'_> = Entry {
        stream: Stream::Stderr,
        time: "2024-01-02T03:04:05.67Z",
        attrs: Some(r#"{"b":"x y/é","a":"1"}"#),
        line: b"text\n",
    };
    const PLAIN: Style =
        Style { framing: Framing::Raw, timestamps: false, details: false, stdout: true, stderr: true };

    fn rendered(style: Style, entry: Entry<'_>) -> String {
        let mut out = Vec::new();
        Text::new(style).render(&entry, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn time_and_details_come_before_the_line_inside_the_frame() {
        assert_eq!(rendered(PLAIN, ENTRY), "text\n");
        let all = Style { timestamps: true, details: true, ..PLAIN };
        let text = "2024-01-02T03:04:05.670000000Z a=1,b=x+y%2F%C3%A9 text\n";
        assert_eq!(rendered(all, ENTRY), text);
        let framed = rendered(Style { framing: Framing::Multiplexed, ..all }, ENTRY);
        assert_eq!(framed, format!("\x02\0\0\0\0\0\0{}{text}", char::from(text.len() as u8)));
        assert_eq!(rendered(Style { details: true, ..PLAIN }, Entry { attrs: None, ..ENTRY }), " text\n");
        assert_eq!(rendered(Style { stderr: false, ..PLAIN }, ENTRY), "");
        assert_eq!(nine_digits("2024-01-02T03:04:05Z"), "2024-01-02T03:04:05.000000000Z");
    }
}
