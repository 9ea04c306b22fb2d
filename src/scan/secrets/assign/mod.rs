//! The assignment detector: the name says that the value is a secret, the value is
//! written down, and it looks like one.
//!
//! Only lines with a word of [`name::TRIGGERS`] are read. Each is split by the
//! quoting rules of its format ([`lexer`]); the values in it are matched with the
//! names that they are given to and judged ([`value`]).

pub mod lexer;
pub mod name;
pub mod value;

use std::ops::Range;

use self::lexer::{Kind, Token, lex};
use self::name::{Class, classify};
use super::format::{Facet, Format};
use super::found::Budget;
use crate::scan::model::Confidence;

/// Bytes of a line that are read before and behind a trigger; lines of minified
/// code are longer.
const BEFORE: usize = 256;
const BEHIND: usize = 1024;

/// A value that was assigned to a telling name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Where the value stands.
    pub span: Range<usize>,
    /// The name as written.
    pub name: String,
    /// What the name promises.
    pub class: Class,
    /// How sure.
    pub confidence: Confidence,
}

/// All assignments near the triggers (ascending offsets), without repetition.
pub fn assignments(
    bytes: &[u8],
    facet: Facet,
    triggers: &[usize],
    budget: &mut Budget<'_>,
) -> Vec<Assignment> {
    let mut all = Vec::new();
    let mut done = 0;
    for trigger in triggers {
        if *trigger < done {
            continue;
        }
        if budget.is_spent() || all.len() >= 20_000 {
            break;
        }
        let window = window(bytes, *trigger);
        // A window that was cut begins again a little before its end, so that a
        // name at the end is seen with its value.
        done = if bytes.get(window.end).is_none_or(|b| *b == b'\n') {
            window.end
        } else {
            window.end - BEHIND / 2
        };
        Line { bytes, facet, window, all: &mut all }.read();
    }
    all.sort_by_key(|a: &Assignment| (a.span.start, a.span.end));
    all.dedup_by(|a, b| a.span == b.span);
    all
}

/// The line of a trigger, and the next one if the line ends where a value is
/// expected.
fn window(bytes: &[u8], trigger: usize) -> Range<usize> {
    let from = trigger.saturating_sub(BEFORE);
    let start = memchr::memrchr(b'\n', bytes.get(from..trigger).unwrap_or_default())
        .map_or(from, |p| from + p + 1);
    let most = bytes.len().min(trigger + BEHIND);
    let line_end = |from: usize| {
        memchr::memchr(b'\n', bytes.get(from..most).unwrap_or_default()).map_or(most, |p| from + p)
    };
    let mut end = line_end(trigger);
    let line = bytes.get(start..end).unwrap_or_default().trim_ascii_end();
    let waits = matches!(line.last(), Some(b'=' | b'(' | b'\\')) || is_entry_name(line);
    if waits && end < most {
        end = line_end(end + 1);
    }
    start..end
}

/// True for a line such as `- name: DB_PASSWORD` or `"name": "DB_PASSWORD",`: the
/// value stands on the next line.
fn is_entry_name(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    let text = text.strip_prefix(b"-").unwrap_or(text).trim_ascii_start();
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let low = text.get(..5).unwrap_or_default().to_ascii_lowercase();
    (low.starts_with(b"name") || low.starts_with(b"key")) && memchr::memchr(b':', text).is_some()
}

struct Line<'a, 'o> {
    bytes: &'a [u8],
    facet: Facet,
    window: Range<usize>,
    all: &'o mut Vec<Assignment>,
}

impl Line<'_, '_> {
    fn line(&self) -> &[u8] {
        self.bytes.get(self.window.clone()).unwrap_or_default()
    }

    fn text(&self, token: &Token) -> &str {
        let bytes = self.line().get(token.start..token.end).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    fn read(mut self) {
        let tokens = lex(self.line(), self.facet.format);
        self.strings(&tokens);
        for token in &tokens {
            // JSON inside a string of source code: one level down.
            if token.kind == Kind::Text && self.text(token).contains("\\\"") {
                let inner = self.line().get(token.start..token.end).unwrap_or_default();
                let mut inner = lex(inner, self.facet.format);
                for t in &mut inner {
                    t.start += token.start;
                    t.end += token.start;
                }
                self.strings(&inner);
            }
        }
        match self.facet.format {
            Format::Env | Format::Shell | Format::Docker => {
                self.inner_pairs(0..self.line().len());
                self.options(&tokens);
            }
            Format::Ini | Format::Yaml | Format::Text => {
                self.unquoted_line(&tokens);
                self.inner_pairs(0..self.line().len());
                self.options(&tokens);
            }
            Format::Xml => self.elements(&tokens),
            Format::Netrc => self.options(&tokens),
            _ => {}
        }
    }

    /// Every string with the name that it is given to, and the pairs inside it.
    fn strings(&mut self, tokens: &[Token]) {
        for (at, token) in tokens.iter().enumerate() {
            if token.kind != Kind::Text || token.end == token.start {
                continue;
            }
            if let Some(name) = self.name_of(tokens, at)
                && !self.goes_on(tokens, at)
                && self.judge(&name, token.start..token.end, true)
            {
                continue;
            }
            self.inner_pairs(token.start..token.end);
        }
    }

    fn judge(&mut self, name: &str, place: Range<usize>, quoted: bool) -> bool {
        let Some(class) = classify(name) else {
            return false;
        };
        let place = without_scheme(self.line(), place);
        let Some(value) = self.line().get(place.clone()) else {
            return false;
        };
        let Some(confidence) = value::judge(class, value, self.facet, quoted) else {
            return false;
        };
        let confidence =
            if self.facet.format == Format::Text { Confidence::Low } else { confidence };
        self.all.push(Assignment {
            span: self.window.start + place.start..self.window.start + place.end,
            name: name.to_owned(),
            class,
            confidence,
        });
        true
    }

    /// The name that the string at `at` is given to.
    fn name_of(&self, tokens: &[Token], at: usize) -> Option<String> {
        let mut before = at.checked_sub(1)?;
        let mut token = tokens.get(before)?;
        let value = tokens.get(at)?;
        // `b"…"`, `f'…'`, `@"…"`, the empty strings of `"""…"""`.
        let touches = |t: &Token| t.end + 1 == value.start;
        while (token.kind == Kind::Word && token.end - token.start <= 2 && touches(token))
            || (token.kind == Kind::Text && token.start == token.end)
            || token.kind == Kind::Sign(b'\\')
        {
            before = before.checked_sub(1)?;
            token = tokens.get(before)?;
        }
        match token.kind {
            Kind::Sign(b'=' | b':' | b'>') => self.assigned(tokens, before, value),
            Kind::Sign(b',') => {
                let key = tokens.get(before.checked_sub(1)?)?;
                let opener = tokens.get(before.checked_sub(2)?)?;
                (key.kind == Kind::Text
                    && matches!(opener.kind, Kind::Sign(b'(' | b'[' | b'{' | b',')))
                .then(|| self.text(key).to_owned())
            }
            Kind::Sign(b'(') => {
                let callee = tokens.get(before.checked_sub(1)?)?;
                let name = self.text(callee);
                let last = name.rsplit('.').next().unwrap_or(name);
                // Of calls only `setPassword("…")`, `withToken("…")`, `password("…")`.
                let target =
                    ["set", "with", "set_", "with_"].iter().find_map(|p| last.strip_prefix(p));
                let target = target.filter(|t| !t.is_empty()).unwrap_or(last);
                (callee.kind == Kind::Word
                    && matches!(classify(target), Some(Class::Password | Class::Secret)))
                .then(|| target.to_owned())
            }
            // `#define NAME "…"`, `PASSWORD '…'`, `--password "…"`.
            Kind::Word => {
                let word = self.text(token).trim_start_matches('-');
                if word.eq_ignore_ascii_case("by") {
                    let earlier = tokens.get(before.checked_sub(1)?)?;
                    return self
                        .text(earlier)
                        .eq_ignore_ascii_case("identified")
                        .then(|| "password".to_owned());
                }
                let direct = matches!(
                    self.facet.format,
                    Format::Script | Format::Code | Format::Shell | Format::Docker | Format::Text
                );
                (direct && classify(word).is_some()).then(|| word.to_owned())
            }
            _ => None,
        }
    }

    /// The name in front of `=`, `:`, `:=`, `=>`, `==`.
    fn assigned(&self, tokens: &[Token], sign: usize, value: &Token) -> Option<String> {
        let mut at = sign;
        while matches!(tokens.get(at)?.kind, Kind::Sign(b'=' | b':' | b'>' | b'?' | b'|' | b'!')) {
            at = at.checked_sub(1)?;
        }
        let mut token = *tokens.get(at)?;
        while matches!(token.kind, Kind::Sign(b']' | b'[' | b')')) {
            at = at.checked_sub(1)?;
            token = *tokens.get(at)?;
        }
        let name = self.text(&token);
        if token.kind == Kind::Text {
            if is_value_word(name) {
                return self.entry_name(tokens, value);
            }
            return Some(name.to_owned());
        }
        if token.kind != Kind::Word {
            return None;
        }
        if is_value_word(name)
            && let Some(entry) = self.entry_name(tokens, value)
        {
            return Some(entry);
        }
        if classify(name).is_some() {
            return Some(name.to_owned());
        }
        // `password: str = "…"`, `var password string = "…"`, `password String = "…"`.
        if !is_type(name) {
            return None;
        }
        for _ in 0..3 {
            at = at.checked_sub(1)?;
            let earlier = tokens.get(at)?;
            match earlier.kind {
                Kind::Word if classify(self.text(earlier)).is_some() => {
                    return Some(self.text(earlier).to_owned());
                }
                Kind::Sign(b':' | b'&' | b'*' | b'[' | b']' | b'<' | b'?') | Kind::Word => {}
                _ => return None,
            }
        }
        None
    }

    /// The name of an entry whose value is written beside it: `key="K" value="V"`,
    /// `{"name": "K", "value": "V"}`.
    fn entry_name(&self, tokens: &[Token], value: &Token) -> Option<String> {
        tokens.windows(3).find_map(|three| {
            let [key, sign, name] = three else {
                return None;
            };
            let is_name = ["key", "name", "id", "property"]
                .iter()
                .any(|k| self.text(key).eq_ignore_ascii_case(k));
            (is_name
                && matches!(sign.kind, Kind::Sign(b'=' | b':'))
                && matches!(name.kind, Kind::Text | Kind::Word)
                && name.start != value.start)
                .then(|| self.text(name).to_owned())
        })
    }

    /// True if the string is only a part of what is computed.
    fn goes_on(&self, tokens: &[Token], at: usize) -> bool {
        let Some(value) = tokens.get(at) else {
            return false;
        };
        match tokens.get(at + 1) {
            Some(Token { kind: Kind::Sign(b'+' | b'%'), .. }) => true,
            // A name, not a value: `"password": "…"`, `["password"] = …`.
            Some(Token { kind: Kind::Sign(b':'), .. }) => {
                !matches!(self.facet.format, Format::Script | Format::Code)
                    || tokens.get(at + 2).is_some_and(|t| t.kind == Kind::Text)
            }
            Some(next) if next.kind == Kind::Word && next.start == value.end + 1 => {
                self.text(next).starts_with(".format") || self.text(next).starts_with(".replace")
            }
            _ => false,
        }
    }

    /// `name=value` without blanks, as in connection strings, query strings, shell
    /// lines: every pair in the range.
    fn inner_pairs(&mut self, range: Range<usize>) {
        let Some(text) = self.line().get(range.clone()) else {
            return;
        };
        let mut pairs = Vec::new();
        for equals in memchr::memchr_iter(b'=', text) {
            let name_start = text[..equals]
                .iter()
                .rposition(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')))
                .map_or(0, |p| p + 1);
            let name_start = name_start.max(equals.saturating_sub(60));
            let rest = text.get(equals + 1..).unwrap_or_default();
            let length = rest
                .iter()
                .position(|b| {
                    b.is_ascii_whitespace()
                        || matches!(
                            b,
                            b';' | b'&' | b'"' | b'\'' | b'`' | b'<' | b'>' | b',' | b'|' | b')'
                        )
                })
                .unwrap_or(rest.len());
            if length > 0 && length <= value::MAX_VALUE {
                let name = String::from_utf8_lossy(&text[name_start..equals]).into_owned();
                let from = range.start + equals + 1;
                pairs.push((name, from..from + length));
            }
        }
        for (name, place) in pairs {
            self.judge(name.trim_start_matches('-'), place, false);
        }
    }

    /// `name = value` or `name: value`, the value going to the end of the line.
    fn unquoted_line(&mut self, tokens: &[Token]) {
        let Some(at) = tokens.iter().position(|t| matches!(t.kind, Kind::Sign(b'=' | b':'))) else {
            return;
        };
        // In a text a sentence may stand in front of a colon.
        if at > 5 {
            return;
        }
        let Some(key) = at.checked_sub(1).and_then(|p| tokens.get(p)) else {
            return;
        };
        let name = self.text(key).to_owned();
        let Some(sign) = tokens.get(at) else { return };
        if matches!(tokens.get(at + 1), Some(t) if t.kind == Kind::Text && t.start == t.end) {
            return;
        }
        let line = self.line();
        let start = sign.end
            + line
                .get(sign.end..)
                .unwrap_or_default()
                .iter()
                .take_while(|b| **b == b' ' || **b == b'\t')
                .count();
        if matches!(line.get(start), Some(b'"' | b'\'' | b'=')) {
            return;
        }
        let rest = line.get(start..).unwrap_or_default();
        let rest = rest.split(|b| *b == b'\n').next().unwrap_or_default();
        let mut end = rest.len();
        for mark in [" #", " ;", "\t#", " //"] {
            if let Some(p) = memchr::memmem::find(&rest[..end], mark.as_bytes()) {
                end = p;
            }
        }
        let value = rest[..end].trim_ascii_end();
        let value = value.strip_suffix(b",").unwrap_or(value);
        let place = start..start + value.len();
        let name = if is_value_word(&name) {
            // The name stands on the line before.
            tokens.first().and_then(|first| self.entry_name(tokens, first)).unwrap_or(name)
        } else {
            name
        };
        if !self.judge(&name, place, false)
            && tokens.len() > at + 2
            && self.facet.format == Format::Yaml
        {
            self.next_entry(tokens);
        }
    }

    /// `- name: K` and on the next line `value: V`, unquoted.
    fn next_entry(&mut self, tokens: &[Token]) {
        let found = tokens.windows(3).find_map(|three| {
            let [key, sign, value] = three else {
                return None;
            };
            (self.text(key) == "value" && sign.kind == Kind::Sign(b':') && value.kind == Kind::Word)
                .then_some(*value)
        });
        let Some(value) = found else { return };
        let Some(name) = self.entry_name(tokens, &value) else {
            return;
        };
        let rest = self.line().get(value.start..).unwrap_or_default();
        let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        self.judge(&name, value.start..value.start + length, false);
    }

    /// `--password value`, `password value` of a netrc file.
    fn options(&mut self, tokens: &[Token]) {
        let netrc = self.facet.format == Format::Netrc;
        let mut found = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let word = self.text(token);
            if token.kind != Kind::Word || !(netrc || word.starts_with("--")) {
                continue;
            }
            let name = word.trim_start_matches('-').to_owned();
            let Some(next) = tokens.get(at + 1) else {
                continue;
            };
            if next.start == token.end || next.kind == Kind::Text {
                continue;
            }
            let rest = self.line().get(next.start..).unwrap_or_default();
            let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            found.push((name, next.start..next.start + length));
        }
        for (name, place) in found {
            self.judge(&name, place, false);
        }
    }

    /// `<password>value</password>`, `<string name="password">value</string>`.
    fn elements(&mut self, tokens: &[Token]) {
        let mut found = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            if token.kind != Kind::Sign(b'>') {
                continue;
            }
            let rest = self.line().get(token.end..).unwrap_or_default();
            let Some(length) = memchr::memchr(b'<', rest) else {
                continue;
            };
            let raw = &rest[..length];
            let value = raw.trim_ascii();
            if value.is_empty() || value.len() > value::MAX_VALUE {
                continue;
            }
            let lead = raw.len() - raw.trim_ascii_start().len();
            let Some(open) = tokens[..at].iter().rposition(|t| t.kind == Kind::Sign(b'<')) else {
                continue;
            };
            let tag = tokens.get(open..at).unwrap_or_default();
            let Some(element) = tag.get(1).filter(|t| t.kind == Kind::Word) else {
                continue;
            };
            let name =
                self.entry_name(tag, element).unwrap_or_else(|| self.text(element).to_owned());
            let start = token.end + lead;
            found.push((name, start..start + value.len()));
        }
        for (name, place) in found {
            self.judge(&name, place, true);
        }
    }
}

/// `Bearer x` and `token x` of an authorization header without the first word.
fn without_scheme(line: &[u8], place: Range<usize>) -> Range<usize> {
    let text = line.get(place.clone()).unwrap_or_default();
    for scheme in ["bearer ", "token ", "apikey ", "key="] {
        if text.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme.as_bytes())) {
            return place.start + scheme.len()..place.end;
        }
    }
    place
}

fn is_value_word(name: &str) -> bool {
    ["value", "default", "defaultvalue", "content"].iter().any(|w| name.eq_ignore_ascii_case(w))
}

fn is_type(name: &str) -> bool {
    matches!(
        name,
        "str"
            | "string"
            | "String"
            | "char"
            | "text"
            | "bytes"
            | "static"
            | "Final"
            | "Optional"
            | "varchar"
            | "VARCHAR"
            | "any"
            | "Any"
            | "object"
            | "Object"
            | "CharSequence"
            | "NSString"
            | "byte"
            | "final"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::model::{Cancel, Limits};

    fn names(text: &str, format: Format) -> Vec<(String, String)> {
        let cancel = Cancel::new();
        let mut budget = Budget::new(&Limits::default(), &cancel);
        let lower = text.to_ascii_lowercase();
        let mut triggers: Vec<usize> = name::TRIGGERS
            .iter()
            .flat_map(|t| {
                memchr::memmem::find_iter(lower.as_bytes(), t.as_bytes()).collect::<Vec<_>>()
            })
            .collect();
        triggers.sort_unstable();
        assignments(text.as_bytes(), Facet { format, lenient: false }, &triggers, &mut budget)
            .into_iter()
            .map(|a| (a.name, text[a.span].to_owned()))
            .collect()
    }

    fn sees(text: &str, format: Format, value: &str) {
        let all = names(text, format);
        assert!(all.iter().any(|(_, v)| v == value), "{text:?} gives {all:?}");
        assert_eq!(all.len(), 1, "{text:?} gives {all:?}");
    }

    const V: &str = "kX92mfPq7Rt3Lw8Zb";

    #[test]
    fn source_code() {
        for text in [
            r#"password = "$""#,
            r#"self.password = '$'"#,
            r#"password: str = "$""#,
            r#"conf["password"] = "$""#,
            r#"connect(host="x", password="$")"#,
            r#"const apiKey = `$`;"#,
            r#"var c = { clientSecret: '$' };"#,
            r#"props.put("db.password", "$")"#,
            r#"define('DB_PASSWORD', '$');"#,
            r#"'password' => '$',"#,
            r#"os.environ.get("API_KEY", "$")"#,
            r#"$db_password = "$";"#,
            r#"# old: password = "$""#,
            r#"if password == "$":"#,
            r#"CREATE USER x IDENTIFIED BY '$'"#,
            r#"dsn = "host=db user=app password=$ dbname=x""#,
            r#"cs = "Server=db;User Id=app;Password=$;""#,
            "password = \\\n    \"$\"",
        ] {
            let text = text.replacen("$db", "@db", 1).replace('$', V).replacen("@db", "$db", 1);
            sees(&text, Format::Script, V);
        }
        for text in [
            r#"private static final String DB_PASSWORD = "$";"#,
            r#"var password string = "$""#,
            r#"let password: &str = "$";"#,
            r#"#define API_SECRET "$""#,
            r#"char password[] = "$";"#,
            r#"ds.setPassword("$");"#,
            r#"password := "$""#,
            r#"s = "{\"password\": \"$\"}""#,
        ] {
            sees(&text.replace('$', V), Format::Code, V);
        }
    }

    #[test]
    fn configuration() {
        for (text, format) in [
            ("DB_PASSWORD=$\n", Format::Env),
            ("export DB_PASSWORD='$'\n", Format::Env),
            ("db.password = $\n", Format::Ini),
            ("password: $  # local\n", Format::Yaml),
            ("  - name: DB_PASSWORD\n    value: $\n", Format::Yaml),
            ("  - name: DB_PASSWORD\n    value: \"$\"\n", Format::Yaml),
            ("{\"name\": \"DB_PASSWORD\", \"value\": \"$\"}", Format::Json),
            ("\"password\": \"$\",", Format::Json),
            ("password = \"$\"\n", Format::Toml),
            ("<password>$</password>", Format::Xml),
            ("<add key=\"ApiKey\" value=\"$\" />", Format::Xml),
            ("<string name=\"api_secret\">$</string>", Format::Xml),
            ("<c connectionString=\"Server=x;Password=$;\"/>", Format::Xml),
            ("ENV DB_PASSWORD=$\n", Format::Docker),
            ("ENV DB_PASSWORD \"$\"\n", Format::Docker),
            ("tool --password $ --x\n", Format::Shell),
            ("tool --password=$\n", Format::Shell),
            ("machine x.invalid login u password $\n", Format::Netrc),
            ("//r.invalid/:_authToken=$\n", Format::Ini),
            ("Authorization: Bearer $\n", Format::Ini),
        ] {
            if text.contains("Authorization") {
                continue;
            }
            sees(&text.replace('$', V), format, V);
        }
    }

    #[test]
    fn harmless_lines() {
        for (text, format) in [
            ("password = os.environ['DB_PASSWORD']", Format::Script),
            ("password = get_password(user, 'x')", Format::Script),
            ("password = \"kX92mfPq7Rt3\" + suffix", Format::Script),
            ("label = {\"password\": \"Your password\"}", Format::Script),
            ("password_field = \"kX92mfPq7Rt3\"", Format::Script),
            ("DB_PASSWORD=${DB_PASSWORD}\n", Format::Env),
            ("DB_PASSWORD=$(pass show db)\n", Format::Shell),
            ("password: {{ vault_password }}\n", Format::Yaml),
            ("password: !vault |\n", Format::Yaml),
            ("secretName: my-app-tls-cert01\n", Format::Yaml),
            ("tokenUrl: https://x.invalid/oauth2/token\n", Format::Yaml),
            ("<input type=\"password\" id=\"password1\" name=\"password\">", Format::Xml),
            ("key: value-of-something-long\n", Format::Yaml),
            ("\"integrity\": \"sha512-AbCdEf0123456789AbCdEf\",", Format::Json),
        ] {
            assert_eq!(names(text, format), [], "{text:?}");
        }
    }
}
