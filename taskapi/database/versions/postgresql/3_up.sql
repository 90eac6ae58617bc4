-- `traceparent` (W3C Trace Context): the request that made the task, for the worker's spans.
ALTER TABLE user_tasks
    ADD COLUMN traceparent text,
    ADD CONSTRAINT traceparent_has_a_length CHECK (length(traceparent) <= 255)

-- What went wrong last, whosever it was.
CREATE INDEX ix_user_tasks_failed ON user_tasks (ended_at DESC) WHERE status IN ('failed', 'timeout')

UPDATE user_tasks_schema SET version = 3
