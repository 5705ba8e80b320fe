//! Netlink (RFC 3549): messages built attribute by attribute, and a socket that sends a batch and waits for the
//! kernel's answer. Routing and packet filter speak the same encoding, so one small encoder serves both.
//!
//! The kernel handles a request within the sending call, so a blocking socket costs no waiting: a batch is two
//! system calls.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendmsg, setsockopt,
    socket, sockopt,
};

/// The request flag; [`Message::new`] adds it.
pub const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
/// Asks for an acknowledgement.
pub const ACK: u16 = libc::NLM_F_ACK as u16;
/// Asks for all objects.
pub const DUMP: u16 = libc::NLM_F_DUMP as u16;
/// Makes an object that is missing.
pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
/// Fails if the object exists.
pub const EXCL: u16 = libc::NLM_F_EXCL as u16;
/// Adds to the end.
pub const APPEND: u16 = libc::NLM_F_APPEND as u16;

const HEADER: usize = 16;
/// The largest datagram that the kernel builds for a dump.
const RECEIVE: usize = 64 << 10;

/// Which part of the kernel a socket speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes (rtnetlink(7)).
    Route,
    /// The packet filter.
    Netfilter,
}

/// A request under construction.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Starts a message with its fixed part (`ifinfomsg`, `nfgenmsg`, …).
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    /// Appends an attribute.
    pub fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        self.head(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Appends a text, ended by NUL.
    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Appends a number in the host's byte order, as routing has them.
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network byte order, as the packet filter has them.
    pub fn number_be(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends an attribute that holds attributes.
    pub fn nest(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.head(kind | libc::NLA_F_NESTED as u16, 0);
        let mut message = inside(self);
        let length = (message.bytes.len() - start) as u16;
        message.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        message
    }

    /// Appends raw bytes: the fixed part inside a nested attribute.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Takes [`ACK`] back: failures are told all the same.
    pub fn unacknowledged(mut self) -> Self {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & !ACK;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    fn head(&mut self, kind: u16, value_length: usize) {
        self.bytes.extend_from_slice(&((4 + value_length) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = (self.bytes.len() as u32).to_ne_bytes();
        self.bytes[0..4].copy_from_slice(&length);
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }
}

/// One object that the kernel sent.
#[derive(Clone, Debug)]
pub struct Reply {
    pub kind: u16,
    /// The fixed part and the attributes.
    pub payload: Vec<u8>,
}

/// The attributes in `bytes`, flags stripped from their types. Ends at the first malformed one.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]));
        let kind = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]) & libc::NLA_TYPE_MASK as u16;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of this type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// A text attribute's value without its NUL.
pub fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

/// A number attribute's value in the host's byte order.
pub fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

/// A socket in the namespace that the opening thread was in, wherever it is used afterwards.
pub struct Socket {
    fd: OwnedFd,
    sequence: AtomicU32,
}

impl Socket {
    /// Opens a socket in the calling thread's namespace.
    pub fn open(family: Family) -> io::Result<Self> {
        Self::listen(family, 0)
    }

    /// Opens a socket that also hears what the kernel tells to these groups: bit 0 is group 1.
    pub fn listen(family: Family, groups: u32) -> io::Result<Self> {
        let protocol = match family {
            Family::Route => SockProtocol::NetlinkRoute,
            Family::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        // A batch of many elements is one datagram. The system's limit caps this silently.
        setsockopt(&fd, sockopt::SndBuf, &(1 << 20))?;
        Ok(Self { fd, sequence: AtomicU32::new(1) })
    }

    /// Sends the messages as one datagram and waits until the kernel has handled all of them. The error is that of
    /// the first message that failed; routing still handles those after it, the packet filter none of the batch.
    ///
    /// The last message must carry [`ACK`], unless it ends a batch whose last content message does.
    pub fn request(&self, mut messages: Vec<Message>) -> io::Result<()> {
        let first = self.sequence.fetch_add(messages.len() as u32, Ordering::Relaxed);
        let last_acked =
            messages.iter().rposition(|m| u16::from_ne_bytes([m.bytes[6], m.bytes[7]]) & ACK != 0);
        let Some(last_acked) = last_acked else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no message asks for an answer"));
        };
        self.send(&mut messages, first)?;
        let awaited = first.wrapping_add(last_acked as u32);
        let mut buffer = vec![0; 8 << 10];
        loop {
            for (sequence, kind, payload) in self.receive(&mut buffer)? {
                let ours = sequence.wrapping_sub(first) < messages.len() as u32;
                if !ours || kind != libc::NLMSG_ERROR as u16 {
                    continue;
                }
                error_of(payload)?;
                if sequence == awaited {
                    return Ok(());
                }
            }
        }
    }

    /// Sends one message and collects what the kernel sends back until it is done. For [`DUMP`], or a request for a
    /// single object that also carries [`ACK`].
    pub fn query(&self, message: Message) -> io::Result<Vec<Reply>> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.send(&mut [message], sequence)?;
        let mut replies = Vec::new();
        let mut buffer = vec![0; RECEIVE];
        loop {
            for (of, kind, payload) in self.receive(&mut buffer)? {
                match i32::from(kind) {
                    _ if of != sequence => {}
                    libc::NLMSG_DONE => return Ok(replies),
                    libc::NLMSG_ERROR => {
                        error_of(payload)?;
                        return Ok(replies);
                    }
                    _ => replies.push(Reply { kind, payload: payload.to_vec() }),
                }
            }
        }
    }

    /// Waits for what the kernel tells to the socket's groups. `ENOBUFS` when it had more to tell than was read.
    pub fn hear(&self) -> io::Result<Vec<Reply>> {
        let mut buffer = vec![0; RECEIVE];
        let heard = self.receive(&mut buffer)?;
        Ok(heard.map(|(_, kind, payload)| Reply { kind, payload: payload.to_vec() }).collect())
    }

    fn send(&self, messages: &mut [Message], first: u32) -> io::Result<()> {
        let parts: Vec<_> = messages
            .iter_mut()
            .enumerate()
            .map(|(n, message)| IoSlice::new(message.finish(first.wrapping_add(n as u32))))
            .collect();
        let kernel = NetlinkAddr::new(0, 0);
        retry(|| sendmsg(self.fd.as_raw_fd(), &parts, &[], MsgFlags::empty(), Some(&kernel)))?;
        Ok(())
    }

    fn receive<'b>(
        &self,
        buffer: &'b mut [u8],
    ) -> io::Result<impl Iterator<Item = (u32, u16, &'b [u8])> + use<'b>> {
        let length = retry(|| recv(self.fd.as_raw_fd(), buffer, MsgFlags::empty()))?;
        Ok(split(&buffer[..length]))
    }
}

/// The messages of a datagram: sequence number, type, payload.
fn split(datagram: &[u8]) -> impl Iterator<Item = (u32, u16, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(0..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
        let sequence = u32::from_ne_bytes(rest.get(8..12)?.try_into().ok()?);
        let payload = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((sequence, kind, payload))
    })
}

fn error_of(payload: &[u8]) -> io::Result<()> {
    let code = payload.get(0..4).and_then(|b| b.try_into().ok()).map_or(-libc::EPROTO, i32::from_ne_bytes);
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let message = Message::new(16, 0, &[1, 2, 3])
            .text(3, "eth0")
            .nest(18, |m| m.number(1, 7).number_be(2, 7))
            .attr(9, &[]);
        let body = &message.bytes[HEADER + 4..];
        let kinds: Vec<_> = attributes(body).map(|(kind, value)| (kind, value.len())).collect();
        assert_eq!(kinds, [(3, 5), (18, 16), (9, 0)]);
        assert_eq!(text(attribute(body, 3).unwrap()), "eth0");
        let nested = attribute(body, 18).unwrap();
        assert_eq!(number(attribute(nested, 1).unwrap()), Some(7));
        assert_eq!(attribute(nested, 2).unwrap(), 7u32.to_be_bytes());
    }

    #[test]
    fn malformed_attributes_end_the_list() {
        for bytes in [&[1u8, 0, 3, 0][..], &[9, 0, 3, 0, 1], &[0; 4], &[4, 0], &[]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn malformed_datagrams_end_the_list() {
        for bytes in [&[0u8; 16][..], &[255; 16], &[16, 0, 0, 0], &[]] {
            assert_eq!(split(bytes).count(), 0, "{bytes:?}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn messages_of_any_datagram_lie_inside_and_end(
            bytes in prop::collection::vec(prop_oneof![4 => Just(0), 2 => 0..40u8, 1 => any::<u8>()], 0..120),
        ) {
            let mut taken = 0;
            for (_, _, payload) in split(&bytes) {
                let _ = error_of(payload);
                taken += HEADER + payload.len();
            }
            prop_assert!(taken <= bytes.len());
        }

        #[test]
        fn messages_of_any_length_follow_each_other(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..10), 0..5),
        ) {
            let mut datagram = Vec::new();
            for (number, payload) in (0u32..).zip(&payloads) {
                datagram.extend(((HEADER + payload.len()) as u32).to_ne_bytes());
                datagram.extend([7, 0, 0, 0].into_iter().chain(number.to_ne_bytes()).chain([0; 4]));
                datagram.extend(payload);
                datagram.resize(datagram.len().next_multiple_of(4), 0);
            }
            let found: Vec<_> = split(&datagram).map(|(_, _, payload)| payload.to_vec()).collect();
            prop_assert_eq!(found, payloads);
        }
    }
}
