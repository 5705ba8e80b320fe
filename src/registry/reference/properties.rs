//! Names against the grammar of the reference library, patterns against a matcher that tries everything.

use std::sync::LazyLock;

use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::base::testing::cases;

/// github.com/distribution/reference, regexp.go, with the one digest algorithm that is taken.
static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
    let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let domain = format!(r"(?:{label}(?:\.{label})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?");
    let component = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    let (tag, digest) = ("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}", "sha256:[a-f0-9]{64}");
    Regex::new(&format!("^(?:{domain}/)({component}(?:/{component})*)(?::{tag})?(?:@{digest})?$")).unwrap()
});

/// Texts that are names, or nearly.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[a-z0-9]{1,4}",
        4 => "[-._/:]",
        1 => r"[A-Z@\[\] é]",
        1 => Just("localhost".to_owned()),
        1 => Just("index.docker.io/".to_owned()),
        1 => Just("library/".to_owned()),
        1 => Just("[::1]:5000/".to_owned()),
        1 => Just("__".to_owned()),
        1 => Just(format!("@sha256:{}", "0a".repeat(32))),
    ];
    prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

/// Tries every way to match, one after the other.
fn slow_glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        ([b'*', rest @ ..], _) => {
            slow_glob(rest, text)
                || matches!(text, [first, after @ ..] if *first != b'/' && slow_glob(pattern, after))
        }
        (_, []) => false,
        (_, [first, after @ ..]) => {
            One::split(pattern).is_some_and(|(one, rest)| one.matches(*first) && slow_glob(rest, after))
        }
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_name_is_read_exactly_if_the_grammar_has_it(text in text()) {
        let (domain, rest) = split_domain(&text);
        let whole = format!("{domain}/{rest}");
        let named = GRAMMAR.captures(&whole);
        let fits = named.is_some_and(|found| domain.len() + 1 + found[1].len() <= NAME_LIMIT);
        prop_assert_eq!(text.parse::<Reference>().is_ok(), fits && !is_identifier(&text), "{}", text);
    }

    #[test]
    fn a_name_survives_being_written(text in text()) {
        let Ok(name) = text.parse::<Reference>() else { return Ok(()) };
        prop_assert_eq!(&name.to_string().parse::<Reference>().unwrap(), &name);
        // `docker.io/a.b/c` is shown as `a.b/c`, where a.b is a registry: so it is in the reference library too.
        let first = name.path().split('/').next().unwrap();
        let ambiguous = name.domain() == DEFAULT_DOMAIN && (first.contains('.') || first == "localhost");
        if !ambiguous {
            prop_assert_eq!(&name.familiar().parse::<Reference>().unwrap(), &name);
        }
        // The brackets of an address are those of a class in a pattern.
        prop_assert!(name.domain().starts_with('[') || name.matches(&name.familiar()));
    }

    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![any::<String>(), text(), "a@(sha256|[a-z0-9]{0,7}):[0-9aé]{0,70}"]) {
        let _ = text.parse::<Reference>();
        let _ = text.parse::<AnyReference>();
    }

    #[test]
    fn patterns_match_what_trying_everything_matches(
        pattern in r"([ab/?*]|\[[a\^b\]/-]{0,3}\]|\\.|\[){0,8}",
        text in "[ab/]{0,8}",
    ) {
        prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), slow_glob(pattern.as_bytes(), text.as_bytes()));
    }
}
