//! The part that a file plays in its project.

/// What a path says about a file. Minified code counts as [`Role::Generated`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Written by the project.
    Source,
    /// Written by the project to test itself.
    Test,
    /// Copied from elsewhere (`vendor/`, `node_modules/`, …).
    Vendored,
    /// Made by a program.
    Generated,
    /// Words for people.
    Docs,
}

impl Role {
    /// The word that stands in facets.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Test => "test",
            Self::Vendored => "vendored",
            Self::Generated => "generated",
            Self::Docs => "docs",
        }
    }
}

const VENDORED: &[&str] = &[
    "vendor",
    "vendors",
    "vendored",
    "node_modules",
    "bower_components",
    "jspm_packages",
    "third_party",
    "third-party",
    "thirdparty",
    "3rdparty",
    "site-packages",
    "dist-packages",
    "godeps",
    "_vendor",
    ".yarn",
    ".venv",
    "virtualenv",
    "pods",
    "carthage",
];

const GENERATED: &[&str] = &[
    "__generated__",
    "generated-sources",
    "autogen",
    "__pycache__",
    ".next",
    ".nuxt",
    ".terraform",
    "dist",
];

const TESTS: &[&str] = &[
    "test",
    "tests",
    "__tests__",
    "__mocks__",
    "spec",
    "specs",
    "testing",
    "testdata",
    "test-data",
    "test_data",
    "testutil",
    "testutils",
    "fixtures",
    "__fixtures__",
    "e2e",
    "cypress",
    "androidtest",
    "integration-test",
    "integration-tests",
    "integration_tests",
];

const DOCS: &[&str] = &["doc", "docs", "documentation", "javadoc", "site-docs", "man"];

/// Suffixes of names that a program writes.
const GENERATED_NAMES: &[&str] = &[
    ".min.js",
    ".min.mjs",
    ".min.css",
    "-min.js",
    ".bundle.js",
    ".chunk.js",
    ".js.map",
    ".css.map",
    ".pb.go",
    ".pb.gw.go",
    ".pb.cc",
    ".pb.h",
    "_pb2.py",
    "_pb2_grpc.py",
    "_pb.js",
    "_pb.d.ts",
    ".g.dart",
    ".freezed.dart",
    ".g.cs",
    ".designer.cs",
    ".generated.cs",
    ".generated.ts",
    ".gen.go",
    "_generated.go",
    ".snap",
];

/// The role of a file, told by its path.
///
/// What a folder says about everything below it wins over the name; of several
/// folders, vendored wins over generated, generated over test, test over docs: a
/// test of a vendored package is vendored.
pub fn role_of_path(path: &str) -> Role {
    let lower = path.to_ascii_lowercase();
    let (folders, name) = match lower.rsplit_once('/') {
        Some((folders, name)) => (folders, name),
        None => ("", lower.as_str()),
    };
    let within = |list: &[&str]| folders.split('/').any(|c| list.contains(&c));
    if within(VENDORED) {
        Role::Vendored
    } else if within(GENERATED) || GENERATED_NAMES.iter().any(|s| name.ends_with(s)) {
        Role::Generated
    } else if within(TESTS) || is_test_name(name, path) {
        Role::Test
    } else if within(DOCS) || is_docs_name(name) {
        Role::Docs
    } else {
        Role::Source
    }
}

/// `test_x.py`, `x_test.go`, `x.spec.ts`, `XTest.java`, `x_spec.rb`, `conftest.py`.
/// `original` keeps the capitals, without which `Latest.java` would be a test.
fn is_test_name(name: &str, original: &str) -> bool {
    let Some((stem, extension)) = name.rsplit_once('.') else {
        return false;
    };
    let camel = original.rsplit('/').next().and_then(|n| n.rsplit_once('.')).map_or("", |n| n.0);
    match extension {
        "py" | "pyi" => stem.starts_with("test_") || stem.ends_with("_test") || stem == "conftest",
        "go" | "rs" | "c" | "cc" | "cpp" | "dart" | "exs" | "php" | "lua"
            if stem.ends_with("_test") =>
        {
            true
        }
        "js" | "jsx" | "mjs" | "cjs" | "ts" | "tsx" | "mts" | "vue" | "svelte" => {
            [".test", ".spec", ".e2e", ".cy", "-test", ".stories"].iter().any(|s| stem.ends_with(s))
        }
        "rb" => stem.ends_with("_spec") || stem.ends_with("_test") || stem.starts_with("test_"),
        "java" | "kt" | "scala" | "groovy" | "cs" | "php" | "swift" => {
            ["Test", "Tests", "TestCase", "IT", "Spec"].iter().any(|s| camel.ends_with(s))
                || (camel.starts_with("Test")
                    && camel.as_bytes().get(4).is_some_and(u8::is_ascii_uppercase))
        }
        _ => false,
    }
}

fn is_docs_name(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, e)| e);
    matches!(extension, "md" | "markdown" | "mdown" | "rst" | "adoc" | "asciidoc" | "tex")
        || ["readme", "license", "changelog", "copying", "authors", "notice", "contributing"]
            .iter()
            .any(|n| name == *n || name.strip_prefix(n).is_some_and(|r| r.starts_with('.')))
}

/// How a program made a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Made {
    /// Squeezed: lines far longer than people write.
    Minified,
    /// It says so itself in its head.
    Generated,
}

/// Bytes of the head that are looked at.
const HEAD: usize = 64 << 10;

/// Average length of a line (bytes) from which code counts as squeezed.
const SQUEEZED_LINE: usize = 500;

/// Whether code was squeezed or made by a program, told by its content. Meant for
/// code; data files have long lines of their own. Looks at 64 KiB at most.
pub fn made_by_program(bytes: &[u8]) -> Option<Made> {
    let head = &bytes[..bytes.len().min(HEAD)];
    if says_generated(head) {
        return Some(Made::Generated);
    }
    let lines = memchr::memchr_iter(b'\n', head).count() + 1;
    (head.len() / lines > SQUEEZED_LINE).then_some(Made::Minified)
}

/// True for code that a program squeezed or made, see [`made_by_program`].
pub fn is_minified_or_generated(bytes: &[u8]) -> bool {
    made_by_program(bytes).is_some()
}

/// The marks that generators leave in the first lines: Go's convention
/// (`^// Code generated .* DO NOT EDIT\.$`), `@generated`, and the like.
fn says_generated(head: &[u8]) -> bool {
    let head = &head[..head.len().min(2048)];
    head.split(|b| *b == b'\n').take(12).any(|line| {
        let line = line.trim_ascii();
        // Only a comment speaks of the file itself.
        if !line.starts_with(b"//")
            && !line.starts_with(b"#")
            && !line.starts_with(b"/*")
            && !line.starts_with(b"*")
            && !line.starts_with(b"--")
            && !line.starts_with(b"<!--")
        {
            return false;
        }
        let line = line.to_ascii_lowercase();
        let has = |words: &[u8]| memchr::memmem::find(&line, words).is_some();
        has(b"@generated")
            || (has(b"generated") && (has(b"do not edit") || has(b"do not modify")))
            || has(b"<auto-generated")
            || has(b"autogenerated by")
            || has(b"generated by the protocol buffer compiler")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_of_paths() {
        for (path, expected) in [
            ("src/main.py", Role::Source),
            ("vendor/github.com/x/y_test.go", Role::Vendored),
            ("a/node_modules/b/index.js", Role::Vendored),
            ("web/app.min.js", Role::Generated),
            ("api/v1/x.pb.go", Role::Generated),
            ("tests/a.py", Role::Test),
            ("src/test/java/A.java", Role::Test),
            ("src/UserDaoTest.java", Role::Test),
            ("src/Latest.java", Role::Source),
            ("src/Contest.java", Role::Source),
            ("x/TestUser.java", Role::Test),
            ("x/Testament.java", Role::Source),
            ("a_test.go", Role::Test),
            ("app.spec.ts", Role::Test),
            ("conftest.py", Role::Test),
            ("docs/conf.py", Role::Docs),
            ("README.md", Role::Docs),
            ("vendor.py", Role::Source),
            ("test", Role::Source),
        ] {
            assert_eq!(role_of_path(path), expected, "{path}");
        }
    }

    #[test]
    fn made_by_programs() {
        assert_eq!(
            made_by_program(b"// Code generated by protoc-gen-go. DO NOT EDIT.\npackage x\n"),
            Some(Made::Generated)
        );
        assert_eq!(made_by_program("x;".repeat(2000).as_bytes()), Some(Made::Minified));
        assert_eq!(made_by_program(b"print('this was generated; do not edit')\n"), None);
        assert_eq!(made_by_program(b"def f():\n    return 1\n"), None);
        assert_eq!(made_by_program(b""), None);
    }
}
