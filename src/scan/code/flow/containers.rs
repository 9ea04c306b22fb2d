//! Methods that every language's containers, builders and texts share: what goes
//! in, what comes out, and which of them are tests.

use super::super::ir::Const;
use super::Interpreter;
use super::call::Call;
use super::text::concat;
use super::value::*;

/// What a method does.
pub(super) enum Effect {
    /// Gives a value and changes nothing.
    Value(Value),
    /// Gives the element under a key.
    Index(Value),
    /// Changes its receiver, and gives something.
    Receiver(Box<dyn FnOnce(&mut Value) -> Value>),
    /// Nothing is known.
    None,
}

/// A constructor of a container, called without arguments.
pub(super) fn is_new_container(full: Option<&str>) -> bool {
    let Some(full) = full else { return false };
    if matches!(full, "list" | "dict" | "set" | "collections.OrderedDict" | "collections.deque") {
        return true;
    }
    let Some(class) = full.strip_prefix("new ") else {
        return false;
    };
    let simple = class.rsplit('.').next().unwrap_or(class);
    matches!(
        simple,
        "ArrayList"
            | "LinkedList"
            | "HashMap"
            | "TreeMap"
            | "LinkedHashMap"
            | "ConcurrentHashMap"
            | "HashSet"
            | "TreeSet"
            | "LinkedHashSet"
            | "Vector"
            | "Stack"
            | "ArrayDeque"
            | "Properties"
            | "Hashtable"
            | "Map"
            | "Set"
            | "Array"
            | "WeakMap"
    )
}

/// A container that is known to be empty.
pub(super) fn empty() -> Value {
    let elements = Elements { len: Some(0), ..Elements::default() };
    Value { elements: Some(std::rc::Rc::new(elements)), ..Value::default() }
}

/// The method gives its receiver, or a part of it through which it is changed.
pub(super) fn returns_receiver(method: &str) -> bool {
    matches!(method, "append" | "insert" | "WriteString" | "Header")
}

/// What a method of a container does. `called` is what a function that was passed
/// gave.
pub(super) fn method(name: &str, call: &Call<'_>, called: Option<&Value>) -> Effect {
    let r = &call.receiver;
    let container = r.elements.is_some();
    let first = call.arg(0).cloned();
    let second = call.arg(1).cloned();
    match (name, first, second) {
        ("map" | "flatMap" | "then" | "select", _, _) if called.is_some() => {
            let v = called.cloned().unwrap_or_default();
            if name == "then" {
                return Effect::Value(v);
            }
            let mut out = Value::default();
            out.add_element(v);
            Effect::Value(out)
        }
        ("filter" | "find" | "catch" | "finally" | "sort" | "sorted", _, _) if called.is_some() => {
            let kept = match called.and_then(|c| c.guard.as_deref()) {
                Some(g) => r.without(&g.yes),
                None => r.clone(),
            };
            Effect::Value(kept)
        }
        ("append", Some(v), None) if !container => Effect::Receiver(Box::new(move |o| {
            // A builder of text.
            let html = o.html;
            let mut new = concat(&[text_of(o), v]);
            new.html |= html;
            new.name.clone_from(&o.name);
            new.kind = o.kind;
            if o.constant.is_none() && o.prefix.is_none() && o.facts.is_none() && o.name.is_none() {
                // Something unknown: only that data went in is known.
                new.prefix = None;
                new.constant = None;
            }
            *o = new;
            o.clone()
        })),
        (
            "append" | "push" | "add" | "addLast" | "addElement" | "offer" | "unshift"
            | "appendleft" | "write" | "WriteString",
            Some(v),
            None,
        ) => Effect::Receiver(Box::new(move |o| {
            o.push_element(v);
            Value { elements: o.elements.clone(), facts: o.facts.clone(), ..Value::default() }
        })),
        ("add" | "insert", Some(_), Some(v)) => Effect::Receiver(Box::new(move |o| {
            o.add_element(v);
            Value::default()
        })),
        ("extend" | "addAll" | "update" | "putAll", Some(v), None) => {
            Effect::Receiver(Box::new(move |o| {
                let joined = o.join(&v);
                o.elements = joined.elements;
                o.facts = joined.facts;
                Value::default()
            }))
        }
        (
            "put" | "set" | "setdefault" | "setAttribute" | "putIfAbsent" | "setProperty",
            Some(k),
            Some(v),
        ) => Effect::Receiver(Box::new(move |o| {
            match k.constant {
                Some(Const::Str(s)) => o.set_element(Key::Named(s), v),
                Some(Const::Int(i)) => o.set_element(Key::At(i), v),
                _ => o.add_element(v),
            }
            Value::default()
        })),
        (
            "get" | "getOrDefault" | "elementAt" | "getProperty" | "at" | "getAttribute",
            Some(k),
            _,
        ) if container => Effect::Index(k),
        (
            "getFirst" | "iterator" | "next" | "nextElement" | "peek" | "values" | "items"
            | "toArray" | "stream" | "keys" | "copy" | "slice" | "toString" | "entries" | "iter",
            None,
            _,
        ) if container => {
            if matches!(name, "getFirst" | "next" | "nextElement" | "peek") {
                return Effect::Value(r.any_element().unwrap_or_default());
            }
            if name == "toString" {
                return Effect::Value(concat(&[Value::tainted(r.deep_facts())]));
            }
            Effect::Value(r.clone())
        }
        ("remove" | "pop", k, _) if container => {
            let at = match k.and_then(|k| k.constant) {
                Some(Const::Int(i)) => i,
                Some(Const::Str(s)) => {
                    let out = r.element(&Key::Named(s));
                    return Effect::Value(out.unwrap_or_default());
                }
                _ => -1,
            };
            Effect::Receiver(Box::new(move |o| o.remove_at(at).unwrap_or_default()))
        }
        ("clear" | "reset" | "Reset", None, _) => Effect::Receiver(Box::new(move |o| {
            o.elements = None;
            o.facts = None;
            o.prefix = None;
            Value::default()
        })),
        ("join", Some(v), _) if !container && v.elements.is_some() => {
            // Python: the separator joins the list.
            let mut out = concat(&[Value::tainted(v.deep_facts())]);
            out.html = r.html || v.any_element().is_some_and(|e| e.html);
            Effect::Value(out)
        }
        ("join" | "concat", _, _) if container => {
            let mut parts: Vec<Value> = Vec::new();
            if let Some(e) = r.elements.as_deref() {
                parts.extend(e.known.values().cloned());
                parts.extend(e.any.clone());
            }
            if r.facts.is_some() {
                parts.push(r.only_facts());
            }
            parts.extend(call.args.iter().filter(|_| name == "concat").map(|a| a.value.clone()));
            let mut out = concat(&parts);
            out.constant = None;
            Effect::Value(out)
        }
        ("concat", Some(v), _) => Effect::Value(concat(&[r.clone(), v])),
        ("format" | "formatted", _, _) if r.constant.is_some() || r.prefix.is_some() => {
            let args: Vec<Value> = call.args.iter().map(|a| a.value.clone()).collect();
            Effect::Value(format_text(r, &args))
        }
        // All but a few harmless characters are taken out.
        ("replace" | "replaceAll" | "sub", Some(p), Some(v))
            if v.facts.is_none() && is_allow_list(&p) =>
        {
            Effect::Value(Value::default())
        }
        ("replace" | "replaceAll" | "sub", _, Some(v))
            if r.facts.is_some() || v.facts.is_some() =>
        {
            let mut facts = r.facts().to_vec();
            merge_facts(&mut facts, v.facts());
            let mut out = Value { html: r.html, prefix: r.prefix.clone(), ..Value::default() };
            out.set_facts(facts);
            Effect::Value(out)
        }
        (
            "toString" | "trim" | "strip" | "String" | "intern" | "encode" | "decode" | "getBytes"
            | "build",
            _,
            _,
        ) if r.constant.is_some() || r.prefix.is_some() => {
            Effect::Value(Value { name: None, ..r.clone() })
        }
        ("lower" | "toLowerCase", None, _) if r.constant.is_some() => {
            let s = r.constant.as_ref().and_then(Const::as_str).map(str::to_lowercase);
            Effect::Value(s.map(|s| Value::constant(Const::Str(s.into()))).unwrap_or_default())
        }
        ("upper" | "toUpperCase", None, _) if r.constant.is_some() => {
            let s = r.constant.as_ref().and_then(Const::as_str).map(str::to_uppercase);
            Effect::Value(s.map(|s| Value::constant(Const::Str(s.into()))).unwrap_or_default())
        }
        ("charAt", Some(i), _) => {
            let at = match (r.constant.as_ref(), i.constant) {
                (Some(Const::Str(s)), Some(Const::Int(i))) => s.chars().nth(i.max(0) as usize),
                _ => None,
            };
            match at {
                Some(c) => Effect::Value(Value::constant(Const::Str(c.to_string().into()))),
                None => Effect::None,
            }
        }
        ("equals" | "equalsIgnoreCase", Some(v), _) => match (&r.constant, &v.constant) {
            (Some(a), Some(b)) if name == "equals" => {
                Effect::Value(Value::constant(Const::Bool(a == b)))
            }
            _ => Effect::None,
        },
        _ => Effect::None,
    }
}

/// A pattern for everything but letters, digits and the like.
fn is_allow_list(pattern: &Value) -> bool {
    let Some(Const::Str(p)) = &pattern.constant else {
        return false;
    };
    p.strip_prefix("[^")
        .and_then(|r| r.trim_end_matches(['+', '*']).strip_suffix(']'))
        .is_some_and(|class| !class.contains(['/', '\'', '"', '<', ';', '$', '|', '&', '`', '(']))
}

fn text_of(v: &Value) -> Value {
    if v.constant.is_none() && v.prefix.is_none() && v.facts.is_none() && v.name.is_some() {
        // A fresh builder.
        return Value::constant(Const::Str("".into()));
    }
    v.clone()
}

fn format_text(text: &Value, args: &[Value]) -> Value {
    let mut parts = Vec::new();
    match &text.constant {
        Some(Const::Str(s)) => {
            let at = s.find(['%', '{']).unwrap_or(s.len());
            parts.push(Value::constant(Const::Str(s.get(..at).unwrap_or_default().into())));
        }
        _ => parts.push(text.clone()),
    }
    for a in args {
        parts.push(a.clone());
    }
    let mut out = concat(&parts);
    out.html |= text.html;
    out.constant = None;
    out
}

/// What a function gets that is passed to a method.
pub(super) fn callback_arguments(method: &str, call: &Call<'_>) -> Vec<Value> {
    match method {
        "map" | "forEach" | "filter" | "flatMap" | "some" | "every" | "find" | "findIndex"
        | "anyMatch" | "allMatch" => vec![Interpreter::element_of(&call.receiver)],
        "reduce" => {
            let start = call.arg(1).cloned().unwrap_or_default();
            vec![start, Interpreter::element_of(&call.receiver)]
        }
        "then" | "ifPresent" | "apply" | "subscribe" | "replace" => vec![call.receiver.clone()],
        _ => Vec::new(),
    }
}

/// The method answers a question or gives a number: no data comes out.
pub(super) fn is_predicate(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    matches!(
        lower.as_str(),
        "length"
            | "size"
            | "equals"
            | "equalsignorecase"
            | "hashcode"
            | "indexof"
            | "lastindexof"
            | "contains"
            | "containskey"
            | "startswith"
            | "endswith"
            | "matches"
            | "compareto"
            | "count"
            | "index"
            | "find"
            | "rfind"
            | "includes"
            | "has"
            | "test"
            | "search"
            | "localecompare"
            | "charcodeat"
            | "codepointat"
            | "len"
            | "exists"
            | "getclass"
            | "setcharacterencoding"
            | "getsession"
            | "intvalue"
            | "longvalue"
            | "save"
            | "close"
            | "setmaxinactiveinterval"
            | "getcontentlength"
            | "isuserinrole"
    ) || (lower.starts_with("is")
        && name.chars().nth(2).is_some_and(|c| c.is_uppercase() || c == '_'))
        || matches!(
            lower.as_str(),
            "isdigit"
                | "isalnum"
                | "isalpha"
                | "isnumeric"
                | "isdecimal"
                | "isidentifier"
                | "isempty"
                | "isblank"
        )
        || lower.starts_with("has_")
}
