-- Events of projects. seq counts 1, 2, 3 … for each project without a hole: it is
-- taken from projects.last_event in the transaction that inserts the rows. Old rows
-- are removed as new ones come.
ALTER TABLE projects ADD COLUMN last_event BIGINT NOT NULL DEFAULT 0;
CREATE TABLE project_events (
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    scan_id UUID,
    repository_id UUID,
    at BIGINT NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('info', 'warning', 'error')),
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    data JSONB NOT NULL,
    PRIMARY KEY (project_id, seq)
);

-- Who is told of what happens in a project. The secrets are encrypted under a key that
-- is derived from the server's.
CREATE TABLE webhooks (
    id UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    description TEXT NOT NULL,
    events JSONB NOT NULL,
    enabled BOOLEAN NOT NULL,
    -- Why the server disabled it.
    disabled_reason TEXT,
    secret BYTEA NOT NULL,
    -- Signs too until a time, so that a receiver can change over.
    previous_secret BYTEA,
    previous_until BIGINT,
    -- When the first of the tries failed that have failed without a success since.
    failing_since BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX webhooks_project ON webhooks (project_id, id);

-- What was sent or waits to be: the outbox, in the transaction of what it tells.
CREATE TABLE webhook_deliveries (
    id UUID PRIMARY KEY,
    webhook_id UUID NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    owner_id UUID NOT NULL,
    -- Header webhook-id: the same for all tries and for a redelivery.
    message_id UUID NOT NULL,
    event TEXT NOT NULL,
    -- The exact bytes that are signed.
    payload TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts BIGINT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT,
    last_attempt_at BIGINT,
    response_status BIGINT,
    response_body TEXT,
    duration_ms BIGINT,
    error TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX webhook_deliveries_webhook ON webhook_deliveries (webhook_id, id);
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (created_at);
