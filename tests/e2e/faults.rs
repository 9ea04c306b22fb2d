//! A server that dies at a certain line: what was acknowledged is there afterwards,
//! what was not is not or can be pushed again, each scan is done once, and a clean-up
//! leaves nothing that nobody refers to.
//!
//! The points are those of `sluice_git::fault`, which exist in builds with debug
//! assertions only.

use serde_json::{Value, json};

use crate::crash::scanned_once;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Work, samples};

/// Makes a test of each point for each database.
macro_rules! points {
    ($story:ident: $($module:ident = $point:literal $what:expr;)+) => {$(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                $story(Place::sqlite(), $point, $what).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                $story(Place::postgres().await, $point, $what).await;
            }
        }
    )+};
}

/// What a death leaves.
struct Leaves {
    /// The push is there as a whole: its transaction is committed.
    push: bool,
    /// Objects in storage that only a clean-up finds: packs, snapshots, artefacts.
    orphans: [bool; 3],
}

const NOTHING: Leaves = Leaves { push: false, orphans: [false; 3] };
const PACKS: Leaves = Leaves { push: false, orphans: [true, false, false] };
const ALL: Leaves = Leaves { push: true, orphans: [false; 3] };
const SNAPSHOT: Leaves = Leaves { push: true, orphans: [false, true, false] };
const ARTIFACTS: Leaves = Leaves { push: true, orphans: [false, false, true] };

points! { a_push_dies:
    push_quarantined = "push.quarantined" NOTHING;
    push_received = "push.received" NOTHING;
    push_indexed = "push.indexed" NOTHING;
    push_half_stored = "push.half-stored" PACKS;
    push_stored = "push.stored" PACKS;
    push_before_commit = "push.before-commit" PACKS;
    push_committed = "push.committed" ALL;
    push_published = "push.published" ALL;
    push_before_report = "push.before-report" ALL;
}

points! { a_job_dies:
    ingest_begun = "ingest.begun" ALL;
    ingest_stored = "ingest.stored" SNAPSHOT;
    ingest_before_commit = "ingest.before-commit" SNAPSHOT;
    ingest_committed = "ingest.committed" ALL;
    scan_begun = "scan.begun" ALL;
    scan_written = "scan.written" ALL;
    scan_stored = "scan.stored" ARTIFACTS;
    scan_before_commit = "scan.before-commit" ARTIFACTS;
    scan_committed = "scan.committed" ALL;
}

/// Starts a server that dies at a point, and pushes to it.
async fn die_at(place: &mut Place, work: &Work, point: &str) -> (Value, bool) {
    place.set("SLUICE_FAULT", point);
    let mut server = place.start().await;
    place.unset("SLUICE_FAULT");
    let client = server.admin().await;
    // Longer than the clean-up looks ahead.
    let made = client.upload(json!({"expires_in": 30 * 86_400})).await;
    let said = work.push(&server.push_url(&made), &["main"]).await;
    let (code, _) = server.ended().await;
    assert_eq!(code, None, "it was to die by a signal: {}", server.log());
    assert!(server.log().contains(point), "{}", server.log());
    (made, said.ok)
}

async fn a_push_dies(mut place: Place, point: &str, leaves: Leaves) {
    let work = samples::small(&Git::any()).await;
    let (made, ok) = die_at(&mut place, &work, point).await;
    assert!(!ok, "nobody told the client that the push went through");

    // All of it is there, or nothing.
    let server = place.start().await;
    let client = server.admin().await;
    let now = shown(&client, &made).await;
    if leaves.push {
        assert_eq!((&now["pushes"], now["refs"].as_array().map(Vec::len)), (&json!(1), Some(1)));
        assert_eq!(now["refs"][0]["oid"], work.head().await.as_str(), "{now}");
    } else {
        assert_eq!((&now["pushes"], &now["refs"]), (&json!(0), &json!([])), "{now}");
        assert_eq!(now["status"], "awaiting_push", "{now}");
        assert_eq!(now["repository_id"], Value::Null, "{now}");
        let seen = work.run(&["ls-remote", &server.push_url(&made)]).await.expect();
        assert_eq!(seen.out, "");
        assert!(client.all("/v1/git-uploads/").await.len() == 1);
    }
    assert_eq!(place.files("git/incoming"), Vec::<std::path::PathBuf>::new());

    // Whoever pushes again is right in both cases.
    let said = work.push(&server.push_url(&made), &["main"]).await.expect();
    assert_eq!(said.err.contains("Everything up-to-date"), leaves.push, "{}", said.err);
    settled(place, server, &work, &made, &leaves).await;
}

async fn a_job_dies(mut place: Place, point: &str, leaves: Leaves) {
    let work = samples::small(&Git::any()).await;
    // The job may begin and die before git has read the answer; but it has begun.
    let (made, _) = die_at(&mut place, &work, point).await;
    // On PostgreSQL others may hold jobs, so the lease has to run out.
    place.later(place.postgres.is_some().then_some(1));
    let server = place.start().await;
    place.later(None);
    settled(place, server, &work, &made, &leaves).await;
}

async fn shown(client: &Client, made: &Value) -> Value {
    client.get(&format!("/v1/git-uploads/{}", text(&made["id"]))).await.expect(200).json()
}

/// One push, one scan, everything readable; and after a clean-up nothing else.
async fn settled(
    mut place: Place,
    server: crate::support::Server,
    work: &Work,
    made: &Value,
    leaves: &Leaves,
) {
    let client = server.admin().await;
    let found = scanned_once(&client, &text(&made["id"])).await.len();
    assert!(found > 0, "the sample has findings");
    let now = shown(&client, made).await;
    assert_eq!(now["pushes"], 1, "{now}");
    let bill = client.get("/v1/billing/summary").await.expect(200).json();
    let totals = &bill["totals"];
    assert_eq!((&totals["pushes"], &totals["scans"]), (&json!(1), &json!(1)), "{bill}");
    server.kill();

    // Days later, when nothing that was left behind can be taken for new.
    // Without workers, since one of them would clean up by itself.
    place.later(Some(72));
    let server = place.start_with(&["--no-worker"]).await;
    let client = server.admin().await;
    let clean = json!({"older_than": 3600});
    let cleaned = client.post("/v1/ops/cleanup", clean.clone()).await.expect(200).json();
    for (kind, expected) in
        ["orphaned_packs", "orphaned_snapshots", "orphaned_artifacts"].iter().zip(leaves.orphans)
    {
        let objects = cleaned["removed"][kind]["objects"].as_u64();
        assert_eq!(objects > Some(0), expected, "{kind}: {cleaned}");
    }
    let again = client.post("/v1/ops/cleanup", clean).await.expect(200).json();
    assert_eq!(again["total"]["objects"], 0, "{again}");
    for folder in ["git/incoming", "tmp"] {
        let left = place.files(folder);
        assert!(left.is_empty(), "{left:?}");
    }
    let stored = |prefix: &str| place.stored(prefix);
    assert_eq!(stored("packs").len(), 2, "a pack and its index: {:?}", stored("packs"));
    assert_eq!(stored("artifacts").len(), 4, "{:?}", stored("artifacts"));
    let snapshots: std::collections::BTreeSet<String> = stored("snapshots")
        .iter()
        .filter_map(|key| Some(key.rsplit_once('/')?.0.to_owned()))
        .collect();
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");

    // And all of that is still there for those who read it.
    let repository = text(&now["repository_id"]);
    assert_eq!(client.findings(&repository).await.len(), found);
    let path = format!("/v1/repositories/{repository}/source-files/README.md");
    assert_eq!(client.get(&path).await.expect(200).text(), "# Parcels\n");
    let copy = tempfile::tempdir().expect("a temporary folder");
    let copy = Work::at(&work.git, copy);
    copy.run(&["clone", "-q", &server.push_url(made), "."]).await.expect();
    copy.run(&["fsck", "--full", "--strict"]).await.expect();
    assert_eq!(copy.head().await, work.head().await);
}
