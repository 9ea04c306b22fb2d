//! Calls whose truth says something about data: allow-lists, patterns, prefixes.

use super::super::rules::{ALL_LABELS, label};
use super::call::Call;
use super::operators::membership;
use super::value::*;

/// What the truth of a call says about its receiver and arguments.
pub(super) fn guard(call: &Call<'_>) -> Option<Guard> {
    let name = call.method.or(call.full.as_deref().map(|f| f.rsplit('.').next().unwrap_or(f)))?;
    let r = &call.receiver;
    let first = call.arg(0);
    let kills = |v: &Value, labels: u32| -> Vec<Kill> {
        v.facts().iter().map(|f| (f.origin.clone(), labels)).collect()
    };
    let yes = |k: Vec<Kill>| (!k.is_empty()).then(|| Guard { yes: k, no: Vec::new() });
    let text = |v: Option<&Value>| v.and_then(|v| v.constant.as_ref()?.as_str().map(String::from));
    match name {
        "includes" | "contains" | "containsKey" | "has" | "indexOf" | "Contains" | "contains?"
        | "HasKey" | "hasOwnProperty" | "hasOwn" => {
            // `path.indexOf(base) === 0`.
            if name == "indexOf"
                && r.facts.is_some()
                && first.is_some_and(|f| f.facts.is_none())
                && text(first).is_none_or(|t| t.len() > 1 && !t.contains(".."))
            {
                return yes(kills(r, label("path") | label("redirect")));
            }
            // `strings.Contains(x, s)` and `slices.Contains(list, x)` have no receiver.
            let (haystack, needle) =
                if r.facts.is_none() && r.elements.is_none() && call.args.len() == 2 {
                    (first?, call.arg(1)?)
                } else {
                    (r, first?)
                };
            membership(needle, haystack).guard.map(|g| (*g).clone())
        }
        "isdigit" | "isalnum" | "isalpha" | "isnumeric" | "isdecimal" | "isidentifier" => {
            yes(kills(r, ALL_LABELS))
        }
        "equals" | "equalsIgnoreCase" => {
            let a = first?;
            match (r.facts.is_some(), a.facts.is_some()) {
                (true, false) => yes(kills(r, ALL_LABELS)),
                (false, true) => yes(kills(a, ALL_LABELS)),
                _ => None,
            }
        }
        "test" | "fullmatch" | "match" | "matches" | "MatchString" | "search" | "Match" => {
            // Pattern and text, in either order; only an anchored pattern without
            // wildcards says something.
            let mut values = vec![r];
            values.extend(call.args.iter().map(|a| &a.value));
            let tested: Vec<&&Value> = values.iter().filter(|v| v.facts.is_some()).collect();
            let [tested] = tested.as_slice() else {
                return None;
            };
            let pattern = values.iter().find_map(|v| text(Some(v)));
            let whole = matches!(name, "fullmatch" | "matches");
            match pattern {
                Some(p) if p.contains(".*") || p.contains(".+") => None,
                Some(p) if !whole && !p.ends_with(['$', 'z', 'Z']) => None,
                // An unknown pattern is a test that somebody thought about.
                _ => yes(kills(tested, ALL_LABELS)),
            }
        }
        "startsWith" | "startswith" | "HasPrefix" | "is_relative_to" | "StartsWith" => {
            let (whole, prefix) =
                if r.facts.is_some() { (r, first?) } else { (first?, call.arg(1)?) };
            if prefix.facts.is_some() {
                return None;
            }
            let known = text(Some(prefix));
            let weak = known.as_deref().is_some_and(|p| {
                p.len() <= 1
                    || matches!(p, "http" | "http:" | "http://" | "https" | "https:" | "https://")
            });
            if known.as_deref() == Some("..") || known.as_deref() == Some("../") {
                let no = kills(whole, label("path"));
                return Some(Guard { yes: Vec::new(), no });
            }
            if known.as_deref() == Some("/") {
                return yes(kills(whole, label("redirect")));
            }
            if weak {
                return None;
            }
            yes(kills(whole, label("path") | label("redirect") | label("ssrf")))
        }
        "isAbs" | "IsAbs" | "isAbsolute" => None,
        "isinstance" => None,
        "IsLocal" => yes(kills(first?, label("path"))),
        "isInteger" | "isSafeInteger" | "isFinite" => yes(kills(first?, ALL_LABELS)),
        "isNaN" => Some(Guard { yes: Vec::new(), no: kills(first?, ALL_LABELS) }),
        _ => {
            let lower = name.to_ascii_lowercase();
            let says = ["valid", "allow", "safe", "permit", "whitelist", "trusted", "is_known"];
            if !says.iter().any(|s| lower.contains(s)) || lower.contains("invalid") {
                return None;
            }
            let mut all = kills(r, ALL_LABELS);
            for a in &call.args {
                all.extend(kills(&a.value, ALL_LABELS));
            }
            yes(all)
        }
    }
}
