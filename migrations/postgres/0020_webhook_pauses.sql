-- Until when a receiver wants no message, as it said with its last answer (microseconds).
ALTER TABLE webhooks ADD COLUMN paused_until BIGINT;
