//! `detachKeys`: the keys that end a client's connection to a terminal but not the process behind it.

/// ctrl-p, ctrl-q
const DEFAULT: &[u8] = &[16, 17];

/// A text that names no keys, in dockerd's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid detach keys ({0}) provided")]
pub struct InvalidKeys(String);

/// Reads `ctrl-p,ctrl-q`: single characters, or `ctrl-` and a letter or one of `@[\]^_`. Absent means the default.
pub fn parse(text: Option<&str>) -> Result<Vec<u8>, InvalidKeys> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(DEFAULT.to_vec()) };
    let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
    keys.ok_or_else(|| InvalidKeys(text.to_owned()))
}

fn key(name: &str) -> Option<u8> {
    if let [one] = name.as_bytes() {
        return Some(*one);
    }
    match name.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [b'@'] => Some(0),
        [sign @ b'['..=b'_'] => Some(sign - b'[' + 27),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_the_cli_documents_them() {
        for (text, keys) in [
            ("", &[16, 17][..]),
            ("a", b"a"),
            ("ctrl-a,ctrl-@,ctrl-[,ctrl-_", &[1, 0, 27, 31]),
            ("ctrl-p,x", &[16, b'x']),
        ] {
            assert_eq!(parse(Some(text)).unwrap(), keys, "{text}");
        }
        for bad in ["ctrl-", "ctrl-A", "ab", "ctrl-aa", ","] {
            assert_eq!(
                parse(Some(bad)).unwrap_err().to_string(),
                format!("Invalid detach keys ({bad}) provided")
            );
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn every_key_comes_back_as_what_a_terminal_sends(keys in prop::collection::vec(0..128u8, 1..5)) {
            // A terminal sends for ctrl and a key that key's code without its upper bits (ascii(7)).
            let name = |key: &u8| match key {
                0..32 => format!("ctrl-{}", char::from(key | 0x40).to_ascii_lowercase()),
                _ => char::from(*key).to_string(),
            };
            let text = keys.iter().map(name).collect::<Vec<_>>().join(",");
            // A comma separates keys and cannot be one.
            prop_assume!(!keys.contains(&b','));
            prop_assert_eq!(parse(Some(&text)).unwrap(), keys);
        }

        #[test]
        fn there_is_a_byte_for_each_key_of_any_text(text in "(ctrl-|[a-z@^,é]){1,8}") {
            if let Ok(keys) = parse(Some(&text)) {
                prop_assert_eq!(keys.len(), text.split(',').count());
            }
        }
    }
}
