//! Names of containers: which are allowed, and those that are made up for containers without one.

use std::sync::LazyLock;

use regex::Regex;

use super::error::NameError;

static ALLOWED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("^/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$").expect("the pattern in this binary is valid")
});

/// Refuses a name that dockerd would refuse. The slash in front is optional.
pub fn check(name: &str) -> Result<(), NameError> {
    if ALLOWED.is_match(name) { Ok(()) } else { Err(NameError::Invalid(name.to_owned())) }
}

/// `adjective_surname`, with a digit from the second attempt on.
pub fn made_up(attempt: u32) -> String {
    let pick =
        |words: &[&'static str], byte: [u8; 2]| words[usize::from(u16::from_le_bytes(byte)) % words.len()];
    let mut bytes = [0u8; 5];
    // Without randomness the same name comes each time, and the caller falls back to the id.
    let _ = getrandom::fill(&mut bytes);
    let [a, b, c, d, e] = bytes;
    let name = format!("{}_{}", pick(&ADJECTIVES, [a, b]), pick(&SURNAMES, [c, d]));
    if attempt == 0 { name } else { format!("{name}{}", e % 10) }
}

const ADJECTIVES: [&str; 64] = [
    "able", "amber", "ample", "apt", "arctic", "avid", "balmy", "blithe", "bold", "brave", "breezy",
    "bright", "brisk", "calm", "candid", "careful", "cheery", "clever", "cosmic", "crisp", "curious",
    "daring", "deft", "eager", "early", "easy", "fair", "fleet", "fond", "frank", "gentle", "glad", "golden",
    "grand", "hardy", "honest", "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry",
    "mild", "neat", "nimble", "noble", "patient", "placid", "proud", "quick", "quiet", "ready", "robust",
    "serene", "sharp", "sincere", "steady", "sunny", "swift", "tidy", "vivid", "warm",
];

const SURNAMES: [&str; 64] = [
    "abel",
    "ampere",
    "babbage",
    "banach",
    "bell",
    "bernoulli",
    "bohr",
    "boole",
    "born",
    "cantor",
    "carson",
    "cauchy",
    "celsius",
    "chandrasekhar",
    "church",
    "curie",
    "darwin",
    "descartes",
    "dijkstra",
    "dirac",
    "einstein",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fourier",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "goodall",
    "hamilton",
    "hertz",
    "hilbert",
    "hopper",
    "hubble",
    "huygens",
    "joule",
    "kepler",
    "kovalevskaya",
    "lagrange",
    "laplace",
    "leibniz",
    "lovelace",
    "maxwell",
    "meitner",
    "mendel",
    "newton",
    "noether",
    "pascal",
    "pasteur",
    "planck",
    "poincare",
    "ramanujan",
    "riemann",
    "shannon",
    "tesla",
    "turing",
    "volta",
    "wiles",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_dockerd_checks_them() {
        for (name, good) in [
            ("ab", true),
            ("/a.b-c_1", true),
            ("a", false),
            ("_a", false),
            ("a b", false),
            ("", false),
            ("a/b", false),
        ] {
            assert_eq!(check(name).is_ok(), good, "{name}");
        }
        assert_eq!(
            check("/a").unwrap_err().to_string(),
            "Invalid container name (/a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn made_up_names_are_allowed() {
        for attempt in 0..3 {
            assert!(check(&made_up(attempt)).is_ok());
        }
    }
}
