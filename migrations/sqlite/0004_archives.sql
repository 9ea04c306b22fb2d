-- The snapshot of an archive has no commit. SQLite cannot drop a NOT NULL, so the
-- table is made anew; no other table refers to it.
CREATE TABLE snapshots_new (
    id BLOB PRIMARY KEY,
    repository_id BLOB NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    commit_id TEXT,
    manifest_key TEXT NOT NULL,
    file_count INTEGER NOT NULL,
    total_bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO snapshots_new (id, repository_id, owner_id, commit_id, manifest_key, file_count,
    total_bytes, created_at)
SELECT id, repository_id, owner_id, commit_id, manifest_key, file_count, total_bytes, created_at
FROM snapshots;
DROP TABLE snapshots;
ALTER TABLE snapshots_new RENAME TO snapshots;
CREATE INDEX snapshots_repository ON snapshots (repository_id, id);
