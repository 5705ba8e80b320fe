//! A plain HTTP client: one connection for each request, everything visible.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::poll::DEADLINE;
use super::wire::{Framing, Head, Message, Reader};

/// What both kinds of stream can do.
pub trait Stream: Read + Write + Send {
    /// Bounds every read.
    fn limit(&self, time: Duration);
    /// Ends the sending direction.
    fn close_write(&self);
}

impl Stream for UnixStream {
    fn limit(&self, time: Duration) {
        self.set_read_timeout(Some(time)).unwrap();
    }
    fn close_write(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Stream for TcpStream {
    fn limit(&self, time: Duration) {
        self.set_read_timeout(Some(time)).unwrap();
    }
    fn close_write(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// A request to be sent.
pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub headers: Vec<(&'a str, String)>,
    pub body: Vec<u8>,
}

impl<'a> Request<'a> {
    pub fn new(method: &'a str, target: &'a str) -> Self {
        Self { method, target, headers: Vec::new(), body: Vec::new() }
    }

    pub fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string().into_bytes())
    }

    pub fn body(mut self, media: &str, body: Vec<u8>) -> Self {
        self.headers.push(("Content-Type", media.to_owned()));
        self.body = body;
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: docker\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() || self.method == "POST" || self.method == "PUT" {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        (text + "\r\n").into_bytes()
    }

    /// Sends it and reads the whole response.
    pub fn send(&self, mut stream: impl Stream) -> io::Result<Response> {
        stream.limit(DEADLINE);
        stream.write_all(&self.head())?;
        // A server may answer and close before it has read the body.
        let sent = stream.write_all(&self.body);
        let mut reader = Reader::new();
        let mut buffer = [0; 65536];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(count) => count,
                Err(error) => return Err(sent.err().unwrap_or(error)),
            };
            let whole = reader.feed(&buffer[..count], |head| head.response_framing(self.method));
            if let Some(message) = whole.into_iter().next() {
                return Ok(Response(message));
            }
            if count == 0 {
                let closed = || io::Error::new(io::ErrorKind::UnexpectedEof, "closed within a response");
                return reader.close().map(Response).ok_or_else(closed);
            }
        }
    }

    /// Sends it and returns when the response's head is there: the rest is read as it comes.
    pub fn open<S: Stream>(&self, mut stream: S) -> io::Result<Opened<S>> {
        stream.limit(DEADLINE);
        stream.write_all(&self.head())?;
        stream.write_all(&self.body)?;
        let mut early = Vec::new();
        let mut buffer = [0; 65536];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the headers"));
            }
            early.extend_from_slice(&buffer[..count]);
            if let Some((head, length)) = Head::parse(&early) {
                return Ok(Opened { head, early: early.split_off(length), stream });
            }
        }
    }
}

/// A response whose head has been read.
pub struct Opened<S> {
    pub head: Head,
    /// Bytes of the body that came in the same read as the head.
    pub early: Vec<u8>,
    pub stream: S,
}

impl<S: Stream> Opened<S> {
    /// Everything up to the end of the connection, as sent.
    pub fn rest(mut self) -> Vec<u8> {
        self.stream.read_to_end(&mut self.early).unwrap();
        self.early
    }

    /// Reads the body as it is framed until `enough` says so or it ends; the decoded body.
    pub fn body_until(&mut self, mut enough: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        let mut reader = Reader::new();
        let mut framing = self.head.response_framing("GET");
        if framing == Framing::Hijacked {
            framing = Framing::UntilClose;
        }
        let head = format!("{}\r\n\r\n", self.head.first);
        let mut bytes = head.into_bytes();
        bytes.append(&mut self.early);
        let mut buffer = [0; 65536];
        loop {
            if let Some(message) = reader.feed(&bytes, |_| framing).into_iter().next() {
                return message.body;
            }
            if enough(reader.body()) {
                return reader.body().to_vec();
            }
            let count = self.stream.read(&mut buffer).unwrap();
            if count == 0 {
                return reader.body().to_vec();
            }
            bytes = buffer[..count].to_vec();
        }
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response(pub Message);

impl Response {
    pub fn status(&self) -> u16 {
        self.0.head.status()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.head.header(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.body).into_owned()
    }

    /// The body as one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.0.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The body as a stream of JSON documents.
    pub fn json_stream(&self) -> Vec<Value> {
        let documents = serde_json::Deserializer::from_slice(&self.0.body).into_iter();
        documents.map(|document| document.unwrap_or_else(|e| panic!("{e}: {}", self.text()))).collect()
    }

    /// The `message` of an error body.
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_else(|| panic!("no message: {}", self.text())).to_owned()
    }

    /// Fails the test unless the status is `status`.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status(), status, "{}", self.text());
        self
    }
}
