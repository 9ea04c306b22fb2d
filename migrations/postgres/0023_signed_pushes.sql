-- Which function makes the ids of a remote's objects; NULL until the first push of a
-- remote whose maker did not say.
ALTER TABLE git_uploads ADD COLUMN object_format TEXT
    CHECK (object_format IN ('sha1', 'sha256'));
UPDATE git_uploads SET object_format = 'sha1' WHERE pushes > 0;

-- Who signed the newest accepted push; NULL if nobody did.
ALTER TABLE git_uploads ADD COLUMN signed_by JSONB;

-- The certificate of a signed push as it came, and what was found out about it.
ALTER TABLE pushes ADD COLUMN certificate BYTEA;
ALTER TABLE pushes ADD COLUMN signed_by JSONB;

-- Public keys by which the signer of a push is known.
CREATE TABLE signing_keys (
    id UUID PRIMARY KEY,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    -- Name of the algorithm as SSH writes it.
    key_type TEXT NOT NULL,
    -- The line of an authorized_keys file, without its comment.
    public_key TEXT NOT NULL,
    -- SHA256:…, as ssh-keygen shows it.
    fingerprint TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (owner_id, fingerprint)
);
CREATE INDEX signing_keys_owner ON signing_keys (owner_id, id);
