//! Chain ids: the name of a layer together with all below it (image-spec, config.md, "Layer ChainID").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::digest::{Digest, InvalidDigest};

/// The name of a layer and all below it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(Digest);

impl ChainId {
    /// The chain id of a base layer is its diff id.
    pub fn base(diff_id: Digest) -> Self {
        Self(diff_id)
    }

    /// The chain id of a layer with `diff_id` on top of `self`.
    pub fn on_top(&self, diff_id: &Digest) -> Self {
        Self(Digest::of(format!("{} {diff_id}", self.0).as_bytes()))
    }

    /// As a digest.
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

/// The chain ids of a stack of layers, the base first.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<ChainId> {
    let mut below: Option<ChainId> = None;
    let next = |diff_id: &Digest| {
        let id = below.map_or_else(|| ChainId::base(*diff_id), |below| below.on_top(diff_id));
        below = Some(id);
        id
    };
    diff_ids.iter().map(next).collect()
}

impl FromStr for ChainId {
    type Err = InvalidDigest;
    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_hash_the_chain_below_and_the_diff_id() {
        let diff_ids = [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c")];
        let second = Digest::of(format!("{} {}", diff_ids[0], diff_ids[1]).as_bytes());
        let third = Digest::of(format!("{second} {}", diff_ids[2]).as_bytes());
        assert_eq!(chain_ids(&diff_ids), [ChainId(diff_ids[0]), ChainId(second), ChainId(third)]);
        assert_eq!(chain_ids(&[]), []);
    }
}
