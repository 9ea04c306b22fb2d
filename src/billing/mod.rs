//! Billing: usage of a period, by project and by day, and what it costs.
//!
//! Every figure can be recomputed from the rows of [`crate::db::usage`]: events are
//! summed, and storage is bytes times the seconds between `stored_at` and
//! `removed_at` that lie in the period, whole seconds, divided by 3600. All sums are
//! read from one view of the database and all arithmetic is that of integers, so the
//! totals are the sum of the days and also the sum of the projects, to the last byte
//! and the last place. Where byte-seconds become byte-hours, what a division leaves
//! over is carried on to the next day or project, so that these sums hold too.
//!
//! A summary costs a sum over `usage_daily` for the whole days of its period, and a
//! sum over the rows themselves for the part of a day at either end.

pub mod decimal;

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::db::usage::{self, DAY, Kind, Of, Sum};
use crate::db::{Db, Result};
use decimal::{Amount, Price};

const SECOND: i64 = 1_000_000;

/// Something that has a price.
#[derive(Debug)]
pub struct Item {
    /// As in [`Totals`].
    pub name: &'static str,
    /// What the price is for.
    pub unit: &'static str,
    /// Where the price comes from.
    pub env: &'static str,
    /// What the price is for, as shown in help.
    pub meaning: &'static str,
    /// Decimal places by which the unit is larger than what is counted.
    pub places: u32,
    quantity: fn(&Totals) -> u64,
}

macro_rules! items {
    ($($name:literal, $unit:literal, $env:literal, $places:literal, $meaning:literal, $of:expr;)*) => {
        /// Everything that has a price, in the order of the bill.
        pub const ITEMS: &[Item] = &[$(Item {
            name: $name, unit: $unit, env: $env, meaning: $meaning, places: $places, quantity: $of,
        }),*];
    };
}

items! {
    "pushes", "push", "SLUICE_PRICE_PUSH", 0, "price of an accepted push", |t| t.pushes;
    "bytes_received", "GB", "SLUICE_PRICE_RECEIVED_GB", 9,
        "price of 10^9 bytes received by pushes", |t| t.bytes_received;
    "storage_byte_hours", "GB-hour", "SLUICE_PRICE_STORAGE_GB_HOUR", 9,
        "price of 10^9 bytes kept for an hour", |t| t.storage_byte_hours;
    "scans", "scan", "SLUICE_PRICE_SCAN", 0, "price of a completed scan", |t| t.scans;
    "scan_cpu_seconds", "second", "SLUICE_PRICE_SCAN_CPU_SECOND", 3,
        "price of a second of processor time of completed scans", |t| t.scan_cpu_ms;
    "files_scanned", "file", "SLUICE_PRICE_FILE_SCANNED", 0,
        "price of a file of a completed scan", |t| t.files_scanned;
}

/// Prices of [`ITEMS`], in their order, and their currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices {
    /// ISO 4217.
    pub currency: String,
    /// One for each item.
    pub unit: Vec<Price>,
}

impl Default for Prices {
    /// Nothing costs anything.
    fn default() -> Self {
        Self { currency: "USD".to_owned(), unit: vec![Price::default(); ITEMS.len()] }
    }
}

impl Prices {
    /// The price of each item.
    pub fn items(&self) -> impl Iterator<Item = (&'static Item, Price)> {
        ITEMS.iter().zip(self.unit.iter().copied())
    }

    /// What something costs in all.
    pub fn total(&self, totals: &Totals) -> Amount {
        self.items().map(|(item, price)| price.times(item.quantity(totals), item.places)).sum()
    }
}

impl Item {
    /// How much of it was used, in units of `10^-places`.
    pub fn quantity(&self, totals: &Totals) -> u64 {
        (self.quantity)(totals)
    }
}

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Accepted pushes.
    pub pushes: u64,
    /// Bytes of them.
    pub bytes_received: u64,
    /// Bytes kept, times hours.
    pub storage_byte_hours: u64,
    /// Completed scans.
    pub scans: u64,
    /// Their processor time in milliseconds.
    pub scan_cpu_ms: u64,
    /// Files that they looked at.
    pub files_scanned: u64,
}

/// Usage of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectUsage {
    /// Its id.
    pub project_id: Uuid,
    /// Its name, or the last one that it had.
    pub name: String,
    /// What it used.
    pub totals: Totals,
}

/// Usage of one day, or of the part of it that lies in the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayUsage {
    /// Days since 1970 in UTC.
    pub day: i64,
    /// What was used.
    pub totals: Totals,
}

/// Usage of a period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// All of it.
    pub totals: Totals,
    /// By project, without those that used nothing.
    pub projects: Vec<ProjectUsage>,
    /// By day, the oldest first, up to today.
    pub daily: Vec<DayUsage>,
}

/// Sums that grow while rows are read.
#[derive(Debug, Clone, Copy, Default)]
struct Gathered {
    totals: Totals,
    byte_seconds: i128,
    /// Change of the bytes kept.
    change: i128,
}

impl Gathered {
    /// `seconds` lie between the end to which the sum is weighted and the end to which
    /// the storage is counted here.
    fn add<K>(&mut self, sum: &Sum<K>, seconds: i64) {
        let quantity = sum.quantity.max(0).unsigned_abs();
        let totals = &mut self.totals;
        let into = match sum.kind {
            Kind::Pushes => &mut totals.pushes,
            Kind::BytesReceived => &mut totals.bytes_received,
            Kind::Scans => &mut totals.scans,
            Kind::ScanCpuMs => &mut totals.scan_cpu_ms,
            Kind::FilesScanned => &mut totals.files_scanned,
            Kind::Stored | Kind::Removed => {
                let sign = if sum.kind == Kind::Stored { 1 } else { -1 };
                let bytes = i128::from(sum.quantity);
                self.change += sign * bytes;
                self.byte_seconds += sign * (sum.weighted + bytes * i128::from(seconds));
                return;
            }
        };
        *into = into.saturating_add(quantity);
    }
}

/// Makes byte-hours of byte-seconds and carries on what is left over.
#[derive(Default)]
struct Hours {
    seconds: i128,
    given: i128,
}

impl Hours {
    fn take(&mut self, byte_seconds: i128) -> u64 {
        self.seconds += byte_seconds.max(0);
        let hours = self.seconds / 3600 - self.given;
        self.given += hours;
        u64::try_from(hours).unwrap_or(0)
    }
}

/// Usage from a time up to another (microseconds, whole seconds). What lies in the
/// future is not counted.
pub async fn summary(db: &Db, of: Of, from: i64, to: i64) -> Result<Summary> {
    // The second that has begun counts: whoever has just pushed sees the push.
    let end = to.min((crate::db::now() / SECOND + 1) * SECOND);
    if from >= end {
        return Ok(Summary::default());
    }
    let mut tx = usage::view(db).await?;
    let seconds_to_end = |at: i64| (end - at) / SECOND;
    let mut projects: BTreeMap<Uuid, Gathered> = BTreeMap::new();
    let mut days: BTreeMap<i64, Gathered> = BTreeMap::new();

    // 1. What was kept when the period began.
    let first_day = from.div_euclid(DAY);
    let mut level = 0_i128;
    let mut begin = usage::level(&mut tx, of, first_day).await?;
    if first_day * DAY < from {
        for sum in usage::of_rows(&mut tx, of, first_day * DAY, from).await? {
            match sum.kind {
                Kind::Stored => begin.push((sum.of, sum.quantity)),
                Kind::Removed => begin.push((sum.of, -sum.quantity)),
                _ => {}
            }
        }
    }
    for (project, bytes) in begin {
        level += i128::from(bytes);
        projects.entry(project).or_default().byte_seconds +=
            i128::from(bytes) * i128::from(seconds_to_end(from));
    }

    // 2. The parts of a day at both ends, from the rows.
    let whole = (from + DAY - 1).div_euclid(DAY)..end.div_euclid(DAY);
    let parts = if whole.start > whole.end {
        vec![(from, end)]
    } else {
        vec![(from, whole.start * DAY), (whole.end * DAY, end)]
    };
    let mut lengths: BTreeMap<i64, i64> = whole.clone().map(|day| (day, DAY / SECOND)).collect();
    for (start, stop) in parts.into_iter().filter(|(start, stop)| start < stop) {
        let day = start.div_euclid(DAY);
        lengths.insert(day, (stop - start) / SECOND);
        for sum in usage::of_rows(&mut tx, of, start, stop).await? {
            projects.entry(sum.of).or_default().add(&sum, seconds_to_end(stop));
            days.entry(day).or_default().add(&sum, 0);
        }
    }

    // 3. The whole days, from their sums.
    if whole.start < whole.end {
        for sum in usage::by_day(&mut tx, of, whole.start, whole.end).await? {
            days.entry(sum.of).or_default().add(&sum, 0);
        }
        let left = seconds_to_end(whole.end * DAY);
        for sum in usage::by_project(&mut tx, of, whole.start, whole.end).await? {
            projects.entry(sum.of).or_default().add(&sum, left);
        }
    }
    let names: BTreeMap<Uuid, String> =
        usage::names(&mut tx, of.owner_id).await?.into_iter().collect();
    tx.rollback().await?;

    // 4. Byte-hours, and the totals.
    let mut summary = Summary::default();
    let mut hours = Hours::default();
    for (day, length) in lengths {
        let gathered = days.remove(&day).unwrap_or_default();
        let kept = level * i128::from(length) + gathered.byte_seconds;
        level += gathered.change;
        let totals = Totals { storage_byte_hours: hours.take(kept), ..gathered.totals };
        summary.totals.add(&totals);
        summary.daily.push(DayUsage { day, totals });
    }
    let mut hours = Hours::default();
    for (project_id, gathered) in projects {
        let byte_hours = hours.take(gathered.byte_seconds);
        let totals = Totals { storage_byte_hours: byte_hours, ..gathered.totals };
        if totals != Totals::default() {
            let name = names.get(&project_id).cloned().unwrap_or_default();
            summary.projects.push(ProjectUsage { project_id, name, totals });
        }
    }
    Ok(summary)
}

impl Totals {
    /// Adds what another used.
    pub fn add(&mut self, other: &Self) {
        self.pushes += other.pushes;
        self.bytes_received += other.bytes_received;
        self.storage_byte_hours += other.storage_byte_hours;
        self.scans += other.scans;
        self.scan_cpu_ms += other.scan_cpu_ms;
        self.files_scanned += other.files_scanned;
    }
}

#[cfg(test)]
mod tests;
