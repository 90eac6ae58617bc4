-- The database as version 2 of taskapi left it (pg_dump), to be upgraded by the tests.
CREATE FUNCTION user_tasks_announce() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE task record := coalesce(NEW, OLD);
BEGIN
    PERFORM pg_notify('user_tasks', task.id || ':' || task.user_id);
    IF OLD.user_id <> task.user_id THEN
        PERFORM pg_notify('user_tasks', OLD.id || ':' || OLD.user_id);
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION user_tasks_announce_if_late() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF floor(extract(epoch FROM clock_timestamp()) * 20) <> floor(extract(epoch FROM NEW.updated_at) * 20) THEN
        PERFORM pg_notify('user_tasks', NEW.id || ':' || NEW.user_id);
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION user_tasks_before_write() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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
END $$;
CREATE TABLE user_tasks (
    task_id text NOT NULL,
    user_id bigint NOT NULL,
    learning_path_id bigint,
    status text DEFAULT 'pending'::text NOT NULL,
    stage text,
    progress double precision DEFAULT 0 NOT NULL,
    total_items bigint,
    completed_items bigint DEFAULT 0 NOT NULL,
    result_message text,
    error_details text,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    id bigint NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    revision bigint DEFAULT 0 NOT NULL,
    lease_expires_at timestamp with time zone,
    kind text,
    attempt bigint DEFAULT 0 NOT NULL,
    cancel_requested_at timestamp with time zone,
    start_by timestamp with time zone,
    end_by timestamp with time zone,
    CONSTRAINT cancel_requested_at_is_a_moment CHECK (((cancel_requested_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (cancel_requested_at < '9999-12-31 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT completed_items_is_a_count CHECK ((completed_items >= 0)),
    CONSTRAINT created_at_is_a_moment CHECK (((created_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (created_at < '9999-12-31 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT end_by_is_a_moment CHECK (((end_by >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (end_by < '9999-12-31 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT ended_at_is_a_moment CHECK (((ended_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (ended_at < '9999-12-31 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT lease_expires_at_is_a_moment CHECK (((lease_expires_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (lease_expires_at < '9999-12-31 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT progress_is_a_percentage CHECK (((progress >= (0)::double precision) AND (progress <= (100)::double precision))),
    CONSTRAINT start_by_is_a_moment CHECK (((start_by >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (start_by < '9999-12-31 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT started_at_is_a_moment CHECK (((started_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (started_at < '9999-12-31 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT status_is_one_of_the_seven CHECK ((status = ANY (ARRAY['pending'::text, 'queued'::text, 'starting'::text, 'running'::text, 'completed'::text, 'failed'::text, 'timeout'::text]))),
    CONSTRAINT task_id_has_a_length CHECK (((length(task_id) >= 1) AND (length(task_id) <= 255))),
    CONSTRAINT total_items_is_a_count CHECK ((total_items >= 0)),
    CONSTRAINT updated_at_is_a_moment CHECK (((updated_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (updated_at < '9999-12-31 00:00:00+00'::timestamp with time zone)))
);
CREATE SEQUENCE user_tasks_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE user_tasks_id_seq OWNED BY user_tasks.id;
CREATE TABLE user_tasks_schema (
    version integer NOT NULL
);
ALTER TABLE ONLY user_tasks ALTER COLUMN id SET DEFAULT nextval('user_tasks_id_seq'::regclass);
INSERT INTO user_tasks VALUES ('waiting', 1, NULL, 'pending', NULL, 0, NULL, 0, NULL, NULL, NULL, NULL, 1, '2026-11-24 15:55:42.328638+00', '2026-11-24 15:55:42.329038+00', 1795535742329038, NULL, 'cards', 0, NULL, NULL, NULL);
INSERT INTO user_tasks VALUES ('failed', 2, NULL, 'failed', NULL, 0, NULL, 0, 'It''s over: ünïcode', 'Traceback …', '2026-11-24 15:55:42.365804+00', '2026-11-24 15:55:42.389275+00', 5, '2026-11-24 15:55:42.365764+00', '2026-11-24 15:55:42.389275+00', 1795535742389275, NULL, NULL, 2, NULL, NULL, NULL);
INSERT INTO user_tasks VALUES ('lively', 2, NULL, 'running', 'generating_cards', 12.5, NULL, 0, NULL, NULL, '2026-11-24 15:55:42.357255+00', NULL, 4, '2026-11-24 15:55:42.357218+00', '2026-11-24 15:55:42.396538+00', 1795535742396538, '2099-01-01 00:00:00+00', NULL, 1, '2026-11-24 09:00:00+00', NULL, '2099-01-02 00:00:00+00');
INSERT INTO user_tasks VALUES ('done', 1, 7, 'completed', NULL, 100, 50, 50, '50 cards created', NULL, '2026-11-24 15:55:42.373603+00', '2026-11-24 15:55:42.40548+00', 2, '2026-11-24 15:55:42.341362+00', '2026-11-24 15:55:42.40548+00', 1795535742405480, NULL, 'cards', 1, NULL, NULL, NULL);
INSERT INTO user_tasks_schema VALUES (2);
SELECT pg_catalog.setval('user_tasks_id_seq', 5, true);
ALTER TABLE ONLY user_tasks
    ADD CONSTRAINT user_tasks_pkey PRIMARY KEY (id);
ALTER TABLE ONLY user_tasks
    ADD CONSTRAINT user_tasks_task_id_key UNIQUE (task_id);
CREATE INDEX ix_user_tasks_active ON user_tasks USING btree (user_id, created_at DESC, id DESC) WHERE (status = ANY (ARRAY['pending'::text, 'queued'::text, 'starting'::text, 'running'::text]));
CREATE INDEX ix_user_tasks_ended ON user_tasks USING btree (kind, ended_at) WHERE (status = ANY (ARRAY['completed'::text, 'failed'::text, 'timeout'::text]));
CREATE INDEX ix_user_tasks_learning_path ON user_tasks USING btree (learning_path_id, created_at DESC, id DESC);
CREATE INDEX ix_user_tasks_start_by ON user_tasks USING btree (start_by) WHERE ((status = ANY (ARRAY['pending'::text, 'queued'::text])) AND (start_by IS NOT NULL));
CREATE INDEX ix_user_tasks_started ON user_tasks USING btree (id) WHERE (status = ANY (ARRAY['starting'::text, 'running'::text]));
CREATE INDEX ix_user_tasks_user ON user_tasks USING btree (user_id, created_at DESC, id DESC);
CREATE INDEX ix_user_tasks_waiting ON user_tasks USING btree (kind, created_at, id) WHERE (status = ANY (ARRAY['pending'::text, 'queued'::text]));
CREATE TRIGGER user_tasks_announce_change AFTER UPDATE OF task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items, result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision, cancel_requested_at ON user_tasks FOR EACH ROW WHEN ((NOT ((new.status = old.status) AND (new.user_id = old.user_id) AND (NOT (new.cancel_requested_at IS DISTINCT FROM old.cancel_requested_at)) AND (floor((EXTRACT(epoch FROM new.updated_at) * (20)::numeric)) = floor((EXTRACT(epoch FROM old.updated_at) * (20)::numeric)))))) EXECUTE FUNCTION user_tasks_announce();
CREATE CONSTRAINT TRIGGER user_tasks_announce_late AFTER UPDATE OF task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items, result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision, cancel_requested_at ON user_tasks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((new.status = old.status) AND (new.user_id = old.user_id) AND (NOT (new.cancel_requested_at IS DISTINCT FROM old.cancel_requested_at)) AND (floor((EXTRACT(epoch FROM new.updated_at) * (20)::numeric)) = floor((EXTRACT(epoch FROM old.updated_at) * (20)::numeric))))) EXECUTE FUNCTION user_tasks_announce_if_late();
CREATE TRIGGER user_tasks_announce_row AFTER INSERT OR DELETE ON user_tasks FOR EACH ROW EXECUTE FUNCTION user_tasks_announce();
CREATE TRIGGER user_tasks_before_write BEFORE INSERT OR UPDATE OF task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items, result_message, error_details, started_at, ended_at, id, created_at, updated_at, revision, cancel_requested_at ON user_tasks FOR EACH ROW EXECUTE FUNCTION user_tasks_before_write();
GRANT SELECT ON TABLE user_tasks_schema TO PUBLIC;
