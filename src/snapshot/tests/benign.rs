//! What honest images hold.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use tar::EntryType;

use super::archives::{Archive, Bench, header, mode};
use crate::base::digest::Digest;

#[test]
fn files_links_and_modes_come_out_as_the_archive_says() {
    let bench = Bench::new();
    let mut suid = header(EntryType::Regular, "bin/su");
    suid.set_mode(0o4755);
    suid.set_uid(7);
    suid.set_gid(8);
    let mut tmp = header(EntryType::Directory, "tmp/");
    tmp.set_mode(0o1777);
    let archive = Archive::new()
        .dir("bin/")
        .push(suid, b"#!")
        .push(tmp, b"")
        .file("tmp/a", b"hello")
        .hard_link("tmp/b", "tmp/a")
        .symlink("tmp/c", "/etc/passwd");
    let tree = bench.unpack(archive);
    let su = fs::metadata(tree.join("bin/su")).unwrap();
    assert_eq!((su.mode(), su.uid(), su.gid(), su.mtime()), (0o104755, 7, 8, 1_000_000_000));
    let tmp = fs::metadata(tree.join("tmp")).unwrap();
    assert_eq!((tmp.mode(), tmp.mtime()), (0o041777, 1_000_000_000));
    assert_eq!(fs::read(tree.join("tmp/b")).unwrap(), b"hello");
    assert_eq!(fs::metadata(tree.join("tmp/a")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(tree.join("tmp/c")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::symlink_metadata(tree.join("tmp/c")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn the_diff_id_covers_what_follows_the_end_mark() {
    let bench = Bench::new();
    let mut bytes = Archive::new().file("a", b"x").bytes();
    bytes.extend_from_slice(&[7; 10_000]);
    let (_, applied) = bench.try_layer(&bytes, &[]).unwrap();
    assert_eq!(applied.diff_id, Digest::of(&bytes));
    assert_eq!((applied.size, applied.usage), (1, 8192));
}

#[test]
fn devices_and_fifos_are_made() {
    let bench = Bench::new();
    let device = |kind, name: &str, major, minor| {
        let mut header = header(kind, name);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header
    };
    let archive = Archive::new()
        .push(device(EntryType::Char, "dev/null", 1, 3), b"")
        .push(device(EntryType::Block, "dev/vda", 254, 70_000), b"")
        .push(device(EntryType::Fifo, "dev/fifo", 0, 0), b"");
    let tree = bench.unpack(archive);
    let rdev = |name: &str| {
        let rdev = fs::symlink_metadata(tree.join(name)).unwrap().rdev();
        (rustix::fs::major(rdev), rustix::fs::minor(rdev))
    };
    assert_eq!((rdev("dev/null"), rdev("dev/vda")), ((1, 3), (254, 70_000)));
    assert!(fs::symlink_metadata(tree.join("dev/fifo")).unwrap().file_type().is_fifo());
    assert_eq!(mode(&tree.join("dev/null")) & 0o7777, 0o644);
}
