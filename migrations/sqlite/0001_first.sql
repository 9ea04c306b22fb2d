-- Times are microseconds since 1970 in UTC, ids are UUIDv7, every row of a tenant
-- carries its owner. The PostgreSQL set holds the same tables under the same number.

CREATE TABLE users (
    id BLOB PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    groups TEXT NOT NULL,
    disabled_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- One sign-in: its access tokens live as long as the row is not ended.
CREATE TABLE auth_sessions (
    id BLOB PRIMARY KEY,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at INTEGER,
    end_reason TEXT CHECK (end_reason IN ('logout', 'reuse', 'password', 'disabled'))
) STRICT;
CREATE INDEX auth_sessions_owner ON auth_sessions (owner_id);

-- A used one that is presented again ends its session.
CREATE TABLE refresh_tokens (
    hash BLOB PRIMARY KEY,
    session_id BLOB NOT NULL REFERENCES auth_sessions (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT;
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

-- Failed sign-ins by account and by address; key is `account:…` or `address:…`.
CREATE TABLE login_failures (
    key TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    window_started_at INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id BLOB PRIMARY KEY,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER,
    expires_at INTEGER
) STRICT;
CREATE INDEX api_keys_owner ON api_keys (owner_id, id);

CREATE TABLE idempotency_keys (
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    status INTEGER,
    headers TEXT,
    body BLOB,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (owner_id, key)
) STRICT;
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

CREATE TABLE projects (
    id BLOB PRIMARY KEY,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    -- The project that uploads go to when their maker names none.
    is_default INTEGER NOT NULL,
    repository_count INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX projects_owner ON projects (owner_id, id);
CREATE UNIQUE INDEX projects_default ON projects (owner_id) WHERE is_default;

CREATE TABLE repositories (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    source_type TEXT NOT NULL CHECK (source_type IN ('git', 'archive', 'git_upload')),
    source_url TEXT,
    source_ref TEXT,
    ingest_status TEXT NOT NULL CHECK (ingest_status IN ('pending', 'ingesting', 'ready', 'failed')),
    ingest_error TEXT,
    -- Grows with every new head: an ingest that began before the last one is stale.
    ingest_generation INTEGER NOT NULL DEFAULT 0,
    default_branch TEXT,
    head_commit TEXT,
    snapshot_id BLOB,
    languages TEXT NOT NULL,
    open_critical INTEGER NOT NULL DEFAULT 0,
    open_high INTEGER NOT NULL DEFAULT 0,
    open_medium INTEGER NOT NULL DEFAULT 0,
    open_low INTEGER NOT NULL DEFAULT 0,
    open_info INTEGER NOT NULL DEFAULT 0,
    last_scan_id BLOB,
    -- Grows with every change: the ETag.
    version INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX repositories_project ON repositories (project_id, id);
CREATE INDEX repositories_owner ON repositories (owner_id, id);

CREATE TABLE snapshots (
    id BLOB PRIMARY KEY,
    repository_id BLOB NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    commit_id TEXT NOT NULL,
    manifest_key TEXT NOT NULL,
    file_count INTEGER NOT NULL,
    total_bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX snapshots_repository ON snapshots (repository_id, id);

CREATE TABLE threat_profiles (
    repository_id BLOB PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    body TEXT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('generated', 'edited')),
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE git_uploads (
    id BLOB PRIMARY KEY,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project_id BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    repository_id BLOB REFERENCES repositories (id) ON DELETE SET NULL,
    scan_id BLOB,
    name TEXT NOT NULL,
    -- The ref that is ingested; NULL: the head of what was pushed.
    wanted_ref TEXT,
    scan INTEGER NOT NULL,
    token_hash BLOB NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('awaiting_push', 'processing', 'ready', 'failed')),
    -- A push is under way while this lies ahead; the process that receives renews
    -- it, so that a dead one cannot leave an upload in `receiving`.
    receiving_until INTEGER,
    -- What has come in of the push under way.
    receiving_bytes INTEGER NOT NULL DEFAULT 0,
    receiving_objects INTEGER NOT NULL DEFAULT 0,
    head_commit TEXT,
    head_ref TEXT,
    pushes INTEGER NOT NULL DEFAULT 0,
    bytes_received INTEGER NOT NULL DEFAULT 0,
    objects_received INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    version INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    pushed_at INTEGER,
    expires_at INTEGER NOT NULL,
    -- The remote no longer answers; packs stay while the repository needs them.
    deleted_at INTEGER
) STRICT;
CREATE INDEX git_uploads_owner ON git_uploads (owner_id, id);
CREATE INDEX git_uploads_repository ON git_uploads (repository_id);
CREATE INDEX git_uploads_project ON git_uploads (project_id);

-- The truth about refs: bare repositories on disk are a cache of objects only.
CREATE TABLE upload_refs (
    upload_id BLOB NOT NULL REFERENCES git_uploads (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    oid TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (upload_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE upload_shallow (
    upload_id BLOB NOT NULL REFERENCES git_uploads (id) ON DELETE CASCADE,
    oid TEXT NOT NULL,
    PRIMARY KEY (upload_id, oid)
) STRICT;

CREATE TABLE upload_packs (
    upload_id BLOB NOT NULL REFERENCES git_uploads (id) ON DELETE CASCADE,
    -- Name of the pack as git derives it, hex.
    name TEXT NOT NULL,
    pack_key TEXT NOT NULL,
    index_key TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    objects INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (upload_id, name)
) STRICT;

-- One row for each accepted push: what billing and the page of an upload count.
CREATE TABLE pushes (
    id BLOB PRIMARY KEY,
    upload_id BLOB NOT NULL REFERENCES git_uploads (id) ON DELETE CASCADE,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project_id BLOB NOT NULL,
    commands TEXT NOT NULL,
    observations TEXT NOT NULL,
    agent TEXT,
    bytes INTEGER NOT NULL,
    objects INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX pushes_upload ON pushes (upload_id, id);
CREATE INDEX pushes_owner ON pushes (owner_id, id);

CREATE TABLE scans (
    id BLOB PRIMARY KEY,
    repository_id BLOB NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    project_id BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    upload_id BLOB,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    trigger TEXT NOT NULL CHECK (trigger IN ('api', 'push', 'ingest', 'session')),
    config TEXT NOT NULL,
    commit_id TEXT,
    snapshot_id BLOB,
    progress TEXT NOT NULL,
    summary TEXT NOT NULL,
    error TEXT,
    worker_id TEXT,
    last_event INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER
) STRICT;
CREATE INDEX scans_repository ON scans (repository_id, id);
CREATE INDEX scans_project ON scans (project_id, id);

-- seq counts 1, 2, 3 … for each scan without a hole: it is taken from
-- scans.last_event in the transaction that inserts the row.
CREATE TABLE scan_events (
    scan_id BLOB NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('info', 'warning', 'error')),
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (scan_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE scan_artifacts (
    scan_id BLOB NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    storage_key TEXT NOT NULL,
    PRIMARY KEY (scan_id, name)
) STRICT;

CREATE TABLE findings (
    id BLOB PRIMARY KEY,
    repository_id BLOB NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    project_id BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL,
    engine TEXT NOT NULL CHECK (engine IN ('secrets', 'code', 'dependencies')),
    rule_id TEXT NOT NULL,
    title TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('critical', 'high', 'medium', 'low', 'info')),
    confidence TEXT NOT NULL CHECK (confidence IN ('high', 'medium', 'low')),
    status TEXT NOT NULL CHECK (status IN ('open', 'confirmed', 'dismissed')),
    state TEXT NOT NULL CHECK (state IN ('new', 'unchanged', 'fixed')),
    path TEXT NOT NULL,
    start_line INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    in_history INTEGER NOT NULL,
    -- All that is shown and never filtered by.
    body TEXT NOT NULL,
    first_seen_scan_id BLOB NOT NULL,
    last_seen_scan_id BLOB NOT NULL,
    first_seen_at INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    dismissal_reason TEXT,
    dismissal_expires_at INTEGER,
    -- Who decided on the status; NULL while no person has.
    decided_by TEXT,
    updated_at INTEGER NOT NULL,
    UNIQUE (repository_id, fingerprint)
) STRICT;
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
    scan_id BLOB NOT NULL REFERENCES scans (id) ON DELETE CASCADE,
    finding_id BLOB NOT NULL REFERENCES findings (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('new', 'unchanged', 'fixed')),
    PRIMARY KEY (scan_id, finding_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX scan_findings_finding ON scan_findings (finding_id);

CREATE TABLE finding_history (
    id BLOB PRIMARY KEY,
    finding_id BLOB NOT NULL REFERENCES findings (id) ON DELETE CASCADE,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    from_status TEXT NOT NULL,
    to_status TEXT NOT NULL,
    reason TEXT,
    comment TEXT
) STRICT;
CREATE INDEX finding_history_finding ON finding_history (finding_id, id);

-- Results of the engines by content. A set names everything but the blob, so
-- that a row of the large table is a number, twenty bytes and the result.
CREATE TABLE result_sets (
    id BLOB PRIMARY KEY,
    owner_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    engine TEXT NOT NULL,
    rule_set TEXT NOT NULL,
    facet TEXT NOT NULL,
    UNIQUE (owner_id, engine, rule_set, facet)
) STRICT;

CREATE TABLE results (
    set_id BLOB NOT NULL REFERENCES result_sets (id) ON DELETE CASCADE,
    blob BLOB NOT NULL,
    -- JSON of the result; NULL where the engine found nothing.
    result BLOB,
    PRIMARY KEY (set_id, blob)
) STRICT, WITHOUT ROWID;

-- The truth about work, whichever queue carries it.
CREATE TABLE jobs (
    id BLOB PRIMARY KEY,
    owner_id BLOB REFERENCES users (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('ingest', 'scan', 'delete_objects')),
    subject_id BLOB NOT NULL,
    payload TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    run_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    -- Grows with every claim: a write that carries an older one changes nothing.
    fence INTEGER NOT NULL DEFAULT 0,
    worker_id TEXT,
    lease_until INTEGER,
    cancel_requested INTEGER NOT NULL,
    error TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER
) STRICT;
CREATE INDEX jobs_queued ON jobs (run_at, id) WHERE status = 'queued';
CREATE INDEX jobs_running ON jobs (lease_until) WHERE status = 'running';
CREATE INDEX jobs_subject ON jobs (subject_id);

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    last_heartbeat_at INTEGER NOT NULL
) STRICT;
