//! What GNU tar writes is read back as it wrote it.

use std::fs;
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::Command;

use super::{Device, Entry, Kind, Mtime, Reader, Writer};

/// A file of 10 MiB with data in two places.
fn make_sparse(path: &Path) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(path).unwrap();
    file.set_len(10 << 20).unwrap();
    file.write_all_at(&[7; 5000], 1 << 20).unwrap();
    file.write_all_at(b"end", (10 << 20) - 3).unwrap();
}

fn make_tree(dir: &Path) {
    let long = dir.join("long".repeat(40));
    fs::create_dir(&long).unwrap();
    fs::write(long.join("n".repeat(200)), "deep").unwrap();
    std::os::unix::fs::symlink("t".repeat(180), dir.join("link")).unwrap();
    fs::File::create(dir.join("plain")).unwrap().write_all(&[b'p'; 1025]).unwrap();
    fs::hard_link(dir.join("plain"), dir.join("same")).unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    make_sparse(&dir.join("sparse"));
}

fn tar(dir: &Path, options: &[&str]) -> Vec<u8> {
    let output =
        Command::new("tar").args(["-c", "--sort=name"]).args(options).arg("-C").arg(dir).arg(".").output();
    let output = output.expect("these tests need GNU tar");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// All entries with their content, holes filled in.
fn read_all(archive: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    // A small buffer, so that headers and data are cut by its end.
    let mut reader = Reader::new(BufReader::with_capacity(700, archive));
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = vec![0; entry.size as usize];
        let write = |offset: u64, bytes: &[u8]| {
            content[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
            Ok::<_, super::ArchiveError>(())
        };
        reader.read_data(&entry, write).unwrap();
        entries.push((entry, content));
    }
    entries
}

#[test]
fn every_format_of_gnu_tar_gives_the_same_tree() {
    let dir = tempfile::tempdir().unwrap();
    make_tree(dir.path());
    let long = format!("./{}/{}", "long".repeat(40), "n".repeat(200));
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "-S"],
        &["--format=pax", "-S", "--sparse-version=0.0"],
        &["--format=pax", "-S", "--sparse-version=0.1"],
        &["--format=pax", "-S", "--sparse-version=1.0"],
        &["--format=pax", "--numeric-owner"],
    ] {
        let entries = read_all(&tar(dir.path(), options));
        let find = |name: &str| {
            let found = entries.iter().find(|(entry, _)| entry.path == name.as_bytes());
            found.unwrap_or_else(|| panic!("{name} with {options:?}"))
        };
        assert_eq!(find(&long).1, b"deep", "{options:?}");
        assert_eq!(find("./link").0.link, "t".repeat(180).as_bytes(), "{options:?}");
        assert_eq!(find("./empty").0.kind, Kind::Regular);
        let (sparse, content) = find("./sparse");
        assert!(*content == fs::read(dir.path().join("sparse")).unwrap(), "{options:?}");
        assert_eq!(sparse.sparse.is_some(), options.contains(&"-S"), "{options:?}");
        let (first, second) = (find("./plain"), find("./same"));
        let (data, link) = if first.0.kind == Kind::Regular { (first, second) } else { (second, first) };
        assert_eq!((data.1.as_slice(), link.0.kind), (&[b'p'; 1025][..], Kind::HardLink), "{options:?}");
        assert_eq!(link.0.link, data.0.path);
    }
}

#[test]
fn owners_and_times_of_gnu_tar_are_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    // 3,000,000 and 2^31 do not fit in the octal fields; GNU writes base 256, PAX writes records.
    for format in ["--format=gnu", "--format=pax"] {
        let options = [format, "--owner=x:3000000", "--group=y:2147483648", "--mode=u+s", "--mtime=@-5.25"];
        let entries = read_all(&tar(dir.path(), &options));
        let (entry, _) = entries.iter().find(|(entry, _)| entry.path == b"./f").unwrap();
        assert_eq!((entry.uid, entry.gid, entry.mode & 0o7000), (3_000_000, 1 << 31, 0o4000), "{format}");
        let nanos = if format == "--format=pax" { 750_000_000 } else { 0 };
        assert_eq!((entry.mtime.seconds, entry.mtime.nanos), (-6, nanos), "{format}");
    }
}

#[test]
fn a_file_of_more_than_eight_gibibytes_may_have_its_size_in_a_record_only() {
    let size = 9u64 << 30;
    let record = format!("{size}");
    let record = format!("{} size={record}\n", record.len() + 9);
    let mut archive = Vec::new();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(record.len() as u64);
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(record.as_bytes());
    archive.resize(1024, 0);
    let mut header = tar::Header::new_ustar();
    header.set_path("big").unwrap();
    header.set_size(0);
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
    let mut reader = Reader::new(archive.as_slice());
    assert_eq!(reader.next_entry().unwrap().unwrap().size, size);
}

#[test]
fn random_blocks_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    make_tree(dir.path());
    let whole = tar(dir.path(), &["--format=pax", "-S", "--sparse-version=1.0"]);
    let mut seed = 3u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for _ in 0..2000 {
        let mut broken = whole.clone();
        let block = next() % (broken.len() / 512) * 512;
        for _ in 0..1 + next() % 4 {
            broken[block + next() % 512] = next() as u8;
        }
        // Make the header's sum right again, so that the fields are looked at.
        let header = &mut broken[block..block + 512];
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut reader = Reader::new(broken.as_slice());
        while let Ok(Some(entry)) = reader.next_entry() {
            let _ = reader.read_data(&entry, |_, _| Ok::<_, super::ArchiveError>(()));
        }
    }
}

fn extreme(kind: Kind, path: &str, content: &[u8]) -> (Entry, Vec<u8>) {
    let entry = Entry {
        path: path.as_bytes().to_vec(),
        link: if matches!(kind, Kind::Symlink | Kind::HardLink) {
            "l\u{e9}".repeat(70).into()
        } else {
            Vec::new()
        },
        kind,
        mode: 0o7755,
        uid: u32::MAX - 1,
        gid: 1,
        mtime: Mtime { seconds: -2, nanos: 500_000_000 },
        size: content.len() as u64,
        device: if kind == Kind::CharDevice {
            Device { major: 10, minor: 1 << 19 }
        } else {
            Device::default()
        },
        xattrs: vec![(b"security.capability".to_vec(), vec![0, 1, b'\n', b'=', 255])],
        sparse: None,
    };
    (entry, content.to_vec())
}

#[test]
fn what_is_written_is_read_back_equal() {
    let entries = vec![
        extreme(Kind::Directory, &"dir/".repeat(60), b""),
        extreme(Kind::Regular, "file", &[b'x'; 1025]),
        extreme(Kind::Regular, &"n".repeat(100), b""),
        extreme(Kind::Symlink, "link", b""),
        extreme(Kind::HardLink, "hard", b""),
        extreme(Kind::CharDevice, "device", b""),
        extreme(Kind::Fifo, "fifo", b""),
    ];
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in &entries {
        writer.entry(entry).unwrap();
        writer.data(content).unwrap();
    }
    let archive = writer.finish().unwrap();
    assert_eq!(read_all(&archive), entries);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.tar"), &archive).unwrap();
    let listed = Command::new("tar").args(["-tvf", "a.tar"]).current_dir(dir.path()).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), entries.len());
}

#[test]
fn a_file_that_changes_its_size_leaves_a_readable_archive_or_an_error() {
    let (entry, _) = extreme(Kind::Regular, "file", b"12345");
    let mut writer = Writer::new(Vec::new());
    writer.entry(&entry).unwrap();
    writer.data(b"12").unwrap();
    let (next, _) = extreme(Kind::Directory, "dir/", b"");
    writer.entry(&next).unwrap();
    let archive = writer.finish().unwrap();
    assert_eq!(read_all(&archive), [(entry.clone(), b"12\0\0\0".to_vec()), (next, Vec::new())]);
    let mut writer = Writer::new(Vec::new());
    writer.entry(&entry).unwrap();
    assert!(writer.data(b"123456").is_err());
}

#[test]
fn an_attribute_that_no_record_can_name_is_left_out() {
    let kept = (b"user.b".to_vec(), b"2".to_vec());
    let entry = Entry {
        path: b"a".to_vec(),
        link: Vec::new(),
        kind: Kind::Regular,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Mtime::default(),
        size: 0,
        device: Device::default(),
        xattrs: vec![(b"user.a=x".to_vec(), b"1".to_vec()), kept.clone()],
        sparse: None,
    };
    let mut writer = Writer::new(Vec::new());
    writer.entry(&entry).unwrap();
    assert_eq!(read_all(&writer.finish().unwrap())[0].0.xattrs, [kept]);
}
