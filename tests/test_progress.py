"""The workers' helper, seen through the rows it writes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from harness import ROOT, Proxy, environment, insert, row, update, wait_until, writes
from sqlalchemy.engine import make_url

from taskapi.database import schema, sqlite
from taskapi.database.connections import open_engine
from taskapi.database.failures import DatabaseError
from taskapi.database.store import Attempt, Store
from taskapi.progress import (
    DatabaseUnavailable,
    Progress,
    ProgressError,
    Task,
    TaskClosed,
    TaskNotFound,
    TaskNotStarted,
    TaskStatus,
    writer,
)
from taskapi.progress.ledger import Ledger


def on(name: str) -> pytest.MarkDecorator:
    """Mark a test of what only one of the databases has."""
    return pytest.mark.parametrize("database_url", [name], indirect=True)


def is_closed(task: Task) -> bool:
    try:
        task.advance(0)
    except TaskClosed:
        return True
    return False


def running(engine: sa.Engine, task_id: str = "running") -> str:
    """The id of a task that another process runs."""
    insert(engine, task_id, status="running")
    return task_id


def leases(engine: sa.Engine, task_id: str) -> str:
    return str(row(engine, task_id)["lease_expires_at"])


# A task's life.


def test_a_task_is_pending_then_starting_then_running_then_completed(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=123, kind="full_path_gen", learning_path_id=456, total_items=50)
    states = [row(engine, task_id)]

    with progress.run(task_id) as task:
        states.append(row(engine, task_id))
        task.stage("generating_cards")
        wait_until(lambda: row(engine, task_id)["stage"] == "generating_cards", 5)
        states.append(row(engine, task_id))
        for _card in task.track(range(50)):
            pass
        task.result("50 cards created")
    states.append(row(engine, task_id))

    assert [state["status"] for state in states] == ["pending", "starting", "running", "completed"]
    assert re.fullmatch(r"full_path_gen_123_\d{8}T\d{6}Z_[0-9a-f]{16}", task_id)
    pending, _starting, running, completed = states
    assert (pending["user_id"], pending["learning_path_id"], pending["total_items"]) == (123, 456, 50)
    assert running["started_at"]
    assert running["ended_at"] is None
    assert completed["ended_at"]
    assert (completed["stage"], completed["progress"], completed["completed_items"]) == ("finished", 100, 50)
    assert completed["result_message"] == "50 cards created"
    assert completed["error_details"] is None


def test_a_silent_task_becomes_running_by_itself(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        assert row(engine, task.task_id)["status"] == "starting"
        wait_until(lambda: row(engine, task.task_id)["status"] == "running", 2)


def test_every_state_of_a_short_task_is_a_write_of_its_own(progress: Progress) -> None:
    task_id = progress.create(user_id=1)

    with writes(progress) as written, progress.run(task_id) as task:
        task.result("done")

    assert len(written) == 3  # starting, running, completed


def test_a_task_may_wait_in_a_queue(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1, status="queued", stage="initializing")

    assert (row(engine, task_id)["status"], row(engine, task_id)["stage"]) == ("queued", "initializing")
    with progress.run(task_id):
        pass
    assert row(engine, task_id)["status"] == "completed"


def test_an_exception_fails_the_task_and_goes_on(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)
    error = LookupError("no card \0 \ud800 here")

    with pytest.raises(LookupError) as raised, progress.run(task_id):
        raise error

    fields = row(engine, task_id)
    assert raised.value is error
    assert (fields["status"], fields["result_message"]) == ("failed", "LookupError: no card \ufffd \ufffd here")
    assert fields["progress"] == 0
    assert fields["error_details"].startswith("Traceback (most recent call last):\n")
    assert fields["error_details"].endswith("LookupError: no card \ufffd \ufffd here\n")
    assert "taskapi/progress" not in fields["error_details"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), SystemExit("no disk"), GeneratorExit()])
def test_whatever_breaks_the_block_off_fails_the_task(
    error: BaseException, progress: Progress, engine: sa.Engine
) -> None:
    task_id = progress.create(user_id=1)

    with pytest.raises(type(error)), progress.run(task_id):
        raise error

    assert row(engine, task_id)["status"] == "failed"


@pytest.mark.parametrize("code", [None, 0])
def test_leaving_the_process_in_good_order_completes_the_task(
    code: int | None, progress: Progress, engine: sa.Engine
) -> None:
    task_id = progress.create(user_id=1)

    def work() -> None:
        with progress.run(task_id) as task:
            task.advance(3)
            sys.exit(code)

    with pytest.raises(SystemExit):
        work()
    fields = row(engine, task_id)
    assert (fields["status"], fields["progress"], fields["completed_items"]) == ("completed", 100, 3)
    assert (fields["result_message"], fields["error_details"]) == (None, None)


def test_leaving_the_process_goes_on_though_the_task_was_closed(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)

    def work() -> None:
        with progress.run(task_id):
            update(engine, task_id, status="timeout")
            sys.exit()

    with pytest.raises(SystemExit):
        work()
    assert row(engine, task_id)["status"] == "timeout"


class BadCard(ValueError):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LookupError(), "LookupError"),
        (LookupError("card 7"), "LookupError: card 7"),
        (KeyError("card"), "KeyError: 'card'"),
        (subprocess.TimeoutExpired("make", 5), "subprocess.TimeoutExpired: Command 'make' timed out after 5 seconds"),
        (ValueError("\ncard 7 is broken\n  it has no question\n"), "ValueError: card 7 is broken"),
        (BadCard(), "test_progress.BadCard: <exception str() failed>"),
        (ExceptionGroup("two cards", [ValueError(), TypeError()]), "ExceptionGroup: two cards (2 sub-exceptions)"),
        (SystemExit("no disk"), "SystemExit: no disk"),
        (SyntaxError("invalid syntax", ("cards.py", 7, 1, "def broken(:", 7, 2)), "SyntaxError: invalid syntax"),
        (ValueError("\n"), "ValueError"),
        (ValueError("x" * 10_000), f"ValueError: {'x' * 487}…"),
    ],
)
def test_a_failed_task_s_message_is_the_exception_s_own_line(
    error: BaseException, message: str, progress: Progress, engine: sa.Engine
) -> None:
    error.add_note("a note of somebody's")
    task_id = progress.create(user_id=1)

    with pytest.raises(type(error)), progress.run(task_id):
        raise error

    assert row(engine, task_id)["result_message"] == message


def test_what_a_task_says_at_its_end_is_one_change(progress: Progress, engine: sa.Engine) -> None:
    with writes(progress) as written:

        def work(number: int) -> None:
            with progress.task(user_id=1, task_id=f"task {number}") as task:
                task.result("All that could be done is done.")
                task.stage("nearly there")
                wait_until(lambda: row(engine, task.task_id)["stage"] == "nearly there", 5)
                assert row(engine, task.task_id)["result_message"] is None
                written.clear()
                1 / number

        work(1)
        assert len(written) == 1
        with pytest.raises(ZeroDivisionError):
            work(0)
        assert len(written) == 1

    ended = [row(engine, "task 1"), row(engine, "task 0")]
    assert [task["status"] for task in ended] == ["completed", "failed"]
    assert [task["result_message"] for task in ended] == ["All that could be done is done."] * 2


def test_a_failed_task_keeps_the_message_it_was_given(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)

    def work() -> None:
        with progress.run(task_id) as task:
            task.result("The service for cards is down.")
            raise LookupError

    with pytest.raises(LookupError):
        work()
    assert row(engine, task_id)["result_message"] == "The service for cards is down."


def test_a_long_traceback_keeps_its_end(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)

    with pytest.raises(ValueError, match="the end"), progress.run(task_id):
        raise ValueError("x" * 100_000 + "the end")

    details = row(engine, task_id)["error_details"]
    assert len(details) == 16_384
    assert details.endswith("the end\n")


def test_what_is_set_is_in_the_row_and_the_rest_stays(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1, total_items=10) as task:
        task.update(stage="one", completed_items=4)
        task.advance(3)
        wait_until(lambda: row(engine, task.task_id)["completed_items"] == 7, 5)
        fields = row(engine, task.task_id)

    assert (fields["stage"], fields["total_items"], fields["progress"]) == ("one", 10, 70)


def test_only_what_was_said_here_is_written(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        task.update(progress=12.5, stage="mine")
        wait_until(lambda: row(engine, task.task_id)["stage"] == "mine", 5)
        update(engine, task.task_id, stage="another's", total_items=7)
        task.update(progress=50)
        wait_until(lambda: row(engine, task.task_id)["progress"] == 50, 5)
        fields = row(engine, task.task_id)

    assert (fields["stage"], fields["total_items"]) == ("another's", 7)


def test_the_first_word_after_a_silence_is_written_at_once(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        wait_until(lambda: row(engine, task.task_id)["status"] == "running", 5)
        time.sleep(0.3)  # the silence
        start = time.monotonic()
        task.stage("now")
        wait_until(lambda: row(engine, task.task_id)["stage"] == "now", 5)

    assert time.monotonic() - start < 0.15


def test_many_words_are_few_writes(progress: Progress) -> None:
    with progress.task(user_id=1) as task, writes(progress) as written:
        start = time.monotonic()
        while time.monotonic() < start + 0.8:
            task.update(progress=time.monotonic() % 100, stage=str(time.monotonic()))

    assert 2 <= len(written) <= 6


def test_two_tasks_are_written_in_one_transaction(progress: Progress, engine: sa.Engine) -> None:
    with writes(progress) as commits, progress.task(user_id=1) as one, progress.task(user_id=2) as two:
        wait_until(lambda: row(engine, two.task_id)["status"] == "running", 5)
        commits.clear()
        one.advance()
        two.advance()
        wait_until(lambda: row(engine, two.task_id)["completed_items"] == 1, 5)
        assert row(engine, one.task_id)["completed_items"] == 1
        assert len(commits) == 1


def test_a_worker_may_come_before_the_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/taskapi.db"

    with Progress(url).task(user_id=1) as task:
        task.advance()

    engine = open_engine(make_url(url))
    assert row(engine, task.task_id)["status"] == "completed"
    engine.dispose()


def test_the_settings_say_where_and_how_long(
    database_url: str, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKAPI_DATABASE_URL", database_url)
    monkeypatch.setenv("TASKAPI_LEASE_SECONDS", "5000")

    with Progress().task(user_id=1) as task, engine.connect() as connection:
        later = "CAST(strftime('%s', lease_expires_at) AS real) - strftime('%s', 'now')"
        if engine.dialect.name == "postgresql":
            later = "extract(epoch FROM lease_expires_at - now())"
        statement = sa.text(f"SELECT {later} FROM user_tasks WHERE task_id = :id")
        seconds = connection.scalar(statement, {"id": task.task_id})

    assert 4990 < seconds < 5010


# Final is final.


CALLS: list[Callable[[Task], Any]] = [
    lambda task: task.stage("more"),
    lambda task: task.advance(),
    lambda task: task.update(progress=1),
    lambda task: task.result("done"),
    lambda task: task.track([1]),
]


def test_after_a_task_was_closed_nothing_is_written_and_every_call_says_so(
    progress: Progress, engine: sa.Engine
) -> None:
    task_id = running(engine)
    task = progress.attach(task_id)
    update(engine, task_id, status="timeout", result_message="The worker stopped reporting.")
    before = row(engine, task_id)

    task.update(stage="late", progress=99)
    task.advance(10)
    wait_until(lambda: is_closed(task), 5)

    for call in CALLS:
        with pytest.raises(TaskClosed) as raised:
            call(task)
        assert (raised.value.task_id, raised.value.status) == (task_id, "timeout")
    assert row(engine, task_id) == before


def test_a_silent_worker_learns_from_its_lease_that_the_task_was_closed(
    database_url: str, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKAPI_LEASE_SECONDS", "0.6")
    task_id = Progress(database_url).create(user_id=1)

    def work() -> None:
        with Progress(database_url).run(task_id) as task:
            wait_until(lambda: row(engine, task_id)["status"] == "running", 5)
            update(engine, task_id, status="timeout")
            for _item in task.track(iter(lambda: time.sleep(0.01), "never")):
                pass

    with pytest.raises(TaskClosed):
        work()


def test_leaving_says_that_the_task_was_closed(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)

    def work() -> None:
        with progress.run(task_id):
            update(engine, task_id, status="timeout")

    with pytest.raises(TaskClosed):
        work()
    assert row(engine, task_id)["status"] == "timeout"


def test_an_exception_goes_on_though_the_task_was_closed(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)

    def work() -> None:
        with progress.run(task_id):
            update(engine, task_id, status="timeout")
            raise LookupError

    with pytest.raises(LookupError):
        work()
    assert row(engine, task_id)["status"] == "timeout"


def test_a_task_that_has_ended_is_not_run_again(progress: Progress) -> None:
    with progress.task(user_id=1) as task:
        pass

    with pytest.raises(TaskClosed), progress.run(task.task_id):
        pytest.fail("it ran")
    with pytest.raises(TaskClosed):
        progress.attach(task.task_id)
    with pytest.raises(TaskClosed):
        task.advance()


def test_a_task_that_does_not_exist_is_not_found_and_where_is_said(progress: Progress, engine: sa.Engine) -> None:
    where = re.escape(f"There is no task 'nobody' in the database {engine.url.database}.")

    with pytest.raises(TaskNotFound, match=where), progress.run("nobody"):
        pytest.fail("it ran")
    with pytest.raises(TaskNotFound):
        progress.attach("nobody")


def test_a_task_whose_row_was_deleted_has_ended(progress: Progress, engine: sa.Engine) -> None:
    task = progress.attach(running(engine))
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM user_tasks")

    task.stage("unaware")
    wait_until(lambda: is_closed(task), 5)

    with pytest.raises(TaskClosed) as raised:
        task.stage("aware")
    assert raised.value.status is None


def test_leaving_an_attached_task_writes_all_and_does_not_close_it(progress: Progress, engine: sa.Engine) -> None:
    task_id = running(engine)

    with progress.attach(task_id) as task:
        task.advance(5)
        task.stage("half")

    fields = row(engine, task_id)
    assert (fields["status"], fields["stage"], fields["completed_items"]) == ("running", "half", 5)


@pytest.mark.parametrize("status", ["pending", "queued"])
def test_a_task_that_nobody_has_started_is_not_attached_to(status: str, progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1, status=status)
    before = row(engine, task_id)

    with pytest.raises(TaskNotStarted, match="run") as raised:
        progress.attach(task_id)

    assert raised.value.task_id == task_id
    assert row(engine, task_id) == before


# Attempts.


def die_at_work(progress: Progress, task_id: str, work: Callable[[Task], Any]) -> None:
    """Have a task's worker killed when it has written what it said."""
    if (child := os.fork()) == 0:
        with contextlib.suppress(BaseException):
            task = progress.run(task_id).__enter__()
            work(task)
            task._writer.flush(task._ledger)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def fail_once(progress: Progress, task_id: str, error: BaseException) -> None:
    """Have a task fail on its way, to be tried again."""

    def work() -> None:
        with progress.run(task_id, retry=True) as task:
            task.stage("making cards")
            task.result("never said")
            for item in task.track(range(10)):
                if item == 4:
                    raise error

    with pytest.raises(type(error)) as raised:
        work()
    assert raised.value is error


@pytest.mark.parametrize("error", [LookupError("card 4."), KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_puts_a_task_back_to_be_tried_again(
    error: BaseException, progress: Progress, engine: sa.Engine
) -> None:
    task_id = progress.create(user_id=1)

    fail_once(progress, task_id, error)

    fields = row(engine, task_id)
    line = traceback.format_exception_only(error)[-1].rstrip(".\n")
    assert fields["status"] == "queued"
    assert fields["result_message"] == f"Attempt 1 failed: {line}. It will be tried again."
    assert fields["error_details"].startswith("Traceback")
    assert fields["error_details"].endswith(traceback.format_exception_only(error)[-1])
    assert (fields["completed_items"], fields["total_items"], fields["progress"]) == (0, None, 0)
    assert (fields["stage"], fields["started_at"], fields["lease_expires_at"]) == (None, None, None)


def test_the_last_attempt_begins_anew_and_decides(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)
    fail_once(progress, task_id, LookupError())
    fail_once(progress, task_id, LookupError())
    assert row(engine, task_id)["result_message"].startswith("Attempt 2 failed")

    with progress.run(task_id) as task:
        begun = row(engine, task_id)
        list(task.track(range(3)))

    assert (begun["status"], begun["result_message"], begun["error_details"]) == ("starting", None, None)
    ended = row(engine, task_id)
    assert (ended["status"], ended["completed_items"], ended["total_items"]) == ("completed", 3, 3)
    assert (ended["result_message"], ended["error_details"], ended["attempt"]) == (None, None, 3)


def test_a_task_that_is_not_tried_again_fails(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)
    fail_once(progress, task_id, LookupError())

    with pytest.raises(ValueError, match="for good"), progress.run(task_id):
        raise ValueError("for good")

    assert (row(engine, task_id)["status"], row(engine, task_id)["result_message"]) == (
        "failed",
        "ValueError: for good",
    )


def test_leaving_the_process_in_good_order_is_not_tried_again(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)

    with pytest.raises(SystemExit), progress.run(task_id, retry=True):
        sys.exit(0)

    assert row(engine, task_id)["status"] == "completed"


def test_a_task_whose_worker_was_killed_begins_anew(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1, stage="in line")

    die_at_work(progress, task_id, lambda task: task.update(progress=60, completed_items=35))
    died = row(engine, task_id)
    update(engine, task_id, started_at="2026-01-01T00:00:00Z")

    with progress.run(task_id):
        begun = row(engine, task_id)

    assert (died["status"], died["stage"], died["progress"]) == ("running", "in line", 60)
    assert (begun["status"], begun["stage"]) == ("starting", None)
    assert (begun["completed_items"], begun["progress"], begun["attempt"]) == (0, 0, 2)
    assert str(begun["started_at"]) > "2026-01-02"


def test_an_attempt_that_was_followed_by_another_one_changes_nothing(progress: Progress, engine: sa.Engine) -> None:
    """As with Celery's `self.retry()`, which sends the next attempt on its way before the block is left."""
    task_id = progress.create(user_id=1)
    first = progress.run(task_id, retry=True)
    early = first.__enter__()
    joined = progress.attach(task_id)
    early.advance(3)

    with progress.run(task_id) as task:
        task.advance(5)
        wait_until(lambda: row(engine, task_id)["completed_items"] == 5, 5)
        for late in (early, joined):
            with contextlib.suppress(TaskClosed):  # as soon as it is known
                late.advance(3)
        wait_until(lambda: is_closed(early) and is_closed(joined), 5)
        with pytest.raises(TaskClosed, match="running again") as raised:
            early.track([1])
        first.__exit__(LookupError, LookupError(), None)
        begun = row(engine, task_id)

    assert raised.value.status == "running"
    assert (begun["status"], begun["completed_items"], begun["result_message"]) == ("running", 5, None)
    assert (row(engine, task_id)["status"], row(engine, task_id)["completed_items"]) == ("completed", 5)


def test_an_attempt_that_ends_late_does_not_end_the_next_one(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)
    first = progress.run(task_id)
    first.__enter__()

    with progress.run(task_id):
        with pytest.raises(TaskClosed):
            first.__exit__(None, None, None)
        assert row(engine, task_id)["status"] == "starting"

    assert row(engine, task_id)["status"] == "completed"


def test_the_lease_of_an_attempt_that_was_followed_is_not_renewed(
    database_url: str, engine: sa.Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKAPI_LEASE_SECONDS", "0.4")
    early = Progress(database_url).task(user_id=1, task_id="followed").__enter__()

    store.claim("followed", 0.2)  # by a process that dies at once
    wait_until(lambda: reap(store), 5)

    assert row(engine, "followed")["status"] == "timeout"
    wait_until(lambda: is_closed(early), 5)


def test_a_task_that_waits_to_be_tried_again_is_left_alone_by_those_who_joined(
    progress: Progress, engine: sa.Engine
) -> None:
    task_id = progress.create(user_id=1)

    attached: list[Task] = []
    with contextlib.suppress(LookupError), progress.run(task_id, retry=True):
        attached.append(progress.attach(task_id))
        raise LookupError
    [joined] = attached
    before = row(engine, task_id)
    joined.advance(3)
    wait_until(lambda: is_closed(joined), 5)

    assert row(engine, task_id) == before
    with pytest.raises(TaskClosed, match="queued again"):
        joined.stage("late")


@pytest.mark.parametrize("killed", [False, True])
def test_a_total_that_was_given_survives_a_restart(killed: bool, progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1, total_items=40)
    if killed:
        die_at_work(progress, task_id, lambda task: list(task.track(range(10))))
    else:
        fail_once(progress, task_id, LookupError())
    assert row(engine, task_id)["total_items"] == 40

    with progress.run(task_id) as task:
        list(task.track(range(10)))

    assert (row(engine, task_id)["completed_items"], row(engine, task_id)["total_items"]) == (10, 40)


@pytest.mark.parametrize("items", [5, 10, 20])
def test_a_total_that_loops_expected_is_not_the_next_attempt_s(
    items: int, progress: Progress, engine: sa.Engine
) -> None:
    task_id = progress.create(user_id=1)
    fail_once(progress, task_id, LookupError())

    with progress.run(task_id) as task:
        list(task.track(range(items)))

    assert (row(engine, task_id)["completed_items"], row(engine, task_id)["total_items"]) == (items, items)


@pytest.mark.parametrize(("items", "total"), [(5, 10), (10, 10), (20, 20)])
def test_a_total_that_a_killed_attempt_left_stands_until_the_loops_expect_more(
    items: int, total: int, progress: Progress, engine: sa.Engine
) -> None:
    """Nobody can tell it from one that was given, which survives."""
    task_id = progress.create(user_id=1)
    die_at_work(progress, task_id, lambda task: list(task.track(range(10))))

    with progress.run(task_id) as task:
        for _item in task.track(range(items // 5)):
            list(task.track(range(5)))
        list(task.track(range(items - items // 5)))

    assert (row(engine, task_id)["completed_items"], row(engine, task_id)["total_items"]) == (items, total)


# What cannot be is refused at the call.

NOWHERE = "postgresql://worker@127.0.0.1:1/nowhere"


@pytest.fixture
def task() -> Task:
    """A task whose database is never asked: what cannot be is refused before."""
    return Task(Progress(NOWHERE)._writer, Ledger(Attempt(1, "task", 1, TaskStatus.STARTING, None)))


NUMBERS = [-1, 2**63, True, "1", 1.5, float("nan"), None]


@pytest.mark.parametrize("value", NUMBERS)
def test_advance_refuses(value: Any, task: Task) -> None:
    with pytest.raises((TypeError, ValueError), match="n must"):
        task.advance(value)


@pytest.mark.parametrize("name", ["total_items", "completed_items"])
@pytest.mark.parametrize("value", [value for value in NUMBERS if value is not None])
def test_update_refuses_what_is_no_count(name: str, value: Any, task: Task) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        task.update(**{name: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 100.1, True, "50", 1j])
def test_update_refuses_what_is_no_percentage(value: Any, task: Task) -> None:
    with pytest.raises((TypeError, ValueError), match="progress"):
        task.update(progress=value)


@pytest.mark.parametrize("value", [None, 5, b"text"])
def test_result_refuses_what_is_no_text(value: Any, task: Task) -> None:
    with pytest.raises(TypeError, match="message"):
        task.result(value)
    with pytest.raises(TypeError, match="stage"):
        task.update(stage=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("user_id", value) for value in (None, True, "1", 1.0, 2**63, -(2**63) - 1)],
        *[("learning_path_id", value) for value in (True, "1", 2**63)],
        *[("total_items", value) for value in (-1, True, "1", 1.5, 2**63)],
        *[("task_id", value) for value in ("", "x" * 256, "a/b", "a\0b", "\ud800", "..", 5)],
        *[("kind", value) for value in ("", "x" * 255, "a/b", "a\0b", 5)],
        *[("status", value) for value in ("running", "completed", "unknown", None, 5)],
        ("stage", 5),
    ],
)
def test_create_refuses(name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        Progress(NOWHERE).create(**{"user_id": 1, name: value})


def test_create_takes_the_longest_and_strangest_values(progress: Progress, engine: sa.Engine) -> None:
    task_id = "ü" * 254 + "%"

    created = progress.create(user_id=-(2**63), learning_path_id=2**63 - 1, total_items=2**63 - 1, task_id=task_id)

    assert created == task_id
    assert row(engine, task_id)["user_id"] == -(2**63)


def test_a_task_id_that_is_taken_is_refused(progress: Progress, engine: sa.Engine) -> None:
    insert(engine, "taken")

    with pytest.raises(ValueError, match="taken"):
        progress.create(user_id=1, task_id="taken")


def test_what_no_database_stores_becomes_a_replacement_character(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        task.result("a\0b\ud800c\U0001f600")

    assert row(engine, task.task_id)["result_message"] == "a\ufffdb\ufffdc\U0001f600"


def test_what_the_database_refuses_of_one_task_holds_up_no_other(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as one, progress.task(user_id=2) as two:
        one.update(completed_items=2**63 - 1)
        one.advance(5)
        one.update(stage="words still come")
        two.stage("too")
        two.advance(3)

    assert (row(engine, one.task_id)["stage"], row(engine, one.task_id)["status"]) == ("finished", "completed")
    assert (row(engine, two.task_id)["completed_items"], row(engine, two.task_id)["status"]) == (3, "completed")


@pytest.fixture
def latin1_url(postgres_url: str) -> Iterator[str]:
    """A PostgreSQL database that stores no text but Western European, from before that was refused."""
    url = make_url(postgres_url).set(drivername="postgresql+psycopg", query={})
    name = f"{url.database}_latin1_{os.getpid()}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    own = url.set(database=name)
    own_engine = open_engine(own)
    with own_engine.begin() as connection:
        schema.upgrade_to(schema.Direct(connection), schema.VERSION, found=0)
    own_engine.dispose()
    yield own.render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


def test_a_text_that_the_database_cannot_store_holds_up_no_other_task(latin1_url: str) -> None:
    progress, engine = Progress(latin1_url), sa.create_engine(latin1_url)

    def fail() -> None:
        with progress.task(user_id=1, task_id="one") as one, progress.task(user_id=2) as two:
            one.advance(3)
            one.stage("卡片 für Größe")
            two.stage("Größe")
            wait_until(lambda: row(engine, two.task_id)["stage"] == "Größe", 5)
            wait_until(lambda: row(engine, "one")["completed_items"] == 3, 5)
            assert row(engine, "one")["stage"] == r"\u5361\u7247 f\xfcr Gr\xf6\xdfe"
            raise LookupError("没有卡片")

    with pytest.raises(LookupError):
        fail()
    failed = row(engine, "one")
    engine.dispose()
    assert (failed["status"], failed["completed_items"]) == ("failed", 3)
    assert failed["result_message"] == r"LookupError: \u6ca1\u6709\u5361\u7247"
    assert failed["error_details"].endswith(r"LookupError: \u6ca1\u6709\u5361\u7247" + "\n")


def test_a_task_of_which_the_database_cannot_store_a_text_is_refused_at_the_call(latin1_url: str) -> None:
    with pytest.raises(ValueError, match="cannot"):
        Progress(latin1_url).create(user_id=1, stage="卡片")


# Threads, processes, greenlets.


def test_the_counts_of_threads_add_up(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task, ThreadPoolExecutor(8) as threads:
        for _thread in range(8):
            threads.submit(lambda: [task.advance(1) for _ in range(20_000)])  # type: ignore[func-returns-value]

    assert row(engine, task.task_id)["completed_items"] == 160_000


def count_attached(url: str, task_id: str) -> None:
    with Progress(url).attach(task_id) as task:
        for _item in task.track(range(100)):
            task.advance(9)


def count_and_leave(url: str, task_id: str) -> None:
    Progress(url).attach(task_id).advance(1000)


@pytest.mark.parametrize(
    ("method", "work"), [("fork", count_attached), ("fork", count_and_leave), ("spawn", count_attached)]
)
def test_the_counts_of_processes_add_up(
    method: str, work: Callable[[str, str], None], database_url: str, engine: sa.Engine
) -> None:
    context: Any = multiprocessing.get_context(method)

    with Progress(database_url).task(user_id=1, total_items=3000) as task:
        task.advance(500)
        processes = [context.Process(target=work, args=(database_url, task.task_id)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)

    assert [process.exitcode for process in processes] == [0, 0]
    assert row(engine, task.task_id)["completed_items"] == 2500


def count_one(url: str, task_id: str) -> None:
    Progress(url).attach(task_id).advance()


def track_ten(url: str, task_id: str) -> None:
    for item in Progress(url).attach(task_id).track(range(20)):
        if item == 10:
            break


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_that_is_terminated_loses_no_count(
    method: str, database_url: str, progress: Progress, engine: sa.Engine
) -> None:
    with progress.task(user_id=1) as task:
        given = [(database_url, task.task_id)] * 50
        with multiprocessing.get_context(method).Pool(4) as pool:
            pool.starmap(count_one, given)
            pool.starmap(track_ten, given[:10])
        assert row(engine, task.task_id)["completed_items"] == 150


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_a_process_pool_has_counted_is_in_the_row_when_its_calls_are_over(
    method: str, database_url: str, progress: Progress, engine: sa.Engine
) -> None:
    with (
        progress.task(user_id=1) as task,
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool,
    ):
        for call in [pool.submit(count_one, database_url, task.task_id) for _ in range(50)]:
            call.result()
        assert row(engine, task.task_id)["completed_items"] == 50


def test_a_pool_may_count_on_the_task_that_it_was_forked_with(progress: Progress, engine: sa.Engine) -> None:
    global inherited

    with progress.task(user_id=1) as inherited, multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(advance_inherited, range(50))
        assert row(engine, inherited.task_id)["completed_items"] == 50

    assert row(engine, inherited.task_id)["status"] == "completed"


inherited: Task


def advance_inherited(_item: int) -> None:
    inherited.advance()


def test_a_forked_child_counts_from_zero_and_leaves_the_end_to_its_parent(
    progress: Progress, engine: sa.Engine
) -> None:
    task_id = progress.create(user_id=1)

    with progress.run(task_id) as task:
        task.advance(10)
        for item in task.track([1, 2, 3, 4]):
            if item == 3 and (child := os.fork()) == 0:
                # What multiprocessing does with an exception: the inherited block is left, then the process.
                with contextlib.suppress(BaseException):
                    task.advance(100)
                    task._writer.flush(task._ledger)
                os._exit(0)
        os.waitpid(child, 0)
        wait_until(lambda: row(engine, task_id)["completed_items"] == 114, 5)
        assert row(engine, task_id)["status"] == "running"

    assert row(engine, task_id)["completed_items"] == 114


def test_a_forked_child_that_leaves_the_block_does_not_end_the_task(progress: Progress, engine: sa.Engine) -> None:
    run = progress.task(user_id=1)
    task = run.__enter__()
    wait_until(lambda: row(engine, task.task_id)["status"] == "running", 5)

    if (child := os.fork()) == 0:
        with contextlib.suppress(BaseException):
            task.advance(7)
            run.__exit__(SystemExit, SystemExit(), None)
        os._exit(0)
    os.waitpid(child, 0)

    assert (row(engine, task.task_id)["status"], row(engine, task.task_id)["completed_items"]) == ("running", 7)
    run.__exit__(None, None, None)
    assert row(engine, task.task_id)["status"] == "completed"


@on("sqlite")
def test_a_fork_during_a_transaction_leaves_the_child_able_to_write(
    database_url: str, progress: Progress, engine: sa.Engine
) -> None:
    """SQLite's locks live in memory: a child that inherits a held one would wait for it for ever."""
    engine.dispose()
    stop = threading.Event()

    def keep_writing() -> None:
        while not stop.is_set():
            progress.create(user_id=2)

    thread = threading.Thread(target=keep_writing)
    thread.start()
    children = []
    for _ in range(10):
        if (child := os.fork()) == 0:
            with contextlib.suppress(BaseException):
                progress.create(user_id=3)
            os._exit(0)
        children.append(child)
    stop.set()
    thread.join()
    for child in children:
        wait_until(lambda: os.waitpid(child, os.WNOHANG)[0], 10)  # noqa: B023

    with engine.connect() as connection:
        written = connection.exec_driver_sql("SELECT count(*) FROM user_tasks WHERE user_id = 3").scalar()
    assert written == 10


@on("postgresql")
def test_a_forked_child_has_connections_of_its_own(progress: Progress) -> None:
    def connections() -> set[int]:
        store = progress._writer.store()
        [(reader,)] = store.reader.rows("SELECT pg_backend_pid()", {})
        [[(changer,)]] = store.changer.change(("SELECT pg_backend_pid()", {}))
        return {reader, changer}

    before = connections()
    if (child := os.fork()) == 0:
        shared = 1
        with contextlib.suppress(BaseException):
            shared = len(before & connections())
        os._exit(shared)

    assert os.waitpid(child, 0)[1] == 0
    assert connections() == before


FORKED_WHILE_A_THREAD_IMPORTS_THE_DRIVER = """
import os
import signal
import sys
import threading

from taskapi.progress import Progress

progress = Progress()
threading.Thread(target=progress.create, kwargs={"user_id": 2}).start()
while "psycopg" not in sys.modules:
    pass
if (child := os.fork()) == 0:
    signal.alarm(10)
    progress.create(user_id=3)
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""


@on("postgresql")
def test_a_fork_while_a_thread_imports_the_driver_leaves_the_child_able_to_write(
    database_url: str, engine: sa.Engine
) -> None:
    script = [sys.executable, "-c", FORKED_WHILE_A_THREAD_IMPORTS_THE_DRIVER]

    subprocess.run(script, cwd=ROOT, env=environment(database_url), check=True, timeout=60)

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM user_tasks WHERE user_id = 3").scalar() == 1


def test_a_process_that_ends_writes_what_is_left(database_url: str, engine: sa.Engine) -> None:
    task_id = running(engine)
    script = f"from taskapi.progress import Progress; Progress().attach({task_id!r}).advance(5)"

    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment(database_url), check=True, timeout=30)

    assert row(engine, task_id)["completed_items"] == 5


INTERRUPTED = """
import os
import signal
import sys
from taskapi.progress import Progress

def interrupted(at, work):
    '''Do some work, with a signal before each line of ours at which `at` is true of its number; how many they are.'''
    lines = 0

    def trace(frame, _event, _argument):
        nonlocal lines
        if f"taskapi{os.sep}progress" not in frame.f_code.co_filename:
            return None
        lines += 1
        if at(lines):
            signal.raise_signal(signal.SIGUSR1)
        return trace

    sys.settrace(trace)
    work()
    sys.settrace(None)
    return lines
"""
AT_EVERY_LINE = f"""{INTERRUPTED}
handled = 0

def report(_number, _frame):
    global handled
    task.stage(f"interrupted {{handled}}")
    task.advance()
    handled += 1

def work():
    for item in task.track(range(5)):
        task.stage(str(item))
        task.update(total_items=10)
        task.advance()
    with task:
        task.result("all said")

signal.signal(signal.SIGUSR1, report)
task = Progress().attach("interrupted")
interrupted(lambda line: True, work)
print(10 + handled)
"""
AT_EACH_LINE_ALONE = f"""{INTERRUPTED}
handled = 0

def report(_number, _frame):
    global handled
    handled += 1
    with Progress().attach("interrupted") as task:
        task.advance()

def work():
    with Progress().attach("interrupted") as task:
        task.advance()
    Progress().attach("interrupted").advance()

signal.signal(signal.SIGUSR1, report)
line = lines = 1
while line <= lines:
    os.environ["TASKAPI_LEASE_SECONDS"] = str(60 + line)  # which makes a new writer, whose thread is yet to be started
    lines = interrupted(lambda number: number == line, work)
    Progress()._writer.write_at_exit()
    Progress()._writer.store().close()
    line += 1
print(2 * (line - 1) + handled)
"""


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(AT_EVERY_LINE, id="at every line"),
        pytest.param(AT_EACH_LINE_ALONE, id="at each line alone", marks=pytest.mark.slow),
    ],
)
def test_a_signal_handler_may_report_wherever_it_interrupts(script: str, database_url: str, engine: sa.Engine) -> None:
    running(engine, "interrupted")

    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment(database_url),
        timeout=60,
        capture_output=True,
        text=True,
    )

    assert done.stderr == ""
    assert int(done.stdout) > 100
    assert row(engine, "interrupted")["completed_items"] == int(done.stdout)


def test_the_thread_writes_while_a_signal_handler_holds_a_report_up(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task, task._ledger._lock:
        task.stage("said by the handler")
        wait_until(lambda: row(engine, task.task_id)["stage"] == "said by the handler", 5)


GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent, time
from taskapi.progress import Progress

progress = Progress()
longest = 0.0

def watch():
    global longest
    while True:
        before = time.monotonic()
        time.sleep(0.01)
        longest = max(longest, time.monotonic() - before)

def work(number):
    with progress.task(user_id=number, kind="greenlet") as task:
        for item in task.track(range(20)):
            time.sleep(0.02)
            task.advance()
            task.stage(str(item))

gevent.spawn(watch)
gevent.joinall([gevent.spawn(work, number) for number in range(20)], raise_error=True)
print(longest)
"""


def test_greenlets_work_and_do_not_wait_for_each_other(database_url: str, engine: sa.Engine) -> None:
    command = [sys.executable, "-c", GEVENT]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(database_url), check=True, timeout=30, capture_output=True, text=True
    )

    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT status, completed_items FROM user_tasks").fetchall()
    assert [tuple(fields) for fields in rows] == [("completed", 40)] * 20
    assert done.stderr == ""
    assert float(done.stdout) < 1


def test_the_thread_sleeps_when_no_task_runs(progress: Progress) -> None:
    with progress.task(user_id=1):
        pass
    (thread,) = progress._writer._threads.values()
    assert thread.daemon
    status = Path(f"/proc/self/task/{thread.native_id}/status")

    def wake_ups() -> int:
        return sum(int(line.split()[1]) for line in status.read_text().splitlines() if "ctxt" in line)

    time.sleep(0.6)  # what its last look and its rest after a write take
    before = wake_ups()
    time.sleep(0.6)

    assert wake_ups() == before


def test_all_of_a_process_share_one_thread(database_url: str) -> None:
    def threads() -> int:
        return sum(thread.name == "taskapi.progress" for thread in threading.enumerate())

    with Progress(database_url).task(user_id=1):
        before = threads()
        with Progress(database_url).task(user_id=2), Progress(database_url).task(user_id=3):
            assert threads() == before


# Leases.


def reap(store: Store) -> list[str]:
    return [task.task_id for task in store.close_overdue(store.overdue(30))]


def test_the_lease_is_renewed_while_the_work_is_silent(
    database_url: str, engine: sa.Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKAPI_LEASE_SECONDS", "0.4")

    with Progress(database_url).task(user_id=1) as task:
        wait_until(lambda: row(engine, task.task_id)["status"] == "running", 5)
        before, lease = row(engine, task.task_id)["revision"], leases(engine, task.task_id)
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            assert reap(store) == []
            time.sleep(0.05)
        assert leases(engine, task.task_id) > lease
        assert row(engine, task.task_id)["revision"] == before


def test_the_lease_of_an_attached_task_that_says_nothing_is_not_renewed(
    database_url: str, engine: sa.Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKAPI_LEASE_SECONDS", "0.3")
    task = Progress(database_url).attach(running(engine, "orphan"))
    task.advance()

    wait_until(lambda: reap(store) == ["orphan"], 5)

    assert row(engine, "orphan")["status"] == "timeout"


# Outages.


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    url = make_url(postgres_url)
    proxy = Proxy(url.host or "127.0.0.1", url.port or 5432)
    yield proxy
    proxy.close()


@pytest.fixture
def remote(proxy: Proxy, postgres_url: str) -> Progress:
    """A worker whose way to PostgreSQL can be cut."""
    return Progress(make_url(postgres_url).set(host="127.0.0.1", port=proxy.port))


@contextlib.contextmanager
def write_lock(engine: sa.Engine) -> Iterator[None]:
    """Keep every other writer of an SQLite database waiting."""
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE user_tasks SET user_id = user_id")
        yield


@on("postgresql")
def test_an_outage_does_not_break_the_work(remote: Progress, proxy: Proxy, engine: sa.Engine) -> None:
    with remote.task(user_id=1) as task:
        task.advance(10)
        wait_until(lambda: row(engine, task.task_id)["completed_items"] == 10, 5)
        proxy.close()
        start = time.monotonic()
        for item in task.track(range(100)):
            task.stage(f"item {item}")
            task.advance(2)
        worked = time.monotonic() - start
        time.sleep(0.7)  # some attempts fail
        assert row(engine, task.task_id)["completed_items"] == 10
        proxy.open()
        wait_until(lambda: row(engine, task.task_id)["completed_items"] == 310, 10)
        assert row(engine, task.task_id)["stage"] == "item 99"

    assert worked < 0.2
    assert (row(engine, task.task_id)["status"], row(engine, task.task_id)["completed_items"]) == ("completed", 310)


@on("postgresql")
def test_the_end_waits_for_the_database(remote: Progress, proxy: Proxy, engine: sa.Engine) -> None:
    with remote.task(user_id=1) as task:
        task.advance(3)
        proxy.close()
        threading.Timer(0.4, proxy.open).start()

    assert (row(engine, task.task_id)["status"], row(engine, task.task_id)["completed_items"]) == ("completed", 3)


@on("postgresql")
def test_the_end_waits_only_so_long(
    remote: Progress, proxy: Proxy, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FINAL_WRITE_SECONDS", 0.5)
    task_id = remote.create(user_id=1)

    def work() -> None:
        with remote.run(task_id):
            proxy.close()

    with pytest.raises(DatabaseUnavailable, match=r"0\.5 seconds") as raised:
        work()
    assert isinstance(raised.value.__cause__, DatabaseError)
    assert row(engine, task_id)["status"] == "starting"


@on("postgresql")
def test_the_work_s_own_exception_goes_on_though_the_end_cannot_be_written(
    remote: Progress,
    proxy: Proxy,
    engine: sa.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(writer, "FINAL_WRITE_SECONDS", 0.5)
    task_id = remote.create(user_id=1)

    def work() -> None:
        with remote.run(task_id):
            proxy.close()
            raise LookupError

    with pytest.raises(LookupError):
        work()
    assert f"the end of task {task_id} could not be written" in caplog.text
    assert row(engine, task_id)["status"] == "starting"


@on("postgresql")
def test_creating_and_starting_survive_a_short_outage(remote: Progress, proxy: Proxy, engine: sa.Engine) -> None:
    remote.create(user_id=1)
    proxy.close()
    threading.Timer(0.1, proxy.open).start()

    task_id = remote.create(user_id=1)
    proxy.close()
    threading.Timer(0.1, proxy.open).start()
    with remote.run(task_id):
        assert row(engine, task_id)["status"] == "starting"


@on("sqlite")
def test_a_locked_database_does_not_break_the_work(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        with write_lock(engine):
            start = time.monotonic()
            for _item in task.track(range(1000)):
                task.stage("working")
            assert time.monotonic() - start < 0.5
            time.sleep(1)
        task.advance(5)

    assert (row(engine, task.task_id)["status"], row(engine, task.task_id)["completed_items"]) == ("completed", 1005)


@on("sqlite")
def test_a_database_that_stays_locked_is_an_error_in_the_end(
    progress: Progress, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FINAL_WRITE_SECONDS", 0.5)
    monkeypatch.setattr(sqlite, "WRITE_LOCK_TIMEOUT", 0.1)
    lock = write_lock(engine)

    def work() -> None:
        with progress.task(user_id=1):
            lock.__enter__()

    try:
        with pytest.raises(DatabaseUnavailable):
            work()
    finally:
        lock.__exit__(None, None, None)


def test_nothing_is_asked_before_it_must_and_no_error_shows_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "START_SECONDS", 0.3)
    password = secrets.token_hex()
    progress = Progress(f"postgresql://worker:{password}@127.0.0.1:1/nowhere")

    with pytest.raises(DatabaseUnavailable) as raised:
        progress.create(user_id=1)

    assert password not in "".join(traceback.format_exception(raised.value))


@on("postgresql")
def test_a_database_without_the_table_is_an_error_at_once(database_url: str) -> None:
    url = make_url(database_url).update_query_dict({"options": "-csearch_path=pg_catalog"})

    with pytest.raises(DatabaseUnavailable, match="flask db upgrade"):
        Progress(url).create(user_id=1)
    with pytest.raises(DatabaseUnavailable, match="flask db upgrade"):
        Progress(url).attach("any")


# Small parts.


@pytest.mark.parametrize(
    "error",
    [
        TaskClosed("a", None),
        TaskClosed("a", TaskStatus.COMPLETED),
        TaskClosed("a", TaskStatus.RUNNING),
        TaskNotFound("a", "/srv/tasks.db"),
        TaskNotStarted("a"),
        DatabaseUnavailable("gone"),
    ],
)
def test_an_error_travels_between_processes(error: ProgressError) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert isinstance(copy, ProgressError)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
