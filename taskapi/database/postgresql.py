"""Everything that PostgreSQL does in its own way: connections, time limits, statements."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .. import extras
from .address import AnyUrl, Url
from .dialect import Dialect
from .statements import PARAMETER, SHOWN, SNAPSHOT, Statements

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

# The triggers' NOTIFY channel; a payload is "<id>:<user_id>".
CHANNEL = "user_tasks"
# A notification that names no task, for the feed to see that notifications arrive.
CANARY = f"SELECT pg_notify('{CHANNEL}', '')"
# The locks that tell the table's trigger what this session follows; a writer that looks for one has it for a moment.
FOLLOW = """
    SELECT pg_advisory_lock_shared(hashtext(nspname), key)
    FROM unnest(CAST(%(keys)s AS integer[])) AS key, pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE pg_class.oid = 'user_tasks'::regclass"""
UNFOLLOW = FOLLOW.replace("pg_advisory_lock_shared", "pg_advisory_unlock_shared")

# A table, a column.
UNDEFINED = ("42P01", "42703")
# The classes of errors (PostgreSQL, appendix A) whose messages name roles, tables and resources, but no values.
TOLD = ("08", "25", "28", "3D", "3F", "42", "53", "55", "57", "58")
# One of several servers, in the query of a URL.
HOST_AND_PORT = re.compile(r"[a-zA-Z0-9.-]+:[0-9]+")
# A cut network shows as an error within seconds, not after the kernel's many minutes.
OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "taskapi",
    # Whatever the database's own encoding is: by default that, so that SQL_ASCII gives bytes for text.
    "client_encoding": "utf8",
    # Behind a transaction pooler the next statement may reach a session that knows nothing of it.
    "prepare_threshold": None,
}
# What libpq says before the reason.
CONNECTING = re.compile(r"^connection (failed|is bad): (connection to server .*? failed: )?(FATAL: +)?")

# Before planning, PostgreSQL puts in what is asked for: what is not wanted falls away, and statuses that an index is
# made for find it.
EVERYBODYS = f"""
        SELECT {SNAPSHOT} FROM (
            SELECT * FROM user_tasks
            WHERE status = ANY(:statuses)
                AND (CAST(:kind AS text) IS NULL OR kind = :kind)
                AND (CAST(:path AS bigint) IS NULL OR learning_path_id = :path)
            ORDER BY created_at DESC, id DESC LIMIT :depth
        ) AS task
        WHERE CAST(:text AS text) IS NULL
            OR strpos(lower({SHOWN} COLLATE "C"), replace(lower(CAST(:text AS text) COLLATE "C"), '_', ' ')) > 0
        ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :skip"""

REPORT = """
        UPDATE user_tasks SET
            status = coalesce(:status, status),
            stage = coalesce(:stage, stage),
            result_message = coalesce(:result_message, result_message),
            error_details = coalesce(:error_details, error_details),
            attempt = CASE
                WHEN CAST(:share AS double precision) IS NULL THEN attempt ELSE -CAST(:attempt AS bigint) END,
            total_items = CASE
                WHEN attempt < 0 AND CAST(:share AS double precision) IS NULL THEN total_items
                ELSE nullif(coalesce(CAST(:total_items AS bigint), total_items), -1) END,
            completed_items = greatest(
                0, coalesce(CAST(:completed_items AS bigint), completed_items) + CAST(:advance AS bigint)),
            progress = CASE
                WHEN CAST(:progress AS double precision) IS NOT NULL THEN CAST(:progress AS double precision)
                WHEN CAST(:share AS double precision) IS NOT NULL
                THEN greatest(progress, least(100.0, CAST(:begins AS double precision)
                    + CAST(:share AS double precision) * coalesce(least(1.0,
                    1.0 * (coalesce(CAST(:completed_items AS bigint), completed_items) + CAST(:advance AS bigint))
                    / nullif(nullif(coalesce(CAST(:total_items AS bigint), total_items), -1), 0)), 0)))
                WHEN attempt < 0 THEN progress
                WHEN coalesce(CAST(:total_items AS bigint), total_items) > 0
                THEN greatest(progress, least(100.0,
                    100.0 * (coalesce(CAST(:completed_items AS bigint), completed_items) + CAST(:advance AS bigint))
                    / coalesce(CAST(:total_items AS bigint), total_items)))
                ELSE progress END,
            lease_expires_at = clock_timestamp() + make_interval(secs => CAST(:lease AS double precision))
        WHERE id = :id AND task_id = :task_id AND abs(attempt) = :attempt AND status IN ('starting', 'running')
        RETURNING status IN ('starting', 'running') AND cancel_requested_at IS NOT NULL"""

STATEMENTS = Statements(
    tasks_of=f"""
        SELECT {SNAPSHOT} FROM user_tasks
        WHERE user_id = :user_id AND status = ANY(:statuses)
            AND (CAST(:kind AS text) IS NULL OR kind = :kind)
            AND (CAST(:path AS bigint) IS NULL OR learning_path_id = :path)
            AND (CAST(:text AS text) IS NULL
                OR strpos(lower({SHOWN} COLLATE "C"), replace(lower(CAST(:text AS text) COLLATE "C"), '_', ' ')) > 0)
        ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :skip""",
    tasks=EVERYBODYS,
    tasks_active=EVERYBODYS,
    tasks_failed=EVERYBODYS,
    active="""
        SELECT kind, status, count(*), min(created_at),
            extract(epoch FROM clock_timestamp() - min(created_at))::double precision,
            count(*) FILTER (WHERE status IN ('starting', 'running') AND lease_expires_at < clock_timestamp())
        FROM user_tasks
        WHERE status IN ('pending', 'queued', 'starting', 'running')
        GROUP BY kind, status
        ORDER BY count(*) DESC""",
    tasks_named=f"""
        SELECT {SNAPSHOT} FROM user_tasks WHERE task_id = ANY(:task_ids)""",
    # Without a kind, an index has the order only where the order names it.
    last_of_kinds="""
        SELECT kinds.kind, task.* FROM unnest(CAST(:kinds AS text[])) AS kinds (kind) CROSS JOIN LATERAL (
            SELECT status, result_message IS NOT DISTINCT FROM 'Cancelled.',
                extract(epoch FROM started_at - created_at)::double precision,
                extract(epoch FROM ended_at - started_at)::double precision
            FROM user_tasks
            WHERE kind = kinds.kind AND status IN ('completed', 'failed', 'timeout')
            ORDER BY ended_at DESC LIMIT :most
        ) AS task
        UNION ALL (
            SELECT NULL, status, result_message IS NOT DISTINCT FROM 'Cancelled.',
                extract(epoch FROM started_at - created_at)::double precision,
                extract(epoch FROM ended_at - started_at)::double precision
            FROM user_tasks
            WHERE kind IS NULL AND status IN ('completed', 'failed', 'timeout')
            ORDER BY kind DESC, ended_at DESC LIMIT :most
        )""",
    failure_count="""
        SELECT count(*) FROM user_tasks
        WHERE status IN ('failed', 'timeout') AND result_message IS DISTINCT FROM 'Cancelled.'
            AND ended_at >= statement_timestamp() - make_interval(hours => CAST(:hours AS integer))""",
    failures="""
        SELECT task_id, kind, left(result_message, :length),
            CASE WHEN result_message IS NULL THEN right(error_details, :length) END, ended_at
        FROM user_tasks
        WHERE status IN ('failed', 'timeout') AND result_message IS DISTINCT FROM 'Cancelled.'
            AND ended_at >= statement_timestamp() - make_interval(hours => CAST(:hours AS integer))
        ORDER BY ended_at DESC LIMIT :most""",
    is_uncounted="""
        SELECT 1 FROM user_tasks_schema
        WHERE counted_until < statement_timestamp() - interval '10 seconds' AND EXISTS (
            SELECT FROM user_tasks
            WHERE status IN ('completed', 'failed', 'timeout') AND ended_at > counted_until)""",
    count_from="""
        SELECT counted_until, greatest(counted_until, statement_timestamp() - interval '1 hour'),
            statement_timestamp() - interval '5 seconds'
        FROM user_tasks_schema""",
    ended_between="""
        SELECT kind, status, abs(attempt),
            extract(epoch FROM started_at - created_at)::double precision,
            extract(epoch FROM ended_at - started_at)::double precision
        FROM user_tasks
        WHERE status IN ('completed', 'failed', 'timeout') AND ended_at > :since AND ended_at <= :until""",
    news=f"""
        SELECT {SNAPSHOT}, known_id
        FROM unnest(CAST(:ids AS bigint[]), CAST(:revisions AS bigint[])) AS known (known_id, known_revision)
        LEFT JOIN user_tasks ON id = known_id
        WHERE revision IS DISTINCT FROM known_revision
        ORDER BY revision""",
    keys_of_ids="""
        SELECT id, user_id, revision FROM user_tasks WHERE id = ANY(:ids)""",
    to_stop="""
        SELECT id, task_id, abs(attempt), status IN ('starting', 'running') FROM user_tasks
        WHERE id = ANY(:ids) AND (cancel_requested_at IS NOT NULL OR status NOT IN ('starting', 'running'))""",
    cancel="""
        UPDATE user_tasks SET
            cancel_requested_at = clock_timestamp(),
            status = CASE WHEN status IN ('pending', 'queued') THEN 'failed' ELSE status END,
            result_message = CASE WHEN status IN ('pending', 'queued') THEN 'Cancelled.' ELSE result_message END,
            error_details = CASE WHEN status IN ('starting', 'running') THEN error_details END
        WHERE id = :id AND task_id = :task_id AND user_id = :user_id
            AND status IN ('pending', 'queued', 'starting', 'running')
            AND (cancel_requested_at IS NULL OR status IN ('pending', 'queued'))
        RETURNING id""",
    keys_of_users="""
        SELECT id, user_id, revision FROM user_tasks
        WHERE user_id = ANY(:user_ids)
            AND status IN ('pending', 'queued', 'starting', 'running') AND revision > :revision
        UNION
        SELECT id, user_id, revision FROM user_tasks
        WHERE user_id = ANY(:user_ids)
            AND created_at > to_timestamp(:revision / 1000000) AND revision > :revision
        ORDER BY revision DESC LIMIT :most""",
    runs="""
        (
            SELECT extract(epoch FROM created_at)::double precision,
                extract(epoch FROM coalesce(started_at, ended_at))::double precision,
                extract(epoch FROM ended_at)::double precision
            FROM (
                SELECT created_at, started_at, ended_at, status FROM user_tasks
                WHERE kind = :kind AND status IN ('completed', 'failed', 'timeout')
                ORDER BY ended_at DESC LIMIT 10 * :most
            ) AS ended
            WHERE started_at IS NOT NULL OR status = 'completed'
            ORDER BY ended_at DESC LIMIT :most
        )
        UNION ALL
        (
            SELECT extract(epoch FROM created_at)::double precision,
                extract(epoch FROM started_at)::double precision,
                NULL
            FROM user_tasks
            WHERE kind = :kind AND status IN ('starting', 'running')
            ORDER BY started_at DESC LIMIT :most
        )""",
    standings="""
        SELECT id, kind, status, progress / 100,
            extract(epoch FROM started_at)::double precision,
            extract(epoch FROM clock_timestamp())::double precision
        FROM user_tasks WHERE id = ANY(:ids)""",
    place="""
        SELECT count(*), extract(epoch FROM min(other.created_at))::double precision
        FROM user_tasks AS mine JOIN user_tasks AS other ON other.kind = mine.kind
            AND (other.created_at, other.id) <= (mine.created_at, mine.id)
        WHERE mine.id = :id AND other.status IN ('pending', 'queued')""",
    line="""
        SELECT id, extract(epoch FROM created_at)::double precision FROM user_tasks
        WHERE kind = :kind AND status IN ('pending', 'queued')
        ORDER BY created_at, id LIMIT :most""",
    clock="""
        SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint""",
    encoding="""
        SHOW server_encoding""",
    insert="""
        INSERT INTO user_tasks
            (task_id, user_id, kind, learning_path_id, status, stage, total_items, traceparent, start_by, end_by)
        VALUES (
            :task_id, :user_id, :kind, :learning_path_id, :status, :stage, :total_items, :traceparent,
            statement_timestamp() + make_interval(secs => coalesce(
                CAST(:start_within AS double precision), CAST(:finish_within AS double precision))),
            statement_timestamp() + make_interval(secs => CAST(:finish_within AS double precision)))""",
    # What is no longer to run: why, and within how many seconds it was to. An index needs a clock that stands still.
    overdue_started="""
        SELECT id, task_id, abs(attempt), status, lease_expires_at,
            CASE
                WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN end_by < statement_timestamp() THEN 'unfinished'
                ELSE 'silent' END,
            CAST(extract(epoch FROM end_by - created_at) AS double precision)
        FROM user_tasks
        WHERE status IN ('starting', 'running') AND (
            lease_expires_at < statement_timestamp()
            OR end_by < statement_timestamp()
            OR cancel_requested_at
                < statement_timestamp() - make_interval(secs => CAST(:cancel_within AS double precision)))
        LIMIT :batch""",
    overdue_waiting="""
        SELECT id, task_id, abs(attempt), status, lease_expires_at,
            CASE WHEN end_by < statement_timestamp() THEN 'unfinished' ELSE 'unstarted' END,
            CAST(extract(epoch FROM
                CASE WHEN end_by < statement_timestamp() THEN end_by ELSE start_by END - created_at
            ) AS double precision)
        FROM user_tasks
        WHERE status IN ('pending', 'queued') AND start_by < statement_timestamp()
        LIMIT :batch""",
    waiting_too_long="""
        WITH RECURSIVE kinds AS (
            (SELECT kind FROM user_tasks WHERE status IN ('pending', 'queued') ORDER BY kind LIMIT 1)
            UNION ALL
            SELECT (
                SELECT kind FROM user_tasks
                WHERE status IN ('pending', 'queued') AND kind > kinds.kind ORDER BY kind LIMIT 1)
            FROM kinds WHERE kinds.kind IS NOT NULL
        )
        SELECT task.* FROM kinds CROSS JOIN LATERAL (
            SELECT id, task_id, abs(attempt), status, lease_expires_at, 'unstarted',
                CAST(:start_within AS double precision)
            FROM user_tasks
            WHERE status IN ('pending', 'queued') AND kind = kinds.kind
                AND created_at < statement_timestamp() - make_interval(secs => CAST(:start_within AS double precision))
                AND CASE WHEN attempt = 0 THEN start_by IS NULL OR start_by = end_by ELSE updated_at
                    < statement_timestamp() - make_interval(secs => CAST(:start_within AS double precision)) END
            LIMIT :batch
        ) AS task
        UNION ALL (
            SELECT id, task_id, abs(attempt), status, lease_expires_at, 'unstarted',
                CAST(:start_within AS double precision)
            FROM user_tasks
            WHERE status IN ('pending', 'queued') AND kind IS NULL
                AND created_at < statement_timestamp() - make_interval(secs => CAST(:start_within AS double precision))
                AND CASE WHEN attempt = 0 THEN start_by IS NULL OR start_by = end_by ELSE updated_at
                    < statement_timestamp() - make_interval(secs => CAST(:start_within AS double precision)) END
            LIMIT :batch)
        LIMIT :batch""",
    refused="""
        SELECT id, task_id, abs(attempt), status, lease_expires_at,
            CASE
                WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN end_by <= statement_timestamp() THEN 'unfinished'
                ELSE 'unstarted' END,
            CAST(extract(epoch FROM
                CASE WHEN end_by <= statement_timestamp() THEN end_by ELSE start_by END - created_at
            ) AS double precision)
        FROM user_tasks
        WHERE task_id = :task_id AND status IN ('pending', 'queued', 'starting', 'running') AND (
            cancel_requested_at IS NOT NULL
            OR end_by <= statement_timestamp()
            OR (start_by <= statement_timestamp() AND status IN ('pending', 'queued')))""",
    close="""
        UPDATE user_tasks SET status = :closed_as, result_message = :message
        WHERE id = :id AND task_id = :task_id AND abs(attempt) = :attempt AND status = :status
            AND lease_expires_at IS NOT DISTINCT FROM CAST(:lease_expires_at AS timestamp with time zone)
        RETURNING id""",
    ended_before="""
        SELECT id FROM user_tasks
        WHERE id > :last_id AND status NOT IN ('pending', 'queued', 'starting', 'running')
            AND ended_at < clock_timestamp() - make_interval(secs => CAST(:seconds AS double precision))
        ORDER BY id LIMIT :batch""",
    claim="""
        UPDATE user_tasks SET
            status = 'starting',
            attempt = abs(attempt) + 1,
            stage = CASE WHEN attempt = 0 THEN stage END,
            progress = 0,
            completed_items = 0,
            result_message = NULL,
            error_details = NULL,
            started_at = NULL,
            lease_expires_at = clock_timestamp() + make_interval(secs => CAST(:lease AS double precision))
        WHERE task_id = :task_id AND status IN ('pending', 'queued', 'starting', 'running')
            AND cancel_requested_at IS NULL
            AND (end_by IS NULL OR end_by > statement_timestamp())
            AND (start_by IS NULL OR start_by > statement_timestamp() OR status IN ('starting', 'running'))
        RETURNING id, task_id, attempt, status, total_items, false, NULL, kind, traceparent""",
    report=REPORT,
    report_of_status=REPORT,
    positions="""
        SELECT id, completed_items, total_items, progress FROM user_tasks WHERE id = ANY(:ids)""",
    renew="""
        UPDATE user_tasks SET
            lease_expires_at = clock_timestamp() + make_interval(secs => CAST(:lease AS double precision))
        WHERE id = :id AND task_id = :task_id AND abs(attempt) = :attempt AND status IN ('starting', 'running')
        RETURNING status IN ('starting', 'running') AND cancel_requested_at IS NOT NULL""",
    delete="""
        DELETE FROM user_tasks WHERE id = ANY(:ids) RETURNING id""",
)


class Postgresql(Dialect):
    """A server, through psycopg 3."""

    name = "postgresql"
    drivername = "postgresql+psycopg"
    is_embedded = False
    statements = STATEMENTS
    before_upgrade = ("SELECT pg_advisory_xact_lock(hashtext('user_tasks'))",)
    # A server's role need not own the tables: it was granted `user_tasks`, when there was no other one. And it is no
    # secret.
    after_upgrade = ("GRANT SELECT ON user_tasks_schema TO PUBLIC",)

    def insist_on_driver(self) -> None:
        """psycopg 3: an application's own engine may have another one."""
        extras.need("postgresql", "PostgreSQL")

    @property
    def driver(self) -> Any:
        """psycopg, which gevent finds patched if it is imported late enough."""
        import psycopg  # which may not be there

        return psycopg

    def load(self) -> None:
        """psycopg, and our connections, which are of its kind."""
        from . import exchange  # noqa: F401

    def engine_options(self, _url: Url) -> dict[str, Any]:
        """Connections as ours are."""
        return {"connect_args": OPTIONS, "pool_timeout": 10}

    def prepare(self, engine: Engine) -> None:
        """Let every connection speak of moments in UTC."""
        from sqlalchemy import event

        event.listen(engine, "connect", set_up)

    def open_reader(self, url: Url) -> Any:
        """A connection whose answers are not waited for without end."""
        from .exchange import AskingConnection  # psycopg may not be there

        return _connect(AskingConnection, url)

    def open_changer(self, url: Url) -> Any:
        """One that waits for its answers: a row may be locked for long."""
        return _connect(self.driver.Connection, url)

    def change(self, connection: Any, changes: Sequence[tuple[str, Mapping[str, Any]]]) -> list[list[tuple[Any, ...]]]:
        """Waits for the rows' locks."""
        if len(changes) == 1:  # which is a transaction by itself
            return [_answer(connection, *changes[0])]
        with connection.transaction():
            return [_answer(connection, *change) for change in changes]

    def is_current(self, _connection: Any) -> bool:
        """Always: one that has lost its server says so itself."""
        return True

    def is_lost(self, connection: Any) -> bool:
        """As psycopg knows by then."""
        return bool(connection.closed)

    def is_in_transaction(self, _connection: Any) -> bool:
        """Always: a savepoint begins none."""
        return True

    def statement_for_driver(self, statement: str) -> str:
        """With parameters as psycopg wants them: `%(name)s`."""
        return _pyformat(statement)

    def list_parameter(self, values: Iterable[int | str | None]) -> list[int | str | None]:
        """As an array."""
        return list(values)

    def known_parameters(self, known: Mapping[int, int]) -> dict[str, Any]:
        """As two arrays, written out: psycopg takes longer to do that than the database to read the rows."""
        return {"ids": _array(known), "revisions": _array(known.values())}

    def is_outdated(self, error: Exception) -> bool:
        """By its code."""
        return getattr(getattr(error, "orig", None), "sqlstate", None) in UNDEFINED

    def explain(self, url: AnyUrl, error: Exception) -> str:
        """By host, port and database, and the words of libpq or of the server."""
        options = libpq_options(Url.of(url))
        words = self._words(getattr(error, "orig", None) or error)
        place = f'PostgreSQL at {_servers(options)}, database "{options.get("dbname", "")}"'
        return f"{place}: {_without_secrets(words, options)}."

    def _words(self, error: Any) -> str:
        """Why, if that can be told without telling what a row holds."""
        code = getattr(error, "sqlstate", None)
        if code is not None and code[:2] in TOLD:
            return str(error.diag.message_primary)
        if code is None and isinstance(error, (self.driver.OperationalError, TimeoutError)):
            return CONNECTING.sub("", str(error).partition("\n")[0]).removesuffix(".")
        return type(error).__name__

    def make_file(self, _url: AnyUrl) -> None:
        """There is none."""

    def prepare_file(self, _url: AnyUrl) -> None:
        """There is none."""


def _connect(kind: Any, url: Url) -> Any:
    connection = kind.connect(**{**libpq_options(url), **OPTIONS, "autocommit": True})
    try:
        set_up(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _array(numbers: Iterable[int]) -> str:
    return f"{{{','.join(map(str, numbers))}}}"


def set_up(connection: Any, _record: Any = None) -> None:
    """Prepare a new connection."""
    connection.execute("SET TIME ZONE 'UTC'")
    connection.commit()


def _answer(connection: Any, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    cursor = connection.execute(statement, parameters)
    return list(cursor.fetchall()) if cursor.description else []


def libpq_options(url: Url) -> dict[str, Any]:
    """A URL's parts and options by libpq's names; several hosts may be given in both of SQLAlchemy's ways."""
    parts = {"host": url.host, "port": url.port, "dbname": url.database, "user": url.username, "password": url.password}
    options: dict[str, Any] = {**{name: value for name, value in parts.items() if value}, **url.query}
    hosts = url.query.get("host", "")
    if "port" not in url.query and (isinstance(hosts, tuple) or HOST_AND_PORT.fullmatch(hosts)):
        pairs = [host.partition(":") for host in ([hosts] if isinstance(hosts, str) else hosts)]
        options["host"], options["port"] = (",".join(part) for part in zip(*[(h, p) for h, _, p in pairs], strict=True))
    return options


def _servers(options: Mapping[str, Any]) -> str:
    """The hosts and ports of libpq's options, which may be several."""
    hosts = str(options.get("host") or "its socket").split(",")
    ports = itertools.cycle(str(options.get("port") or 5432).split(","))
    return ", ".join(f"{host.rpartition('@')[2]}:{port}" for host, port in zip(hosts, ports, strict=False))


def _without_secrets(words: str, options: Mapping[str, Any]) -> str:
    """What libpq says, without a password; the end of one that has a bare "@" in it is part of a host's name."""
    ends = [host.rpartition("@")[0] for host in str(options.get("host", "")).split(",")]
    for secret in filter(None, [options.get("password"), *ends]):
        words = words.replace(str(secret), "***")
    return words


@lru_cache
def _pyformat(statement: str) -> str:
    return PARAMETER.sub(r"%(\1)s", statement)
