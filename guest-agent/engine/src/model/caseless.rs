//! JSON whose field names are matched without regard to case, as Go's decoder matches them: some
//! clients write `detachKeys` where the API says `DetachKeys`.
//!
//! Called for every JSON body of a request. Only names of fields are taken so: the keys of maps
//! (labels, ports) stay as they came.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// Reads a value out of JSON.
///
/// # Errors
///
/// When it is not of this form.
pub fn read<T: DeserializeOwned>(json: Value) -> Result<T, Error> {
    T::deserialize(Caseless(json))
}

struct Caseless(Value);

impl<'de> Deserializer<'de> for Caseless {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Self)))
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(key, value)| (key, Self(value)));
                visitor.visit_map(MapDeserializer::new(fields))
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Value::Object(fields) = self.0 else {
            return self.deserialize_any(visitor);
        };
        let mut found: Vec<(&str, Self)> = Vec::new();
        for (key, value) in fields {
            let exact = known.iter().find(|name| **name == key);
            let same = |name: &&&str| name.eq_ignore_ascii_case(&key);
            let Some(name) = exact.or_else(|| known.iter().find(same)) else {
                continue;
            };
            // Named twice, in two spellings: a field is read once.
            found.retain(|(other, _)| other != name);
            found.push((name, Self(value)));
        }
        visitor.visit_map(MapDeserializer::new(found.into_iter()))
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

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Caseless {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Fields {
        #[serde(rename = "CPUShares")]
        shares: i64,
        name: Option<String>,
        labels: BTreeMap<String, String>,
        inner: Vec<Fields>,
        size: (u32, u32),
        on: bool,
    }

    #[test]
    fn fields_are_found_in_every_spelling_at_every_depth_and_maps_are_left_alone() {
        let json = json!({
            "cpuShares": 7, "NAME": "x", "labels": {"A": "1", "a": "2"}, "size": [1, 2], "ON": true,
            "INNER": [{"cpushares": 3, "unknown": {"deep": [1]}, "Name": null}],
        });
        let read: Fields = read(json).unwrap();
        let labels = [("A", "1"), ("a", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let inner = Fields {
            shares: 3,
            ..Fields::default()
        };
        let expected = Fields {
            shares: 7,
            name: Some("x".into()),
            labels: labels.into(),
            inner: vec![inner],
            size: (1, 2),
            on: true,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_field_in_two_spellings_is_read_once_and_a_wrong_type_is_an_error() {
        let twice: Fields = read(json!({"Name": "a", "name": "b"})).unwrap();
        assert_eq!(twice.name.as_deref(), Some("b"));
        let error = read::<Fields>(json!({"cpushares": "many"})).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("invalid type: string \"many\""),
            "{error}"
        );
        assert!(read::<Fields>(json!("text")).is_err());
    }
}
