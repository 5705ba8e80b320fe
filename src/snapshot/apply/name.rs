//! Names of entries, without a file system: cleaning them and telling whiteouts apart (image-spec, layer.md).

use super::SnapshotError;

/// Linux's PATH_MAX without the final NUL.
const MAX_PATH: usize = 4095;
const WHITEOUT: &[u8] = b".wh.";
/// Names that AUFS kept for itself; only the opaque mark is part of the image format.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the last component of a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// An entry of this name.
    Entry(&'a [u8]),
    /// The entry of this name in the layers below is gone.
    Whiteout(&'a [u8]),
    /// Nothing of the layers below is seen in this directory.
    Opaque,
    /// Bookkeeping of AUFS: skipped, as dockerd does.
    Ignored,
    /// The layer's own root directory.
    Root,
}

/// Brings a name to components separated by single slashes, without `.` and `..`, without a leading slash: what it
/// means if the layer is `/`. A name that would climb above that is refused, as are NUL bytes and endless names.
pub(super) fn clean(name: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    let display = || String::from_utf8_lossy(&name[..name.len().min(MAX_PATH)]).into_owned();
    if name.len() > MAX_PATH {
        return Err(SnapshotError::Entry { path: display(), reason: "the name is too long" });
    }
    if name.contains(&0) {
        return Err(SnapshotError::Entry { path: display(), reason: "a NUL byte in the name" });
    }
    let mut clean = Vec::with_capacity(name.len());
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." if clean.is_empty() => return Err(SnapshotError::Escape { path: display() }),
            b".." => clean.truncate(split(&clean).0.len()),
            _ => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(component);
            }
        }
    }
    Ok(clean)
}

/// A clean path's directory and last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Reads the last component of a clean path.
pub(super) fn meaning(path: &[u8]) -> Result<Meaning<'_>, SnapshotError> {
    let (_, last) = split(path);
    if last.is_empty() {
        return Ok(Meaning::Root);
    }
    if last == OPAQUE {
        return Ok(Meaning::Opaque);
    }
    if last.starts_with(AUFS) {
        return Ok(Meaning::Ignored);
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Entry(last)),
        Some(b"" | b"." | b"..") => {
            let path = String::from_utf8_lossy(path).into_owned();
            Err(SnapshotError::Entry { path, reason: "a whiteout of a directory itself or of its parent" })
        }
        Some(gone) => Ok(Meaning::Whiteout(gone)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_as_if_the_layer_were_the_root_and_never_climb_out() {
        let table: [(&str, Option<&str>); 14] = [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/etc/passwd", Some("etc/passwd")),
            ("a/../b", Some("b")),
            ("a/b/../../c", Some("c")),
            ("./", Some("")),
            ("", Some("")),
            ("a/..", Some("")),
            ("...", Some("...")),
            ("..", None),
            ("../x", None),
            ("a/../../x", None),
            ("/..", None),
            ("a\0b", None),
        ];
        for (name, expected) in table {
            assert_eq!(clean(name.as_bytes()).ok().as_deref(), expected.map(str::as_bytes), "{name}");
        }
        assert!(clean(&[b'a'; MAX_PATH + 1]).is_err());
    }

    #[test]
    fn whiteouts_are_told_from_names() {
        let table: [(&str, Option<Meaning<'_>>); 11] = [
            ("", Some(Meaning::Root)),
            ("a/b", Some(Meaning::Entry(b"b"))),
            ("a/.wh.b", Some(Meaning::Whiteout(b"b"))),
            (".wh.b", Some(Meaning::Whiteout(b"b"))),
            ("a/.wh..b", Some(Meaning::Whiteout(b".b"))),
            ("a/.wh..wh..opq", Some(Meaning::Opaque)),
            ("a/.wh..wh.plnk", Some(Meaning::Ignored)),
            ("a/.whx", Some(Meaning::Entry(b".whx"))),
            ("a/.wh.", None),
            ("a/.wh..", None),
            ("a/.wh...", None),
        ];
        for (path, expected) in table {
            assert_eq!(meaning(path.as_bytes()).ok(), expected, "{path}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn a_clean_name_is_what_walking_from_the_root_gives(name in "(\\.|\\.\\.|[a./]|/|\\.wh\\.|é){0,12}") {
            let mut walked = Some(Vec::new());
            for component in name.split('/').filter(|component| !matches!(*component, "" | ".")) {
                walked = match (walked, component) {
                    (Some(mut path), "..") => path.pop().map(|_| path),
                    (Some(mut path), name) => { path.push(name); Some(path) }
                    (None, _) => None,
                };
            }
            let cleaned = clean(name.as_bytes()).ok();
            prop_assert_eq!(&cleaned, &walked.map(|path| path.join("/").into_bytes()));
            if let Some(cleaned) = cleaned {
                prop_assert_eq!(clean(&cleaned).unwrap(), cleaned.clone());
                let (dir, last) = split(&cleaned);
                prop_assert!(!last.contains(&b'/') && (last.is_empty() == cleaned.is_empty()));
                prop_assert_eq!(clean(&[dir, b"/", last].concat()).unwrap(), cleaned);
            }
        }

        #[test]
        fn what_a_name_means_is_one_plain_component(
            name in "(\\.wh\\.)?(\\.wh\\.)?(\\.|\\.\\.|[a-c.]{0,4}|\\.opq)",
        ) {
            let Ok(cleaned) = clean(name.as_bytes()) else { return Ok(()) };
            if let Ok(Meaning::Entry(part) | Meaning::Whiteout(part)) = meaning(&cleaned) {
                prop_assert!(!matches!(part, b"" | b"." | b"..") && !part.contains(&b'/'));
            }
        }
    }
}
