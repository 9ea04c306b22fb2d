//! Words and sentences: enums that are words in configuration, in the API and in the
//! database, and errors as people read them.

/// Declares an enum whose values are words, the same wherever they are read or written.
///
/// `kind` is what an error calls it. Values are ordered as they are declared. The words
/// are taken as tokens, not as literals: derives of other crates cannot look into those.
macro_rules! words {
    (
        $(#[$m:meta])* $name:ident: $kind:literal {
            $($(#[$v:meta])* $variant:ident = $text:tt),* $(,)?
        }
    ) => {
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize,
            serde::Deserialize, utoipa::ToSchema,
        )]
        $(#[$m])*
        pub enum $name { $($(#[$v])* #[serde(rename = $text)] $variant),* }

        impl $name {
            /// All values, as they are declared.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> std::result::Result<Self, String> {
                Self::ALL.into_iter().find(|word| word.as_str() == text).ok_or_else(|| {
                    format!("{text:?} is no {}: use {}", $kind, [$($text),*].join(", "))
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> std::result::Result<Self, String> {
                text.parse()
            }
        }
    };
}
pub(crate) use words;

/// With a capital and a full stop, unless there is one.
pub(crate) fn sentence(text: &str) -> String {
    let text = text.trim_end();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn a_sentence_has_one_full_stop() {
        for (text, expected) in [
            ("the archive is empty", "The archive is empty."),
            ("The host a.example was not found.", "The host a.example was not found."),
            ("what now? ", "What now?"),
            ("éclat", "Éclat."),
        ] {
            assert_eq!(sentence(text), expected);
        }
    }
}
