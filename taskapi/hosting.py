"""Our tables beside a host's own: made and removed with its metadata in tests, invisible to its autogenerate."""

from __future__ import annotations

import sys
from typing import Any

import click
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url

from .database.connections import dialect_of
from .database.schema import TABLES, VERSION, Direct, downgrade_to, upgrade_to


def check_database(url: str | URL) -> None:
    """Say at the start, not with a request, that an application's database is none of ours, or lacks our driver.

    Raises `ValueError` or `taskapi.extras.MissingExtraError`.
    """
    dialect_of(make_url(url)).insist_on_driver()


def follow_metadata(metadata: sa.MetaData) -> None:
    """Let `create_all` bring the tables, triggers and all, and `drop_all` remove them."""
    event.listen(metadata, "after_create", _create)
    event.listen(metadata, "before_drop", _drop)


def _create(_metadata: sa.MetaData, connection: Connection, **_options: Any) -> None:
    upgrade_to(Direct(connection), VERSION)


def _drop(_metadata: sa.MetaData, connection: Connection, **_options: Any) -> None:
    downgrade_to(Direct(connection), 0)


def hide_from_autogenerate() -> None:
    """Let Alembic's autogenerate propose nothing about our tables, whichever extension is bound first.

    Only where Alembic is about to be used: it takes a fifth of a second to import.
    """
    if "alembic" not in sys.modules and click.get_current_context(silent=True) is None:
        return
    try:
        from alembic.autogenerate import comparators
    except ImportError:
        return
    comparators.dispatch_for("schema", **_after_all_others())(_keep_ours_out)


def _after_all_others() -> dict[str, Any]:
    try:
        from alembic.util import DispatchPriority  # Alembic 1.18
    except ImportError:
        return {}
    return {"priority": DispatchPriority.LAST}


def _keep_ours_out(_context: Any, operations: Any, _schemas: Any) -> None:
    operations.ops[:] = [each for each in operations.ops if getattr(each, "table_name", None) not in TABLES]
