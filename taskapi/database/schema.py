"""The tables' versions (SQL in `versions/`, frozen once shipped): which one a database has, and how it changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from .connections import dialect_of
from .store import Store

VERSION = 2
VERSIONS = Path(__file__).with_name("versions")
ENCODING = "UTF8"
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
        return self._connection.execute(sa.text(statement))


def version_of(connection: Connection) -> int:
    """The version that the tables have; 0 where there are none."""
    inspector = sa.inspect(connection)
    if not inspector.has_table("user_tasks"):
        return 0
    if not inspector.has_table("user_tasks_schema"):
        return 1
    return int(connection.execute(sa.text("SELECT version FROM user_tasks_schema")).scalar_one())


def upgrade_to(op: Operations, version: int, found: int | None = None) -> None:
    """Bring the tables up to a version, step by step from the one that is found there (or is told).

    Raises `RuntimeError` for a database that does not take every text.
    """
    _check(version)
    if found is None:
        _insist_on_utf_8(op.get_bind())
        found = version_of(op.get_bind())
    _run(op, [f"{step}_up" for step in range(found + 1, version + 1)])


def downgrade_to(op: Operations, version: int, found: int | None = None) -> None:
    """Bring the tables back to a version; 0 leaves nothing of them."""
    _check(version)
    found = version_of(op.get_bind()) if found is None else found
    _run(op, [f"{step}_down" for step in range(found, version, -1)])


def _check(version: int) -> None:
    if not 0 <= version <= VERSION:
        raise ValueError(f"This taskapi knows versions 0 to {VERSION} of its tables, not {version}.")


def _insist_on_utf_8(connection: Connection) -> None:
    encoding = connection.scalar(sa.text(dialect_of(connection.engine.url).statements.encoding))
    if encoding != ENCODING:
        raise RuntimeError(_wrong_encoding(encoding))


def _run(op: Operations, steps: Iterable[str]) -> None:
    for step in steps:
        text = (VERSIONS / op.get_bind().dialect.name / f"{step}.sql").read_text()
        for statement in text.split("\n\n"):
            op.execute(statement)


def upgrade(engine: Engine) -> None:
    """Bring a database of our own up to date; several processes may do it at once. Makes an embedded one's file."""
    dialect_of(engine.url).prepare_file(engine.url)
    upgrade_tables(engine)


def upgrade_tables(engine: Engine) -> None:
    """Bring the tables up to date."""
    with engine.begin() as connection:
        upgrade_to(Direct(connection), VERSION)


def upgrade_embedded(store: Store) -> None:
    """The same, for an embedded database that is not up to date: its write lock may be somebody else's for long.

    An application's own database is left alone: its tables are that one's to make.
    """
    if store.dialect.is_embedded and trouble(store) and not _is_an_applications(store.engine):
        upgrade(store.engine)


def _is_an_applications(engine: Engine) -> bool:
    if not Path(str(engine.url.database)).exists():
        return False
    return not set(sa.inspect(engine).get_table_names()) <= {*TABLES, "alembic_version"}


class Trouble(NamedTuple):
    """What keeps a database from being of use: as anybody may be told, and as its operator wants to know it."""

    public: str
    cause: str


def trouble(store: Store) -> Trouble | None:
    """What keeps the database from being of use, if anything does."""
    try:
        encoding = store.encoding()
        store.keys_of_ids([])
        found = store.schema_version()
    except SQLAlchemyError as error:
        if not store.dialect.is_missing_table(error):
            return Trouble(f"The {store.dialect.name} database does not answer.", store.explain(error))
        found = 0
    if encoding != ENCODING:
        return Trouble("The database's encoding is not UTF-8.", _wrong_encoding(encoding))
    return None if found == VERSION else Trouble(OUTDATED, OUTDATED)


def _wrong_encoding(encoding: str) -> str:
    return f"The database's encoding is {encoding}, which cannot hold every text: make one with ENCODING 'UTF8'."
