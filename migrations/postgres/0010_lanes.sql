-- Which slots of a worker take a job: see db/jobs.
ALTER TABLE jobs ADD COLUMN lane TEXT NOT NULL DEFAULT 'work'
    CHECK (lane IN ('work', 'fetches', 'deliveries'));
UPDATE jobs SET lane = 'fetches' WHERE kind = 'ingest'
    AND (payload ->> 'source' = 'git' OR payload -> 'archive' ->> 'fetch' = 'true');
-- A delivery has ten tries and some more for errors of the server itself.
UPDATE jobs SET lane = 'deliveries', max_attempts = 15 WHERE kind = 'webhook';

-- Of the jobs of one series one runs at a time; of deliveries it is the webhook.
ALTER TABLE jobs ADD COLUMN serial_id UUID;
UPDATE jobs SET serial_id = coalesce((SELECT d.webhook_id FROM webhook_deliveries d
    WHERE d.id = jobs.subject_id), subject_id) WHERE kind = 'webhook';

CREATE INDEX jobs_lane ON jobs (lane, run_at, id, serial_id, owner_id) WHERE status = 'queued';
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (webhook_id)
    WHERE status = 'pending';
