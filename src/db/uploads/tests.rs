mod life;

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
