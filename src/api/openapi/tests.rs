//! The document is complete, and the committed copy is what the code says.

use std::collections::BTreeSet;

use serde_json::Value;

/// What needs no token.
const PUBLIC: [&str; 5] = [
    "GET /v1/healthz",
    "GET /v1/readyz",
    "GET /metrics",
    "POST /v1/auth/login",
    "POST /v1/auth/refresh",
];

fn document() -> Value {
    serde_json::from_str(&super::text()).unwrap()
}

fn operations(api: &Value) -> Vec<(String, &Value)> {
    api["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, operation)| {
                (format!("{} {path}", method.to_uppercase()), operation)
            })
        })
        .collect()
}

#[test]
fn the_committed_copy_is_up_to_date() {
    let committed = include_str!("openapi.json");
    assert!(
        committed == super::text(),
        "the API has changed: review it, then `cargo run -- openapi > src/api/openapi/openapi.json`"
    );
}

#[test]
fn every_operation_is_described() {
    let api = document();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&api) {
        let has = |field: &str| operation[field].as_str().is_some_and(|text| !text.is_empty());
        assert!(has("summary"), "{name} has no summary");
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{name}: {id} is taken");
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{name}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with('2')), "{name}");
        assert!(answers.keys().any(|status| status.starts_with('4')), "{name}");
        let public = operation["security"] == serde_json::json!([]);
        assert_eq!(public, PUBLIC.contains(&name.as_str()), "{name}");
        let signs_in = name.starts_with("POST /v1/auth/");
        assert_eq!(answers.contains_key("401"), !public || signs_in, "{name}");
    }
}

/// What a client sends has an example, so that a reader need not guess.
#[test]
fn every_json_body_has_an_example() {
    let api = document();
    for (name, operation) in operations(&api) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        let reference = schema["$ref"].as_str().unwrap_or_else(|| panic!("{name}: {schema}"));
        let schema = api.pointer(reference.trim_start_matches('#')).unwrap();
        let example = schema.get("example").or_else(|| schema.get("examples"));
        assert!(example.is_some(), "{name}: {reference} has no example");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(api: &Value, value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(to) = map.get("$ref").and_then(Value::as_str) {
                    assert!(api.pointer(to.trim_start_matches('#')).is_some(), "{to}");
                }
                map.values().for_each(|inner| walk(api, inner));
            }
            Value::Array(items) => items.iter().for_each(|inner| walk(api, inner)),
            _ => {}
        }
    }
    let api = document();
    walk(&api, &api);
}
