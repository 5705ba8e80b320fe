//! Quotes, escapes and variables in an instruction's words, much as a shell takes them.

use std::iter::Peekable;
use std::str::Chars;

use super::InvalidChange;

/// How deep variables may stand in what takes the place of others: more than anybody writes.
const DEEPEST: usize = 32;

/// What words are read with.
#[derive(Clone, Copy)]
pub(super) struct Expander<'a> {
    /// `NAME=value`; the last of two counts.
    pub env: &'a [String],
    /// The letter that takes from the next one what it means.
    pub escape: char,
}

/// Why a word cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("unexpected end of statement while looking for matching {0}")]
    Quote(&'static str),
    #[error("syntax error: missing '}}'")]
    Brace,
    #[error("syntax error: bad substitution")]
    Substitution,
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    #[error("{name}: {message}")]
    Demanded { name: String, message: String },
    #[error("more than {DEEPEST} substitutions stand within each other")]
    Deep,
}

/// What a word comes to: as it is, and split at the blanks that stand in no quotes.
#[derive(Default)]
struct Expanded {
    text: String,
    words: Vec<String>,
    word: String,
}

struct Reader<'a> {
    with: Expander<'a>,
    letters: Peekable<Chars<'a>>,
    depth: usize,
}

impl Expander<'_> {
    /// What a word comes to.
    pub fn text(self, word: &str) -> Result<String, InvalidChange> {
        Ok(self.read(word)?.text)
    }

    /// The words that one comes to: variables may hold several.
    pub fn words(self, word: &str) -> Result<Vec<String>, InvalidChange> {
        let mut read = self.read(word)?;
        read.end_word();
        Ok(read.words)
    }

    fn read(self, word: &str) -> Result<Expanded, InvalidChange> {
        let mut reader = Reader { with: self, letters: word.chars().peekable(), depth: 0 };
        reader.until(None).map_err(|cause| InvalidChange::Word { word: word.to_owned(), cause })
    }
}

impl Expanded {
    fn quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn plain(&mut self, text: &str) {
        self.text.push_str(text);
        for letter in text.chars() {
            match letter.is_whitespace() {
                true => self.end_word(),
                false => self.word.push(letter),
            }
        }
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }
}

impl Reader<'_> {
    /// To the end, or to a letter, which is taken.
    fn until(&mut self, stop: Option<char>) -> Result<Expanded, Unreadable> {
        let mut read = Expanded::default();
        let mut buffer = [0; 4];
        while let Some(letter) = self.letters.next() {
            match letter {
                letter if stop == Some(letter) => return Ok(read),
                '\'' => read.quoted(&self.single_quoted()?),
                '"' => read.quoted(&self.double_quoted()?),
                '$' => read.plain(&self.variable()?),
                letter if letter == self.with.escape => {
                    // The last letter escapes nothing.
                    let Some(escaped) = self.letters.next() else { break };
                    read.quoted(escaped.encode_utf8(&mut buffer));
                }
                letter => read.plain(letter.encode_utf8(&mut buffer)),
            }
        }
        if stop.is_some() { Err(Unreadable::Brace) } else { Ok(read) }
    }

    fn single_quoted(&mut self) -> Result<String, Unreadable> {
        let mut text = String::new();
        loop {
            match self.letters.next() {
                None => return Err(Unreadable::Quote("single-quote")),
                Some('\'') => return Ok(text),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, Unreadable> {
        let (mut text, escape) = (String::new(), self.with.escape);
        loop {
            match self.letters.next() {
                None => return Err(Unreadable::Quote("double-quote")),
                Some('"') => return Ok(text),
                Some('$') => text.push_str(&self.variable()?),
                Some(letter) if letter == escape => {
                    let special = |next: &char| matches!(*next, '"' | '$') || *next == escape;
                    match self.letters.next_if(special) {
                        Some(escaped) => text.push(escaped),
                        None if self.letters.peek().is_none() => {}
                        None => text.push(letter),
                    }
                }
                Some(letter) => text.push(letter),
            }
        }
    }

    /// What is after the dollar sign.
    fn variable(&mut self) -> Result<String, Unreadable> {
        if self.letters.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        match self.letters.peek() {
            None => Err(Unreadable::Brace),
            Some('{' | '}' | ':') => Err(Unreadable::Substitution),
            Some(_) => self.in_braces(),
        }
    }

    /// `NAME}`, or with what to take in its place: `NAME:-other}`.
    fn in_braces(&mut self) -> Result<String, Unreadable> {
        let name = self.name();
        let mut modifier = String::new();
        let mut next =
            || self.letters.next().inspect(|letter| modifier.push(*letter)).ok_or(Unreadable::Brace);
        let (kind, empty_counts) = match next()? {
            '}' => return Ok(self.value(&name).unwrap_or_default()),
            ':' => (next()?, false),
            kind => (kind, true),
        };
        if !matches!(kind, '+' | '-' | '?') {
            return Err(Unreadable::Modifier(modifier));
        }
        let other = self.nested()?;
        let value = self.value(&name).filter(|value| empty_counts || !value.is_empty());
        match (kind, value) {
            ('+', Some(_)) => Ok(other),
            ('+', None) => Ok(String::new()),
            ('?', None) => Err(self.demanded(name, other)),
            (_, value) => Ok(value.unwrap_or(other)),
        }
    }

    fn nested(&mut self) -> Result<String, Unreadable> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Unreadable::Deep);
        }
        let text = self.until(Some('}'))?.text;
        self.depth -= 1;
        Ok(text)
    }

    fn demanded(&self, name: String, message: String) -> Unreadable {
        let usual = match self.value(&name) {
            Some(_) => "is not allowed to be empty",
            None => "is not allowed to be unset",
        };
        let message = if message.is_empty() { usual.to_owned() } else { message };
        Unreadable::Demanded { name, message }
    }

    /// Letters and digits, or digits only, or one of a shell's own, which are never set.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let first = self.letters.peek().copied();
        if let Some(special) = first.filter(|letter| "@*#?-$!".contains(*letter)) {
            self.letters.next();
            return special.into();
        }
        let number = first.is_some_and(char::is_numeric);
        let belongs =
            |letter: &char| letter.is_numeric() || !number && (letter.is_alphabetic() || *letter == '_');
        while let Some(letter) = self.letters.next_if(belongs) {
            name.push(letter);
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        let pair = |entry: &'_ String| entry.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        self.with.env.iter().rev().find_map(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(env: &[String]) -> Expander<'_> {
        Expander { env, escape: '\\' }
    }

    #[test]
    fn a_word_comes_to_what_it_would_for_a_shell() {
        let env = ["A=first", "A=a b", "E=", "N=1"].map(str::to_owned);
        for (word, text) in [
            ("plain", "plain"),
            ("'a \\ $A'", "a \\ $A"),
            (r#""a \" \$ \\ \x $N""#, r#"a " $ \ \x 1"#),
            (r"a\ b\$A\", "a b$A"),
            ("$A-${N}-$X-$1-$@-$", "a b-1----$"),
            ("${X-x}${E-x}${E:-y}${X:-$N}", "xy1"),
            ("${X+x}${E+e}${E:+y}${N:+${A}}", "ea b"),
            ("${N?no}${E?no}", "1"),
            ("$Nx$", "$"),
            ("é$N", "é1"),
        ] {
            assert_eq!(with(&env).text(word).unwrap(), text, "{word}");
        }
        for (word, words) in [("$A", &["a", "b"] as &[&str]), ("\"$A\"x", &["a bx"]), ("''$X", &[])] {
            assert_eq!(with(&env).words(word).unwrap(), words, "{word}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_cause() {
        for (word, cause) in [
            ("'a", "unexpected end of statement while looking for matching single-quote"),
            ("\"a\\", "unexpected end of statement while looking for matching double-quote"),
            ("${", "syntax error: missing '}'"),
            ("${A", "syntax error: missing '}'"),
            ("${A:-x", "syntax error: missing '}'"),
            ("${}", "syntax error: bad substitution"),
            ("${A=x}", "unsupported modifier (=) in substitution"),
            ("${A:x}", "unsupported modifier (:x) in substitution"),
            ("${A?}", "A: is not allowed to be unset"),
            ("${A:?say}", "A: say"),
        ] {
            let error = with(&[]).text(word).unwrap_err();
            assert_eq!(error.to_string(), format!("failed to process {word:?}: {cause}"));
        }
        let deep = format!("{}{}", "${A:-".repeat(10_000), "}".repeat(10_000));
        assert!(with(&[]).text(&deep).unwrap_err().to_string().ends_with("stand within each other"));
    }
}
