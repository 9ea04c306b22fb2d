-- Keys that stay the same whatever becomes of the signing secret: see accounts/keys.
CREATE TABLE lasting_keys (
    name TEXT PRIMARY KEY,
    sealed BYTEA NOT NULL,
    -- The id of the secret that sealed it.
    sealed_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
