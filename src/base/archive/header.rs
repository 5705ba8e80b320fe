//! Fields of one 512-byte header block, by the layouts of the `tar` crate.

use tar::Header;

use super::ArchiveError;

pub(super) const BLOCK: usize = 512;

/// True when both sums that implementations use (bytes signed or unsigned) fail to match.
pub(super) fn is_corrupt(block: &[u8; BLOCK]) -> bool {
    let Ok(stated) = number("checksum", &block[148..156]) else { return true };
    let byte = |(i, b): (usize, &u8)| if (148..156).contains(&i) { b' ' } else { *b };
    let unsigned: i64 = block.iter().enumerate().map(|e| i64::from(byte(e))).sum();
    let signed: i64 = block.iter().enumerate().map(|e| i64::from(byte(e) as i8)).sum();
    stated != unsigned && stated != signed
}

/// A numeric field: octal text, or base 256 where the first bit is set. An empty field is 0.
pub(super) fn number(field: &'static str, bytes: &[u8]) -> Result<i64, ArchiveError> {
    let invalid = ArchiveError::Field { field };
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base256(bytes).ok_or(invalid),
        _ => octal(bytes).ok_or(invalid),
    }
}

/// A numeric field that cannot be negative.
pub(super) fn unsigned(field: &'static str, bytes: &[u8]) -> Result<u64, ArchiveError> {
    u64::try_from(number(field, bytes)?).map_err(|_| ArchiveError::Field { field })
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let digits = bytes[..end].trim_ascii();
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Big-endian two's complement in all bits but the first, which only marks the format.
fn base256(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (i, byte) in bytes.iter().enumerate() {
        let byte = if i > 0 {
            *byte
        } else if negative {
            byte | 0x80
        } else {
            byte & 0x7f
        };
        // 12 bytes at most: no overflow of 128 bits.
        value = (value << 8) | i128::from(byte);
    }
    i64::try_from(value).ok()
}

/// The name: with ustar's prefix, without what follows a NUL.
pub(super) fn path(header: &Header) -> Vec<u8> {
    let old = header.as_old();
    let name = text(&old.name);
    match header.as_ustar().map(|ustar| text(&ustar.prefix)) {
        Some(prefix) if !prefix.is_empty() => [prefix, b"/", name].concat(),
        _ => name.to_vec(),
    }
}

/// The target of a link.
pub(super) fn link(header: &Header) -> Vec<u8> {
    text(&header.as_old().linkname).to_vec()
}

/// The device's major and minor number as written: v7 headers have none.
pub(super) fn device(header: &Header) -> Result<(i64, i64), ArchiveError> {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (_, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        _ => return Ok((0, 0)),
    };
    Ok((number("devmajor", major)?, number("devminor", minor)?))
}

fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        let table: [(&[u8], Option<i64>); 12] = [
            (b"0000644\0", Some(0o644)),
            (b" 644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (b"77777777777\0", Some(0o77777777777)),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\x00", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
        ];
        for (field, value) in table {
            assert_eq!(number("x", field).ok(), value, "{field:?}");
        }
    }
}
