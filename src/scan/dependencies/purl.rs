//! Names of packages, and package URLs
//! (<https://github.com/package-url/purl-spec>).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but the characters that stand for themselves in a component.
const COMPONENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~').remove(b':');

/// The name under which an ecosystem looks a package up, where several spellings
/// name the same package (PyPI, NuGet, Packagist); otherwise the name itself.
pub fn normalised_name(ecosystem: &str, name: &str) -> String {
    match ecosystem {
        "PyPI" => {
            // PEP 503: runs of `-`, `_` and `.` are one hyphen.
            let mut out = String::with_capacity(name.len());
            for c in name.chars() {
                if matches!(c, '-' | '_' | '.') {
                    if !out.ends_with('-') {
                        out.push('-');
                    }
                } else {
                    out.push(c.to_ascii_lowercase());
                }
            }
            out
        }
        "NuGet" | "Packagist" => name.to_ascii_lowercase(),
        _ => name.to_owned(),
    }
}

/// The package URL of a version (empty: none) of a package.
pub fn purl(ecosystem: &str, name: &str, version: &str) -> String {
    let kind = match ecosystem {
        "npm" => "npm",
        "PyPI" => "pypi",
        "crates.io" => "cargo",
        "Go" => "golang",
        "Maven" => "maven",
        "RubyGems" => "gem",
        "Packagist" => "composer",
        "NuGet" => "nuget",
        _ => "generic",
    };
    let name = match ecosystem {
        "PyPI" => normalised_name(ecosystem, name),
        "Packagist" | "npm" => name.to_ascii_lowercase(),
        "Maven" => name.replacen(':', "/", 1),
        _ => name.to_owned(),
    };
    let mut out = format!("pkg:{kind}");
    for part in name.split('/').filter(|p| !p.is_empty()) {
        out.push('/');
        out.extend(utf8_percent_encode(part, COMPONENT));
    }
    if !version.is_empty() {
        out.push('@');
        out.extend(utf8_percent_encode(version, COMPONENT));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (ecosystem, name, version, expected) in [
            ("npm", "@babel/core", "7.0.0", "pkg:npm/%40babel/core@7.0.0"),
            ("PyPI", "Ruamel.YAML_x", "1.0+a", "pkg:pypi/ruamel-yaml-x@1.0%2Ba"),
            (
                "Maven",
                "org.apache.logging.log4j:log4j-core",
                "2.14.1",
                "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1",
            ),
            ("Go", "golang.org/x/text", "v0.3.0", "pkg:golang/golang.org/x/text@v0.3.0"),
            ("NuGet", "Newtonsoft.Json", "12.0.1", "pkg:nuget/Newtonsoft.Json@12.0.1"),
            ("crates.io", "serde", "", "pkg:cargo/serde"),
        ] {
            assert_eq!(purl(ecosystem, name, version), expected);
        }
    }
}
