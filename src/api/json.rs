//! JSON bodies, read more strictly than serde reads them by itself.
//!
//! serde takes a list where a struct is asked for and fills its fields in order, calls
//! a wrong type in place of a word a syntax error, and serde_json lets the last of two
//! fields of one name win wherever the type does not look. None of that is meant by who
//! sends it. So a body becomes a tree first, within the bounds of the request (its size
//! is limited before it is read, its depth by serde_json), and the tree becomes the type.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    self, Deserialize, DeserializeOwned, Deserializer, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::error::{ApiError, FieldError};

type Error = serde::de::value::Error;

/// A JSON value in which no object has two fields of one name.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// Reads a body: 400 if it is not JSON, 422 with the path of the field if it is not what
/// is asked for or holds a NUL, which no database keeps like other characters.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let tree: Tree = serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        if error.is_data() {
            // The tree itself refuses one thing only.
            let plain = text.rfind(" at line ").and_then(|at| text.get(..at)).unwrap_or(&text);
            ApiError::invalid_field("body", plain)
        } else {
            ApiError::bad_request(format!("The body is not JSON: {text}."))
        }
    })?;
    if has_nul(&tree) {
        return Err(ApiError::invalid_field("body", "must not contain NUL characters"));
    }
    serde_path_to_error::deserialize(tree).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "body".to_owned() } else { path };
        ApiError::invalid(vec![FieldError::new(field, error.into_inner().to_string())])
    })
}

fn has_nul(tree: &Tree) -> bool {
    match tree {
        Tree::Text(text) => text.contains('\0'),
        Tree::List(items) => items.iter().any(has_nul),
        Tree::Object(fields) => fields.iter().any(|(k, v)| k.contains('\0') || has_nul(v)),
        Tree::Null | Tree::Bool(_) | Tree::Number(_) => false,
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Planter)
    }
}

struct Planter;

impl<'de> Visitor<'de> for Planter {
    type Value = Tree;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        serde_json::Number::from_f64(value)
            .map(Tree::Number)
            .ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields: Vec<(String, Tree)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some((name, value)) = map.next_entry::<String, Tree>()? {
            if !names.insert(name.clone()) {
                let name: String = name.chars().take(100).collect();
                return Err(A::Error::custom(format!("the field {name:?} stands there twice")));
            }
            fields.push((name, value));
        }
        Ok(Tree::Object(fields))
    }
}

impl Tree {
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Null => Unexpected::Other("null"),
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => Unexpected::Unsigned(value),
                (None, Some(value)) => Unexpected::Signed(value),
                (None, None) => Unexpected::Float(number.as_f64().unwrap_or_default()),
            },
            Self::Text(_) => Unexpected::Other("a text"),
            Self::List(_) => Unexpected::Other("a list"),
            Self::Object(_) => Unexpected::Other("an object"),
        }
    }

    fn wrong<T>(&self, expected: &str) -> Result<T, Error> {
        Err(Error::invalid_type(self.unexpected(), &expected))
    }
}

impl IntoDeserializer<'_, Error> for Tree {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// What asks for one kind gets it or an error that says what there is instead. The errors
/// of the visitors would repeat the text that was sent.
macro_rules! asked {
    ($($kind:ident($expected:literal): $($method:ident),+;)+) => { $($(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self {
                Self::$kind(_) => self.deserialize_any(visitor),
                other => other.wrong($expected),
            }
        }
    )+)+ };
}

impl<'de> Deserializer<'de> for Tree {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (None, Some(value), _) => visitor.visit_i64(value),
                (None, None, value) => visitor.visit_f64(value.unwrap_or_default()),
            },
            Self::Text(text) => visitor.visit_string(text),
            Self::List(items) => {
                let mut list = SeqDeserializer::new(items.into_iter());
                let value = visitor.visit_seq(&mut list)?;
                list.end()?;
                Ok(value)
            }
            Self::Object(fields) => {
                let mut map = MapDeserializer::new(fields.into_iter());
                let value = visitor.visit_map(&mut map)?;
                map.end()?;
                Ok(value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Null => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Object(_) => self.deserialize_any(visitor),
            other => other.wrong("an object"),
        }
    }

    /// Words alone: nothing in the API is an enum with contents.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Text(word) => visitor.visit_enum(word.into_deserializer()),
            other => other.wrong("a word"),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    asked! {
        Bool("true or false"): deserialize_bool;
        Number("a number"): deserialize_i8, deserialize_i16, deserialize_i32, deserialize_i64,
            deserialize_u8, deserialize_u16, deserialize_u32, deserialize_u64, deserialize_f32,
            deserialize_f64;
        Text("a text"): deserialize_str, deserialize_string, deserialize_char;
        List("a list"): deserialize_seq;
        Object("an object"): deserialize_map;
    }

    forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde::Deserialize;

    use super::{ApiError, parse};

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Yes,
        No,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        name: String,
        number: Option<u32>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Body {
        word: Option<Word>,
        inner: Option<Inner>,
        #[serde(default)]
        list: Vec<Inner>,
        free: Option<serde_json::Value>,
    }

    fn refused(text: &str) -> (StatusCode, String) {
        let error: ApiError = parse::<Body>(text.as_bytes()).unwrap_err();
        (error.status(), format!("{error:?}"))
    }

    #[test]
    fn what_is_meant_is_read() {
        let text = r#"{"word":"no","inner":{"name":"a"},"list":[{"name":"b","number":7}],
                       "free":{"x":[1,-2,0.5,null,true]}}"#;
        let body: Body = parse(text.as_bytes()).unwrap();
        assert_eq!(body.word, Some(Word::No));
        assert_eq!(body.inner, Some(Inner { name: "a".into(), number: None }));
        assert_eq!(body.list, [Inner { name: "b".into(), number: Some(7) }]);
        assert_eq!(body.free, Some(serde_json::json!({"x": [1, -2, 0.5, null, true]})));
    }

    #[test]
    fn what_is_not_asked_for_is_named() {
        for (text, says) in [
            (r#"["no"]"#, "body"),
            (r#"{"inner":["a",7]}"#, "inner"),
            (r#"{"list":[["a",7]]}"#, "list[0]"),
            (r#"{"word":7}"#, "word"),
            (r#"{"word":{"no":null}}"#, "word"),
            (r#"{"word":["no"]}"#, "word"),
            (r#"{"word":"maybe"}"#, "word"),
            (r#"{"inner":{"name":7}}"#, "inner.name"),
            (r#"{"inner":{"name":"a","number":-1}}"#, "inner.number"),
            (r#"{"inner":{"name":"a","number":1.5}}"#, "inner.number"),
            (r#"{"other":1}"#, "other"),
            (r#"{"word":"no","word":"yes"}"#, "twice"),
            (r#"{"free":{"a":1,"a":2}}"#, "twice"),
            (r#"{"free":"\u0000"}"#, "NUL"),
            (r#"{"free":{"\u0000":1}}"#, "NUL"),
            ("null", "body"),
            ("7", "body"),
        ] {
            let (status, said) = refused(text);
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}: {said}");
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_no_json_is_400() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for text in ["", "{", "{}x", r#"{"free":1e999}"#, "nul", "\u{feff}{}", &deep] {
            assert_eq!(refused(text).0, StatusCode::BAD_REQUEST, "{text:.40}");
        }
    }

    /// What is sent in the wrong place may be a password.
    #[test]
    fn errors_do_not_repeat_texts() {
        let (_, said) = refused(r#"{"inner":{"name":"a","number":"hunter2"}}"#);
        assert!(said.contains("inner.number"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}
