//! Which log drivers there are and what their options mean. Texts of errors are dockerd's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::attributes::{self, AttributeError, Subject};
use super::forward::{self, Forward, ForwardError};
use super::json_file::{Compression, WriterOptions};
use crate::base::boolean::parse_bool;
use crate::base::units::{InvalidSize, binary_size, decimal_size};

/// Names of the drivers, sorted, as `/info` lists them.
pub const DRIVERS: [&str; 7] = ["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"];

/// Options of the files that are kept beside a sink elsewhere, for `docker logs`.
const CACHE: [&str; 4] = ["cache-compress", "cache-disabled", "cache-max-file", "cache-max-size"];

/// Size at which a log without `max-size` is rotated. dockerd lets such logs fill the disk; `max-size=-1` still does.
const DEFAULT_MAX_SIZE: u64 = 256 << 20;
/// How many files of the default size are kept.
const DEFAULT_MAX_FILE: u32 = 4;

/// Why log options are refused.
#[derive(Debug, thiserror::Error)]
pub enum LogOptionError {
    #[error("error looking up logging plugin {0}: plugin \"{0}\" not found")]
    UnknownDriver(String),
    #[error("logger: logging mode not supported: {0}")]
    Mode(String),
    #[error("logger: max-buffer-size option is only supported with 'mode=non-blocking'")]
    BufferWithoutMode,
    #[error("error parsing option max-buffer-size: {0}")]
    BufferSize(InvalidSize),
    #[error("unknown log opt '{key}' for {driver} log driver")]
    UnknownOption { key: String, driver: String },
    #[error("{0}")]
    Size(#[from] InvalidSize),
    #[error("max-size must be a positive number")]
    ZeroSize,
    #[error("strconv.Atoi: parsing {0:?}: invalid syntax")]
    MaxFile(String),
    #[error("max-file cannot be less than 1")]
    NoFile,
    #[error("strconv.ParseBool: parsing {0:?}: invalid syntax")]
    Compress(String),
    #[error("compress cannot be true when max-file is less than 2 or max-size is not set")]
    NothingToCompress,
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// Where a container's output goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LogTarget {
    /// Nowhere: driver `none`.
    None,
    /// Files as [`super::json_file`] writes them: drivers `json-file` and `local`.
    JsonFile { path: PathBuf, options: WriterOptions },
    /// Elsewhere, by way of such files.
    Forwarded { path: PathBuf, options: WriterOptions, forward: Forward },
}

/// What is checked when a container is created: the driver, the mode and the names of the options. dockerd reads
/// values only at the start, in [`target`].
pub fn validate(driver: &str, options: &BTreeMap<String, String>) -> Result<(), LogOptionError> {
    if driver == "none" {
        return Ok(());
    }
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(LogOptionError::Mode(mode.to_owned()));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return Err(LogOptionError::BufferWithoutMode);
        }
        binary_size(size).map_err(LogOptionError::BufferSize)?;
    }
    if !DRIVERS.contains(&driver) {
        return Err(LogOptionError::UnknownDriver(driver.to_owned()));
    }
    if forward::DRIVERS.contains(&driver) {
        let common = |key: &str| CACHE.contains(&key) || matches!(key, "mode" | "max-buffer-size");
        return Ok(forward::validate(driver, options, common)?);
    }
    let known = ["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];
    let known = |key: &&String| known.contains(&key.as_str()) || *key == "mode" || *key == "max-buffer-size";
    match options.keys().find(|key| !known(key)) {
        Some(key) => Err(LogOptionError::UnknownOption { key: key.clone(), driver: driver.to_owned() }),
        None => Ok(()),
    }
}

/// Reads the options of a container that starts. `dir` is the container's directory under the data root.
///
/// `mode=non-blocking` needs no buffer of ours: writing to the page cache does not wait for readers, and a full disk
/// drops lines in either mode.
pub fn target(
    driver: &str,
    options: &BTreeMap<String, String>,
    dir: &Path,
    subject: &Subject<'_>,
) -> Result<LogTarget, LogOptionError> {
    validate(driver, options)?;
    if driver == "none" {
        return Ok(LogTarget::None);
    }
    if forward::DRIVERS.contains(&driver) {
        return forwarded(driver, options, dir, subject);
    }
    file(driver, options, dir, subject)
}

/// The files beside a sink elsewhere are those of `local`, with options of their own names.
fn forwarded(
    driver: &str,
    options: &BTreeMap<String, String>,
    dir: &Path,
    subject: &Subject<'_>,
) -> Result<LogTarget, LogOptionError> {
    let cache = options.iter().filter_map(|(key, value)| Some((key.strip_prefix("cache-")?, value)));
    let cache =
        cache.filter(|(key, _)| *key != "disabled").map(|(key, value)| (key.to_owned(), value.clone()));
    match file("local", &cache.collect(), dir, subject)? {
        LogTarget::JsonFile { options: writing, .. } => Ok(LogTarget::Forwarded {
            path: dir.join("container-cached.log"),
            options: writing,
            forward: forward::read(driver, options, subject)?,
        }),
        other => Ok(other),
    }
}

/// Whether `docker logs` may read what the driver keeps.
pub fn is_readable(driver: &str, options: &BTreeMap<String, String>) -> bool {
    let disabled = options
        .get("cache-disabled")
        .is_some_and(|value| boolean(value).is_ok_and(|on| on == Compression::Gzip));
    driver != "none" && !(forward::DRIVERS.contains(&driver) && disabled)
}

fn file(
    driver: &str,
    options: &BTreeMap<String, String>,
    dir: &Path,
    subject: &Subject<'_>,
) -> Result<LogTarget, LogOptionError> {
    let defaults = defaults(driver);
    let max_size = match options.get("max-size").map(String::as_str) {
        None => defaults.max_size,
        Some("-1") => None,
        Some(text) => {
            Some(Some(decimal_size(text)?).filter(|size| *size > 0).ok_or(LogOptionError::ZeroSize)?)
        }
    };
    let max_file = match options.get("max-file") {
        Some(text) => files(text)?,
        // A `max-size` of the user's own comes with dockerd's default of one file.
        None if driver == "json-file" && options.contains_key("max-size") => 1,
        None => defaults.max_file,
    };
    let rotates =
        max_file > 1 && (max_size.is_some() && (driver == "local" || options.contains_key("max-size")));
    let compress = match options.get("compress").map(|text| boolean(text)).transpose()? {
        Some(Compression::Gzip) if !rotates => return Err(LogOptionError::NothingToCompress),
        Some(chosen) => chosen,
        None if rotates => defaults.compress,
        None => Compression::Plain,
    };
    let attrs = attributes::of(options, subject)?;
    let attrs = (!attrs.is_empty()).then(|| serde_json::json!(attrs).to_string());
    let options = WriterOptions { max_size, max_file, compress, attrs };
    Ok(LogTarget::JsonFile { path: path(driver, dir, subject.id), options })
}

/// The file that `docker inspect` shows as `LogPath` (json-file), or that is hidden there (local).
pub fn path(driver: &str, dir: &Path, id: &str) -> PathBuf {
    if driver == "local" { dir.join("local-logs/container.log") } else { dir.join(format!("{id}-json.log")) }
}

fn defaults(driver: &str) -> WriterOptions {
    let (max_size, max_file, compress) = match driver {
        "local" => (20 << 20, 5, Compression::Gzip),
        _ => (DEFAULT_MAX_SIZE, DEFAULT_MAX_FILE, Compression::Plain),
    };
    WriterOptions { max_size: Some(max_size), max_file, compress, attrs: None }
}

fn files(text: &str) -> Result<u32, LogOptionError> {
    let number: i64 = text.parse().map_err(|_| LogOptionError::MaxFile(text.to_owned()))?;
    u32::try_from(number).ok().filter(|number| *number > 0).ok_or(LogOptionError::NoFile)
}

fn boolean(text: &str) -> Result<Compression, LogOptionError> {
    match parse_bool(text) {
        Some(true) => Ok(Compression::Gzip),
        Some(false) => Ok(Compression::Plain),
        None => Err(LogOptionError::Compress(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(options: &[(&str, &str)]) -> BTreeMap<String, String> {
        options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn bad_drivers_and_options_are_refused_in_dockerds_words() {
        for (driver, options, text) in [
            ("x", &[][..], "error looking up logging plugin x: plugin \"x\" not found"),
            ("json-file", &[("foo", "1")], "unknown log opt 'foo' for json-file log driver"),
            ("json-file", &[("mode", "x")], "logger: logging mode not supported: x"),
            (
                "json-file",
                &[("max-buffer-size", "1m")],
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
        ] {
            assert_eq!(validate(driver, &map(options)).unwrap_err().to_string(), text);
        }
        validate("none", &map(&[("foo", "1")])).unwrap();
        validate("json-file", &map(&[("mode", "non-blocking"), ("max-buffer-size", "4m"), ("tag", "x")]))
            .unwrap();
    }

    #[test]
    fn values_are_read_at_the_start() {
        let read = |driver: &str, options: &[(&str, &str)]| {
            target(driver, &map(options), Path::new("/c"), &Subject { id: "abc", ..Subject::default() })
        };
        for (options, text) in [
            (&[("max-size", "x")][..], "invalid size: 'x'"),
            (&[("max-size", "0")], "max-size must be a positive number"),
            (&[("max-file", "0")], "max-file cannot be less than 1"),
            (&[("max-file", "x")], "strconv.Atoi: parsing \"x\": invalid syntax"),
            (
                &[("compress", "true")],
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ),
        ] {
            assert_eq!(read("json-file", options).unwrap_err().to_string(), text);
        }
        let LogTarget::JsonFile { path, options } = read("json-file", &[("max-size", "10m")]).unwrap() else {
            panic!()
        };
        assert_eq!(path, Path::new("/c/abc-json.log"));
        assert_eq!((options.max_size, options.max_file), (Some(10_000_000), 1));
        let LogTarget::JsonFile { options, .. } = read("local", &[]).unwrap() else { panic!() };
        assert_eq!((options.max_file, options.compress), (5, Compression::Gzip));
        assert_eq!(read("none", &[]).unwrap(), LogTarget::None);
    }
}
