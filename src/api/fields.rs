//! Checks of fields that several groups share. All wrong fields of a request are
//! collected, so that the answer names every one.

use super::error::{ApiError, FieldError, Result};

/// Longest name, in characters.
pub const MAX_NAME: usize = 200;
/// Longest text for people, in characters.
pub const MAX_TEXT: usize = 10_000;

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
