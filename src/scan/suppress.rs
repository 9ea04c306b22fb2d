//! Suppressions written into the source: `sluice:ignore RULE -- reason`.
//!
//! The words have to stand in a comment. They speak of their own line, or of the
//! next one if the comment stands alone on its line. Several rules are separated
//! by commas; `secrets/*` names every rule with that prefix, `*` every rule.

use super::model::Suppression;

/// The word that opens a suppression.
const MARKER: &[u8] = b"sluice:ignore";

/// Most suppressions that are read from one file; a file with more is not
/// written by a person.
const MAX_PER_FILE: usize = 1000;

/// Most bytes of a line that are looked at around the marker.
const MAX_COMMENT: usize = 400;

/// What may open a comment in the languages that are read here.
const OPENERS: [&str; 11] = ["//", "/*", "#", "<!--", "--", ";", "%", "*", "{-", "(*", "\"\"\""];

/// All suppressions in a file, by line.
pub fn suppressions(bytes: &[u8]) -> Vec<Suppression> {
    let mut found = Vec::new();
    let mut counted_to = 0;
    let mut line = 1_u32;
    for at in memchr::memmem::find_iter(bytes, MARKER).take(10 * MAX_PER_FILE) {
        line += memchr::memchr_iter(b'\n', bytes.get(counted_to..at).unwrap_or_default()).count()
            as u32;
        counted_to = at;
        let behind = bytes.get(at + MARKER.len()..).unwrap_or_default();
        let behind = &behind[..behind.len().min(MAX_COMMENT)];
        let behind = behind.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
        let before_from = at.saturating_sub(MAX_COMMENT);
        let before = bytes.get(before_from..at).unwrap_or_default();
        let before = before.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let Some(alone) = comment_before(&String::from_utf8_lossy(before)) else {
            continue;
        };
        let (rules, reason) = split(&String::from_utf8_lossy(behind));
        for rule_id in rules {
            found.push(Suppression {
                line: if alone { line + 1 } else { line },
                rule_id,
                reason: reason.clone(),
            });
            if found.len() == MAX_PER_FILE {
                return found;
            }
        }
    }
    found
}

/// True if `pattern`, as written in a suppression, names the rule.
pub fn names(pattern: &str, rule_id: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => rule_id.starts_with(prefix),
        None => pattern == rule_id,
    }
}

/// Whether the text in front of the marker opens a comment (`None`: it does not),
/// and whether nothing but the opener stands there.
fn comment_before(before: &str) -> Option<bool> {
    let text = before.trim();
    let opener = OPENERS.iter().find(|o| text.ends_with(*o)).or_else(|| {
        // Other words of the same comment may stand between opener and marker.
        OPENERS.iter().filter(|o| o.len() > 1 || **o == "#").find(|o| text.contains(*o))
    })?;
    let in_front = text.find(opener).and_then(|at| text.get(..at)).unwrap_or_default();
    let alone = in_front.chars().all(|c| c.is_whitespace() || "/*#<!-;%{(\"".contains(c));
    Some(alone)
}

/// The rules and the reason in the text behind the marker.
fn split(text: &str) -> (Vec<String>, String) {
    let (head, reason) = text.split_once(" --").unwrap_or((text, ""));
    let mut rules: Vec<String> = head
        .split_whitespace()
        .take_while(|word| !matches!(*word, "*/" | "-->"))
        .flat_map(|word| word.split(','))
        .map(|word| word.trim_end_matches("*/").trim_end_matches("-->"))
        // `secrets/*` ends with the same two characters as a comment.
        .zip(head.split_whitespace().flat_map(|word| word.split(',')))
        .map(|(short, whole)| if whole.ends_with("/*") { whole } else { short })
        .filter(|word| is_rule(word))
        .map(str::to_owned)
        .collect();
    if rules.is_empty() && head.trim().trim_end_matches("*/").trim_end_matches("-->").is_empty() {
        rules.push("*".to_owned());
    }
    let reason = reason.trim().trim_end_matches("*/").trim_end_matches("-->").trim();
    (rules, reason.trim_start_matches('>').to_owned())
}

fn is_rule(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 100
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.*".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> (u32, String, String) {
        let all = suppressions(text.as_bytes());
        assert_eq!(all.len(), 1, "{text:?} gives {all:?}");
        (all[0].line, all[0].rule_id.clone(), all[0].reason.clone())
    }

    #[test]
    fn speaks_of_its_own_line_behind_code() {
        let (line, rule, reason) =
            one("a\nkey = 'x' # sluice:ignore secrets/generic-secret -- not a real one\n");
        assert_eq!((line, &*rule, &*reason), (2, "secrets/generic-secret", "not a real one"));
    }

    #[test]
    fn speaks_of_the_next_line_when_alone() {
        assert_eq!(one("  // sluice:ignore secrets/* -- sample\nx\n").0, 2);
        assert_eq!(one("<!-- sluice:ignore secrets/a-b -- sample -->\nx\n").0, 2);
        let (line, rule, reason) = one("\n/* sluice:ignore java/xxe -- closed parser */\n");
        assert_eq!((line, &*rule, &*reason), (3, "java/xxe", "closed parser"));
    }

    #[test]
    fn several_rules_and_none() {
        let all = suppressions(b"x // sluice:ignore a/b, c/d,e/f -- r");
        let ids: Vec<_> = all.iter().map(|s| s.rule_id.as_str()).collect();
        assert_eq!(ids, ["a/b", "c/d", "e/f"]);
        assert_eq!(one("x # sluice:ignore").1, "*");
        assert_eq!(one("x /* sluice:ignore */").1, "*");
    }

    #[test]
    fn words_outside_a_comment_do_nothing() {
        assert!(suppressions(b"print(\"sluice:ignore secrets/x\")").is_empty());
        assert!(suppressions(b"sluice:ignore secrets/x -- why").is_empty());
    }

    #[test]
    fn a_prefix_names_its_rules() {
        assert!(names("secrets/*", "secrets/jwt"));
        assert!(names("*", "go/xss"));
        assert!(names("go/xss", "go/xss"));
        assert!(!names("secrets/*", "go/xss"));
        assert!(!names("secrets/jw", "secrets/jwt"));
    }

    #[test]
    fn hostile_text_ends_soon() {
        let many = b"// sluice:ignore a/b -- c\n".repeat(5000);
        assert_eq!(suppressions(&many).len(), MAX_PER_FILE);
        let long = b"sluice:ignore ".repeat(100_000);
        assert!(suppressions(&long).is_empty());
    }
}
