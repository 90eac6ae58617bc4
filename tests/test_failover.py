"""A primary that dies and a standby, a little behind, that takes its place: what the running server makes of it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import sqlalchemy as sa
from clusters import Cluster
from conftest import open_engine
from harness import Follower, Server, delete, insert, migrate, row, update, wait_until, wait_until_shown
from test_faults import start_python

Start = Callable[..., Server]

# From the moment when there is a primary again. The server asks for one every second; what it then finds at once
# would otherwise be found by the sweep, every ten seconds.
CONVERGED = 15.0
SOON = 3.0

pytestmark = pytest.mark.slow


class Pair(NamedTuple):
    """A primary and its asynchronous standby."""

    primary: Cluster
    standby: Cluster

    @property
    def url(self) -> str:
        """Whichever of the two is the primary, as SQLAlchemy writes it for psycopg ("Specifying multiple fallback
        hosts" in the documentation of its PostgreSQL dialect)."""
        hosts = "&".join(f"host=127.0.0.1:{cluster.port}" for cluster in self)
        return f"postgresql+psycopg://postgres@/postgres?{hosts}&target_session_attrs=read-write"

    def part(self) -> None:
        """From now on the primary's commits are lost with it."""
        self.standby.wait_for(self.primary)
        self.standby.stop_following()

    def fail_over(self) -> None:
        """The primary's machine is gone, and the standby takes its place."""
        self.primary.kill()
        self.standby.promote()


@pytest.fixture
def pair(start_cluster: Callable[..., Cluster]) -> Pair:
    primary = start_cluster()
    migrate(primary.url())
    return Pair(primary, start_cluster(copy_of=primary))


@pytest.fixture
def before(pair: Pair) -> Iterator[sa.Engine]:
    """An engine on the first primary."""
    engine = open_engine(pair.primary.url())
    yield engine
    engine.dispose()


@pytest.fixture
def after(pair: Pair) -> Iterator[sa.Engine]:
    """An engine on the standby, which becomes the primary."""
    engine = open_engine(pair.standby.url())
    yield engine
    engine.dispose()


def follow(server: Server, path: str, cursor: str = "") -> Follower:
    return Follower(server.stream(f"/api/tasks/{path}/events", Last_Event_ID=cursor))


def test_open_bars_outlive_a_failover_that_loses_writes(
    pair: Pair, before: sa.Engine, after: sa.Engine, serve: Start
) -> None:
    server = serve(pair.url)
    workers = server.workers()
    for task_id in ("bar", "quiet", "ended_later", "deleted_later"):
        insert(before, task_id, status="running", progress=5)
    bars, quiet, mine = [follow(server, "bar") for _ in range(3)], follow(server, "quiet"), follow(server, "users/me")
    wait_until(lambda: len(mine.newest) == 4 and quiet.newest and all(bar.newest for bar in bars))
    pair.part()
    for number in range(100):  # more than a sequence draws ahead (32), so that the standby's is behind
        update(before, "bar", progress=6 + number % 50, stage=f"step {number}")
    update(before, "ended_later", status="completed")
    delete(before, "deleted_later")
    insert(before, "never_was", status="running")
    never_was = follow(server, "never_was")
    wait_until_shown([*bars, mine], "bar", stage="step 99")
    wait_until_shown([never_was, mine], "never_was", status="running")
    wait_until_shown([mine], "ended_later", status="completed")

    pair.fail_over()
    wait_until_shown([*bars, mine], "bar", CONVERGED, stage=None, progress=5)
    wait_until_shown([mine], "ended_later", CONVERGED, status="running")
    wait_until(lambda: never_was.ended, CONVERGED)
    wait_until(lambda: server.answers("/readyz"), CONVERGED)
    update(after, "bar", progress=50)
    wait_until_shown([*bars, mine], "bar", SOON, progress=50)
    for task_id in ("bar", "quiet", "deleted_later"):
        update(after, task_id, status="completed")

    wait_until(lambda: all(follower.ended for follower in (*bars, quiet)), SOON)
    for task_id in ("bar", "quiet", "deleted_later"):
        wait_until_shown([mine], task_id, SOON, status="completed")
    assert [follower.names for follower in (*bars, quiet)] == [["done"]] * 4
    assert "done" not in never_was.names
    assert server.get("/api/tasks/bar/status", 1).json == bars[0].newest["bar"]
    assert server.workers() == workers
    assert "Traceback" not in server.log.read_text()


def test_a_cursor_of_what_a_failover_lost_gets_what_is_there_and_no_204(
    pair: Pair, before: sa.Engine, after: sa.Engine, serve: Start
) -> None:
    server = serve(pair.url)
    insert(before, "bar", status="running", progress=5)
    kept = row(before, "bar")["revision"]
    pair.part()
    for number in range(100):
        update(before, "bar", stage=f"step {number}")
    update(before, "bar", status="failed")
    lost = follow(server, "bar")
    wait_until(lambda: lost.ended)
    cursor, tag = lost.events[0].id, server.get("/api/tasks/bar/status", 1).headers["ETag"]
    before.dispose()

    pair.fail_over()
    wait_until(lambda: server.get("/api/tasks/bar/status", 1).status == 200)

    for stream in (
        follow(server, "bar", cursor),
        follow(server, "bar"),
        follow(server, "users/me", cursor),
    ):
        wait_until_shown([stream], "bar", SOON, status="running", stage=None)
    polled = server.get("/api/tasks/bar/status", 1, If_None_Match=tag)
    assert (polled.status, polled.json["status"]) == (200, "running")
    update(after, "bar", status="completed")
    for wrong in (cursor, str(kept)):
        again = server.stream("/api/tasks/bar/events", Last_Event_ID=wrong)
        assert again.status == 200
        assert [event.name for event in again.rest()] == ["message", "done"]
    last = str(row(after, "bar")["revision"])
    assert server.stream("/api/tasks/bar/events", Last_Event_ID=last).status == 204


def test_a_worker_reports_across_a_failover(pair: Pair, before: sa.Engine, after: sa.Engine, serve: Start) -> None:
    server = serve(pair.url)
    mine = follow(server, "users/me")
    code = """
        import time
        from taskapi.progress import Progress
        with Progress().task(user_id=1, task_id="bar") as task:
            for number in task.track(range(60)):
                time.sleep(0.1)
    """
    worker = start_python(textwrap.dedent(code), pair.url)
    wait_until(lambda: mine.newest.get("bar", {}).get("completed_items", 0) > 5)
    bar = follow(server, "bar")

    pair.fail_over()
    _, errors = worker.communicate(timeout=60)
    wait_until(lambda: bar.ended, CONVERGED)

    assert worker.returncode == 0, errors
    assert bar.names == ["done"]
    assert bar.newest["bar"]["status"] == "completed"
    assert row(after, "bar")["status"] == "completed"
    wait_until_shown([mine], "bar", SOON, status="completed")
