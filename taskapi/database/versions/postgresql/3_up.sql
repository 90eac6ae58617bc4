-- `traceparent` (W3C Trace Context): the request that made the task, for the worker's spans.
ALTER TABLE user_tasks
    ADD COLUMN traceparent text,
    ADD CONSTRAINT traceparent_has_a_length CHECK (length(traceparent) <= 255)

-- What went wrong last, whosever it was.
CREATE INDEX ix_user_tasks_failed ON user_tasks (ended_at DESC) WHERE status IN ('failed', 'timeout')

DROP TRIGGER user_tasks_announce_row ON user_tasks

DROP TRIGGER user_tasks_announce_change ON user_tasks

DROP TRIGGER user_tasks_announce_late ON user_tasks

DROP FUNCTION user_tasks_announce_if_late

-- Commits that notify wait for one lock of the whole database, so that 32 writers that announced every change fell to a
-- quarter of their rate. So only what somebody follows is announced. Who follows it holds a shared advisory lock, in
-- the session that listens: 0 for everything, a task's id, or the complement of a user's (31 bits of each: another task
-- with the same ones costs a notification). Where a writer cannot take that lock for itself, somebody follows. Unlike a
-- row, a lock is seen by every transaction, whatever its snapshot; needs no grant, nothing written, nobody who tidies
-- up; and ends with its session.
--
-- It is looked at when the transaction is about to commit: who follows from now on reads the row after that. Of a
-- task's changes within a window of 50 ms only the first is announced, if the others are committed within it, and every
-- listener reads such a task again a little later. Starts, ends, other owners and requests to cancel are announced
-- always. A key, not the row: a payload of 8000 bytes would fail the writer. Those who followed a task with its
-- previous owner are told as well.
CREATE OR REPLACE FUNCTION user_tasks_announce() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    clock bigint := extract(epoch FROM clock_timestamp()) * 1000000;
    task bigint := coalesce(NEW.id, OLD.id);
    owner bigint := coalesce(NEW.user_id, OLD.user_id);
    previous bigint := nullif(OLD.user_id, owner);
    is_followed boolean := clock < TG_ARGV[0]::bigint;
    key integer;
BEGIN
    IF NEW.status = OLD.status AND previous IS NULL
        AND NEW.cancel_requested_at IS NOT DISTINCT FROM OLD.cancel_requested_at
        AND NEW.revision / 50000 = OLD.revision / 50000 AND NEW.revision / 50000 = clock / 50000
    THEN
        RETURN NULL;
    END IF;
    FOREACH key IN ARRAY ARRAY[0, task & 2147483647, ~(owner & 2147483647), ~(previous & 2147483647)] LOOP
        EXIT WHEN is_followed OR key IS NULL;
        -- One expression: a session that is interrupted in between would keep the lock.
        is_followed := CASE WHEN pg_try_advisory_lock(hashtext(TG_TABLE_SCHEMA), key)
            THEN NOT pg_advisory_unlock(hashtext(TG_TABLE_SCHEMA), key) ELSE true END;
    END LOOP;
    IF is_followed THEN
        PERFORM pg_notify('user_tasks', task || ':' || owner);
        IF previous IS NOT NULL THEN
            PERFORM pg_notify('user_tasks', task || ':' || previous);
        END IF;
    END IF;
    RETURN NULL;
END $$

-- Servers of version 2 that still run hold no locks: for a day all is announced, where there are tasks to follow.
DO $$
DECLARE
    until bigint := CASE WHEN EXISTS (SELECT FROM user_tasks)
        THEN extract(epoch FROM clock_timestamp() + interval '1 day') * 1000000 ELSE 0 END;
BEGIN
    EXECUTE 'CREATE CONSTRAINT TRIGGER user_tasks_announce AFTER INSERT OR DELETE OR UPDATE OF
        task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items,
        result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision, cancel_requested_at
        ON user_tasks DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION user_tasks_announce(' || until || ')';
END $$

-- What ended last, for those who count it, and for the tasks that are to be removed.
CREATE INDEX ix_user_tasks_ended_at ON user_tasks (ended_at) WHERE status IN ('completed', 'failed', 'timeout')

-- Until when ended tasks were counted for the metrics: by one process for all.
ALTER TABLE user_tasks_schema ADD COLUMN counted_until timestamp with time zone DEFAULT clock_timestamp() NOT NULL

UPDATE user_tasks_schema SET version = 3
