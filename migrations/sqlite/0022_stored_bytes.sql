-- What is kept now, which quotas are compared with. The transactions that write
-- usage_storage keep both sums; metering is older than they are.
CREATE TABLE stored_bytes (
    project_id BLOB PRIMARY KEY,
    owner_id BLOB NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO stored_bytes (project_id, owner_id, bytes)
    SELECT project_id, owner_id, sum(bytes) FROM usage_storage
    WHERE removed_at IS NULL GROUP BY project_id, owner_id;

-- Packs, indices and objects of Git LFS.
ALTER TABLE git_uploads ADD COLUMN stored_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE git_uploads SET stored_bytes = coalesce((SELECT sum(bytes) FROM usage_storage
    WHERE holder_id = git_uploads.id AND removed_at IS NULL), 0);
