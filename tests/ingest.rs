//! From a repository of the real git to snapshot, languages, profile and a scan's
//! source.

use std::path::Path;
use std::process::Command;

use sluice::ingest::profile::{Exposure, ProfileSource, Stride};
use sluice::ingest::{IngestError, Ingested, Request, Step, ingest, open_objects};
use sluice::jobs::source::SnapshotSource;
use sluice::scan::{Cancel, Source};
use sluice::snapshot::{Options, Snapshot, TreeLimits};
use sluice::storage::Storage;
use tokio::runtime::Handle;

const FILES: &[(&str, &str)] = &[
    (
        "app/main.py",
        "from flask import Flask\napp = Flask(__name__)\n\n@app.route('/users/<name>')\ndef user(name):\n    return db.execute('select ' + name)\n\nif __name__ == '__main__':\n    app.run()\n",
    ),
    ("requirements.txt", "Flask==3.0\npsycopg2-binary>=2.9\nstripe\n"),
    ("web/package.json", "{\"dependencies\": {\"express\": \"^4\", \"ioredis\": \"5\"}}"),
    (
        "web/server.js",
        "const app = express()\napp.post('/pay', (req, res) => fetch(req.body.url))\n",
    ),
    (
        "api/Orders.java",
        "class Orders {\n  @GetMapping(\"/orders\")\n  String all() { return \"\"; }\n}\n",
    ),
    ("cmd/tool.go", "package main\n\nfunc main() {\n\texec.Command(\"ls\")\n}\n"),
    ("Dockerfile", "FROM scratch\nEXPOSE 8080\n"),
    (".github/workflows/ci.yml", "name: CI\non: pull_request_target\n"),
    ("vendor/lib/route.py", "@app.route('/vendored')\n"),
    ("tests/test_app.py", "@app.route('/only-in-a-test')\n"),
    ("README.md", "# Hello\n"),
];

struct House {
    dir: tempfile::TempDir,
    storage: Storage,
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl House {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().join("objects").display());
        let storage = Storage::open(&url).await.unwrap();
        git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        let house = Self { dir, storage };
        for (path, content) in FILES {
            let path = house.work().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        git(&house.work(), &["add", "-A"]);
        git(&house.work(), &["commit", "-q", "-m", "The first one\n\nWith a body."]);
        house
    }

    fn work(&self) -> std::path::PathBuf {
        self.dir.path().join("work")
    }

    async fn ingest(&self, head: &str, options: Options) -> Result<Ingested, IngestError> {
        let head = Some(git(&self.work(), &["rev-parse", head]).parse().unwrap());
        let odb = open_objects(&self.work().join(".git/objects"), gix_hash::Kind::Sha1).unwrap();
        let (storage, runtime) = (self.storage.clone(), Handle::current());
        tokio::task::spawn_blocking(move || {
            let request = Request {
                storage: &storage,
                runtime: &runtime,
                prefix: "snapshots/r",
                snapshot_id: "s",
                previous: None,
                options: &options,
            };
            let steps = std::sync::Mutex::new(Vec::new());
            let note = |step| steps.lock().unwrap().push(step);
            let result = ingest(&odb, head, &request, &note, &Cancel::new());
            if result.is_ok() {
                assert_eq!(steps.lock().unwrap().last(), Some(&Step::Profile));
            }
            result
        })
        .await
        .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_becomes_snapshot_languages_and_profile() {
    let house = House::new().await;
    git(&house.work(), &["tag", "-a", "v1", "-m", "tag"]);
    git(&house.work(), &["tag", "-a", "v2", "-m", "tag of a tag", "v1"]);
    let done = house.ingest("v2", Options::default()).await.unwrap();
    assert_eq!(done.head.commit, git(&house.work(), &["rev-parse", "HEAD"]));
    assert_eq!(done.head.tree, git(&house.work(), &["rev-parse", "HEAD^{tree}"]));
    assert_eq!(done.head.subject, "The first one");
    let at = git(&house.work(), &["log", "-1", "--format=%ct"]);
    assert_eq!(done.head.committed_at.to_string(), at);
    assert_eq!(done.snapshot.file_count, FILES.len() as u64);

    let python = done.languages.iter().find(|l| l.name == "python").unwrap();
    let expected: usize = FILES
        .iter()
        .filter(|(p, _)| p.ends_with(".py") && !p.starts_with("vendor"))
        .map(|(_, c)| c.len())
        .sum();
    assert_eq!((python.files, python.bytes), (2, expected as u64));

    let profile = &done.profile;
    assert_eq!((profile.source, profile.version), (ProfileSource::Generated, 1));
    assert_eq!(profile.frameworks, ["Express", "Flask"]);
    assert_eq!(profile.data_stores, ["PostgreSQL", "Redis"]);
    assert_eq!(profile.external_services, ["Stripe"]);
    assert_eq!(profile.exposure, Exposure::Internet);
    assert_eq!(profile.excluded_paths, ["vendor/**"]);
    let points: Vec<_> = profile
        .entry_points
        .iter()
        .map(|e| (e.kind.as_str(), e.path.as_str(), e.line, e.detail.as_str()))
        .collect();
    for point in [
        ("workflow", ".github/workflows/ci.yml", 1, "CI"),
        ("port", "Dockerfile", 2, "8080"),
        ("http", "api/Orders.java", 2, "/orders"),
        ("http", "app/main.py", 4, "/users/<name>"),
        ("cli", "cmd/tool.go", 3, "func main()"),
        ("http", "web/server.js", 2, "/pay"),
    ] {
        assert!(points.contains(&point), "{point:?} is not in {points:#?}");
    }
    assert!(!points.iter().any(|p| p.3.contains("vendored") || p.3.contains("test")));
    let threat = |id: &str| profile.threats.iter().find(|t| t.id == id).unwrap();
    assert_eq!(threat("sql-injection").affected_paths, ["app/main.py"]);
    assert_eq!(threat("command-injection").affected_paths, ["cmd/tool.go"]);
    assert_eq!(threat("workflow-takeover").category, Stride::ElevationOfPrivilege);
    assert_eq!(threat("request-forgery").affected_paths, ["web/server.js"]);
    assert!(!profile.threats.iter().any(|t| t.id == "unsafe-deserialisation"));

    // As the API shows and takes it back.
    let json = serde_json::to_value(profile).unwrap();
    assert_eq!(json["exposure"], "internet");
    assert_eq!(json["threats"][0]["category"], "tampering");
    assert_eq!(&serde_json::from_value::<sluice::ingest::ThreatProfile>(json).unwrap(), profile);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_reads_the_files_of_a_snapshot() {
    let house = House::new().await;
    let done = house.ingest("HEAD", Options::default()).await.unwrap();
    let snapshot = Snapshot::open(&house.storage, &done.snapshot.key).await.unwrap();
    tokio::task::spawn_blocking(move || {
        let source = SnapshotSource::new(snapshot, None, 100).unwrap();
        let files = source.files().unwrap();
        assert_eq!(files.len(), FILES.len());
        assert!(files.is_sorted_by_key(|f| f.position));
        for file in &files {
            let (_, content) = FILES.iter().find(|(path, _)| *path == file.path).unwrap();
            match source.read(file) {
                Ok(bytes) => assert_eq!(bytes, content.as_bytes()),
                Err(error) => assert!(content.len() > 100, "{error}"),
            }
        }
        assert!(source.history(&Cancel::new()).unwrap().blobs.is_empty());
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ingested_has_a_code_and_a_sentence() {
    let house = House::new().await;
    let blob = house.ingest("HEAD:README.md", Options::default()).await.unwrap_err();
    assert_eq!(blob.code(), "not_a_commit");
    assert!(blob.to_string().contains("push a branch"));
    let tree = house.ingest("HEAD^{tree}", Options::default()).await.unwrap_err();
    assert_eq!(tree.code(), "not_a_commit");
    let limits = TreeLimits { max_entries: 3, ..TreeLimits::default() };
    let many = house
        .ingest("HEAD", Options { limits, threads: 1, ..Options::default() })
        .await
        .unwrap_err();
    assert_eq!(many.code(), "too_many_files");
    let limits = TreeLimits { max_bytes: 10, ..TreeLimits::default() };
    let large = house
        .ingest("HEAD", Options { limits, threads: 1, ..Options::default() })
        .await
        .unwrap_err();
    assert_eq!(large.code(), "too_large");
    assert_eq!(IngestError::EmptyRepository.code(), "empty_repository");
}
