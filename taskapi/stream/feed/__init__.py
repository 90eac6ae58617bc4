"""How this process learns that rows changed: one feed for each database, one rule for both."""

from __future__ import annotations

from ...database.store import Store
from .base import Feed, Following, Listener

__all__ = ["Feed", "Following", "Listener", "open_feed"]


def open_feed(store: Store, listener: Listener) -> Feed:
    """The feed for the store's database."""
    # Each imported only where it is used: psycopg may not be there.
    if store.dialect.name == "sqlite":
        from .sqlite import SqliteFeed

        return SqliteFeed(store, listener)
    from .postgresql import PostgresqlFeed

    return PostgresqlFeed(store, listener)
