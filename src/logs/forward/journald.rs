//! The systemd journal's native protocol: fields in one datagram (systemd.io, "Native Journal Protocol").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::text;
use crate::logs::Stream;
use crate::logs::json_file::Entry;

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
const INFO: &str = "6";
const ERROR: &str = "3";

/// How entries are written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Journald {
    /// Fields of every entry.
    pub fields: BTreeMap<String, String>,
}

impl Journald {
    /// A datagram.
    pub fn encode(&self, entry: &Entry<'_>) -> Vec<u8> {
        let (text, goes_on) = text(entry);
        let mut out = Vec::new();
        field(&mut out, "MESSAGE", text);
        let priority = if entry.stream == Stream::Stderr { ERROR } else { INFO };
        field(&mut out, "PRIORITY", priority.as_bytes());
        field(&mut out, "SYSLOG_TIMESTAMP", entry.time.as_bytes());
        if goes_on {
            field(&mut out, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        self.fields.iter().for_each(|(name, value)| field(&mut out, name, value.as_bytes()));
        out
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A name that the journal takes: capitals, digits and underscores, no underscore or digit first.
pub fn field_name(name: &str) -> String {
    let upper = name.chars().map(|c| match c.to_ascii_uppercase() {
        c @ ('A'..='Z' | '0'..='9') => c,
        _ => '_',
    });
    upper.collect::<String>().trim_start_matches(|c: char| c == '_' || c.is_ascii_digit()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_lines_or_have_their_length() {
        let fields = BTreeMap::from([("CONTAINER_NAME".to_owned(), "a\nb".to_owned())]);
        let entry = Entry { stream: Stream::Stderr, time: "T", attrs: None, line: b"text\n" };
        let datagram = Journald { fields }.encode(&entry);
        let expected =
            b"MESSAGE=text\nPRIORITY=3\nSYSLOG_TIMESTAMP=T\nCONTAINER_NAME\n\x03\0\0\0\0\0\0\0a\nb\n";
        assert_eq!(datagram, expected);
    }

    #[test]
    fn names_are_made_fit() {
        for (name, fit) in [("com.example/x", "COM_EXAMPLE_X"), ("_a", "A"), ("1b", "B")] {
            assert_eq!(field_name(name), fit);
        }
    }
}
