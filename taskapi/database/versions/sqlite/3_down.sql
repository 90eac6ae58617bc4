UPDATE user_tasks_schema SET version = 2

ALTER TABLE user_tasks_schema DROP COLUMN counted_until

DROP INDEX ix_user_tasks_ended_at

DROP INDEX ix_user_tasks_unsuccessful

DROP INDEX ix_user_tasks_created

DROP INDEX ix_user_tasks_failed

ALTER TABLE user_tasks DROP COLUMN traceparent
