-- Events of projects. seq counts 1, 2, 3 … for each project without a hole: it is
-- taken from projects.last_event in the transaction that inserts the rows. Old rows
-- are removed as new ones come.
ALTER TABLE projects ADD COLUMN last_event INTEGER NOT NULL DEFAULT 0;
CREATE TABLE project_events (
    project_id BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    scan_id BLOB,
    repository_id BLOB,
    at INTEGER NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('info', 'warning', 'error')),
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (project_id, seq)
) STRICT, WITHOUT ROWID;

-- Who is told of what happens in a project. The secrets are encrypted under a key that
-- is derived from the server's.
CREATE TABLE webhooks (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    description TEXT NOT NULL,
    events TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    -- Why the server disabled it.
    disabled_reason TEXT,
    secret BLOB NOT NULL,
    -- Signs too until a time, so that a receiver can change over.
    previous_secret BLOB,
    previous_until INTEGER,
    -- When the first of the tries failed that have failed without a success since.
    failing_since INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX webhooks_project ON webhooks (project_id, id);

-- What was sent or waits to be: the outbox, in the transaction of what it tells.
CREATE TABLE webhook_deliveries (
    id BLOB PRIMARY KEY,
    webhook_id BLOB NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    owner_id BLOB NOT NULL,
    -- Header webhook-id: the same for all tries and for a redelivery.
    message_id BLOB NOT NULL,
    event TEXT NOT NULL,
    -- The exact bytes that are signed.
    payload TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER,
    last_attempt_at INTEGER,
    response_status INTEGER,
    response_body TEXT,
    duration_ms INTEGER,
    error TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX webhook_deliveries_webhook ON webhook_deliveries (webhook_id, id);
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (created_at);
