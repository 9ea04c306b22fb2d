-- What a repository needs to fetch its code, besides its URL and ref.
CREATE TABLE repository_sources (
    repository_id UUID PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    -- User name and token, sealed: see jobs/fetch/credentials.
    credentials BYTEA,
    -- The whole history is fetched, not the newest commit alone.
    history BOOLEAN NOT NULL,
    updated_at BIGINT NOT NULL
);

-- The store of a repository whose code is not pushed: it has refs and packs as a
-- remote has them, and never answers as one.
ALTER TABLE git_uploads ADD COLUMN internal BOOLEAN NOT NULL DEFAULT FALSE;
