//! Checks of fields that several groups share. All wrong fields of a request are
//! collected, so that the answer names every one.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};

use super::error::{ApiError, FieldError, Result};

/// Longest name, in characters.
pub const MAX_NAME: usize = 200;
/// Longest text for people, in characters.
pub const MAX_TEXT: usize = 10_000;

/// What [`Check::name`] takes: no control character, and something else than white
/// space.
const NAME_PATTERN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$";
/// What [`Check::text`] takes: no control character but line ends and tabs.
const TEXT_PATTERN: &str = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$";

/// A kind of string as the API's description shows it. The types have no values:
/// fields stay strings, checked by [`Check`], and name one of these as their
/// `value_type`. A syntax that no pattern can tell is a format of its own.
macro_rules! described {
    ($(#[$m:meta])* $name:ident: $description:literal, $length:expr, $example:literal, $also:expr) => {
        $(#[$m])*
        #[derive(Debug)]
        pub enum $name {}

        impl utoipa::PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let (min, max) = $length;
                let string = ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($description))
                    .min_length(Some(min))
                    .max_length(Some(max))
                    .examples([serde_json::json!($example)]);
                let also: fn(ObjectBuilder) -> ObjectBuilder = $also;
                also(string).into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    };
}

/// A format that is described in words.
fn format(string: ObjectBuilder, name: &str) -> ObjectBuilder {
    string.format(Some(SchemaFormat::Custom(name.to_owned())))
}

described!(
    /// Describes what [`Check::name`] takes.
    Name: "White space around it is taken off.",
    (1, MAX_NAME), "Payments", |string| string.pattern(Some(NAME_PATTERN))
);
described!(
    /// Describes what [`Check::text`] takes.
    Text: "A text for people, perhaps of several lines.",
    (0, MAX_TEXT), "All that touches cards.", |string| string.pattern(Some(TEXT_PATTERN))
);
described!(
    /// Describes a time that lies ahead.
    Ahead: "A time of RFC 3339, in the future.",
    (1, 64), "2099-01-31T12:00:00Z", |string| string
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
);
described!(
    /// Describes a comment on a decision.
    Comment: "Why it was decided so.",
    (0, 2000), "Only reachable inside.", |string| string.pattern(Some(TEXT_PATTERN))
);
described!(
    /// Describes a name of a ref.
    GitRef: "A branch such as `main`, or the full name of a ref, as `git check-ref-format` takes it.",
    (1, 244), "main", |string| format(string, "git-ref")
);
described!(
    /// Describes a glob over paths.
    Glob: "A glob over paths from the root: `*` and `?` within a name, `**` across folders, `[a-z]`, `{a,b}`.",
    (1, 1000), "src/**", |string| format(string, "glob")
);

described!(
    /// Describes what [`crate::accounts::signing::SigningKey::parse`] takes.
    SshPublicKey: "The line of a `.pub` file: Ed25519, ECDSA (P-256, P-384) or RSA of at least 2048 bits.",
    (1, 8192), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAQUsBUqhhrNteEuVxzYbIRVCg1x6KUqznu4mYVT7nha ada@laptop", |string| format(string, "ssh-public-key")
);

/// Collects what is wrong.
#[derive(Debug, Default)]
pub struct Check(Vec<FieldError>);

impl Check {
    /// Notes that a field is wrong.
    pub fn refuse(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(FieldError::new(field, message));
    }

    /// A name without the white space around it: 1 to [`MAX_NAME`] characters, none
    /// of them a control character.
    pub fn name(&mut self, field: &str, value: &str) -> String {
        let name = value.trim();
        if !(1..=MAX_NAME).contains(&name.chars().count()) {
            self.refuse(field, format!("needs 1 to {MAX_NAME} characters"));
        } else if name.chars().any(char::is_control) {
            self.refuse(field, "must not contain control characters");
        }
        name.to_owned()
    }

    /// A text for people, perhaps of several lines; absent is empty.
    pub fn text(&mut self, field: &str, value: Option<&str>) -> String {
        let text = value.unwrap_or_default();
        if text.chars().count() > MAX_TEXT {
            self.refuse(field, format!("must not be longer than {MAX_TEXT} characters"));
        } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.refuse(field, "must not contain control characters");
        }
        text.to_owned()
    }

    /// # Errors
    ///
    /// 422 with everything that was refused.
    pub fn done(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.0)) }
    }
}
