-- Which version the tables have. The host's own history (alembic_version) is the host's.
CREATE TABLE user_tasks_schema (version INTEGER NOT NULL) STRICT

INSERT INTO user_tasks_schema VALUES (2)

ALTER TABLE user_tasks ADD COLUMN kind TEXT

-- How often the task was started: what a worker of an earlier attempt reports changes nothing any more.
ALTER TABLE user_tasks ADD COLUMN attempt INTEGER DEFAULT 0 NOT NULL

ALTER TABLE user_tasks ADD COLUMN cancel_requested_at TEXT
CONSTRAINT cancel_requested_at_is_a_moment CHECK (cancel_requested_at IS NULL OR (
    cancel_requested_at >= '0001-01-01' AND cancel_requested_at < '9999-12-31'
    AND cancel_requested_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'
    AND julianday(cancel_requested_at) IS NOT NULL))

ALTER TABLE user_tasks ADD COLUMN start_by TEXT
CONSTRAINT start_by_is_a_moment CHECK (start_by IS NULL OR (
    start_by >= '0001-01-01' AND start_by < '9999-12-31'
    AND start_by GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND julianday(start_by) IS NOT NULL))

ALTER TABLE user_tasks ADD COLUMN end_by TEXT
CONSTRAINT end_by_is_a_moment CHECK (end_by IS NULL OR (
    end_by >= '0001-01-01' AND end_by < '9999-12-31'
    AND end_by GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND julianday(end_by) IS NOT NULL))

-- In the order in which a user's tasks are asked for, however many of them wait.
DROP INDEX ix_user_tasks_active

CREATE INDEX ix_user_tasks_active ON user_tasks (user_id, created_at DESC, id DESC)
WHERE status IN ('pending', 'queued', 'starting', 'running')

-- Whose lease may have run out: however many tasks wait, only those that were started are looked at.
CREATE INDEX ix_user_tasks_started ON user_tasks (id) WHERE status IN ('starting', 'running')

CREATE INDEX ix_user_tasks_waiting ON user_tasks (kind, created_at, id) WHERE status IN ('pending', 'queued')

CREATE INDEX ix_user_tasks_start_by ON user_tasks (start_by)
WHERE status IN ('pending', 'queued') AND start_by IS NOT NULL

CREATE INDEX ix_user_tasks_ended ON user_tasks (kind, ended_at)
WHERE status IN ('completed', 'failed', 'timeout')

-- What was deleted within the last minute, for the feed: a row that is gone has no revision.
CREATE TABLE user_tasks_deleted (revision INTEGER PRIMARY KEY, id INTEGER NOT NULL, user_id INTEGER NOT NULL) STRICT

DROP TRIGGER user_tasks_after_insert

DROP TRIGGER user_tasks_after_update

-- A hybrid logical clock (Kulkarni et al. 2014): microseconds since 1970, or one more than the last revision drawn, of
-- the row or of any other: so revisions become visible in their order, although SQLite's clock counts milliseconds.
-- After a restore it is ahead of everything that was handed out before, and none is used twice.
CREATE TRIGGER user_tasks_after_insert AFTER INSERT ON user_tasks BEGIN
    UPDATE user_tasks_revision SET value = max(
        value + 1,
        CAST(strftime('%s', 'now') AS INTEGER) * 1000000 + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER) * 1000);
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

-- A task that is opened again has not ended.
CREATE TRIGGER user_tasks_after_update AFTER UPDATE OF
    task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items,
    result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision, cancel_requested_at
ON user_tasks
WHEN NEW.revision = OLD.revision OR NEW.revision <> (SELECT value FROM user_tasks_revision)
BEGIN
    UPDATE user_tasks_revision SET value = max(
        value + 1, OLD.revision + 1,
        CAST(strftime('%s', 'now') AS INTEGER) * 1000000 + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER) * 1000);
    UPDATE user_tasks SET
        revision = (SELECT value FROM user_tasks_revision),
        created_at = strftime('%Y-%m-%dT%H:%M:%fZ', created_at),
        started_at = CASE
            WHEN status IN ('starting', 'running')
            THEN coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', started_at), strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
            ELSE strftime('%Y-%m-%dT%H:%M:%fZ', started_at) END,
        ended_at = CASE
            WHEN status IN ('completed', 'failed', 'timeout')
            THEN coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', ended_at), strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
            WHEN OLD.status IN ('completed', 'failed', 'timeout') THEN NULL
            ELSE strftime('%Y-%m-%dT%H:%M:%fZ', ended_at) END,
        updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    WHERE id = NEW.id;
END

CREATE TRIGGER user_tasks_after_delete AFTER DELETE ON user_tasks BEGIN
    UPDATE user_tasks_revision SET value = max(
        value + 1,
        CAST(strftime('%s', 'now') AS INTEGER) * 1000000 + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER) * 1000);
    DELETE FROM user_tasks_deleted WHERE revision < (SELECT value - 60000000 FROM user_tasks_revision);
    INSERT INTO user_tasks_deleted SELECT value, OLD.id, OLD.user_id FROM user_tasks_revision;
END
