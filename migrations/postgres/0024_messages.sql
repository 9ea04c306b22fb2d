-- When a message of a job that waits was sent; of a delayed message, when it can be
-- received. NULL: none since the job waits. See queue/sqs.
ALTER TABLE jobs ADD COLUMN sent_at BIGINT;

-- What is still to be sent, and what was sent and not taken: both are read from one end,
-- so a look costs the same however much waits. The first one takes the place of an index
-- whose work jobs_lane does too.
CREATE INDEX jobs_unsent ON jobs (run_at) WHERE status = 'queued' AND sent_at IS NULL;
CREATE INDEX jobs_sent ON jobs (sent_at)
    WHERE status = 'queued' AND lane = 'work' AND sent_at IS NOT NULL;
DROP INDEX jobs_queued;
