//! One pass over all units of a plan: ask for what is kept, look at the rest.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use serde_json::json;

use crate::scan::model::{
    FileInput, FileResult, Level, Progress, ResultKey, ScanError, SourceError,
};

use super::Run;
use super::gate::Gate;
use super::merge::Gathered;
use super::plan::{Item, Job, Plan, Unit};

/// Contents in memory at a time, in bytes, unless one alone is larger.
const BYTES_IN_FLIGHT: u64 = 64 << 20;

/// Contents in flight for each thread: enough that none waits for the next one.
const ITEMS_PER_THREAD: usize = 4;

/// Units whose kept results are asked for at a time.
const BATCH: usize = 256;

/// What a pass did.
#[derive(Default)]
pub(super) struct Counts {
    /// Items that were looked at, now or before.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Items of which everything was kept already.
    pub(super) reused: u64,
}

/// What came of one unit, sent from the threads to the one that gathers.
enum Message {
    Done { unit: usize, results: Vec<(usize, Option<FileResult>)> },
    Unreadable(SourceError),
}

struct Meter<'a> {
    run: &'a Run<'a>,
    plan: &'a Plan,
    phase: &'static str,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Meter<'_> {
    fn done(&self, unit: &Unit) {
        let bytes = unit.size.saturating_mul(unit.copies);
        let files = self.files.fetch_add(unit.copies, Ordering::Relaxed) + unit.copies;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.run.notes.observer().progress(&Progress {
            phase: self.phase.to_owned(),
            files_done: files,
            files_total: self.plan.files,
            bytes_done: bytes,
            bytes_total: self.plan.bytes,
        });
    }
}

/// Runs every job of the plan. The calling thread asks the store and gathers, the
/// pool reads and looks; the two overlap.
pub(super) fn over(
    run: &Run<'_>,
    plan: &Plan,
    phase: &'static str,
    gathered: &mut Gathered,
) -> Result<Counts, ScanError> {
    let mut counts = Counts::default();
    let gate = Gate::new(BYTES_IN_FLIGHT, run.engines.threads() * ITEMS_PER_THREAD);
    let meter = Meter { run, plan, phase, files: AtomicU64::new(0), bytes: AtomicU64::new(0) };
    let (send, receive) = mpsc::channel::<Message>();
    let mut keep: Vec<(ResultKey, FileResult)> = Vec::new();
    let mut failed: Option<SourceError> = None;

    run.engines.pool.in_place_scope(|scope| {
        for (batch_start, batch) in
            plan.units.chunks(BATCH).enumerate().map(|(n, units)| (n * BATCH, units))
        {
            if run.cancel.is_cancelled() || failed.is_some() {
                return;
            }
            let kept = kept(run, plan, batch);
            for (offset, (unit, mut kept)) in batch.iter().zip(kept).enumerate() {
                let index = batch_start + offset;
                counts.files += unit.copies;
                counts.bytes += unit.size.saturating_mul(unit.copies);
                let mut missing = Vec::new();
                for (at, job) in unit.jobs.iter().enumerate() {
                    match kept.get_mut(at).and_then(Option::take) {
                        Some(result) => gathered.add(run, plan, job, result),
                        None => missing.push(at),
                    }
                }
                if missing.is_empty() {
                    counts.reused += unit.copies;
                    meter.done(unit);
                    continue;
                }
                let Some(pass) = gate.enter(unit.size, run.cancel) else {
                    return;
                };
                let (send, meter) = (send.clone(), &meter);
                scope.spawn(move |_| {
                    let message = run.cpu.count(|| look(run, plan, unit, index, &missing));
                    drop(pass);
                    meter.done(unit);
                    // The receiver outlives the scope; a failure cannot happen.
                    let _ = send.send(message);
                });
                // Gathered while others work, so that finished results do not pile up.
                while let Ok(message) = receive.try_recv() {
                    take(run, plan, message, gathered, &mut keep, &mut failed);
                }
                flush(run, &mut keep, BATCH);
            }
        }
    });
    drop(send);
    for message in receive {
        take(run, plan, message, gathered, &mut keep, &mut failed);
    }
    flush(run, &mut keep, 1);
    run.check_cancel()?;
    match failed {
        Some(e) => Err(e.into()),
        None => Ok(counts),
    }
}

/// What the store has for each job of each unit of a batch.
fn kept(run: &Run<'_>, plan: &Plan, batch: &[Unit]) -> Vec<Vec<Option<FileResult>>> {
    let keys: Vec<ResultKey> = batch
        .iter()
        .flat_map(|unit| unit.jobs.iter().filter_map(|job| unit.key(plan, job, run)))
        .collect();
    let mut found = run.store.get(&keys).into_iter();
    batch.iter().map(|unit| unit.jobs.iter().map(|_| found.next().flatten()).collect()).collect()
}

/// Reads one unit and runs what is missing of it, on a thread of the pool.
fn look(run: &Run<'_>, plan: &Plan, unit: &Unit, index: usize, missing: &[usize]) -> Message {
    let mut results = Vec::with_capacity(missing.len());
    if run.cancel.is_cancelled() {
        return Message::Done { unit: index, results };
    }
    let Some(item) = plan.items.get(unit.item as usize) else {
        return Message::Done { unit: index, results };
    };
    let bytes = match item {
        Item::Tree(entry) => run.source.read(entry),
        Item::History(entry) => run.source.read_history(entry),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(e) => return Message::Unreadable(e),
    };
    for at in missing {
        let Some(job) = unit.jobs.get(*at) else {
            continue;
        };
        results.push((*at, analyse(run, item, job, &bytes)));
    }
    Message::Done { unit: index, results }
}

/// `None` for a result that is worth nothing: the engine panicked, or was stopped.
fn analyse(run: &Run<'_>, item: &Item, job: &Job, bytes: &[u8]) -> Option<FileResult> {
    let engine = run.engines.files.get(job.engine)?;
    let input = FileInput { bytes, facet: &job.facet };
    // Engines are read-only between files, so nothing half-changed stays behind.
    let result = catch_unwind(AssertUnwindSafe(|| engine.analyse(&input, run.limits, run.cancel)));
    match result {
        Ok(_) if run.cancel.is_cancelled() => None,
        Ok(result) => Some(result),
        Err(_) => {
            // The message of the panic may quote the file, secrets included.
            run.notes.event(
                Level::Warning,
                "file_failed",
                &format!("The {} engine failed on {}.", job.kind, item.path()),
                json!({ "path": item.path(), "engine": job.kind, "blob": item.blob() }),
            );
            None
        }
    }
}

fn take(
    run: &Run<'_>,
    plan: &Plan,
    message: Message,
    gathered: &mut Gathered,
    keep: &mut Vec<(ResultKey, FileResult)>,
    failed: &mut Option<SourceError>,
) {
    match message {
        Message::Unreadable(e) => {
            failed.get_or_insert(e);
        }
        Message::Done { unit, results } => {
            let Some(unit) = plan.units.get(unit) else {
                return;
            };
            for (at, result) in results {
                let (Some(job), Some(result)) = (unit.jobs.get(at), result) else {
                    continue;
                };
                // What was cut may be whole the next time: on an idle machine, with
                // other limits.
                if result.cut.is_empty()
                    && let Some(key) = unit.key(plan, job, run)
                {
                    keep.push((key, result.clone()));
                }
                gathered.add(run, plan, job, result);
            }
        }
    }
}

fn flush(run: &Run<'_>, keep: &mut Vec<(ResultKey, FileResult)>, at_least: usize) {
    if keep.len() >= at_least {
        run.store.put(std::mem::take(keep));
    }
}
