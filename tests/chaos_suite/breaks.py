"""`--break NAME`: damages one thing after the chaos, so that whoever doubts a check sees it
fail. Not a part of any run that counts."""

import subprocess


def pack(run):
    """Deletes the pack of a remote."""
    key = next(key for key in run.stack.objects() if key.endswith(".pack"))
    run.stack.aws("s3").delete_object(Bucket="sluice-chaos", Key=f"chaos/{key}")
    # Else a local copy would answer for it.
    for process in run.stack.servers:
        subprocess.run(
            ["find", run.stack.folder / process.name / "git", "-name", "*.pack", "-delete"],
            check=True,
        )


def ref(run):
    """Takes a ref away."""
    run.stack.sql(
        "DELETE FROM upload_refs WHERE (upload_id, name) IN "
        "(SELECT upload_id, name FROM upload_refs LIMIT 1)"
    )


def file(run):
    """Has a snapshot be of another size."""
    run.stack.sql("UPDATE snapshots SET file_count = file_count + 1")


def scan(run):
    """Has a scan run for ever."""
    run.stack.sql(
        "UPDATE scans SET status = 'running', finished_at = NULL "
        "WHERE id = (SELECT id FROM scans WHERE status = 'completed' LIMIT 1)"
    )


def event(run):
    """Takes an event out of the middle."""
    run.stack.sql(
        "DELETE FROM scan_events WHERE seq = 2 AND scan_id = (SELECT scan_id FROM scan_events LIMIT 1)"
    )


def finding(run):
    """Takes a finding away."""
    run.stack.sql(
        "UPDATE findings SET state = 'fixed' WHERE id = (SELECT id FROM findings "
        "WHERE path LIKE '%.env' AND state <> 'fixed' ORDER BY id DESC LIMIT 1)"
    )


def twice(run):
    """Has a finding be there twice, which the database refuses as it is."""
    run.stack.sql(
        "DO $$ DECLARE one record; BEGIN FOR one IN SELECT indexrelid::regclass AS name, "
        "(SELECT conname FROM pg_constraint WHERE conindid = indexrelid LIMIT 1) AS held "
        "FROM pg_index WHERE indrelid = 'findings'::regclass AND indisunique AND NOT indisprimary "
        "LOOP IF one.held IS NULL THEN EXECUTE 'DROP INDEX ' || one.name; "
        "ELSE EXECUTE 'ALTER TABLE findings DROP CONSTRAINT ' || one.held || ' CASCADE'; END IF; "
        "END LOOP; END $$"
    )
    run.stack.sql(
        "INSERT INTO findings SELECT (jsonb_populate_record(f, "
        "jsonb_build_object('id', gen_random_uuid()))).* FROM findings f LIMIT 1"
    )


def bill(run):
    """Counts a push twice."""
    run.stack.sql(
        "UPDATE usage_daily SET quantity = quantity + 1 WHERE ctid IN "
        "(SELECT ctid FROM usage_daily WHERE kind = 'pushes' LIMIT 1)"
    )
    run.stack.sql(
        "UPDATE usage SET quantity = quantity + 1 WHERE ctid IN "
        "(SELECT ctid FROM usage WHERE kind = 'pushes' LIMIT 1)"
    )


def orphan(run):
    """Stores an object that no row names, where no clean-up looks for it."""
    key = next(key for key in run.stack.objects() if key.endswith(".pack"))
    upload = key.split("/")[1]
    run.stack.aws("s3").put_object(
        Bucket="sluice-chaos", Key=f"chaos/packs/{upload}/left", Body=b"left"
    )


def artifact(run):
    """Changes an artefact."""
    for key in run.stack.objects():
        if key.startswith("artifacts/") and key.endswith("log.txt"):
            run.stack.aws("s3").put_object(Bucket="sluice-chaos", Key=f"chaos/{key}", Body=b"x")


def leak(run):
    """Leaves a worker behind."""
    worker = run.stack.workers[0]
    subprocess.Popen(
        worker.command, start_new_session=True,
        # The folder of the other one is taken.
        env={**worker.environment, "SLUICE_DATA_DIR": str(run.folder / "left")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )


def panic(run):
    """Has a server have panicked."""
    with open(run.stack.servers[0].log_file, "a") as log:
        log.write("thread 'main' panicked at src/x.rs:1:1\n")


ALL = {
    one.__name__: one
    for one in (pack, ref, file, scan, event, finding, twice, bill, orphan, artifact, leak, panic)
}
