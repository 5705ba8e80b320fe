//! Paths as text, without a look at any file system.

/// The path from the root without `.`, `..` and doubled slashes: `path.Clean` of Go for absolute paths. Above the root
/// there is nothing.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path, PathBuf};

    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn a_clean_path_is_what_walking_from_the_root_gives(path in "/?(\\.|\\.\\.|[a./]|/|é){0,12}") {
            let mut walked = PathBuf::from("/");
            for part in Path::new(&path).components() {
                match part {
                    Component::Normal(name) => walked.push(name),
                    Component::ParentDir => drop(walked.pop()),
                    Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                }
            }
            prop_assert_eq!(clean(&path), walked.to_str().unwrap());
        }
    }
}
