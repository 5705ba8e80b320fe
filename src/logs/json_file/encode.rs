//! Writes log lines as JSON at memory speed.
//!
//! Escapes as Go's jsonlog: `"`, `\`, control characters, `<`, `>`, `&`, U+2028 and U+2029; each byte that is not
//! UTF-8 becomes U+FFFD. Most lines are clean ASCII, so runs without any of these are found 32 bytes at a time and
//! copied whole. Where bytes are of all kinds, each is looked up in a table.

const LANES: usize = 32;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Bytes that are collected before they are appended.
const ROOM: usize = 1024;
/// The longest that one character or byte is written: `\u0000`.
const LONGEST: usize = 6;

/// Appends `line` without quotes around it, escaped.
pub fn escape(out: &mut Vec<u8>, line: &[u8]) {
    let mut rest = line;
    loop {
        let clean = clean_prefix(rest);
        out.extend_from_slice(&rest[..clean]);
        rest = &rest[clean..];
        match rest.first() {
            None => return,
            // Nearly every line has this and nothing else.
            Some(b'\n') => {
                out.extend_from_slice(b"\\n");
                rest = &rest[1..];
            }
            Some(&byte) if byte < 0x80 => {
                let (text, length) = &ASCII[usize::from(byte)];
                out.extend_from_slice(&text[..usize::from(*length)]);
                rest = &rest[1..];
            }
            Some(_) => rest = escape_mixed(out, rest),
        }
    }
}

/// Length of the longest prefix that is copied as it is.
fn clean_prefix(bytes: &[u8]) -> usize {
    let mut clean = 0;
    for lanes in bytes.chunks_exact(LANES) {
        // Without early exit inside, so that the compiler makes vector code of it.
        let dirty = lanes.iter().fold(false, |dirty, &byte| dirty | (is_special(byte) | (byte >= 0x80)));
        if dirty {
            break;
        }
        clean += LANES;
    }
    let tail = &bytes[clean..];
    clean + tail.iter().position(|&byte| is_special(byte) || byte >= 0x80).unwrap_or(tail.len())
}

const fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == b'<') | (byte == b'>') | (byte == b'&')
}

/// How each byte of ASCII is written, and the length of that.
static ASCII: [([u8; LONGEST], u8); 128] = {
    let mut table = [([0; LONGEST], 1); 128];
    let mut byte = 0;
    while byte < 128 {
        let text = byte as u8;
        table[byte as usize] = match text {
            b'"' | b'\\' => ([b'\\', text, 0, 0, 0, 0], 2),
            b'\n' => ([b'\\', b'n', 0, 0, 0, 0], 2),
            b'\r' => ([b'\\', b'r', 0, 0, 0, 0], 2),
            _ if is_special(text) => {
                ([b'\\', b'u', b'0', b'0', HEX[(text >> 4) as usize], HEX[(text & 15) as usize]], 6)
            }
            _ => ([text, 0, 0, 0, 0, 0], 1),
        };
        byte += 1;
    }
    table
};

/// Escapes `bytes` up to a run that is clean for so long that [`clean_prefix`] pays; returns what is left.
fn escape_mixed<'a>(out: &mut Vec<u8>, bytes: &'a [u8]) -> &'a [u8] {
    let mut text = [0; ROOM];
    let mut length = 0;
    let mut rest = bytes;
    let mut clean = 0;
    while clean < LANES
        && let [first, tail @ ..] = rest
    {
        if length + LONGEST > ROOM {
            out.extend_from_slice(&text[..length]);
            length = 0;
        }
        let (written, size, taken) = if *first < 0x80 {
            let (written, size) = ASCII[usize::from(*first)];
            (written, usize::from(size), 1)
        } else {
            high(rest)
        };
        text[length..length + LONGEST].copy_from_slice(&written);
        length += size;
        clean = if size == 1 { clean + 1 } else { 0 };
        rest = &tail[taken - 1..];
    }
    out.extend_from_slice(&text[..length]);
    rest
}

/// How the character beyond ASCII that `bytes` begin with is written, the length of that, and of the character.
#[inline(always)]
fn high(bytes: &[u8]) -> ([u8; LONGEST], usize, usize) {
    match width(bytes) {
        None => (*b"\\ufffd", LONGEST, 1),
        Some(3) if bytes[..2] == [0xE2, 0x80] && bytes[2] & 0xFE == 0xA8 => {
            ([b'\\', b'u', b'2', b'0', b'2', HEX[usize::from(bytes[2] & 15)]], LONGEST, 3)
        }
        Some(width) => {
            let mut text = [0; LONGEST];
            text[..width].copy_from_slice(&bytes[..width]);
            (text, width, width)
        }
    }
}

/// Length of the UTF-8 character beyond ASCII that `bytes` begin with, if there is one (RFC 3629, section 4).
#[inline(always)]
fn width(bytes: &[u8]) -> Option<usize> {
    let follows = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    if !follows(1) {
        return None;
    }
    match (bytes[0], bytes[1]) {
        (0xC2..=0xDF, _) => Some(2),
        (0xE0, 0xA0..=0xBF) | (0xE1..=0xEC | 0xEE | 0xEF, _) | (0xED, 0x80..=0x9F) if follows(2) => Some(3),
        (0xF0, 0x90..=0xBF) | (0xF1..=0xF3, _) | (0xF4, 0x80..=0x8F) if follows(2) && follows(3) => Some(4),
        _ => None,
    }
}

/// Where to cut a line longer than `limit`: there, or up to three bytes earlier where a UTF-8 character would be torn.
pub fn cut(bytes: &[u8], limit: usize) -> usize {
    let starts = |byte: u8| byte & 0xC0 != 0x80;
    let Some(back) = (1..=3).find(|back| *back <= limit && starts(bytes[limit - back])) else { return limit };
    let width = match bytes[limit - back] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    if width > back && limit > back { limit - back } else { limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(line: &[u8]) -> String {
        let mut out = Vec::new();
        escape(&mut out, line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_json_or_javascript_could_mistake_is_escaped_as_go_does() {
        for (line, json) in [
            (&b"plain"[..], "plain"),
            (b"a\"b\\c\n", r#"a\"b\\c\n"#),
            (b"\r\t\x00\x1b\x7f", "\\r\\u0009\\u0000\\u001b\x7f"),
            (b"<b>&", r"\u003cb\u003e\u0026"),
            ("é\u{2028}€\u{2029}😀\"".as_bytes(), "é\\u2028€\\u2029😀\\\""),
            (b"\xff\xe2\x82a\xc3", r"\ufffd\ufffd\ufffda\ufffd"),
        ] {
            assert_eq!(escaped(line), json);
        }
    }

    #[test]
    fn every_text_survives_a_json_parser() {
        let all: String = (1..0x3000).filter_map(char::from_u32).collect();
        for start in 0..40 {
            let text: String = all.chars().skip(start).collect();
            let json = format!("\"{}\"", escaped(text.as_bytes()));
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn a_cut_never_tears_a_character() {
        let text = "aé€😀".as_bytes();
        let cuts: Vec<_> = (1..=text.len()).map(|limit| cut(text, limit)).collect();
        assert_eq!(cuts, [1, 1, 3, 3, 3, 6, 6, 6, 6, 10]);
        assert_eq!(cut(b"\x80\x80\x80\x80\x80", 4), 4);
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    /// Text with bytes that are none, of lengths around those that vector code takes at once.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => any::<String>().prop_map(String::into_bytes),
            4 => "[a-z]{1,70}".prop_map(String::into_bytes),
            2 => "[<>&\"\\\\\u{2028}\u{2029}\r\n\t\u{1}é€😀]{1,5}".prop_map(String::into_bytes),
            2 => prop::collection::vec(any::<u8>(), 1..6),
            1 => Just(vec![0xff; 300]),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    /// The text that Go takes the bytes for: each that belongs to no character is one replacement character.
    fn lossy(line: &[u8]) -> String {
        let chunk = |chunk: std::str::Utf8Chunk<'_>| {
            format!("{}{}", chunk.valid(), "\u{fffd}".repeat(chunk.invalid().len()))
        };
        line.utf8_chunks().map(chunk).collect()
    }

    /// What Go's encoding/json escapes beyond what serde_json does.
    fn go(json: &str) -> String {
        let escaped = ['<', '>', '&', '\u{2028}', '\u{2029}'];
        let json = escaped.iter().fold(json.to_owned(), |json, letter| {
            json.replace(*letter, &format!("\\u{:04x}", u32::from(*letter)))
        });
        json.replace("\\t", "\\u0009").replace("\\b", "\\u0008").replace("\\f", "\\u000c")
    }

    proptest! {
        #![proptest_config(cases(1000))]

        #[test]
        fn lines_are_escaped_as_go_escapes_them(line in line()) {
            let mut out = b"kept".to_vec();
            escape(&mut out, &line);
            let out = String::from_utf8(out).unwrap();
            let text = lossy(&line);
            let read: String = serde_json::from_str(&format!("\"{}\"", &out[4..])).unwrap();
            prop_assert_eq!(&read, &text);
            // A backslash of the text itself is no escape that Go writes in another way.
            if !text.contains(['\\', '\u{fffd}']) {
                prop_assert_eq!(format!("\"{}\"", &out[4..]), go(&serde_json::to_string(&text).unwrap()));
            }
        }

        #[test]
        fn a_cut_is_near_the_limit_and_tears_no_character(
            text in ".{2,30}",
            bytes in prop::collection::vec(any::<u8>(), 2..40),
            at in any::<prop::sample::Index>(),
        ) {
            for (bytes, is_text) in [(text.as_bytes(), true), (&bytes, false)] {
                let limit = at.index(bytes.len() - 1) + 1;
                let cut = cut(bytes, limit);
                prop_assert!(cut >= 1 && cut <= limit && limit - cut <= 3);
                prop_assert!(!is_text || limit < 4 || text.is_char_boundary(cut), "{} {}", text, limit);
            }
        }
    }
}
