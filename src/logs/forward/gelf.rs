//! GELF 1.1 messages: JSON, over UDP compressed and in chunks, over TCP ended by a zero byte.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::address::Address;
use super::text;
use crate::logs::Stream;
use crate::logs::json_file::Entry;

/// The most that fits into a packet everywhere, header of a chunk included.
const PACKET: usize = 1420;
const CHUNK_HEADER: usize = 12;
const CHUNK_MAGIC: [u8; 2] = [0x1e, 0x0f];
/// More chunks than this are not accepted by servers.
const MOST_CHUNKS: usize = 128;
const INFO: u8 = 6;
const ERROR: u8 = 3;

/// How messages are written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gelf {
    pub hostname: String,
    pub compression: GelfCompression,
    /// 0 to 9.
    pub level: u32,
    /// Fields of every message, with their underscore.
    pub fields: BTreeMap<String, String>,
}

/// Of packets; streams are never compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum GelfCompression {
    None,
    Gzip,
    Zlib,
}

impl Gelf {
    /// The packets or the piece of a stream for an entry. What is too long even for chunks is left out.
    pub fn encode(&self, entry: &Entry<'_>, to: &Address) -> Vec<Vec<u8>> {
        let mut message = self.message(entry).to_string().into_bytes();
        if !to.is_datagram() {
            message.push(0);
            return vec![message];
        }
        let packed = self.packed(message);
        if packed.len() <= PACKET {
            return vec![packed];
        }
        chunks(&packed)
    }

    fn message(&self, entry: &Entry<'_>) -> Value {
        let level = if entry.stream == Stream::Stderr { ERROR } else { INFO };
        let milliseconds = entry.timestamp().nanos() / 1_000_000;
        let mut message = json!({
            "version": "1.1",
            "host": self.hostname,
            "short_message": String::from_utf8_lossy(text(entry).0),
            "timestamp": milliseconds as f64 / 1000.0,
            "level": level,
        });
        for (field, value) in &self.fields {
            message[field] = json!(value);
        }
        message
    }

    fn packed(&self, message: Vec<u8>) -> Vec<u8> {
        let level = Compression::new(self.level);
        let packed = match self.compression {
            GelfCompression::None => return message,
            GelfCompression::Gzip => {
                let mut gzip = GzEncoder::new(Vec::new(), level);
                gzip.write_all(&message).and_then(|()| gzip.finish())
            }
            GelfCompression::Zlib => {
                let mut zlib = ZlibEncoder::new(Vec::new(), level);
                zlib.write_all(&message).and_then(|()| zlib.finish())
            }
        };
        // Writing to memory does not fail; servers take plain messages too.
        packed.unwrap_or(message)
    }
}

fn chunks(packed: &[u8]) -> Vec<Vec<u8>> {
    let room = PACKET - CHUNK_HEADER;
    let count = packed.len().div_ceil(room);
    let mut id = [0; 8];
    if count > MOST_CHUNKS || getrandom::fill(&mut id).is_err() {
        return Vec::new();
    }
    let chunk = |(number, content): (usize, &[u8])| {
        let mut chunk = Vec::with_capacity(PACKET);
        chunk.extend_from_slice(&CHUNK_MAGIC);
        chunk.extend_from_slice(&id);
        chunk.extend_from_slice(&[number as u8, count as u8]);
        chunk.extend_from_slice(content);
        chunk
    };
    packed.chunks(room).enumerate().map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gelf(compression: GelfCompression) -> Gelf {
        let fields = BTreeMap::from([("_container_name".to_owned(), "box".to_owned())]);
        Gelf { hostname: "host".into(), compression, level: 1, fields }
    }

    fn entry(line: &[u8]) -> Entry<'_> {
        Entry { stream: Stream::Stderr, time: "1970-01-01T00:00:01.5Z", attrs: None, line }
    }

    #[test]
    fn a_message_has_the_fields_of_the_format() {
        let tcp = Address::Tcp(String::new());
        let mut piece = gelf(GelfCompression::Gzip).encode(&entry(b"text\n"), &tcp).remove(0);
        assert_eq!(piece.pop(), Some(0));
        let message: Value = serde_json::from_slice(&piece).unwrap();
        let expected = json!({"version": "1.1", "host": "host", "short_message": "text", "timestamp": 1.5,
                              "level": 3, "_container_name": "box"});
        assert_eq!(message, expected);
    }

    #[test]
    fn packets_are_compressed_and_long_ones_cut() {
        let udp = Address::Udp(String::new());
        let packets = gelf(GelfCompression::Gzip).encode(&entry(b"text\n"), &udp);
        assert_eq!((packets.len(), &packets[0][..2]), (1, &[0x1f, 0x8b][..]));
        let packets = gelf(GelfCompression::None).encode(&entry(&[b'x'; 5000]), &udp);
        assert_eq!(packets.len(), 4);
        let whole: Vec<u8> = packets.iter().flat_map(|packet| packet[CHUNK_HEADER..].to_vec()).collect();
        assert!(
            packets
                .iter()
                .all(|packet| packet.len() <= PACKET && packet[..2] == CHUNK_MAGIC && packet[11] == 4)
        );
        assert_eq!(
            serde_json::from_slice::<Value>(&whole).unwrap()["short_message"].as_str().unwrap().len(),
            5000
        );
    }
}
