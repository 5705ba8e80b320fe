//! What a sink gets, and what is counted, when it is slow or gone.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use super::*;
use crate::base::id::ContainerId;
use crate::logs::Stream;
use crate::logs::attributes::Subject;
use crate::logs::json_file::{Writer, WriterOptions};
use crate::logs::losses::Losses;

/// A log of its own whose lines go to `sink`.
struct Bench {
    dir: tempfile::TempDir,
    writer: Writer,
    listener: TcpListener,
    end: Option<OwnedFd>,
    forwarding: Option<JoinHandle<io::Result<()>>>,
}

impl Bench {
    fn new(options: WriterOptions, farewell: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::open(&dir.path().join("log"), options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = [("syslog-address".to_owned(), format!("tcp://{}", listener.local_addr().unwrap()))];
        let job = Job {
            path: dir.path().join("log"),
            since: Timestamp::now(),
            from: writer.end(),
            forward: super::super::read("syslog", &options.into(), &Subject::default()).unwrap(),
            losses: Some(Place { container: ContainerId::random(), dir: dir.path().to_owned() }),
        };
        let (their_end, end) = io::pipe().unwrap();
        let forwarding = Some(thread::spawn(move || run(job, their_end.as_fd(), farewell)));
        Self { dir, writer, listener, end: Some(end.into()), forwarding }
    }

    fn write(&mut self, lines: std::ops::Range<usize>) {
        for line in lines {
            self.writer.write(Stream::Stdout, Timestamp::now(), line_of(line).as_bytes()).unwrap();
        }
    }

    /// How long the forwarding goes on after the container's end.
    fn finish(&mut self) -> Duration {
        self.end = None;
        let begin = Instant::now();
        self.forwarding.take().unwrap().join().unwrap().unwrap();
        begin.elapsed()
    }
}

fn line_of(number: usize) -> String {
    format!("line {number} of a container that has much to say and more to come\n")
}

/// Lines that arrive, once there is a connection.
fn lines(mut stream: TcpStream) -> Receiver<usize> {
    let (arrived, arrives) = channel();
    thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        arrived.send(text.lines().count()).unwrap();
    });
    arrives
}

fn losses(dir: &Path) -> (tokio::runtime::Runtime, Losses) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let losses = runtime.block_on(async { Losses::listen(dir) }).unwrap();
    (runtime, losses)
}

// Fails when only a send that fails looks at the clock: this sink takes a little now and then.
#[test]
fn a_sink_that_takes_little_is_left_when_the_time_is_over() {
    let mut bench = Bench::new(WriterOptions::default(), Duration::from_millis(300));
    let (runtime, losses) = losses(bench.dir.path());
    bench.write(0..100_000);
    let (mut slow, _) = bench.listener.accept().unwrap();
    thread::spawn(move || {
        while slow.read(&mut [0; 500]).is_ok_and(|count| count > 0) {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let took = bench.finish();
    assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(3), "{took:?}");
    let lost = runtime.block_on(losses.heard());
    assert!(lost > 1000 && lost < 100_000, "{lost}");
}

#[test]
fn lines_that_a_sink_misses_are_counted_through_rotation() {
    let options = WriterOptions { max_size: Some(50_000), max_file: 3, ..WriterOptions::default() };
    let mut bench = Bench::new(options, Duration::from_secs(30));
    let (runtime, losses) = losses(bench.dir.path());
    // More than sockets and the files hold: the sink is there and takes nothing.
    bench.write(0..1);
    let (stream, _) = bench.listener.accept().unwrap();
    bench.write(1..200_000);
    let arrives = lines(stream);
    bench.finish();
    let (arrived, lost) = (arrives.recv().unwrap(), runtime.block_on(losses.heard()));
    assert!(lost > 1000, "{lost}");
    assert_eq!(arrived as u64 + lost, 200_000);
}
