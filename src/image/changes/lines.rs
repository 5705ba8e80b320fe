//! The lines of a Dockerfile: comments are left out, and what goes on in the next line is one line.

use super::InvalidChange;

/// What lines must be shorter than.
const LIMIT: usize = 64 << 10;
/// What a first line may say of the file, in a comment.
const DIRECTIVES: [&str; 3] = ["check", "escape", "syntax"];

/// Lines, and the letter that takes from the next one what it means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub lines: Vec<String>,
    pub escape: char,
}

/// Reads the lines, of which there must be one at least.
pub(super) fn read(text: &str) -> Result<Source, InvalidChange> {
    let mut source = Source { lines: Vec::new(), escape: '\\' };
    let mut directives = Some(Vec::new());
    let mut open: Option<String> = None;
    for line in text.strip_prefix('\u{feff}').unwrap_or(text).split('\n') {
        if line.len() >= LIMIT {
            return Err(InvalidChange::Long(LIMIT - 1));
        }
        let line = line.trim_end_matches('\r');
        let begin = line.trim_start();
        let seen = directives.take();
        directives = seen.map(|seen| directive(begin, seen, &mut source.escape)).transpose()?.flatten();
        if begin.starts_with('#') || begin.is_empty() {
            continue;
        }
        // Of a line that goes on, the blanks before what it goes on with stay.
        let (mut whole, next) = open.take().map_or((String::new(), begin), |whole| (whole, line));
        let (part, goes_on) = part(next, source.escape);
        whole.push_str(part);
        match goes_on {
            true => open = Some(whole),
            false => source.lines.push(whole),
        }
    }
    source.lines.extend(open);
    if source.lines.is_empty() { Err(InvalidChange::Nothing) } else { Ok(source) }
}

/// What is said of the file by a line, if all before it say something too: that names those seen so far, and no more
/// are looked for once one does not.
fn directive(
    line: &str,
    mut seen: Vec<String>,
    escape: &mut char,
) -> Result<Option<Vec<String>>, InvalidChange> {
    let Some((name, value)) = line.strip_prefix('#').and_then(|comment| comment.split_once('=')) else {
        return Ok(None);
    };
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
    if value.is_empty() || !DIRECTIVES.contains(&name.as_str()) {
        return Ok(None);
    }
    if seen.contains(&name) {
        return Err(InvalidChange::SecondDirective(name));
    }
    if name == "escape" {
        *escape = match value {
            "\\" => '\\',
            "`" => '`',
            other => return Err(InvalidChange::Escape(other.to_owned())),
        };
    }
    seen.push(name);
    Ok(Some(seen))
}

/// A line without what says that it goes on, and whether it does.
fn part(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        // Two of them are one that is meant.
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_comments_left_out() {
        for (text, lines) in [
            ("A b\nC", &["A b", "C"] as &[&str]),
            ("\u{feff}  A b  \r\n\n\t\n", &["A b  "]),
            ("# a\nA b\n  # c \\\nC", &["A b", "C"]),
            ("A \\\n  b \\ \t\n\n# no\nc", &["A   b c"]),
            ("A b\\", &["A b"]),
            ("A b\\\\\nC", &["A b\\\\", "C"]),
            ("\\", &[""]),
            ("# escape=`\nA b`\nc\\\nD", &["A bc\\", "D"]),
            ("# SYNTAX = x\n# escape = `\nA`\nb", &["Ab"]),
            ("# other=x\n# escape=`\nA`\nb", &["A`", "b"]),
        ] {
            assert_eq!(read(text).unwrap().lines, lines, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for (text, words) in [
            ("", "file with no instructions"),
            (" \n# a", "file with no instructions"),
            ("#escape=x\nA", "invalid escape token 'x' does not match ` or \\"),
            ("#escape=`\n#escape=`\nA", "only one escape parser directive can be used"),
            (&format!("A {}", "a".repeat(LIMIT)), "dockerfile line greater than max allowed size of 65535"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), words, "{text:.20}");
        }
    }
}
