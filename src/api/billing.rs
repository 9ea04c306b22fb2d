//! Billing: what was used and what it costs.

use axum::Json;
use axum::extract::State;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Caller;
use super::error::{ApiError, FieldError, Problem};
use super::extract::Query;
use super::time::Time;
use crate::billing::decimal::Quantity;
use crate::billing::{self, Prices};
use crate::db::usage::{DAY, Of};
use crate::db::{self, projects};
use crate::server::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(summary))
}

const SECOND: i64 = 1_000_000;

/// Longest period, in days.
const MOST_DAYS: i64 = 366;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Params {
    /// First day or moment (RFC 3339) of the period; a day begins in UTC. Left out, it
    /// is the begin of the month in which the period ends. At most 366 days before
    /// `to`. Fractions of a second are cut off.
    #[param(example = "2026-01-01", format = "day-or-time", min_length = 10, max_length = 64)]
    from: Option<String>,
    /// The first day or moment behind the period. Left out, it is now.
    #[param(example = "2026-02-01", format = "day-or-time", min_length = 10, max_length = 64)]
    to: Option<String>,
    /// Only this project, which may be deleted meanwhile.
    project_id: Option<Uuid>,
}

/// Usage of a period and what it costs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BillingSummary)]
struct Summary {
    period: Period,
    /// ISO 4217.
    #[schema(min_length = 3, max_length = 3, example = "USD")]
    currency: String,
    /// The sum of `daily`, and the sum of `projects`.
    totals: Totals,
    cost: Cost,
    /// Projects that used something, those that are deleted included.
    projects: Vec<ProjectUsage>,
    /// One for each day of the period up to today, the oldest first.
    daily: Vec<DayUsage>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BillingPeriod)]
struct Period {
    from: Time,
    to: Time,
}

/// What was used.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
struct Totals {
    /// Accepted pushes.
    pushes: u64,
    /// Bytes of accepted pushes.
    bytes_received: u64,
    /// Bytes kept, times the hours for which they were.
    storage_byte_hours: u64,
    /// Completed scans.
    scans: u64,
    /// Processor time of completed scans, with at most three decimal places.
    #[schema(value_type = f64, minimum = 0, example = 1.234)]
    scan_cpu_seconds: Box<RawValue>,
    /// Files that completed scans looked at, now or by a result that was kept.
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
            scan_cpu_seconds: RawValue::from_string(seconds)
                .unwrap_or_else(|_| RawValue::NULL.to_owned()),
            files_scanned: totals.files_scanned,
        }
    }
}

/// What it costs: decimals in strings, exact and never rounded.
#[derive(Debug, Serialize, ToSchema)]
struct Cost {
    /// The sum of `lines`, and of the amounts of `projects` and of `daily`.
    #[schema(pattern = r"^[0-9]+(\.[0-9]+)?$", example = "12.50")]
    total: String,
    lines: Vec<CostLine>,
}

#[derive(Debug, Serialize, ToSchema)]
struct CostLine {
    /// As in the totals.
    #[schema(example = "bytes_received")]
    item: &'static str,
    /// In units.
    #[schema(pattern = r"^[0-9]+(\.[0-9]+)?$", example = "4.5")]
    quantity: String,
    /// What the price is for; a GB has 10^9 bytes.
    #[schema(example = "GB")]
    unit: &'static str,
    #[schema(pattern = r"^[0-9]+(\.[0-9]+)?$", example = "0.10")]
    unit_price: String,
    #[schema(pattern = r"^[0-9]+(\.[0-9]+)?$", example = "0.45")]
    amount: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ProjectUsage {
    project_id: Uuid,
    /// The last one, if the project is deleted.
    name: String,
    totals: Totals,
    #[schema(pattern = r"^[0-9]+(\.[0-9]+)?$", example = "0.45")]
    amount: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct DayUsage {
    /// A day in UTC.
    #[schema(format = Date, example = "2026-01-31")]
    date: String,
    totals: Totals,
    #[schema(pattern = r"^[0-9]+(\.[0-9]+)?$", example = "0.45")]
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

/// What was used, and what it costs
///
/// Every figure is a sum of rows that are written with what they count; nothing is
/// counted twice, and nothing goes with its project. Failed and cancelled scans and
/// refused pushes cost nothing. The operator sets the prices.
#[utoipa::path(get, path = "/v1/billing/summary", tag = "Billing", operation_id = "billing_summary",
    params(Params), responses(
        (status = OK, description = "Usage of the period.", body = Summary),
        (status = NOT_FOUND, description = "There is no such project, or it belongs to somebody else.",
            body = Problem, content_type = "application/problem+json"),
    ))]
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
