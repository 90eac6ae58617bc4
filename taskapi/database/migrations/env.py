"""Runs the migrations of the standalone service: `flask db ...`, through Flask-Migrate."""

import click
from alembic import context
from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from taskapi.database import schema
from taskapi.database.connections import dialect_of, open_engine
from taskapi.database.failures import DatabaseError

url = current_app.extensions["migrate"].db.engine.url
engine = open_engine(url)


def migrate():
    if click.get_current_context().command.name == "upgrade":  # the others find what is there
        dialect_of(url).prepare_file(url)
    with engine.connect() as connection:
        # One transaction around looking and changing: of several processes that start at once, the first
        # migrates and the others then find nothing to do. SQLite's DDL is transactional too.
        context.configure(
            connection=connection,
            transactional_ddl=True,
            transaction_per_migration=False,
            version_table=schema.ACCOUNT,
        )
        with context.begin_transaction():
            # The tables tell which version they have, whoever brought them there.
            if found := schema.version_of(connection):
                context.get_context().stamp(context.script, schema.revision_of(found))
            context.run_migrations()
            schema.settle(connection)


if context.is_offline_mode():
    context.configure(url=engine.url, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    try:
        migrate()
    except (SQLAlchemyError, DatabaseError) as error:
        raise click.ClickException(dialect_of(url).explain(url, error)) from None
engine.dispose()
