//! An instruction's line: its word, flags and arguments. What the arguments mean is not known here.

use super::InvalidChange;

/// What separates words on a line.
const BLANKS: [char; 5] = ['\t', '\x0b', '\x0c', '\r', ' '];

/// A line taken apart.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// As it was typed.
    pub word: &'a str,
    /// Each as `--name=value`.
    pub flags: Vec<String>,
    pub arguments: Arguments,
    /// All that follows the word, with the blanks at its end.
    pub rest: &'a str,
}

/// What is left of a line after its flags.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arguments {
    Words(Vec<String>),
    /// The strings of a JSON list.
    Json(Vec<String>),
    Pairs(Vec<(String, String)>),
}

impl<'a> Line<'a> {
    /// Takes a line apart, as its instruction wants it; `escape` is the letter that takes from the next what it means.
    pub fn read(line: &'a str, escape: char) -> Result<Self, InvalidChange> {
        let (line, text) = Self::split(line);
        let arguments = match line.is("ONBUILD") {
            true => inner(text, escape)?,
            false => arguments(line.word, text, escape)?,
        };
        Ok(Self { arguments, ..line })
    }

    /// True for the instruction of this name, in capitals.
    pub fn is(&self, name: &str) -> bool {
        self.word.eq_ignore_ascii_case(name)
    }

    fn split(line: &'a str) -> (Self, &'a str) {
        let (word, rest) = line.trim_start().split_once(BLANKS).unwrap_or((line.trim(), ""));
        let rest = rest.trim_start_matches(BLANKS);
        let (flags, text) = flags(rest);
        (Self { word, flags, arguments: Arguments::Words(Vec::new()), rest }, text.trim())
    }
}

impl Arguments {
    /// The words, of which an instruction wants some.
    pub fn some(self, instruction: &'static str) -> Result<Vec<String>, InvalidChange> {
        match self {
            Self::Words(words) | Self::Json(words) if !words.is_empty() => Ok(words),
            _ => Err(InvalidChange::Missing(instruction)),
        }
    }

    /// The only word.
    pub fn one(self, instruction: &'static str) -> Result<String, InvalidChange> {
        match self {
            Self::Words(words) => words.into_iter().next(),
            Self::Json(_) | Self::Pairs(_) => None,
        }
        .ok_or(InvalidChange::NotOne(instruction))
    }

    /// The pairs, of which an instruction wants some.
    pub fn pairs(self, instruction: &'static str) -> Result<Vec<(String, String)>, InvalidChange> {
        match self {
            Self::Pairs(pairs) if pairs.iter().any(|(name, _)| name.is_empty()) => {
                Err(InvalidChange::Blank(instruction))
            }
            Self::Pairs(pairs) if !pairs.is_empty() => Ok(pairs),
            _ => Err(InvalidChange::Missing(instruction)),
        }
    }
}

/// The flags that stand before the arguments, and these.
fn flags(mut text: &str) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    loop {
        text = text.trim_start();
        if !text.starts_with("--") {
            return (flags, text);
        }
        let (flag, rest) = flag(text);
        text = rest;
        if flag == "--" {
            return (flags, text);
        }
        flags.push(flag);
    }
}

/// A word without its quotes and what escapes letters, and what is after it.
fn flag(text: &str) -> (String, &str) {
    let (mut word, mut quote) = (String::new(), None);
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (None, blank) if blank.is_whitespace() => return (word, &text[at..]),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            (_, '\\') => word.extend(letters.next().map(|(_, escaped)| escaped)),
            (_, letter) => word.push(letter),
        }
    }
    (word, "")
}

fn arguments(word: &str, text: &str, escape: char) -> Result<Arguments, InvalidChange> {
    let one = || Arguments::Words(if text.is_empty() { Vec::new() } else { vec![text.to_owned()] });
    Ok(match word.to_ascii_uppercase().as_str() {
        "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" => json(text)?.map_or_else(one, Arguments::Json),
        "VOLUME" | "ADD" | "COPY" => {
            json(text)?.map_or_else(|| Arguments::Words(split(text)), Arguments::Json)
        }
        "ENV" | "LABEL" => Arguments::Pairs(pairs(word, words(text, escape), text)?),
        "EXPOSE" | "FROM" => Arguments::Words(split(text)),
        "HEALTHCHECK" => probe(text)?,
        _ => one(),
    })
}

/// The instruction that another one is about, which is read as far as to see that it can be.
fn inner(text: &str, escape: char) -> Result<Arguments, InvalidChange> {
    if text.is_empty() {
        return Ok(Arguments::Words(Vec::new()));
    }
    let (line, rest) = Line::split(text);
    // One within another is refused later, however many there are.
    arguments(line.word, rest, escape)?;
    Ok(Arguments::Words(vec![line.word.to_owned()]))
}

/// `CMD command`, where the command may be a list.
fn probe(text: &str) -> Result<Arguments, InvalidChange> {
    let (kind, command) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let command = command.trim_start();
    let with = |rest: Vec<String>| std::iter::once(kind.to_owned()).chain(rest).collect();
    Ok(match json(command)? {
        _ if kind.is_empty() => Arguments::Words(Vec::new()),
        Some(list) => Arguments::Json(with(list)),
        None if command.is_empty() => Arguments::Words(with(Vec::new())),
        None => Arguments::Words(with(vec![command.to_owned()])),
    })
}

/// The strings of a list; `None` for what is no JSON, which is fine, but other values in a list are not.
fn json(text: &str) -> Result<Option<Vec<String>>, InvalidChange> {
    let Ok(list) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    let strings = list.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(InvalidChange::NotStrings),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

fn split(text: &str) -> Vec<String> {
    text.split(BLANKS).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `name=value name2="a b"`, or the old `name all the rest`; quotes stay.
fn pairs(instruction: &str, words: Vec<String>, text: &str) -> Result<Vec<(String, String)>, InvalidChange> {
    let old = words.first().is_some_and(|first| !first.contains('='));
    if old {
        let pair = text.split_once(BLANKS);
        let (name, value) =
            pair.ok_or_else(|| InvalidChange::OneArgument(instruction.to_ascii_uppercase()))?;
        return Ok(vec![(name.to_owned(), value.trim_start_matches(BLANKS).to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(InvalidChange::Pair(word)),
    };
    words.into_iter().map(pair).collect()
}

/// Words as a shell would split them, with their quotes and what escapes letters. One that ends a line is left out.
fn words(text: &str, escape: char) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, blank) if blank.is_whitespace() => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
                continue;
            }
            (Some('"') | None, escaping) if escaping == escape => {
                let Some(escaped) = letters.next() else { break };
                word.push(letter);
                word.push(escaped);
                continue;
            }
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            _ => {}
        }
        word.push(letter);
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}
