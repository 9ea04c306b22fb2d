//! Splits one line into words, strings and signs, by the quoting rules of its
//! format.
//!
//! One line is enough: names and the values written next to them stand on one line
//! or on two. A string that does not end on its line is read as signs and words,
//! so a line in the middle of a longer string costs precision, never a failure.

use crate::scan::secrets::format::Format;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Letters, digits and what joins them in names.
    Word,
    /// The inside of a string.
    Text,
    /// One other character.
    Sign(u8),
}

/// A token with its place in the line; for [`Kind::Text`] without the quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

/// Most tokens of one line.
const MAX_TOKENS: usize = 400;

/// Splits a line.
pub fn lex(line: &[u8], format: Format) -> Vec<Token> {
    let mut tokens = Vec::new();
    // A quote that was found to have no partner has none for the rest of the line
    // either; without this a line of quotes would be read once for each of them.
    let mut open: [bool; 3] = [false; 3];
    let mut at = 0;
    while let Some(b) = line.get(at).copied() {
        if tokens.len() >= MAX_TOKENS {
            break;
        }
        let quote = match b {
            b'"' => Some(0),
            b'\'' => Some(1),
            b'`' if matches!(format, Format::Script | Format::Code | Format::Shell) => Some(2),
            _ => None,
        };
        if b.is_ascii_whitespace() {
            at += 1;
        } else if let Some(which) = quote {
            let end = if open[which] { None } else { closing(line, at, format) };
            match end {
                Some(end) => {
                    tokens.push(Token { kind: Kind::Text, start: at + 1, end });
                    at = end + 1;
                }
                None => {
                    // An apostrophe or a lifetime says nothing about the next one.
                    open[which] = !(b == b'\'' && format == Format::Code);
                    tokens.push(Token { kind: Kind::Sign(b), start: at, end: at + 1 });
                    at += 1;
                }
            }
        } else if is_word(b) {
            let end = at + word_length(line.get(at..).unwrap_or_default());
            tokens.push(Token { kind: Kind::Word, start: at, end });
            at = end;
        } else {
            // A backslash in front of a quote: a string inside a string, as JSON in
            // source code. The quote is read as one, its partner has one too.
            if b == b'\\' && matches!(line.get(at + 1), Some(b'"' | b'\'')) {
                let q = line[at + 1];
                let rest = line.get(at + 2..).unwrap_or_default();
                if let Some(p) = memchr::memchr2(b'\\', q, rest)
                    && rest.get(p) == Some(&b'\\')
                    && rest.get(p + 1) == Some(&q)
                {
                    tokens.push(Token { kind: Kind::Text, start: at + 2, end: at + 2 + p });
                    at += p + 4;
                    continue;
                }
                at += 2;
                continue;
            }
            tokens.push(Token { kind: Kind::Sign(b), start: at, end: at + 1 });
            at += 1;
        }
    }
    tokens
}

/// True for the characters of names.
pub fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'@' | b'.' | b'-') || b >= 0x80
}

fn word_length(text: &[u8]) -> usize {
    let end = text.iter().position(|b| !is_word(*b)).unwrap_or(text.len());
    // `->` is an arrow, not the end of a name.
    match text.get(..end) {
        Some(word) if word.len() > 1 && word.ends_with(b"-") && text.get(end) == Some(&b'>') => {
            end - 1
        }
        _ => end,
    }
}

/// The closing quote of the string that opens at `at`.
fn closing(line: &[u8], at: usize, format: Format) -> Option<usize> {
    let quote = *line.get(at)?;
    let single = quote == b'\'';
    let escapes = match format {
        Format::Shell | Format::Yaml | Format::Docker | Format::Env | Format::Toml => !single,
        Format::Xml => false,
        _ => true,
    };
    // A character, not a string: `'x'`; a lifetime or an apostrophe: `'a`.
    let line =
        if single && format == Format::Code { line.get(..line.len().min(at + 6))? } else { line };
    let mut from = at + 1;
    loop {
        let rest = line.get(from..)?;
        let p = if escapes {
            memchr::memchr2(quote, b'\\', rest)
        } else {
            memchr::memchr(quote, rest)
        }?;
        let here = from + p;
        if line.get(here) == Some(&b'\\') {
            from = here + 2;
            continue;
        }
        return Some(here);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str, format: Format) -> Vec<&str> {
        lex(line.as_bytes(), format)
            .into_iter()
            .filter(|t| t.kind == Kind::Text)
            .map(|t| &line[t.start..t.end])
            .collect()
    }

    #[test]
    fn quoting_rules() {
        assert_eq!(texts(r#"a = "x\"y" + 'z'"#, Format::Script), [r#"x\"y"#, "z"]);
        assert_eq!(texts(r"fn f<'a>(x: &'a str, c: 'b')", Format::Code), ["b"]);
        assert_eq!(texts(r"A='x\' B='y'", Format::Shell), [r"x\", "y"]);
        assert_eq!(texts(r#"<a b="c\" d='e'>"#, Format::Xml), [r"c\", "e"]);
        assert_eq!(texts(r#"s = "{\"k\": \"v\"}""#, Format::Code), [r#"{\"k\": \"v\"}"#]);
        assert_eq!(texts(r#"{\"k\": \"v\"}"#, Format::Code), ["k", "v"]);
    }

    #[test]
    fn lines_of_quotes_are_linear() {
        let line = "\"\\".repeat(200_000);
        assert!(lex(line.as_bytes(), Format::Script).len() <= MAX_TOKENS);
        let line = "'".repeat(200_001);
        assert!(lex(line.as_bytes(), Format::Shell).len() <= MAX_TOKENS);
    }
}
