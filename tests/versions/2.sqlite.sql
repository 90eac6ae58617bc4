-- The database as version 2 of taskapi left it (sqlite3's .dump), to be upgraded by the tests.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE user_tasks_revision (value INTEGER NOT NULL) STRICT;
INSERT INTO user_tasks_revision VALUES(1795535742841000);
CREATE TABLE user_tasks (
    task_id TEXT NOT NULL UNIQUE,
    user_id INTEGER NOT NULL,
    learning_path_id INTEGER,
    status TEXT DEFAULT 'pending' NOT NULL,
    stage TEXT,
    progress REAL DEFAULT 0 NOT NULL,
    total_items INTEGER,
    completed_items INTEGER DEFAULT 0 NOT NULL,
    result_message TEXT,
    error_details TEXT,
    started_at TEXT,
    ended_at TEXT,
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) NOT NULL,
    updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) NOT NULL,
    revision INTEGER DEFAULT 0 NOT NULL,
    lease_expires_at TEXT, kind TEXT, attempt INTEGER DEFAULT 0 NOT NULL, cancel_requested_at TEXT
CONSTRAINT cancel_requested_at_is_a_moment CHECK (cancel_requested_at IS NULL OR (
    cancel_requested_at >= '0001-01-01' AND cancel_requested_at < '9999-12-31'
    AND cancel_requested_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'
    AND julianday(cancel_requested_at) IS NOT NULL)), start_by TEXT
CONSTRAINT start_by_is_a_moment CHECK (start_by IS NULL OR (
    start_by >= '0001-01-01' AND start_by < '9999-12-31'
    AND start_by GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND julianday(start_by) IS NOT NULL)), end_by TEXT
CONSTRAINT end_by_is_a_moment CHECK (end_by IS NULL OR (
    end_by >= '0001-01-01' AND end_by < '9999-12-31'
    AND end_by GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND julianday(end_by) IS NOT NULL)),
    CONSTRAINT task_id_has_a_length CHECK (length(task_id) BETWEEN 1 AND 255),
    CONSTRAINT status_is_one_of_the_seven CHECK (
        status IN ('pending', 'queued', 'starting', 'running', 'completed', 'failed', 'timeout')),
    CONSTRAINT progress_is_a_percentage CHECK (progress BETWEEN 0 AND 100),
    CONSTRAINT total_items_is_a_count CHECK (total_items >= 0),
    CONSTRAINT completed_items_is_a_count CHECK (completed_items >= 0),
    CONSTRAINT started_at_is_a_moment CHECK (started_at IS NULL OR (
        started_at >= '0001-01-01' AND started_at < '9999-12-31'
        AND started_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND julianday(started_at) IS NOT NULL)),
    CONSTRAINT ended_at_is_a_moment CHECK (ended_at IS NULL OR (
        ended_at >= '0001-01-01' AND ended_at < '9999-12-31'
        AND ended_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND julianday(ended_at) IS NOT NULL)),
    CONSTRAINT created_at_is_a_moment CHECK (created_at IS NULL OR (
        created_at >= '0001-01-01' AND created_at < '9999-12-31'
        AND created_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND julianday(created_at) IS NOT NULL)),
    CONSTRAINT updated_at_is_a_moment CHECK (updated_at IS NULL OR (
        updated_at >= '0001-01-01' AND updated_at < '9999-12-31'
        AND updated_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND julianday(updated_at) IS NOT NULL)),
    CONSTRAINT lease_expires_at_is_a_moment CHECK (lease_expires_at IS NULL OR (
        lease_expires_at >= '0001-01-01' AND lease_expires_at < '9999-12-31'
        AND lease_expires_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'
        AND julianday(lease_expires_at) IS NOT NULL))
) STRICT;
INSERT INTO user_tasks VALUES('waiting',1,NULL,'pending',NULL,0.0,NULL,0,NULL,NULL,NULL,NULL,1,'2026-11-24T15:55:42.804Z','2026-11-24T15:55:42.804Z',1795535742804000,NULL,'cards',0,NULL,NULL,NULL);
INSERT INTO user_tasks VALUES('done',1,7,'completed',NULL,100.0,50,50,'50 cards created',NULL,'2026-11-24T15:55:42.825Z','2026-11-24T15:55:42.841Z',2,'2026-11-24T15:55:42.808Z','2026-11-24T15:55:42.841Z',1795535742841000,NULL,'cards',1,NULL,NULL,NULL);
INSERT INTO user_tasks VALUES('lively',2,NULL,'running','generating_cards',12.5,NULL,0,NULL,NULL,'2026-11-24T15:55:42.816Z',NULL,4,'2026-11-24T15:55:42.816Z','2026-11-24T15:55:42.837Z',1795535742837000,'2099-01-01 00:00:00',NULL,1,'2026-11-24 09:00:00',NULL,'2099-01-02 00:00:00');
INSERT INTO user_tasks VALUES('failed',2,NULL,'failed',NULL,0.0,NULL,0,'It''s over: ünïcode','Traceback …','2026-11-24T15:55:42.821Z','2026-11-24T15:55:42.833Z',5,'2026-11-24T15:55:42.821Z','2026-11-24T15:55:42.833Z',1795535742833000,NULL,NULL,2,NULL,NULL,NULL);
CREATE TABLE user_tasks_schema (version INTEGER NOT NULL) STRICT;
INSERT INTO user_tasks_schema VALUES(2);
CREATE TABLE user_tasks_deleted (revision INTEGER PRIMARY KEY, id INTEGER NOT NULL, user_id INTEGER NOT NULL) STRICT;
INSERT INTO user_tasks_deleted VALUES(1795535742829000,3,1);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('user_tasks',5);
CREATE INDEX ix_user_tasks_user ON user_tasks (user_id, created_at DESC, id DESC);
CREATE INDEX ix_user_tasks_learning_path ON user_tasks (learning_path_id, created_at DESC, id DESC);
CREATE INDEX ix_user_tasks_revision ON user_tasks (revision);
CREATE INDEX ix_user_tasks_active ON user_tasks (user_id, created_at DESC, id DESC)
WHERE status IN ('pending', 'queued', 'starting', 'running');
CREATE INDEX ix_user_tasks_started ON user_tasks (id) WHERE status IN ('starting', 'running');
CREATE INDEX ix_user_tasks_waiting ON user_tasks (kind, created_at, id) WHERE status IN ('pending', 'queued');
CREATE INDEX ix_user_tasks_start_by ON user_tasks (start_by)
WHERE status IN ('pending', 'queued') AND start_by IS NOT NULL;
CREATE INDEX ix_user_tasks_ended ON user_tasks (kind, ended_at)
WHERE status IN ('completed', 'failed', 'timeout');
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
END;
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
END;
CREATE TRIGGER user_tasks_after_delete AFTER DELETE ON user_tasks BEGIN
    UPDATE user_tasks_revision SET value = max(
        value + 1,
        CAST(strftime('%s', 'now') AS INTEGER) * 1000000 + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER) * 1000);
    DELETE FROM user_tasks_deleted WHERE revision < (SELECT value - 60000000 FROM user_tasks_revision);
    INSERT INTO user_tasks_deleted SELECT value, OLD.id, OLD.user_id FROM user_tasks_revision;
END;
COMMIT;
