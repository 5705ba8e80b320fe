//! Syslog messages: BSD's form (RFC 3164) with and without host name, and RFC 5424's.

use chrono::{DateTime, Local, SecondsFormat};
use serde::{Deserialize, Serialize};

use super::text;
use crate::logs::Stream;
use crate::logs::json_file::Entry;

const INFO: u8 = 6;
const ERROR: u8 = 3;

/// Names of facilities by number (RFC 5424, section 6.2.1, with syslog(3)'s names).
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// How messages are written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Syslog {
    pub facility: u8,
    pub form: Form,
    pub hostname: String,
    pub tag: String,
    /// What stands for the sender's process.
    pub pid: u32,
    /// Whether each message has its length before it (RFC 5425).
    #[serde(default)]
    pub counted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Form {
    /// What local daemons expect: without a host name.
    Local,
    Rfc3164,
    Rfc5424,
    /// With microseconds.
    Rfc5424Micro,
}

impl Form {
    /// By the value of `syslog-format`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "" => Self::Local,
            "rfc3164" => Self::Rfc3164,
            "rfc5424" => Self::Rfc5424,
            "rfc5424micro" => Self::Rfc5424Micro,
            _ => return None,
        })
    }
}

impl Form {
    /// Whether it is one of RFC 5424's, which RFC 5425 is the way to send over TLS of.
    pub fn is_rfc5424(self) -> bool {
        matches!(self, Self::Rfc5424 | Self::Rfc5424Micro)
    }
}

/// By the value of `syslog-facility`: a name or a number.
pub fn facility(text: &str) -> Option<u8> {
    let named = FACILITIES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok().filter(|number| *number <= 23))
}

impl Syslog {
    /// A message with its line end.
    pub fn encode(&self, entry: &Entry<'_>) -> Vec<u8> {
        let severity = if entry.stream == Stream::Stderr { ERROR } else { INFO };
        let priority = self.facility * 8 + severity;
        let time: DateTime<Local> = DateTime::from_timestamp_nanos(entry.timestamp().nanos()).into();
        let bsd = time.format("%b %e %H:%M:%S");
        let Self { hostname, tag, pid, .. } = self;
        let mut message = match self.form {
            Form::Local => format!("<{priority}>{bsd} {tag}[{pid}]: "),
            Form::Rfc3164 => format!("<{priority}>{bsd} {hostname} {tag}[{pid}]: "),
            Form::Rfc5424 | Form::Rfc5424Micro => {
                let precision = match self.form {
                    Form::Rfc5424Micro => SecondsFormat::Micros,
                    _ => SecondsFormat::Secs,
                };
                let time = time.to_rfc3339_opts(precision, false);
                format!("<{priority}>1 {time} {hostname} {tag} {pid} {tag} - ")
            }
        }
        .into_bytes();
        message.extend_from_slice(text(entry).0);
        message.push(b'\n');
        if self.counted {
            message.splice(0..0, format!("{} ", message.len()).into_bytes());
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_fields() {
        let encode = |form, stream| {
            let syslog = Syslog {
                facility: 3,
                form,
                hostname: "host".into(),
                tag: "tag".into(),
                pid: 7,
                counted: false,
            };
            let entry =
                Entry { stream, time: "2026-01-02T03:04:05.678901234Z", attrs: None, line: b"text\n" };
            String::from_utf8(syslog.encode(&entry)).unwrap()
        };
        let local = encode(Form::Local, Stream::Stdout);
        assert!(local.starts_with("<30>Jan  2 ") && local.ends_with(" tag[7]: text\n"), "{local}");
        let bsd = encode(Form::Rfc3164, Stream::Stderr);
        assert!(bsd.starts_with("<27>Jan  2 ") && bsd.ends_with(" host tag[7]: text\n"), "{bsd}");
        let new = encode(Form::Rfc5424, Stream::Stdout);
        assert!(new.starts_with("<30>1 2026-01-0") && new.ends_with(" host tag 7 tag - text\n"), "{new}");
        assert!(encode(Form::Rfc5424Micro, Stream::Stdout).contains(".678901"));
    }

    #[test]
    fn facilities_have_names_and_numbers() {
        for (text, number) in
            [("daemon", Some(3)), ("local7", Some(23)), ("4", Some(4)), ("24", None), ("x", None)]
        {
            assert_eq!(facility(text), number, "{text}");
        }
    }
}
