-- Statements are parted by empty lines.
CREATE SEQUENCE user_tasks_revision_seq

-- The checks of moments refuse what could be written but not read back: infinity, years outside 1 to 9999.
CREATE TABLE user_tasks (
    task_id text NOT NULL UNIQUE,
    user_id bigint NOT NULL,
    learning_path_id bigint,
    status text DEFAULT 'pending' NOT NULL,
    stage text,
    progress double precision DEFAULT 0 NOT NULL,
    total_items bigint,
    completed_items bigint DEFAULT 0 NOT NULL,
    result_message text,
    error_details text,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    id bigserial PRIMARY KEY,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    revision bigint DEFAULT 0 NOT NULL,
    lease_expires_at timestamp with time zone,
    CONSTRAINT task_id_has_a_length CHECK (length(task_id) BETWEEN 1 AND 255),
    CONSTRAINT status_is_one_of_the_seven CHECK (
        status IN ('pending', 'queued', 'starting', 'running', 'completed', 'failed', 'timeout')),
    CONSTRAINT progress_is_a_percentage CHECK (progress BETWEEN 0 AND 100),
    CONSTRAINT total_items_is_a_count CHECK (total_items >= 0),
    CONSTRAINT completed_items_is_a_count CHECK (completed_items >= 0),
    CONSTRAINT started_at_is_a_moment CHECK (started_at >= '0001-01-01' AND started_at < '9999-12-31'),
    CONSTRAINT ended_at_is_a_moment CHECK (ended_at >= '0001-01-01' AND ended_at < '9999-12-31'),
    CONSTRAINT created_at_is_a_moment CHECK (created_at >= '0001-01-01' AND created_at < '9999-12-31'),
    CONSTRAINT updated_at_is_a_moment CHECK (updated_at >= '0001-01-01' AND updated_at < '9999-12-31'),
    CONSTRAINT lease_expires_at_is_a_moment CHECK (
        lease_expires_at >= '0001-01-01' AND lease_expires_at < '9999-12-31')
)

CREATE INDEX ix_user_tasks_user ON user_tasks (user_id, created_at DESC, id DESC)

CREATE INDEX ix_user_tasks_learning_path ON user_tasks (learning_path_id, created_at DESC, id DESC)

-- Nothing that changes with every report is indexed: that keeps PostgreSQL's cheap in-page (HOT) updates.
CREATE INDEX ix_user_tasks_active ON user_tasks (user_id)
WHERE status IN ('pending', 'queued', 'starting', 'running')

-- Drawn under the row's lock, so that a row's revision only grows. The schema is the table's own: the writer may have
-- any search_path.
CREATE FUNCTION user_tasks_before_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := nextval((quote_ident(TG_TABLE_SCHEMA) || '.user_tasks_revision_seq')::regclass);
    NEW.updated_at := clock_timestamp();
    IF NEW.status IN ('starting', 'running') THEN
        NEW.started_at := coalesce(NEW.started_at, NEW.updated_at);
    ELSIF NEW.status IN ('completed', 'failed', 'timeout') THEN
        NEW.ended_at := coalesce(NEW.ended_at, NEW.updated_at);
    END IF;
    RETURN NEW;
END $$

-- A key, not the row: a payload of 8000 bytes would fail the writer.
CREATE FUNCTION user_tasks_announce() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE task record := coalesce(NEW, OLD);
BEGIN
    PERFORM pg_notify('user_tasks', task.id || ':' || task.user_id);
    RETURN NULL;
END $$

CREATE FUNCTION user_tasks_announce_if_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF floor(extract(epoch FROM clock_timestamp()) * 20) <> floor(extract(epoch FROM NEW.updated_at) * 20) THEN
        PERFORM pg_notify('user_tasks', NEW.id || ':' || NEW.user_id);
    END IF;
    RETURN NULL;
END $$

CREATE TRIGGER user_tasks_before_write BEFORE INSERT OR UPDATE OF
    task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items,
    result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision
ON user_tasks FOR EACH ROW EXECUTE FUNCTION user_tasks_before_write()

CREATE TRIGGER user_tasks_announce_row AFTER INSERT OR DELETE ON user_tasks
FOR EACH ROW EXECUTE FUNCTION user_tasks_announce()

-- Commits that notify wait for one lock of the whole database, and 32 writers that announced every change fell to a
-- quarter of their rate. So of a task's changes within a window of 50 ms only the first is announced, and every
-- listener reads such a task again a little later. Starts, ends and other owners are announced always.
CREATE TRIGGER user_tasks_announce_change AFTER UPDATE OF
    task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items,
    result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision
ON user_tasks FOR EACH ROW WHEN (NOT (
    NEW.status = OLD.status AND NEW.user_id = OLD.user_id
    AND floor(extract(epoch FROM NEW.updated_at) * 20) = floor(extract(epoch FROM OLD.updated_at) * 20)))
EXECUTE FUNCTION user_tasks_announce()

-- Looks again at the commit: a transaction that takes its time is not one that the listeners look after.
CREATE CONSTRAINT TRIGGER user_tasks_announce_late AFTER UPDATE OF
    task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items,
    result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision
ON user_tasks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
    NEW.status = OLD.status AND NEW.user_id = OLD.user_id
    AND floor(extract(epoch FROM NEW.updated_at) * 20) = floor(extract(epoch FROM OLD.updated_at) * 20))
EXECUTE FUNCTION user_tasks_announce_if_late()
