//! One line: the values in it and the names they are given to.

use std::ops::Range;

use super::Assignment;
use super::lexer::{Kind, Token, lex};
use super::name::{Class, classify};
use super::value;
use crate::scan::model::Confidence;
use crate::scan::secrets::format::{Facet, Format};

/// A line (or two) that holds a trigger.
pub struct Line<'a, 'o> {
    /// The file.
    pub bytes: &'a [u8],
    /// Its facet.
    pub facet: Facet,
    /// Where the line stands in it.
    pub window: Range<usize>,
    /// What was found so far.
    pub all: &'o mut Vec<Assignment>,
}

impl Line<'_, '_> {
    fn line(&self) -> &[u8] {
        self.bytes.get(self.window.clone()).unwrap_or_default()
    }

    fn text(&self, token: &Token) -> &str {
        let bytes = self.line().get(token.start..token.end).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Adds every assignment of the line to `all`.
    pub fn read(mut self) {
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
                (key.kind == Kind::Text && matches!(opener.kind, Kind::Sign(b'(' | b'[' | b'{')))
                    .then(|| self.text(key).to_owned())
            }
            Kind::Sign(b'(') => {
                let callee = tokens.get(before.checked_sub(1)?)?;
                let name = self.text(callee);
                let last = name.rsplit('.').next().unwrap_or(name);
                if callee.kind == Kind::Word && is_conversion(last) {
                    let mut at = before.checked_sub(2)?;
                    while matches!(tokens.get(at)?.kind, Kind::Sign(b'[' | b']'))
                        || self.text(tokens.get(at)?) == "new"
                    {
                        at = at.checked_sub(1)?;
                    }
                    return matches!(tokens.get(at)?.kind, Kind::Sign(b'=' | b':' | b'>'))
                        .then(|| self.assigned(tokens, at, value))
                        .flatten();
                }
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
                // Prose says `pass "x"` and "the token 'x'" too, so in code the word has to
                // be defined or be an option.
                let earlier = before.checked_sub(1).and_then(|p| tokens.get(p));
                let defined = earlier.is_some_and(|t| self.text(t).ends_with("define"))
                    || self.text(token).starts_with('-')
                    || word == "PASSWORD";
                let direct = match self.facet.format {
                    Format::Script | Format::Code | Format::Shell | Format::Text => defined,
                    Format::Docker => true,
                    _ => false,
                };
                let quoted = self.line().get(value.end) != Some(&b'`');
                (direct && quoted && classify(word).is_some()).then(|| word.to_owned())
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
        // An entry is short; looking no further keeps long lines linear.
        let at = tokens.partition_point(|t| t.start < value.start);
        let near = at.saturating_sub(16)..tokens.len().min(at + 16);
        tokens.get(near)?.windows(3).find_map(|three| {
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
        let mut taken = 0;
        for equals in memchr::memchr_iter(b'=', text) {
            if equals < taken {
                continue;
            }
            let before = text.get(equals.saturating_sub(60)..equals).unwrap_or_default();
            let length = before
                .iter()
                .rev()
                .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
                .count();
            let name = String::from_utf8_lossy(&before[before.len() - length..]);
            let name = name.trim_start_matches('-');
            if classify(name).is_none() {
                continue;
            }
            let rest = text.get(equals + 1..).unwrap_or_default();
            let length = rest.iter().position(|b| ends_pair(*b)).unwrap_or(rest.len());
            taken = equals + 1 + length;
            let from = range.start + equals + 1;
            pairs.push((name.to_owned(), from..from + length));
        }
        for (name, place) in pairs {
            self.judge(&name, place, false);
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
        let mut open = None;
        let mut found = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            if token.kind == Kind::Sign(b'<') {
                open = Some(at);
            }
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
            let Some(open) = open else { continue };
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

/// True for what ends a value in a connection string, an address or a command.
fn ends_pair(b: u8) -> bool {
    b.is_ascii_whitespace()
        || matches!(b, b';' | b'&' | b'?' | b'"' | b'\'' | b'`' | b'<' | b'>' | b',' | b'|' | b')')
}

/// Calls that give back what they were given in another type.
fn is_conversion(callee: &str) -> bool {
    matches!(
        callee,
        "byte"
            | "bytes"
            | "string"
            | "String"
            | "str"
            | "from"
            | "of"
            | "valueOf"
            | "SecretStr"
            | "Secret"
            | "unicode"
            | "encode"
            | "bytearray"
            | "Bytes"
            | "into"
            | "Some"
    )
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
