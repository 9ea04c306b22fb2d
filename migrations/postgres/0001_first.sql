-- Times are microseconds since 1970 in UTC, ids are UUIDv7, every row of a tenant
-- carries its owner. The SQLite set holds the same tables under the same number.

CREATE TABLE users (
    id UUID PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    groups JSONB NOT NULL,
    disabled_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- One sign-in: its access tokens live as long as the row is not ended.
CREATE TABLE auth_sessions (
    id UUID PRIMARY KEY,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT CHECK (end_reason IN ('logout', 'reuse', 'password', 'disabled'))
);
CREATE INDEX auth_sessions_owner ON auth_sessions (owner_id);

-- A used one that is presented again ends its session.
CREATE TABLE refresh_tokens (
    hash BYTEA PRIMARY KEY,
    session_id UUID NOT NULL REFERENCES auth_sessions (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

-- Failed sign-ins by account and by address; key is `account:…` or `address:…`.
CREATE TABLE login_failures (
    key TEXT PRIMARY KEY,
    failures BIGINT NOT NULL,
    window_started_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id UUID PRIMARY KEY,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    scopes JSONB NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT,
    expires_at BIGINT
);
CREATE INDEX api_keys_owner ON api_keys (owner_id, id);

CREATE TABLE idempotency_keys (
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    request_hash BYTEA NOT NULL,
    status BIGINT,
    headers JSONB,
    body BYTEA,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (owner_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

CREATE TABLE projects (
    id UUID PRIMARY KEY,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    -- The project that uploads go to when their maker names none.
    is_default BOOLEAN NOT NULL,
    repository_count BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX projects_owner ON projects (owner_id, id);
CREATE UNIQUE INDEX projects_default ON projects (owner_id) WHERE is_default;

CREATE TABLE repositories (
    id UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    source_type TEXT NOT NULL CHECK (source_type IN ('git', 'archive', 'git_upload')),
    source_url TEXT,
    source_ref TEXT,
    ingest_status TEXT NOT NULL CHECK (ingest_status IN ('pending', 'ingesting', 'ready', 'failed')),
    ingest_error JSONB,
    -- Grows with every new head: an ingest that began before the last one is stale.
    ingest_generation BIGINT NOT NULL DEFAULT 0,
    default_branch TEXT,
    head_commit TEXT,
    snapshot_id UUID,
    languages JSONB NOT NULL,
    open_critical BIGINT NOT NULL DEFAULT 0,
    open_high BIGINT NOT NULL DEFAULT 0,
    open_medium BIGINT NOT NULL DEFAULT 0,
    open_low BIGINT NOT NULL DEFAULT 0,
    open_info BIGINT NOT NULL DEFAULT 0,
    last_scan_id UUID,
    -- Grows with every change: the ETag.
    version BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX repositories_project ON repositories (project_id, id);
CREATE INDEX repositories_owner ON repositories (owner_id, id);

CREATE TABLE snapshots (
    id UUID PRIMARY KEY,
    repository_id UUID NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    commit_id TEXT NOT NULL,
    manifest_key TEXT NOT NULL,
    file_count BIGINT NOT NULL,
    total_bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX snapshots_repository ON snapshots (repository_id, id);

CREATE TABLE threat_profiles (
    repository_id UUID PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    body JSONB NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('generated', 'edited')),
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE git_uploads (
    id UUID PRIMARY KEY,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    repository_id UUID REFERENCES repositories (id) ON DELETE SET NULL,
    scan_id UUID,
    name TEXT NOT NULL,
    -- The ref that is ingested; NULL: the head of what was pushed.
    wanted_ref TEXT,
    scan BOOLEAN NOT NULL,
    token_hash BYTEA NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('awaiting_push', 'processing', 'ready', 'failed')),
    -- A push is under way while this lies ahead; the process that receives renews
    -- it, so that a dead one cannot leave an upload in `receiving`.
    receiving_until BIGINT,
    -- What has come in of the push under way.
    receiving_bytes BIGINT NOT NULL DEFAULT 0,
    receiving_objects BIGINT NOT NULL DEFAULT 0,
    head_commit TEXT,
    head_ref TEXT,
    pushes BIGINT NOT NULL DEFAULT 0,
    bytes_received BIGINT NOT NULL DEFAULT 0,
    objects_received BIGINT NOT NULL DEFAULT 0,
    error JSONB,
    version BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    pushed_at BIGINT,
    expires_at BIGINT NOT NULL,
    -- The remote no longer answers; packs stay while the repository needs them.
    deleted_at BIGINT
);
CREATE INDEX git_uploads_owner ON git_uploads (owner_id, id);
CREATE INDEX git_uploads_repository ON git_uploads (repository_id);
CREATE INDEX git_uploads_project ON git_uploads (project_id);

-- The truth about refs: bare repositories on disk are a cache of objects only.
CREATE TABLE upload_refs (
    upload_id UUID NOT NULL REFERENCES git_uploads (id) ON DELETE CASCADE,
    -- By bytes, as git sorts refs, and so that a prefix is a range.
    name TEXT COLLATE "C" NOT NULL,
    oid TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (upload_id, name)
);

CREATE TABLE upload_shallow (
    upload_id UUID NOT NULL REFERENCES git_uploads (id) ON DELETE CASCADE,
    oid TEXT NOT NULL,
    PRIMARY KEY (upload_id, oid)
);

CREATE TABLE upload_packs (
    upload_id UUID NOT NULL REFERENCES git_uploads (id) ON DELETE CASCADE,
    -- Name of the pack as git derives it, hex.
    name TEXT NOT NULL,
    pack_key TEXT NOT NULL,
    index_key TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    objects BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (upload_id, name)
);

-- One row for each accepted push: what billing and the page of an upload count.
CREATE TABLE pushes (
    id UUID PRIMARY KEY,
    upload_id UUID NOT NULL REFERENCES git_uploads (id) ON DELETE CASCADE,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project_id UUID NOT NULL,
    commands JSONB NOT NULL,
    observations JSONB NOT NULL,
    agent TEXT,
    bytes BIGINT NOT NULL,
    objects BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX pushes_upload ON pushes (upload_id, id);
CREATE INDEX pushes_owner ON pushes (owner_id, id);

CREATE TABLE scans (
    id UUID PRIMARY KEY,
    repository_id UUID NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    upload_id UUID,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    trigger TEXT NOT NULL CHECK (trigger IN ('api', 'push', 'ingest', 'session')),
    config JSONB NOT NULL,
    commit_id TEXT,
    snapshot_id UUID,
    progress JSONB NOT NULL,
    summary JSONB NOT NULL,
    error JSONB,
    worker_id TEXT,
    last_event BIGINT NOT NULL DEFAULT 0,
    version BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT
);
CREATE INDEX scans_repository ON scans (repository_id, id);
CREATE INDEX scans_project ON scans (project_id, id);

-- seq counts 1, 2, 3 … for each scan without a hole: it is taken from
-- scans.last_event in the transaction that inserts the row.
CREATE TABLE scan_events (
    scan_id UUID NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('info', 'warning', 'error')),
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    data JSONB NOT NULL,
    PRIMARY KEY (scan_id, seq)
);

CREATE TABLE scan_artifacts (
    scan_id UUID NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    storage_key TEXT NOT NULL,
    PRIMARY KEY (scan_id, name)
);

CREATE TABLE findings (
    id UUID PRIMARY KEY,
    repository_id UUID NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL,
    engine TEXT NOT NULL CHECK (engine IN ('secrets', 'code', 'dependencies')),
    rule_id TEXT NOT NULL,
    title TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('critical', 'high', 'medium', 'low', 'info')),
    confidence TEXT NOT NULL CHECK (confidence IN ('high', 'medium', 'low')),
    status TEXT NOT NULL CHECK (status IN ('open', 'confirmed', 'dismissed')),
    state TEXT NOT NULL CHECK (state IN ('new', 'unchanged', 'fixed')),
    path TEXT NOT NULL,
    start_line BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    in_history BOOLEAN NOT NULL,
    -- All that is shown and never filtered by.
    body JSONB NOT NULL,
    first_seen_scan_id UUID NOT NULL,
    last_seen_scan_id UUID NOT NULL,
    first_seen_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    dismissal_reason TEXT,
    dismissal_expires_at BIGINT,
    -- Who decided on the status; NULL while no person has.
    decided_by TEXT,
    updated_at BIGINT NOT NULL,
    UNIQUE (repository_id, fingerprint)
);
CREATE INDEX findings_repository ON findings (repository_id, priority DESC, id DESC);
CREATE INDEX findings_repository_age ON findings (repository_id, id);
CREATE INDEX findings_repository_severity ON findings (repository_id, severity, id);
-- What a scan compares its findings with: what was fixed long ago only piles up.
CREATE INDEX findings_live ON findings (repository_id, id) WHERE state <> 'fixed';
CREATE INDEX findings_expiring ON findings (dismissal_expires_at)
    WHERE dismissal_expires_at IS NOT NULL;
CREATE INDEX findings_project ON findings (project_id, priority DESC, id DESC);
CREATE INDEX findings_project_age ON findings (project_id, id);
CREATE INDEX findings_project_severity ON findings (project_id, severity, id);

-- Which scan saw what: the filter scan_id and the counts of a scan.
CREATE TABLE scan_findings (
    scan_id UUID NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    finding_id UUID NOT NULL REFERENCES findings (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('new', 'unchanged', 'fixed')),
    PRIMARY KEY (scan_id, finding_id)
);
CREATE INDEX scan_findings_finding ON scan_findings (finding_id);

CREATE TABLE finding_history (
    id UUID PRIMARY KEY,
    finding_id UUID NOT NULL REFERENCES findings (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    from_status TEXT NOT NULL,
    to_status TEXT NOT NULL,
    reason TEXT,
    comment TEXT
);
CREATE INDEX finding_history_finding ON finding_history (finding_id, id);

-- Results of the engines by content. A set names everything but the blob, so
-- that a row of the large table is a number, twenty bytes and the result.
CREATE TABLE result_sets (
    id UUID PRIMARY KEY,
    owner_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    engine TEXT NOT NULL,
    rule_set TEXT NOT NULL,
    facet TEXT NOT NULL,
    UNIQUE (owner_id, engine, rule_set, facet)
);

CREATE TABLE results (
    set_id UUID NOT NULL REFERENCES result_sets (id) ON DELETE CASCADE,
    blob BYTEA NOT NULL,
    -- JSON of the result; NULL where the engine found nothing.
    result BYTEA,
    PRIMARY KEY (set_id, blob)
);

-- The truth about work, whichever queue carries it.
CREATE TABLE jobs (
    id UUID PRIMARY KEY,
    owner_id UUID REFERENCES users (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('ingest', 'scan', 'delete_objects')),
    subject_id UUID NOT NULL,
    payload JSONB NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    run_at BIGINT NOT NULL,
    attempt BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL,
    -- Grows with every claim: a write that carries an older one changes nothing.
    fence BIGINT NOT NULL DEFAULT 0,
    worker_id TEXT,
    lease_until BIGINT,
    cancel_requested BOOLEAN NOT NULL,
    error TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT
);
CREATE INDEX jobs_queued ON jobs (run_at, id) WHERE status = 'queued';
CREATE INDEX jobs_running ON jobs (lease_until) WHERE status = 'running';
CREATE INDEX jobs_subject ON jobs (subject_id);

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    last_heartbeat_at BIGINT NOT NULL
);
