-- What a repository needs to fetch its code, besides its URL and ref.
CREATE TABLE repository_sources (
    repository_id BLOB PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    -- User name and token, sealed: see jobs/fetch/credentials.
    credentials BLOB,
    -- The whole history is fetched, not the newest commit alone.
    history INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- The store of a repository whose code is not pushed: it has refs and packs as a
-- remote has them, and never answers as one.
ALTER TABLE git_uploads ADD COLUMN internal INTEGER NOT NULL DEFAULT 0;
