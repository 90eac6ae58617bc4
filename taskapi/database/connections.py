"""How a database is opened, the same for the server, the commands and the workers' helper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .address import AnyUrl, Url
from .dialect import Dialect
from .postgresql import Postgresql
from .sqlite import Sqlite

# A worker does without.
if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (Sqlite(), Postgresql())}


def dialect_of(url: AnyUrl) -> Dialect:
    """Which of the two databases a URL names. Raises `ValueError` for any other."""
    name = url.get_backend_name()
    if name not in DIALECTS:
        raise ValueError(f"taskapi works on SQLite and PostgreSQL, and not on {name}")
    return DIALECTS[name]


def own_url(url: AnyUrl) -> Url:
    """The address for connections of our own, by the drivers that we know."""
    return Url.of(url).set(drivername=dialect_of(url).drivername)


def open_engine(url: AnyUrl) -> Engine:
    """An engine of our own, for what changes the tables themselves."""
    from sqlalchemy import create_engine

    dialect = dialect_of(url)
    dialect.insist_on_driver()
    engine = create_engine(url_for_sqlalchemy(url), **dialect.engine_options(Url.of(url)))
    dialect.prepare(engine)
    return engine


def url_for_sqlalchemy(url: AnyUrl) -> URL:
    """The same address for SQLAlchemy, whose versions do not all read a text alike."""
    from sqlalchemy.engine import URL

    return URL.create(**vars(Url.of(url)))


def is_in_memory(url: AnyUrl) -> bool:
    """Whether a database lives in the memory of its engine: no other connection ever sees it."""
    return dialect_of(url).is_embedded and (url.database in (None, "", ":memory:") or "mode=memory" in str(url))
