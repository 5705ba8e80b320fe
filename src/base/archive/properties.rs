//! What is written is read back, and no bytes whatever make the reader panic or go beyond an entry's size.

use std::collections::BTreeMap;
use std::io::BufReader;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::base::testing::cases;

fn name(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![4 => b'a'..=b'z', 1 => Just(b'/'), 1 => 1..=255u8], 1..longest)
}

fn kind() -> impl Strategy<Value = Kind> {
    use Kind::{BlockDevice, CharDevice, Directory, Fifo, HardLink, Regular, Symlink};
    prop::sample::select(vec![Regular, HardLink, Symlink, CharDevice, BlockDevice, Directory, Fifo])
}

fn xattrs() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let name = vec((1..=255u8).prop_filter("the end of a key", |byte| *byte != b'='), 1..20);
    prop::collection::btree_map(name, vec(any::<u8>(), 0..40), 0..3)
}

fn mtime() -> impl Strategy<Value = Mtime> {
    let seconds = prop_oneof![any::<i64>(), 0..2_000_000_000i64, -10..10i64];
    (seconds, prop_oneof![Just(0), 0..1_000_000_000u32]).prop_map(|(seconds, nanos)| Mtime { seconds, nanos })
}

/// An entry with its data.
fn entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let names = (name(250), name(250));
    let owner = (0..u32::MAX, 0..u32::MAX);
    let device = (0..1u32 << 12, 0..1u32 << 20);
    let rest = (kind(), 0..=0o7777u32, mtime(), xattrs(), vec(any::<u8>(), 0..1500));
    (names, owner, device, rest).prop_map(
        |((mut path, link), (uid, gid), device, (kind, mode, mtime, xattrs, data))| {
            // A slash at the end makes a directory of a file (POSIX.1-2001, ustar).
            path.push(b'x');
            let (major, minor) =
                if matches!(kind, Kind::CharDevice | Kind::BlockDevice) { device } else { (0, 0) };
            let data = if kind == Kind::Regular { data } else { Vec::new() };
            let entry = Entry {
                path,
                link: if matches!(kind, Kind::HardLink | Kind::Symlink) { link } else { Vec::new() },
                kind,
                mode,
                uid,
                gid,
                mtime,
                size: data.len() as u64,
                device: Device { major, minor },
                xattrs: xattrs.into_iter().collect(),
                sparse: None,
            };
            (entry, data)
        },
    )
}

fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.entry(entry).unwrap();
        data.chunks(700).for_each(|piece| writer.data(piece).unwrap());
    }
    writer.finish().unwrap()
}

/// Makes the checksum of every header right, whatever was changed in it.
fn sign(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Reads all there is; returns how many entries there were, how much data they gave, and whether that was the end.
fn read_all(archive: &[u8], buffer: usize) -> (usize, u64, bool) {
    let mut reader = Reader::new(BufReader::with_capacity(buffer, archive));
    let (mut entries, mut given) = (0, 0);
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => return (entries, given, true),
            Err(_) => return (entries, given, false),
        };
        entries += 1;
        let mut end = 0;
        let read = reader.read_data(&entry, |offset, bytes| {
            assert!(offset >= end, "data is given twice or backwards");
            end = offset + bytes.len() as u64;
            assert!(end <= entry.size, "data beyond the end of {entry:?}");
            given += bytes.len() as u64;
            Ok::<_, ArchiveError>(())
        });
        if read.is_err() {
            return (entries, given, false);
        }
    }
}

/// As [`read_all`], however it ends.
fn read_through(archive: &[u8], buffer: usize) -> (usize, u64) {
    let (entries, given, _) = read_all(archive, buffer);
    (entries, given)
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn entries_are_read_as_they_were_written(entries in vec(entry(), 0..4), buffer in 1..2000usize) {
        let archive = write(&entries);
        prop_assert_eq!(archive.len() % 512, 0);
        let mut reader = Reader::new(BufReader::with_capacity(buffer, archive.as_slice()));
        for (entry, data) in &entries {
            let read = reader.next_entry().unwrap();
            prop_assert_eq!(read.as_ref(), Some(entry));
            let mut found = Vec::new();
            reader.read_data(entry, |_, piece| { found.extend_from_slice(piece); Ok::<_, ArchiveError>(()) }).unwrap();
            prop_assert_eq!(&found, data);
        }
        prop_assert!(reader.next_entry().unwrap().is_none());
    }

    #[test]
    fn entries_passed_over_are_not_in_the_way(entries in vec(entry(), 0..4)) {
        let archive = write(&entries);
        let mut reader = Reader::new(archive.as_slice());
        let names = std::iter::from_fn(|| reader.next_entry().unwrap()).map(|entry| entry.path);
        prop_assert!(names.eq(entries.iter().map(|(entry, _)| entry.path.clone())));
    }

    #[test]
    fn a_cut_archive_ends_early_or_is_an_error(
        entries in vec(entry(), 1..4),
        at in any::<prop::sample::Index>(),
    ) {
        let whole = write(&entries);
        let (count, given) = read_through(&whole, 512);
        let cut = at.index(whole.len());
        let (fewer, less, at_end) = read_all(&whole[..cut], 512);
        prop_assert!(fewer <= count && less <= given);
        // What is taken for the end is where an entry ends, with all its data and padding.
        let there: usize = entries[..fewer].iter().map(|(_, data)| data.len()).sum();
        prop_assert!(!at_end || (cut % 512 == 0 && less == there as u64), "{}", cut);
    }

    #[test]
    fn changed_headers_give_no_more_than_there_is(
        entries in vec(entry(), 1..4),
        changes in vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), b'0'..=b'9', Just(b'S')]), 1..12),
        types in vec(prop::sample::select(b"0123456LKSxg7\0".to_vec()), 4),
        buffer in 1..2000usize,
    ) {
        let mut archive = write(&entries);
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        let headers = archive.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar");
        headers.zip(types).step_by(2).for_each(|(block, kind)| block[156] = kind);
        sign(&mut archive);
        let (entries, given) = read_through(&archive, buffer);
        prop_assert!(entries <= archive.len() / 512 && given <= archive.len() as u64);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..1600), flag in any::<u8>()) {
        read_through(&bytes, 512);
        let mut bytes = bytes;
        if bytes.len() >= 512 {
            bytes[156] = flag;
            bytes[257..265].copy_from_slice(if flag % 2 == 0 { b"ustar\x0000" } else { b"ustar  \0" });
            sign(&mut bytes);
            let (entries, given) = read_through(&bytes, 512);
            prop_assert!(entries <= 3 && given <= bytes.len() as u64);
        }
    }

    #[test]
    fn any_records_are_taken_or_refused(
        records in vec(("(GNU\\.sparse\\.[a-z]{3,8}|SCHILY\\.xattr\\.x|size|mtime|uid|path|)", ".{0,12}|-?[0-9.,\n]{0,24}"), 0..6),
        torn in 0..3usize,
        missing in 0..3usize,
    ) {
        let mut text = String::new();
        for (key, value) in records {
            let record = format!(" {key}={value}\n");
            // One or two digits more: the length counts itself.
            let length = record.len() + (record.len() + 2).to_string().len();
            text.push_str(&format!("{length}{record}"));
        }
        let text = &text.as_bytes()[torn.min(text.len())..];
        let _ = pax::Records::default().add(&text[..text.len().saturating_sub(missing)]);
    }

    #[test]
    fn parts_of_a_sparse_file_that_are_taken_lie_apart_and_inside(
        numbers in vec(prop_oneof![9 => 0..60u64, 1 => any::<u64>()], 0..8),
        stored in 0..80u64,
        fits in any::<bool>(),
        size in 0..100u64,
    ) {
        let lengths = numbers.iter().skip(1).step_by(2).fold(0u64, |sum, length| sum.saturating_add(*length));
        let stored = if fits { lengths } else { stored };
        let list = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let Ok(segments) = sparse::from_list(list.as_bytes()) else {
            prop_assert!(numbers.len() % 2 == 1);
            return Ok(());
        };
        let Ok(taken) = sparse::validate(segments, stored, size) else { return Ok(()) };
        prop_assert_eq!(taken.iter().map(|part| part.length).sum::<u64>(), stored);
        prop_assert!(taken.windows(2).all(|two| two[0].offset + two[0].length <= two[1].offset));
        prop_assert!(taken.last().is_none_or(|last| last.offset + last.length <= size));
    }
}
