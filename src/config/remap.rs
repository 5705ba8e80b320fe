//! `--userns-remap`: whose subordinate ids containers get. Pure; the host's files are read elsewhere.

use std::str::FromStr;

/// Whose ids `default` means.
pub const DEFAULT_USER: &str = "dockremap";

/// `default`, `user`, `user:group`, with numbers for names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remap {
    /// [`DEFAULT_USER`], who is made if missing.
    Default,
    Named {
        user: Name,
        /// Must exist; it has no other meaning, since dockerd takes the groups' range by the user's name too.
        group: Option<Name>,
    },
}

/// A user or group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Name {
    Id(u32),
    Text(String),
}

/// The text is dockerd's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid user/group specification in --userns-remap: {0:?}")]
pub struct InvalidRemap(String);

impl FromStr for Remap {
    type Err = InvalidRemap;
    fn from_str(text: &str) -> Result<Self, InvalidRemap> {
        // As the first of two words it stands for the user's name.
        let known = |part: &str| if part == "default" { DEFAULT_USER.to_owned() } else { part.to_owned() };
        let name = |part: &str| part.parse().map_or_else(|_| Name::Text(known(part)), Name::Id);
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["default"] => Ok(Self::Default),
            [user] => Ok(Self::Named { user: name(user), group: None }),
            [user, group] => Ok(Self::Named { user: name(user), group: Some(name(group)) }),
            _ => Err(InvalidRemap(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_named_or_numbered() {
        let text = |text: &str| Name::Text(text.to_owned());
        for (given, user, group) in [
            ("alice", text("alice"), None),
            ("1000", Name::Id(1000), None),
            ("alice:staff", text("alice"), Some(text("staff"))),
            ("1000:50", Name::Id(1000), Some(Name::Id(50))),
            ("-1", text("-1"), None),
        ] {
            assert_eq!(given.parse(), Ok(Remap::Named { user, group }), "{given}");
        }
        assert_eq!("default".parse(), Ok(Remap::Default));
        assert!("a:b:c".parse::<Remap>().is_err());
    }
}
