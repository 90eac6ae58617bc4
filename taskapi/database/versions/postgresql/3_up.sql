-- `traceparent` (W3C Trace Context): the request that made the task, for the worker's spans.
ALTER TABLE user_tasks
    ADD COLUMN traceparent text,
    ADD CONSTRAINT traceparent_has_a_length CHECK (length(traceparent) <= 255)

-- What went wrong last, whosever it was. What was cancelled did not.
CREATE INDEX ix_user_tasks_failed ON user_tasks (ended_at DESC)
WHERE status IN ('failed', 'timeout') AND result_message IS DISTINCT FROM 'Cancelled.'

-- Everybody's tasks in the order of their list; and those that failed, of which there may be a few among millions.
CREATE INDEX ix_user_tasks_created ON user_tasks (created_at DESC, id DESC)

CREATE INDEX ix_user_tasks_unsuccessful ON user_tasks (created_at DESC, id DESC) WHERE status IN ('failed', 'timeout')

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
--
-- Each expression costs a writer more than what it computes (PL/pgSQL prepares it anew in each transaction): so the one
-- that all writers pay for is one. To take a lock and let it go is one, too: no session that is interrupted keeps it.
CREATE OR REPLACE FUNCTION user_tasks_announce() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place integer := hashtext(TG_TABLE_SCHEMA);
BEGIN
    IF (CASE WHEN pg_try_advisory_lock(place, 0) THEN pg_advisory_unlock(place, 0) END)
        AND (CASE WHEN pg_try_advisory_lock(place, (coalesce(NEW.id, OLD.id) & 2147483647)::integer)
            THEN pg_advisory_unlock(place, (coalesce(NEW.id, OLD.id) & 2147483647)::integer) END)
        AND (CASE WHEN pg_try_advisory_lock(place, ~(coalesce(NEW.user_id, OLD.user_id) & 2147483647)::integer)
            THEN pg_advisory_unlock(place, ~(coalesce(NEW.user_id, OLD.user_id) & 2147483647)::integer) END)
        AND (CASE WHEN (NEW.user_id <> OLD.user_id) IS NOT TRUE THEN true
            WHEN pg_try_advisory_lock(place, ~(OLD.user_id & 2147483647)::integer)
            THEN pg_advisory_unlock(place, ~(OLD.user_id & 2147483647)::integer) END)
        AND extract(epoch FROM clock_timestamp()) > TG_ARGV[0]::bigint
    THEN
        RETURN NULL;
    END IF;
    IF NEW.status = OLD.status AND NEW.user_id = OLD.user_id
        AND NEW.cancel_requested_at IS NOT DISTINCT FROM OLD.cancel_requested_at
        AND NEW.revision / 50000 = OLD.revision / 50000
        AND NEW.revision / 50000 = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint / 50000
    THEN
        RETURN NULL;
    END IF;
    PERFORM pg_notify('user_tasks', coalesce(NEW.id, OLD.id) || ':' || coalesce(NEW.user_id, OLD.user_id));
    IF NEW.user_id <> OLD.user_id THEN
        PERFORM pg_notify('user_tasks', NEW.id || ':' || OLD.user_id);
    END IF;
    RETURN NULL;
END $$

-- Servers of version 2 that still run hold no locks: for a day all is announced, where there are tasks to follow.
DO $$
DECLARE
    until bigint := CASE WHEN EXISTS (SELECT FROM user_tasks)
        THEN extract(epoch FROM clock_timestamp() + interval '1 day') ELSE 0 END;
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

-- A server's role need not own the tables, and a mark for the metrics is no secret.
GRANT SELECT, UPDATE (counted_until) ON user_tasks_schema TO PUBLIC

UPDATE user_tasks_schema SET version = 3
