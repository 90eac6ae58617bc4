"""Runs the migrations: `flask db ...` through Flask-Migrate, or an engine that `taskapi.schema` hands over."""

from alembic import context
from flask import current_app

from taskapi.models import Base

# What only SQLite has: its counter in place of a sequence, and the index that its feed reads.
SQLITE_ONLY = {"user_tasks_revision", "ix_user_tasks_revision"}


def include_object(_object, name, kind, _reflected, _compare_to):
    # SQLite does not tell an index's DESC: there, every index would seem to differ from the model's.
    return name not in SQLITE_ONLY and not (kind == "index" and engine().dialect.name == "sqlite")


def engine():
    given = context.config.attributes.get("engine")
    return given if given is not None else current_app.extensions["migrate"].db.engine


if context.is_offline_mode():
    context.configure(url=engine().url, target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with engine().connect() as connection:
        # One transaction around looking and changing: of several processes that start at once, the first
        # migrates and the others then find nothing to do. SQLite's DDL is transactional too.
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_object=include_object,
            transactional_ddl=True,
            transaction_per_migration=False,
        )
        with context.begin_transaction():
            context.run_migrations()
