//! Names of images: `[domain/]path[:tag][@digest]`, normalised as the Docker CLI and daemon do
//! (github.com/distribution/reference, "Grammar").

use std::fmt;
use std::str::FromStr;

use crate::base::digest::Digest;

/// The registry that names without a domain belong to.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of names without one.
pub const DEFAULT_TAG: &str = "latest";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;

/// A text that names no image. The wording is that of the reference library, which clients show as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    #[error("repository name must not be more than {NAME_LIMIT} characters")]
    TooLong,
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
    #[error("invalid checksum digest length")]
    DigestLength,
}

/// A normalised name, with a tag, a digest, both or neither.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// What a user may give for an image: a name or a bare digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyReference {
    Named(Reference),
    Digest(Digest),
}

impl Reference {
    /// The registry's host, with its port where it has one.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Domain and path: `docker.io/library/busybox`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as people write it: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(single) if !single.contains('/') => single.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole name as people write it: `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same name with the default tag if it has neither tag nor digest.
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The repository without tag and digest.
    pub fn trimmed(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// The repository with this tag only.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Format);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The repository with this digest only.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// True if the name as people write it, with its tag or without, matches the pattern of shell file names; `*`
    /// stops at slashes.
    pub fn matches(&self, pattern: &str) -> bool {
        glob(pattern.as_bytes(), self.familiar().as_bytes())
            || glob(pattern.as_bytes(), self.familiar_name().as_bytes())
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    /// The canonical form: `docker.io/library/busybox:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.repository()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if is_identifier(text) {
            return Err(InvalidReference::Identifier(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let named = rest.split_once(':').map_or(rest.as_str(), |(name, _)| name);
        let named = named.split_once('@').map_or(named, |(name, _)| name);
        if named.chars().any(char::is_uppercase) {
            return Err(InvalidReference::UpperCase(named.to_owned()));
        }
        let (name, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match name.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (name, None),
        };
        if !is_domain(&domain) || !path.split('/').all(is_path_component) || !tag.is_none_or(is_tag) {
            return Err(InvalidReference::Format);
        }
        if domain.len() + 1 + path.len() > NAME_LIMIT {
            return Err(InvalidReference::TooLong);
        }
        Ok(Self { domain, path: path.to_owned(), tag: tag.map(str::to_owned), digest })
    }
}

impl FromStr for AnyReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if let Ok(digest) = Digest::from_hex(text) {
            return Ok(Self::Digest(digest));
        }
        if let Ok(digest) = text.parse() {
            return Ok(Self::Digest(digest));
        }
        Ok(Self::Named(text.parse()?))
    }
}

impl AnyReference {
    /// As error messages name it: `busybox:latest`, `sha256:…`.
    pub fn familiar(&self) -> String {
        match self {
            Self::Named(name) => name.clone().or_latest().familiar(),
            Self::Digest(digest) => digest.to_string(),
        }
    }
}

/// Go's path.Match: `*`, `?`, `[a-z]`, `[^a]`, backslash. All ways to match are followed at once: one after the other
/// they take exponential time for a pattern of many stars.
fn glob(mut pattern: &[u8], text: &[u8]) -> bool {
    // Where in the text that part of the pattern which has been read can end.
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    loop {
        match pattern {
            [] => return ends[text.len()],
            [b'*', rest @ ..] => {
                (0..text.len()).for_each(|at| ends[at + 1] |= ends[at] && text[at] != b'/');
                pattern = rest;
            }
            _ => {
                let Some((one, rest)) = One::split(pattern) else { return false };
                (0..text.len()).rev().for_each(|at| ends[at + 1] = ends[at] && one.matches(text[at]));
                ends[0] = false;
                pattern = rest;
            }
        }
    }
}

/// What one byte of a text is held against.
enum One<'a> {
    NotSlash,
    Class(&'a [u8]),
    Literal(u8),
}

impl One<'_> {
    /// Takes it off a pattern; `None` for a class without end or a backslash before nothing.
    fn split(pattern: &[u8]) -> Option<(One<'_>, &[u8])> {
        Some(match pattern {
            [b'?', rest @ ..] => (One::NotSlash, rest),
            [b'[', class @ ..] => {
                let end = class.iter().skip(1).position(|b| *b == b']')? + 1;
                (One::Class(&class[..end]), &class[end + 1..])
            }
            [b'\\', literal, rest @ ..] => (One::Literal(*literal), rest),
            [b'\\'] | [] => return None,
            [literal, rest @ ..] => (One::Literal(*literal), rest),
        })
    }

    fn matches(&self, byte: u8) -> bool {
        match self {
            Self::NotSlash => byte != b'/',
            Self::Class(class) => in_class(class, byte),
            Self::Literal(literal) => byte == *literal,
        }
    }
}

fn in_class(class: &[u8], byte: u8) -> bool {
    let (negated, class) = match class {
        [b'^', rest @ ..] => (true, rest),
        class => (false, class),
    };
    let mut rest = class;
    let mut found = false;
    while let [low, after @ ..] = rest {
        (found, rest) = match after {
            [b'-', high, after @ ..] => (found || (*low..=*high).contains(&byte), after),
            after => (found || *low == byte, after),
        };
    }
    found != negated && byte != b'/'
}

/// Splits off the registry's host. The first component is one if it could not be a Docker Hub user.
fn split_domain(text: &str) -> (String, String) {
    let (domain, rest) = match text.split_once('/') {
        Some((LEGACY_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    let rest = match domain {
        DEFAULT_DOMAIN if !rest.contains('/') => format!("{OFFICIAL}{rest}"),
        _ => rest.to_owned(),
    };
    (domain.to_owned(), rest)
}

fn is_identifier(text: &str) -> bool {
    Digest::from_hex(text).is_ok()
}

fn parse_digest(text: &str) -> Result<Digest, InvalidReference> {
    let (algorithm, hex) = text.split_once(':').ok_or(InvalidReference::Format)?;
    match algorithm {
        "sha256" if hex.len() != 64 => Err(InvalidReference::DigestLength),
        "sha256" => text.parse().map_err(|_| InvalidReference::Format),
        _ => Err(InvalidReference::DigestAlgorithm),
    }
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, port)) => return is_ipv6(v6) && (port.is_empty() || is_port(port.strip_prefix(':'))),
            None => return false,
        },
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    host.split('.').all(is_domain_component) && (port.is_none() || is_port(port))
}

fn is_ipv6(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
}

fn is_port(text: Option<&str>) -> bool {
    text.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_domain_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| alphanumeric(**b)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let separator = rest.iter().take_while(|b| !alphanumeric(**b)).count();
        match &rest[..separator] {
            [] => return true,
            b"." | b"_" | b"__" => {}
            dashes if dashes.iter().all(|b| *b == b'-') => {}
            _ => return false,
        }
        rest = &rest[separator..];
    }
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_LIMIT
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, canonical, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("library/busybox", "docker.io/library/busybox", "busybox"),
            ("user/app", "docker.io/user/app", "user/app"),
            ("library/a/b", "docker.io/library/a/b", "library/a/b"),
            ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("docker.io/user/app:x", "docker.io/user/app:x", "user/app:x"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("localhost:5000/app", "localhost:5000/app", "localhost:5000/app"),
            ("127.0.0.1:5055/big:1", "127.0.0.1:5055/big:1", "127.0.0.1:5055/big:1"),
            ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
            ("Host/app", "Host/app", "Host/app"),
            ("a__b/c--d.e:T_1.x-2", "docker.io/a__b/c--d.e:T_1.x-2", "a__b/c--d.e:T_1.x-2"),
        ] {
            let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(reference.familiar(), familiar);
        }
        let both: Reference = format!("busybox:1@{digest}").parse().unwrap();
        assert_eq!(both.to_string(), format!("docker.io/library/busybox:1@{digest}"));
        assert_eq!("busybox".parse::<Reference>().unwrap().or_latest().familiar(), "busybox:latest");
    }

    #[test]
    fn bad_names_get_the_reference_librarys_wording() {
        let hex = "a".repeat(64);
        for (text, message) in [
            ("", "invalid reference format"),
            ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
            ("user/App:x", "invalid reference format: repository name (user/App) must be lowercase"),
            ("a:b:c", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a:", "invalid reference format"),
            (":a", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a-", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("a@sha256:00", "invalid checksum digest length"),
            ("a@md5:00", "unsupported digest algorithm"),
            ("a@", "invalid reference format"),
            ("host.:5/a", "invalid reference format"),
            ("host:x/a", "invalid reference format"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap_err().to_string(), message, "{text}");
        }
        assert!(matches!(hex.parse::<Reference>(), Err(InvalidReference::Identifier(_))));
        assert_eq!(
            "a/".repeat(200).trim_end_matches('/').parse::<Reference>(),
            Err(InvalidReference::TooLong)
        );
        assert_eq!(format!("a:{}", "x".repeat(129)).parse::<Reference>(), Err(InvalidReference::Format));
    }

    #[test]
    fn patterns_are_those_of_file_names() {
        let name: Reference = "user/app-x:1.2".parse().unwrap();
        for (pattern, matches) in [
            ("user/app-x", true),
            ("user/app-x:1.2", true),
            ("user/*", true),
            ("*", false),
            ("*/*:1.?", true),
            ("*/app-[a-z]", true),
            ("*/app-[^a-z]", false),
            ("app-x", false),
            ("user/app-x:1", false),
            ("[", false),
        ] {
            assert_eq!(name.matches(pattern), matches, "{pattern}");
        }
        assert!("busybox".parse::<Reference>().unwrap().or_latest().matches("busy*"));
    }

    #[test]
    fn a_bare_digest_is_an_identifier() {
        let digest = Digest::of(b"");
        for text in [digest.to_string(), digest.hex()] {
            assert_eq!(text.parse::<AnyReference>().unwrap(), AnyReference::Digest(digest));
        }
        assert_eq!("abc".parse::<AnyReference>().unwrap().familiar(), "abc:latest");
    }

    #[test]
    fn a_pattern_of_many_stars_is_decided_at_once() {
        let name: Reference = "a".repeat(200).parse().unwrap();
        assert!(!name.matches(&format!("{}b", "*a".repeat(60))));
        assert!(name.matches(&"*a".repeat(60)));
    }
}
