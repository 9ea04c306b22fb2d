-- The snapshot of an archive has no commit.
ALTER TABLE snapshots ALTER COLUMN commit_id DROP NOT NULL;
