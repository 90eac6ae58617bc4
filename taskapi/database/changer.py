"""Statements that change something, straight on the driver; one alone is a transaction by itself: one round trip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .pool import Pool


class Changer(Pool):
    """Changes one database."""

    def change(self, *changes: tuple[str, Mapping[str, Any]]) -> list[list[tuple[Any, ...]]]:
        """Run statements with parameters written `:name` in one transaction; the rows that each returns.

        Waits for whoever has locked what they change. Nothing is run twice: what broke off may have been committed.
        Raises `DatabaseError`.
        """
        if not changes:
            return []
        for_driver = [(self._dialect.statement_for_driver(statement), given) for statement, given in changes]
        return self._use(lambda connection: self._dialect.change(connection, for_driver))

    def _open(self) -> Any:
        return self._dialect.open_changer(self._url)
