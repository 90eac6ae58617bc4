"""How this process learns that rows of an SQLite file changed."""

from __future__ import annotations

import contextlib
import sqlite3
import time

from ...database.embedded import FileConnection
from ...database.failures import DatabaseError
from ...database.sqlite import CHANGED_SINCE, LAST_REVISION
from .base import Feed, Pace
from .files import DatabaseFiles

# A write to its files is noticed a moment before it is committed. So SQLite is looked at when it is written to, and a
# moment after; and again and again, after pauses that grow fourfold, in case that the writer was held up in between.
COMMIT_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 1.0


class SqliteFeed(Feed):
    """Looks at `PRAGMA data_version` (3 µs), which changes when another connection has committed."""

    outages = (DatabaseError, sqlite3.Error, OSError)

    def _watch(self) -> None:
        url = self._store.url
        with contextlib.closing(self._store.dialect.open_reader(url)) as connection:
            self.connected = True
            while True:
                self._wanted.wait()
                with DatabaseFiles(str(url.database)) as files:  # of which the kernel grants a user a hundred or so
                    self._follow(connection, files)

    def _follow(self, connection: FileConnection, files: DatabaseFiles) -> None:
        version, revision = None, _last_revision(connection)
        written, pause, pace = False, COMMIT_SECONDS, Pace()
        self._listener.gap()  # nobody looked until now
        while self._wanted.is_set():
            if not connection.is_current:
                raise sqlite3.OperationalError("the database's file is gone or was replaced")
            current = connection.execute("PRAGMA data_version").fetchone()
            if current != version:
                version, revision, pause = current, self._tell(connection, revision), COMMIT_SECONDS
                pace.rest()
            elif written:
                written = False
                time.sleep(COMMIT_SECONDS)
            else:
                written = files.wait(pause)
                pause = COMMIT_SECONDS if written else min(4 * pause, LONGEST_PAUSE_SECONDS)

    def _tell(self, connection: FileConnection, revision: int) -> int:
        changes = connection.execute(CHANGED_SINCE, {"revision": revision}).fetchall()
        if changes:
            self._listener.changed((task, user) for task, user, _ in changes)
            return int(changes[-1][2])
        last = _last_revision(connection)
        if last < revision:
            self._listener.gap()  # a backup was restored
        return min(last, revision)  # a later one was committed since the question before, and is yet to be told


def _last_revision(connection: FileConnection) -> int:
    return int(connection.execute(LAST_REVISION).fetchone()[0])
