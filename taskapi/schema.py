"""Brings the database's schema up to date, and tells whether it is. Knows no request."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from .models import SCHEMA_REVISION

MIGRATIONS = Path(__file__).with_name("migrations")


def current(engine: Engine) -> str | None:
    """The Alembic revision that the database is at, or None where there is none.

    Raises `sqlalchemy.exc.SQLAlchemyError` if the database does not answer.
    """
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return version


def trouble(engine: Engine) -> str | None:
    """What keeps the database from being of use, as a sentence; None if nothing does."""
    try:
        found = current(engine)
    except SQLAlchemyError:
        return f"The {engine.dialect.name} database does not answer."
    if found != SCHEMA_REVISION:
        return "The database's schema is not up to date: run `flask db upgrade`."
    return None


def upgrade(engine: Engine) -> None:
    """Migrate to the newest schema; several processes may do it at once."""
    # Alembic takes a fifth of a second to import, and hardly any start needs it.
    from alembic import command
    from alembic.config import Config

    config = Config(str(MIGRATIONS / "alembic.ini"))
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["engine"] = engine
    command.upgrade(config, "head")


def upgrade_embedded(engine: Engine) -> None:
    """Create or upgrade an embedded SQLite file; a PostgreSQL schema is its operator's (`flask db upgrade`)."""
    if engine.dialect.name == "sqlite" and current(engine) != SCHEMA_REVISION:
        upgrade(engine)
