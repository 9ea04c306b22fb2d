//! Figures for operators, in the text format of Prometheus.
//!
//! What happens is counted where it happens ([`Metrics`] is part of the state that
//! every handler and job shares); what simply is (the queue, pools, memory) is read
//! when somebody asks. Every label has few values that are known beforehand: routes
//! are templates, never paths, and nothing of a tenant is a label, so neither the
//! number of series nor what they tell grows with the users. That is also why they
//! may be read without authentication; where even totals are nobody's business, the
//! proxy in front keeps `/metrics` to itself.

mod process;

use std::fmt;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::db::scans::Summary;
use crate::db::{Db, jobs, now};
use crate::queue::Queue;
use process::Process;

/// Media type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The route of a request that no route takes.
pub const OTHER: &str = "other";

/// How long the database may take to tell of the queue.
const PATIENCE: Duration = Duration::from_secs(1);

/// Every figure of a process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    in_flight: IntGauge,
    jobs: IntCounterVec,
    job_seconds: HistogramVec,
    pushes: IntCounterVec,
    push_bytes: IntCounter,
    push_objects: IntCounter,
    fetches: IntCounterVec,
    url_fetches: IntCounterVec,
    url_bytes: IntCounterVec,
    fetch_bytes: IntCounter,
    fetch_objects: IntCounter,
    limits: IntCounterVec,
    scans: IntCounterVec,
    findings: IntCounterVec,
    scanned_files: IntCounter,
    scan_cpu_ms: IntCounter,
    database_up: IntGauge,
    queued: IntGaugeVec,
    queue_age: IntGaugeVec,
    dead: IntGaugeVec,
    queue_up: IntGauge,
    messages: IntGaugeVec,
    connections: IntGaugeVec,
    idle_connections: IntGaugeVec,
    process: Process,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(…)")
    }
}

/// Registers one figure after the other.
struct Registrar(Registry);

impl Registrar {
    fn keep<T: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: prometheus::Result<T>,
    ) -> prometheus::Result<T> {
        let metric = metric?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.keep(IntCounter::with_opts(Opts::new(name, help)))
    }

    fn counters(&self, name: &str, help: &str, by: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.keep(IntCounterVec::new(Opts::new(name, help), by))
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.keep(IntGauge::with_opts(Opts::new(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, by: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), by))
    }

    fn seconds(
        &self,
        name: &str,
        help: &str,
        by: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.keep(HistogramVec::new(opts, by))
    }
}

impl Metrics {
    /// All figures at nought.
    ///
    /// # Errors
    ///
    /// If two have the same name, which is a defect that every test of the server
    /// would meet.
    pub fn new() -> prometheus::Result<Self> {
        const REQUEST: &[f64] =
            &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
        const JOB: &[f64] =
            &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];
        let registry = Registry::new();
        let r = Registrar(registry.clone());
        let build = r.gauges("sluice_build_info", "Version of the program.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            requests: r.counters(
                "sluice_http_requests_total",
                "Requests answered, by template of the route.",
                &["method", "route", "status"],
            )?,
            request_seconds: r.seconds(
                "sluice_http_request_duration_seconds",
                "Time until an answer began, by template of the route.",
                &["method", "route"],
                REQUEST,
            )?,
            in_flight: r
                .gauge("sluice_http_requests_in_flight", "Requests whose answer has not begun.")?,
            jobs: r.counters(
                "sluice_jobs_total",
                "Runs of jobs by how they ended.",
                &["kind", "outcome"],
            )?,
            job_seconds: r.seconds(
                "sluice_job_duration_seconds",
                "Time of runs of jobs.",
                &["kind"],
                JOB,
            )?,
            pushes: r.counters(
                "sluice_pushes_total",
                "Pushes by what became of them and why.",
                &["outcome", "reason"],
            )?,
            push_bytes: r
                .counter("sluice_push_received_bytes_total", "Bytes of accepted pushes.")?,
            push_objects: r
                .counter("sluice_push_received_objects_total", "Objects of accepted pushes.")?,
            fetches: r.counters(
                "sluice_fetches_total",
                "Packs that were sent: a clone begins with nothing, a fetch with something.",
                &["kind"],
            )?,
            fetch_bytes: r
                .counter("sluice_fetch_sent_bytes_total", "Bytes of packs that were sent.")?,
            fetch_objects: r
                .counter("sluice_fetch_sent_objects_total", "Objects of packs that were sent.")?,
            url_fetches: r.counters(
                "sluice_url_fetches_total",
                "Repositories (`git`) and archives (`archive`) that were fetched by URL.",
                &["kind"],
            )?,
            url_bytes: r.counters(
                "sluice_url_fetch_received_bytes_total",
                "Bytes that were fetched by URL.",
                &["kind"],
            )?,
            limits: r.counters(
                "sluice_limit_hits_total",
                "How often a quota refused something, ended it or left it out.",
                &["limit"],
            )?,
            scans: r.counters("sluice_scans_total", "Scans by how they ended.", &["status"])?,
            findings: r.counters(
                "sluice_findings_total",
                "Findings of completed scans by their state.",
                &["state"],
            )?,
            scanned_files: r.counter(
                "sluice_scan_files_total",
                "Files that completed scans looked at, now or before.",
            )?,
            scan_cpu_ms: r.counter(
                "sluice_scan_cpu_milliseconds_total",
                "Processor time of completed scans.",
            )?,
            database_up: r.gauge("sluice_database_up", "1 if the database answered just now.")?,
            queued: r.gauges("sluice_jobs_queued", "Jobs that wait.", &["kind"])?,
            queue_age: r.gauges(
                "sluice_jobs_oldest_seconds",
                "How long the first of the jobs that wait has been due.",
                &["kind"],
            )?,
            dead: r.gauges("sluice_jobs_dead", "Jobs that were given up.", &["kind"])?,
            queue_up: r.gauge(
                "sluice_queue_up",
                "1 if the queue of messages answered lately; always 1 without one.",
            )?,
            messages: r.gauges(
                "sluice_queue_messages",
                "Messages in the queue, about: waiting, in_flight, delayed and dead. They only \
                 point to jobs.",
                &["state"],
            )?,
            connections: r.gauges(
                "sluice_database_connections",
                "Open connections to the database.",
                &["pool"],
            )?,
            idle_connections: r.gauges(
                "sluice_database_connections_idle",
                "Connections to the database that nobody uses.",
                &["pool"],
            )?,
            process: Process::register(&registry)?,
            registry,
        })
    }

    /// A request began; the answer is to be told to the guard.
    pub fn request(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight { metrics: self, started: std::time::Instant::now() }
    }

    /// A run of a job ended.
    pub fn job(&self, kind: &str, outcome: &str, took: Duration) {
        self.jobs.with_label_values(&[kind, outcome]).inc();
        let seconds: Histogram = self.job_seconds.with_label_values(&[kind]);
        seconds.observe(took.as_secs_f64());
    }

    /// A push was accepted.
    pub fn push_accepted(&self, bytes: u64, objects: u64) {
        self.pushes.with_label_values(&["accepted", ""]).inc();
        self.push_bytes.inc_by(bytes);
        self.push_objects.inc_by(objects);
    }

    /// A pack was sent to a client, which had nothing before if it is a clone.
    pub fn fetched(&self, clone: bool, bytes: u64, objects: u64) {
        self.fetches.with_label_values(&[if clone { "clone" } else { "fetch" }]).inc();
        self.fetch_bytes.inc_by(bytes);
        self.fetch_objects.inc_by(objects);
    }

    /// Code was fetched by URL: `git`, or an `archive`.
    pub fn fetched_by_url(&self, kind: &'static str, bytes: u64) {
        self.url_fetches.with_label_values(&[kind]).inc();
        self.url_bytes.with_label_values(&[kind]).inc_by(bytes);
    }

    /// A push was refused for a reason of a few: `limit`, `content`, `refs`, `policy`,
    /// `protection`, `unavailable`.
    pub fn push_refused(&self, reason: &'static str) {
        self.pushes.with_label_values(&["refused", reason]).inc();
    }

    /// A quota, by its name in [`crate::config::LIMITS`], refused something.
    pub fn limit_hit(&self, limit: &'static str) {
        self.limit_hits(limit, 1);
    }

    /// The same so many times.
    pub fn limit_hits(&self, limit: &'static str, times: u64) {
        debug_assert!(crate::config::LIMITS.iter().any(|known| known.name == limit), "{limit}");
        self.limits.with_label_values(&[limit]).inc_by(times);
    }

    /// A scan was completed.
    pub fn scan_completed(&self, summary: &Summary, files: u64, cpu_ms: u64) {
        self.scan_ended("completed");
        self.findings.with_label_values(&["new"]).inc_by(summary.new);
        self.findings.with_label_values(&["unchanged"]).inc_by(summary.unchanged);
        self.findings.with_label_values(&["fixed"]).inc_by(summary.fixed);
        self.scanned_files.inc_by(files);
        self.scan_cpu_ms.inc_by(cpu_ms);
    }

    /// A scan ended otherwise: `failed` or `cancelled`.
    pub fn scan_ended(&self, status: &'static str) {
        self.scans.with_label_values(&[status]).inc();
    }

    /// Shows figures that somebody else counts.
    pub(crate) fn register(&self, figures: IntCounterVec) -> prometheus::Result<()> {
        self.registry.register(Box::new(figures))
    }

    /// All figures as text.
    pub async fn render(&self, db: &Db, queue: &Queue) -> String {
        let (jobs, ()) = tokio::join!(
            tokio::time::timeout(PATIENCE, self.read_queue(db)),
            self.read_messages(queue),
        );
        self.database_up.set(i64::from(matches!(jobs, Ok(Ok(())))));
        for (pool, size, idle) in db.pools() {
            self.connections.with_label_values(&[pool]).set(i64::from(size));
            self.idle_connections
                .with_label_values(&[pool])
                .set(i64::try_from(idle).unwrap_or(i64::MAX));
        }
        self.process.read();
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!("cannot write the metrics: {error}");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Each look costs requests, and nobody decides anything by these figures: the jobs
    /// are counted in the table.
    async fn read_messages(&self, queue: &Queue) {
        const AGE: Duration = Duration::from_secs(30);
        let depth = match queue.depth(AGE).await {
            None => return self.queue_up.set(1),
            Some(Err(_)) => {
                self.messages.reset();
                return self.queue_up.set(0);
            }
            Some(Ok(depth)) => depth,
        };
        self.queue_up.set(1);
        let counts = [
            ("waiting", Some(depth.waiting)),
            ("in_flight", Some(depth.in_flight)),
            ("delayed", Some(depth.delayed)),
            ("dead", depth.dead),
        ];
        for (state, count) in counts {
            if let Some(count) = count {
                self.messages.with_label_values(&[state]).set(count);
            }
        }
    }

    async fn read_queue(&self, db: &Db) -> crate::db::Result<()> {
        let (waiting, dead) = (jobs::waiting(db).await?, jobs::dead(db).await?);
        let at = now();
        for kind in jobs::JobKind::ALL {
            let kind = kind.as_str();
            let row = waiting.iter().find(|row| row.kind == kind);
            let age = row.map_or(0, |row| (at - row.oldest).max(0) / 1_000_000);
            self.queued.with_label_values(&[kind]).set(row.map_or(0, |row| row.queued));
            self.queue_age.with_label_values(&[kind]).set(age);
            let dead = dead.iter().find(|(name, _)| name == kind).map_or(0, |(_, count)| *count);
            self.dead.with_label_values(&[kind]).set(dead);
        }
        Ok(())
    }
}

/// The quota that refused a request, by its name: an extension of the answer. It is for
/// refusals that are made where the figures are out of reach, and is counted where the
/// answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitHit(pub &'static str);

/// A request whose answer has not begun.
#[derive(Debug)]
pub struct InFlight<'a> {
    metrics: &'a Metrics,
    started: std::time::Instant,
}

impl InFlight<'_> {
    /// The answer begins. `route` is a template, or [`OTHER`].
    pub fn answered(self, method: &Method, route: &str, status: StatusCode) {
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => known,
            _ => OTHER,
        };
        let metrics = self.metrics;
        metrics.requests.with_label_values(&[method, route, status.as_str()]).inc();
        metrics
            .request_seconds
            .with_label_values(&[method, route])
            .observe(self.started.elapsed().as_secs_f64());
    }
}

impl Drop for InFlight<'_> {
    /// Also of a request whose client went away.
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}

/// The template of an address below the mount of the git remote.
pub fn git_route(path: &str) -> &'static str {
    let Some((_, service)) = path.split_once(".git/") else { return OTHER };
    match service {
        "info/refs" => "/git/{upload_id}.git/info/refs",
        "git-receive-pack" => "/git/{upload_id}.git/git-receive-pack",
        "git-upload-pack" => "/git/{upload_id}.git/git-upload-pack",
        lfs if lfs.starts_with("info/lfs/objects/batch") => {
            "/git/{upload_id}.git/info/lfs/objects/batch"
        }
        lfs if lfs.starts_with("info/lfs/objects/") => {
            "/git/{upload_id}.git/info/lfs/objects/{oid}"
        }
        lfs if lfs.starts_with("info/lfs/locks") => "/git/{upload_id}.git/info/lfs/locks",
        _ => OTHER,
    }
}
