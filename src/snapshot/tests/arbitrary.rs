//! Sequences of entries that nobody chose: none reaches out of the root, and harmless ones make the tree that a list
//! of paths says they make.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use tar::EntryType;

use super::archives::{Archive, header};
use crate::base::archive::Reader;
use crate::base::id_map::Owner;
use crate::base::sys::root_fs::Root;
use crate::base::testing::cases;
use crate::snapshot::apply::{Extraction, Overwrite, unpack, unpack_among};

/// Components of hostile names. The last stands for the directory to be attacked.
const COMPONENTS: [&str; 13] = [
    "a",
    "b",
    "c",
    "..",
    ".",
    "",
    ".wh.a",
    ".wh.b",
    ".wh..wh..opq",
    ".wh..wh.x",
    ".wh..",
    "secret",
    "OUTSIDE",
];

const KINDS: [EntryType; 7] = [
    EntryType::Regular,
    EntryType::Directory,
    EntryType::Symlink,
    EntryType::Link,
    EntryType::Char,
    EntryType::Fifo,
    EntryType::Symlink,
];

/// Kind, name, target of a link, mode.
type Hostile = (EntryType, Vec<usize>, Vec<usize>, u32);

fn hostile() -> impl Strategy<Value = Vec<Hostile>> {
    let name = || vec(prop_oneof![4 => 0..4usize, 1 => 0..COMPONENTS.len()], 1..5);
    vec((prop::sample::select(KINDS.to_vec()), name(), name(), 0..=0o7777u32), 1..12)
}

fn path(components: &[usize], outside: &Path) -> String {
    let outside = outside.to_str().unwrap();
    components.iter().map(|at| COMPONENTS[*at].replace("OUTSIDE", outside)).collect::<Vec<_>>().join("/")
}

fn archive(entries: &[Hostile], outside: &Path) -> Vec<u8> {
    let mut archive = Archive::new();
    for (kind, name, target, mode) in entries {
        let mut header = header(*kind, &path(name, outside));
        header.set_mode(*mode);
        header.set_uid(u64::from(*mode % 3));
        match kind {
            EntryType::Symlink | EntryType::Link => {
                header.set_link_name_literal(path(target, outside)).unwrap()
            }
            EntryType::Char => {
                header.set_device_major(1).unwrap();
                header.set_device_minor(5).unwrap();
            }
            _ => {}
        }
        archive = archive.push(header, if *kind == EntryType::Regular { b"owned" } else { b"" });
    }
    archive.bytes()
}

/// Everything that a change to a file or directory changes, of all below `dir` but not below `root`.
fn note_state(dir: &Path, root: &Path, found: &mut BTreeMap<PathBuf, [i64; 8]>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path == root {
            continue;
        }
        let meta = path.symlink_metadata().unwrap();
        let numbers = [meta.ino(), meta.mode().into(), meta.uid().into(), meta.nlink(), meta.size()];
        let [ino, mode, uid, links, size] = numbers.map(|number| number as i64);
        // The time of change tells of attributes, links and data alike.
        let state = [ino, mode, uid, links, size, meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        if meta.is_dir() {
            note_state(&path, root, found);
        }
        found.insert(path, state);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(u8),
    Link,
}

/// What the tree must be after the entries, by going through a list of paths; `None` where a file or a dangling link
/// is on the way to an entry.
fn expected(entries: &[(String, Node)]) -> Option<BTreeMap<String, Node>> {
    let mut tree: BTreeMap<String, Node> = BTreeMap::new();
    for (path, node) in entries {
        for (at, _) in path.match_indices('/') {
            if *tree.entry(path[..at].to_owned()).or_insert(Node::Directory) != Node::Directory {
                return None;
            }
        }
        if *node != Node::Directory || tree.get(path) != Some(&Node::Directory) {
            let below = format!("{path}/");
            tree.retain(|known, _| !known.starts_with(&below));
            tree.insert(path.clone(), *node);
        }
    }
    Some(tree)
}

fn found(dir: &Path, prefix: &str, tree: &mut BTreeMap<String, Node>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found(&entry.path(), &format!("{path}/"), tree);
        }
        let node = match kind {
            kind if kind.is_dir() => Node::Directory,
            kind if kind.is_symlink() => Node::Link,
            _ => Node::File(fs::read(entry.path()).unwrap()[0]),
        };
        tree.insert(path, node);
    }
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn no_sequence_of_entries_reaches_out_of_the_root(
        layer in hostile(),
        later in hostile(),
        target in vec(0..4usize, 0..3),
        same_kind in any::<bool>(),
    ) {
        let temporary = tempfile::tempdir().unwrap();
        let outside = temporary.path().join("out");
        let root = outside.join("a/root");
        fs::create_dir_all(&root).unwrap();
        fs::create_dir(outside.join("b")).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        fs::write(outside.join("b/secret"), "secret").unwrap();
        symlink("b", outside.join("c")).unwrap();
        let now = || {
            let mut found = BTreeMap::new();
            note_state(temporary.path(), &root, &mut found);
            found
        };
        let before = now();
        let _ = unpack(Root::open(&root).unwrap(), &mut Reader::new(archive(&layer, &outside).as_slice()));
        prop_assert_eq!(&now(), &before);
        let how = Extraction {
            target: path(&target, &outside).into(),
            overwrite: if same_kind { Overwrite::SameKind } else { Overwrite::Anything },
            owner: same_kind.then_some(Owner { uid: 7, gid: 7 }),
        };
        let _ = unpack_among(Root::open(&root).unwrap(), &how, &mut Reader::new(archive(&later, &outside).as_slice()));
        prop_assert_eq!(now(), before);
    }

    #[test]
    fn harmless_entries_make_the_tree_they_name(
        entries in vec(
            ("[ab](/[ab]){0,3}", prop_oneof![Just(Node::Directory), (1..9u8).prop_map(Node::File), Just(Node::Link)]),
            0..12,
        ),
        buffer in 1..3000usize,
    ) {
        let root = tempfile::tempdir().unwrap();
        let archive = entries.iter().fold(Archive::new(), |archive, (path, node)| match node {
            Node::Directory => archive.dir(path),
            Node::File(byte) => archive.file(path, &[*byte]),
            Node::Link => archive.symlink(path, "nowhere"),
        });
        let bytes = archive.bytes();
        let mut reader = Reader::new(BufReader::with_capacity(buffer, bytes.as_slice()));
        let unpacked = unpack(Root::open(root.path()).unwrap(), &mut reader);
        let expected = expected(&entries);
        prop_assert_eq!(unpacked.is_ok(), expected.is_some());
        if let Some(expected) = expected {
            let mut tree = BTreeMap::new();
            found(root.path(), "", &mut tree);
            prop_assert_eq!(tree, expected);
        }
    }

    #[test]
    fn any_bytes_are_a_layer_or_refused(bytes in vec(any::<u8>(), 0..1200)) {
        let root = tempfile::tempdir().unwrap();
        let _ = unpack(Root::open(root.path()).unwrap(), &mut Reader::new(bytes.as_slice()));
    }
}
