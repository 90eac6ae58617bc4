"""How a database is opened, the same for the server, the commands and the workers' helper."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from .dialect import Dialect
from .postgresql import Postgresql
from .sqlite import Sqlite

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (Sqlite(), Postgresql())}


def dialect_of(url: URL) -> Dialect:
    """Which of the two databases a URL names. Raises `ValueError` for any other."""
    name = url.get_backend_name()
    if name not in DIALECTS:
        raise ValueError(f"taskapi works on SQLite and PostgreSQL, and not on {name}")
    return DIALECTS[name]


def own_url(url: URL) -> URL:
    """The address for connections of our own, by the drivers that we know."""
    return url.set(drivername=dialect_of(url).drivername)


def open_engine(url: URL) -> Engine:
    """An engine of our own."""
    dialect = dialect_of(url)
    dialect.insist_on_driver()
    engine = sa.create_engine(url, **dialect.engine_options(url))
    dialect.prepare(engine)
    return engine


def is_in_memory(url: URL) -> bool:
    """Whether a database lives in the memory of its engine: no other connection ever sees it."""
    return dialect_of(url).is_embedded and (url.database in (None, "", ":memory:") or "mode=memory" in str(url))
