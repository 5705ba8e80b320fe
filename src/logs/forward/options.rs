//! The options of the drivers that send logs elsewhere. Texts of errors are dockerd's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::address::{Address, AddressError};
use super::fluentd::Fluentd;
use super::gelf::{Gelf, GelfCompression};
use super::journald::{self, Journald};
use super::syslog::{self, Syslog};
use super::{Format, Forward, Tls};
use crate::base::boolean::parse_bool;
use crate::logs::attributes::{self, AttributeError, Subject};

const SYSLOG_PORT: u16 = 514;
const GELF_PORT: u16 = 12201;
const FLUENTD_PORT: u16 = 24224;
const FLUENTD_ADDRESS: &str = "tcp://127.0.0.1:24224";
/// Where a local syslog daemon listens.
const LOCAL_SYSLOG: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
const DAEMON_FACILITY: u8 = 3;

/// Options that every driver has.
const COMMON: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];
const SYSLOG: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];
const GELF: [&str; 5] = [
    "gelf-address",
    "gelf-compression-level",
    "gelf-compression-type",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
];
/// Limits of a buffer and of retries are checked and not needed: what waits, waits on disk.
const FLUENTD: [&str; 10] = [
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-connect",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
    "fluentd-read-timeout",
];

/// Why the options of such a driver are refused.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("unknown log opt '{key}' for {driver} log driver")]
    UnknownOption { key: String, driver: String },
    #[error("gelf-address is a required parameter")]
    NoGelfAddress,
    #[error("gelf: endpoint needs to be UDP or TCP")]
    GelfScheme,
    #[error("unknown value {value:?} for log opt {key:?} for {driver} log driver")]
    Value { key: &'static str, value: String, driver: &'static str },
    #[error("compression is only supported on UDP")]
    CompressedStream,
    #[error("invalid syslog facility")]
    Facility,
    #[error("Invalid syslog format")]
    SyslogFormat,
    #[error("{0}")]
    Address(#[from] AddressError),
    #[error(transparent)]
    Attribute(#[from] AttributeError),
}

type Options = BTreeMap<String, String>;

/// Checks the options of `driver`, one of [`super::DRIVERS`]; `is_common` knows those of all drivers with files.
pub fn validate(
    driver: &str,
    options: &Options,
    is_common: impl Fn(&str) -> bool,
) -> Result<(), ForwardError> {
    let own: &[&str] = match driver {
        "syslog" => &SYSLOG,
        "gelf" => &GELF,
        "fluentd" => &FLUENTD,
        _ => &[],
    };
    for key in options.keys().map(String::as_str) {
        if !is_common(key) && !COMMON.contains(&key) && !own.contains(&key) {
            return Err(ForwardError::UnknownOption { key: key.to_owned(), driver: driver.to_owned() });
        }
    }
    read(driver, options, &Subject::default()).map(drop)
}

/// Where and how the log of `subject` is sent.
pub fn read(driver: &str, options: &Options, subject: &Subject<'_>) -> Result<Forward, ForwardError> {
    let tag = attributes::tag(options, subject)?;
    let extra = attributes::chosen_of(options, subject)?;
    match driver {
        "syslog" => syslog(options, tag),
        "gelf" => gelf(options, subject, tag, extra),
        "fluentd" => fluentd(options, subject, tag, extra),
        _ => Ok(journald(subject, tag, extra)),
    }
}

fn syslog(options: &Options, tag: String) -> Result<Forward, ForwardError> {
    let to = match value(options, "syslog-address") {
        None => local_syslog(),
        Some(address) if !address.contains("://") => {
            return Err(AddressError::Form(address.to_owned()).into());
        }
        Some(address) => Address::parse(address, SYSLOG_PORT)?,
    };
    let facility =
        value(options, "syslog-facility").map(|name| syslog::facility(name).ok_or(ForwardError::Facility));
    let form = syslog::Form::named(value(options, "syslog-format").unwrap_or_default());
    let format = Format::Syslog(Syslog {
        facility: facility.transpose()?.unwrap_or(DAEMON_FACILITY),
        form: form.ok_or(ForwardError::SyslogFormat)?,
        hostname: hostname(),
        tag,
        pid: std::process::id(),
        counted: matches!(to, Address::Tls(_)) && form.is_some_and(syslog::Form::is_rfc5424),
    });
    let file = |key| value(options, key).map(PathBuf::from);
    let tls = Tls {
        authorities: file("syslog-tls-ca-cert"),
        certificate: file("syslog-tls-cert"),
        key: file("syslog-tls-key"),
        // Any value, as with dockerd.
        unverified: options.contains_key("syslog-tls-skip-verify"),
    };
    Ok(Forward { to, format, tls, may_be_absent: false })
}

fn local_syslog() -> Address {
    let found = LOCAL_SYSLOG.iter().find(|path| Path::new(path).exists());
    Address::UnixDatagram(found.unwrap_or(&LOCAL_SYSLOG[0]).into())
}

fn gelf(
    options: &Options,
    subject: &Subject<'_>,
    tag: String,
    extra: Options,
) -> Result<Forward, ForwardError> {
    let address = value(options, "gelf-address").ok_or(ForwardError::NoGelfAddress)?;
    let to = match Address::parse(address, GELF_PORT)? {
        to @ (Address::Tcp(_) | Address::Udp(_)) => to,
        Address::Tls(_) | Address::Unix(_) | Address::UnixDatagram(_) => {
            return Err(ForwardError::GelfScheme);
        }
    };
    let wrong = |key: &'static str| {
        let value = value(options, key).unwrap_or_default().to_owned();
        ForwardError::Value { key, value, driver: "gelf" }
    };
    let compressed =
        ["gelf-compression-type", "gelf-compression-level"].iter().any(|key| options.contains_key(*key));
    if compressed && !to.is_datagram() {
        return Err(ForwardError::CompressedStream);
    }
    let compression = match value(options, "gelf-compression-type") {
        None | Some("gzip") => GelfCompression::Gzip,
        Some("zlib") => GelfCompression::Zlib,
        Some("none") => GelfCompression::None,
        Some(_) => return Err(wrong("gelf-compression-type")),
    };
    let level = match value(options, "gelf-compression-level").map(str::parse::<i32>) {
        None | Some(Ok(-1)) => 1,
        Some(Ok(level @ 0..=9)) => level.unsigned_abs(),
        Some(_) => return Err(wrong("gelf-compression-level")),
    };
    let mut fields: Options = extra.into_iter().map(|(key, value)| (format!("_{key}"), value)).collect();
    fields.extend(
        [
            ("_container_id", subject.id),
            ("_container_name", subject.name),
            ("_image_id", subject.image_id),
            ("_image_name", subject.image_name),
            ("_command", subject.command),
            ("_tag", &tag),
            ("_created", subject.created),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let format = Format::Gelf(Gelf { hostname: hostname(), compression, level, fields });
    Ok(Forward { to, format, tls: Tls::default(), may_be_absent: false })
}

fn fluentd(
    options: &Options,
    subject: &Subject<'_>,
    tag: String,
    extra: Options,
) -> Result<Forward, ForwardError> {
    let to = Address::parse(value(options, "fluentd-address").unwrap_or(FLUENTD_ADDRESS), FLUENTD_PORT)?;
    if matches!(to, Address::Tls(_)) {
        return Err(AddressError::Scheme("tcp+tls".to_owned()).into());
    }
    let flag = |key: &'static str| match value(options, key) {
        None => Ok(false),
        Some(value) => parse_bool(value).ok_or_else(|| ForwardError::Value {
            key,
            value: value.to_owned(),
            driver: "fluentd",
        }),
    };
    let mut fields = extra;
    fields.insert("container_id".to_owned(), subject.id.to_owned());
    // This one has its slash with dockerd.
    fields.insert("container_name".to_owned(), format!("/{}", subject.name));
    let format = Format::Fluentd(Fluentd { tag, sub_second: flag("fluentd-sub-second-precision")?, fields });
    let may_be_absent = flag("fluentd-async")? || flag("fluentd-async-connect")?;
    Ok(Forward { to, format, tls: Tls::default(), may_be_absent })
}

fn journald(subject: &Subject<'_>, tag: String, extra: Options) -> Forward {
    let mut fields: Options =
        extra.into_iter().map(|(key, value)| (journald::field_name(&key), value)).collect();
    fields.retain(|name, _| !name.is_empty());
    fields.extend(
        [
            ("CONTAINER_ID", attributes::short_id(subject)),
            ("CONTAINER_ID_FULL", subject.id),
            ("CONTAINER_NAME", subject.name),
            ("CONTAINER_TAG", &tag),
            ("IMAGE_NAME", subject.image_name),
            ("SYSLOG_IDENTIFIER", &tag),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let to = Address::UnixDatagram(journald::SOCKET.into());
    Forward { to, format: Format::Journald(Journald { fields }), tls: Tls::default(), may_be_absent: false }
}

fn value<'o>(options: &'o Options, key: &str) -> Option<&'o str> {
    options.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

fn hostname() -> String {
    let name = nix::unistd::gethostname();
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(options: &[(&str, &str)]) -> Options {
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn bad_options_are_refused_in_dockerds_words() {
        for (driver, options, text) in [
            ("syslog", &[("x", "y")][..], "unknown log opt 'x' for syslog log driver"),
            ("syslog", &[("syslog-facility", "x")], "invalid syslog facility"),
            ("syslog", &[("syslog-format", "x")], "Invalid syslog format"),
            ("syslog", &[("syslog-address", "http://x")], "unsupported scheme: 'http'"),
            (
                "syslog",
                &[("syslog-address", "host:514")],
                "invalid address 'host:514': expected SCHEME://HOST:PORT or unix:///PATH",
            ),
            ("gelf", &[], "gelf-address is a required parameter"),
            ("gelf", &[("gelf-address", "unix:///x")], "gelf: endpoint needs to be UDP or TCP"),
            (
                "gelf",
                &[("gelf-address", "udp://x"), ("gelf-compression-level", "10")],
                "unknown value \"10\" for log opt \"gelf-compression-level\" for gelf log driver",
            ),
            (
                "gelf",
                &[("gelf-address", "tcp://x"), ("gelf-compression-type", "gzip")],
                "compression is only supported on UDP",
            ),
            (
                "journald",
                &[("syslog-address", "udp://x")],
                "unknown log opt 'syslog-address' for journald log driver",
            ),
        ] {
            let error = validate(driver, &map(options), |_| false).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        validate("fluentd", &map(&[("fluentd-async", "true"), ("mode", "x")]), |key| key == "mode").unwrap();
    }

    #[test]
    fn messages_say_which_container_they_are_of() {
        let subject = Subject { id: "0123456789abcdef", name: "box", ..Subject::default() };
        let Format::Journald(journald) = read("journald", &map(&[]), &subject).unwrap().format else {
            panic!()
        };
        assert_eq!(journald.fields["CONTAINER_ID"], "0123456789ab");
        assert_eq!(journald.fields["SYSLOG_IDENTIFIER"], "0123456789ab");
        let options = map(&[("fluentd-async", "true"), ("tag", "x.{{.Name}}")]);
        let forward = read("fluentd", &options, &subject).unwrap();
        assert!(forward.may_be_absent);
        let Format::Fluentd(fluentd) = forward.format else { panic!() };
        assert_eq!((fluentd.tag.as_str(), fluentd.fields["container_name"].as_str()), ("x.box", "/box"));
    }
}
