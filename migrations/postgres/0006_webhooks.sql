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
