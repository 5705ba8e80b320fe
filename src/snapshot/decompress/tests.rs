//! Streams that are whole, cut, broken, or made to hurt.

use std::io::Write;

use flate2::{GzBuilder, write::GzEncoder};

use super::*;

fn plain() -> Vec<u8> {
    let mut seed = 1u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    };
    let mut bytes = Vec::new();
    while bytes.len() < 900_000 {
        match next() % 3 {
            0 => (0..60).for_each(|_| bytes.push(next() as u8)),
            1 => bytes.extend_from_slice(b"a piece of text that comes again and again "),
            _ => bytes.resize(bytes.len() + (next() % 300) as usize, 0),
        }
    }
    bytes
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn read(compressed: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader(Compression::sniff(compressed), compressed)?.read_to_end(&mut out)?;
    Ok(out)
}

/// Gives a source in pieces of every size from one byte up.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 % 700 + 1;
        let length = self.1.min(buffer.len()).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        buffer[..length].copy_from_slice(piece);
        self.0 = rest;
        Ok(length)
    }
}

#[test]
fn streams_are_told_by_their_first_bytes() {
    let table: [(&[u8], Compression); 9] = [
        (&[0x1f, 0x8b, 8, 0], Compression::Gzip),
        (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
        (&[0x53, 0x2a, 0x4d, 0x18], Compression::Zstd),
        (b"BZh9", Compression::Bzip2),
        (b"BZhello", Compression::None),
        (&[0xfd, b'7', b'z', b'X'], Compression::Xz),
        (b"etc/", Compression::None),
        (&[0x1f], Compression::None),
        (&[], Compression::None),
    ];
    for (start, expected) in table {
        assert_eq!(Compression::sniff(start), expected, "{start:?}");
    }
}

#[test]
fn every_level_of_gzip_inflates_whatever_the_sizes_of_reads() {
    let plain = plain();
    for level in [0, 1, 6, 9] {
        let compressed = gzip(&plain, level);
        assert!(read(&compressed).unwrap() == plain, "level {level}");
        let mut source = reader(Compression::Gzip, Dribble(&compressed, 0)).unwrap();
        let (mut out, mut buffer, mut size) = (Vec::new(), vec![0; 3000], 0);
        loop {
            size = size % 2999 + 1;
            let length = source.read(&mut buffer[..size]).unwrap();
            if length == 0 {
                break;
            }
            out.extend_from_slice(&buffer[..length]);
        }
        assert!(out == plain, "level {level}");
    }
}

#[test]
fn members_follow_each_other_and_may_be_empty() {
    let parts = [gzip(b"one ", 6), gzip(b"", 6), gzip(&[b'x'; 100_000], 6), gzip(b" end", 0)];
    let mut expected = b"one ".to_vec();
    expected.extend_from_slice(&[b'x'; 100_000]);
    expected.extend_from_slice(b" end");
    assert!(read(&parts.concat()).unwrap() == expected);
    let mut out = Vec::new();
    let joined = parts.concat();
    reader(Compression::Gzip, Dribble(&joined, 0)).unwrap().read_to_end(&mut out).unwrap();
    assert!(out == expected);
}

#[test]
fn all_fields_of_a_gzip_header_are_understood() {
    let builder = GzBuilder::new().filename("layer.tar").comment("a comment").extra(vec![7; 300]).mtime(5);
    let mut encoder = builder.write(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"content").unwrap();
    let compressed = encoder.finish().unwrap();
    assert_eq!(read(&compressed).unwrap(), b"content");
    let mut out = Vec::new();
    reader(Compression::Gzip, Dribble(&compressed, 0)).unwrap().read_to_end(&mut out).unwrap();
    assert_eq!(out, b"content");
}

#[test]
fn a_stream_cut_anywhere_is_an_error() {
    let plain = &plain()[..20_000];
    for compressed in [gzip(plain, 6), zstd::encode_all(plain, 3).unwrap()] {
        for end in (4..compressed.len()).step_by(7).chain([compressed.len() - 1]) {
            assert!(read(&compressed[..end]).is_err(), "{end} of {}", compressed.len());
        }
    }
    let error = read(&gzip(plain, 6)[..5000]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_flipped_bit_never_changes_what_comes_out() {
    let plain = &plain()[..20_000];
    let compressed = gzip(plain, 6);
    for place in (10..compressed.len()).step_by(3) {
        let mut broken = compressed.clone();
        broken[place] ^= 1 << (place % 8);
        // A bit may be without meaning: the length of a code that is not used.
        assert!(read(&broken).map_or(true, |out| out == plain), "{place}");
    }
}

#[test]
fn garbage_after_the_last_member_is_an_error() {
    for garbage in [&b"garbage"[..], &[0; 512], &[0x1f], &[0x1f, 0x8b]] {
        assert!(read(&[gzip(b"x", 6).as_slice(), garbage].concat()).is_err(), "{garbage:?}");
    }
}

#[test]
fn random_streams_never_panic_or_hang() {
    let mut seed = 7u64;
    for round in 0..3000 {
        let mut bytes = vec![0x1f, 0x8b, 8, (round % 32) as u8, 0, 0, 0, 0, 0, 3];
        for _ in 0..200 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push((seed >> 56) as u8);
        }
        let mut source = reader(Compression::Gzip, bytes.as_slice()).unwrap();
        let mut out = vec![0; 1 << 20];
        while matches!(source.read(&mut out), Ok(length) if length > 0) {}
    }
}

#[test]
fn zstd_frames_follow_each_other_and_skippable_ones_are_skipped() {
    let mut stream = zstd::encode_all(&b"one "[..], 3).unwrap();
    stream.extend_from_slice(&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    stream.extend_from_slice(&zstd::encode_all(&b"two"[..], 19).unwrap());
    assert_eq!(read(&stream).unwrap(), b"one two");
}

#[test]
fn a_zstd_window_beyond_the_limit_is_refused() {
    // A frame header that asks for 2^30 bytes: window descriptor with exponent 20, then an empty last block.
    let stream = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x01, 0x00, 0x00];
    assert!(read(&stream).is_err());
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bzip2_and_xz_are_read_to_the_end_of_their_last_stream() {
    let plain = plain();
    for compress in [bzip2, xz] {
        let compressed = compress(&plain);
        let mut out = Vec::new();
        let source = Dribble(&compressed, 0);
        reader(Compression::sniff(&compressed), source).unwrap().read_to_end(&mut out).unwrap();
        assert!(out == plain);
        let twice = [compress(b"one "), compress(b"two")].concat();
        assert_eq!(read(&twice).unwrap(), b"one two");
    }
}

#[test]
fn bzip2_and_xz_that_are_cut_or_broken_are_errors() {
    let plain = plain();
    for compress in [bzip2, xz] {
        let compressed = compress(&plain);
        for length in [6, 40, compressed.len() / 2, compressed.len() - 1] {
            read(&compressed[..length]).unwrap_err();
        }
        let mut broken = compressed.clone();
        broken[compressed.len() / 2] ^= 0x10;
        read(&broken).unwrap_err();
    }
}

#[test]
fn an_xz_stream_that_wants_much_memory_is_refused() {
    let options = |dictionary: u32| {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(dictionary);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32);
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream.unwrap());
        encoder.write_all(b"small").unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(read(&options(64 << 20)).unwrap(), b"small");
    let mut large = options(64 << 20);
    // The dictionary's size in the block's header (the .xz format, 5.3.1), whose checksum is then as wrong as the
    // decoder's wish for memory: it must refuse either way.
    let at = large.windows(3).position(|window| window[..2] == [0x21, 1]).unwrap();
    large[at + 2] = 40;
    read(&large).unwrap_err();
}
