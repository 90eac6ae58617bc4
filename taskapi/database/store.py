"""What can be asked of and done to the table, each one short transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .address import AnyUrl, Url
from .changer import Changer
from .connections import dialect_of
from .models import BIGINT_MAX, FINAL, ID, WAITING, Snapshot, TaskStatus
from .overdue import Overdue
from .reader import Reader
from .sqlite import MemoryConnection

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

# How many tasks a stream of all of a user's begins with, at most; and how many that it missed, since a cursor is what
# a client says.
ACTIVE_AT_MOST = 1000
MISSED_AT_MOST = 1000
KEYS_AT_MOST = 5000
PRUNE_BATCH = 500
CLOSE_BATCH = 500
# Of more kinds than that, those that come last by name are not told.
KINDS_AT_MOST = 200
# Among so many of everybody's tasks, the newest that other filters let through, a text is looked for.
SEARCHED_AT_MOST = 10_000


class Key(NamedTuple):
    """A row, whose it is, and its revision."""

    id: int
    user_id: int
    revision: int


class AttemptKey(NamedTuple):
    """What tells one attempt from every other; the id alone does not, since after a restore ids are used again."""

    id: int
    task_id: str
    attempt: int


class Filters(NamedTuple):
    """Which tasks a list is to hold; None is no filter.

    `text` is looked for in what the reader is shown: `sees_errors` is whether that is what a hidden failure said.
    """

    statuses: Sequence[TaskStatus] = tuple(TaskStatus)
    kind: str | None = None
    learning_path_id: int | None = None
    text: str | None = None
    sees_errors: bool = False


EVERY_TASK = Filters()


class Summary(NamedTuple):
    """How many tasks have each status, when the one that waits longest was created, and how many are stalled.

    Stalled: started, its lease run out, not yet closed.
    """

    counts: Mapping[str, int]
    oldest_waiting_at: Any  # a moment as the driver gives it, in UTC
    stalled: int


class Outcome(NamedTuple):
    """A task of a kind that has ended, and for how many seconds it waited and ran, as far as that is known."""

    kind: str | None
    status: TaskStatus
    is_cancelled: bool
    waited: float | None
    ran: float | None


class Failure(NamedTuple):
    """A task that has failed; `details` is the end of its traceback, where nobody gave it a message."""

    task_id: str
    kind: str | None
    message: str | None
    details: str | None
    ended_at: Any  # a moment as the driver gives it, in UTC


class Standing(NamedTuple):
    """How far a task is: `share` from 0 to 1; `started_at` and `now` by the database's clock, seconds since 1970."""

    id: int
    kind: str | None
    status: TaskStatus
    share: float
    started_at: float | None
    now: float


class Attempt(NamedTuple):
    """A task's newest start, as it is found; its number is 0 if nobody has started the task.

    Who has just started it also gets its kind, and the trace that it belongs to.
    """

    id: int
    task_id: str
    number: int
    status: TaskStatus
    total_items: int | None
    is_to_be_cancelled: bool = False
    result_message: str | None = None
    kind: str | None = None
    traceparent: str | None = None

    @property
    def key(self) -> AttemptKey:
        """What tells it from every other attempt."""
        return AttemptKey(self.id, self.task_id, self.number)


class Position(NamedTuple):
    """Where a task's bar is."""

    id: int
    completed_items: int
    total_items: int | None
    progress: float


class Active(NamedTuple):
    """How many tasks of a kind have a status that is not final, and since when; how many of them are stalled."""

    kind: str | None
    status: str
    number: int
    oldest_at: Any  # a moment as the driver gives it, in UTC
    age: float  # the oldest's, in seconds
    stalled: int


class Ended(NamedTuple):
    """A task that has ended: how often it was started, for how many seconds it waited until the last time, and ran."""

    kind: str | None
    status: str
    starts: int
    waited: float | None
    ran: float | None


# As a report's `total_items`: it is not known any more.
NO_TOTAL = -1


class Told(NamedTuple):
    """What the database says of attempts: which are over, and which go on but are to be cancelled."""

    over: set[AttemptKey]
    cancelled: set[AttemptKey]


class Report(NamedTuple):
    """What a worker says of one attempt at a task; None leaves a column as it is.

    `advance` is added to `completed_items` (after `completed_items`, if given, has replaced it), so that the
    counts of several processes add up. The status "queued" puts the task back, to be tried again: at no items of
    `total_items`, whatever it was.

    `share`: the bar stands at `begins` percent, and all items of the row move it by so much. Who does not say that of
    a task of which it was said once adds to its items, and leaves the bar where it is.
    """

    id: int
    task_id: str
    attempt: int
    status: TaskStatus | None = None
    stage: str | None = None
    progress: float | None = None
    total_items: int | None = None
    completed_items: int | None = None
    advance: int = 0
    result_message: str | None = None
    error_details: str | None = None
    begins: float | None = None
    share: float | None = None


class Store:
    """The table `user_tasks` of one database.

    `memory`: the engine in whose memory it is, if nobody else sees it. `hides_errors`: what a failure said is for
    administrators alone. Every method raises `DatabaseError` when the database does not answer.
    """

    def __init__(self, url: AnyUrl, *, memory: Engine | None = None, hides_errors: bool = False) -> None:
        self.url = Url.of(url)
        self.memory = memory
        self._hides_errors = hides_errors
        self.reader, self.changer = _doors(self.url, memory)
        self.dialect = dialect_of(url)
        self._sql = self.dialect.statements
        self._list = self.dialect.list_parameter

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        self.reader.close()
        self.changer.close()

    def explain(self, error: Exception) -> str:
        """What went wrong, in a sentence for the operator."""
        return self.dialect.explain(self.url, error)

    # What a request asks for.

    def task(self, task_id: str) -> Snapshot | None:
        """The task with this `task_id`."""
        return self._first(self._sql.task, task_id=task_id)

    def tasks_named(self, task_ids: Iterable[str]) -> list[Snapshot]:
        """The tasks with these ids, in no order; one that is not there is missing."""
        return self._snapshots(self._sql.tasks_named, task_ids=self._list(task_ids))

    def tasks_of(self, user_id: int, skip: int, limit: int, filters: Filters = EVERY_TASK) -> list[Snapshot]:
        """A page of the user's tasks, newest first."""
        return self._page(self._sql.tasks_of, filters, user_id=user_id, skip=skip, limit=limit)

    def tasks(self, skip: int, limit: int, filters: Filters = EVERY_TASK) -> list[Snapshot]:
        """A page of everybody's tasks, newest first."""
        statuses, depth = frozenset(filters.statuses), min(skip + limit, BIGINT_MAX)
        statement = self._sql.tasks
        if FINAL.isdisjoint(statuses):
            statement = self._sql.tasks_active
        elif TaskStatus.COMPLETED not in statuses and statuses <= FINAL:
            statement = self._sql.tasks_failed
        depth = depth if filters.text is None else SEARCHED_AT_MOST
        return self._page(statement, filters, skip=skip, limit=limit, depth=depth)

    def ended_counts(self) -> dict[str, int]:
        """How many tasks have ended in each way there is; every row is looked at."""
        return dict(self._rows(self._sql.ended_counts))

    def active(self) -> list[Active]:
        """The tasks that have not ended, by kind and status; what there is most of first."""
        return [Active(*row) for row in self._rows(self._sql.active)]

    def summary(self, ended: dict[str, int]) -> Summary:
        """All of the table in short, given what `ended_counts` said."""
        counts, found = dict.fromkeys(map(str, TaskStatus), 0) | ended, self.active()
        for tasks in found:
            counts[tasks.status] += tasks.number
        waiting = [tasks.oldest_at for tasks in found if tasks.status in WAITING]
        return Summary(counts, min(waiting, default=None), sum(tasks.stalled for tasks in found))

    def last_of_kinds(self, most: int) -> list[Outcome]:
        """Of each kind, of `KINDS_AT_MOST` at most, the last so many tasks that have ended, kind by kind."""
        kinds = [kind for (kind,) in self._rows(self._sql.kinds_ended, most=KINDS_AT_MOST)]
        return [
            Outcome(*row) for row in self._rows(self._sql.last_of_kinds, kinds=self._list([*kinds, None]), most=most)
        ]

    def failure_count(self, hours: int) -> int:
        """How many tasks have failed within the last hours. What was cancelled has not."""
        return int(self._rows(self._sql.failure_count, hours=hours)[0][0])

    def failures(self, hours: int, most: int, length: int) -> list[Failure]:
        """The last so many of them, newest first, and so many characters of what was said of each."""
        return [Failure(*row) for row in self._rows(self._sql.failures, hours=hours, most=most, length=length)]

    def newly_ended(self) -> list[Ended]:
        """The tasks that ended since any process asked for them: each of them is told once, ten seconds late or so."""
        if not self._rows(self._sql.is_uncounted):
            return []
        [(mark, since, until)] = self._rows(self._sql.count_from)
        is_ours, rows = self.changer.change(
            (self._sql.counted, {"mark": mark, "until": until}),
            (self._sql.ended_between, {"since": since, "until": until}),
        )
        return [Ended(*row) for row in rows] if is_ours else []  # else another process has counted meanwhile

    def latest_of_learning_path(self, learning_path_id: int) -> Snapshot | None:
        """The newest task of a learning path, whoever owns it."""
        return self._first(self._sql.latest_of_learning_path, path=learning_path_id)

    def active_of(self, user_id: int) -> list[Snapshot]:
        """The user's tasks that are not final, newest first, `ACTIVE_AT_MOST` at most."""
        return self._snapshots(self._sql.active_of, user_id=user_id, most=ACTIVE_AT_MOST)

    def ended_since(self, user_id: int, revision: int) -> list[Snapshot]:
        """The user's final tasks that changed after a revision, newest change first, `MISSED_AT_MOST` at most."""
        return self._snapshots(self._sql.ended_since, user_id=user_id, revision=revision, most=MISSED_AT_MOST)

    def keys_ended_lately(self, user_id: int, revision: int) -> list[Key]:
        """Those of the user's newest tasks that are final and changed after a revision."""
        rows = self._rows(self._sql.keys_ended_lately, user_id=user_id, revision=revision, most=MISSED_AT_MOST)
        return [Key(*row) for row in rows]

    # What forecasts ask for; moments are seconds since 1970.

    def runs(self, kind: str, most: int) -> list[tuple[float, float, float | None]]:
        """When the last tasks of a kind that ran were created, started and ended, and those that run now (no end)."""
        return self._rows(self._sql.runs, kind=kind, most=most)

    def standings(self, ids: Iterable[int]) -> list[Standing]:
        """How far these tasks are; one that was deleted is missing."""
        return [Standing(*row) for row in self._rows(self._sql.standings, ids=self._list(ids))]

    def place(self, id_: int) -> tuple[int, float | None]:
        """A task's place among those of its kind that wait, and when the first of them was created."""
        places: list[tuple[int, float | None]] = self._rows(self._sql.place, id=id_)
        return places[0]

    def line(self, kind: str, most: int) -> list[tuple[int, float]]:
        """The first tasks of a kind that wait, by id, and when each was created."""
        return self._rows(self._sql.line, kind=kind, most=most)

    # What the feed asks for.

    def news(self, known: Mapping[int, int]) -> tuple[list[Snapshot], list[int]]:
        """Of tasks, given as `{id: revision}`: those with another revision, oldest change first; those deleted."""
        rows = self.reader.rows(self._sql.news, self.dialect.known_parameters(known))
        found = [self._snapshot(row) for row in rows if row[ID] is not None]
        return found, [row[-1] for row in rows if row[ID] is None]

    def keys_of_ids(self, ids: Iterable[int]) -> list[Key]:
        """The keys of these tasks; one that was deleted is missing."""
        return [Key(*row) for row in self._rows(self._sql.keys_of_ids, ids=self._list(ids))]

    def keys_of_users(self, user_ids: Iterable[int], revision: int) -> list[Key]:
        """The keys of these users' tasks that changed after a revision and are not final, or were created after it.

        Newest change first, `KEYS_AT_MOST` at most.
        """
        rows = self._rows(self._sql.keys_of_users, user_ids=self._list(user_ids), revision=revision, most=KEYS_AT_MOST)
        return [Key(*row) for row in rows]

    def clock(self) -> int:
        """The database's clock, as revisions are: microseconds since 1970."""
        return int(self._rows(self._sql.clock)[0][0])

    def encoding(self) -> str:
        """What text the database takes; "UTF8" is all."""
        return str(self._rows(self._sql.encoding)[0][0])

    def schema_version(self) -> int:
        """The version that the tables have; the table that tells it came with version 2."""
        return int(self._rows(self._sql.schema_version)[0][0])

    # What a worker does.

    def create(self, fields: dict[str, Any]) -> None:
        """Insert a task. Raises `ConstraintError` if the `task_id` is taken."""
        self._change(self._sql.insert, **fields)

    def attempt(self, task_id: str) -> Attempt | None:
        """The newest attempt at a task."""
        rows = self._rows(self._sql.attempt, task_id=task_id)
        return _attempt(rows[0]) if rows else None

    def claim(self, task_id: str, lease: float) -> Attempt | None:
        """Start a task that is not final, with a lease of so many seconds; the attempt, or None.

        It begins with nothing done, said or broken. Of an attempt before it, nothing is taken any more.
        """
        rows = self._change(self._sql.claim, task_id=task_id, lease=lease)
        return _attempt(rows[0]) if rows else None

    def refuse(self, task_id: str) -> None:
        """Close a task that cannot be started: it was cancelled, or its time is over."""
        self.close_overdue(Overdue(*row) for row in self._rows(self._sql.refused, task_id=task_id))

    def report(self, reports: Iterable[Report], lease: float) -> Told:
        """Write reports in one transaction, each with a new lease; what is over has changed nothing."""
        return self._told((self._for(report), {**report._asdict(), "lease": lease}) for report in reports)

    def _for(self, report: Report) -> str:
        if report.status is None:
            return self._sql.report
        return self._sql.retry if report.status is TaskStatus.QUEUED else self._sql.report_of_status

    def renew(self, attempts: Iterable[AttemptKey], lease: float) -> Told:
        """Renew the leases of these attempts in one transaction."""
        return self._told((self._sql.renew, {**attempt._asdict(), "lease": lease}) for attempt in attempts)

    def positions(self, ids: Iterable[int]) -> list[Position]:
        """Where the bars of these tasks are."""
        return [Position(*row) for row in self._change(self._sql.positions, ids=self._list(ids))]

    def to_stop(self, attempts: Iterable[AttemptKey]) -> Told:
        """Which of these attempts are to stop."""
        rows = self._change(self._sql.to_stop, ids=self._list(attempt.id for attempt in attempts))
        found = {AttemptKey(*key): goes_on for *key, goes_on in rows}
        return Told({key for key in found if not found[key]}, {key for key in found if found[key]})

    # What whoever waits for a task may want.

    def cancel(self, task: Snapshot) -> bool:
        """End a task that waits, or ask for the end of one that was started; whether that was news."""
        return bool(self.cancel_all([task]))

    def cancel_all(self, tasks: Iterable[Snapshot]) -> list[Snapshot]:
        """The same for several, in one transaction; those of which it was news."""
        in_order = sorted(tasks, key=lambda task: task.id)  # in which everybody locks rows
        changes = [
            (self._sql.cancel, {"id": task.id, "task_id": task.task_id, "user_id": task.user_id}) for task in in_order
        ]
        return [task for task, news in zip(in_order, self.changer.change(*changes), strict=True) if news]

    # What keeps the table true and small.

    def overdue(self, cancel_within: float) -> list[Overdue]:
        """Some of the tasks that are to be closed: by a limit of their own, or because their worker is silent.

        `cancel_within`: how many seconds a worker may take to react to a cancellation.
        """
        rows = self._rows(self._sql.overdue_started, cancel_within=cancel_within, batch=CLOSE_BATCH)
        rows += self._rows(self._sql.overdue_waiting, batch=CLOSE_BATCH)
        return [Overdue(*row) for row in rows]

    def waiting_too_long(self, start_within: float) -> list[Overdue]:
        """Some of the tasks that have waited for more than so many seconds, and have no such limit of their own."""
        rows = self._rows(self._sql.waiting_too_long, start_within=start_within, batch=CLOSE_BATCH)
        return [Overdue(*row) for row in rows]

    def close_overdue(self, overdue: Iterable[Overdue]) -> list[Overdue]:
        """Close tasks, unless they have changed since they were found; those that were closed."""
        in_order = sorted(overdue, key=lambda task: task.id)
        changes = [
            (self._sql.close, {**task._asdict(), "closed_as": task.closed_as, "message": task.message})
            for task in in_order
        ]
        return [task for task, closed in zip(in_order, self.changer.change(*changes), strict=True) if closed]

    def prune(self, days: float) -> int:
        """Delete the tasks that ended more than so many days ago, in small transactions; how many they were."""
        deleted, last_id = 0, 0
        while rows := self._rows(self._sql.ended_before, seconds=days * 86_400, last_id=last_id, batch=PRUNE_BATCH):
            deleted += len(self._change(self._sql.delete, ids=self._list(task_id for (task_id,) in rows)))
            last_id = rows[-1][0]
        return deleted

    def _change(self, statement: str, **parameters: Any) -> list[Any]:
        """Run one statement where workers write; they read there, too, and so need no second connection."""
        return self.changer.change((statement, parameters))[0]

    def _rows(self, statement: str, **parameters: Any) -> list[Any]:
        return self.reader.rows(statement, parameters)

    def _snapshots(self, statement: str, **parameters: Any) -> list[Snapshot]:
        return [self._snapshot(row) for row in self.reader.rows(statement, parameters)]

    def _page(self, statement: str, filters: Filters, **parameters: Any) -> list[Snapshot]:
        statuses, kind, path, text, sees_errors = filters
        hides = self._hides_errors and not sees_errors
        return self._snapshots(
            statement, statuses=self._list(statuses), kind=kind, path=path, text=text, hides=hides, **parameters
        )

    def _first(self, statement: str, **parameters: Any) -> Snapshot | None:
        rows = self.reader.rows(statement, parameters)
        return self._snapshot(rows[0]) if rows else None

    def _snapshot(self, row: Sequence[Any]) -> Snapshot:
        return Snapshot.of(row, hides_errors=self._hides_errors)

    def _told(self, changes: Iterable[tuple[str, dict[str, Any]]]) -> Told:
        told = Told(set(), set())
        in_order = sorted(changes, key=lambda change: change[1]["id"])  # in which everybody locks rows
        for (_, given), found in zip(in_order, self.changer.change(*in_order), strict=True):
            if not found or found[0][0]:
                key = AttemptKey(given["id"], given["task_id"], given["attempt"])
                (told.cancelled if found else told.over).add(key)
        return told


def _doors(url: Url, memory: Engine | None) -> tuple[Reader | MemoryConnection, Changer | MemoryConnection]:
    """What reads, and what changes."""
    if memory is None:
        return Reader(url), Changer(url)
    connection = MemoryConnection(memory)
    return connection, connection


def _attempt(row: Sequence[Any]) -> Attempt:
    id_, task_id, number, status, total_items, *rest = row
    return Attempt(id_, task_id, number, TaskStatus(status), total_items, *rest)
