//! As much of D-Bus as asking systemd takes: method calls one at a time, over a Unix socket
//! (dbus.freedesktop.org/doc/dbus-specification.html).
//!
//! systemd's own socket comes second: it works without a bus, but is systemd's business and may go.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const BUS: &str = "/run/dbus/system_bus_socket";
const DIRECT: &str = "/run/systemd/private";
/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(25);
/// The longest message that is read: answers are an object path or an error's text.
const MAX_MESSAGE: usize = 1 << 20;

/// Kinds of message.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
/// Fields of a message's header.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Why a call had no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("systemd cannot be reached: {0}")]
    Connect(io::Error),
    #[error("talking to systemd: {0}")]
    Io(#[from] io::Error),
    /// The name is `org.freedesktop.systemd1.UnitExists` and the like.
    #[error("{message}")]
    Refused { name: String, message: String },
}

/// Whom a call is for.
#[derive(Clone, Copy)]
pub struct Object {
    pub destination: &'static str,
    pub path: &'static str,
    pub interface: &'static str,
}

const BUS_ITSELF: Object = Object {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// A connection on which calls can be made.
pub struct Connection {
    socket: UnixStream,
    serial: u32,
}

impl Connection {
    /// Connects to the system's bus, or else to systemd.
    pub fn open() -> Result<Self, CallError> {
        let bus = Self::authenticated(BUS).map_err(CallError::Connect).and_then(|mut bus| {
            bus.call(BUS_ITSELF, "Hello", "", &Body::default())?;
            Ok(bus)
        });
        bus.or_else(|_| Self::authenticated(DIRECT)).map_err(CallError::Connect)
    }

    fn authenticated(path: &str) -> io::Result<Self> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Self { socket, serial: 0 };
        let user = hex::encode(nix::unistd::geteuid().to_string());
        connection.socket.write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        if !connection.read_line()?.starts_with("OK ") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        connection.socket.write_all(b"BEGIN\r\n")?;
        Ok(connection)
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            let mut byte = [0];
            self.socket.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Calls a method and waits for its answer, whose content nobody here needs.
    pub fn call(
        &mut self,
        object: Object,
        method: &str,
        signature: &str,
        body: &Body,
    ) -> Result<(), CallError> {
        self.serial += 1;
        self.socket.write_all(&message(self.serial, object, method, signature, body))?;
        loop {
            let answer = self.receive()?;
            if answer.serial != Some(self.serial) {
                continue;
            }
            match answer.kind {
                RETURN => return Ok(()),
                ERROR => return Err(CallError::Refused { name: answer.name, message: answer.text }),
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> io::Result<Answer> {
        let mut start = [0; 16];
        self.socket.read_exact(&mut start)?;
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let mut reader = Reader { bytes: &start[4..], at: 0 };
        let (Some(body), Some(_), Some(fields)) = (reader.number(), reader.number(), reader.number()) else {
            return Err(malformed());
        };
        let (body, fields) = (body as usize, fields as usize);
        if start[0] != b'l' || body > MAX_MESSAGE || fields > MAX_MESSAGE {
            return Err(malformed());
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        self.socket.read_exact(&mut rest)?;
        let (header, body) = rest.split_at(fields.next_multiple_of(8));
        Answer::read(start[1], &header[..fields], body).ok_or_else(malformed)
    }
}

/// What is looked at of a message from systemd.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    kind: u8,
    /// The call that it answers.
    serial: Option<u32>,
    /// An error's.
    name: String,
    text: String,
}

impl Answer {
    fn read(kind: u8, header: &[u8], body: &[u8]) -> Option<Self> {
        let mut answer = Self { kind, ..Self::default() };
        let mut fields = Reader { bytes: header, at: 0 };
        let mut has_text = false;
        while fields.at < header.len() {
            fields.align(8);
            let (code, signature) = (fields.byte()?, fields.signature()?);
            match (signature.as_str(), code) {
                ("u", REPLY_SERIAL) => answer.serial = Some(fields.number()?),
                ("u", _) => drop(fields.number()?),
                ("g", SIGNATURE) => has_text = fields.signature()?.starts_with('s'),
                ("g", _) => drop(fields.signature()?),
                ("s", ERROR_NAME) => answer.name = fields.text()?,
                ("s" | "o", _) => drop(fields.text()?),
                _ => return None,
            }
        }
        if kind == ERROR && has_text {
            answer.text = Reader { bytes: body, at: 0 }.text()?;
        }
        Some(answer)
    }
}

/// Reads what a message holds, little-endian, each value aligned to its size.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte()?;
        Some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte()?;
        Some(text)
    }
}

/// The values of a message, put together one after the other.
#[derive(Debug, Default)]
pub struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub fn number(&mut self, value: u32) -> &mut Self {
        self.align(4);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn long(&mut self, value: u64) -> &mut Self {
        self.align(8);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn text(&mut self, value: &str) -> &mut Self {
        self.number(value.len() as u32);
        self.0.extend(value.as_bytes());
        self.byte(0)
    }

    pub fn signature(&mut self, value: &str) -> &mut Self {
        self.byte(value.len() as u8);
        self.0.extend(value.as_bytes());
        self.byte(0)
    }

    /// An array whose elements are aligned to `alignment`.
    pub fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) -> &mut Self {
        self.number(0);
        let length_at = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        elements(self);
        let length = (self.0.len() - start) as u32;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        self
    }

    /// Begins an element that is a structure.
    pub fn structure(&mut self) -> &mut Self {
        self.align(8);
        self
    }
}

fn message(serial: u32, object: Object, method: &str, signature: &str, body: &Body) -> Vec<u8> {
    let mut message = Body::default();
    message.byte(b'l').byte(CALL).byte(0).byte(1).number(body.0.len() as u32).number(serial);
    message.array(8, |fields| {
        for (code, kind, value) in [
            (PATH, "o", object.path),
            (INTERFACE, "s", object.interface),
            (MEMBER, "s", method),
            (DESTINATION, "s", object.destination),
        ] {
            fields.structure().byte(code).signature(kind).text(value);
        }
        if !signature.is_empty() {
            fields.structure().byte(SIGNATURE).signature("g").signature(signature);
        }
    });
    message.align(8);
    message.0.extend(&body.0);
    message.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one call after it has come in whole.
    fn answering(answers: &[Vec<u8>]) -> Connection {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        answers.iter().for_each(|answer| theirs.write_all(answer).unwrap());
        // The call must not fail for want of a reader.
        std::mem::forget(theirs);
        Connection { socket: ours, serial: 0 }
    }

    fn answer(kind: u8, serial: u32, fields: impl FnOnce(&mut Body), text: Option<&str>) -> Vec<u8> {
        let mut body = Body::default();
        text.map(|text| body.text(text));
        let mut message = Body::default();
        message.byte(b'l').byte(kind).byte(0).byte(1).number(body.0.len() as u32).number(77);
        message.array(8, |all| {
            all.structure().byte(REPLY_SERIAL).signature("u").number(serial);
            fields(all);
            if text.is_some() {
                all.structure().byte(SIGNATURE).signature("g").signature("s");
            }
        });
        message.align(8);
        message.0.extend(body.0);
        message.0
    }

    fn call(connection: &mut Connection) -> Result<(), CallError> {
        connection.call(BUS_ITSELF, "Hello", "", &Body::default())
    }

    #[test]
    fn an_answer_is_told_from_what_else_comes() {
        let signal = answer(4, 1, |_| {}, Some("a signal"));
        let earlier = answer(RETURN, 9, |_| {}, None);
        call(&mut answering(&[signal, earlier, answer(RETURN, 1, |_| {}, Some("/a/job"))])).unwrap();
    }

    #[test]
    fn a_refusal_has_a_name_and_a_text() {
        let name = |fields: &mut Body| {
            fields.structure().byte(ERROR_NAME).signature("s").text("org.example.UnitExists");
        };
        let refused = call(&mut answering(&[answer(ERROR, 1, name, Some("It exists."))])).unwrap_err();
        let CallError::Refused { name, message } = refused else { panic!("{refused}") };
        assert_eq!((name.as_str(), message.as_str()), ("org.example.UnitExists", "It exists."));
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(matches!(call(&mut answering(&[vec![b'B'; 64]])), Err(CallError::Io(_))));
        let mut long = answer(RETURN, 1, |_| {}, None);
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(call(&mut answering(&[long])), Err(CallError::Io(_))));
    }

    #[test]
    fn a_call_has_its_values_aligned() {
        let mut body = Body::default();
        body.text("ab").array(8, |all| {
            all.structure().text("k").signature("t").long(7);
        });
        let expected = [
            &[2, 0, 0, 0, b'a', b'b', 0][..],
            &[0, 24, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, b'k', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0],
            &[7, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(body.0, expected.concat());
        let message = message(3, BUS_ITSELF, "Hello", "", &Body::default());
        assert_eq!((message.len() % 8, message[8]), (0, 3));
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn an_error_is_read_as_it_was_written(
            serial in any::<u32>(),
            name in any::<String>(),
            text in any::<String>(),
        ) {
            let mut header = Body::default();
            header.byte(REPLY_SERIAL).signature("u").number(serial);
            header.align(8);
            header.byte(ERROR_NAME).signature("s").text(&name);
            header.align(8);
            header.byte(SIGNATURE).signature("g").signature("s");
            let mut body = Body::default();
            body.text(&text);
            let expected = Answer { kind: ERROR, serial: Some(serial), name, text };
            prop_assert_eq!(Answer::read(ERROR, &header.0, &body.0), Some(expected));
            // Cut anywhere it is none, or one that says less.
            for end in 0..header.0.len() {
                let _ = Answer::read(ERROR, &header.0[..end], &body.0[..end.min(body.0.len())]);
            }
        }

        #[test]
        fn any_bytes_are_an_answer_or_none(
            kind in 0..5u8,
            bytes in prop::collection::vec(prop_oneof![0..9u8, Just(b's'), Just(b'u'), Just(b'g'), any::<u8>()], 0..60),
        ) {
            let _ = Answer::read(kind, &bytes, &bytes);
        }
    }
}
