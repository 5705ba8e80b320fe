//! Names of CDI devices: `VENDOR/CLASS=NAME`.

/// A name that the CDI specification does not allow; the texts are those of its Go library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("invalid {0}. empty name")]
    Empty(&'static str),
    #[error("invalid {0}. {1:?}, should start with letter")]
    Start(&'static str, String),
    #[error("invalid {0}. invalid character '{1}' in name {2:?}")]
    Character(&'static str, char, String),
    #[error("invalid {0}. {1:?}, should end with a letter or digit")]
    End(&'static str, String),
    #[error("invalid (empty) device name")]
    EmptyDevice,
    #[error("invalid class {0:?}, should start with a letter or digit")]
    DeviceStart(String),
    #[error("invalid character '{0}' in device name {1:?}")]
    DeviceCharacter(char, String),
    #[error("invalid name {0:?}, should end with a letter or digit")]
    DeviceEnd(String),
}

/// Vendor and class of a kind; the vendor is empty if there are not two parts.
pub fn split_kind(kind: &str) -> (&str, &str) {
    match kind.split_once('/') {
        Some((vendor, class)) if !vendor.is_empty() && !class.is_empty() => (vendor, class),
        _ => ("", kind),
    }
}

/// Checks `VENDOR/CLASS`.
pub fn check_kind(kind: &str) -> Result<(), NameError> {
    let (vendor, class) = split_kind(kind);
    check_part("vendor", vendor)?;
    check_part("class", class)
}

fn check_part(what: &'static str, name: &str) -> Result<(), NameError> {
    let (Some(first), Some(last)) = (name.chars().next(), name.chars().next_back()) else {
        return Err(NameError::Empty(what));
    };
    if !first.is_ascii_alphabetic() {
        return Err(NameError::Start(what, name.to_owned()));
    }
    if let Some(bad) = inner(name).find(|c| !c.is_ascii_alphanumeric() && !"_-.".contains(*c)) {
        return Err(NameError::Character(what, bad, name.to_owned()));
    }
    if !last.is_ascii_alphanumeric() {
        return Err(NameError::End(what, name.to_owned()));
    }
    Ok(())
}

/// Checks the name of a device within its kind.
pub fn check_device(name: &str) -> Result<(), NameError> {
    let (Some(first), Some(last)) = (name.chars().next(), name.chars().next_back()) else {
        return Err(NameError::EmptyDevice);
    };
    if !first.is_ascii_alphanumeric() {
        return Err(NameError::DeviceStart(name.to_owned()));
    }
    if let Some(bad) = inner(name).find(|c| !c.is_ascii_alphanumeric() && !"_-.:".contains(*c)) {
        return Err(NameError::DeviceCharacter(bad, name.to_owned()));
    }
    if !last.is_ascii_alphanumeric() {
        return Err(NameError::DeviceEnd(name.to_owned()));
    }
    Ok(())
}

/// Without the first and the last character.
fn inner(name: &str) -> impl Iterator<Item = char> {
    let mut chars = name.chars();
    chars.next();
    chars.next_back();
    chars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_a_vendor_and_a_class() {
        for good in ["vendor.com/class", "a/b", "v-1.x_y/c_d.e"] {
            assert_eq!(check_kind(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", "invalid vendor. empty name"),
            ("vendor", "invalid vendor. empty name"),
            ("vendor/", "invalid vendor. empty name"),
            ("1vendor/class", "invalid vendor. \"1vendor\", should start with letter"),
            ("vendor/1class", "invalid class. \"1class\", should start with letter"),
            ("ven+dor/class", "invalid vendor. invalid character '+' in name \"ven+dor\""),
            ("vendor/class/x", "invalid class. invalid character '/' in name \"class/x\""),
            ("vendor./class", "invalid vendor. \"vendor.\", should end with a letter or digit"),
            ("vändor/class", "invalid vendor. invalid character 'ä' in name \"vändor\""),
        ] {
            assert_eq!(check_kind(bad).unwrap_err().to_string(), why, "{bad}");
        }
    }

    #[test]
    fn devices_may_start_with_a_digit_and_have_colons() {
        for good in ["0", "all", "GPU-0:1", "a.b_c"] {
            assert_eq!(check_device(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", "invalid (empty) device name"),
            ("-a", "invalid class \"-a\", should start with a letter or digit"),
            ("a/b", "invalid character '/' in device name \"a/b\""),
            ("a:", "invalid name \"a:\", should end with a letter or digit"),
        ] {
            assert_eq!(check_device(bad).unwrap_err().to_string(), why, "{bad}");
        }
    }
}
