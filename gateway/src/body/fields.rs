//! A JSON object taken apart no further than its fields, so that what is not changed stays as it was sent.

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The fields of an object in their order. No name stands twice: two readers could disagree which counts.
#[derive(Debug, Clone)]
pub struct Fields<'a>(Vec<(String, Cow<'a, RawValue>)>);

impl<'a> Fields<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Whether the value was ever more than `null`, `false`, `0`, or empty.
    #[must_use]
    pub fn says(&self, name: &str) -> bool {
        self.raw(name).is_some_and(|value| !matches!(value, "null" | "false" | "0" | "\"\"" | "[]" | "{}"))
    }

    /// A field as it was sent.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.get())
    }

    /// All fields as they were sent, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.get()))
    }

    /// A field as a type, or `None` where it is absent, `null`, or of another type.
    #[must_use]
    pub fn get<'s, T: Deserialize<'s>>(&'s self, name: &str) -> Option<T> {
        serde_json::from_str::<Option<T>>(self.raw(name)?).ok().flatten()
    }

    /// Sets a field, in its place where it is there.
    ///
    /// # Errors
    /// When the value is not JSON.
    pub fn set(&mut self, name: &str, value: &impl Serialize) -> Result<(), serde_json::Error> {
        let value = Cow::Owned(serde_json::value::to_raw_value(value)?);
        match self.0.iter_mut().find(|(field, _)| field == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Takes a field away.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(field, _)| field != name);
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(String, Cow<'de, RawValue>)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if fields.len() >= MOST {
                        return Err(A::Error::custom(format!("more than {MOST} fields")));
                    }
                    if fields.iter().any(|(seen, _)| *seen == name) {
                        return Err(A::Error::custom(format!("the field {name:?} stands twice")));
                    }
                    fields.push((name, Cow::Borrowed(map.next_value::<&RawValue>()?)));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Far more fields than any API has; comparing names pair by pair stays cheap.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::Fields;

    #[test]
    fn what_is_not_changed_stays_as_it_was() {
        let sent = br#"{"z": 1.50, "a":{"b" : "\u00e9", "a":[1 ,2]},"max":9}"#;
        let mut fields = Fields::read(sent).unwrap();
        fields.set("max", &7).unwrap();
        fields.set("new", &true).unwrap();
        let text = serde_json::to_string(&fields).unwrap();
        assert_eq!(text, r#"{"z":1.50,"a":{"b" : "\u00e9", "a":[1 ,2]},"max":7,"new":true}"#);
    }

    #[test]
    fn a_field_that_stands_twice_is_refused_however_it_is_written() {
        assert!(Fields::read(br#"{"max_tokens":1,"max\u005ftokens":64000}"#).is_err());
        assert!(Fields::read(b"[]").is_err());
    }
}
