//! HTTP/1.1 as bytes: a reader that is fed what arrives and gives back whole messages.
//!
//! Written here because the suite looks at what HTTP libraries hide: hijacked connections, half-closed ones, and
//! which bytes came in one segment.

/// The first line and the headers of a message.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The request line or status line.
    pub first: String,
    /// Names as sent, values trimmed.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The head at the start of `bytes`, and its length; `None` while it is incomplete.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        Some((Self { first, headers }, end + 4))
    }

    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The status code of a response; 0 if there is none.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Method and target of a request.
    pub fn request_line(&self) -> (&str, &str) {
        let mut parts = self.first.split(' ');
        (parts.next().unwrap_or(""), parts.next().unwrap_or(""))
    }

    /// How the body of a request is delimited (RFC 9112, section 6).
    pub fn request_framing(&self) -> Framing {
        self.stated_framing().unwrap_or(Framing::Length(0))
    }

    /// How the body of a response to `method` is delimited.
    pub fn response_framing(&self, method: &str) -> Framing {
        match self.status() {
            101 => Framing::Hijacked,
            204 | 304 => Framing::Length(0),
            _ if method == "HEAD" => Framing::Length(0),
            _ => self.stated_framing().unwrap_or(Framing::UntilClose),
        }
    }

    fn stated_framing(&self) -> Option<Framing> {
        if self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Some(Framing::Chunked);
        }
        self.header("content-length").and_then(|length| length.parse().ok()).map(Framing::Length)
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
    /// The connection is no longer HTTP.
    Hijacked,
}

/// A whole message; the body is kept up to [`KEPT`] bytes.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub head: Head,
    pub body: Vec<u8>,
    /// Bytes of the body before truncation.
    pub length: u64,
}

/// Longer bodies (archives, uploads) are counted, not kept.
pub const KEPT: u64 = 8 << 20;

enum State {
    Head,
    Fixed(u64),
    ChunkSize,
    ChunkData(u64),
    Trailer,
    UntilClose,
    Hijacked,
}

/// Takes bytes as they arrive and gives whole messages.
pub struct Reader {
    state: State,
    pending: Vec<u8>,
    message: Message,
}

impl Reader {
    pub fn new() -> Self {
        Self { state: State::Head, pending: Vec::new(), message: Message::default() }
    }

    /// Whether the connection has left HTTP.
    pub fn is_hijacked(&self) -> bool {
        matches!(self.state, State::Hijacked)
    }

    /// What has been read of the body so far.
    pub fn body(&self) -> &[u8] {
        &self.message.body
    }

    /// Takes `bytes`; returns the messages that are now whole. `framing` tells how a body is delimited.
    pub fn feed(&mut self, bytes: &[u8], mut framing: impl FnMut(&Head) -> Framing) -> Vec<Message> {
        if self.is_hijacked() {
            return Vec::new();
        }
        self.pending.extend_from_slice(bytes);
        let mut whole = Vec::new();
        while self.step(&mut framing, &mut whole) {}
        whole
    }

    /// The other end has closed: a body delimited by that is whole.
    pub fn close(&mut self) -> Option<Message> {
        match self.state {
            State::UntilClose => Some(self.finish()),
            _ => None,
        }
    }

    fn step(&mut self, framing: &mut impl FnMut(&Head) -> Framing, whole: &mut Vec<Message>) -> bool {
        match self.state {
            State::Head => {
                let Some((head, length)) = Head::parse(&self.pending) else { return false };
                self.pending.drain(..length);
                self.state = match framing(&head) {
                    Framing::Length(length) => State::Fixed(length),
                    Framing::Chunked => State::ChunkSize,
                    Framing::UntilClose => State::UntilClose,
                    Framing::Hijacked => State::Hijacked,
                };
                self.message.head = head;
                !self.is_hijacked()
            }
            State::Fixed(0) => {
                whole.push(self.finish());
                true
            }
            State::Fixed(left) => {
                let taken = self.take(left);
                self.state = State::Fixed(left - taken);
                taken > 0
            }
            State::ChunkSize => self.line().is_some_and(|line| {
                let size = u64::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16).unwrap_or(0);
                self.state = if size == 0 { State::Trailer } else { State::ChunkData(size) };
                true
            }),
            State::ChunkData(0) => self.line().is_some_and(|_| {
                self.state = State::ChunkSize;
                true
            }),
            State::ChunkData(left) => {
                let taken = self.take(left);
                self.state = State::ChunkData(left - taken);
                taken > 0
            }
            State::Trailer => self.line().is_some_and(|line| {
                if line.is_empty() {
                    whole.push(self.finish());
                }
                true
            }),
            State::UntilClose => {
                self.take(u64::MAX);
                false
            }
            State::Hijacked => false,
        }
    }

    fn finish(&mut self) -> Message {
        self.state = State::Head;
        std::mem::take(&mut self.message)
    }

    fn line(&mut self) -> Option<String> {
        let end = self.pending.windows(2).position(|w| w == b"\r\n")?;
        let line = String::from_utf8_lossy(&self.pending[..end]).into_owned();
        self.pending.drain(..end + 2);
        Some(line)
    }

    /// Moves up to `most` pending bytes to the body; returns how many.
    fn take(&mut self, most: u64) -> u64 {
        let count = most.min(self.pending.len() as u64);
        let room = KEPT.saturating_sub(self.message.body.len() as u64).min(count) as usize;
        self.message.body.extend_from_slice(&self.pending[..room]);
        self.message.length += count;
        self.pending.drain(..count as usize);
        count
    }
}
