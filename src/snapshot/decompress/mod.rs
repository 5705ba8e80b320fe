//! From a layer as it was transferred to its tar stream. Memory is bounded by constants, never by what the stream
//! says: igzip's window is 32 KiB, a block of bzip2 900 kB, and zstd's and xz's may take up to 128 MiB. A stream that
//! ends early is an error, never a short success.

mod gzip;

use std::io::{self, Read};

use self::gzip::Gzip;

/// 2^27 bytes = 128 MiB: what the zstd tool decodes without being asked for more.
const WINDOW_LOG_MAX: u32 = 27;

/// As much for xz, whose strongest preset takes 65 MiB.
const XZ_MEMORY: u64 = 1 << WINDOW_LOG_MAX;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A bare tar stream.
    None,
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 8878, one frame or several, skippable ones too.
    Zstd,
    /// One stream or several.
    Bzip2,
    /// The .xz file format, one stream or several.
    Xz,
}

impl Compression {
    /// Tells by the first bytes (four are enough); what is not known counts as not compressed.
    pub fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// The uncompressed bytes of `source`. Ask for large pieces (256 KiB): igzip then writes straight to the buffer.
pub fn reader<'a>(
    compression: Compression,
    source: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(Gzip::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(source)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Compression::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(source)),
        Compression::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::read::XzDecoder::new_stream(source, stream))
        }
    })
}

#[cfg(test)]
mod tests;
