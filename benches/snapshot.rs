//! Snapshots against their goals (DESIGN.md, "How good it must be"):
//!
//! ```text
//! cargo bench --bench snapshot [-- FILES ROUNDS]
//! ```
//!
//! Makes a repository of 100,000 files (about 238 MB) with `git fast-import`, then
//! measures, interleaved, medians of the rounds: the snapshot against
//! `git archive | zstd -1 -T2`, the snapshot after 3 files changed, one file, and the
//! listing of all.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sluice::scan::Cancel;
use sluice::snapshot::{FrameCache, Options, Snapshot, SnapshotInfo, write};
use sluice::storage::Storage;
use tokio::runtime::Runtime;

/// Bytes of an average file of the goal.
const MEAN: u64 = 2380;

/// A generator without a dependency; quality does not matter here.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Text that compresses about as source does: words of a vocabulary, some unique.
fn text(random: &mut Random, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 40);
    while out.len() < length {
        let r = random.next();
        match r % 16 {
            0 => out.extend_from_slice(format!("value_{:x} ", r >> 40).as_bytes()),
            1 => out.extend_from_slice(b"{\n        "),
            2 => out.extend_from_slice(b";\n    "),
            _ => out.extend_from_slice(format!("word{} ", (r >> 8) % 1500).as_bytes()),
        }
    }
    out.truncate(length);
    out
}

fn git(dir: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").args(arguments).current_dir(dir).output()?;
    ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn path_of(number: u64) -> String {
    format!("src/area{}/part{}/file_{number}.txt", number % 40, number / 40 % 25)
}

/// Two commits: all files, and three of them changed.
fn make_repository(dir: &Path, files: u64) -> Result<()> {
    git(dir, &["init", "-q", "--bare", "r.git"])?;
    let mut import = Command::new("git")
        .args(["fast-import", "--quiet"])
        .current_dir(dir.join("r.git"))
        .stdin(Stdio::piped())
        .spawn()?;
    let mut out = BufWriter::new(import.stdin.take().context("no pipe")?);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    writeln!(out, "commit refs/heads/main\ncommitter t <t@example.org> 0 +0000\ndata 1\nx")?;
    for number in 0..files {
        let length = 40 + random.next() % (2 * MEAN - 80);
        let content = text(&mut random, length as usize);
        writeln!(out, "M 644 inline {}\ndata {}", path_of(number), content.len())?;
        out.write_all(&content)?;
        writeln!(out)?;
    }
    writeln!(out, "commit refs/heads/next\ncommitter t <t@example.org> 0 +0000\ndata 1\nx")?;
    writeln!(out, "from refs/heads/main")?;
    for number in [1, files / 2, files - 1] {
        let content = format!("changed {number}");
        writeln!(out, "M 644 inline {}\ndata {}\n{content}", path_of(number), content.len())?;
    }
    out.flush()?;
    drop(out);
    ensure!(import.wait()?.success(), "git fast-import failed");
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

struct Bench<'a> {
    runtime: &'a Runtime,
    storage: &'a Storage,
    odb: gix_odb::HandleArc,
}

impl Bench<'_> {
    fn snapshot(
        &self,
        tree: &str,
        id: &str,
        previous: Option<&Snapshot>,
    ) -> Result<(SnapshotInfo, Duration)> {
        let start = Instant::now();
        let info = write(
            &self.odb,
            tree.parse()?,
            self.storage,
            self.runtime.handle(),
            "snapshots/bench",
            id,
            previous,
            &Options::default(),
            &|_, _| {},
            &Cancel::new(),
        )?;
        Ok((info, start.elapsed()))
    }

    fn open(&self, info: &SnapshotInfo) -> Result<Snapshot> {
        Ok(self.runtime.block_on(Snapshot::open(self.storage, &info.key))?)
    }
}

fn main() -> Result<()> {
    let numbers: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let files = numbers.first().copied().unwrap_or(100_000);
    let rounds = numbers.get(1).copied().unwrap_or(5);
    let dir = tempfile::tempdir()?;
    make_repository(dir.path(), files)?;
    let repository = dir.path().join("r.git");
    let runtime = Runtime::new()?;
    let url = format!("file://{}", dir.path().join("objects").display());
    let storage = runtime.block_on(Storage::open(&url))?;
    let main = git(&repository, &["rev-parse", "main^{tree}"])?;
    let next = git(&repository, &["rev-parse", "next^{tree}"])?;

    let (mut peer, mut full, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for round in 0..rounds {
        let archive = dir.path().join(format!("archive{round}.zst"));
        let start = Instant::now();
        let script = "git archive main | zstd -q -1 -T2 -o \"$1\"";
        let status = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&archive)
            .current_dir(&repository)
            .status()?;
        ensure!(status.success(), "git archive | zstd failed");
        peer.push(start.elapsed());
        let archived = std::fs::metadata(&archive)?.len();
        std::fs::remove_file(&archive)?;

        // A new handle each time, as a push of a cold repository has.
        let odb = sluice::ingest::open_objects(&repository.join("objects"), gix_hash::Kind::Sha1)?;
        let bench = Bench { runtime: &runtime, storage: &storage, odb };
        let (info, time) = bench.snapshot(&main, &format!("full{round}"), None)?;
        full.push(time);
        let snapshot = bench.open(&info)?;
        let (changed, time) = bench.snapshot(&next, &format!("next{round}"), Some(&snapshot))?;
        ensure!(changed.blobs_written == 3, "{} blobs were written", changed.blobs_written);
        again.push(time);
        last = Some((info, archived, bench.open(&changed)?));
    }
    let (info, archived, snapshot) = last.context("no rounds")?;
    let (peer, full, again) = (median(peer), median(full), median(again));
    println!(
        "{} files, {} MB; stored {} MB ({} MB as an archive)",
        info.file_count,
        info.total_bytes / 1_000_000,
        info.bytes_stored / 1_000_000,
        archived / 1_000_000
    );
    println!("git archive | zstd -1 -T2   {:8.1} ms", millis(peer));
    println!(
        "snapshot                    {:8.1} ms   ratio {:.3}   goal <= 0.40",
        millis(full),
        full.as_secs_f64() / peer.as_secs_f64()
    );
    println!(
        "snapshot, 3 files changed   {:8.1} ms   ratio {:.3}   goal <= 0.05 of the full one",
        millis(again),
        again.as_secs_f64() / full.as_secs_f64()
    );

    let mut random = Random(88_172_645_463_325_252);
    let paths: Vec<String> = (0..5_000).map(|_| path_of(random.next() % files)).collect();
    let mut blocking = Vec::new();
    for path in &paths {
        let start = Instant::now();
        let entry = snapshot.entry_blocking(path.as_bytes())?.context("missing")?;
        let bytes = snapshot.read_blocking(&entry, 1 << 20, &mut FrameCache::new(0))?;
        blocking.push(start.elapsed());
        ensure!(bytes.len() as u64 == entry.size);
    }
    let mut asynchronous = Vec::new();
    runtime.block_on(async {
        for path in &paths {
            let start = Instant::now();
            snapshot.read_path(path.as_bytes(), 1 << 20).await?;
            asynchronous.push(start.elapsed());
        }
        anyhow::Ok(())
    })?;
    println!(
        "one file, p50               {:8.1} us blocking, {:.1} us async   goal <= 60 us",
        median(blocking).as_secs_f64() * 1e6,
        median(asynchronous).as_secs_f64() * 1e6
    );
    let mut list = Vec::new();
    for _ in 0..rounds.max(5) {
        let start = Instant::now();
        let page = snapshot.list_blocking(b"", true, None, usize::MAX)?;
        list.push(start.elapsed());
        ensure!(page.items.len() as u64 == files);
    }
    println!("list of all                 {:8.1} ms   goal <= 15 ms", millis(median(list)));
    Ok(())
}
