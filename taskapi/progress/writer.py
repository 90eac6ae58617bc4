"""The thread that writes what workers report: one for each process and database. Knows no worker.

The worker's own thread writes only what it must see done: the task's creation, its start and its end.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from ..database import schema
from ..database.connections import dialect_of, open_engine
from ..database.models import TaskStatus
from ..database.reader import Reader
from ..database.store import Report, Store
from .errors import DatabaseUnavailable, TaskClosed
from .ledger import Ledger

log = logging.getLogger(__name__)

T = TypeVar("T")

# At most so often does the thread write.
INTERVAL_SECONDS = 0.25
# How long a task's start, its end and the process's end are tried again while the database does not answer.
START_SECONDS = 10.0
FINAL_WRITE_SECONDS = 300.0
EXIT_SECONDS = 5.0
# How long a fork waits for a transaction on SQLite.
FORK_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 2.0

# What a database says of data it will never take, such as a sum past 64 bits.
REFUSALS = (DataError, IntegrityError, OverflowError)


def pauses() -> Iterator[float]:
    """How long to wait before each next attempt."""
    pause = INTERVAL_SECONDS / 2
    while True:
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        yield pause


class Writer:
    """Writes the reports of all tasks of this process to one database. Connects to nothing until it must."""

    def __init__(self, url: URL, lease: float) -> None:
        self._url = url
        self._lease = lease
        self._period = min(INTERVAL_SECONDS, lease / 4)
        self._store: Store | None = None
        # What may pass, and is tried again; the driver's own errors come from where SQLAlchemy does not translate.
        self._outages = (SQLAlchemyError, url.get_dialect().import_dbapi().Error)
        self._inherited: list[Any] = []
        self._all: WeakSet[Ledger] = WeakSet()
        self._set_up()

    def _set_up(self) -> None:
        self._lock = threading.Lock()  # of the two lines below; never held while the database is asked
        self._watched: set[Ledger] = set()
        self._thread: threading.Thread | None = None
        self._poked = threading.Event()
        # One conversation with the database at a time: no report overtakes another of its task, and a fork waits.
        self._talking = threading.RLock()
        self._quiet = False

    # The workers' side.

    def ask(self, question: Callable[[Store], T], seconds: float) -> T:
        """Put a question to the store, again while the database does not answer.

        Raises `DatabaseUnavailable` after so many seconds, and at once if the database has no such table.
        """
        deadline = time.monotonic() + seconds
        for pause in pauses():
            try:
                with self._talking:
                    return question(self.store())
            except REFUSALS:
                raise
            except self._outages as error:
                if type(getattr(error, "orig", error)).__name__ == "UndefinedTable":
                    raise DatabaseUnavailable("The database has no such table: run `flask db upgrade`.") from error
                if time.monotonic() + pause > deadline:
                    raise DatabaseUnavailable(f"The database did not answer for {seconds:g} seconds.") from error
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def store(self) -> Store:
        """The store; an embedded database is brought up to date first, since a worker may come before the server."""
        with self._talking:
            if self._store is None:
                store = Store(open_engine(self._url))
                schema.upgrade_embedded(store)
                self._store = store
            return self._store

    def start(self, ledger: Ledger) -> None:
        """Keep a task's lease alive from now on."""
        ledger.held = True
        ledger.say_running(INTERVAL_SECONDS)
        self.watch(ledger)

    def watch(self, ledger: Ledger) -> None:
        """See to it that what is said of a task gets written soon. Raises `TaskClosed`."""
        ledger.check_open()
        with self._lock:
            self._all.add(ledger)
            self._watched.add(ledger)
            ledger.watched = True
            if self._thread is None:
                self._start_thread()
        self.poke()

    def poke(self) -> None:
        """Write now, if the last write is long enough ago."""
        if not self._poked.is_set():
            self._poked.set()

    def flush(self, ledger: Ledger) -> None:
        """Write all that is said of a task. Raises `DatabaseUnavailable` after `FINAL_WRITE_SECONDS`."""
        self.ask(lambda _store: self.write([ledger]), FINAL_WRITE_SECONDS)

    def finish(self, ledger: Ledger, status: TaskStatus, **last: Any) -> None:
        """Write the end of a task. Raises `TaskClosed` if it has ended without us, `DatabaseUnavailable`."""
        try:
            if ledger.runs_unsaid:  # a transaction of its own: whoever watches sees every state
                self.flush(ledger)
            ledger.say(status=status, **last)
            self.flush(ledger)
            # A write that broke off may have been committed: the end that is found there is then our own.
            if ledger.closed and not (ledger.in_doubt and ledger.closed.status is status):
                raise TaskClosed(*ledger.closed.args)
        finally:
            ledger.close(ledger.closed.status if ledger.closed else status)

    # The thread's side.

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="taskapi.progress", daemon=True)
        self._thread.start()
        # A forked child of multiprocessing leaves without `atexit`, by way of its own list.
        if multiprocessing := sys.modules.get("multiprocessing.util"):
            multiprocessing.Finalize(None, self.write_at_exit, exitpriority=0)

    def _run(self) -> None:
        while True:
            if self._write_patiently():
                time.sleep(self._period)
            else:
                self._poked.wait(self._period if self._watched else None)
                self._poked.clear()

    def _write_patiently(self) -> bool:
        for pause in pauses():
            try:
                return self._write_watched()
            except Exception as error:
                unexpected = not isinstance(error, self._outages)
                log.warning(
                    "reports are kept: they cannot be written now: %s", type(error).__name__, exc_info=unexpected
                )
                time.sleep(pause)
        raise AssertionError("pauses never end")

    def _write_watched(self) -> bool:
        with self._lock:
            watched = list(self._watched)
        with self._talking:
            wrote = self.write(watched, everything=False)
            self._renew(watched)
        self._let_go(watched)
        return wrote

    def write(self, ledgers: Collection[Ledger], *, everything: bool = True) -> bool:
        """Write what is said of these tasks in one transaction; whether there was anything.

        What could not be written is kept. Raises `sqlalchemy.exc.SQLAlchemyError`.
        """
        with self._talking:
            return self._write(ledgers, everything=everything)

    def _write(self, ledgers: Collection[Ledger], *, everything: bool = True) -> bool:
        taken = {ledger: report for ledger in ledgers if (report := ledger.take(everything=everything))}
        if not taken:
            return False
        try:
            unchanged = self.store().report(list(taken.values()), self._lease)
        except REFUSALS:
            self._write_apart(taken)
        except BaseException:
            give_back(taken)
            raise
        else:
            self._settle(taken, unchanged)
        return True

    def _write_apart(self, refused: dict[Ledger, Report]) -> None:
        """After a refusal: what the database will not take of one task must not hold up the others, nor its words."""
        if len(refused) == 1:
            [(ledger, report)] = refused.items()
            log.error("task %s: the database refuses %s", ledger.task_id, report)
            words = report._replace(total_items=None, completed_items=None, advance=0)
            refused = {ledger: words} if words != report else {}
        give_back(refused)
        for ledger in refused:
            self._write([ledger])

    def _renew(self, ledgers: Collection[Ledger]) -> None:
        now = time.monotonic()
        silent = [ledger for ledger in ledgers if ledger.held and now - ledger.leased_at > self._lease / 3]
        if silent:
            self._settle(silent, self.store().renew([ledger.id for ledger in silent], self._lease))

    def _settle(self, ledgers: Collection[Ledger], unchanged: set[int]) -> None:
        """After a write: leases are new, but tasks in which nothing changed have ended."""
        now = time.monotonic()
        for ledger in ledgers:
            ledger.leased_at = now
            if ledger.id in unchanged:
                ledger.close(self._status_of(ledger))

    def _status_of(self, ledger: Ledger) -> TaskStatus | None:
        try:
            found = self.store().task(ledger.task_id)
        except self._outages:
            return None
        return found and found.status

    def _let_go(self, ledgers: Collection[Ledger]) -> None:
        with self._lock:
            self._watched.difference_update([ledger for ledger in ledgers if ledger.let_go()])

    # The process's side.

    def write_at_exit(self) -> None:
        """Write what is left when the process ends."""
        with self._lock:
            left = list(self._watched)
        if not left:  # then the database may never have been opened
            return
        try:
            self.ask(lambda _store: self.write(left), EXIT_SECONDS)
        except Exception as error:
            log.error("reports are lost: the database did not take them at the end: %s", type(error).__name__)  # noqa: TRY400

    def before_fork(self) -> None:
        """Leave no SQLite connection open in a fork.

        SQLite keeps a process's locks in its memory, which a child inherits without owning them: it would wait for
        its parent's transaction for ever, or lose what it writes when the parent closes the file.
        """
        self._quiet = dialect_of(self._url).is_embedded and self._talking.acquire(timeout=FORK_SECONDS)
        if self._quiet and self._store is not None:
            self._store.close()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._quiet:
            self._talking.release()

    def after_fork_in_child(self) -> None:
        """Start over: new locks, no thread, nothing to write, and no connection that is the parent's."""
        self._set_up()
        for ledger in list(self._all):
            ledger.start_over()
        if self._store is not None:
            # Kept, since the child must not even close these connections.
            self._inherited += [self._store.engine.pool, self._store.reader]
            self._store.engine.dispose(close=False)
            self._store.reader = Reader(self._url)


def give_back(taken: Mapping[Ledger, Report]) -> None:
    """Return to the ledgers what could not be written."""
    for ledger, report in taken.items():
        ledger.give_back(report)


_registry_lock = threading.Lock()
_registry: dict[tuple[str, float], Writer] = {}


def writer_for(url: URL, lease: float) -> Writer:
    """This process's writer for a database."""
    key = (url.render_as_string(hide_password=False), lease)
    with _registry_lock:
        if key not in _registry:
            _registry[key] = Writer(url, lease)
        return _registry[key]


def _before_fork() -> None:
    _registry_lock.acquire()
    for writer in _registry.values():
        writer.before_fork()


def _after_fork_in_parent() -> None:
    for writer in _registry.values():
        writer.after_fork_in_parent()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    for writer in _registry.values():
        writer.after_fork_in_child()
    _registry_lock.release()


def _write_at_exit() -> None:
    for writer in list(_registry.values()):
        writer.write_at_exit()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_write_at_exit)
