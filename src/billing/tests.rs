//! Summaries against the rows themselves, counted the slow way.

use super::*;
use crate::db::testing::{TestDb, both, repository_of, tenant};
use crate::db::{Sql, args, new_id};

const HOUR: i64 = 3600 * SECOND;

/// Writes rows and their sums as of a time in the past, as the transactions do it.
async fn fill(test: &TestDb, owner: Uuid, projects: &[Uuid], start: i64) {
    const EVENT: Sql = Sql::both(
        "INSERT INTO usage (kind, subject_id, owner_id, project_id, quantity, at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    );
    const KEPT: Sql = Sql::both(
        "INSERT INTO usage_storage (storage_key, holder_id, owner_id, project_id, bytes, \
         stored_at, removed_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    );
    const ADD: Sql = Sql::both(
        "INSERT INTO usage_daily (owner_id, day, project_id, kind, quantity, weighted) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (owner_id, day, project_id, kind) \
         DO UPDATE SET quantity = usage_daily.quantity + excluded.quantity, \
         weighted = usage_daily.weighted + excluded.weighted",
    );
    let mut random = 12_345_u64;
    let mut next = |below: i64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        i64::try_from((random >> 33) % below.unsigned_abs()).unwrap()
    };
    let mut tx = test.db.begin().await.unwrap();
    for number in 0..300 {
        let project = projects[number % projects.len()];
        let at = start + next(5 * DAY);
        let kinds = ["pushes", "bytes_received", "scans", "scan_cpu_ms", "files_scanned"];
        let kind = kinds[usize::try_from(next(5)).unwrap()];
        let quantity = next(10_000);
        tx.execute(EVENT, args![kind, new_id(), owner, project, quantity, at]).await.unwrap();
        let day = at.div_euclid(DAY);
        tx.execute(ADD, args![owner, day, project, kind, quantity, 0_i64]).await.unwrap();

        let (bytes, removed_at) = (next(1_000_000_000), at + next(2 * DAY));
        let removed = (number % 3 != 0).then_some(removed_at);
        let args = args![format!("{owner}/{number}"), new_id(), owner, project, bytes, at, removed];
        tx.execute(KEPT, args).await.unwrap();
        for (kind, at) in [("stored", Some(at)), ("removed", removed)] {
            let Some(at) = at else { continue };
            let weighted = bytes * (86_400 - at.rem_euclid(DAY) / SECOND);
            let day = at.div_euclid(DAY);
            tx.execute(ADD, args![owner, day, project, kind, bytes, weighted]).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
}

/// From the rows, one by one, without any sums.
async fn slowly(db: &Db, of: Of, from: i64, to: i64) -> Totals {
    const EVENTS: Sql =
        Sql::both("SELECT kind, project_id, quantity, at FROM usage WHERE owner_id = $1");
    const KEPT: Sql = Sql::both(
        "SELECT project_id, bytes, stored_at, removed_at FROM usage_storage WHERE owner_id = $1",
    );
    let mut totals = Totals::default();
    let wanted = |project| of.project_id.is_none_or(|only| only == project);
    let events: Vec<(String, Uuid, i64, i64)> =
        db.conn().fetch_all(EVENTS, args![of.owner_id]).await.unwrap();
    for (kind, project, quantity, at) in events {
        if !wanted(project) || at < from || at >= to {
            continue;
        }
        let into = match kind.as_str() {
            "pushes" => &mut totals.pushes,
            "bytes_received" => &mut totals.bytes_received,
            "scans" => &mut totals.scans,
            "scan_cpu_ms" => &mut totals.scan_cpu_ms,
            _ => &mut totals.files_scanned,
        };
        *into += quantity.unsigned_abs();
    }
    let kept: Vec<(Uuid, i64, i64, Option<i64>)> =
        db.conn().fetch_all(KEPT, args![of.owner_id]).await.unwrap();
    let mut byte_seconds = 0_i128;
    for (project, bytes, stored, removed) in kept {
        if wanted(project) {
            let begin = (stored / SECOND).max(from / SECOND);
            let end = (removed.unwrap_or(i64::MAX) / SECOND).min(to / SECOND);
            byte_seconds += i128::from(bytes) * i128::from((end - begin).max(0));
        }
    }
    totals.storage_byte_hours = u64::try_from(byte_seconds / 3600).unwrap();
    totals
}

#[tokio::test]
async fn every_figure_can_be_recomputed_from_its_rows() {
    for test in both().await {
        let of = tenant(&test.db).await;
        let second = repository_of(&test.db, of.owner).await;
        let projects = [of.project, second.project];
        let today = crate::db::now().div_euclid(DAY) * DAY;
        let start = today - 8 * DAY;
        fill(&test, of.owner, &projects, start).await;
        // Somebody else's usage is in nobody's summary.
        let other = tenant(&test.db).await;
        fill(&test, other.owner, &[other.project], start).await;

        let periods = [
            (start, start + 5 * DAY),
            (start - 100 * DAY, today),
            (start + 7 * HOUR, start + 9 * HOUR),
            (start + 7 * HOUR, start + DAY + 9 * HOUR),
            (start + 23 * HOUR, start + 3 * DAY + SECOND),
            (start + 2 * DAY, start + 3 * DAY),
            (start + DAY, start + 2 * DAY + 5 * HOUR),
            (start + DAY + 5 * HOUR, start + 4 * DAY),
            (start + 6 * DAY, start + 7 * DAY),
            (start - 20 * DAY, start - 10 * DAY),
        ];
        for (from, to) in periods {
            for project_id in [None, Some(second.project)] {
                let of = Of { owner_id: of.owner, project_id };
                let summary = summary(&test.db, of, from, to).await.unwrap();
                let expected = slowly(&test.db, of, from, to).await;
                let context = format!("{} {} h + {}", test.name, (from - start) / HOUR, to - from);
                assert_eq!(summary.totals, expected, "{context}");
                let mut sum = Totals::default();
                summary.daily.iter().for_each(|day| sum.add(&day.totals));
                assert_eq!(sum, expected, "{context}: the days");
                let mut sum = Totals::default();
                summary.projects.iter().for_each(|project| sum.add(&project.totals));
                assert_eq!(sum, expected, "{context}: the projects");
                let days = (to - 1).div_euclid(DAY) - from.div_euclid(DAY) + 1;
                assert_eq!(summary.daily.len() as i64, days, "{context}");
            }
        }
        // Each day alone is what the series says of it, but for the part of a byte-hour
        // that is carried on.
        let all = Of { owner_id: of.owner, project_id: None };
        let series = summary(&test.db, all, start, start + 5 * DAY).await.unwrap().daily;
        for day in series {
            let alone = slowly(&test.db, all, day.day * DAY, (day.day + 1) * DAY).await;
            let apart = alone.storage_byte_hours.abs_diff(day.totals.storage_byte_hours);
            assert!(apart <= 1, "{}: {apart}", test.name);
            assert_eq!(alone.pushes, day.totals.pushes);
        }
    }
}

#[tokio::test]
async fn the_future_costs_nothing() {
    for test in both().await {
        let of = tenant(&test.db).await;
        let mut tx = test.db.begin().await.unwrap();
        let kept = usage::Kept {
            key: "k",
            holder_id: of.repository,
            owner_id: of.owner,
            project_id: of.project,
            bytes: 3_600_000_000,
        };
        usage::keep(&mut tx, &[kept]).await.unwrap();
        tx.commit().await.unwrap();
        let now = crate::db::now();
        let of = Of { owner_id: of.owner, project_id: None };
        let hour = summary(&test.db, of, now - HOUR, now + 24 * HOUR).await.unwrap();
        let hours = hour.totals.storage_byte_hours;
        assert!(hours <= 30_000_000, "{}: not more than 30 s, not a day: {hours}", test.name);
        let later = summary(&test.db, of, now + HOUR, now + 24 * HOUR).await.unwrap();
        assert_eq!(later, Summary::default(), "{}", test.name);
    }
}

#[tokio::test]
async fn a_year_of_a_million_rows_is_summed_quickly() {
    const FILL: Sql = Sql::both(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999) \
         INSERT INTO usage (kind, subject_id, owner_id, project_id, quantity, at) \
         SELECT 'pushes', CAST(printf('%016d', i) AS BLOB), $1, $2, 1, $3 + i * 31000000 FROM n",
    );
    const SUMS: Sql = Sql::both(
        "INSERT INTO usage_daily (owner_id, day, project_id, kind, quantity, weighted) \
         SELECT owner_id, at / 86400000000, project_id, kind, sum(quantity), 0 FROM usage \
         GROUP BY owner_id, at / 86400000000, project_id, kind",
    );
    let test = crate::db::testing::sqlite().await;
    let of = tenant(&test.db).await;
    let start = crate::db::now() - 365 * DAY;
    let mut tx = test.db.begin().await.unwrap();
    tx.execute(FILL, args![of.owner, of.project, start]).await.unwrap();
    tx.execute(SUMS, args![]).await.unwrap();
    tx.commit().await.unwrap();
    let of = Of { owner_id: of.owner, project_id: None };
    let start = start / SECOND * SECOND;
    let began = std::time::Instant::now();
    let year = summary(&test.db, of, start, start + 365 * DAY).await.unwrap();
    let took = began.elapsed();
    assert_eq!(year.totals.pushes, 1_000_000);
    // It is 20 ms on a quiet machine; a walk over the rows is far more.
    assert!(took.as_millis() < 500, "{took:?}");
}
