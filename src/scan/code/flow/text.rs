//! Texts: joining them, and where in them outside data stands.

use super::super::ir::{Const, Name};
use super::value::*;

/// Longest known beginning of a text that is kept, in bytes.
const MAX_PREFIX: usize = 256;

/// Puts texts one behind the other.
pub fn concat(parts: &[Value]) -> Value {
    let mut text = String::new();
    let mut all_constant = true;
    let mut facts: Vec<Fact> = Vec::new();
    let mut html = false;
    for p in parts {
        html |= p.html;
        let here = position_behind(&text);
        let mut own = p.facts().to_vec();
        if p.facts.is_none() && p.elements.is_some() {
            own = p.deep_facts();
        }
        for f in &mut own {
            f.position = f.position.max(here);
            f.container = false;
        }
        merge_facts(&mut facts, &own);
        match &p.constant {
            Some(Const::Str(s)) => text.push_str(s),
            Some(Const::Int(i)) => text.push_str(&i.to_string()),
            Some(Const::Bool(b)) => text.push_str(if *b { "true" } else { "false" }),
            _ => {
                all_constant = false;
                if text.len() < MAX_PREFIX {
                    text.push_str(&p.text_prefix());
                    if !text.ends_with(HOLE) {
                        text.push(HOLE);
                    }
                }
            }
        }
        if text.len() > 64 << 10 {
            all_constant = false;
        }
    }
    let mut out = Value { html, ..Value::default() };
    if all_constant {
        out.constant = Some(Const::Str(text.into()));
    } else {
        let mut end = text.len().min(MAX_PREFIX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        out.prefix = Some(text.into());
    }
    out.set_facts(facts);
    out
}

/// Where data stands that follows this text.
fn position_behind(text: &str) -> Position {
    if text.is_empty() {
        return Position::Start;
    }
    if text.ends_with("://") || text == "//" {
        return Position::Host;
    }
    // An unknown beginning has chosen the host already.
    if text.starts_with(HOLE) {
        return Position::Later;
    }
    let rest = text.split_once("://").map_or_else(|| text.strip_prefix("//"), |(_, r)| Some(r));
    match rest {
        Some(r) if r.contains(['/', '?', '#', HOLE]) => Position::Later,
        // `https://user` + data may still become `https://user@host`.
        Some(_) => Position::Host,
        None => Position::Later,
    }
}

pub(super) fn common_prefix(a: &str, b: &str) -> Option<Name> {
    let n = a.chars().zip(b.chars()).take(MAX_PREFIX).take_while(|(x, y)| x == y && *x != HOLE);
    let mut s: String = n.map(|(x, _)| x).collect();
    if s.is_empty() {
        return None;
    }
    s.push(HOLE);
    Some(s.into())
}
