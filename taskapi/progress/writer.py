"""The thread that writes what workers report: one for each process and database. Knows no worker.

The worker's own thread writes only what it must see done: the task's creation, its start and its end.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar
from weakref import WeakSet

from ..database import schema
from ..database.address import Url
from ..database.connections import dialect_of
from ..database.failures import DatabaseError
from ..database.models import TaskStatus
from ..database.store import Attempt, Report, Store, Told
from .errors import DatabaseUnavailable
from .ledger import Draft, Ledger
from .refusals import REFUSALS, acceptable

log = logging.getLogger(__name__)

T = TypeVar("T")

# At most so often does the thread write.
INTERVAL_SECONDS = 0.25
# So often it asks whether those who say nothing are to stop; who says something is told with it.
ASK_SECONDS = 2.0
# How long a task's start, its end and the process's end are tried again while the database does not answer.
START_SECONDS = 10.0
FINAL_WRITE_SECONDS = 300.0
EXIT_SECONDS = 5.0
# How long a fork waits for a transaction on SQLite.
FORK_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 2.0
# How often it is looked what other processes have counted of a task whose bar this one moves.
COMPARE_SECONDS = 0.5
# How long a worker waits for the database's word on that, before it enters a step.
LOOK_SECONDS = 0.5


def pauses() -> Iterator[float]:
    """How long to wait before each next attempt."""
    pause = INTERVAL_SECONDS / 2
    while True:
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        yield pause


class Writer:
    """Writes the reports of all tasks of this process to one database. Connects to nothing until it must."""

    def __init__(self, url: Url, lease: float) -> None:
        self._url = url
        self._lease = lease
        self._period = min(INTERVAL_SECONDS, lease / 4)
        self._store: Store | None = None
        self._inherited: list[Store] = []
        self._all: WeakSet[Ledger] = WeakSet()
        # A child of multiprocessing may be terminated as soon as its function has returned.
        process = sys.modules.get("multiprocessing.process")
        self._set_up(in_child=process is not None and process.parent_process() is not None)

    def _set_up(self, *, in_child: bool) -> None:
        self._in_child = in_child
        # A signal handler may report at any line of a thread, and meets every lock that its own thread holds: they are
        # reentrant, and so is the queue. (An Event is not.)
        self._lock = threading.RLock()  # of the two lines below; never held while the database is asked
        self._watched: set[Ledger] = set()
        self._threads: dict[str, threading.Thread] = {}
        self._pokes: queue.SimpleQueue[None] = queue.SimpleQueue()
        # One conversation with the database at a time: no report overtakes another of its task, and a fork waits.
        self._talking = threading.RLock()
        self._writing = False
        self._quiet = False
        self._compared_at = 0.0
        self._asked_at = 0.0

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
            except DatabaseError as error:
                if type(error.orig).__name__ == "UndefinedTable":
                    raise DatabaseUnavailable("The database has no such table: run `flask db upgrade`.") from error
                if time.monotonic() + pause > deadline:
                    what = f"The database did not answer for {seconds:g} seconds. {self._explain(error)}"
                    raise DatabaseUnavailable(what) from error
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def store(self) -> Store:
        """The store; an embedded database is brought up to date first, since a worker may come before the server."""
        with self._talking:
            if self._store is None:
                store = Store(self._url)
                schema.upgrade_embedded(store)
                self._store = store
            return self._store

    def _explain(self, error: Exception) -> str:
        return dialect_of(self._url).explain(self._url, error)

    def start(self, ledger: Ledger) -> None:
        """Keep a task's lease alive from now on; this process will say how it ends."""
        ledger.held = ledger.ends_here = True
        ledger.say_running(INTERVAL_SECONDS)
        self.watch(ledger)

    def hold(self, ledger: Ledger) -> None:
        """Keep a task's lease alive from now on."""
        ledger.held = True
        self.watch(ledger)

    def release(self, ledger: Ledger) -> None:
        """Write all that is said of a task, and leave its lease to others."""
        ledger.held = ledger.watched = False
        self.flush(ledger)

    def see_to(self, ledger: Ledger) -> None:
        """See to it that what was said of a task gets written: soon, or in a child process at once.

        Nobody knows how such a process will end: `multiprocessing.Pool` terminates its own, without a word. Raises
        `TaskClosed`.
        """
        if self.writes_at_once(ledger):
            ledger.check_open()
            self.flush(ledger)
            ledger.check_open()
        else:
            self.watch(ledger)

    def writes_at_once(self, ledger: Ledger) -> bool:
        """Whether what is said of a task is in the row when the call that said it is over."""
        return self._in_child and not ledger.held

    def look(self, ledger: Ledger) -> None:
        """Before a step: let others know that there are steps, and see what they have counted by now.

        Waits no longer than `LOOK_SECONDS`: the database may be away, or its row locked.
        """
        thread = threading.Thread(target=self._look, args=[ledger], name="taskapi.progress.look", daemon=True)
        thread.start()
        thread.join(LOOK_SECONDS)

    def _look(self, ledger: Ledger) -> None:
        with contextlib.suppress(DatabaseError), self._talking:
            if ledger.is_marked:
                self._compare_with_rows([ledger])
            else:
                self.write([ledger])

    def watch(self, ledger: Ledger) -> None:
        """See to it that what is said of a task gets written soon. Raises `TaskClosed`."""
        ledger.check_open()
        with self._lock:
            self._all.add(ledger)
            self._watched.add(ledger)
            ledger.watched = not self.writes_at_once(ledger)
            self._start_thread()
        self.poke()

    def follow(self, _ledger: Ledger, parts: Iterator[Iterator[T]]) -> Iterator[Iterator[T]]:
        """A loop's items as they are: the loop itself tells how far it is."""
        return parts

    def before_item(self, _ledger: Ledger) -> None:
        """Nothing, before a coroutine's loop asks for its next item."""

    def poke(self) -> None:
        """Write now, if the last write is long enough ago."""
        if self._pokes.empty():
            self._pokes.put(None)

    def flush(self, ledger: Ledger) -> None:
        """Write all that is said of a task. Raises `DatabaseUnavailable` after `FINAL_WRITE_SECONDS`."""
        self.ask(lambda _store: self.write([ledger]), FINAL_WRITE_SECONDS)

    def finish(self, ledger: Ledger, status: TaskStatus, **last: Any) -> None:
        """Write the end of a task. Raises `TaskClosed` if it has ended without us, `DatabaseUnavailable`."""
        ledger.on_stop = None
        try:
            if ledger.runs_unsaid:  # a transaction of its own: whoever watches sees every state
                self.flush(ledger)
            ledger.say(status=status, **last)
            self.flush(ledger)
            # A write that broke off may have been committed: the end that is found there is then our own.
            if ledger.closed and not (ledger.in_doubt and ledger.closed.status is status):
                raise ledger.reason()
        finally:
            if not ledger.closed:
                ledger.close(status)

    def is_cancelled(self, ledger: Ledger) -> bool:
        """Whether a task is to end. Where the thread does not look after it, the database is asked, now and then."""
        if not (ledger.watched or ledger.closed or ledger.is_cancelled):
            now = time.monotonic()
            if now - ledger.asked_at > ASK_SECONDS:
                ledger.asked_at = now
                with contextlib.suppress(DatabaseError), self._talking:
                    self._ask_after([ledger])
        return ledger.is_cancelled

    # The thread's side.

    def _start_thread(self) -> None:
        if self._threads:
            return
        thread = threading.Thread(target=self._run, name="taskapi.progress", daemon=True)
        if self._threads.setdefault("writer", thread) is thread:  # else a signal handler was faster
            thread.start()
            for name in ("multiprocessing.util", "billiard.util"):  # their forked children leave without `atexit`
                if module := sys.modules.get(name):
                    module.Finalize(None, self.write_at_exit, exitpriority=0)

    def _run(self) -> None:
        while True:
            if self._write_patiently():
                time.sleep(self._period)
            else:
                with contextlib.suppress(queue.Empty):
                    self._pokes.get(timeout=self._period if self._watched else None)

    def _write_patiently(self) -> bool:
        for pause in pauses():
            try:
                return self._write_watched()
            except Exception as error:
                unexpected = not isinstance(error, DatabaseError)
                log.warning(
                    "reports are kept: they cannot be written now: %s", self._explain(error), exc_info=unexpected
                )
                time.sleep(pause)
        raise AssertionError("pauses never end")

    def _write_watched(self) -> bool:
        with self._lock:
            watched = list(self._watched)
        with self._talking:
            self._compare(watched)
            wrote = self.write(watched, everything=False)
            self._renew(watched)
            self._ask_after_silent(watched)
        self._let_go(watched)
        return wrote

    def write(self, ledgers: Collection[Ledger], *, everything: bool = True) -> bool:
        """Write what is said of these tasks in one transaction, during a conversation; whether there was anything.

        What could not be written is kept. Raises `DatabaseError`.
        """
        if self._writing:  # this thread has been interrupted by a signal handler, which must not wait for it
            for ledger in ledgers:
                self.watch(ledger)
            return False
        self._writing = True
        try:
            return self._write({ledger: draft for ledger in ledgers if (draft := ledger.draft(everything=everything))})
        finally:
            self._writing = False

    def _write(self, drafts: dict[Ledger, Draft]) -> bool:
        if drafts:
            try:
                self._report(drafts, [draft.report for draft in drafts.values()])
            except REFUSALS:
                # What the database will not take of one task must hold up neither the others nor what else it says.
                for ledger, draft in drafts.items():
                    self._report_acceptable(ledger, draft)
        return bool(drafts)

    def _report_acceptable(self, ledger: Ledger, draft: Draft) -> None:
        """Write as much of one task's report as the database takes."""
        for report in acceptable(draft.report):
            with contextlib.suppress(*REFUSALS):
                self._report({ledger: draft}, [report])
                break
        else:
            ledger.wrote(draft)
        if report is not draft.report:
            log.error("task %s: the database refuses %s", ledger.task_id, draft.report)

    def _report(self, drafts: dict[Ledger, Draft], reports: list[Report]) -> None:
        try:
            told = self.store().report(reports, self._lease)
        except REFUSALS:
            raise
        except BaseException:
            for ledger in drafts:
                ledger.in_doubt = True
            raise
        for ledger, draft in drafts.items():
            ledger.wrote(draft)
        self._hear(drafts, told)

    def _compare(self, ledgers: Collection[Ledger]) -> None:
        if time.monotonic() > self._compared_at + COMPARE_SECONDS:
            self._compare_with_rows([ledger for ledger in ledgers if ledger.is_divided])
            self._compared_at = time.monotonic()

    def _compare_with_rows(self, ledgers: Collection[Ledger]) -> None:
        """See what other processes have counted of the tasks whose bars have steps, since they cannot move those."""
        found = {ledger.attempt.id: ledger for ledger in ledgers}
        for position in self.store().positions(found) if found else ():
            found[position.id].compare(position)

    def _renew(self, ledgers: Collection[Ledger]) -> None:
        now = time.monotonic()
        silent = [ledger for ledger in ledgers if ledger.held and now - ledger.leased_at > self._lease / 3]
        if silent:
            self._hear(silent, self.store().renew([ledger.attempt.key for ledger in silent], self._lease))

    def _hear(self, ledgers: Collection[Ledger], told: Told) -> None:
        """After a write: leases are new, but some are to stop."""
        now = time.monotonic()
        for ledger in ledgers:
            ledger.leased_at = now
        self._stop(ledgers, told)

    def _ask_after_silent(self, ledgers: Collection[Ledger]) -> None:
        now = time.monotonic()
        if now - self._asked_at < ASK_SECONDS:
            return
        self._asked_at = now
        self._ask_after([ledger for ledger in ledgers if now - ledger.leased_at > INTERVAL_SECONDS])

    def _ask_after(self, ledgers: Collection[Ledger]) -> None:
        """Ask whether these are to stop, all in one question."""
        unknowing = [ledger for ledger in ledgers if not ledger.closed]
        if unknowing:
            self._stop(unknowing, self.store().to_stop(ledger.attempt.key for ledger in unknowing))

    def _stop(self, ledgers: Collection[Ledger], told: Told) -> None:
        for ledger in ledgers:
            if ledger.attempt.key in told.over:
                self._close(ledger)
            elif ledger.attempt.key in told.cancelled:
                ledger.cancel()

    def _close(self, ledger: Ledger) -> None:
        found = self._found(ledger)
        ledger.is_cancelled |= found is not None and found.is_to_be_cancelled
        ledger.close(found and found.status, found and found.result_message)

    def _found(self, ledger: Ledger) -> Attempt | None:
        try:
            return self.store().attempt(ledger.task_id)
        except DatabaseError:
            return None

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
            log.error("reports are lost: the database did not take them at the end: %s", self._explain(error))  # noqa: TRY400

    def before_fork(self) -> None:
        """Leave no SQLite connection open in a fork, and no driver half imported.

        SQLite keeps a process's locks in its memory, which a child inherits without owning them: it would wait for
        its parent's transaction for ever, or lose what it writes when the parent closes the file. It would wait as
        long for a module that another thread of its parent was about to import.
        """
        if self._store is not None:
            self._store.dialect.load()
        self._quiet = dialect_of(self._url).is_embedded and self._talking.acquire(timeout=FORK_SECONDS)
        if self._quiet and self._store is not None:
            self._store.close()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._quiet:
            self._talking.release()

    def after_fork_in_child(self) -> None:
        """Start over: new locks, no thread, nothing to write, and no connection that is the parent's."""
        self._set_up(in_child=True)
        for ledger in list(self._all):
            ledger.start_over()
        if self._store is not None:
            # Kept, since the child must not even close these connections.
            self._inherited.append(self._store)
            self._store = Store(self._url)
