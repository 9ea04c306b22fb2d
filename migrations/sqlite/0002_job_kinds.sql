-- More kinds of jobs. SQLite cannot change a CHECK, so the table is made anew; no
-- other table refers to it.
CREATE TABLE jobs_new (
    id BLOB PRIMARY KEY,
    owner_id BLOB REFERENCES users (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('ingest', 'scan', 'delete_objects', 'webhook', 'cleanup')),
    subject_id BLOB NOT NULL,
    payload TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    run_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    -- Grows with every claim: a write that carries an older one changes nothing.
    fence INTEGER NOT NULL DEFAULT 0,
    worker_id TEXT,
    lease_until INTEGER,
    cancel_requested INTEGER NOT NULL,
    error TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER
) STRICT;
INSERT INTO jobs_new (id, owner_id, kind, subject_id, payload, status, run_at, attempt,
    max_attempts, fence, worker_id, lease_until, cancel_requested, error, created_at,
    started_at, finished_at)
SELECT id, owner_id, kind, subject_id, payload, status, run_at, attempt, max_attempts, fence,
    worker_id, lease_until, cancel_requested, error, created_at, started_at, finished_at
FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs_new RENAME TO jobs;
CREATE INDEX jobs_queued ON jobs (run_at, id) WHERE status = 'queued';
CREATE INDEX jobs_running ON jobs (lease_until) WHERE status = 'running';
CREATE INDEX jobs_subject ON jobs (subject_id);
