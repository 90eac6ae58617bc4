-- `traceparent` (W3C Trace Context): the request that made the task, for the worker's spans.
ALTER TABLE user_tasks
    ADD COLUMN traceparent text,
    ADD CONSTRAINT traceparent_has_a_length CHECK (length(traceparent) <= 255)

-- What went wrong last, whosever it was.
CREATE INDEX ix_user_tasks_failed ON user_tasks (ended_at DESC) WHERE status IN ('failed', 'timeout')

-- What ended last, for those who count it, and for the tasks that are to be removed.
CREATE INDEX ix_user_tasks_ended_at ON user_tasks (ended_at) WHERE status IN ('completed', 'failed', 'timeout')

-- Until when ended tasks were counted for the metrics: by one process for all.
ALTER TABLE user_tasks_schema ADD COLUMN counted_until timestamp with time zone DEFAULT clock_timestamp() NOT NULL

-- A server's role need not own the tables, and a mark for the metrics is no secret.
GRANT SELECT, UPDATE (counted_until) ON user_tasks_schema TO PUBLIC

UPDATE user_tasks_schema SET version = 3
