//! Fluentd's forward protocol, message mode: `[tag, time, record, option]` in MessagePack.

use std::collections::BTreeMap;

use rmp::encode::{self, ByteBuf};
use serde::{Deserialize, Serialize};

use super::text;
use crate::logs::json_file::Entry;

/// Extension type of a time with nanoseconds.
const EVENT_TIME: i8 = 0;

/// How messages are written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fluentd {
    pub tag: String,
    pub sub_second: bool,
    /// Fields of every record.
    pub fields: BTreeMap<String, String>,
}

impl Fluentd {
    /// A message.
    pub fn encode(&self, entry: &Entry<'_>) -> Vec<u8> {
        let (text, goes_on) = text(entry);
        let mut out = ByteBuf::new();
        // Writing to memory does not fail: the error type is empty.
        let Ok(()) = self.write(entry, text, goes_on, &mut out);
        out.into_vec()
    }

    fn write(
        &self,
        entry: &Entry<'_>,
        text: &[u8],
        goes_on: bool,
        out: &mut ByteBuf,
    ) -> Result<(), encode::ValueWriteError<std::convert::Infallible>> {
        encode::write_array_len(out, 4)?;
        encode::write_str(out, &self.tag)?;
        let nanos = entry.timestamp().nanos();
        let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
        if self.sub_second {
            encode::write_ext_meta(out, 8, EVENT_TIME)?;
            let both = (seconds as u64) << 32 | nanos as u64;
            out.as_mut_vec().extend_from_slice(&both.to_be_bytes());
        } else {
            encode::write_sint(out, seconds)?;
        }
        encode::write_map_len(out, self.fields.len() as u32 + 2 + u32::from(goes_on))?;
        for (key, value) in &self.fields {
            encode::write_str(out, key)?;
            encode::write_str(out, value)?;
        }
        encode::write_str(out, "source")?;
        encode::write_str(out, entry.stream.as_str())?;
        encode::write_str(out, "log")?;
        encode::write_str(out, &String::from_utf8_lossy(text))?;
        if goes_on {
            encode::write_str(out, "partial_message")?;
            encode::write_str(out, "true")?;
        }
        encode::write_map_len(out, 0)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Stream;

    #[test]
    fn a_message_is_tag_time_record_and_option() {
        let fields = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let mut fluentd = Fluentd { tag: "t".into(), sub_second: false, fields };
        let entry = Entry {
            stream: Stream::Stdout,
            time: "1970-01-01T00:00:05.000000007Z",
            attrs: None,
            line: b"x\n",
        };
        let plain = b"\x94\xa1t\x05\x83\xa1a\xa1b\xa6source\xa6stdout\xa3log\xa1x\x80";
        assert_eq!(fluentd.encode(&entry), plain);
        fluentd.sub_second = true;
        let exact = fluentd.encode(&entry);
        assert_eq!(&exact[3..13], b"\xd7\x00\x00\x00\x00\x05\x00\x00\x00\x07");
        let piece = Entry { line: b"x", ..entry };
        assert!(fluentd.encode(&piece).windows(15).any(|bytes| bytes == b"partial_message"));
    }
}
