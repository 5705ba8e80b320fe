//! Layers made to attack the host. Beside each is the defence that stops it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use tar::EntryType;

use super::archives::{Archive, Bench, header};
use crate::base::archive::ArchiveError;
use crate::snapshot::SnapshotError;

/// A path from the layer's root to the bench's secret.
const OUT: &str = "../../../../secret";

// Defence: `clean` refuses to climb above the root.
#[test]
fn a_name_with_dots_does_not_leave_the_layer() {
    for name in [OUT, "a/../../../../../secret", "./../x", ".."] {
        let error = Bench::new().refuse(Archive::new().file(name, b"owned"));
        assert!(matches!(error, SnapshotError::Escape { .. }), "{name}: {error}");
    }
}

// Defence: names lose their leading slashes.
#[test]
fn an_absolute_name_lands_inside_the_layer() {
    let bench = Bench::new();
    let name = format!("{}/secret", bench.dir.path().display());
    let tree = bench.unpack(Archive::new().file(&name, b"owned"));
    bench.assert_untouched();
    assert_eq!(fs::read(tree.join(name.trim_start_matches('/'))).unwrap(), b"owned");
}

// Defence: RESOLVE_IN_ROOT, when a directory on the way is a symbolic link.
#[test]
fn a_link_to_an_absolute_directory_means_the_layers_own() {
    let bench = Bench::new();
    let outside = bench.dir.path().display().to_string();
    let inside = outside.trim_start_matches('/').to_owned();
    let archive = Archive::new().dir(&inside).symlink("door", &outside).file("door/secret", b"owned");
    let tree = bench.unpack(archive);
    bench.assert_untouched();
    assert_eq!(fs::read(tree.join(inside).join("secret")).unwrap(), b"owned");
}

// Defence: RESOLVE_IN_ROOT: `..` in a link stops at the layer's root; what is not there is an error.
#[test]
fn a_link_with_dots_stops_at_the_layers_root() {
    let bench = Bench::new();
    let tree = bench.unpack(Archive::new().symlink("door", "../../../..").file("door/secret", b"owned"));
    bench.assert_untouched();
    assert_eq!(fs::read(tree.join("secret")).unwrap(), b"owned");
}

// Defence: dangling links are not made good by creating what they point to.
#[test]
fn a_dangling_link_on_the_way_is_an_error() {
    let bench = Bench::new();
    let outside = format!("{}/new", bench.dir.path().display());
    let error = bench.refuse(Archive::new().symlink("door", &outside).file("door/x", b"owned"));
    assert!(matches!(error, SnapshotError::Unpack { .. }), "{error}");
}

// Defence: RESOLVE_NO_MAGICLINKS and RESOLVE_IN_ROOT: the layer's own `proc` is an ordinary directory.
#[test]
fn a_link_through_proc_leads_nowhere() {
    let bench = Bench::new();
    let archive = Archive::new().symlink("door", "/proc/self/cwd").file("door/secret", b"owned");
    bench.refuse(archive);
}

// Defence: O_EXCL: a link in the place of a file is replaced, never written through.
#[test]
fn a_file_replaces_a_link_of_its_name() {
    let bench = Bench::new();
    let secret = format!("{}/secret", bench.dir.path().display());
    let tree = bench.unpack(Archive::new().symlink("a", &secret).file("a", b"owned"));
    bench.assert_untouched();
    assert!(fs::symlink_metadata(tree.join("a")).unwrap().is_file());
}

// Defence: a directory entry in the place of a link replaces it instead of changing the link's target.
#[test]
fn a_directory_replaces_a_link_of_its_name() {
    let bench = Bench::new();
    let outside = bench.dir.path().display().to_string();
    let before = fs::metadata(&outside).unwrap();
    let mut open = header(EntryType::Directory, "a/");
    open.set_mode(0o777);
    open.set_uid(1234);
    let tree = bench.unpack(Archive::new().symlink("a", &outside).push(open, b""));
    let after = fs::metadata(&outside).unwrap();
    assert_eq!((before.mode(), before.uid(), before.mtime()), (after.mode(), after.uid(), after.mtime()));
    assert_eq!(fs::symlink_metadata(tree.join("a")).unwrap().uid(), 1234);
}

// Defence: O_NOFOLLOW when directories get their attributes at the end.
#[test]
fn a_directory_that_became_a_link_passes_no_attributes_on() {
    let bench = Bench::new();
    let outside = bench.dir.path().display().to_string();
    let before = fs::metadata(&outside).unwrap();
    let mut open = header(EntryType::Directory, "a/");
    open.set_mode(0o777);
    bench.unpack(Archive::new().push(open, b"").symlink("a", &outside));
    assert_eq!(fs::metadata(&outside).unwrap().mode(), before.mode());
}

// Defence: only directories on the way to the entry stay open; a cached handle on `a` would lead to the old one.
#[test]
fn files_after_a_replaced_directory_go_to_its_successor() {
    let bench = Bench::new();
    let archive =
        Archive::new().dir("b/").dir("a/").file("a/one", b"1").symlink("a", "b").file("a/two", b"2");
    let tree = bench.unpack(archive);
    assert_eq!(fs::read(tree.join("b/two")).unwrap(), b"2");
    assert!(!tree.join("b/one").exists());
}

// Defence: `clean` on link targets too.
#[test]
fn a_hard_link_to_the_outside_is_refused() {
    let error = Bench::new().refuse(Archive::new().hard_link("a", OUT));
    assert!(matches!(error, SnapshotError::Escape { .. }), "{error}");
    let bench = Bench::new();
    let secret = format!("{}/secret", bench.dir.path().display());
    let error = bench.refuse(Archive::new().hard_link("a", &secret));
    assert!(matches!(error, SnapshotError::Entry { .. }), "{error}");
}

// Defence: no AT_SYMLINK_FOLLOW, and RESOLVE_IN_ROOT for the target's directory.
#[test]
fn a_hard_link_through_links_stays_inside() {
    let bench = Bench::new();
    let outside = bench.dir.path().display().to_string();
    let secret = format!("{outside}/secret");
    let archive = Archive::new().symlink("link", &secret).hard_link("same", "link").file("same", b"owned");
    bench.unpack(archive);
    bench.assert_untouched();
    let error = bench.refuse(Archive::new().symlink("door", &outside).hard_link("a", "door/secret"));
    assert!(matches!(error, SnapshotError::Entry { .. }), "{error}");
}

// Defence: the target is compared before the old name is removed.
#[test]
fn a_hard_link_to_itself_keeps_the_file() {
    let bench = Bench::new();
    let tree = bench.unpack(Archive::new().file("a", b"x").hard_link("./a", "a"));
    assert_eq!(fs::read(tree.join("a")).unwrap(), b"x");
}

// Defence: `meaning` refuses them; the name would otherwise be resolved as `..`.
#[test]
fn a_whiteout_of_dots_is_refused() {
    for name in [".wh...", "a/.wh..", "a/.wh."] {
        let error = Bench::new().refuse(Archive::new().dir("a/").file(name, b""));
        assert!(matches!(error, SnapshotError::Entry { .. }), "{name}: {error}");
    }
}

// Defence: RESOLVE_IN_ROOT: the mark would otherwise be set on a directory of the host.
#[test]
fn an_opaque_mark_through_a_link_stays_inside() {
    let bench = Bench::new();
    let outside = bench.dir.path().display().to_string();
    bench.refuse(Archive::new().symlink("door", &outside).file("door/.wh..wh..opq", b""));
    let mut value = [0; 8];
    assert!(rustix::fs::getxattr(outside, "trusted.overlay.opaque", &mut value[..]).is_err());
}

// Defence: O_EXCL: data meant for a file never reaches a device, and a FIFO blocks nobody.
#[test]
fn a_file_replaces_a_device_or_fifo_of_its_name() {
    let bench = Bench::new();
    let mut zero = header(EntryType::Char, "a");
    zero.set_device_major(1).unwrap();
    zero.set_device_minor(5).unwrap();
    let mut fifo = header(EntryType::Fifo, "b");
    fifo.set_device_major(0).unwrap();
    let archive = Archive::new().push(zero, b"").file("a", b"x").push(fifo, b"").file("b", b"y");
    let tree = bench.unpack(archive);
    assert_eq!(
        (fs::read(tree.join("a")).unwrap(), fs::read(tree.join("b")).unwrap()),
        (b"x".to_vec(), b"y".to_vec())
    );
}

// Defence: overlayfs' own attributes are left out: a redirect would make the kernel read another directory.
#[test]
fn attributes_of_overlayfs_are_not_taken_from_archives() {
    let bench = Bench::new();
    let records: [(&str, &[u8]); 3] = [
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.kept", b"1"),
    ];
    let tree = bench.unpack(Archive::new().pax(&records).dir("a/").pax(&records).file("b", b""));
    for name in ["a", "b"] {
        let mut names = [0; 256];
        let length = rustix::fs::listxattr(tree.join(name), &mut names[..]).unwrap();
        assert_eq!(&names[..length], b"trusted.kept\0", "{name}");
    }
}

// Defence: ids beyond 32 bits, and −1 which the kernel takes for "leave it", are errors.
#[test]
fn owners_out_of_range_are_refused() {
    for id in ["4294967295", "4294967296", "-1", "9223372036854775807"] {
        let error = Bench::new().refuse(Archive::new().pax(&[("uid", id.as_bytes())]).file("a", b""));
        assert!(
            matches!(error, SnapshotError::Archive(ArchiveError::Range { field: "uid", .. })),
            "{id}: {error}"
        );
    }
}

// Defence: both sizes are compared; a reader that believes the header would find an entry in the data.
#[test]
fn sizes_that_contradict_each_other_are_refused() {
    let inner = Archive::new().file("smuggled", b"x").bytes();
    let length = inner.len().to_string();
    let mut archive = Archive::new().pax(&[("size", length.as_bytes())]);
    archive.push_as_is(header(EntryType::Regular, "a"), &inner);
    let error = Bench::new().refuse(archive);
    assert!(matches!(error, SnapshotError::Archive(ArchiveError::SizeMismatch { .. })), "{error}");
}

// Defence: the kernel's name and path limits surface as errors, and no path is cut to fit.
#[test]
fn names_beyond_the_limits_are_refused() {
    for name in ["a".repeat(256), "a/".repeat(2_100), "x".repeat(70_000)] {
        Bench::new().refuse(Archive::new().pax(&[("path", name.as_bytes())]).file("short", b""));
    }
}

// Defence: few directories are open at a time, also while it is removed (see the tests of `parents`).
#[test]
fn a_path_of_thousands_of_levels_unpacks_and_is_removed() {
    let bench = Bench::new();
    let deep = "a/".repeat(2_000);
    let file = format!("{deep}x");
    let records: [(&str, &[u8]); 1] = [("path", file.as_bytes())];
    let again: [(&str, &[u8]); 1] = [("path", deep.as_bytes())];
    let mut dir = header(EntryType::Directory, "short");
    dir.set_mode(0o700);
    let chain = bench.layer(Archive::new().pax(&records).file("short", b"1").pax(&again).push(dir, b""), &[]);
    bench.snapshots.remove(&chain).unwrap();
    bench.wait_for_layers(0);
}

// Defence: the size of extension headers is limited before they are read.
#[test]
fn endless_extension_headers_are_refused() {
    let mut archive = Archive::new();
    let mut long = header(EntryType::GNULongName, "././@LongLink");
    long.set_size(1 << 40);
    archive.push_as_is(long, b"x");
    let error = Bench::new().refuse(archive);
    assert!(matches!(error, SnapshotError::Archive(ArchiveError::ExtensionsTooLarge { .. })), "{error}");
}

// Defence: a short stream is an error, and so is one that is no archive.
#[test]
fn short_and_foreign_streams_are_refused() {
    let bench = Bench::new();
    let whole = Archive::new().file("a", &[1; 2000]).bytes();
    for end in [100, 512, 700, 2_511] {
        let error = bench.try_layer(&whole[..end], &[]).unwrap_err();
        assert!(matches!(error, SnapshotError::Archive(ArchiveError::Truncated(_))), "{end}: {error}");
    }
    let error = bench.try_layer(&[b'x'; 4096], &[]).unwrap_err();
    assert!(matches!(error, SnapshotError::Archive(ArchiveError::Checksum)), "{error}");
    bench.assert_untouched();
}

// Defence: sums of sizes stop at 2^64 − 1. Where the file system has no such files, the first one is an error.
#[test]
fn sparse_files_may_claim_more_than_can_be_counted() {
    let size = i64::MAX.to_string();
    let records: [(&str, &[u8]); 3] =
        [("GNU.sparse.major", b"0"), ("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", b"0,0")];
    let archive = ["a", "b", "c"].into_iter().fold(Archive::new(), |a, name| a.pax(&records).file(name, b""));
    if let Ok((_, applied)) = Bench::new().try_layer(&archive.bytes(), &[]) {
        assert_eq!(applied.size, u64::MAX);
    }
}
