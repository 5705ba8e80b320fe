//! Writes log lines as JSON at memory speed.
//!
//! Escapes as Go's jsonlog: `"`, `\`, control characters, `<`, `>`, `&`, U+2028 and U+2029; each byte that is not
//! UTF-8 becomes U+FFFD. Most lines are clean ASCII, so runs without any of these are found 32 bytes at a time and
//! copied whole.

const LANES: usize = 32;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `line` without quotes around it, escaped.
pub fn escape(out: &mut Vec<u8>, line: &[u8]) {
    let mut rest = line;
    loop {
        let clean = clean_prefix(rest);
        out.extend_from_slice(&rest[..clean]);
        rest = &rest[clean..];
        match rest.first() {
            None => return,
            Some(&byte) if byte < 0x80 => {
                escape_ascii(out, byte);
                rest = &rest[1..];
            }
            Some(_) => return escape_unicode(out, rest),
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

fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == b'<') | (byte == b'>') | (byte == b'&')
}

fn escape_ascii(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

fn escape_unicode(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        escape_valid(out, chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_valid(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = text.iter().position(|&byte| is_special(byte) || byte == 0xE2) {
        out.extend_from_slice(&text[..at]);
        let (taken, separator) = match &text[at..] {
            [0xE2, 0x80, last @ (0xA8 | 0xA9), ..] => (3, Some(*last)),
            _ => (1, None),
        };
        match (separator, text[at]) {
            (Some(last), _) => {
                out.extend_from_slice(&[b'\\', b'u', b'2', b'0', b'2', HEX[usize::from(last & 15)]])
            }
            (None, 0xE2) => out.push(0xE2),
            (None, byte) => escape_ascii(out, byte),
        }
        text = &text[at + taken..];
    }
    out.extend_from_slice(text);
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
