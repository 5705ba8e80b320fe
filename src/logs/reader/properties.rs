//! What was written is what is read, whatever the files, their sizes and their ends.

use std::io::Write;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::base::testing::cases;
use crate::logs::Stream;
use crate::logs::json_file::{Writer, WriterOptions};

type Written = (Stream, i64, Vec<u8>);

fn line() -> impl Strategy<Value = Written> {
    let text = prop_oneof!["[a-z ]{0,40}", any::<String>()].prop_map(|text| text.replace('\n', "|") + "\n");
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    (stream, text).prop_map(|(stream, text)| (stream, 0, text.into_bytes()))
}

/// Lines at times that never go back.
fn lines() -> impl Strategy<Value = Vec<Written>> {
    vec((line(), 0..3i64), 0..40).prop_map(|lines| {
        let mut now = 0;
        let timed = lines.into_iter().map(|((stream, _, text), pause)| {
            now += pause;
            (stream, now, text)
        });
        timed.collect()
    })
}

fn read(path: &Path, options: ReadOptions) -> Vec<Written> {
    let mut reader = Reader::open(path, options).unwrap();
    let mut found = Vec::new();
    let mut note = |entry: &Entry<'_>| {
        found.push((entry.stream, entry.timestamp().nanos(), entry.line.to_vec()));
    };
    while reader.read(200, &mut note).unwrap() == Progress::More {}
    found
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn what_was_written_is_read(
        lines in lines(),
        max_size in prop::option::of(100..2000u64),
        torn in 0..60usize,
        tail in 0..50u64,
        span in (0..60i64, 0..60i64),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        let options = WriterOptions { max_size, max_file: 100, ..WriterOptions::default() };
        let mut writer = Writer::open(&path, options).unwrap();
        for (stream, time, text) in &lines {
            writer.write(*stream, Timestamp::from_nanos(*time), text).unwrap();
        }
        // As if the writer had been killed within a line.
        let whole = br#"{"log":"torn off\n","stream":"stdout","time":"2024-01-02T03:04:05.123456789Z"}"#;
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&whole[..torn]).unwrap();

        let all = ReadOptions::default();
        prop_assert_eq!(&read(&path, all), &lines);
        let last = lines.len().saturating_sub(tail as usize);
        prop_assert_eq!(&read(&path, ReadOptions { tail: Some(tail), ..all })[..], &lines[last..]);
        let (since, until) = span;
        let between = ReadOptions {
            since: Some(Timestamp::from_nanos(since)),
            until: Some(Timestamp::from_nanos(until)),
            ..all
        };
        let expected: Vec<_> = lines.iter().filter(|(_, at, _)| (since..=until).contains(at)).cloned().collect();
        prop_assert_eq!(read(&path, between), expected);
    }

    #[test]
    fn any_file_is_read_to_its_end(
        pieces in vec(prop_oneof![
            vec(any::<u8>(), 0..40),
            Just(b"\n".to_vec()),
            Just(br#"{"log":"x\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}"#.to_vec()),
        ], 0..12),
        tail in prop::option::of(0..8u64),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        let bytes = pieces.concat();
        std::fs::write(&path, &bytes).unwrap();
        let found = read(&path, ReadOptions { tail, ..ReadOptions::default() });
        let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
        prop_assert!(found.len() <= ends.min(tail.unwrap_or(u64::MAX) as usize));
    }
}
