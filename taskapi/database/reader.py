"""Statements that only read, straight on the driver: no BEGIN, no lock, one round trip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .failures import DatabaseError
from .pool import Pool


class Reader(Pool):
    """Asks one database."""

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement with parameters written `:name`; all its rows.

        A kept connection may have died since its last use, with PostgreSQL's restart for one: then a new one is
        asked, once. Raises `DatabaseError`.
        """

        def ask(connection: Any) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = connection.rows(statement, parameters)
            return rows

        try:
            return self._use(ask)
        except DatabaseError as error:
            if not error.lost:
                raise
            self.close()
            return self._use(ask)

    def _open(self) -> Any:
        return self._dialect.open_reader(self._url)
