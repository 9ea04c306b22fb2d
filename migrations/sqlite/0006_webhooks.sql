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
