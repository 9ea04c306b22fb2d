-- Git LFS: what was uploaded beside the packs of a remote, and who holds which path.
CREATE TABLE lfs_objects (
    upload_id BLOB NOT NULL REFERENCES git_uploads (id) ON DELETE CASCADE,
    -- SHA-256 of the content, hex.
    oid TEXT NOT NULL,
    size INTEGER NOT NULL,
    -- Id that git would give the content as a blob, hex: under it results are kept.
    blob TEXT NOT NULL,
    storage_key TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (upload_id, oid)
) STRICT;

CREATE TABLE lfs_locks (
    id BLOB PRIMARY KEY,
    upload_id BLOB NOT NULL REFERENCES git_uploads (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    -- Full name of the ref that it was taken for.
    ref TEXT,
    -- Name that the client gave itself, or the account's e-mail.
    owner TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (upload_id, path)
) STRICT;
CREATE INDEX lfs_locks_upload ON lfs_locks (upload_id, id);
