//! The order of versions, as each ecosystem defines it.
//!
//! Every order is total over all strings, since versions come from files that
//! anybody may have written: what the ecosystem itself would refuse is placed
//! somewhere, never an error. Numbers are compared as strings of digits, so their
//! size is not bounded by an integer type. Comparing costs time linear in the
//! lengths, and longer versions than [`MAX_VERSION`] are cut there.

mod maven;
mod nuget;
mod packagist;
mod pypi;
mod rubygems;
mod semver;

use std::cmp::Ordering;

/// Bytes of a version that count.
pub const MAX_VERSION: usize = 256;

/// Compares two versions of an OSV ecosystem (`npm`, `PyPI`, `Maven`, …; a suffix
/// such as `:1.0` is ignored). `None` if the order of the ecosystem is not known.
pub fn compare(ecosystem: &str, a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (cut(a.trim()), cut(b.trim()));
    Some(match ecosystem.split(':').next().unwrap_or(ecosystem) {
        "npm" | "crates.io" | "Go" | "Hex" | "SwiftURL" | "GitHub Actions" | "Bitnami" => {
            semver::compare(a, b)
        }
        "PyPI" => pypi::compare(a, b),
        "Maven" => maven::compare(a, b),
        "RubyGems" => rubygems::compare(a, b),
        "Packagist" => packagist::compare(a, b),
        "NuGet" => nuget::compare(a, b),
        _ => return None,
    })
}

fn cut(version: &str) -> &str {
    let mut end = version.len().min(MAX_VERSION);
    while !version.is_char_boundary(end) {
        end -= 1;
    }
    version.get(..end).unwrap_or("")
}

fn is_number(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())
}

/// Orders two strings of digits as numbers of any size. An empty one is zero.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Splits at every change between digits and other characters.
fn runs(s: &str) -> impl Iterator<Item = &str> {
    let mut rest = s;
    std::iter::from_fn(move || {
        let digit = rest.bytes().next()?.is_ascii_digit();
        let end = rest.bytes().position(|b| b.is_ascii_digit() != digit).unwrap_or(rest.len());
        // A change next to a digit is always at a character boundary.
        let (run, behind) = rest.split_at_checked(end)?;
        rest = behind;
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn check(ecosystem: &str, line: &str) -> Result<(), String> {
        let mut words = line.split(' ');
        let (Some(a), Some(op), Some(b), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(format!("{line:?} is no pair"));
        };
        let expected = match op {
            "<" => Ordering::Less,
            "=" => Ordering::Equal,
            ">" => Ordering::Greater,
            _ => return Err(format!("{op:?} is no relation")),
        };
        let found = compare(ecosystem, a, b);
        let turned = compare(ecosystem, b, a);
        if found != Some(expected) || turned != Some(expected.reverse()) {
            return Err(format!("{ecosystem}: {line}: found {found:?}, turned {turned:?}"));
        }
        Ok(())
    }

    /// A few of each kind that is easy to get wrong.
    #[test]
    fn pairs() {
        for (ecosystem, lines) in [
            ("npm", &["1.2.3-4-foo < 1.2.3", "1.2.3-a.5 < 1.2.3-a.10", "v1.2.3+x = 1.2.3"][..]),
            ("PyPI", &["1.0.dev0 < 1.0a0", "1.0rc1 < 1.0", "1.0 < 1.0.post1", "2.0 < 1!1.0"]),
            ("Maven", &["1.0-alpha-1 < 1.0", "1.0-SNAPSHOT < 1.0", "1.0 < 1.0-1", "1.0 = 1"]),
            ("RubyGems", &["1.0.b1 < 1.0", "3.2 < 3.10", "1.0 = 1.0.0"]),
            ("Packagist", &["1.0-dev < 1.0a1", "1.0rc1 < 1.0", "1.0 < 1.0pl1"]),
            ("NuGet", &["1.0 = 1.0.0.0", "1.0.0-Beta < 1.0.0", "1.0.0 < 1.0.0.1-alpha"]),
        ] {
            for line in lines {
                assert_eq!(check(ecosystem, line), Ok(()));
            }
        }
        assert_eq!(compare("Nowhere", "1", "2"), None);
    }

    #[test]
    fn total_over_anything() {
        for ecosystem in ["npm", "PyPI", "Maven", "RubyGems", "Packagist", "NuGet"] {
            let odd = ["", "-", ".", "..", "é", "1é2", "1..2", "v", "+", "a-é.1", "１"];
            for a in odd {
                for b in odd {
                    let forth = compare(ecosystem, a, b);
                    let back = compare(ecosystem, b, a).map(Ordering::reverse);
                    assert_eq!(forth, back, "{ecosystem} {a:?} {b:?}");
                }
            }
            let long = "9".repeat(100_000);
            assert_eq!(compare(ecosystem, &long, &long), Some(Ordering::Equal));
        }
    }

    /// All pairs of the public test data, where it lies beside the project.
    #[test]
    fn public_pairs() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/versions");
        let Some(data) =
            [data, Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/versions")]
                .into_iter()
                .find(|d| d.is_dir())
        else {
            println!("skipped: ../shared/data/versions is absent, so there is nothing to compare");
            return;
        };
        let mut wrong = Vec::new();
        let mut pairs = 0;
        for (ecosystem, file) in [
            ("npm", "semver-versions.txt"),
            ("PyPI", "pypi-versions.txt"),
            ("PyPI", "pypi-versions-generated.txt"),
            ("Maven", "maven-versions.txt"),
            ("Maven", "maven-versions-generated.txt"),
            ("RubyGems", "rubygems-versions.txt"),
            ("RubyGems", "rubygems-versions-generated.txt"),
            ("Packagist", "packagist-versions.txt"),
            ("Packagist", "packagist-versions-generated.txt"),
            ("NuGet", "nuget-versions.txt"),
        ] {
            let text = std::fs::read_to_string(data.join(file)).expect("the data is readable");
            for line in text.lines().map(str::trim) {
                if line.is_empty() || line.starts_with("//") || line.starts_with("# ") {
                    continue;
                }
                pairs += 1;
                if let Err(e) = check(ecosystem, line) {
                    wrong.push(e);
                }
            }
        }
        assert!(pairs > 10_000, "only {pairs} pairs");
        assert!(
            wrong.is_empty(),
            "{} of {pairs} are wrong: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(30)]
        );
    }
}
