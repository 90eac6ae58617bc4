"""Everything that SQLite does in its own way: connections, locks, statements."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from .address import AnyUrl, Url
from .dialect import Dialect
from .embedded import FileConnection, open_file
from .failures import DatabaseError, of_driver
from .statements import SHOWN, SNAPSHOT, Statements

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

T = TypeVar("T")

# How long a writer waits for another one, in seconds.
WRITE_LOCK_TIMEOUT = 20.0
# SQLite waits for a lock inside C, where gevent cannot switch: what is left to it is the rare, short waits of
# readers (recovery after a crash, the last close of a write-ahead log).
READ_LOCK_TIMEOUT = 0.25
# STRICT tables came with 3.37.
VERSION_NEEDED = (3, 37)
MEMORY = ":memory:"
# SQLite makes a table of each list of three or more, 90 kB of them, and drops it, with every statement that has one; so
# do the table's triggers, checks and indexes. What is free at the end of the heap glibc gives back to the kernel from
# 128 kB on: of a report's time four fifths were page faults. Once it was given a larger block to free, it keeps twice
# as much (mallopt(3), M_TRIM_THRESHOLD).
KEPT_BYTES = 2**20

# What the feed asks. One writer at a time commits, and all draw from one counter: revisions become visible in order.
LAST_REVISION = """
    SELECT value FROM user_tasks_revision"""
CHANGED_SINCE = """
    SELECT id, user_id, revision FROM user_tasks WHERE revision > :revision
    UNION ALL
    SELECT id, user_id, revision FROM user_tasks_deleted WHERE revision > :revision
    ORDER BY revision"""

# Since when the newest `depth` were created that other filters let through: everything, where no text is looked for.
EVERYBODYS = f"""
        SELECT {SNAPSHOT} FROM user_tasks
        WHERE status IN (SELECT value FROM json_each(:statuses))
            AND (:kind IS NULL OR kind = :kind)
            AND (:path IS NULL OR learning_path_id = :path)
            AND created_at >= coalesce(CASE WHEN :text IS NOT NULL THEN (
                SELECT created_at FROM user_tasks
                WHERE status IN (SELECT value FROM json_each(:statuses))
                    AND (:kind IS NULL OR kind = :kind)
                    AND (:path IS NULL OR learning_path_id = :path)
                ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET :depth
            ) END, '')
            AND (:text IS NULL OR instr(lower({SHOWN}), replace(lower(:text), '_', ' ')) > 0)
        ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :skip"""


def _by(index: str, statuses: str) -> str:
    """The same of tasks for which there is an index: only statuses that stand in a statement let SQLite use it."""
    return EVERYBODYS.replace("FROM user_tasks", f"FROM user_tasks INDEXED BY {index}").replace(
        "WHERE status", f"WHERE status IN {statuses} AND status"
    )


def _report(status: str) -> str:
    # Not IS NOT NULL, which SQLite (3.40) takes for true in a RETURNING.
    return f"""
        UPDATE user_tasks SET
            {status} stage = coalesce(:stage, stage),
            result_message = coalesce(:result_message, result_message),
            error_details = coalesce(:error_details, error_details),
            attempt = CASE WHEN :share IS NULL THEN attempt ELSE -:attempt END,
            total_items = CASE
                WHEN attempt < 0 AND :share IS NULL THEN total_items
                ELSE nullif(coalesce(:total_items, total_items), -1) END,
            completed_items = max(0, coalesce(:completed_items, completed_items) + :advance),
            progress = CASE
                WHEN :progress IS NOT NULL THEN :progress
                WHEN :share IS NOT NULL
                THEN max(progress, min(100.0, :begins + :share * coalesce(min(1.0,
                    1.0 * (coalesce(:completed_items, completed_items) + :advance)
                    / nullif(nullif(coalesce(:total_items, total_items), -1), 0)), 0)))
                WHEN attempt < 0 THEN progress
                WHEN coalesce(:total_items, total_items) > 0
                THEN max(progress, min(100.0,
                    100.0 * (coalesce(:completed_items, completed_items) + :advance)
                    / coalesce(:total_items, total_items)))
                ELSE progress END,
            lease_expires_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', :lease || ' seconds')
        WHERE id = :id AND task_id = :task_id AND abs(attempt) = :attempt AND status IN ('starting', 'running')
        RETURNING status IN ('starting', 'running') AND coalesce(cancel_requested_at, '') <> ''"""


STATEMENTS = Statements(
    tasks_of=f"""
        SELECT {SNAPSHOT} FROM user_tasks
        WHERE user_id = :user_id AND status IN (SELECT value FROM json_each(:statuses))
            AND (:kind IS NULL OR kind = :kind)
            AND (:path IS NULL OR learning_path_id = :path)
            AND (:text IS NULL OR instr(lower({SHOWN}), replace(lower(:text), '_', ' ')) > 0)
        ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :skip""",
    tasks=EVERYBODYS,
    tasks_active=_by("ix_user_tasks_active", "('pending', 'queued', 'starting', 'running')"),
    tasks_failed=_by("ix_user_tasks_unsuccessful", "('failed', 'timeout')"),
    active="""
        SELECT kind, status, count(*), min(created_at),
            86400 * (julianday('now') - julianday(min(created_at))),
            count(*) FILTER (
                WHERE status IN ('starting', 'running') AND julianday(lease_expires_at) < julianday('now'))
        FROM user_tasks
        WHERE status IN ('pending', 'queued', 'starting', 'running')
        GROUP BY kind, status
        ORDER BY count(*) DESC""",
    tasks_named=f"""
        SELECT {SNAPSHOT} FROM user_tasks WHERE task_id IN (SELECT value FROM json_each(:task_ids))""",
    last_of_kinds="""
        SELECT kind, status, result_message IS 'Cancelled.',
            86400 * (julianday(started_at) - julianday(created_at)),
            86400 * (julianday(ended_at) - julianday(started_at))
        FROM json_each(:kinds) AS kinds CROSS JOIN user_tasks
        WHERE user_tasks.id IN (
            SELECT id FROM user_tasks
            WHERE kind IS kinds.value AND status IN ('completed', 'failed', 'timeout')
            ORDER BY ended_at DESC LIMIT :most)""",
    failure_count="""
        SELECT count(*) FROM user_tasks
        WHERE status IN ('failed', 'timeout') AND result_message IS NOT 'Cancelled.'
            AND ended_at >= strftime('%Y-%m-%dT%H:%M:%fZ', 'now', -:hours || ' hours')""",
    failures="""
        SELECT task_id, kind, substr(result_message, 1, :length),
            CASE WHEN result_message IS NULL THEN substr(error_details, -:length) END, ended_at
        FROM user_tasks
        WHERE status IN ('failed', 'timeout') AND result_message IS NOT 'Cancelled.'
            AND ended_at >= strftime('%Y-%m-%dT%H:%M:%fZ', 'now', -:hours || ' hours')
        ORDER BY ended_at DESC LIMIT :most""",
    is_uncounted="""
        SELECT 1 FROM user_tasks_schema
        WHERE counted_until < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-10 seconds') AND EXISTS (
            SELECT 1 FROM user_tasks
            WHERE status IN ('completed', 'failed', 'timeout') AND ended_at > counted_until)""",
    count_from="""
        SELECT counted_until, max(counted_until, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 hour')),
            strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-5 seconds')
        FROM user_tasks_schema""",
    ended_between="""
        SELECT kind, status, abs(attempt),
            86400 * (julianday(started_at) - julianday(created_at)),
            86400 * (julianday(ended_at) - julianday(started_at))
        FROM user_tasks
        WHERE status IN ('completed', 'failed', 'timeout') AND ended_at > :since AND ended_at <= :until""",
    news=f"""
        SELECT {SNAPSHOT}, known_id
        FROM (SELECT CAST(key AS INTEGER) AS known_id, value AS known_revision FROM json_each(:known))
        LEFT JOIN user_tasks ON id = known_id
        WHERE revision IS NOT known_revision
        ORDER BY revision""",
    keys_of_ids="""
        SELECT id, user_id, revision FROM user_tasks WHERE id IN (SELECT value FROM json_each(:ids))""",
    to_stop="""
        SELECT id, task_id, abs(attempt), status IN ('starting', 'running') FROM user_tasks
        WHERE id IN (SELECT value FROM json_each(:ids))
            AND (cancel_requested_at IS NOT NULL OR status NOT IN ('starting', 'running'))""",
    cancel="""
        UPDATE user_tasks SET
            cancel_requested_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
            status = CASE WHEN status IN ('pending', 'queued') THEN 'failed' ELSE status END,
            result_message = CASE WHEN status IN ('pending', 'queued') THEN 'Cancelled.' ELSE result_message END,
            error_details = CASE WHEN status IN ('starting', 'running') THEN error_details END
        WHERE id = :id AND task_id = :task_id AND user_id = :user_id
            AND status IN ('pending', 'queued', 'starting', 'running')
            AND (cancel_requested_at IS NULL OR status IN ('pending', 'queued'))
        RETURNING id""",
    keys_of_users="""
        SELECT id, user_id, revision FROM user_tasks
        WHERE user_id IN (SELECT value FROM json_each(:user_ids))
            AND status IN ('pending', 'queued', 'starting', 'running') AND revision > :revision
        UNION
        SELECT id, user_id, revision FROM user_tasks
        WHERE user_id IN (SELECT value FROM json_each(:user_ids))
            AND created_at > strftime('%Y-%m-%dT%H:%M:%fZ', :revision / 1000000, 'unixepoch')
            AND revision > :revision
        ORDER BY revision DESC LIMIT :most""",
    runs="""
        SELECT * FROM (
            SELECT 86400 * (julianday(created_at) - 2440587.5),
                86400 * (julianday(coalesce(started_at, ended_at)) - 2440587.5),
                86400 * (julianday(ended_at) - 2440587.5)
            FROM (
                SELECT created_at, started_at, ended_at, status FROM user_tasks
                WHERE kind = :kind AND status IN ('completed', 'failed', 'timeout')
                ORDER BY ended_at DESC LIMIT 10 * :most
            )
            WHERE started_at IS NOT NULL OR status = 'completed'
            ORDER BY ended_at DESC LIMIT :most
        )
        UNION ALL
        SELECT * FROM (
            SELECT 86400 * (julianday(created_at) - 2440587.5),
                86400 * (julianday(started_at) - 2440587.5),
                NULL
            FROM user_tasks
            WHERE kind = :kind AND status IN ('starting', 'running')
            ORDER BY started_at DESC LIMIT :most
        )""",
    standings="""
        SELECT id, kind, status, progress / 100,
            86400 * (julianday(started_at) - 2440587.5),
            86400 * (julianday('now') - 2440587.5)
        FROM user_tasks WHERE id IN (SELECT value FROM json_each(:ids))""",
    place="""
        SELECT count(*), 86400 * (julianday(min(other.created_at)) - 2440587.5)
        FROM user_tasks AS mine JOIN user_tasks AS other ON other.kind = mine.kind
            AND (other.created_at, other.id) <= (mine.created_at, mine.id)
        WHERE mine.id = :id AND other.status IN ('pending', 'queued')""",
    line="""
        SELECT id, 86400 * (julianday(created_at) - 2440587.5) FROM user_tasks
        WHERE kind = :kind AND status IN ('pending', 'queued')
        ORDER BY created_at, id LIMIT :most""",
    clock="""
        SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000000
            + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER) * 1000""",
    encoding="""
        SELECT 'UTF8'""",
    insert="""
        INSERT INTO user_tasks
            (task_id, user_id, kind, learning_path_id, status, stage, total_items, traceparent, start_by, end_by)
        VALUES (
            :task_id, :user_id, :kind, :learning_path_id, :status, :stage, :total_items, :traceparent,
            strftime('%Y-%m-%dT%H:%M:%fZ', 'now', coalesce(:start_within, :finish_within) || ' seconds'),
            strftime('%Y-%m-%dT%H:%M:%fZ', 'now', :finish_within || ' seconds'))""",
    # What is no longer to run: why, and within how many seconds it was to.
    overdue_started="""
        SELECT id, task_id, abs(attempt), status, lease_expires_at,
            CASE
                WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN julianday(end_by) < julianday('now') THEN 'unfinished'
                ELSE 'silent' END,
            86400 * (julianday(end_by) - julianday(created_at))
        FROM user_tasks
        WHERE status IN ('starting', 'running') AND (
            julianday(lease_expires_at) < julianday('now')
            OR julianday(end_by) < julianday('now')
            OR julianday(cancel_requested_at) < julianday('now', -:cancel_within || ' seconds'))
        LIMIT :batch""",
    overdue_waiting="""
        SELECT id, task_id, abs(attempt), status, lease_expires_at,
            CASE WHEN julianday(end_by) < julianday('now') THEN 'unfinished' ELSE 'unstarted' END,
            86400 * (julianday(CASE WHEN julianday(end_by) < julianday('now') THEN end_by ELSE start_by END)
                - julianday(created_at))
        FROM user_tasks
        WHERE status IN ('pending', 'queued')
            AND start_by < strftime('%Y-%m-%dT%H:%M:%fZ', 'now') AND julianday(start_by) < julianday('now')
        LIMIT :batch""",
    waiting_too_long="""
        WITH RECURSIVE kinds (kind) AS (
            SELECT min(kind) FROM user_tasks WHERE status IN ('pending', 'queued')
            UNION ALL
            SELECT (SELECT min(kind) FROM user_tasks WHERE status IN ('pending', 'queued') AND kind > kinds.kind)
            FROM kinds WHERE kinds.kind IS NOT NULL
        )
        SELECT id, task_id, abs(attempt), status, lease_expires_at, 'unstarted', :start_within
        FROM kinds CROSS JOIN user_tasks
        WHERE status IN ('pending', 'queued') AND user_tasks.kind IS kinds.kind
            AND created_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', -:start_within || ' seconds')
            AND CASE WHEN attempt = 0 THEN start_by IS NULL OR start_by = end_by ELSE updated_at
                < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', -:start_within || ' seconds') END
        LIMIT :batch""",
    refused="""
        SELECT id, task_id, abs(attempt), status, lease_expires_at,
            CASE
                WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN julianday(end_by) <= julianday('now') THEN 'unfinished'
                ELSE 'unstarted' END,
            86400 * (julianday(CASE WHEN julianday(end_by) <= julianday('now') THEN end_by ELSE start_by END)
                - julianday(created_at))
        FROM user_tasks
        WHERE task_id = :task_id AND status IN ('pending', 'queued', 'starting', 'running') AND (
            cancel_requested_at IS NOT NULL
            OR julianday(end_by) <= julianday('now')
            OR (julianday(start_by) <= julianday('now') AND status IN ('pending', 'queued')))""",
    close="""
        UPDATE user_tasks SET status = :closed_as, result_message = :message
        WHERE id = :id AND task_id = :task_id AND abs(attempt) = :attempt AND status = :status
            AND lease_expires_at IS :lease_expires_at
        RETURNING id""",
    ended_before="""
        SELECT id FROM user_tasks
        WHERE id > :last_id AND status NOT IN ('pending', 'queued', 'starting', 'running')
            AND ended_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', -:seconds || ' seconds')
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
            lease_expires_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', :lease || ' seconds')
        WHERE task_id = :task_id AND status IN ('pending', 'queued', 'starting', 'running')
            AND cancel_requested_at IS NULL
            AND (end_by IS NULL OR julianday(end_by) > julianday('now'))
            AND (start_by IS NULL OR julianday(start_by) > julianday('now') OR status IN ('starting', 'running'))
        RETURNING id, task_id, attempt, status, total_items, false, NULL, kind, traceparent""",
    report=_report(""),
    report_of_status=_report("status = :status,"),
    positions="""
        SELECT id, completed_items, total_items, progress FROM user_tasks
        WHERE id IN (SELECT value FROM json_each(:ids))""",
    renew="""
        UPDATE user_tasks SET lease_expires_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', :lease || ' seconds')
        WHERE id = :id AND task_id = :task_id AND abs(attempt) = :attempt AND status IN ('starting', 'running')
        RETURNING status IN ('starting', 'running') AND coalesce(cancel_requested_at, '') <> ''""",
    delete="""
        DELETE FROM user_tasks WHERE id IN (SELECT value FROM json_each(:ids))
        RETURNING id""",
)


class Sqlite(Dialect):
    """An embedded file. Writers share one lock; readers see what was committed when they began."""

    name = "sqlite"
    drivername = "sqlite"
    is_embedded = True
    statements = STATEMENTS

    def insist_on_driver(self) -> None:
        """Python's own, with an SQLite that knows what the tables need."""
        if sqlite3.sqlite_version_info < VERSION_NEEDED:
            raise RuntimeError(f"SQLite {sqlite3.sqlite_version} is too old: taskapi needs 3.37 (STRICT tables).")

    @property
    def driver(self) -> Any:
        """Python's own."""
        return sqlite3

    def engine_options(self, url: Url) -> dict[str, Any]:
        """Every connection comes from one door."""
        return {"creator": lambda: self.open_reader(url)}

    def prepare(self, engine: Engine) -> None:
        """Let writers take the write lock at once, and wait for it."""
        from sqlalchemy import event

        event.listen(engine, "begin", _begin_immediate)

    def open_reader(self, url: Url) -> FileConnection:
        """A connection that begins no transaction of its own, and makes no file."""
        connection = open_file(str(url.database), timeout=READ_LOCK_TIMEOUT, check_same_thread=False)
        try:
            set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def open_changer(self, url: Url) -> FileConnection:
        """One on which SQLite waits for no lock."""
        connection = self.open_reader(url)
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    def change(
        self, connection: sqlite3.Connection, changes: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> list[list[tuple[Any, ...]]]:
        """With the write lock from the beginning: a read that turns into a write fails whatever the timeout."""
        return _patiently(lambda: _transaction(connection, changes))

    def is_current(self, connection: FileConnection) -> bool:
        """Whether its file is neither gone nor replaced."""
        return connection.is_current

    def is_lost(self, _connection: FileConnection) -> bool:
        """Never: there is no server."""
        return False

    def is_in_transaction(self, connection: sqlite3.Connection) -> bool:
        """Not if the savepoint had begun it: Python's driver sends BEGIN before a write, and before nothing else."""
        return connection.in_transaction

    def statement_for_driver(self, statement: str) -> str:
        """As it is."""
        return statement

    def list_parameter(self, values: Iterable[int | str | None]) -> str:
        """As JSON."""
        return orjson.dumps(list(values)).decode()

    def known_parameters(self, known: Mapping[int, int]) -> dict[str, Any]:
        """As a JSON object."""
        return {"known": orjson.dumps(known, option=orjson.OPT_NON_STR_KEYS).decode()}

    def make_file(self, url: AnyUrl) -> None:
        """An empty one, to which whoever writes first gives its settings."""
        path = Path(str(url.database))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            raise DatabaseError(error) from None

    def prepare_file(self, url: AnyUrl) -> None:
        """With a write-ahead log: readers and a writer do not wait for each other."""
        self.make_file(url)
        try:
            with contextlib.closing(sqlite3.connect(str(url.database), timeout=READ_LOCK_TIMEOUT)) as connection:
                _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
        except sqlite3.Error as error:
            raise DatabaseError(error) from None

    def is_outdated(self, error: Exception) -> bool:
        """SQLite has one code for all that is wrong with a statement."""
        return str(getattr(error, "orig", "")).startswith(("no such table", "no such column"))

    def explain(self, url: AnyUrl, error: Exception) -> str:
        """By the file's name, and SQLite's or the system's own words."""
        cause = getattr(error, "orig", None) or error
        name = url.database or MEMORY
        if isinstance(cause, sqlite3.OperationalError) and name != MEMORY and not Path(name).exists():
            return f"There is no database {name}."
        words = cause.strerror if isinstance(cause, OSError) else cause if isinstance(cause, sqlite3.Error) else None
        return f"SQLite database {name}: {words or type(cause).__name__}."


def set_up(connection: sqlite3.Connection) -> None:
    """Prepare a new connection."""
    bytes(KEPT_BYTES)
    connection.isolation_level = None  # transactions are begun where they are wanted
    # Text that is not UTF-8 (any writer may have put it there) must not break every later read of its row.
    connection.text_factory = lambda data: data.decode(errors="replace")
    connection.execute("PRAGMA synchronous = NORMAL")


def _transaction(
    connection: sqlite3.Connection, changes: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[list[tuple[Any, ...]]]:
    if len(changes) == 1:  # which is one by itself
        return [connection.execute(*changes[0]).fetchall()]
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = [connection.execute(*change).fetchall() for change in changes]
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    return found


def _begin_immediate(connection: Connection) -> None:
    """For an engine, which begins a transaction for whatever it is asked."""
    from sqlalchemy.exc import OperationalError

    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        _patiently(lambda: driver.execute("BEGIN IMMEDIATE"))
    except sqlite3.OperationalError as error:  # which SQLAlchemy does not look at in an event
        raise OperationalError("BEGIN IMMEDIATE", None, error) from None
    finally:
        driver.execute(f"PRAGMA busy_timeout = {int(READ_LOCK_TIMEOUT * 1000)}")


def _patiently(work: Callable[[], T]) -> T:
    """Wait for a lock with `time.sleep`, which gevent makes cooperative; inside SQLite the wait would stop
    every greenlet of the process."""
    deadline = time.monotonic() + WRITE_LOCK_TIMEOUT
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.002)


class MemoryConnection:
    """Asks and changes a database that lives in the memory of one connection: an application's own, in tests.

    The connection is kept: giving it back would roll back whatever the application has begun on it. What is changed is
    committed, and so is that.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Any = None

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement with parameters written `:name`; all its rows. Raises `DatabaseError`."""
        with _translated():
            rows: list[tuple[Any, ...]] = self._driver_connection.execute(statement, parameters).fetchall()
        return rows

    def change(self, *changes: tuple[str, Mapping[str, Any]]) -> list[list[tuple[Any, ...]]]:
        """The same with several, and commit. Raises `DatabaseError`."""
        with _translated(), self._driver_connection as connection:
            return [connection.execute(*change).fetchall() for change in changes]

    @property
    def _driver_connection(self) -> Any:
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        return self._connection.driver_connection

    def close(self) -> None:
        """Nothing is to be closed: the connection is the engine's."""


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise of_driver(sqlite3, error) from None
