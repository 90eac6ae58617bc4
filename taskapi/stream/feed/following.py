"""Tells PostgreSQL's writers what this process follows: nothing else is announced."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ...database.postgresql import FOLLOW, UNFOLLOW
from .base import Following

# Beyond so many tasks and users a process says that it follows everything. Each is a lock, of which the database's
# server has room for some thousands (`max_locks_per_transaction` for each connection).
KEYS_AT_MOST = 64
# What is not followed any more is let go after so long, or when there is no room: who left is often soon back.
LET_GO_SECONDS = 10.0
EVERYTHING = 0
# The bits of an id that are a key.
BITS = 2**31 - 1


def keys_of(following: Following | None) -> frozenset[int]:
    """Under which locks the writers look for what is followed (see the table's trigger); None is everything."""
    if following is None:
        return frozenset({EVERYTHING})
    return frozenset({task & BITS for task in following.tasks} | {~(user & BITS) for user in following.users})


class Registration:
    """What the writers were told, by locks that end with the connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._held: frozenset[int] = frozenset()
        self._let_go_at = 0.0

    def tell(self, keys: frozenset[int], now: float) -> frozenset[int]:
        """Have these announced; those of them that were not until now, which are to be read after this."""
        new, over = keys - self._held, self._held - keys
        if new:
            self._execute(FOLLOW, new)
            self._held |= new
        if over and (len(self._held) > KEYS_AT_MOST or now - self._let_go_at > LET_GO_SECONDS):
            self._execute(UNFOLLOW, over)
            self._held -= over
            self._let_go_at = now
        return new

    def _execute(self, statement: str, keys: frozenset[int]) -> None:
        self._connection.execute(statement, {"keys": list(keys)})


class Bell:
    """Wakes a thread that waits for a descriptor."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """What becomes readable."""
        return self._read

    def ring(self) -> None:
        """Wake it, now or when it next waits."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def silence(self) -> None:
        """Note that it is awake."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
