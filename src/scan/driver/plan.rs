//! What is to be done: one unit for each blob, one job in it for each engine and
//! facet.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use crate::scan::model::{
    EngineKind, FileEngine, FileEntry, HistoryContents, HistoryEntry, Level, ResultKey, ScanConfig,
    ScanError,
};

use super::Run;
use super::globs::Globs;

/// A file of the tree or a blob of the history.
pub(super) enum Item {
    Tree(FileEntry),
    History(HistoryEntry),
}

impl Item {
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Tree(e) => &e.path,
            Self::History(e) => &e.path,
        }
    }

    pub(super) fn blob(&self) -> &str {
        match self {
            Self::Tree(e) => &e.blob,
            Self::History(e) => &e.blob,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Tree(e) => e.size,
            Self::History(e) => e.size,
        }
    }
}

/// One engine on one blob under one facet.
pub(super) struct Job {
    /// Index into the engines.
    pub(super) engine: usize,
    pub(super) kind: EngineKind,
    pub(super) facet: Arc<str>,
    /// Indices of the items that the result is shown at.
    pub(super) items: Vec<u32>,
}

/// One blob.
pub(super) struct Unit {
    /// The item by which it is read.
    pub(super) item: u32,
    pub(super) size: u64,
    /// How many items have this content.
    pub(super) copies: u64,
    pub(super) jobs: Vec<Job>,
}

impl Unit {
    pub(super) fn key(&self, plan: &Plan, job: &Job, run: &Run<'_>) -> Option<ResultKey> {
        Some(ResultKey {
            blob: plan.items.get(self.item as usize)?.blob().to_owned(),
            engine: job.kind,
            rule_set: run.engines.files.get(job.engine)?.rule_set().to_owned(),
            facet: job.facet.to_string(),
        })
    }
}

/// Everything of one pass, in the order in which the source reads fastest.
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    pub(super) units: Vec<Unit>,
    /// Items that some engine looks at.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

impl Plan {
    pub(super) fn files_of(&self, kind: EngineKind) -> u64 {
        self.units
            .iter()
            .flat_map(|u| &u.jobs)
            .filter(|j| j.kind == kind)
            .map(|j| j.items.len() as u64)
            .sum()
    }
}

/// The files of the tree under all engines that are wanted.
pub(super) fn of_tree(
    run: &Run<'_>,
    config: &ScanConfig,
    globs: &Globs,
) -> Result<Plan, ScanError> {
    let mut entries = run.source.files()?;
    entries.sort_by(|a, b| a.position.cmp(&b.position).then_with(|| a.path.cmp(&b.path)));
    let listed = entries.len();
    entries.retain(|e| globs.wants(&e.path));
    let left_out = listed - entries.len();
    let most = usize::try_from(run.limits.max_files).unwrap_or(usize::MAX);
    if most != 0 && entries.len() > most {
        // By path, so that the next scan of the same tree looks at the same files.
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        run.notes.event(
            Level::Warning,
            "files_capped",
            &format!("The tree has {} files; only the first {most} are scanned.", entries.len()),
            json!({ "files": entries.len(), "scanned": most }),
        );
        entries.truncate(most);
        entries.sort_by_key(|e| e.position);
    }
    let wanted: Vec<usize> = (0..run.engines.files.len())
        .filter(|i| run.engines.files.get(*i).is_some_and(|e| config.engines.contains(&e.kind())))
        .collect();
    let plan = build(run, entries.into_iter().map(Item::Tree), &wanted)?;
    run.notes.event(
        Level::Info,
        "inventory",
        &format!("{listed} files, {} of them to look at", plan.files),
        json!({
            "files": listed,
            "excluded": left_out,
            "to_scan": plan.files,
            "bytes": plan.bytes,
            "distinct_contents": plan.units.len(),
        }),
    );
    Ok(plan)
}

/// The blobs of the history, for the engines that look at them, and what else is there.
pub(super) fn of_history(
    run: &Run<'_>,
    config: &ScanConfig,
    globs: &Globs,
) -> Result<(Plan, HistoryContents), ScanError> {
    let mut history = match run.source.history(run.cancel) {
        Ok(history) => history,
        // A source that was told to stop answers with an error of its own.
        Err(_) if run.cancel.is_cancelled() => return Err(ScanError::Cancelled),
        Err(e) => return Err(e.into()),
    };
    let mut entries = std::mem::take(&mut history.blobs);
    entries.retain(|e| globs.wants(&e.path));
    let looks = |e: &dyn FileEngine| e.looks_at_history() && config.engines.contains(&e.kind());
    let engines: Vec<usize> = (0..run.engines.files.len())
        .filter(|i| run.engines.files.get(*i).is_some_and(|e| looks(e.as_ref())))
        .collect();
    Ok((build(run, entries.into_iter().map(Item::History), &engines)?, history))
}

fn build(
    run: &Run<'_>,
    entries: impl Iterator<Item = Item>,
    engines: &[usize],
) -> Result<Plan, ScanError> {
    let mut plan = Plan { items: Vec::new(), units: Vec::new(), files: 0, bytes: 0 };
    let mut unit_of: HashMap<String, usize> = HashMap::new();
    let mut facets: HashMap<String, Arc<str>> = HashMap::new();
    for (n, item) in entries.enumerate() {
        if n % 1024 == 0 {
            run.check_cancel()?;
        }
        let mut jobs = Vec::new();
        for index in engines {
            let Some(engine) = run.engines.files.get(*index) else {
                continue;
            };
            if let Some(facet) = engine.facet(item.path()) {
                let facet = match facets.get(&facet) {
                    Some(known) => Arc::clone(known),
                    None => {
                        let new: Arc<str> = facet.as_str().into();
                        facets.insert(facet, Arc::clone(&new));
                        new
                    }
                };
                jobs.push((*index, engine.kind(), facet));
            }
        }
        if jobs.is_empty() {
            continue;
        }
        let size = item.size();
        if run.limits.max_file_bytes != 0 && size > run.limits.max_file_bytes {
            run.notes.event(
                Level::Warning,
                "file_skipped",
                &format!(
                    "{} is not scanned: its {size} bytes are more than {}.",
                    item.path(),
                    run.limits.max_file_bytes
                ),
                json!({ "path": item.path(), "size": size, "reason": "too_large" }),
            );
            continue;
        }
        let Ok(id) = u32::try_from(plan.items.len()) else {
            break;
        };
        let at = *unit_of.entry(item.blob().to_owned()).or_insert_with(|| {
            plan.units.push(Unit { item: id, size, copies: 0, jobs: Vec::new() });
            plan.units.len() - 1
        });
        if let Some(unit) = plan.units.get_mut(at) {
            unit.copies += 1;
            for (engine, kind, facet) in jobs {
                match unit.jobs.iter_mut().find(|j| j.engine == engine && j.facet == facet) {
                    Some(job) => job.items.push(id),
                    None => unit.jobs.push(Job { engine, kind, facet, items: vec![id] }),
                }
            }
        }
        plan.files += 1;
        plan.bytes = plan.bytes.saturating_add(size);
        plan.items.push(item);
    }
    Ok(plan)
}
