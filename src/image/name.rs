//! What the image database knows an image by: a reference, or nothing but its digest.

use std::fmt;
use std::str::FromStr;

use crate::base::digest::Digest;
use crate::registry::{InvalidReference, Reference};

const DANGLING: &str = "moby-dangling@";
const HELD: &str = "held@";

/// The key of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// `docker.io/library/busybox:latest`, or with a digest in place of the tag.
    Reference(Reference),
    /// An image that lost its last name: listed as `<none>`.
    Dangling(Digest),
    /// An image that was removed by force while containers use it: listed nowhere, and gone with the last of them.
    Held(Digest),
}

impl Name {
    /// The reference, if the image has a real name.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Reference(reference) => Some(reference),
            Self::Dangling(_) | Self::Held(_) => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(reference) => write!(f, "{reference}"),
            Self::Dangling(digest) => write!(f, "{DANGLING}{digest}"),
            Self::Held(digest) => write!(f, "{HELD}{digest}"),
        }
    }
}

impl FromStr for Name {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let digest = |t: &str| t.parse().map_err(|_| InvalidReference::Format);
        if let Some(rest) = text.strip_prefix(DANGLING) {
            return Ok(Self::Dangling(digest(rest)?));
        }
        if let Some(rest) = text.strip_prefix(HELD) {
            return Ok(Self::Held(digest(rest)?));
        }
        Ok(Self::Reference(text.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_database() {
        let digest = Digest::of(b"");
        for name in [
            Name::Reference("busybox:1".parse().unwrap()),
            Name::Reference("localhost:5/a".parse::<Reference>().unwrap().with_digest(digest)),
            Name::Dangling(digest),
            Name::Held(digest),
        ] {
            assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        }
    }
}
