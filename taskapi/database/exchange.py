"""A connection to PostgreSQL that asks, at little more than libpq's own cost: a poll is one exchange of one row."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import abc
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import OperationalError, error_from_result
from psycopg.generators import execute
from psycopg.pq import ExecStatus
from psycopg.waiting import Ready, Wait

from .. import servers
from .statements import PARAMETER

# How long an answer may take. A server that hangs still acknowledges what it is sent: no kernel sees anything wrong.
ANSWER_SECONDS = 10.0


class AskingConnection(psycopg.Connection[Any]):
    """A connection for one thread or greenlet at a time, in autocommit mode."""

    _transformer: abc.Transformer | None = None
    _readiness: Readiness | None = None

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Ask with parameters written `:name`; all rows. Raises `psycopg.Error`.

        A cursor's bookkeeping, and another round of its own for each wait, would take twice as long as the exchange.
        """
        text, names = _numbered(statement)
        transformer = self._transformer = self._transformer or Transformer(self)
        values = transformer.dump_sequence([parameters[name] for name in names], [PyFormat.AUTO] * len(names))
        self.pgconn.send_query_params(text, values, transformer.types, transformer.formats)
        result = self.wait(execute(self.pgconn))[-1]
        if result.status != ExecStatus.TUPLES_OK:
            raise error_from_result(result, encoding="utf-8")
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an exchange, for `ANSWER_SECONDS` unless told otherwise."""
        if timeout is not None or not servers.is_cooperative():
            return super().wait(gen, interval, ANSWER_SECONDS if timeout is None else timeout)
        if self._readiness is None or not self._readiness.is_here:
            self._readiness = Readiness(self.pgconn.socket)
        return self._readiness.wait_for(gen)


class Readiness:
    """Waits for a descriptor by gevent's loop; psycopg's own way, by `poll`, takes three times as long."""

    def __init__(self, descriptor: int) -> None:
        from gevent import hub

        self._get_hub, self._hub, self._waiter = hub.get_hub, hub.get_hub(), hub.Waiter
        loop = self._hub.loop
        self._watchers = {wanted: loop.io(descriptor, int(wanted)) for wanted in (Wait.R, Wait.W, Wait.RW)}
        # Begun by `again` only: a timer of libev's that is stopped and started has but the rest of its time.
        self._timer = loop.timer(ANSWER_SECONDS, ANSWER_SECONDS)

    @property
    def is_here(self) -> bool:
        """Whether this thread's loop is the one."""
        return self._get_hub() is self._hub

    def wait_for(self, exchange: PQGen[Any]) -> Any:
        """Let an exchange go on whenever the descriptor is ready; its result."""
        deadline = time.monotonic() + ANSWER_SECONDS
        try:
            wanted = next(exchange)
            while self._is_ready(wanted) and time.monotonic() < deadline:
                wanted = exchange.send(Ready(wanted))
        except StopIteration as end:
            return end.value
        raise OperationalError("wait timeout expired")

    def _is_ready(self, wanted: Wait) -> bool:
        watcher, waiter = self._watchers[wanted], self._waiter(self._hub)
        watcher.start(waiter.switch, True)
        self._timer.again(waiter.switch, False)
        try:
            return bool(waiter.get())
        finally:
            watcher.stop()
            self._timer.stop()


@lru_cache
def _numbered(statement: str) -> tuple[bytes, list[str]]:
    """A statement whose parameters are written `$1`, and their names in this order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return PARAMETER.sub(number, statement).encode(), names
