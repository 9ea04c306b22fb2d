-- What was used, to be billed. Nothing here refers to another table, as it outlives
-- whatever it speaks of. Metering begins with this migration.

-- One row for each countable event and kind; never changed, never removed. The key
-- makes a job that runs twice count once.
CREATE TABLE usage (
    kind TEXT NOT NULL CHECK (kind IN ('pushes', 'bytes_received', 'scans', 'scan_cpu_ms', 'files_scanned')),
    -- The push or the scan.
    subject_id BLOB NOT NULL,
    owner_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    quantity INTEGER NOT NULL CHECK (quantity >= 0),
    at INTEGER NOT NULL,
    PRIMARY KEY (kind, subject_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_owner ON usage (owner_id, at);

-- One row for each thing that is kept, from when until when.
CREATE TABLE usage_storage (
    storage_key TEXT PRIMARY KEY,
    -- The row with which it goes: an upload, a repository or a scan.
    holder_id BLOB NOT NULL,
    owner_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    stored_at INTEGER NOT NULL,
    removed_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_storage_holder ON usage_storage (holder_id) WHERE removed_at IS NULL;
CREATE INDEX usage_storage_stored ON usage_storage (owner_id, stored_at);
CREATE INDEX usage_storage_removed ON usage_storage (owner_id, removed_at)
    WHERE removed_at IS NOT NULL;

-- Sums of both by day (days since 1970 in UTC), kept by the transactions that write
-- them. Kinds are those of `usage`, and `stored` and `removed` for bytes kept.
CREATE TABLE usage_daily (
    owner_id BLOB NOT NULL,
    day INTEGER NOT NULL,
    project_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    -- Bytes times the seconds from then to the end of the day.
    weighted INTEGER NOT NULL,
    PRIMARY KEY (owner_id, day, project_id, kind)
) STRICT, WITHOUT ROWID;

-- Names of projects that are gone.
CREATE TABLE usage_projects (
    project_id BLOB PRIMARY KEY,
    owner_id BLOB NOT NULL,
    name TEXT NOT NULL,
    deleted_at INTEGER NOT NULL
) STRICT;
CREATE INDEX usage_projects_owner ON usage_projects (owner_id);

-- Jobs that were given up.
CREATE INDEX jobs_failed ON jobs (kind) WHERE status = 'failed';
