//! What a file is, before any engine looks into it: its language, its role in the
//! project, whether it is text and in which encoding.
//!
//! Everything that a path tells is a pure function of the path, so it costs no
//! reading and can be part of a [facet](crate::scan::FileInput::facet). What only
//! the content tells (a shebang, minified code, an encoding) looks at a bounded
//! head of the bytes, whatever their number.
//!
//! Nothing here fails: a file that cannot be told apart has no language, is
//! [`Role::Source`], and is binary or text by its first bytes.

mod language;
mod role;
mod text;

pub use language::{
    Kind, Language, display_name, language, language_of_content, language_of_path, languages,
};
pub use role::{Made, Role, is_minified_or_generated, made_by_program, role_of_path};
pub use text::{Encoding, decode, encoding_of, is_binary};
