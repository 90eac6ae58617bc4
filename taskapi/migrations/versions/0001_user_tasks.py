"""The table `user_tasks`, and the triggers through which no writer can forget to be seen.

Whoever writes the row, in whatever language: the database draws `revision` from one counter, sets `updated_at`
by its own clock, fills in `started_at` and `ended_at` where the status calls for them, and on PostgreSQL
announces the change. Only `lease_expires_at`, a sign of life that no client sees, moves nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

STATUSES = "'pending', 'queued', 'starting', 'running', 'completed', 'failed', 'timeout'"
ACTIVE = "status IN ('pending', 'queued', 'starting', 'running')"
# Every column whose change a client may see.
VISIBLE = """task_id, user_id, learning_path_id, status, stage, progress, total_items, completed_items,
    result_message, error_details, started_at, ended_at, id, created_at, updated_at"""


def upgrade():
    sqlite = op.get_bind().dialect.name == "sqlite"
    if sqlite:
        op.execute("CREATE TABLE user_tasks_revision (value INTEGER NOT NULL) STRICT")
        op.execute("INSERT INTO user_tasks_revision VALUES (0)")
    else:
        op.execute("CREATE SEQUENCE user_tasks_revision_seq")
    create_table(sqlite)
    create_indexes(sqlite)
    for statement in SQLITE_TRIGGERS if sqlite else POSTGRESQL_TRIGGERS:
        op.execute(statement)


def downgrade():
    op.drop_table("user_tasks")
    if op.get_bind().dialect.name == "sqlite":
        op.drop_table("user_tasks_revision")
    else:
        op.execute("DROP FUNCTION user_tasks_before_write, user_tasks_announce, user_tasks_announce_if_late")
        op.execute("DROP SEQUENCE user_tasks_revision_seq")


def create_table(sqlite):
    integer = sa.Integer() if sqlite else sa.BigInteger()
    number = sa.REAL() if sqlite else sa.Double()
    moment = sa.Text() if sqlite else sa.DateTime(timezone=True)
    now = sa.text("(strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))" if sqlite else "clock_timestamp()")
    op.create_table(
        "user_tasks",
        sa.Column("task_id", sa.Text, nullable=False, unique=True),
        sa.Column("user_id", integer, nullable=False),
        sa.Column("learning_path_id", integer),
        sa.Column("status", sa.Text, nullable=False, server_default="pending"),
        sa.Column("stage", sa.Text),
        sa.Column("progress", number, nullable=False, server_default=sa.text("0")),
        sa.Column("total_items", integer),
        sa.Column("completed_items", integer, nullable=False, server_default=sa.text("0")),
        sa.Column("result_message", sa.Text),
        sa.Column("error_details", sa.Text),
        sa.Column("started_at", moment),
        sa.Column("ended_at", moment),
        sa.Column("id", integer, primary_key=True),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.Column("updated_at", moment, nullable=False, server_default=now),
        sa.Column("revision", integer, nullable=False, server_default=sa.text("0")),
        sa.Column("lease_expires_at", moment),
        sa.CheckConstraint("length(task_id) BETWEEN 1 AND 255", "task_id_has_a_length"),
        sa.CheckConstraint(f"status IN ({STATUSES})", "status_is_one_of_the_seven"),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", "progress_is_a_percentage"),
        sa.CheckConstraint("total_items >= 0", "total_items_is_a_count"),
        sa.CheckConstraint("completed_items >= 0", "completed_items_is_a_count"),
        *moments(sqlite),
        sqlite_strict=True,
        # A number that comes again after a delete would show one user's task to another one's open stream.
        sqlite_autoincrement=True,
    )


def moments(sqlite):
    """Refuse what could be written but not read back: no date at all, infinity, years outside 1 to 9999.

    (SQLite's triggers then write what is left in one form, RFC 3339 in UTC.)
    """
    for column in ("started_at", "ended_at", "created_at", "updated_at", "lease_expires_at"):
        check = f"{column} >= '0001-01-01' AND {column} < '9999-12-31'"
        if sqlite:
            check += f" AND {column} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'"
            check += f" AND julianday({column}) IS NOT NULL"
        yield sa.CheckConstraint(f"{column} IS NULL OR ({check})", f"{column}_is_a_moment")


def create_indexes(sqlite):
    newest = [sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_index("ix_user_tasks_user", "user_tasks", ["user_id", *newest])
    op.create_index("ix_user_tasks_learning_path", "user_tasks", ["learning_path_id", *newest])
    active = sa.text(ACTIVE)
    op.create_index("ix_user_tasks_active", "user_tasks", ["user_id"], sqlite_where=active, postgresql_where=active)
    if sqlite:
        # How the feed finds what changed. PostgreSQL's is told the keys, and keeps its cheap in-page (HOT)
        # updates because nothing that changes with every report is indexed.
        op.create_index("ix_user_tasks_revision", "user_tasks", ["revision"])


def rfc3339(moment):
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {moment})"


# The row after a write, in SQLite's AFTER triggers.
SQLITE_STAMP = f"""
    UPDATE user_tasks_revision SET value = value + 1;
    UPDATE user_tasks SET
        revision = (SELECT value FROM user_tasks_revision),
        created_at = {rfc3339("created_at")},
        started_at = CASE
            WHEN status IN ('starting', 'running') THEN coalesce({rfc3339("started_at")}, {rfc3339("'now'")})
            ELSE {rfc3339("started_at")} END,
        ended_at = CASE
            WHEN {ACTIVE} THEN {rfc3339("ended_at")}
            ELSE coalesce({rfc3339("ended_at")}, {rfc3339("'now'")}) END,
        updated_at = {rfc3339("'now'")}
    WHERE id = NEW.id;
"""

SQLITE_TRIGGERS = [
    f"CREATE TRIGGER user_tasks_after_insert AFTER INSERT ON user_tasks BEGIN {SQLITE_STAMP} END",
    # The WHEN keeps the trigger's own update from firing it again where `recursive_triggers` is on. A revision that
    # a writer sets is replaced like on PostgreSQL: left in place, it would hide the row's and others' next changes.
    f"""CREATE TRIGGER user_tasks_after_update AFTER UPDATE OF {VISIBLE}, revision ON user_tasks
    WHEN NEW.revision = OLD.revision OR NEW.revision <> (SELECT value FROM user_tasks_revision)
    BEGIN {SQLITE_STAMP} END""",
]


def window(moment):
    return f"floor(extract(epoch FROM {moment}) * 20)"


# Commits that notify wait for one lock of the whole database, and 32 writers that announced every change fell to a
# quarter of their rate. So of a task's changes within a window of 50 ms only the first is announced, and every
# listener reads such a task a second time, when the window is over. Starts, ends and other owners are announced always.
MINOR = f"""NEW.status = OLD.status AND NEW.user_id = OLD.user_id
    AND {window("NEW.updated_at")} = {window("OLD.updated_at")}"""

POSTGRESQL_TRIGGERS = [
    # Drawn under the row's lock, so that a row's revision only grows. The schema is the table's own: the writer
    # may have any search_path.
    """CREATE FUNCTION user_tasks_before_write() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.revision := nextval(format('%I.user_tasks_revision_seq', TG_TABLE_SCHEMA)::regclass);
        NEW.updated_at := clock_timestamp();
        IF NEW.status IN ('starting', 'running') THEN
            NEW.started_at := coalesce(NEW.started_at, NEW.updated_at);
        ELSIF NEW.status IN ('completed', 'failed', 'timeout') THEN
            NEW.ended_at := coalesce(NEW.ended_at, NEW.updated_at);
        END IF;
        RETURN NEW;
    END $$""",
    # A key, not the row: a payload of 8000 bytes would fail the writer.
    """CREATE FUNCTION user_tasks_announce() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE task record := coalesce(NEW, OLD);
    BEGIN
        PERFORM pg_notify('user_tasks', task.id || ':' || task.user_id);
        RETURN NULL;
    END $$""",
    f"""CREATE FUNCTION user_tasks_announce_if_late() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF {window("clock_timestamp()")} <> {window("NEW.updated_at")} THEN
            PERFORM pg_notify('user_tasks', NEW.id || ':' || NEW.user_id);
        END IF;
        RETURN NULL;
    END $$""",
    f"""CREATE TRIGGER user_tasks_before_write BEFORE INSERT OR UPDATE OF {VISIBLE}, revision ON user_tasks
    FOR EACH ROW EXECUTE FUNCTION user_tasks_before_write()""",
    """CREATE TRIGGER user_tasks_announce_row AFTER INSERT OR DELETE ON user_tasks
    FOR EACH ROW EXECUTE FUNCTION user_tasks_announce()""",
    f"""CREATE TRIGGER user_tasks_announce_change AFTER UPDATE OF {VISIBLE}, revision ON user_tasks
    FOR EACH ROW WHEN (NOT ({MINOR})) EXECUTE FUNCTION user_tasks_announce()""",
    # Looks again at the commit: a transaction that takes its time is not one that the listeners look after.
    f"""CREATE CONSTRAINT TRIGGER user_tasks_announce_late AFTER UPDATE OF {VISIBLE}, revision ON user_tasks
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ({MINOR}) EXECUTE FUNCTION user_tasks_announce_if_late()""",
]
