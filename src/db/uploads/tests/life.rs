//! What becomes of a remote after its pushes: ingest, time, removal.

use super::*;

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
