UPDATE user_tasks_schema SET version = 2

DROP INDEX ix_user_tasks_failed

ALTER TABLE user_tasks DROP COLUMN traceparent
