-- Figures of a project that its page shows, kept by the transactions that change what
-- they count: see db/project_counters.rs.
ALTER TABLE projects ADD COLUMN scans_queued INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN scans_running INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN scans_completed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN scans_failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN scans_cancelled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN open_critical INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN open_high INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN open_medium INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN open_low INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN open_info INTEGER NOT NULL DEFAULT 0;
UPDATE projects SET
    scans_queued = (SELECT count(*) FROM scans s
        WHERE s.project_id = projects.id AND s.status = 'queued'),
    scans_running = (SELECT count(*) FROM scans s
        WHERE s.project_id = projects.id AND s.status = 'running'),
    scans_completed = (SELECT count(*) FROM scans s
        WHERE s.project_id = projects.id AND s.status = 'completed'),
    scans_failed = (SELECT count(*) FROM scans s
        WHERE s.project_id = projects.id AND s.status = 'failed'),
    scans_cancelled = (SELECT count(*) FROM scans s
        WHERE s.project_id = projects.id AND s.status = 'cancelled'),
    open_critical = (SELECT coalesce(sum(r.open_critical), 0) FROM repositories r
        WHERE r.project_id = projects.id),
    open_high = (SELECT coalesce(sum(r.open_high), 0) FROM repositories r
        WHERE r.project_id = projects.id),
    open_medium = (SELECT coalesce(sum(r.open_medium), 0) FROM repositories r
        WHERE r.project_id = projects.id),
    open_low = (SELECT coalesce(sum(r.open_low), 0) FROM repositories r
        WHERE r.project_id = projects.id),
    open_info = (SELECT coalesce(sum(r.open_info), 0) FROM repositories r
        WHERE r.project_id = projects.id);

-- Lists of findings: see db/findings/page.rs. With all of the four columns of few values
-- fixed, the rows of either index lie in an order that a list has.
CREATE INDEX findings_repository_kind ON findings
    (repository_id, status, state, engine, severity, id);
CREATE INDEX findings_repository_kind_priority ON findings
    (repository_id, status, state, engine, severity, priority, id);
CREATE INDEX findings_repository_rule ON findings
    (repository_id, rule_id, severity, id);
CREATE INDEX findings_repository_rule_priority ON findings
    (repository_id, rule_id, severity, priority, id);
CREATE INDEX findings_repository_path ON findings (repository_id, path);
CREATE INDEX findings_project_kind ON findings
    (project_id, status, state, engine, severity, id);
CREATE INDEX findings_project_kind_priority ON findings
    (project_id, status, state, engine, severity, priority, id);
CREATE INDEX findings_project_rule ON findings
    (project_id, rule_id, severity, id);
CREATE INDEX findings_project_rule_priority ON findings
    (project_id, rule_id, severity, priority, id);
CREATE INDEX findings_project_path ON findings (project_id, path);

-- The list of remotes shows those that were not taken back.
CREATE INDEX git_uploads_shown ON git_uploads (owner_id, id) WHERE deleted_at IS NULL;
