"""Runs the migrations of the standalone service: `flask db ...`, through Flask-Migrate."""

from alembic import context
from flask import current_app

from taskapi.database.connections import open_engine

engine = open_engine(current_app.extensions["migrate"].db.engine.url)

if context.is_offline_mode():
    context.configure(url=engine.url, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with engine.connect() as connection:
        # One transaction around looking and changing: of several processes that start at once, the first
        # migrates and the others then find nothing to do. SQLite's DDL is transactional too.
        context.configure(connection=connection, transactional_ddl=True, transaction_per_migration=False)
        with context.begin_transaction():
            context.run_migrations()
engine.dispose()
