-- Which version the tables have. The host's own history (alembic_version) is the host's.
CREATE TABLE user_tasks_schema (version integer NOT NULL)

INSERT INTO user_tasks_schema VALUES (2)

-- `attempt`: how often the task was started. What a worker of an earlier attempt reports changes nothing any more.
ALTER TABLE user_tasks
    ADD COLUMN kind text,
    ADD COLUMN attempt bigint DEFAULT 0 NOT NULL,
    ADD COLUMN cancel_requested_at timestamp with time zone,
    ADD COLUMN start_by timestamp with time zone,
    ADD COLUMN end_by timestamp with time zone,
    ADD CONSTRAINT cancel_requested_at_is_a_moment CHECK (
        cancel_requested_at >= '0001-01-01' AND cancel_requested_at < '9999-12-31'),
    ADD CONSTRAINT start_by_is_a_moment CHECK (start_by >= '0001-01-01' AND start_by < '9999-12-31'),
    ADD CONSTRAINT end_by_is_a_moment CHECK (end_by >= '0001-01-01' AND end_by < '9999-12-31')

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

-- A hybrid logical clock (Kulkarni et al. 2014): microseconds since 1970, or one more than the row's last revision.
-- After a failover or a restore it is ahead of everything that was handed out before, and none is used twice. A task
-- that is opened again has not ended.
CREATE OR REPLACE FUNCTION user_tasks_before_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    NEW.revision := greatest((extract(epoch FROM NEW.updated_at) * 1000000)::bigint, OLD.revision + 1);
    IF NEW.status IN ('starting', 'running') THEN
        NEW.started_at := coalesce(NEW.started_at, NEW.updated_at);
    ELSIF NEW.status IN ('completed', 'failed', 'timeout') THEN
        NEW.ended_at := coalesce(NEW.ended_at, NEW.updated_at);
    END IF;
    IF OLD.status IN ('completed', 'failed', 'timeout')
        AND NEW.status NOT IN ('completed', 'failed', 'timeout') THEN
        NEW.ended_at := NULL;
    END IF;
    RETURN NEW;
END $$

DROP SEQUENCE user_tasks_revision_seq

-- Those who followed a task with its previous owner are told as well.
CREATE OR REPLACE FUNCTION user_tasks_announce() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE task record := coalesce(NEW, OLD);
BEGIN
    PERFORM pg_notify('user_tasks', task.id || ':' || task.user_id);
    IF OLD.user_id <> task.user_id THEN
        PERFORM pg_notify('user_tasks', OLD.id || ':' || OLD.user_id);
    END IF;
    RETURN NULL;
END $$

DROP TRIGGER user_tasks_before_write ON user_tasks

DROP TRIGGER user_tasks_announce_change ON user_tasks

DROP TRIGGER user_tasks_announce_late ON user_tasks

CREATE TRIGGER user_tasks_before_write BEFORE INSERT OR UPDATE OF
    task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items,
    result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision, cancel_requested_at
ON user_tasks FOR EACH ROW EXECUTE FUNCTION user_tasks_before_write()

-- As before, and a request to cancel is announced always.
CREATE TRIGGER user_tasks_announce_change AFTER UPDATE OF
    task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items,
    result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision, cancel_requested_at
ON user_tasks FOR EACH ROW WHEN (NOT (
    NEW.status = OLD.status AND NEW.user_id = OLD.user_id
    AND NEW.cancel_requested_at IS NOT DISTINCT FROM OLD.cancel_requested_at
    AND floor(extract(epoch FROM NEW.updated_at) * 20) = floor(extract(epoch FROM OLD.updated_at) * 20)))
EXECUTE FUNCTION user_tasks_announce()

CREATE CONSTRAINT TRIGGER user_tasks_announce_late AFTER UPDATE OF
    task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items,
    result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision, cancel_requested_at
ON user_tasks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
    NEW.status = OLD.status AND NEW.user_id = OLD.user_id
    AND NEW.cancel_requested_at IS NOT DISTINCT FROM OLD.cancel_requested_at
    AND floor(extract(epoch FROM NEW.updated_at) * 20) = floor(extract(epoch FROM OLD.updated_at) * 20))
EXECUTE FUNCTION user_tasks_announce_if_late()
