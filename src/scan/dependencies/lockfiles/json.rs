//! What the JSON lock files have in common.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use super::{Fault, line_number};

/// An object whose members stay in the order of the file. A repeated key stays
/// twice. `null` and a list (PHP writes an empty object so) are empty.
#[derive(Debug)]
pub(super) struct Pairs<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    list.push(entry);
                }
                Ok(Pairs(list))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Pairs::default())
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Self::Value, A::Error> {
                while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Pairs::default())
            }
        }

        deserializer.deserialize_any(Members(PhantomData))
    }
}

impl<T> Pairs<T> {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|e| {
        // The message of a type error quotes the value; its place does not.
        Fault::Malformed(format!("line {}, column {} is unexpected", e.line(), e.column()))
    })
}

/// On which lines objects with a certain key begin. A JSON parser does not tell, and
/// lock files are written by programs that give each key a line of its own, so one
/// look over the lines does. Written otherwise, lines are unknown (0).
pub(super) struct Lines<'t>(HashMap<&'t str, VecDeque<u32>>);

impl<'t> Lines<'t> {
    /// Lines of `"key": {`.
    pub(super) fn of_objects(text: &'t str) -> Self {
        Self::of(text, |key, behind| behind.trim_start().starts_with('{').then_some(key))
    }

    /// Lines of `"name": "value"`, by the value.
    pub(super) fn of_names(text: &'t str) -> Self {
        Self::of(text, |key, behind| {
            (key == "name").then(|| quoted(behind)).flatten().map(|(value, _)| value)
        })
    }

    fn of(text: &'t str, pick: impl Fn(&'t str, &'t str) -> Option<&'t str>) -> Self {
        let mut lines: HashMap<&str, VecDeque<u32>> = HashMap::new();
        for (n, line) in text.lines().enumerate() {
            if let Some((key, behind)) = quoted(line)
                && let Some(behind) = behind.trim_start().strip_prefix(':')
                && let Some(picked) = pick(key, behind)
            {
                lines.entry(picked).or_default().push_back(line_number(n));
            }
        }
        Self(lines)
    }

    /// The next line of this key, in the order of the file.
    pub(super) fn next(&mut self, key: &str) -> u32 {
        self.0.get_mut(key).and_then(VecDeque::pop_front).unwrap_or(0)
    }
}

/// The first string of a line, if the line starts with one, and what is behind it.
fn quoted(line: &str) -> Option<(&str, &str)> {
    line.trim_start().strip_prefix('"')?.split_once('"')
}
