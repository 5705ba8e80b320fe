//! `--storage-opt size=…`: how much a container may write into its root.

use std::collections::BTreeMap;

use super::{CreateDefaults, Invalid};
use crate::base::units::binary_size;

/// What clients know; ext4 with project quotas does as well.
const UNSUPPORTED: &str = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option \
                           (or over ext4 with the features 'quota,project' and the mount option 'prjquota')";

/// Bytes; `None` is no limit.
pub(super) fn size_limit(
    options: &BTreeMap<String, String>,
    defaults: &CreateDefaults,
) -> Result<Option<u64>, Invalid> {
    let is_size = |key: &str| key.eq_ignore_ascii_case("size");
    let size = options.iter().find(|(key, _)| is_size(key)).map(|(_, size)| size);
    if size.is_some() && !defaults.can_limit_size {
        return Err(Invalid::new(UNSUPPORTED));
    }
    if let Some(key) = options.keys().find(|key| !is_size(key)) {
        return Err(Invalid::new(format!("Unknown option {}", key.to_lowercase())));
    }
    let size = size.map(|size| binary_size(size).map_err(|error| Invalid::new(error.to_string())));
    Ok(Some(size.transpose()?.unwrap_or(defaults.size_limit)).filter(|limit| *limit > 0))
}

#[cfg(test)]
mod tests {
    use super::super::tests::defaults;
    use super::*;

    #[test]
    fn a_size_is_asked_for_by_one_option() {
        let able = CreateDefaults { can_limit_size: true, ..defaults() };
        let preset = CreateDefaults { size_limit: 4096, ..able.clone() };
        for (given, defaults, expected) in [
            (&[][..], &able, Ok(None)),
            (&[("size", "10m")], &able, Ok(Some(10 << 20))),
            (&[("SIZE", "1.5G")], &able, Ok(Some(3 << 29))),
            (&[("size", "0")], &able, Ok(None)),
            (&[("size", "99999p")], &able, Ok(Some(u64::MAX))),
            (&[], &preset, Ok(Some(4096))),
            (&[("size", "0")], &preset, Ok(None)),
            (&[("size", "8k")], &preset, Ok(Some(8192))),
            (&[("size", "")], &able, Err("invalid size: ''")),
            (&[("size", "-1m")], &able, Err("invalid size: '-1m'")),
            (&[("size", "1m"), ("Dm.Size", "1m")], &able, Err("Unknown option dm.size")),
            (&[("x", "1")], &crate::container::create::tests::defaults(), Err("Unknown option x")),
            (&[("size", "x"), ("x", "1")], &crate::container::create::tests::defaults(), Err(UNSUPPORTED)),
        ] {
            let options = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let limit = size_limit(&options, defaults).map_err(|error| error.message);
            assert_eq!(limit, expected.map_err(str::to_owned), "{given:?}");
        }
    }
}
