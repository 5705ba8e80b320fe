//! Reads what Go clients send: `null` wherever a value is optional, a single text where a list is meant.

use serde::{Deserialize, Deserializer};

/// `null` is the same as absent: the type's default.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A list of words, or one text that stands for a list of one (`Cmd`, `Entrypoint`, `Shell`; Go's `strslice`).
pub fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Words>::deserialize(from)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}
