//! What a path says about how a file writes its values.

use crate::scan::inventory::{Role, role_of_path};

/// Kinds of files that differ in quoting or in what is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `NAME=value` lines: `.env`, `.envrc`, shell profiles.
    Env,
    /// `name = value` or `name: value`, values unquoted: ini, properties, conf.
    Ini,
    /// YAML.
    Yaml,
    /// JSON and notebooks.
    Json,
    /// TOML and HCL: quoted values only.
    Toml,
    /// XML, HTML, property lists.
    Xml,
    /// Dockerfile.
    Docker,
    /// Shell scripts.
    Shell,
    /// `machine … login … password …`.
    Netrc,
    /// Source code whose single quotes hold strings.
    Script,
    /// Source code whose single quotes hold one character.
    Code,
    /// Words for people.
    Text,
    /// Lock files, checksums, public keys, patches of data: nothing in it is
    /// written by a person, so names say nothing.
    Data,
}

impl Format {
    const ALL: [(Self, &'static str); 13] = [
        (Self::Env, "env"),
        (Self::Ini, "ini"),
        (Self::Yaml, "yaml"),
        (Self::Json, "json"),
        (Self::Toml, "toml"),
        (Self::Xml, "xml"),
        (Self::Docker, "docker"),
        (Self::Shell, "shell"),
        (Self::Netrc, "netrc"),
        (Self::Script, "script"),
        (Self::Code, "code"),
        (Self::Text, "text"),
        (Self::Data, "data"),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(f, _)| *f == self).map_or("data", |(_, name)| name)
    }

    /// True if values are written down for a program to read, not computed.
    pub fn is_config(self) -> bool {
        matches!(
            self,
            Self::Env
                | Self::Ini
                | Self::Yaml
                | Self::Json
                | Self::Toml
                | Self::Xml
                | Self::Docker
                | Self::Netrc
        )
    }
}

/// A format, and whether the file tests or explains rather than runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facet {
    /// How values are written.
    pub format: Format,
    /// Tests, samples, documentation, copies of others' code: names in it prove
    /// little.
    pub lenient: bool,
}

impl Facet {
    /// The facet of a path; `None` for files that hold no text worth reading:
    /// pictures, sound, fonts, compressed archives.
    pub fn of_path(path: &str) -> Option<Self> {
        let lower = path.to_ascii_lowercase();
        let name = lower.rsplit('/').next().unwrap_or(&lower);
        let extension = name.rsplit_once('.').map_or("", |(_, e)| e);
        if SKIPPED.contains(&extension) {
            return None;
        }
        let format = by_name(name).or_else(|| by_extension(extension)).unwrap_or(Format::Text);
        let role = role_of_path(path);
        let sample = name.contains("example")
            || name.contains("sample")
            || name.contains("template")
            || name.ends_with(".dist")
            || is_test_name(name.split('.').next().unwrap_or(name))
            || name.starts_with("test_")
            || name.contains("_test.")
            || name.contains(".test.")
            || name.contains(".spec.")
            || name.contains("_spec.")
            || lower.split('/').any(|part| TEST_FOLDERS.contains(&part));
        let prose = matches!(
            extension,
            "md" | "markdown" | "mdx" | "rst" | "adoc" | "asciidoc" | "pod" | "man" | "tex"
        );
        let lenient = sample || prose || matches!(role, Role::Test | Role::Docs | Role::Vendored);
        Some(Self { format, lenient })
    }

    /// As kept with the result.
    pub fn to_text(self) -> String {
        format!("{}{}", self.format.as_str(), if self.lenient { "/sample" } else { "" })
    }

    /// Reads [`Facet::to_text`]; anything else counts as plain text.
    pub fn from_text(text: &str) -> Self {
        let (name, lenient) = match text.strip_suffix("/sample") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let format = Format::ALL.iter().find(|(_, n)| *n == name).map_or(Format::Text, |(f, _)| *f);
        Self { format, lenient }
    }
}

/// `tests.rs`, `conftest.py`, `LedgerTest.java`.
fn is_test_name(stem: &str) -> bool {
    stem.ends_with("test") || stem.ends_with("tests")
}

/// Folders that hold tests and samples in most languages.
const TEST_FOLDERS: [&str; 16] = [
    "test",
    "tests",
    "testing",
    "testdata",
    "test-data",
    "test_data",
    "spec",
    "specs",
    "fixtures",
    "__tests__",
    "__mocks__",
    "mocks",
    "examples",
    "example",
    "samples",
    "testsuite",
];

/// Formats that are compressed or no text.
const SKIPPED: [&str; 64] = [
    "png", "jpg", "jpeg", "gif", "bmp", "ico", "icns", "webp", "avif", "heic", "tif", "tiff",
    "psd", "woff", "woff2", "ttf", "otf", "eot", "mp3", "mp4", "m4a", "m4v", "ogg", "oga", "ogv",
    "flac", "wav", "avi", "mov", "mkv", "webm", "zip", "gz", "tgz", "bz2", "xz", "zst", "7z",
    "rar", "lz4", "lzma", "br", "jar", "war", "ear", "whl", "egg", "nupkg", "apk", "ipa", "deb",
    "rpm", "dmg", "iso", "pdf", "docx", "xlsx", "pptx", "odt", "svgz", "parquet", "glb", "pyc",
    "pyo",
];

fn by_name(name: &str) -> Option<Format> {
    Some(match name {
        "dockerfile" | "containerfile" => Format::Docker,
        ".npmrc" | ".pypirc" | ".gitconfig" | ".s3cfg" | ".boto" | "credentials" | "config"
        | ".yarnrc" | ".my.cnf" | ".passwd-s3fs" | "robomongo.json" => Format::Ini,
        ".netrc" | "_netrc" => Format::Netrc,
        ".bashrc" | ".bash_profile" | ".bash_history" | ".zshrc" | ".zsh_history" | ".profile"
        | ".bash_aliases" | ".exports" | ".envrc" | ".zshenv" | ".zprofile" => Format::Shell,
        ".dockercfg" | ".dockerconfigjson" => Format::Json,
        "makefile" | "gnumakefile" | "justfile" => Format::Shell,
        "jenkinsfile" | "gemfile" | "rakefile" | "vagrantfile" | "podfile" | "fastfile"
        | "appfile" => Format::Script,
        "package-lock.json"
        | "npm-shrinkwrap.json"
        | "yarn.lock"
        | "pnpm-lock.yaml"
        | "bun.lock"
        | "go.sum"
        | "go.work.sum"
        | "cargo.lock"
        | "poetry.lock"
        | "uv.lock"
        | "pdm.lock"
        | "pipfile.lock"
        | "composer.lock"
        | "gemfile.lock"
        | "packages.lock.json"
        | "mix.lock"
        | "pubspec.lock"
        | "podfile.lock"
        | "package.resolved"
        | "gradle.lockfile"
        | "flake.lock"
        | "conan.lock"
        | "known_hosts"
        | "authorized_keys"
        | ".cargo-checksum.json"
        | "verification-metadata.xml"
        | "deno.lock"
        | "manifest.json.sha256" => Format::Data,
        _ if name.starts_with("dockerfile.") || name.ends_with(".dockerfile") => Format::Docker,
        _ if name == ".env" || name.starts_with(".env.") || name.ends_with(".env") => Format::Env,
        _ => return None,
    })
}

fn by_extension(extension: &str) -> Option<Format> {
    Some(match extension {
        "env" => Format::Env,
        "ini" | "cfg" | "conf" | "cnf" | "config" | "properties" | "prop" | "service" | "rc"
        | "desktop" | "inf" | "reg" | "url" | "ovpn" | "rdp" | "credentials" | "tfvars" => {
            Format::Ini
        }
        "yml" | "yaml" | "eyaml" => Format::Yaml,
        "json" | "jsonc" | "json5" | "ipynb" | "tfstate" | "jsonl" | "ndjson" | "har" | "avsc"
        | "webmanifest" | "geojson" => Format::Json,
        "toml" | "tf" | "hcl" => Format::Toml,
        "xml" | "html" | "htm" | "xhtml" | "plist" | "csproj" | "vbproj" | "props" | "targets"
        | "jsp" | "aspx" | "cshtml" | "svg" | "xaml" | "vue" | "svelte" | "pom" => Format::Xml,
        "sh" | "bash" | "zsh" | "fish" | "ksh" | "bats" | "mk" | "bat" | "cmd" => Format::Shell,
        "py" | "pyi" | "pyw" | "js" | "mjs" | "cjs" | "jsx" | "ts" | "mts" | "cts" | "tsx"
        | "rb" | "php" | "php5" | "phtml" | "pl" | "pm" | "lua" | "r" | "jl" | "dart"
        | "groovy" | "gradle" | "ps1" | "psm1" | "psd1" | "sql" | "ex" | "exs" | "erl"
        | "coffee" | "tcl" | "cr" | "nim" | "gd" | "inc" | "erb" | "ejs" | "twig" | "bicep"
        | "nix" | "m" | "pp" | "rake" | "feature" | "vb" | "vbs" | "bas" | "graphql" => {
            Format::Script
        }
        "java" | "kt" | "kts" | "scala" | "go" | "rs" | "c" | "h" | "cc" | "cpp" | "cxx" | "hh"
        | "hpp" | "hxx" | "cs" | "swift" | "mm" | "fs" | "fsx" | "hs" | "ml" | "mli" | "clj"
        | "cljs" | "zig" | "d" | "proto" | "ino" | "lisp" | "el" | "scm" | "sol" | "v" | "pas" => {
            Format::Code
        }
        "lock" | "sum" | "sha1" | "sha256" | "sha512" | "md5" | "asc" | "sig" | "pub" | "crt"
        | "cer" | "csv" | "tsv" | "map" | "po" | "pot" | "css" | "scss" | "less" | "snap"
        | "wasm" | "so" | "dll" | "exe" | "o" | "a" | "class" | "bin" | "dat" | "db" | "sqlite" => {
            Format::Data
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell() {
        let of = |path| Facet::of_path(path).map(Facet::to_text);
        assert_eq!(of("src/app.py").as_deref(), Some("script"));
        assert_eq!(of("src/LedgerTest.java").as_deref(), Some("code/sample"));
        assert_eq!(of("tests/app.py").as_deref(), Some("script/sample"));
        assert_eq!(of("conf/.env.production").as_deref(), Some("env"));
        assert_eq!(of(".env.example").as_deref(), Some("env/sample"));
        assert_eq!(of("web/package-lock.json").as_deref(), Some("data"));
        assert_eq!(of("Dockerfile").as_deref(), Some("docker"));
        assert_eq!(of("logo.PNG"), None);
        assert_eq!(of("id_rsa").as_deref(), Some("text"));
    }

    #[test]
    fn facets_are_read_back() {
        for (format, _) in Format::ALL {
            for lenient in [false, true] {
                let facet = Facet { format, lenient };
                assert_eq!(Facet::from_text(&facet.to_text()), facet);
            }
        }
    }
}
