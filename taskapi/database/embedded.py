"""Connections to an SQLite file that may be deleted, moved or replaced while they are open.

Such a connection goes on with the file that it was opened on, which nobody else sees any more. And SQLite's log lies
beside the file under the file's name: whoever opened a new file beside the old one's log would be shown the old rows,
and would write them over the new ones.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

LOG_SUFFIX = "-wal"
INDEX_SUFFIX = "-shm"


class FileConnection(sqlite3.Connection):
    """A connection that can tell whether its file is still in its place."""

    _name = _place = ""
    _file: tuple[int, int] | None = None
    _log: tuple[int, int] | None = None

    def settle(self, name: str, place: str, before: tuple[int, int] | None) -> None:
        """Note what was opened: the file by this name, in the place that the name led to, if it is the one before."""
        self.execute("PRAGMA schema_version")  # opens the log, which stays the same while this is open
        self._name, self._place = name, place
        self._file, self._log = _identity(place), _identity(place + LOG_SUFFIX)
        if self._file != before:
            raise sqlite3.OperationalError("the file was replaced while it was opened")

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Ask with parameters written `:name`; all rows. Raises `sqlite3.Error`.

        Any writer may have put text there that is not UTF-8, which must not break every later read of its row. But
        such is rare: SQLite's driver is let decode all others by itself.
        """
        lenient = self.text_factory
        self.text_factory = str
        try:
            return self.execute(statement, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if hasattr(error, "sqlite_errorcode"):  # SQLite's own, and not its driver's
                raise
        finally:
            self.text_factory = lenient
        return self.execute(statement, parameters).fetchall()

    @property
    def is_current(self) -> bool:
        """Whether the file is neither gone nor replaced."""
        return self._file == _identity(self._name)

    def close(self) -> None:
        """Close; a log that the file has left behind follows it first."""
        if self._has_left_log:
            with contextlib.suppress(OSError, sqlite3.Error), _alone_in(Path(self._place).parent):
                self._carry_log()
        super().close()

    @property
    def _has_left_log(self) -> bool:
        is_left = self._log is not None and self._file != _identity(self._place)
        return is_left and self._log == _identity(self._place + LOG_SUFFIX)

    def _carry_log(self) -> None:
        if self._has_left_log:  # nobody else has done it meanwhile
            self.execute("PRAGMA wal_checkpoint(PASSIVE)")
            for suffix in (LOG_SUFFIX, INDEX_SUFFIX):
                Path(self._place + suffix).unlink()


def open_file(name: str, **options: Any) -> FileConnection:
    """Open a database file, which must be there. Raises `sqlite3.Error`."""
    place = os.path.realpath(name)
    before = _identity(place)
    connection = sqlite3.connect(f"file:{quote(place)}?mode=rw", uri=True, factory=FileConnection, **options)
    try:
        connection.settle(name, place, before)
    except BaseException:
        connection.close()
        raise
    return connection


def _identity(path: str) -> tuple[int, int] | None:
    """Which file is there now, by device and inode; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - before every statement: a `Path` would cost more than the call
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let no other process do the same here meanwhile."""
    import fcntl  # which only Unix has

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
