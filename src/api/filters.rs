//! The `filters` parameter: values by key, and the ways in which dockerd compares them.
//!
//! Both JSON forms are read: `{"label":{"a=b":true}}` of Go clients and `{"label":["a=b"]}` of docker-py and people.
//! Knows no endpoint; which keys there are and how each matches is the handler's.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::Deserialize;

/// Several values of one key are alternatives (labels excepted); different keys must all match.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

/// Filters that are no filters, in dockerd's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilters {
    #[error("invalid filter")]
    Syntax,
    #[error("invalid filter '{0}'")]
    UnknownKey(String),
    #[error("invalid filter '{key}={values}'")]
    Value { key: String, values: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    /// The value behind each does not count, `false` neither.
    Map(BTreeMap<String, serde::de::IgnoredAny>),
    List(Vec<String>),
    Nothing(()),
}

impl Filters {
    /// Reads the JSON of the parameter.
    pub fn parse(text: &str) -> Result<Self, InvalidFilters> {
        let read: Option<BTreeMap<String, Values>> =
            serde_json::from_str(text).map_err(|_| InvalidFilters::Syntax)?;
        let sets = read.unwrap_or_default().into_iter().map(|(key, values)| match values {
            Values::Map(map) => (key, map.into_keys().collect()),
            Values::List(list) => (key, list.into_iter().collect()),
            Values::Nothing(()) => (key, BTreeSet::new()),
        });
        Ok(Self(sets.collect()))
    }

    /// Refuses keys that are not in `known`.
    pub fn allow(&self, known: &[&str]) -> Result<(), InvalidFilters> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(InvalidFilters::UnknownKey(key.clone())),
            None => Ok(()),
        }
    }

    /// Asks for one more value.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_default().insert(value.to_owned());
    }

    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `key` has any value.
    pub fn contains(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| !values.is_empty())
    }

    /// The values of `key` in order, none if it is absent.
    pub fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// The one value of a key that makes no sense with several.
    pub fn single(&self, key: &str) -> Result<Option<&str>, InvalidFilters> {
        let mut values = self.values(key);
        match (values.next(), values.next()) {
            (found, None) => Ok(found),
            (_, Some(_)) => Err(self.invalid(key)),
        }
    }

    /// A boolean value: `1`, `true`, `0` or `false`.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, InvalidFilters> {
        let Some(values) = self.0.get(key) else { return Ok(None) };
        let is = |words: [&str; 2]| words.iter().any(|word| values.contains(*word));
        match (is(["1", "true"]), is(["0", "false"])) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => Err(self.invalid(key)),
        }
    }

    /// The error about the values of `key`.
    pub fn invalid(&self, key: &str) -> InvalidFilters {
        // Go prints a list of texts so: [a b].
        let values = self.values(key).collect::<Vec<_>>().join(" ");
        InvalidFilters::Value { key: key.to_owned(), values: format!("[{values}]") }
    }

    /// The key is absent or one of its values equals `text`.
    pub fn exact(&self, key: &str, text: &str) -> bool {
        !self.contains(key) || self.values(key).any(|value| value == text)
    }

    /// The key is absent or one of its values begins `text`: how ids are compared.
    pub fn prefix(&self, key: &str, text: &str) -> bool {
        !self.contains(key) || self.values(key).any(|value| text.starts_with(value))
    }

    /// The values of `key` as regular expressions, to be made once for all texts that they are held against.
    pub fn patterns(&self, key: &str) -> Patterns {
        let read = |value: &str| (value.to_owned(), Regex::new(value).ok());
        Patterns(self.values(key).map(read).collect())
    }

    /// All values of the key, `name` or `name=value`, are among `labels`.
    pub fn labels<'a>(&self, key: &str, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.values(key).all(|wanted| has_label(wanted, &get))
    }

    /// No value of the key (such as `label!`) is among `labels`.
    pub fn without_labels<'a>(&self, key: &str, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.values(key).any(|unwanted| has_label(unwanted, &get))
    }
}

/// How names are compared: a text matches if one of the values, taken as regular expression, is found in it, or if
/// there is no value. A value that is no regular expression matches only itself.
#[derive(Debug)]
pub struct Patterns(Vec<(String, Option<Regex>)>);

impl Patterns {
    /// Whether a text is wanted.
    pub fn matches(&self, text: &str) -> bool {
        let found = |(value, regex): &(String, Option<Regex>)| {
            value == text || regex.as_ref().is_some_and(|regex| regex.is_match(text))
        };
        self.0.is_empty() || self.0.iter().any(found)
    }
}

fn has_label<'a>(wanted: &str, get: &impl Fn(&str) -> Option<&'a str>) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => get(name) == Some(value),
        None => get(wanted).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_the_same() {
        let map = Filters::parse(r#"{"label":{"a=b":true,"c":false},"name":{}}"#).unwrap();
        let list = Filters::parse(r#"{"label":["c","a=b"],"name":null}"#).unwrap();
        assert_eq!(map, list);
        assert!(!map.contains("name"));
        for empty in ["null", "{}"] {
            assert!(Filters::parse(empty).unwrap().is_empty());
        }
        for bad in ["x", "[]", r#"{"a":1}"#, r#"{"a":"b"}"#] {
            assert_eq!(Filters::parse(bad), Err(InvalidFilters::Syntax), "{bad}");
        }
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        let filters = Filters::parse(r#"{"foo":["x"],"dangling":["x"]}"#).unwrap();
        assert_eq!(filters.allow(&["dangling"]).unwrap_err().to_string(), "invalid filter 'foo'");
        assert_eq!(filters.boolean("dangling").unwrap_err().to_string(), "invalid filter 'dangling=[x]'");
        assert_eq!(filters.boolean("absent"), Ok(None));
    }

    #[test]
    fn names_match_as_patterns_ids_as_prefixes_labels_all() {
        let filters = Filters::parse(r#"{"name":["^kind$","("],"id":["ab"],"label":["a=1","b"]}"#).unwrap();
        for (name, matches) in [("kind", true), ("kind2", false), ("(", true)] {
            assert_eq!(filters.patterns("name").matches(name), matches, "{name}");
        }
        assert!(filters.prefix("id", "abc") && !filters.prefix("id", "cab") && filters.prefix("other", "x"));
        let labels = |pairs: &'static [(&'static str, &'static str)]| {
            filters
                .labels("label", |key| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
        };
        assert!(labels(&[("a", "1"), ("b", "x")]));
        assert!(!labels(&[("a", "2"), ("b", "x")]));
        assert!(!labels(&[("a", "1")]));
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::base::testing::cases;

    type Wanted = BTreeMap<String, BTreeSet<String>>;

    fn wanted() -> impl Strategy<Value = Wanted> {
        let values = prop::collection::btree_set(any::<String>(), 0..3);
        prop::collection::btree_map(any::<String>(), values, 0..4)
    }

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn both_forms_say_the_same(wanted in wanted(), value in any::<bool>()) {
            let map: BTreeMap<_, BTreeMap<_, _>> =
                wanted.iter().map(|(key, values)| (key, values.iter().map(|v| (v, value)).collect())).collect();
            prop_assert_eq!(&Filters::parse(&json!(map).to_string()).unwrap().0, &wanted);
            prop_assert_eq!(&Filters::parse(&json!(wanted).to_string()).unwrap().0, &wanted);
        }

        #[test]
        fn a_value_found_alone_is_the_only_one(wanted in wanted(), key in any::<String>()) {
            let keys: Vec<String> = wanted.keys().cloned().chain([key]).collect();
            let filters = Filters(wanted.clone());
            for key in keys {
                let there: Vec<&str> = wanted.get(&key).into_iter().flatten().map(String::as_str).collect();
                prop_assert_eq!(filters.contains(&key), !there.is_empty());
                prop_assert_eq!(filters.single(&key).ok(), (there.len() < 2).then(|| there.first().copied()));
                prop_assert!(there.iter().all(|value| filters.exact(&key, value) && filters.prefix(&key, value)));
                prop_assert!(there.iter().all(|value| filters.patterns(&key).matches(value)));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in r#"[\[\]{}":,a1\\ ]{0,20}|.{0,20}"#) {
            let _ = Filters::parse(&text);
        }
    }
}
