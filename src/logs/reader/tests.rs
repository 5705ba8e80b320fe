//! Reading across files, times and rotations.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::*;
use crate::logs::Stream;
use crate::logs::follow::{self, Render};
use crate::logs::json_file::{Writer, WriterOptions};

fn time(second: i64) -> Timestamp {
    Timestamp::from_nanos(second * 1_000_000_000)
}

/// A log of `count` lines, one a second.
fn log(dir: &Path, options: WriterOptions, count: i64) -> (PathBuf, Writer) {
    let path = dir.join("c-json.log");
    let mut writer = Writer::open(&path, options).unwrap();
    for n in 0..count {
        writer.write(Stream::Stdout, time(n), format!("{n}\n").as_bytes()).unwrap();
    }
    (path, writer)
}

fn read(reader: &mut Reader) -> Vec<i64> {
    let mut numbers = Vec::new();
    while reader.read(100, &mut |entry| numbers.push(number(entry))).unwrap() == Progress::More {}
    numbers
}

fn number(entry: &Entry<'_>) -> i64 {
    std::str::from_utf8(entry.line).unwrap().trim().parse().unwrap()
}

fn rotating(lines: u64, max_file: u32) -> WriterOptions {
    // A line is 67 or 68 bytes long.
    WriterOptions { max_size: Some(lines * 67), max_file, ..WriterOptions::default() }
}

#[test]
fn tail_since_and_until_choose_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _writer) = log(dir.path(), WriterOptions::default(), 10);
    let all = ReadOptions::default();
    for (options, expected) in [
        (all, 0..10),
        (ReadOptions { tail: Some(3), ..all }, 7..10),
        (ReadOptions { tail: Some(0), ..all }, 0..0),
        (ReadOptions { tail: Some(50), ..all }, 0..10),
        (ReadOptions { since: Some(time(4)), ..all }, 4..10),
        (ReadOptions { until: Some(time(4)), ..all }, 0..5),
        (ReadOptions { tail: Some(8), since: Some(time(1)), until: Some(time(3)), ..all }, 2..4),
    ] {
        let numbers = read(&mut Reader::open(&path, options).unwrap());
        assert_eq!(numbers, expected.collect::<Vec<_>>(), "{options:?}");
    }
    assert!(read(&mut Reader::open(&dir.path().join("none"), all).unwrap()).is_empty());
}

#[test]
fn a_tail_reaches_into_rotated_and_compressed_files() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _writer) = log(dir.path(), rotating(10, 4), 40);
    let all = read(&mut Reader::open(&path, ReadOptions::default()).unwrap());
    assert_eq!(all.last(), Some(&39));
    compress::compress(&dir.path().join("c-json.log.2")).unwrap();
    for tail in 0..=all.len() {
        let options = ReadOptions { tail: Some(tail as u64), ..ReadOptions::default() };
        let numbers = read(&mut Reader::open(&path, options).unwrap());
        assert_eq!(numbers, all[all.len() - tail..], "{tail}");
    }
}

#[test]
fn following_survives_rotation_however_late_the_reader_looks() {
    for pace in [1, 7, 25, 60] {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut writer) = log(dir.path(), rotating(10, 20), 5);
        let options = ReadOptions { mode: Mode::Follow, ..ReadOptions::default() };
        let mut reader = Reader::open(&path, options).unwrap();
        let mut numbers = read(&mut reader);
        for n in 5..100 {
            writer.write(Stream::Stdout, time(n), format!("{n}\n").as_bytes()).unwrap();
            // As the compressor would, some time after the rotation.
            let rotated = dir.path().join("c-json.log.1");
            if n % 13 == 0 && rotated.exists() {
                compress::compress(&rotated).unwrap();
            }
            if n % pace == 0 {
                numbers.extend(read(&mut reader));
            }
        }
        numbers.extend(read(&mut reader));
        assert_eq!(numbers, (0..100).collect::<Vec<_>>(), "{pace}");
    }
}

#[test]
fn a_line_is_seen_when_it_is_whole_and_garbage_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = log(dir.path(), WriterOptions::default(), 2);
    drop(writer);
    let line = std::fs::read_to_string(&path).unwrap().lines().last().unwrap().replace('1', "2");
    let append = |text: &str| {
        use std::io::Write;
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    append(&format!("garbage\n{}", &line[..20]));
    let options = ReadOptions { mode: Mode::Follow, ..ReadOptions::default() };
    let mut reader = Reader::open(&path, options).unwrap();
    assert_eq!(read(&mut reader), [0, 1]);
    append(&format!("{}\n{}", &line[20..], "x".repeat(LONGEST + 3 * PIECE)));
    assert_eq!(read(&mut reader), [2]);
    append(&format!("\n{line}\n"));
    assert_eq!(read(&mut reader), [2]);
}

struct Numbers(std::sync::mpsc::Sender<i64>);

impl Render for Numbers {
    fn render(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        self.0.send(number(entry)).unwrap();
        out.push(b'.');
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_woken_by_each_line_and_ends_with_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut writer) = log(dir.path(), rotating(5, 3), 1);
    let options = ReadOptions { mode: Mode::Follow, ..ReadOptions::default() };
    let reader = Reader::open(&path, options).unwrap();
    let (seen, sees) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (out, mut client) = tokio::sync::mpsc::channel(4);
    let follower = tokio::spawn(async move {
        follow::send(reader, Numbers(seen), async { drop(stopped.await) }, &out).await
    });
    tokio::spawn(async move { while client.recv().await.is_some() {} });
    tokio::task::spawn_blocking(move || {
        for n in 1..20 {
            assert_eq!(sees.recv_timeout(Duration::from_secs(1)), Ok(n - 1));
            writer.write(Stream::Stdout, time(n), format!("{n}\n").as_bytes()).unwrap();
        }
        writer.write(Stream::Stdout, time(20), b"20\n").unwrap();
        stop.send(()).unwrap();
        assert_eq!(sees.recv_timeout(Duration::from_secs(1)), Ok(19));
        assert_eq!(sees.recv_timeout(Duration::from_secs(1)), Ok(20));
        assert_eq!(sees.recv_timeout(Duration::from_secs(1)), Err(RecvTimeoutError::Disconnected));
    })
    .await
    .unwrap();
    follower.await.unwrap().unwrap();
}
