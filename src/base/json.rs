//! JSON read as Go's `encoding/json` does: the names of a structure's fields in any case, the last one of those that
//! are given twice.
//!
//! Clients rely on it without knowing: docker-py sends `detachKeys`, where the specification has `DetachKeys`. Keys
//! of maps, such as labels, are left as they are. serde knows which is which: it asks for a structure by its fields.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// Reads one document.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    from_value(serde_json::from_slice(bytes)?)
}

/// Makes a `T` of a document that has been read.
pub fn from_value<T: DeserializeOwned>(document: Value) -> Result<T, Error> {
    T::deserialize(Folded(document))
}

/// A value whose structures take names in any case.
struct Folded(Value);

impl<'de> Deserializer<'de> for Folded {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Folded));
                let read = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(read)
            }
            Value::Object(entries) => {
                let entries = entries.into_iter().map(|(key, value)| (key, Folded(value)));
                visitor.visit_map(MapDeserializer::new(entries))
            }
            single => single.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut entries = match self.0 {
            Value::Object(entries) => entries,
            Value::Array(_) => return Err(Error::invalid_type(Unexpected::Seq, &visitor)),
            single => return single.deserialize_any(visitor),
        };
        // An exact name comes before one in another case.
        let known: Vec<_> = fields
            .iter()
            .filter_map(|&field| {
                let folded = || entries.keys().find(|key| key.eq_ignore_ascii_case(field)).cloned();
                let key = if entries.contains_key(field) { field.to_owned() } else { folded()? };
                Some((field, Folded(entries.remove(&key)?)))
            })
            .collect();
        visitor.visit_map(MapDeserializer::new(known.into_iter()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// Ours are all words without content.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Folded {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    #[derive(Deserialize, PartialEq, Debug, Default)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        image_id: String,
        labels: BTreeMap<String, String>,
        inner: Option<Inner>,
        list: Vec<Inner>,
        by_name: BTreeMap<String, Vec<Inner>>,
        sizes: Option<[u16; 2]>,
        kind: Option<Kind>,
        number: Number,
    }

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(rename_all = "PascalCase")]
    struct Inner {
        cpu_shares: i64,
    }

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Bind,
    }

    #[derive(Deserialize, PartialEq, Debug, Default)]
    struct Number(f64);

    fn read(document: &str) -> Outer {
        from_slice(document.as_bytes()).unwrap()
    }

    #[test]
    fn names_of_fields_are_taken_in_any_case() {
        let usual = r#"{"ImageId": "a", "Labels": {"Of": "user"}, "Inner": {"CpuShares": 1}, "Sizes": [24, 80],
            "List": [{"CpuShares": 2}], "ByName": {"Of": [{"CpuShares": 3}]}, "Kind": "bind", "Number": 1}"#;
        let other = r#"{"IMAGEID": "a", "labels": {"Of": "user"}, "inner": {"cpushares": 1}, "sizes": [24, 80],
            "lisT": [{"cpuShares": 2}], "byname": {"Of": [{"CPUSHARES": 3}]}, "kind": "bind", "number": 1}"#;
        let expected = Outer {
            image_id: "a".to_owned(),
            labels: BTreeMap::from([("Of".to_owned(), "user".to_owned())]),
            inner: Some(Inner { cpu_shares: 1 }),
            list: vec![Inner { cpu_shares: 2 }],
            by_name: BTreeMap::from([("Of".to_owned(), vec![Inner { cpu_shares: 3 }])]),
            sizes: Some([24, 80]),
            kind: Some(Kind::Bind),
            number: Number(1.0),
        };
        assert_eq!(read(usual), expected);
        assert_eq!(read(other), expected);
    }

    #[test]
    fn the_last_of_two_values_counts_and_the_exact_name_before_others() {
        assert_eq!(read(r#"{"ImageId": "a", "ImageId": "b"}"#).image_id, "b");
        assert_eq!(read(r#"{"ImageId": "exact", "imageid": "other", "unknown": {}}"#).image_id, "exact");
        assert_eq!(read(r#"{"Inner": null, "Sizes": null}"#), Outer::default());
    }

    #[test]
    fn what_has_the_wrong_type_is_refused() {
        for wrong in [
            r#"{"imageid": 1}"#,
            r#"{"inner": [1]}"#,
            r#"{"inner": {"cpushares": "1"}}"#,
            r#"{"inner": {}}"#,
            r#"{"sizes": [1, 2, 3]}"#,
            r#"{"kind": "other"}"#,
            "[]]",
        ] {
            assert!(from_slice::<Outer>(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
