-- `traceparent` (W3C Trace Context): the request that made the task, for the worker's spans.
ALTER TABLE user_tasks ADD COLUMN traceparent TEXT
CONSTRAINT traceparent_has_a_length CHECK (length(traceparent) <= 255)

-- What went wrong last, whosever it was. What was cancelled did not.
CREATE INDEX ix_user_tasks_failed ON user_tasks (ended_at DESC)
WHERE status IN ('failed', 'timeout') AND result_message IS NOT 'Cancelled.'

-- Everybody's tasks in the order of their list; and those that failed, of which there may be a few among millions.
CREATE INDEX ix_user_tasks_created ON user_tasks (created_at DESC, id DESC)

CREATE INDEX ix_user_tasks_unsuccessful ON user_tasks (created_at DESC, id DESC) WHERE status IN ('failed', 'timeout')

-- What ended last, for those who count it, and for the tasks that are to be removed.
CREATE INDEX ix_user_tasks_ended_at ON user_tasks (ended_at) WHERE status IN ('completed', 'failed', 'timeout')

-- Until when ended tasks were counted for the metrics: by one process for all.
ALTER TABLE user_tasks_schema ADD COLUMN counted_until TEXT

UPDATE user_tasks_schema SET counted_until = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')

UPDATE user_tasks_schema SET version = 3
