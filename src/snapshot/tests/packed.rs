//! Layers made from what a container changed.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use tar::EntryType;

use super::archives::{Archive, Bench, header};
use super::mounted::{Place, in_own_mounts, names, stack};
use crate::base::archive::{Kind, Reader};
use crate::base::digest::Digest;
use crate::base::id_map::{IdMap, IdMaps};
use crate::snapshot::{ChainId, ChangeKind, Marks, SnapshotError, Snapshots, pack};

fn pack_all(root: &Path, marks: Marks) -> Result<Vec<u8>, SnapshotError> {
    pack(&File::open(root).unwrap().into(), marks, &IdMaps::default(), |_, _| false, Vec::new())
}

#[test]
fn a_containers_changes_give_the_same_tree_as_a_layer() {
    in_own_mounts(|| {
        let (bench, place) = (Bench::new(), Place::new());
        let base =
            Archive::new().file("gone", b"1").dir("d/").file("d/old", b"2").dir("kept/").file("kept/a", b"3");
        let mut layers = stack(&bench, [base]);
        let root = place.mount(&bench, &layers);
        fs::remove_file(root.join("gone")).unwrap();
        fs::remove_dir_all(root.join("d")).unwrap();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/new"), b"new").unwrap();
        fs::write(root.join("kept/b"), [b'x'; 300_000]).unwrap();
        fs::hard_link(root.join("kept/b"), root.join("kept/c")).unwrap();
        symlink("/nowhere", root.join("link")).unwrap();
        fs::set_permissions(root.join("kept/b"), fs::Permissions::from_mode(0o4711)).unwrap();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();

        let diff = pack_all(&place.writable().upper, Marks::Convert).unwrap();
        let (layer, _) = bench.try_layer(&diff, &layers).unwrap();
        layers.push(layer);
        let copy = Place::new();
        let root = copy.mount(&bench, &layers);
        assert_eq!(names(&root), ["d", "kept", "link"]);
        assert_eq!(names(&root.join("d")), ["new"]);
        assert_eq!(names(&root.join("kept")), ["a", "b", "c"]);
        let stat = fs::metadata(root.join("kept/b")).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.nlink(), stat.len()), (0o4711, 2, 300_000));
    });
}

#[test]
fn the_same_tree_always_gives_the_same_archive() {
    let bench = Bench::new();
    let tree = bench.unpack(Archive::new().dir("b/").file("b/z", b"1").file("b/a", b"2").file("a", b""));
    let digest = || Digest::of(&pack_all(&tree, Marks::Plain).unwrap());
    assert_eq!(digest(), digest());
    let archive = pack_all(&tree, Marks::Plain).unwrap();
    let mut reader = Reader::new(archive.as_slice());
    let mut paths = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        paths.push(String::from_utf8(entry.path).unwrap());
    }
    assert_eq!(paths, ["a", "b/", "b/a", "b/z"]);
}

#[test]
fn marks_and_capabilities_are_written_as_the_image_format_has_them() {
    let bench = Bench::new();
    // Of revision 2, with CAP_NET_RAW permitted.
    let mut capability = vec![1, 0, 0, 2, 0, 32, 0, 0];
    capability.resize(20, 0);
    let records: [(&str, &[u8]); 2] =
        [("SCHILY.xattr.security.capability", &capability), ("SCHILY.xattr.trusted.private", b"x")];
    let archive = Archive::new()
        .file(".wh.top", b"")
        .dir("d/")
        .file("d/.wh..wh..opq", b"")
        .file("d/.wh.gone", b"")
        .pax(&records)
        .file("d/ping", b"#!");
    let tree = bench.unpack(archive);
    let archive = pack_all(&tree, Marks::Convert).unwrap();
    let mut reader = Reader::new(archive.as_slice());
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        assert!(matches!(entry.kind, Kind::Regular | Kind::Directory));
        found.push((String::from_utf8(entry.path).unwrap(), entry.xattrs));
    }
    let none = Vec::new;
    let kept = vec![(b"security.capability".to_vec(), capability)];
    assert_eq!(
        found,
        [
            ("d/".to_owned(), none()),
            ("d/.wh..wh..opq".to_owned(), none()),
            ("d/.wh.gone".to_owned(), none()),
            ("d/ping".to_owned(), kept),
            (".wh.top".to_owned(), none()),
        ]
    );
}

#[test]
fn changes_are_what_the_container_did_to_the_image() {
    in_own_mounts(|| {
        let (bench, place) = (Bench::new(), Place::new());
        let below = Archive::new()
            .dir("etc/")
            .file("etc/a", b"1")
            .file("etc/b", b"2")
            .dir("gone/")
            .file("gone/x", b"3")
            .dir("again/")
            .file("again/old", b"4")
            .file("again/kept", b"5")
            .file("was-file", b"6")
            .dir("same/")
            .file("same/x", b"7");
        let above = Archive::new().dir("etc/").file("etc/.wh.b", b"").file("etc/c", b"8");
        let layers = stack(&bench, [below, above]);
        let root = place.mount(&bench, &layers);
        let path = |name: &str| root.join(name);
        fs::write(path("etc/a"), "other").unwrap();
        // Of the image's own whiteout nothing is told, of what comes in its place it is new.
        fs::write(path("etc/b"), "new").unwrap();
        fs::remove_file(path("etc/c")).unwrap();
        fs::remove_dir_all(path("gone")).unwrap();
        fs::remove_dir_all(path("again")).unwrap();
        fs::create_dir(path("again")).unwrap();
        fs::write(path("again/kept"), "changed").unwrap();
        fs::write(path("again/new"), "").unwrap();
        fs::remove_file(path("was-file")).unwrap();
        fs::create_dir(path("was-file")).unwrap();
        // Copied up and put back: the directory's time is no change.
        fs::write(path("same/temporary"), "").unwrap();
        fs::remove_file(path("same/temporary")).unwrap();
        fs::create_dir_all(path("proc/left")).unwrap();
        fs::create_dir_all(path("sys")).unwrap();

        let left_out = |path: &[u8], _: &rustix::fs::Stat| matches!(path, b"proc" | b"sys");
        let changes = bench.snapshots.changes(&layers, &place.writable().upper, left_out).unwrap();
        let changes: Vec<_> = changes
            .into_iter()
            .map(|change| (change.kind, String::from_utf8(change.path).unwrap()))
            .collect();
        let expected = [
            (ChangeKind::Modified, "/again"),
            (ChangeKind::Modified, "/again/kept"),
            (ChangeKind::Added, "/again/new"),
            (ChangeKind::Deleted, "/again/old"),
            (ChangeKind::Modified, "/etc"),
            (ChangeKind::Modified, "/etc/a"),
            (ChangeKind::Added, "/etc/b"),
            (ChangeKind::Deleted, "/etc/c"),
            (ChangeKind::Deleted, "/gone"),
            (ChangeKind::Modified, "/proc"),
            (ChangeKind::Added, "/proc/left"),
            (ChangeKind::Modified, "/was-file"),
        ];
        assert_eq!(changes, expected.map(|(kind, path)| (kind, path.to_owned())));
        let untouched =
            bench.snapshots.changes(&layers, &place.root().join("missing"), |_, _| false).unwrap();
        assert_eq!(untouched, []);
    });
}

#[test]
fn a_namespaces_files_have_the_hosts_ids_on_disk_and_their_own_in_archives() {
    let dir = tempfile::tempdir().unwrap();
    let map = |first| IdMap::of(&[(first, 65_536)]).unwrap();
    let ids = IdMaps { users: map(100_000), groups: map(300_000) };
    let snapshots = Snapshots::open(&dir.path().join("store"), &ids).unwrap();
    let unpacked = |archive: Archive| {
        let bytes = archive.bytes();
        let chain = ChainId::base(Digest::of(&bytes));
        let mut writer = snapshots.begin(&chain, &[])?;
        writer.apply(bytes.as_slice())?;
        writer.commit()?;
        Ok::<_, SnapshotError>(snapshots.tree(&chain))
    };
    let mut owned = header(EntryType::Regular, "implied/file");
    owned.set_uid(1000);
    owned.set_gid(50);
    let tree = unpacked(Archive::new().push(owned, b"").dir("d/").symlink("d/link", "x")).unwrap();
    let owner = |name: &str| {
        let meta = fs::symlink_metadata(tree.join(name)).unwrap();
        (meta.uid(), meta.gid())
    };
    assert_eq!(owner("implied/file"), (101_000, 300_050));
    for name in ["", "implied", "d", "d/link"] {
        assert_eq!(owner(name), (100_000, 300_000), "{name}");
    }
    std::os::unix::fs::chown(tree.join("d"), Some(7), None).unwrap();
    let root: std::os::fd::OwnedFd = File::open(&tree).unwrap().into();
    let packed = pack(&root, Marks::Plain, &ids, |_, _| false, Vec::new()).unwrap();
    let mut reader = Reader::new(packed.as_slice());
    let mut owners = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        owners.push((String::from_utf8(entry.path).unwrap(), entry.uid, entry.gid));
    }
    // An id that the namespace lacks is told as it is.
    let expected = [("d/", 7, 0), ("d/link", 0, 0), ("implied/", 0, 0), ("implied/file", 1000, 50)];
    assert_eq!(owners, expected.map(|(name, uid, gid)| (name.to_owned(), uid, gid)));

    let mut beyond = header(EntryType::Regular, "file");
    beyond.set_uid(65_536);
    let error = unpacked(Archive::new().push(beyond, b"")).unwrap_err().to_string();
    assert!(error.contains("Container ID 65536 cannot be mapped to a host ID"), "{error}");
}
