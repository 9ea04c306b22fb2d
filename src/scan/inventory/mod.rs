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

<<<<<<< HEAD
pub use language::{
    Kind, Language, display_name, language, language_of_content, language_of_path, languages,
};
pub use role::{Made, Role, is_minified_or_generated, made_by_program, role_of_path};
pub use text::{Encoding, decode, encoding_of, is_binary};
=======
/// Name of the language, lower case and stable (`python`, `javascript`,
/// `typescript`, `tsx`, `java`, `go`, `dockerfile`, `yaml`, …), told by the path.
pub fn language_of_path(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ext = name.rsplit_once('.').map_or("", |(_, e)| e);
    Some(match ext {
        "py" | "pyi" => "python",
        "js" | "mjs" | "cjs" | "jsx" => "javascript",
        "ts" | "mts" | "cts" => "typescript",
        "tsx" => "tsx",
        "java" => "java",
        "go" => "go",
        _ => return None,
    })
}

/// The role of a file, told by its path.
pub fn role_of_path(path: &str) -> Role {
    let lower = path.to_ascii_lowercase();
    if lower.split('/').any(|c| matches!(c, "vendor" | "node_modules" | "third_party")) {
        Role::Vendored
    } else if lower.split('/').any(|c| matches!(c, "test" | "tests" | "__tests__")) {
        Role::Test
    } else {
        Role::Source
    }
}

/// Language of a file whose path does not tell, by its first bytes (shebang).
pub fn language_of_content(bytes: &[u8]) -> Option<&'static str> {
    let line = bytes.split(|b| *b == b'\n').next()?;
    let line = std::str::from_utf8(line.get(..line.len().min(200))?).ok()?;
    let interpreter = line.strip_prefix("#!")?;
    if interpreter.contains("python") {
        Some("python")
    } else if interpreter.contains("node") {
        Some("javascript")
    } else {
        None
    }
}

/// True for bytes that are no text.
pub fn is_binary(bytes: &[u8]) -> bool {
    memchr::memchr(0, &bytes[..bytes.len().min(8000)]).is_some()
}

/// True for code that a program squeezed or made.
pub fn is_minified_or_generated(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(64 << 10)];
    let lines = memchr::memchr_iter(b'\n', head).count() + 1;
    head.len() / lines > 500
}
>>>>>>> code
