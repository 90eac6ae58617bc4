UPDATE user_tasks_schema SET version = 2

DROP TRIGGER user_tasks_announce ON user_tasks

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

CREATE FUNCTION user_tasks_announce_if_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF floor(extract(epoch FROM clock_timestamp()) * 20) <> floor(extract(epoch FROM NEW.updated_at) * 20) THEN
        PERFORM pg_notify('user_tasks', NEW.id || ':' || NEW.user_id);
    END IF;
    RETURN NULL;
END $$

CREATE TRIGGER user_tasks_announce_row AFTER INSERT OR DELETE ON user_tasks
FOR EACH ROW EXECUTE FUNCTION user_tasks_announce()

-- Of a task's changes within a window of 50 ms only the first is announced, and every listener reads such a task again
-- a little later. Starts, ends, other owners and requests to cancel are announced always.
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

ALTER TABLE user_tasks_schema DROP COLUMN counted_until

DROP INDEX ix_user_tasks_ended_at

DROP INDEX ix_user_tasks_unsuccessful

DROP INDEX ix_user_tasks_created

DROP INDEX ix_user_tasks_failed

ALTER TABLE user_tasks DROP COLUMN traceparent
