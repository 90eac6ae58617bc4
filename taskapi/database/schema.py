"""The tables' versions (SQL in `versions/`, frozen once shipped): which one a database has, and how it changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .connections import DIALECTS, dialect_of, is_in_memory, open_engine
from .failures import DatabaseError
from .store import Store

# Where tables are made or looked for; a worker whose database has them does without.
if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection, Engine

VERSION = 3
VERSIONS = Path(__file__).with_name("versions")
ENCODING = "UTF8"
# Since version 2 the tables themselves tell which version they have.
SELF_TOLD = 2
# Alembic's account, which is there only while a command of the standalone service's `flask db` runs.
ACCOUNT = "user_tasks_alembic"
# Where version 1's was, and where Alembic has it by itself: beside an application's tables it is the application's.
USUAL_ACCOUNT = "alembic_version"
OUTDATED = "The database's schema is not up to date: run `flask db upgrade`."
TABLES = frozenset({"user_tasks", "user_tasks_schema", "user_tasks_revision", "user_tasks_deleted"})


class Operations(Protocol):
    """What is needed of Alembic's `op`."""

    def get_bind(self) -> Connection:
        """The connection, in a transaction."""

    def execute(self, statement: str) -> Any:
        """Run a statement."""


class Direct:
    """The same without Alembic."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get_bind(self) -> Connection:
        """The connection."""
        return self._connection

    def execute(self, statement: str) -> Any:
        """Run a statement."""
        from sqlalchemy import text

        return self._connection.execute(text(statement))


def version_of(connection: Connection) -> int:
    """The version that the tables have; 0 where there are none."""
    inspector = _inspector(connection)
    if not inspector.has_table("user_tasks"):
        return 0
    # A backup from before the upgrade leaves the younger table where it is.
    columns = {column["name"] for column in inspector.get_columns("user_tasks")}
    if "attempt" not in columns or not inspector.has_table("user_tasks_schema"):
        return 1
    told = int(connection.exec_driver_sql("SELECT version FROM user_tasks_schema").scalar_one())
    return told if "traceparent" in columns else min(told, 2)


def upgrade_to(op: Operations, version: int, found: int | None = None) -> None:
    """Bring the tables up to a version, step by step from the one that is found there (or is told).

    Raises `RuntimeError` for a database that does not take every text, and where there is none to look at.
    """
    _check(version)
    dialect = DIALECTS[op.get_bind().dialect.name]
    if found is None:
        _insist_on_utf_8(_connection(op))
        _execute(op, dialect.before_upgrade)
        found = version_of(_connection(op))
        if found < SELF_TOLD:
            op.execute("DROP TABLE IF EXISTS user_tasks_schema")
    _run(op, [f"{step}_up" for step in range(found + 1, version + 1)])
    if found < SELF_TOLD <= version:
        _execute(op, dialect.after_upgrade)


def downgrade_to(op: Operations, version: int, found: int | None = None) -> None:
    """Bring the tables back to a version; 0 leaves nothing of them. Raises `RuntimeError` like `upgrade_to`."""
    _check(version)
    found = version_of(_connection(op)) if found is None else found
    _run(op, [f"{step}_down" for step in range(found, version, -1)])


def _check(version: int) -> None:
    if not 0 <= version <= VERSION:
        raise ValueError(f"This taskapi knows versions 0 to {VERSION} of its tables, not {version}.")


def _connection(op: Operations) -> Connection:
    from sqlalchemy.engine import Connection

    bind = op.get_bind()
    if isinstance(bind, Connection):
        return bind
    raise RuntimeError(f"Without a database nobody can tell which version its tables have. The SQL is in {VERSIONS}.")


def _inspector(connection: Connection) -> sa.Inspector:
    from sqlalchemy import inspect

    return inspect(connection)


def _insist_on_utf_8(connection: Connection) -> None:
    encoding = connection.exec_driver_sql(dialect_of(connection.engine.url).statements.encoding).scalar_one()
    if encoding != ENCODING:
        raise RuntimeError(_wrong_encoding(encoding))


def _run(op: Operations, steps: Iterable[str]) -> None:
    for step in steps:
        text = (VERSIONS / op.get_bind().dialect.name / f"{step}.sql").read_text()
        _execute(op, text.split("\n\n"))


def _execute(op: Operations, statements: Iterable[str]) -> None:
    for statement in statements:
        op.execute(statement)


def upgrade(engine: Engine) -> None:
    """Bring a database of our own up to date; several processes may do it at once. Makes an embedded one's file."""
    dialect_of(engine.url).prepare_file(engine.url)
    with engine.begin() as connection:
        upgrade_to(Direct(connection), VERSION)
        settle(connection)


def upgrade_beside(engine: Engine) -> None:
    """The same for a database that is an application's: only our tables change."""
    if not is_in_memory(engine.url):
        dialect_of(engine.url).make_file(engine.url)
    with engine.begin() as connection:
        upgrade_to(Direct(connection), VERSION)


def settle(connection: Connection) -> None:
    """Leave no account of Alembic's in a database of our own, or the one that version 1 looks for."""
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {ACCOUNT}")
    if not _is_an_applications(connection):
        found = version_of(connection)
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {USUAL_ACCOUNT}")
        if 0 < found < SELF_TOLD:
            connection.exec_driver_sql(f"CREATE TABLE {USUAL_ACCOUNT} (version_num varchar(32) NOT NULL PRIMARY KEY)")
            connection.exec_driver_sql(f"INSERT INTO {USUAL_ACCOUNT} VALUES ('{revision_of(found)}')")


def revision_of(version: int) -> str:
    """What the standalone service's migrations call a version."""
    return f"{version:04}" if version else "base"


def upgrade_embedded(store: Store) -> None:
    """The same, for an embedded database that is not up to date: its write lock may be somebody else's for long.

    An application's own database is left alone: its tables are that one's to make.
    """
    if store.dialect.is_embedded and store.memory is None and trouble(store):
        with engine_of(store) as engine:
            if not is_an_applications(engine):
                upgrade(engine)


@contextlib.contextmanager
def engine_of(store: Store) -> Iterator[Engine]:
    """An engine on a store's database. Raises `DatabaseError` for what goes wrong with it."""
    from sqlalchemy.exc import SQLAlchemyError

    engine = store.memory or open_engine(store.url)
    try:
        yield engine
    except SQLAlchemyError as error:
        raise DatabaseError(getattr(error, "orig", None) or error) from error
    finally:
        if engine is not store.memory:
            engine.dispose()


def is_an_applications(engine: Engine) -> bool:
    """Whether an embedded database has more than our tables."""
    if not Path(str(engine.url.database)).exists():
        return False
    with engine.connect() as connection:
        return _is_an_applications(connection)


def _is_an_applications(connection: Connection) -> bool:
    inspector = _inspector(connection)
    if not set(inspector.get_table_names()) <= {*TABLES, ACCOUNT, USUAL_ACCOUNT}:
        return True
    if not inspector.has_table(USUAL_ACCOUNT):
        return False
    revisions = connection.exec_driver_sql(f"SELECT version_num FROM {USUAL_ACCOUNT}").scalars()
    return not set(revisions) <= {revision_of(version) for version in range(1, VERSION + 1)}


class Trouble(NamedTuple):
    """What keeps a database from being of use: as anybody may be told, and as its operator wants to know it."""

    public: str
    cause: str


def trouble(store: Store) -> Trouble | None:
    """What keeps the database from being of use, if anything does."""
    try:
        encoding = store.encoding()
        store.attempt("")
        found = store.schema_version()
    except DatabaseError as error:
        if not store.dialect.is_outdated(error):
            return Trouble(f"The {store.dialect.name} database does not answer.", store.explain(error))
        found = 0
    if encoding != ENCODING:
        return Trouble("The database's encoding is not UTF-8.", _wrong_encoding(encoding))
    return None if found == VERSION else Trouble(OUTDATED, OUTDATED)


def _wrong_encoding(encoding: str) -> str:
    return f"The database's encoding is {encoding}, which cannot hold every text: make one with ENCODING 'UTF8'."
