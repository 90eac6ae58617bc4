DROP TRIGGER user_tasks_after_delete

DROP TRIGGER user_tasks_after_update

DROP TRIGGER user_tasks_after_insert

DROP TABLE user_tasks_deleted

DROP INDEX ix_user_tasks_active

CREATE INDEX ix_user_tasks_active ON user_tasks (user_id)
WHERE status IN ('pending', 'queued', 'starting', 'running')

DROP INDEX ix_user_tasks_ended

DROP INDEX ix_user_tasks_start_by

DROP INDEX ix_user_tasks_waiting

DROP INDEX ix_user_tasks_started

ALTER TABLE user_tasks DROP COLUMN end_by

ALTER TABLE user_tasks DROP COLUMN start_by

ALTER TABLE user_tasks DROP COLUMN cancel_requested_at

ALTER TABLE user_tasks DROP COLUMN attempt

ALTER TABLE user_tasks DROP COLUMN kind

-- Whoever writes the row, in whatever language: its revision is drawn, its moments get one form (RFC 3339 in UTC).
CREATE TRIGGER user_tasks_after_insert AFTER INSERT ON user_tasks BEGIN
    UPDATE user_tasks_revision SET value = value + 1;
    UPDATE user_tasks SET
        revision = (SELECT value FROM user_tasks_revision),
        created_at = strftime('%Y-%m-%dT%H:%M:%fZ', created_at),
        started_at = CASE
            WHEN status IN ('starting', 'running')
            THEN coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', started_at), strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
            ELSE strftime('%Y-%m-%dT%H:%M:%fZ', started_at) END,
        ended_at = CASE
            WHEN status IN ('pending', 'queued', 'starting', 'running')
            THEN strftime('%Y-%m-%dT%H:%M:%fZ', ended_at)
            ELSE coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', ended_at), strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) END,
        updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    WHERE id = NEW.id;
END

-- The WHEN keeps the trigger's own update from firing it again where `recursive_triggers` is on. A revision that a
-- writer sets is replaced like on PostgreSQL.
CREATE TRIGGER user_tasks_after_update AFTER UPDATE OF
    task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items,
    result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision
ON user_tasks
WHEN NEW.revision = OLD.revision OR NEW.revision <> (SELECT value FROM user_tasks_revision)
BEGIN
    UPDATE user_tasks_revision SET value = value + 1;
    UPDATE user_tasks SET
        revision = (SELECT value FROM user_tasks_revision),
        created_at = strftime('%Y-%m-%dT%H:%M:%fZ', created_at),
        started_at = CASE
            WHEN status IN ('starting', 'running')
            THEN coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', started_at), strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
            ELSE strftime('%Y-%m-%dT%H:%M:%fZ', started_at) END,
        ended_at = CASE
            WHEN status IN ('pending', 'queued', 'starting', 'running')
            THEN strftime('%Y-%m-%dT%H:%M:%fZ', ended_at)
            ELSE coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', ended_at), strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) END,
        updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    WHERE id = NEW.id;
END

DROP TABLE user_tasks_schema
