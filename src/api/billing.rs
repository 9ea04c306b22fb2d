//! Billing: what was used and what it costs.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::caller::Caller;
use super::error::{ApiError, FieldError};
use super::extract::Query;
use super::time::Time;
use crate::billing::decimal::Quantity;
use crate::billing::{self, Prices};
use crate::db::usage::{DAY, Of};
use crate::db::{self, projects};
use crate::server::App;

/// The routes of this group.
pub fn router() -> Router<App> {
    Router::new().route("/v1/billing/summary", get(summary))
}

const SECOND: i64 = 1_000_000;

/// Longest period, in days.
const MOST_DAYS: i64 = 366;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    from: Option<String>,
    to: Option<String>,
    project_id: Option<Uuid>,
}

/// Usage of a period and what it costs.
#[derive(Debug, Serialize)]
struct Summary {
    period: Period,
    currency: String,
    totals: Totals,
    cost: Cost,
    projects: Vec<ProjectUsage>,
    daily: Vec<DayUsage>,
}

#[derive(Debug, Serialize)]
struct Period {
    from: Time,
    to: Time,
}

#[derive(Debug, Serialize)]
struct Totals {
    pushes: u64,
    bytes_received: u64,
    storage_byte_hours: u64,
    scans: u64,
    /// A number with at most three places, written from an integer.
    scan_cpu_seconds: Box<serde_json::value::RawValue>,
    files_scanned: u64,
}

impl From<&billing::Totals> for Totals {
    fn from(totals: &billing::Totals) -> Self {
        let seconds = Quantity(totals.scan_cpu_ms, 3).to_string();
        Self {
            pushes: totals.pushes,
            bytes_received: totals.bytes_received,
            storage_byte_hours: totals.storage_byte_hours,
            scans: totals.scans,
            // Digits with at most one point between them are a JSON number.
            scan_cpu_seconds: serde_json::value::RawValue::from_string(seconds)
                .unwrap_or_else(|_| serde_json::value::RawValue::NULL.to_owned()),
            files_scanned: totals.files_scanned,
        }
    }
}

#[derive(Debug, Serialize)]
struct Cost {
    total: String,
    lines: Vec<CostLine>,
}

#[derive(Debug, Serialize)]
struct CostLine {
    item: &'static str,
    quantity: String,
    unit: &'static str,
    unit_price: String,
    amount: String,
}

#[derive(Debug, Serialize)]
struct ProjectUsage {
    project_id: Uuid,
    name: String,
    totals: Totals,
    amount: String,
}

#[derive(Debug, Serialize)]
struct DayUsage {
    date: String,
    totals: Totals,
    amount: String,
}

fn cost(prices: &Prices, totals: &billing::Totals) -> Cost {
    let lines = prices
        .items()
        .map(|(item, price)| {
            let quantity = item.quantity(totals);
            CostLine {
                item: item.name,
                quantity: Quantity(quantity, item.places).to_string(),
                unit: item.unit,
                unit_price: price.to_string(),
                amount: price.times(quantity, item.places).to_string(),
            }
        })
        .collect();
    Cost { total: prices.total(totals).to_string(), lines }
}

/// A time or a day, in microseconds; fractions of a second are cut off.
fn instant(text: &str) -> Option<i64> {
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) if text.len() == 10 => {
            text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp()
        }
        Err(_) => return None,
    };
    let second = at.as_microsecond().div_euclid(SECOND);
    (0..=MOST_SECONDS).contains(&second).then_some(second * SECOND)
}

/// The end of the year 9998.
const MOST_SECONDS: i64 = 253_370_764_799;

/// The first moment of the month in which a time lies.
fn month_of(at: i64) -> i64 {
    Timestamp::from_microsecond(at)
        .ok()
        .map(|at| at.to_zoned(TimeZone::UTC))
        .and_then(|at| at.start_of_day().ok()?.with().day(1).build().ok())
        .map_or(0, |at| at.timestamp().as_microsecond())
}

/// From and to, both whole seconds.
fn period(params: &Params) -> Result<(i64, i64), ApiError> {
    const WHAT: &str = "must be a day such as 2026-01-31, or a time such as \
                        2026-01-31T12:00:00Z, from the year 1970 to 9998";
    let mut errors = Vec::new();
    let mut read = |field: &str, text: &Option<String>| {
        let text = text.as_deref()?;
        let at = instant(text);
        if at.is_none() {
            errors.push(FieldError::new(field, WHAT));
        }
        at
    };
    let (from, to) = (read("from", &params.from), read("to", &params.to));
    if !errors.is_empty() {
        return Err(ApiError::invalid(errors));
    }
    // The second that has begun belongs to the period, so that it holds what was
    // acknowledged just now.
    let to = to.unwrap_or_else(|| (db::now() / SECOND + 1) * SECOND);
    let from = from.unwrap_or_else(|| month_of((to - 1).max(0)));
    if from >= to {
        return Err(ApiError::invalid_field("from", "must lie before `to`"));
    }
    if to - from > MOST_DAYS * DAY {
        let message = format!("must lie at most {MOST_DAYS} days before `to`");
        return Err(ApiError::invalid_field("from", message));
    }
    Ok((from, to))
}

async fn summary(
    State(app): State<App>,
    caller: Caller,
    Query(params): Query<Params>,
) -> Result<Json<Summary>, ApiError> {
    let (from, to) = period(&params)?;
    let of = Of { owner_id: caller.user_id, project_id: params.project_id };
    if let Some(id) = params.project_id
        && projects::get(&app.db, caller.user_id, id).await?.is_none()
        && !db::usage::was_project(&app.db, caller.user_id, id).await?
    {
        return Err(ApiError::not_found("project"));
    }
    let usage = billing::summary(&app.db, of, from, to).await?;
    let prices = &app.config.prices;
    Ok(Json(Summary {
        period: Period { from: Time(from), to: Time(to) },
        currency: prices.currency.clone(),
        totals: Totals::from(&usage.totals),
        cost: cost(prices, &usage.totals),
        projects: usage
            .projects
            .iter()
            .map(|project| ProjectUsage {
                project_id: project.project_id,
                name: project.name.clone(),
                totals: Totals::from(&project.totals),
                amount: prices.total(&project.totals).to_string(),
            })
            .collect(),
        daily: usage
            .daily
            .iter()
            .map(|day| DayUsage {
                date: Date::new(1970, 1, 1)
                    .and_then(|first| first.checked_add(day.day.days()))
                    .map_or_else(|_| String::new(), |date| date.to_string()),
                totals: Totals::from(&day.totals),
                amount: prices.total(&day.totals).to_string(),
            })
            .collect(),
    }))
}

#[cfg(test)]
mod tests;
