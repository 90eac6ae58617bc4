"""What matters to PostgreSQL alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from ..database.postgresql import CANARY, CHANNEL
from ..database.store import Store
from .findings import Finding, note, well, wrong

HEARD_WITHIN_SECONDS = 5.0
# Behind a transaction that is open for so long, every change leaves a dead row that cannot be reused.
LONG_TRANSACTION_SECONDS = 3600
CONNECTIONS = """
    SELECT count(*), current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    FROM pg_stat_activity WHERE backend_type = 'client backend'"""
LONGEST = """
    SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::bigint FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND datname = current_database()"""


def description(store: Store) -> str:
    """Which server, and of which version."""
    ((version, database, role),) = store.reader.rows(
        "SELECT current_setting('server_version'), current_database(), current_user", {}
    )
    return f'PostgreSQL {version} answers for the database "{database}" as "{role}".'


def findings(store: Store) -> Iterator[Finding]:
    """How changes are told of, and what the server has left."""
    yield _feed(store)
    ((used, most),) = store.reader.rows(CONNECTIONS, {})
    if used > 0.8 * most:
        yield note("connections", f"{used} of {most} connections are in use.", "Raise max_connections, or lower pools.")
    else:
        yield well("connections", f"{used} of {most} connections are in use.")
    ((seconds,),) = store.reader.rows(LONGEST, {})
    if seconds > LONG_TRANSACTION_SECONDS:
        yield note(
            "vacuum",
            f"A transaction is open since {seconds // 60} minutes: what changes meanwhile cannot be cleaned up.",
            "Look for it in pg_stat_activity; idle_in_transaction_session_timeout ends such by itself.",
        )
    if store.reader.rows("SELECT current_setting('autovacuum')", {}) != [("on",)]:
        yield wrong("vacuum", "autovacuum is off: a table of reports grows without end.", "Switch it on.")


def _feed(store: Store) -> Finding:
    if store.reader.rows("SELECT pg_is_in_recovery()", {}) == [(True,)]:
        return wrong(
            "feed", "This is a standby, where nobody can listen or write.", "Name the primary; see Deployment."
        )
    with contextlib.closing(store.dialect.open_reader(store.url)) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        began = time.monotonic()
        store.reader.rows(CANARY, {})
        for _ in connection.notifies(timeout=HEARD_WITHIN_SECONDS, stop_after=1):
            return well("feed", f"A notification took {1000 * (time.monotonic() - began):.0f} ms.")
    return wrong(
        "feed",
        f"LISTEN works, but no notification came within {HEARD_WITHIN_SECONDS:.0f} s: a transaction pooler is between.",
        "Let TASKAPI_DATABASE_URL name PostgreSQL itself, or a pool in session mode. Until then bars move every 10 s.",
    )
