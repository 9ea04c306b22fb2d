//! Arguments of statements.

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// One argument. Absent values keep their type, which PostgreSQL wants to know.
#[derive(Debug, Clone)]
pub enum Value {
    /// BIGINT / INTEGER.
    Int(Option<i64>),
    /// TEXT.
    Text(Option<String>),
    /// UUID / BLOB.
    Id(Option<Uuid>),
    /// BYTEA / BLOB.
    Bytes(Option<Vec<u8>>),
    /// BOOLEAN / INTEGER.
    Bool(Option<bool>),
    /// JSONB / TEXT.
    Json(Option<Box<RawValue>>),
}

impl Value {
    /// Any value that can be written as JSON. A value that cannot (a map with keys
    /// that are no strings) is a defect of the caller and becomes `null`.
    pub fn json(value: &impl Serialize) -> Self {
        Self::Json(Some(
            serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned()),
        ))
    }

    /// JSON, or NULL.
    pub fn json_opt(value: Option<&impl Serialize>) -> Self {
        value.map_or(Self::Json(None), Self::json)
    }
}

/// The arguments of a statement, in order.
#[derive(Debug, Clone, Default)]
pub struct Args(pub(super) Vec<Value>);

impl Args {
    /// Adds one and answers its placeholder: `$3`.
    pub fn add(&mut self, value: impl Into<Value>) -> String {
        self.0.push(value.into());
        format!("${}", self.0.len())
    }
}

impl From<Vec<Value>> for Args {
    fn from(values: Vec<Value>) -> Self {
        Self(values)
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident, $map:expr;)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(Some($map(value)))
            }
        }
        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value.map($map))
            }
        }
    )*};
}

from! {
    i64 => Int, std::convert::identity;
    u32 => Int, i64::from;
    // Counters never reach 2^63; a larger number is kept as the largest.
    u64 => Int, |v| i64::try_from(v).unwrap_or(i64::MAX);
    usize => Int, |v| i64::try_from(v).unwrap_or(i64::MAX);
    String => Text, std::convert::identity;
    &str => Text, str::to_owned;
    &String => Text, String::clone;
    Uuid => Id, std::convert::identity;
    &Uuid => Id, |v: &Uuid| *v;
    Vec<u8> => Bytes, std::convert::identity;
    &[u8] => Bytes, <[u8]>::to_vec;
    bool => Bool, std::convert::identity;
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        Self::Text(value.clone())
    }
}
