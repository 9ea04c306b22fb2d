//! The query of a list of findings, and the filter of a triage of many.
//!
//! A filter may be given several times or with several values; what orders and cuts the
//! list is given once, since of two values nobody knows which one is meant.

use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::api::error::{ApiError, Result};
use crate::api::extract::uuid;
use crate::api::page;
use crate::db::findings::{Filter, Sort, SortBy, State as SeenState, Status};
use crate::scan::{EngineKind, Severity};

/// Most values of one filter.
const MAX_VALUES: usize = 50;
/// Longest value of a filter, in characters.
pub(super) const MAX_VALUE: usize = 500;
/// Most wild cards in a path: more make matching slow.
const MAX_WILD: usize = 8;

/// The parameters of a list of findings, for the API's description.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(super) struct FindingQuery {
    /// Any of these severities.
    #[param(style = Form, explode = false, min_items = 1)]
    severity: Option<Vec<Severity>>,
    /// Any of these statuses.
    #[param(style = Form, explode = false, min_items = 1)]
    status: Option<Vec<Status>>,
    /// Any of these states.
    #[param(style = Form, explode = false, min_items = 1)]
    state: Option<Vec<SeenState>>,
    /// Seen by any of these scans.
    #[param(style = Form, explode = false, min_items = 1, max_items = 50)]
    scan_id: Option<Vec<Uuid>>,
    /// Of any of these engines.
    #[param(style = Form, explode = false, min_items = 1)]
    engine: Option<Vec<EngineKind>>,
    /// Of any of these rules.
    #[param(min_length = 1, max_length = 500)]
    rule_id: Option<String>,
    /// In this file or folder, or matching this glob of `*` and `?` (at most 8 of them).
    #[param(min_length = 1, max_length = 500, pattern = r"^[^*?]*([*?][^*?]*){0,8}$")]
    path: Option<String>,
    /// Words of the title, the rule or the path.
    #[param(max_length = 500)]
    q: Option<String>,
    /// Left out: the order in which they were first seen, newest first.
    #[param(inline)]
    sort: Option<FindingSort>,
    /// Rows of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// From `next_cursor` of the page before, as it is.
    #[param(min_length = 1, max_length = 1024)]
    cursor: Option<String>,
}

/// The orders of findings; `-` puts the greatest first.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)]
pub(super) enum FindingSort {
    #[serde(rename = "created")]
    Created,
    #[serde(rename = "-created")]
    CreatedDescending,
    #[serde(rename = "priority")]
    Priority,
    #[serde(rename = "-priority")]
    PriorityDescending,
    #[serde(rename = "severity")]
    Severity,
    #[serde(rename = "-severity")]
    SeverityDescending,
}

/// The checked query of a list.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) filter: Filter,
    pub(super) sort: Sort,
    pub(super) limit: u32,
    pub(super) cursor: Option<String>,
}

impl Asked {
    pub(super) fn parse(pairs: Vec<(String, String)>) -> Result<Self> {
        let mut asked = Self {
            filter: Filter::default(),
            sort: Sort::default(),
            limit: page::DEFAULT_LIMIT,
            cursor: None,
        };
        let filter = &mut asked.filter;
        let mut once: Vec<String> = Vec::new();
        for (name, value) in pairs {
            if matches!(name.as_str(), "q" | "sort" | "limit" | "cursor") {
                if once.contains(&name) {
                    return Err(ApiError::invalid_field(name, "was given twice"));
                }
                once.push(name.clone());
            }
            if name == "q" && value.chars().count() > MAX_VALUE {
                return Err(too_long(&name));
            }
            if name_values(filter, &name, value.split(','))? {
                continue;
            }
            match name.as_str() {
                "sort" => asked.sort = sort(&value)?,
                "limit" => {
                    let limit = value.parse().map_err(|_| {
                        ApiError::invalid_field("limit", "must be a number from 1 to 200")
                    })?;
                    asked.limit = page::check_limit(Some(limit))?;
                }
                "cursor" => asked.cursor = Some(value),
                _ => {
                    return Err(ApiError::invalid_field(
                        name,
                        "is no parameter of this list: use severity, status, state, scan_id, \
                         engine, path, rule_id, q, sort, limit, cursor",
                    ));
                }
            }
        }
        Ok(asked)
    }
}

/// Adds values to the filter of this name; false if there is none.
pub(super) fn name_values<'v>(
    filter: &mut Filter,
    name: &str,
    values: impl Iterator<Item = &'v str>,
) -> Result<bool> {
    match name {
        "severity" => several(name, values, &mut filter.severity, |v| v.parse().ok())?,
        "status" => several(name, values, &mut filter.status, |v| v.parse().ok())?,
        "state" => several(name, values, &mut filter.state, |v| v.parse().ok())?,
        "scan_id" => several(name, values, &mut filter.scan_id, |v| uuid(v).ok())?,
        "engine" => several(name, values, &mut filter.engine, |v| v.parse().ok())?,
        "rule_id" => several(name, values, &mut filter.rule_id, |v| Some(v.to_owned()))?,
        "path" => several(name, values, &mut filter.path, |v| {
            let wild = v.chars().filter(|c| matches!(c, '*' | '?')).count();
            (wild <= MAX_WILD).then(|| v.trim_start_matches('/').to_owned())
        })?,
        "q" => {
            let words = values.collect::<Vec<_>>().join(",");
            let words = words.trim();
            filter.q = (!words.is_empty()).then(|| words.to_owned());
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Adds values to a filter.
fn several<'v, T: PartialEq>(
    name: &str,
    values: impl Iterator<Item = &'v str>,
    into: &mut Vec<T>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<()> {
    for part in values.map(str::trim) {
        if part.is_empty() {
            return Err(ApiError::invalid_field(name, "has an empty value; leave it out"));
        }
        if part.chars().count() > MAX_VALUE {
            return Err(too_long(name));
        }
        if into.len() >= MAX_VALUES {
            let message = format!("must be at most {MAX_VALUES} values");
            return Err(ApiError::invalid_field(name, message));
        }
        let parsed = parse(part).ok_or_else(|| {
            ApiError::invalid_field(name, format!("{part:?} is no value of this filter"))
        })?;
        if !into.contains(&parsed) {
            into.push(parsed);
        }
    }
    Ok(())
}

fn too_long(name: &str) -> ApiError {
    ApiError::invalid_field(name, format!("must be at most {MAX_VALUE} characters"))
}

fn sort(value: &str) -> Result<Sort> {
    let (descending, name) = match value.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, value),
    };
    let by = match name {
        "created" => SortBy::Created,
        "priority" => SortBy::Priority,
        "severity" => SortBy::Severity,
        _ => {
            return Err(ApiError::invalid_field(
                "sort",
                "must be created, priority or severity, with a `-` before it for the greatest \
                 first",
            ));
        }
    };
    Ok(Sort { by, descending })
}
