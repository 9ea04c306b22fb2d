//! What source files say: routes, commands, and the traits that threats rest on.
//! Shallow on purpose: a profile is a first draft for people, the engines look
//! deeper.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

use super::Seen;
use super::manifests::line_of;
use super::threats::Trait;

/// Entry points taken from one file.
const MAX_PER_FILE: usize = 100;

/// Languages, kind of entry point, expression; the last group that took part is the
/// detail.
const ENTRIES: &[(&[&str], &str, &str)] = &[
    (
        &["python"],
        "http",
        r#"(?m)^[ \t]*@[\w.]+\.(?:route|get|post|put|patch|delete|websocket)\(\s*[rbf]?["']([^"'\n]*)"#,
    ),
    (&["python"], "http", r#"(?m)^[ \t]*(?:re_)?path\(\s*r?["']([^"'\n]*)["']\s*,"#),
    (&["python"], "cli", r#"(?m)^if __name__ == ["']__main__["']"#),
    (&["python"], "message", r"(?m)^[ \t]*@(?:\w+\.)?(?:task|shared_task)\b"),
    (
        &["javascript", "typescript", "tsx"],
        "http",
        r#"\b(?:app|router|server|api|routes?)\.(?:get|post|put|patch|delete|all|use)\(\s*["'`](/[^"'`\n]*)"#,
    ),
    (
        &["typescript"],
        "http",
        r#"(?m)^[ \t]*@(?:Get|Post|Put|Patch|Delete|All)\(\s*["'`]?([^"'`)\n]*)"#,
    ),
    (&["javascript", "typescript"], "cli", r"\A#!.*\bnode\b"),
    (
        &["java", "kotlin"],
        "http",
        r#"(?m)^[ \t]*@(?:Request|Get|Post|Put|Patch|Delete)Mapping(?:\(\s*(?:value\s*=\s*|path\s*=\s*)?\{?\s*"([^"\n]*)")?"#,
    ),
    (&["java"], "http", r#"(?m)^[ \t]*@(?:WebServlet|Path)\(\s*"([^"\n]*)""#),
    (&["java"], "cli", r"public\s+static\s+void\s+main\s*\("),
    (
        &["java"],
        "message",
        r"(?m)^[ \t]*@(?:KafkaListener|RabbitListener|JmsListener|SqsListener)\b",
    ),
    (&["go"], "http", r#"\.?\bHandle(?:Func)?\(\s*"([^"\n]+)""#),
    (
        &["go"],
        "http",
        r#"\.(?:GET|POST|PUT|PATCH|DELETE|Any|Get|Post|Put|Patch|Delete)\(\s*"(/[^"\n]*)""#,
    ),
    (&["go"], "cli", r"(?m)^func main\(\)"),
    (&["rust"], "http", r#"\.route\(\s*"(/[^"\n]*)""#),
    (&["rust"], "cli", r"(?m)^(?:async )?fn main\(\)"),
];

static COMPILED: LazyLock<Vec<(&[&str], &str, Regex)>> = LazyLock::new(|| {
    ENTRIES
        .iter()
        .filter_map(|(languages, kind, text)| Some((*languages, *kind, Regex::new(text).ok()?)))
        .collect()
});

/// Traits that are told by one look at the whole file.
const TRAITS: &[(Trait, &str)] = &[
    (
        Trait::Sql,
        r"(?i)\b(?:cursor|conn|connection|db|stmt|statement|session|jdbcTemplate|sequelize|pool)\.(?:execute|executeQuery|executeUpdate|query|queryRow|exec|raw)\w*\(",
    ),
    (
        Trait::Commands,
        r"\bsubprocess\.|\bos\.system\(|\bchild_process\b|\bRuntime\.getRuntime\(\)|\bProcessBuilder\b|\bexec\.Command(?:Context)?\(",
    ),
    (
        Trait::Files,
        r"(?i)\bsend_file\(|\bUploadFile\b|\brequest\.files\b|\bmulter\b|\bMultipartFile\b|\bFormFile\(|\bsendFile\(",
    ),
    (
        Trait::Credentials,
        r"(?i)\b(?:password|passwd|bcrypt|argon2|jwt|access_token|refresh_token|api_?key|client_?secret)\b",
    ),
    (
        Trait::OutgoingHttp,
        r"\brequests\.(?:get|post|put|request)\(|\bhttpx\.|\burllib\.request\b|\baxios\b|\bfetch\(|\bhttp\.(?:Get|Post|NewRequest)\(|\bRestTemplate\b|\bHttpClient\b",
    ),
    (
        Trait::Deserialises,
        r"\bpickle\.loads?\(|\byaml\.load\(|\bObjectInputStream\b|\bunserialize\(|\bmarshal\.loads\(|\bXMLDecoder\b",
    ),
    (
        Trait::PersonalData,
        r"(?i)\b(?:date_?of_?birth|birth_?date|phone_?number|postal_?address|first_?name|passport_?number|social_?security)\b",
    ),
    (Trait::PaymentData, r"(?i)\b(?:card_?number|credit_?card|cvv|iban|payment_?intent)\b"),
];

static TRAIT_SET: LazyLock<Option<RegexSet>> =
    LazyLock::new(|| RegexSet::new(TRAITS.iter().map(|(_, text)| text)).ok());

/// True for languages that [`read`] knows.
pub(super) fn is_read(language: &str) -> bool {
    ENTRIES.iter().any(|(languages, ..)| languages.contains(&language))
}

/// Notes what a source file says.
pub(super) fn read(language: &str, path: &str, text: &str, seen: &mut Seen) {
    let mut found = 0;
    for (_, kind, regex) in COMPILED.iter().filter(|(l, ..)| l.contains(&language)) {
        for captures in regex.captures_iter(text) {
            let Some(whole) = captures.get(0) else {
                continue;
            };
            if found >= MAX_PER_FILE {
                seen.cut = true;
                return;
            }
            found += 1;
            // Where the expression begins with white space, the line is that of its end.
            let detail = captures.iter().skip(1).flatten().last();
            let shown = detail.map_or_else(|| whole.as_str().trim(), |d| d.as_str());
            let at = whole.start() + whole.as_str().len() - whole.as_str().trim_start().len();
            seen.enter(kind, path, line_of(text, at), shown);
            if *kind == "http" {
                seen.note(Trait::Http, path);
            }
        }
    }
    if let Some(set) = &*TRAIT_SET {
        for index in set.matches(text) {
            if let Some((what, _)) = TRAITS.get(index) {
                seen.note(*what, path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_compiles() {
        assert_eq!(COMPILED.len(), ENTRIES.len());
        assert!(TRAIT_SET.is_some());
    }

    fn points(language: &str, text: &str) -> Vec<(String, u32, String)> {
        let mut seen = Seen::default();
        read(language, "f", text, &mut seen);
        seen.entry_points.into_iter().map(|e| (e.kind, e.line, e.detail)).collect()
    }

    #[test]
    fn routes_and_commands_are_found_with_their_lines() {
        for (language, text, kind, line, detail) in [
            ("python", "x\n@app.route(\"/users/<id>\")\ndef f(): ...", "http", 2, "/users/<id>"),
            ("python", "\n\n    path('login/', views.login),", "http", 3, "login/"),
            ("javascript", "a\nrouter.post('/pay', pay)", "http", 2, "/pay"),
            ("java", "  @GetMapping(\"/orders\")\n", "http", 1, "/orders"),
            ("java", "x\n\n  @RequestMapping(value = \"/v1\")", "http", 3, "/v1"),
            ("go", "mux.HandleFunc(\"/x\", h)", "http", 1, "/x"),
            ("go", "package main\nr.GET(\"/y\", h)", "http", 2, "/y"),
            ("go", "package main\n\nfunc main() {}", "cli", 3, "func main()"),
        ] {
            let expected = vec![(kind.to_owned(), line, detail.to_owned())];
            assert_eq!(points(language, text), expected, "{text}");
        }
        assert!(points("python", "values.get('/x')\n# path of things").is_empty());
        assert!(points("javascript", "cache.get('/key'); map.delete('/x')").is_empty());
    }
}
