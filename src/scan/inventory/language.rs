//! The languages that are told apart, and by what.
//!
//! A file name wins over an extension, an extension over a shebang. Extensions
//! that several languages share go to the one that is far more common in
//! repositories (`.h` is C, `.m` is Objective-C, `.v` is Verilog).

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a language is for. Statistics of a repository count programming and
/// markup languages only, or every repository would be written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Runs, or is compiled to what runs.
    Programming,
    /// Says how something is shown.
    Markup,
    /// Configuration and data.
    Data,
    /// Words for people.
    Prose,
}

/// One language.
#[derive(Debug)]
pub struct Language {
    /// Lower case and stable: part of facets, API and database.
    pub id: &'static str,
    /// As people write it.
    pub display: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// Extensions without the dot, lower case.
    extensions: &'static [&'static str],
    /// Whole file names, lower case.
    names: &'static [&'static str],
    /// Interpreters of a shebang, without version.
    interpreters: &'static [&'static str],
}

const fn lang(
    id: &'static str,
    display: &'static str,
    kind: Kind,
    extensions: &'static [&'static str],
    names: &'static [&'static str],
    interpreters: &'static [&'static str],
) -> Language {
    Language { id, display, kind, extensions, names, interpreters }
}

use Kind::{Data, Markup, Programming, Prose};

#[rustfmt::skip]
static LANGUAGES: &[Language] = &[
    lang("ada", "Ada", Programming, &["adb", "ads"], &[], &[]),
    lang("apex", "Apex", Programming, &["cls", "trigger"], &[], &[]),
    lang("assembly", "Assembly", Programming, &["asm", "s"], &[], &[]),
    lang("astro", "Astro", Programming, &["astro"], &[], &[]),
    lang("batch", "Batchfile", Programming, &["bat", "cmd"], &[], &[]),
    lang("bicep", "Bicep", Programming, &["bicep"], &[], &[]),
    lang("c", "C", Programming, &["c", "h"], &[], &["tcc"]),
    lang("clojure", "Clojure", Programming, &["clj", "cljs", "cljc", "edn"], &[], &["bb"]),
    lang("cmake", "CMake", Programming, &["cmake"], &["cmakelists.txt"], &[]),
    lang("cobol", "COBOL", Programming, &["cob", "cbl", "cpy"], &[], &[]),
    lang("cpp", "C++", Programming, &["cc", "cpp", "cxx", "c++", "hpp", "hh", "hxx", "ipp", "inl"], &[], &[]),
    lang("crystal", "Crystal", Programming, &["cr"], &[], &["crystal"]),
    lang("csharp", "C#", Programming, &["cs", "csx"], &[], &[]),
    lang("css", "CSS", Markup, &["css"], &[], &[]),
    lang("csv", "CSV", Data, &["csv", "tsv"], &[], &[]),
    lang("cuda", "CUDA", Programming, &["cu", "cuh"], &[], &[]),
    lang("dart", "Dart", Programming, &["dart"], &[], &["dart"]),
    lang("dockerfile", "Dockerfile", Programming, &["dockerfile", "containerfile"], &["dockerfile", "containerfile"], &[]),
    lang("dotenv", "Dotenv", Data, &["env"], &[".env", ".envrc", ".flaskenv"], &[]),
    lang("elixir", "Elixir", Programming, &["ex", "exs"], &["mix.lock"], &["elixir"]),
    lang("elm", "Elm", Programming, &["elm"], &[], &[]),
    lang("erb", "ERB", Markup, &["erb", "rhtml"], &[], &[]),
    lang("erlang", "Erlang", Programming, &["erl", "hrl"], &["rebar.config"], &["escript"]),
    lang("fortran", "Fortran", Programming, &["f", "f90", "f95", "f03", "for"], &[], &[]),
    lang("fsharp", "F#", Programming, &["fs", "fsi", "fsx"], &[], &[]),
    lang("go", "Go", Programming, &["go"], &[], &[]),
    lang("gomod", "Go module", Data, &[], &["go.mod", "go.sum", "go.work", "go.work.sum"], &[]),
    lang("graphql", "GraphQL", Data, &["graphql", "gql", "graphqls"], &[], &[]),
    lang("groovy", "Groovy", Programming, &["groovy", "gradle", "gvy"], &["jenkinsfile"], &["groovy"]),
    lang("handlebars", "Handlebars", Markup, &["hbs", "handlebars", "mustache"], &[], &[]),
    lang("haskell", "Haskell", Programming, &["hs", "lhs"], &[], &["runhaskell", "runghc"]),
    lang("hcl", "HCL", Programming, &["hcl", "tf", "tfvars", "nomad"], &[], &[]),
    lang("html", "HTML", Markup, &["html", "htm", "xhtml"], &[], &[]),
    lang("ini", "INI", Data, &["ini", "cfg", "conf", "cnf", "prefs", "desktop"], &[".editorconfig", ".gitconfig", ".npmrc", ".pypirc", ".netrc", "_netrc", ".s3cfg", ".my.cnf", ".pgpass", "credentials"], &[]),
    lang("java", "Java", Programming, &["java"], &[], &[]),
    lang("javascript", "JavaScript", Programming, &["js", "mjs", "cjs", "jsx", "es6"], &["jakefile"], &["node", "nodejs", "bun"]),
    lang("jinja", "Jinja", Markup, &["j2", "jinja", "jinja2"], &[], &[]),
    lang("json", "JSON", Data, &["json", "jsonc", "json5", "webmanifest", "geojson", "tfstate", "har", "avsc"], &["composer.lock", "pipfile.lock", ".babelrc", ".eslintrc", ".prettierrc", ".jshintrc", ".dockercfg", "flake.lock", "package.resolved", "bun.lock"], &[]),
    lang("jsp", "Java Server Pages", Programming, &["jsp", "jspx", "jspf", "tag"], &[], &[]),
    lang("julia", "Julia", Programming, &["jl"], &[], &["julia"]),
    lang("jupyter", "Jupyter Notebook", Programming, &["ipynb"], &[], &[]),
    lang("kotlin", "Kotlin", Programming, &["kt", "kts"], &[], &["kotlin"]),
    lang("less", "Less", Markup, &["less"], &[], &[]),
    lang("lisp", "Lisp", Programming, &["lisp", "lsp", "el", "scm", "rkt"], &[], &["sbcl", "racket", "guile"]),
    lang("lua", "Lua", Programming, &["lua", "luau"], &[], &["lua", "luajit"]),
    lang("makefile", "Makefile", Programming, &["mk", "mak"], &["makefile", "gnumakefile", "makefile.am", "makefile.in", "justfile"], &["make"]),
    lang("markdown", "Markdown", Prose, &["md", "markdown", "mdown", "mdx"], &[], &[]),
    lang("nginx", "Nginx", Data, &["nginx", "nginxconf"], &["nginx.conf"], &[]),
    lang("nim", "Nim", Programming, &["nim", "nims"], &[], &[]),
    lang("nix", "Nix", Programming, &["nix"], &[], &[]),
    lang("objective-c", "Objective-C", Programming, &["m", "mm"], &[], &[]),
    lang("ocaml", "OCaml", Programming, &["ml", "mli"], &[], &["ocaml"]),
    lang("pascal", "Pascal", Programming, &["pas", "dpr", "lpr"], &[], &[]),
    lang("pem", "PEM", Data, &["pem", "key", "crt", "cer", "csr", "pub", "asc", "ppk"], &["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "authorized_keys", "known_hosts"], &[]),
    lang("perl", "Perl", Programming, &["pl", "pm", "perl", "t"], &["cpanfile"], &["perl"]),
    lang("php", "PHP", Programming, &["php", "php3", "php4", "php5", "php7", "phtml", "phps"], &[], &["php"]),
    lang("powershell", "PowerShell", Programming, &["ps1", "psm1", "psd1"], &[], &["pwsh", "powershell"]),
    lang("prisma", "Prisma", Data, &["prisma"], &[], &[]),
    lang("properties", "Java Properties", Data, &["properties"], &["gradle.lockfile"], &[]),
    lang("protobuf", "Protocol Buffers", Data, &["proto"], &[], &[]),
    lang("python", "Python", Programming, &["py", "pyi", "pyw", "wsgi"], &["sconstruct", "sconscript", "wscript"], &["python", "pypy", "uv"]),
    lang("r", "R", Programming, &["r", "rmd"], &[".rprofile"], &["rscript"]),
    lang("razor", "Razor", Markup, &["cshtml", "razor", "vbhtml", "aspx", "ascx"], &[], &[]),
    lang("restructuredtext", "reStructuredText", Prose, &["rst"], &[], &[]),
    lang("ruby", "Ruby", Programming, &["rb", "rake", "gemspec", "ru", "rbw", "podspec", "jbuilder"], &["gemfile", "rakefile", "vagrantfile", "podfile", "fastfile", "guardfile", "capfile", "brewfile", "berksfile"], &["ruby", "jruby"]),
    lang("rust", "Rust", Programming, &["rs"], &[], &["rust-script"]),
    lang("sass", "Sass", Markup, &["scss", "sass"], &[], &[]),
    lang("scala", "Scala", Programming, &["scala", "sc", "sbt"], &[], &["scala"]),
    lang("shell", "Shell", Programming, &["sh", "bash", "zsh", "ksh", "fish", "command", "bats"], &[".bashrc", ".bash_profile", ".bash_history", ".zshrc", ".zsh_history", ".profile", "pkgbuild", "gradlew"], &["sh", "bash", "zsh", "ksh", "dash", "ash", "fish"]),
    lang("solidity", "Solidity", Programming, &["sol"], &[], &[]),
    lang("sql", "SQL", Programming, &["sql", "psql", "ddl", "plsql", "pgsql"], &[], &[]),
    lang("starlark", "Starlark", Programming, &["bzl", "star", "bazel"], &["build", "workspace", "tiltfile"], &[]),
    lang("svelte", "Svelte", Programming, &["svelte"], &[], &[]),
    lang("svg", "SVG", Data, &["svg"], &[], &[]),
    lang("swift", "Swift", Programming, &["swift"], &[], &["swift"]),
    lang("tcl", "Tcl", Programming, &["tcl"], &[], &["tclsh", "wish", "expect"]),
    lang("tex", "TeX", Prose, &["tex", "sty", "bib"], &[], &[]),
    lang("text", "Text", Prose, &["txt", "text", "log", "adoc", "asciidoc"], &["readme", "license", "copying", "changelog", "authors", "notice", "codeowners"], &[]),
    lang("thrift", "Thrift", Data, &["thrift"], &[], &[]),
    lang("toml", "TOML", Data, &["toml"], &["cargo.lock", "poetry.lock", "uv.lock", "pdm.lock", "pipfile", "gopkg.lock"], &[]),
    lang("tsx", "TSX", Programming, &["tsx"], &[], &[]),
    lang("twig", "Twig", Markup, &["twig"], &[], &[]),
    lang("typescript", "TypeScript", Programming, &["ts", "mts", "cts"], &[], &["deno", "ts-node", "tsx"]),
    lang("vbnet", "Visual Basic", Programming, &["vb", "vbs", "bas", "frm"], &[], &[]),
    lang("velocity", "Velocity", Markup, &["vm", "vtl", "ftl"], &[], &[]),
    lang("verilog", "Verilog", Programming, &["v", "sv", "svh"], &[], &[]),
    lang("vhdl", "VHDL", Programming, &["vhd", "vhdl"], &[], &[]),
    lang("vim", "Vim Script", Programming, &["vim"], &[".vimrc"], &[]),
    lang("vue", "Vue", Programming, &["vue"], &[], &[]),
    lang("xml", "XML", Data, &["xml", "xsd", "xsl", "xslt", "wsdl", "plist", "csproj", "vbproj", "fsproj", "props", "targets", "config", "resx", "nuspec", "pom", "jmx"], &[], &[]),
    lang("yaml", "YAML", Data, &["yaml", "yml"], &["pnpm-lock.yaml", "yarn.lock", ".clang-format", ".clang-tidy", ".gemrc", "pubspec.lock"], &[]),
    lang("zig", "Zig", Programming, &["zig", "zon"], &[], &[]),
];

struct Index {
    ids: HashMap<&'static str, &'static Language>,
    extensions: HashMap<&'static str, &'static Language>,
    names: HashMap<&'static str, &'static Language>,
    interpreters: HashMap<&'static str, &'static Language>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let by = |keys: fn(&'static Language) -> &'static [&'static str]| {
        LANGUAGES.iter().flat_map(|l| keys(l).iter().map(move |key| (*key, l))).collect()
    };
    Index {
        ids: LANGUAGES.iter().map(|l| (l.id, l)).collect(),
        extensions: by(|l| l.extensions),
        names: by(|l| l.names),
        interpreters: by(|l| l.interpreters),
    }
});

/// All languages, by id.
pub fn languages() -> &'static [Language] {
    LANGUAGES
}

/// The language with this id.
pub fn language(id: &str) -> Option<&'static Language> {
    INDEX.ids.get(id).copied()
}

/// The name that people write, or the id itself if it is not known.
pub fn display_name(id: &str) -> &str {
    language(id).map_or(id, |l| l.display)
}

/// Longest name that is looked up; longer ones have no language.
const MAX_NAME: usize = 255;

/// Id of the language (`python`, `javascript`, `typescript`, `tsx`, `java`, `go`,
/// `dockerfile`, `yaml`, …), told by the path. It is one of [`languages`].
pub fn language_of_path(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.is_empty() || name.len() > MAX_NAME {
        return None;
    }
    let name = name.to_ascii_lowercase();
    if let Some(found) = INDEX.names.get(name.as_str()) {
        return Some(found.id);
    }
    // `Dockerfile.prod`, `Makefile.linux` and `.env.production` say it in front.
    if let Some((front, behind)) = name.rsplit_once('.')
        && !front.is_empty()
    {
        // The extension of a template or a copy hides the one that counts.
        let shown = match behind {
            "bak" | "orig" | "old" | "tmpl" | "tpl" | "template" | "dist" | "sample"
            | "example" | "in" | "local" | "lock"
                if !INDEX.extensions.contains_key(behind) =>
            {
                front
            }
            _ => name.as_str(),
        };
        if let Some(found) = INDEX.names.get(shown) {
            return Some(found.id);
        }
        let extension = shown.rsplit_once('.').map_or("", |(_, e)| e);
        if let Some(found) = INDEX.extensions.get(extension) {
            return Some(found.id);
        }
    }
    ["dockerfile.", "containerfile.", "makefile.", "jenkinsfile.", ".env."]
        .into_iter()
        .find(|prefix| name.starts_with(prefix))
        .and_then(|prefix| INDEX.names.get(prefix.trim_end_matches('.')))
        .map(|l| l.id)
}

/// Language of a file whose path does not tell, by its first line (a shebang, or
/// what opens an XML or PHP file). Looks at 200 bytes at most.
pub fn language_of_content(bytes: &[u8]) -> Option<&'static str> {
    let head = &bytes[..bytes.len().min(200)];
    let line = head.split(|b| *b == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let line = line.trim_start_matches('\u{feff}').trim_end();
    if let Some(command) = line.strip_prefix("#!") {
        return interpreter(command);
    }
    if line.starts_with("<?php") {
        return Some("php");
    }
    if line.starts_with("<?xml") {
        return Some("xml");
    }
    if line.len() >= 9 && line.as_bytes()[..9].eq_ignore_ascii_case(b"<!doctype") {
        return Some("html");
    }
    line.starts_with("-----BEGIN ").then_some("pem")
}

/// `/usr/bin/env -S python3.11 -u` and the like.
fn interpreter(command: &str) -> Option<&'static str> {
    let mut words = command.split_whitespace();
    let mut program = words.next()?.rsplit('/').next()?;
    if program == "env" {
        program = words.find(|w| !w.starts_with('-') && !w.contains('='))?.rsplit('/').next()?;
    }
    let program = program.to_ascii_lowercase();
    let bare = program.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    INDEX.interpreters.get(bare).map(|l| l.id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_key_belongs_to_one_language() {
        let mut seen = HashSet::new();
        for l in LANGUAGES {
            assert!(seen.insert(("id", l.id)), "{} stands twice", l.id);
            for (what, keys) in
                [("extension", l.extensions), ("name", l.names), ("interpreter", l.interpreters)]
            {
                for key in keys {
                    assert!(seen.insert((what, *key)), "{what} {key} stands twice");
                    assert_eq!(*key, key.to_ascii_lowercase());
                }
            }
        }
        assert!(LANGUAGES.is_sorted_by_key(|l| l.id));
        assert!(LANGUAGES.len() >= 60);
    }

    #[test]
    fn told_by_path() {
        for (path, expected) in [
            ("src/app.py", Some("python")),
            ("a/B.JAVA", Some("java")),
            ("x.tsx", Some("tsx")),
            ("x.d.ts", Some("typescript")),
            ("Dockerfile", Some("dockerfile")),
            ("deploy/Dockerfile.prod", Some("dockerfile")),
            ("api.dockerfile", Some("dockerfile")),
            (".env", Some("dotenv")),
            (".env.production", Some("dotenv")),
            ("config/.env.local", Some("dotenv")),
            ("settings.py.bak", Some("python")),
            ("Makefile", Some("makefile")),
            ("go.mod", Some("gomod")),
            ("yarn.lock", Some("yaml")),
            ("Cargo.lock", Some("toml")),
            ("id_rsa", Some("pem")),
            ("LICENSE", Some("text")),
            (".hidden", None),
            ("bin/tool", None),
            ("noext.", None),
            ("", None),
            ("dir/", None),
        ] {
            assert_eq!(language_of_path(path), expected, "{path}");
        }
    }

    #[test]
    fn told_by_content() {
        for (head, expected) in [
            ("#!/usr/bin/env python3\n", Some("python")),
            ("#!/usr/bin/python2.7 -u\nx", Some("python")),
            ("#!/usr/bin/env -S node --harmony\n", Some("javascript")),
            ("#! /bin/bash\n", Some("shell")),
            ("#!/usr/bin/env FOO=1 ruby\n", Some("ruby")),
            ("<?php echo 1;", Some("php")),
            ("-----BEGIN RSA PRIVATE KEY-----\n", Some("pem")),
            ("#!", None),
            ("", None),
            ("hello", None),
        ] {
            assert_eq!(language_of_content(head.as_bytes()), expected, "{head:?}");
        }
    }
}
