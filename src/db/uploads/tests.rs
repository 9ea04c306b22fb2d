use serde_json::json;
use sluice_git::refs::{Decision, reason};
use sluice_git::{Command, ObjectId};

use super::*;
use crate::db::testing::{TestDb, both};
use crate::db::users::{self, NewUser};
use crate::db::{Sql, jobs, projects, repositories, snapshots};

async fn user(db: &Db, email: &str) -> Uuid {
    let mut tx = db.begin().await.unwrap();
    let new = NewUser { email, name: "Ada", password_hash: "-", groups: &[] };
    let id = users::insert(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn upload(db: &Db, owner_id: Uuid, change: impl FnOnce(&mut NewUpload)) -> Upload {
    let mut tx = db.begin().await.unwrap();
    let project_id = projects::default_of(&mut tx, owner_id).await.unwrap().id;
    let mut new = NewUpload {
        owner_id,
        project_id,
        repository_id: None,
        name: Some("shop".into()),
        wanted_ref: None,
        scan: true,
        token_hash: vec![7; 32],
        expires_at: now() + 60_000_000,
        object_format: None,
    };
    change(&mut new);
    let upload = create(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    upload
}

fn id(digit: u8) -> ObjectId {
    ObjectId::from_hex(&[b'0' + digit; 40]).unwrap()
}

fn hex(digit: u8) -> String {
    digit.to_string().repeat(40)
}

/// `(old, new, name)`; 0 stands for no object.
fn commands(list: &[(u8, u8, &str)]) -> Vec<Command> {
    list.iter()
        .map(|(old, new, name)| Command { old: id(*old), new: id(*new), name: (*name).into() })
        .collect()
}

fn push_of(upload_id: Uuid, list: &[(u8, u8, &str)]) -> CommitPush {
    CommitPush {
        upload_id,
        commands: commands(list),
        rejected: vec![None; list.len()],
        atomic: false,
        new_shallow: Vec::new(),
        pack: None,
        received_bytes: 100,
        received_objects: 3,
        observations: json!([]),
        agent: Some("git/2.47.3".into()),
        certificate: None,
        signed_by: None,
        max_refs: 100,
        quotas: usage::Quotas::default(),
        options: PushOptions::default(),
        brought: None,
    }
}

async fn push(db: &Db, push: &CommitPush) -> PushOutcome {
    let mut tx = db.begin().await.unwrap();
    let outcome = commit_push(&mut tx, push).await.unwrap();
    tx.commit().await.unwrap();
    outcome
}

async fn refs_of(db: &Db, id: Uuid) -> Vec<(String, String)> {
    refs(db, id).await.unwrap().into_iter().map(|r| (r.name, r.oid)).collect()
}

async fn count(db: &Db, sql: Sql) -> i64 {
    db.conn().fetch_one::<(i64,)>(sql, args![]).await.unwrap().0
}

const MAIN: &str = "refs/heads/main";

#[tokio::test]
async fn the_first_push_makes_a_repository_and_one_job() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let upload = upload(db, owner, |_| ()).await;
        assert_eq!(upload.status(now()), Status::AwaitingPush, "{name}");
        let waiter = db.hub().waiter(upload.id);
        let mut first = push_of(upload.id, &[(0, 1, MAIN), (0, 2, "refs/tags/v1")]);
        first.new_shallow = vec![id(1)];
        first.pack = Some(NewPack {
            name: "abc".into(),
            pack_key: "packs/x.pack".into(),
            index_key: "packs/x.idx".into(),
            bytes: 90,
            index_bytes: 10,
            objects: 3,
        });
        let outcome = push(db, &first).await;
        drop(waiter);
        assert_eq!(outcome.decisions, [Decision::Write, Decision::Write], "{name}");
        assert!(outcome.moved && outcome.ingests);
        assert_eq!(outcome.head_ref.as_deref(), Some(MAIN));

        let shown = get(db, owner, upload.id).await.unwrap().unwrap();
        assert_eq!(shown.status(now()), Status::Processing);
        assert_eq!((shown.pushes, shown.bytes_received(0), shown.objects_received(0)), (1, 100, 3));
        assert_eq!(shown.head_commit, Some(hex(1)));
        assert!(shown.version > upload.version && shown.pushed_at.is_some());
        assert_eq!(shallow(db, upload.id).await.unwrap(), [hex(1)]);
        assert_eq!(packs(db, upload.id).await.unwrap()[0].bytes, 90);

        let repository_id = shown.repository_id.unwrap();
        let repository = repositories::get(db, owner, repository_id).await.unwrap().unwrap();
        assert_eq!(
            (repository.name.as_str(), repository.ingest_status.as_str()),
            ("shop", "pending")
        );
        let project = projects::get(db, owner, repository.project_id).await.unwrap().unwrap();
        assert_eq!((project.repository_count, project.is_default), (1, true));
        let job = jobs::claim(db, "w", 1_000_000).await.unwrap().unwrap();
        assert_eq!(job.subject_id, repository_id);
        assert_eq!(
            job.payload,
            json!({"upload_id": upload.id, "commit": hex(1), "scan": true, "history": false,
                   "trigger": "push"})
        );

        // Other refs move without an ingest, and what the head became stays.
        let mut tx = db.begin().await.unwrap();
        let scan_id = Some(new_id());
        set_status(&mut tx, upload.id, &Ingested::Ready { scan_id }).await.unwrap();
        tx.commit().await.unwrap();
        let outcome = push(db, &push_of(upload.id, &[(0, 3, "refs/tags/v2")])).await;
        assert!(outcome.moved && !outcome.ingests, "{name}");
        let shown = get(db, owner, upload.id).await.unwrap().unwrap();
        assert_eq!((shown.status(now()), shown.scan_id), (Status::Ready, scan_id));
        assert!(jobs::claim(db, "w", 1_000_000).await.unwrap().is_none(), "{name}");
    }
}

#[tokio::test]
async fn every_ref_is_compared_and_swapped() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let id = upload(db, owner, |_| ()).await.id;
        push(db, &push_of(id, &[(0, 1, MAIN), (0, 1, "refs/heads/a"), (0, 1, "refs/heads/b/c")]))
            .await;
        let reject = Decision::Reject;
        let cases: [(&[(u8, u8, &str)], Decision); 9] = [
            (&[(0, 2, MAIN)], reject(reason::EXISTS)),
            (&[(3, 2, MAIN)], reject(reason::INCORRECT_OLD)),
            (&[(3, 0, MAIN)], reject(reason::INCORRECT_OLD)),
            (&[(3, 2, "refs/heads/none")], reject(reason::DOES_NOT_EXIST)),
            (&[(3, 0, "refs/heads/none")], Decision::AlreadyGone),
            (&[(0, 2, "refs/heads/a/x")], reject(reason::NAME_CONFLICT)),
            (&[(0, 2, "refs/heads/b")], reject(reason::NAME_CONFLICT)),
            (&[(0, 2, "refs/heads/b/c/d/e")], reject(reason::NAME_CONFLICT)),
            (&[(0, 1, MAIN)], Decision::Write),
        ];
        let before = refs_of(db, id).await;
        for (list, wanted) in cases {
            let outcome = push(db, &push_of(id, list)).await;
            assert_eq!(outcome.decisions, [wanted], "{name}: {list:?}");
            assert!(!outcome.moved && !outcome.ingests, "{name}: {list:?}");
            assert_eq!(refs_of(db, id).await, before, "{name}: {list:?}");
        }
        let shown = get(db, owner, id).await.unwrap().unwrap();
        assert_eq!(shown.pushes, 1, "{name}: a push that moves nothing is none");

        // Deletions make room; neighbours by name are no directories.
        let list = [
            (0, 2, "refs/heads/a/x"),
            (1, 0, "refs/heads/a"),
            (0, 2, "refs/heads/b/c-d"),
            (0, 2, "refs/heads/b0"),
            (1, 2, MAIN),
        ];
        let outcome = push(db, &push_of(id, &list)).await;
        assert!(outcome.decisions.iter().all(|d| d.rejection().is_none()), "{name}: {outcome:?}");
        let names: Vec<String> = refs_of(db, id).await.into_iter().map(|r| r.0).collect();
        assert_eq!(
            names,
            ["refs/heads/a/x", "refs/heads/b/c", "refs/heads/b/c-d", "refs/heads/b0", MAIN],
            "{name}: in the order of bytes"
        );
    }
}

#[tokio::test]
async fn many_commands_at_once_and_the_bound_of_refs() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let id = upload(db, owner, |_| ()).await.id;
        let names: Vec<String> = (0..1500).map(|n| format!("refs/heads/x{n:04}")).collect();
        let list: Vec<(u8, u8, &str)> = names.iter().map(|n| (0, 1, n.as_str())).collect();
        let mut many = push_of(id, &list);
        many.max_refs = 1400;
        let outcome = push(db, &many).await;
        let refused = outcome.decisions.iter().filter(|d| d.rejection().is_some()).count();
        assert_eq!((refused, refs_of(db, id).await.len()), (100, 1400), "{name}");
        assert_eq!(outcome.decisions[1400], Decision::Reject(reason::TOO_MANY));

        let mut full = push_of(id, &[(0, 1, "refs/heads/y"), (1, 2, "refs/heads/x0000")]);
        full.max_refs = 1400;
        full.atomic = true;
        let outcome = push(db, &full).await;
        assert_eq!(
            outcome.decisions,
            [Decision::Reject(reason::TOO_MANY), Decision::Reject(reason::ATOMIC)],
            "{name}"
        );
        // Deleting makes room in the same push.
        full.commands = commands(&[(0, 1, "refs/heads/y"), (1, 0, "refs/heads/x0000")]);
        assert!(push(db, &full).await.moved, "{name}");
        let list: Vec<(u8, u8, &str)> = names[1..1400].iter().map(|n| (1, 0, n.as_str())).collect();
        assert!(push(db, &push_of(id, &list)).await.moved, "{name}");
        assert_eq!(refs_of(db, id).await.len(), 1, "{name}");
    }
}

#[tokio::test]
async fn atomic_and_what_was_refused_before() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let id = upload(db, owner, |_| ()).await.id;
        let mut both = push_of(id, &[(0, 1, MAIN), (0, 2, "refs/heads/dev")]);
        both.rejected = vec![None, Some(reason::MISSING_OBJECTS)];
        both.atomic = true;
        let outcome = push(db, &both).await;
        assert_eq!(
            outcome.decisions,
            [Decision::Reject(reason::ATOMIC), Decision::Reject(reason::MISSING_OBJECTS)],
            "{name}"
        );
        assert!(refs_of(db, id).await.is_empty() && !outcome.moved, "{name}");
        both.atomic = false;
        let outcome = push(db, &both).await;
        assert_eq!(outcome.decisions[0], Decision::Write, "{name}");
        assert_eq!(refs_of(db, id).await.len(), 1, "{name}");
    }
}

#[tokio::test]
async fn head_is_the_wish_then_what_it_was_then_the_usual_names() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let head = |outcome: PushOutcome| outcome.head_ref;
        let dev = "refs/heads/dev";
        let one = upload(db, owner, |_| ()).await.id;
        let first = push(db, &push_of(one, &[(0, 1, "refs/tags/only")])).await;
        assert_eq!((first.head_ref, first.ingests), (None, false), "{name}: a tag is no head");
        assert_eq!(
            head(push(db, &push_of(one, &[(0, 1, "refs/heads/z")])).await).unwrap(),
            "refs/heads/z"
        );
        let stays = push(db, &push_of(one, &[(0, 2, MAIN), (0, 2, dev)])).await;
        assert_eq!((head(stays.clone()).unwrap().as_str(), stays.ingests), ("refs/heads/z", false));
        let gone = push(db, &push_of(one, &[(1, 0, "refs/heads/z")])).await;
        assert_eq!((gone.head_ref.as_deref(), gone.ingests), (Some(MAIN), true), "{name}");
        let empty = push(db, &push_of(one, &[(2, 0, MAIN), (2, 0, dev)])).await;
        assert_eq!((empty.head_ref, empty.ingests), (None, false), "{name}");
        let shown = get(db, owner, one).await.unwrap().unwrap();
        assert_eq!(shown.status(now()), Status::AwaitingPush, "{name}");
        assert_eq!(shown.head_commit, None);
        assert!(shown.repository_id.is_some(), "{name}: the repository stays");

        let wish = upload(db, owner, |new| new.wanted_ref = Some(dev.into())).await.id;
        assert_eq!(head(push(db, &push_of(wish, &[(0, 1, MAIN)])).await).unwrap(), MAIN);
        let wished = push(db, &push_of(wish, &[(0, 2, dev)])).await;
        assert_eq!((wished.head_ref.as_deref(), wished.ingests), (Some(dev), true), "{name}");
    }
}

#[tokio::test]
async fn of_two_pushes_to_one_ref_one_wins_and_to_two_refs_both() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let id = upload(db, owner, |_| ()).await.id;
        push(db, &push_of(id, &[(0, 1, MAIN)])).await;
        let mut tasks = tokio::task::JoinSet::new();
        for digit in 2..10 {
            let db = db.clone();
            tasks.spawn(async move { push(&db, &push_of(id, &[(1, digit, MAIN)])).await.moved });
        }
        let moved = tasks.join_all().await.into_iter().filter(|moved| *moved).count();
        assert_eq!(moved, 1, "{name}");

        let mut tasks = tokio::task::JoinSet::new();
        for digit in 1..9_u8 {
            let db = db.clone();
            tasks.spawn(async move {
                let name = format!("refs/heads/b{digit}");
                push(&db, &push_of(id, &[(0, digit, &name)])).await.moved
            });
        }
        assert!(tasks.join_all().await.into_iter().all(|moved| moved), "{name}");
        assert_eq!(refs_of(db, id).await.len(), 9, "{name}");

        // `d` and `d/x` exclude each other, also when they come at once.
        let mut tasks = tokio::task::JoinSet::new();
        for ref_name in ["refs/heads/d", "refs/heads/d/x"] {
            let db = db.clone();
            tasks.spawn(async move { push(&db, &push_of(id, &[(0, 1, ref_name)])).await.moved });
        }
        let moved = tasks.join_all().await.into_iter().filter(|moved| *moved).count();
        assert_eq!(moved, 1, "{name}");
        assert_eq!(get(db, owner, id).await.unwrap().unwrap().pushes, 11, "{name}");
    }
}

/// Whoever lost the connection in the commit learns whether it happened, and not before
/// it is decided.
#[tokio::test]
async fn a_commit_in_doubt_is_waited_for() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let id = upload(db, owner, |_| ()).await.id;
        for happens in [true, false] {
            let old = u8::from(!happens);
            let mut tx = db.begin().await.unwrap();
            let pushed = commit_push(&mut tx, &push_of(id, &[(old, 1 + old, MAIN)])).await.unwrap();
            let push_id = pushed.push_id.unwrap();
            let asked = tokio::spawn({
                let db = db.clone();
                async move { was_recorded(&db, id, push_id).await.unwrap() }
            });
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            assert!(!asked.is_finished(), "{name}");
            if happens {
                tx.commit().await.unwrap();
            } else {
                tx.rollback().await.unwrap();
            }
            assert_eq!(asked.await.unwrap(), happens, "{name}");
        }
        let nothing = push(db, &push_of(id, &[(2, 3, MAIN)])).await;
        assert_eq!((nothing.moved, nothing.push_id), (false, None), "{name}");
    }
}

#[tokio::test]
async fn quick_pushes_share_a_waiting_job_and_the_newest_head_is_never_lost() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let id = upload(db, owner, |_| ()).await.id;
        push(db, &push_of(id, &[(0, 1, MAIN)])).await;
        let mut quiet = push_of(id, &[(1, 2, MAIN)]);
        quiet.options.no_scan = true;
        push(db, &quiet).await;
        assert_eq!(jobs::pending(db).await.unwrap(), 1, "{name}");
        let job = jobs::claim(db, "w", 1_000_000).await.unwrap().unwrap();
        assert_eq!(job.payload["commit"], hex(2), "{name}");
        assert_eq!(job.payload["scan"], true, "{name}: the first push asked for it");

        // The job runs: it may have read its head already, so a new one needs another.
        push(db, &push_of(id, &[(2, 3, MAIN)])).await;
        let next = jobs::claim(db, "w", 1_000_000).await.unwrap().unwrap();
        assert_eq!(next.payload["commit"], hex(3), "{name}");
    }
}

#[tokio::test]
async fn an_ingest_that_was_overtaken_shows_nothing() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let id = upload(db, owner, |_| ()).await.id;
        let repository_id = push(db, &push_of(id, &[(0, 1, MAIN)])).await.repository_id.unwrap();
        let begin = async || {
            let mut tx = db.begin().await.unwrap();
            let ingest =
                repositories::begin_ingest(&mut tx, repository_id, Some(id)).await.unwrap();
            tx.commit().await.unwrap();
            ingest.unwrap()
        };
        let finish = async |ingest: &repositories::Ingest, commit: &str, profile: &str| {
            let result = repositories::IngestResult {
                snapshot: snapshots::NewSnapshot {
                    id: new_id(),
                    commit_id: Some(commit.into()),
                    manifest_key: format!("snapshots/{repository_id}/{commit}/manifest"),
                    file_count: 3,
                    stored_bytes: 5,
                    total_bytes: 30,
                },
                languages: vec![],
                default_branch: Some("main".into()),
                head_commit: Some(commit.into()),
                threat_profile: json!({"summary": profile}),
            };
            let mut tx = db.begin().await.unwrap();
            let shown = repositories::finish_ingest(&mut tx, ingest, &result).await.unwrap();
            tx.commit().await.unwrap();
            shown
        };
        let old = begin().await;
        let ingesting = repositories::get(db, owner, repository_id).await.unwrap().unwrap();
        assert_eq!(ingesting.ingest_status, "ingesting", "{name}");
        push(db, &push_of(id, &[(1, 2, MAIN)])).await;
        let new = begin().await;
        assert!(finish(&new, &hex(2), "second").await, "{name}");
        assert!(!finish(&old, &hex(1), "first").await, "{name}");
        let failure = Failure::new("x", "No.");
        let mut tx = db.begin().await.unwrap();
        assert!(!repositories::fail_ingest(&mut tx, &old, &failure).await.unwrap(), "{name}");
        tx.commit().await.unwrap();

        let shown = repositories::get(db, owner, repository_id).await.unwrap().unwrap();
        assert_eq!(shown.ingest_status, "ready", "{name}");
        assert_eq!(shown.head_commit, Some(hex(2)));
        assert_eq!(shown.snapshot().unwrap().commit, Some(hex(2)));
        let snapshot = snapshots::current(db, repository_id).await.unwrap().unwrap();
        assert_eq!(
            snapshots::by_commit(db, owner, repository_id, &hex(2)).await.unwrap().unwrap(),
            snapshot
        );
        assert!(snapshots::get(db, new_id(), snapshot.id).await.unwrap().is_none());
        let profile = repositories::threat_profile(db, owner, repository_id).await.unwrap();
        assert_eq!(profile.unwrap().body.0["summary"], "second", "{name}");

        // What a person wrote survives the next ingest.
        const EDIT: Sql = Sql::both("UPDATE threat_profiles SET source = 'edited'");
        let mut tx = db.begin().await.unwrap();
        tx.execute(EDIT, args![]).await.unwrap();
        tx.commit().await.unwrap();
        push(db, &push_of(id, &[(2, 3, MAIN)])).await;
        let third = begin().await;
        assert!(finish(&third, &hex(3), "third").await, "{name}");
        let profile = repositories::threat_profile(db, owner, repository_id).await.unwrap();
        assert_eq!(profile.unwrap().body.0["summary"], "second", "{name}");

        push(db, &push_of(id, &[(3, 4, MAIN)])).await;
        let fourth = begin().await;
        let mut tx = db.begin().await.unwrap();
        assert!(repositories::fail_ingest(&mut tx, &fourth, &failure).await.unwrap(), "{name}");
        set_status(&mut tx, id, &Ingested::Failed(failure.clone())).await.unwrap();
        tx.commit().await.unwrap();
        let shown = repositories::get(db, owner, repository_id).await.unwrap().unwrap();
        assert_eq!(shown.ingest_error(), Some(&failure), "{name}");
        let shown = get(db, owner, id).await.unwrap().unwrap();
        assert_eq!((shown.status(now()), shown.error()), (Status::Failed, Some(&failure)));
    }
}

#[tokio::test]
async fn receiving_is_shown_as_long_as_it_is_renewed() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let id = upload(db, owner, |_| ()).await.id;
        let at = now();
        receiving(db, id, 0, 500, 7, at + 1_000_000).await.unwrap();
        let shown = get(db, owner, id).await.unwrap().unwrap();
        assert_eq!(shown.status(at), Status::Receiving, "{name}");
        assert_eq!((shown.bytes_received(at), shown.objects_received(at)), (500, 7));
        let later = at + 1_000_001;
        assert_eq!(shown.status(later), Status::AwaitingPush, "{name}: a dead process");
        assert_eq!(shown.bytes_received(later), 0);
        received(db, id).await.unwrap();
        let shown = get(db, owner, id).await.unwrap().unwrap();
        assert_eq!(shown.status(at), Status::AwaitingPush, "{name}");
    }
}

#[tokio::test]
async fn time_ends_a_remote_and_shows_it_only_where_nothing_was_pushed() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let unused = upload(db, owner, |_| ()).await;
        let used = upload(db, owner, |_| ()).await.id;
        push(db, &push_of(used, &[(0, 1, MAIN)])).await;
        let used = get(db, owner, used).await.unwrap().unwrap();
        let late = used.expires_at.max(unused.expires_at);
        assert!(unused.answers(late - 1_000_000) && !unused.answers(late), "{name}");
        assert_eq!(unused.status(late), Status::Expired, "{name}");
        assert_eq!(used.status(late), Status::Processing, "{name}");
        assert!(!used.answers(late), "{name}");
        let mut tx = db.begin().await.unwrap();
        assert_eq!(count_open(&mut tx, owner).await.unwrap(), 2, "{name}");
        drop(tx);
        upload(db, owner, |new| new.expires_at = now() - 1).await;
        let mut tx = db.begin().await.unwrap();
        assert_eq!(count_open(&mut tx, owner).await.unwrap(), 2, "{name}: expired ones are free");
    }
}

#[tokio::test]
async fn a_deleted_remote_stops_at_once_and_its_packs_stay_with_the_repository() {
    for TestDb { db, name, .. } in &both().await {
        let (owner, other) = (user(db, "a@example.org").await, user(db, "b@example.org").await);
        let used = upload(db, owner, |_| ()).await.id;
        let unused = upload(db, owner, |_| ()).await.id;
        let mut first = push_of(used, &[(0, 1, MAIN)]);
        first.pack = Some(NewPack {
            name: "abc".into(),
            pack_key: "k".into(),
            index_key: "i".into(),
            bytes: 1,
            index_bytes: 10,
            objects: 1,
        });
        let repository = push(db, &first).await.repository_id.unwrap();
        let remove = async |who, what| {
            let mut tx = db.begin().await.unwrap();
            let deleted = delete(&mut tx, who, what).await.unwrap();
            tx.commit().await.unwrap();
            deleted
        };
        assert!(!remove(other, used).await, "{name}");
        assert!(get(db, other, used).await.unwrap().is_none(), "{name}");
        assert!(remove(owner, used).await && !remove(owner, used).await, "{name}");
        // The git remote still finds it, and sees that it answers no more.
        let gone = remote(db, used).await.unwrap().expect("the row").upload;
        assert!(gone.deleted_at.is_some() && !gone.answers(now()), "{name}");
        assert!(get(db, owner, used).await.unwrap().is_none(), "{name}");
        let listed = list(db, owner, None, 10).await.unwrap();
        assert_eq!(listed.iter().map(|u| u.id).collect::<Vec<_>>(), [unused], "{name}");
        let late = push(db, &push_of(used, &[(1, 2, MAIN)])).await;
        assert!(late.decisions[0].rejection().is_some() && !late.moved, "{name}");
        assert_eq!(packs(db, used).await.unwrap().len(), 1, "{name}: the job may still need it");
        assert!(by_id(db, used).await.unwrap().is_some());

        // One that made nothing goes whole, and with it what it stored.
        assert!(remove(owner, unused).await, "{name}");
        assert!(by_id(db, unused).await.unwrap().is_none(), "{name}");

        // With the repository everything goes, and a job removes what is stored.
        assert!(!repositories::delete(db, other, repository).await.unwrap(), "{name}");
        assert!(repositories::delete(db, owner, repository).await.unwrap(), "{name}");
        for sql in [
            Sql::both("SELECT count(*) FROM git_uploads"),
            Sql::both("SELECT count(*) FROM upload_refs"),
            Sql::both("SELECT count(*) FROM upload_packs"),
            Sql::both("SELECT count(*) FROM pushes"),
            Sql::both("SELECT count(*) FROM repositories"),
            Sql::both("SELECT repository_count FROM projects"),
            Sql::both("SELECT count(*) FROM jobs WHERE kind = 'ingest' AND status = 'queued'"),
        ] {
            assert_eq!(count(db, sql).await, 0, "{name}: {}", sql.sqlite);
        }
        let mut prefixes = Vec::new();
        while let Some(job) = jobs::claim(db, "w", 1_000_000).await.unwrap() {
            assert_eq!(job.owner_id, None, "{name}: it outlives the account");
            let of_job = job.payload["prefixes"].as_array().unwrap().clone();
            prefixes.extend(of_job.iter().map(|p| p.as_str().unwrap().to_owned()));
        }
        prefixes.sort();
        let mut wanted = vec![
            format!("packs/{unused}/"),
            format!("packs/{used}/"),
            format!("snapshots/{repository}/"),
            format!("archives/{repository}/"),
        ];
        wanted.sort();
        assert_eq!(prefixes, wanted, "{name}");
    }
}

#[tokio::test]
async fn a_deleted_project_takes_everything_with_it() {
    for TestDb { db, name, .. } in &both().await {
        let (owner, other) = (user(db, "a@example.org").await, user(db, "b@example.org").await);
        let made = upload(db, owner, |_| ()).await;
        push(db, &push_of(made.id, &[(0, 1, MAIN)])).await;
        let running = jobs::claim(db, "w", 60_000_000).await.unwrap().unwrap();
        assert!(!projects::delete(db, other, made.project_id).await.unwrap(), "{name}");
        assert!(projects::delete(db, owner, made.project_id).await.unwrap(), "{name}");
        assert!(!projects::delete(db, owner, made.project_id).await.unwrap(), "{name}");
        let beat = jobs::heartbeat(db, running.id, running.fence, 1).await.unwrap();
        assert_eq!(beat, jobs::Heartbeat::CancelRequested, "{name}");
        for sql in [
            Sql::both("SELECT count(*) FROM projects"),
            Sql::both("SELECT count(*) FROM repositories"),
            Sql::both("SELECT count(*) FROM git_uploads"),
            Sql::both("SELECT count(*) FROM upload_refs"),
        ] {
            assert_eq!(count(db, sql).await, 0, "{name}: {}", sql.sqlite);
        }
        let job = jobs::claim(db, "w", 1_000_000).await.unwrap().unwrap();
        assert_eq!(job.payload["prefixes"].as_array().unwrap().len(), 3, "{name}");
    }
}

#[tokio::test]
async fn the_default_project_is_made_once() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let db = db.clone();
            tasks.spawn(async move {
                let mut tx = db.begin().await.unwrap();
                let project = projects::default_of(&mut tx, owner).await.unwrap();
                tx.commit().await.unwrap();
                project.id
            });
        }
        let mut ids = tasks.join_all().await;
        ids.dedup();
        assert_eq!(ids.len(), 1, "{name}");
        let named = projects::by_name(db, owner, projects::DEFAULT_NAME).await.unwrap();
        assert_eq!(named.iter().map(|p| p.id).collect::<Vec<_>>(), ids, "{name}");
    }
}

#[tokio::test]
async fn a_quota_refuses_what_goes_beyond_it_and_leaves_nothing() {
    for TestDb { db, name, .. } in &both().await {
        let owner = user(db, "ada@example.org").await;
        let upload = upload(db, owner, |_| ()).await;
        let pack = |digit: u8| NewPack {
            name: hex(digit),
            pack_key: format!("packs/{digit}.pack"),
            index_key: format!("packs/{digit}.idx"),
            bytes: 90,
            index_bytes: 10,
            objects: 3,
        };
        let push_with = async |old, new, quotas| {
            let mut wanted = push_of(upload.id, &[(old, new, MAIN)]);
            (wanted.pack, wanted.quotas) = (Some(pack(new)), quotas);
            let mut tx = db.begin().await.unwrap();
            let outcome = commit_push(&mut tx, &wanted).await.unwrap();
            if outcome.full.is_none() {
                tx.commit().await.unwrap();
            }
            outcome
        };
        let quotas = |upload, project| usage::Quotas { upload, project };
        // What fits exactly fits.
        let first = push_with(0, 1, quotas(100, 100)).await;
        assert!(first.moved && first.recorded && first.full.is_none(), "{name}");
        for (quotas, full) in [
            (quotas(199, 0), usage::Full::Upload),
            (quotas(0, 199), usage::Full::Project),
            (quotas(1, 1), usage::Full::Upload),
        ] {
            let refused = push_with(1, 2, quotas).await;
            assert_eq!(refused.full, Some(full), "{name}");
            assert_eq!(refused.decisions, [Decision::Reject(push::NO_ROOM)], "{name}");
            assert!(!refused.moved && !refused.recorded && !refused.ingests, "{name}");
            assert_eq!(refs_of(db, upload.id).await, [(MAIN.to_owned(), hex(1))], "{name}");
            let now = get(db, owner, upload.id).await.unwrap().unwrap();
            assert_eq!((now.pushes, now.stored_bytes), (1, 100), "{name}");
            assert_eq!(usage::stored(db, upload.project_id).await.unwrap(), 100, "{name}");
            assert_eq!(packs(db, upload.id).await.unwrap().len(), 1, "{name}");
        }
        // A pack that is there already takes no room.
        let mut again = push_of(upload.id, &[(0, 1, "refs/heads/copy")]);
        (again.pack, again.quotas) = (Some(pack(1)), quotas(100, 100));
        let outcome = push(db, &again).await;
        assert!(outcome.moved && !outcome.recorded && outcome.full.is_none(), "{name}");
        // Without a limit, or with room, it goes on.
        assert!(push_with(1, 2, quotas(0, 0)).await.moved, "{name}");
        let now = remote(db, upload.id).await.unwrap().unwrap();
        assert_eq!((now.upload.stored_bytes, now.project_stored), (200, Some(200)), "{name}");
    }
}

#[tokio::test]
async fn the_first_push_decides_of_which_kind_ids_are() {
    for test in both().await {
        let owner = user(&test.db, "ada@example.org").await;
        let upload = upload(&test.db, owner, |_| ()).await;
        assert_eq!((upload.object_format(), upload.hash()), (None, gix_hash::Kind::Sha1));
        let new = ObjectId::from_hex(&[b'a'; 64]).unwrap();
        let old = ObjectId::null(gix_hash::Kind::Sha256);
        let command = Command { name: "refs/heads/main".into(), old, new };
        let wide = CommitPush { commands: vec![command], ..push_of(upload.id, &[(0, 1, "x")]) };
        assert!(push(&test.db, &wide).await.moved, "{}", test.name);
        let now = by_id(&test.db, upload.id).await.unwrap().unwrap();
        assert_eq!(now.object_format(), Some(ObjectFormat::Sha256));
        assert_eq!(
            refs_of(&test.db, upload.id).await,
            [("refs/heads/main".into(), "a".repeat(64))]
        );
        // One of the other kind, which was on its way at the same time, is told so.
        let late = push(&test.db, &push_of(upload.id, &[(0, 1, "refs/heads/other")])).await;
        assert!(!late.moved && !late.recorded);
        assert!(late.decisions[0].rejection().unwrap().contains("another hash function"));
        assert_eq!(by_id(&test.db, upload.id).await.unwrap().unwrap().pushes, 1);
    }
}
