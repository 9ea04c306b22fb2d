//! Arguments of statements.
//!
//! PostgreSQL keeps no NUL, neither in TEXT nor in JSONB, and what is scanned may
//! hold any: so it becomes U+FFFD here, on its way to either database.

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
        let raw =
            serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Self::Json(Some(without_nul(raw)))
    }

    /// JSON, or NULL.
    pub fn json_opt(value: Option<&impl Serialize>) -> Self {
        value.map_or(Self::Json(None), Self::json)
    }
}

/// JSON in which no string holds a NUL, which is always written as an escape there.
fn without_nul(raw: Box<RawValue>) -> Box<RawValue> {
    let text = raw.get();
    if memchr::memmem::find(text.as_bytes(), b"\\u0000").is_none() {
        return raw;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        // A backslash is ASCII and so is what it escapes: all cuts lie between
        // characters.
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let (kept, length) = if escape.starts_with("\\u0000") {
            ("\\ufffd", 6)
        } else {
            (escape.get(..2).unwrap_or(escape), 2)
        };
        out.push_str(kept);
        rest = escape.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    // Only one escape was exchanged for another, so it still is JSON.
    RawValue::from_string(out).unwrap_or(raw)
}

fn text(value: impl Into<String>) -> String {
    let value = value.into();
    if value.contains('\0') { value.replace('\0', "\u{fffd}") } else { value }
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
    String => Text, text;
    &str => Text, text;
    &String => Text, text;
    Uuid => Id, std::convert::identity;
    &Uuid => Id, |v: &Uuid| *v;
    Vec<u8> => Bytes, std::convert::identity;
    &[u8] => Bytes, <[u8]>::to_vec;
    bool => Bool, std::convert::identity;
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        Self::Text(value.as_ref().map(text))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::both;
    use super::super::{Sql, args};
    use super::*;

    #[tokio::test]
    async fn no_nul_reaches_a_database() {
        const ECHO: Sql = Sql::pair("SELECT $1, $2", "SELECT $1::TEXT, $2::JSONB::TEXT");
        let json = serde_json::json!({ "a\0": ["\0\0", "\\u0000", "\\\0", "ü\0ü\n"] });
        let kept = serde_json::json!({ "a\u{fffd}": ["\u{fffd}\u{fffd}", "\\u0000", "\\\u{fffd}", "ü\u{fffd}ü\n"] });
        for test in both().await {
            let args = args!["x\0y", Value::json(&json)];
            let (text, back): (String, String) =
                test.db.conn().fetch_one(ECHO, args).await.unwrap();
            assert_eq!(text, "x\u{fffd}y", "{}", test.name);
            let back: serde_json::Value = serde_json::from_str(&back).unwrap();
            assert_eq!(back, kept, "{}", test.name);
        }
    }
}
