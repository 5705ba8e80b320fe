//! The multiplexed stream of attach, exec and logs without a TTY: an eight-byte header (stream, three zeros, length in
//! big-endian) before each payload (Engine API, "Stream format").

use super::Stream;

/// Length of a frame's header.
pub const HEADER: usize = 8;

/// What a frame carries; the discriminant is its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    /// A message of the engine itself, such as an error after the response has begun.
    System = 3,
}

impl From<Stream> for Channel {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

/// The header of a frame with `length` bytes of payload.
pub fn header(channel: Channel, length: u32) -> [u8; HEADER] {
    let [a, b, c, d] = length.to_be_bytes();
    [channel as u8, 0, 0, 0, a, b, c, d]
}

/// Appends one frame. A payload beyond 4 GiB − 1 cannot be expressed and is cut there.
pub fn append(out: &mut Vec<u8>, channel: Channel, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&header(channel, length));
    out.extend_from_slice(&payload[..length as usize]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_stream_three_zeros_length_and_payload() {
        let mut out = Vec::new();
        append(&mut out, Channel::from(Stream::Stderr), b"hi\n");
        assert_eq!(out, b"\x02\0\0\0\0\0\0\x03hi\n");
        assert_eq!(header(Channel::System, 0x0102_0304), [3, 0, 0, 0, 1, 2, 3, 4]);
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    /// Takes frames apart as the specification describes it.
    fn read(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((&[channel, 0, 0, 0, a, b, c, d], rest)) = bytes.split_first_chunk() {
            let (payload, rest) = rest.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
            frames.push((channel, payload.to_vec()));
            bytes = rest;
        }
        assert!(bytes.is_empty());
        frames
    }

    proptest! {
        #![proptest_config(cases(200))]

        #[test]
        fn frames_are_read_as_they_were_written(
            frames in prop::collection::vec((0..4u8, prop::collection::vec(any::<u8>(), 0..300)), 0..5),
        ) {
            let channels = [Channel::Stdin, Channel::Stdout, Channel::Stderr, Channel::System];
            let mut out = Vec::new();
            frames.iter().for_each(|(channel, payload)| append(&mut out, channels[usize::from(*channel)], payload));
            prop_assert_eq!(read(&out), frames);
        }
    }
}
