"""What nobody thought of: generated requests, generated text, and generated lives of a task."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from harness import EventStream, Server, insert, make_token, row, update, wait_until
from test_restore import untriggered

from taskapi.database.models import RESPONSE_FIELDS, Snapshot, TaskStatus
from taskapi.database.store import Report, Store
from taskapi.stream import sse
from taskapi.stream.frames import ending

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed: see .ci/requirements.txt")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.stateful import (  # noqa: E402
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

REPEATABLE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


# The description against the server, over real HTTP.


@pytest.mark.slow
def test_schemathesis_finds_no_answer_that_the_description_does_not_know(
    start_server: Callable[..., Server], engine: sa.Engine, tmp_path: Path
) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed: see .ci/requirements.txt")
    server = start_server(STREAM_MAX_AGE=1)  # a stream's body has an end
    tasks: dict[str, dict[str, Any]] = {
        "mine": {"status": "running"},
        "ended": {"status": "failed"},
        "other": {"user": 2},
    }
    for task_id, columns in tasks.items():
        insert(engine, task_id, **columns)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"http://127.0.0.1:{server.port}/openapi.json",
    ]
    command += [
        "--header",
        f"Authorization: Bearer {make_token(is_admin=True)}",
        "--max-examples",
        "40",
        "--seed",
        "1",
        "--no-color",
    ]

    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)

    assert found.returncode == 0, found.stdout
    assert "passed" in found.stdout
    assert "Traceback" not in server.log.read_text()


# Any request.

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HEADER_VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40)
IN_A_PATH = ANY_TEXT.map(lambda text: text.replace("/", "").replace("?", "").replace("#", ""))
ROUTES = st.sampled_from(
    [
        "/api/tasks/{}/status",
        "/api/tasks/{}/events",
        "/api/tasks/{}/cancel",
        "/api/tasks/{}/forecast",
        "/api/tasks",
        "/api/tasks/summary",
        "/api/tasks/learning-paths/{}",
        "/api/tasks/users/me",
        "/api/tasks/{}",
        "/{}",
    ]
)
QUERY = st.dictionaries(
    st.sampled_from(
        ["skip", "limit", "status", "kind", "learning_path_id", "user_id", "last_event_id", "lastEventId", "ticket"]
    )
    | ANY_TEXT,
    ANY_TEXT,
)
HEADERS = st.dictionaries(
    st.sampled_from(["Authorization", "If-None-Match", "Last-Event-ID", "Accept", "Cookie"]), HEADER_VALUE
)


@settings(REPEATABLE, max_examples=300)
@given(route=ROUTES, name=IN_A_PATH, query=QUERY, headers=HEADERS, known=st.booleans(), method=st.sampled_from("GP"))
def test_any_request_gets_an_answer_and_any_refusal_a_problem(
    app: Flask, route: str, name: str, query: dict[str, str], headers: dict[str, str], known: bool, method: str
) -> None:
    if known:
        headers = {**headers, "Authorization": f"Bearer {make_token(is_admin=True)}"}

    answer = app.test_client().open(
        route.format(name), method="GET" if method == "G" else "POST", query_string=query, headers=headers
    )

    assert answer.status_code < 500
    if answer.status_code >= 400:
        assert answer.content_type == "application/problem+json"
        assert answer.get_json()["status"] == answer.status_code
    answer.close()


# Any text, in a frame.


def events_of(data: bytes) -> list[dict[str, str]]:
    """A parser of event streams written from the HTML standard, 9.2.5 and 9.2.6, and from nothing of ours."""
    text = data.decode("utf-8").removeprefix("\ufeff")
    events, buffer, name, last_id = [], "", "", ""
    for line in re.split(r"\r\n|\n|\r", text)[:-1]:
        if line == "":
            if buffer:
                events.append({"type": name or "message", "data": buffer.removesuffix("\n"), "lastEventId": last_id})
            buffer, name = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            buffer += value + "\n"
        elif field == "id" and "\0" not in value:
            last_id = value
    return events


@settings(REPEATABLE, max_examples=500)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=4, max_size=4),
    status=st.sampled_from(TaskStatus),
    revision=st.integers(0, 2**63 - 1),
)
def test_any_text_comes_out_of_a_frame_as_it_went_in(texts: list[str], status: TaskStatus, revision: int) -> None:
    values: dict[str, Any] = dict.fromkeys(RESPONSE_FIELDS)
    values.update(zip(("task_id", "stage", "result_message", "error_details"), texts, strict=True))
    values.update(id=1, user_id=1, status=str(status))
    task = Snapshot.of([*values.values(), revision, None])

    events = events_of(ending(task).raw)

    assert json.loads(events[0]["data"]) == values
    assert (events[0]["type"], events[0]["lastEventId"]) == ("message", str(revision))
    ends = [{"type": "done", "data": json.dumps({"status": status}), "lastEventId": str(revision)}]
    assert events[1:] == (ends if status.is_final else [])
    assert sse.cursor(events[0]["lastEventId"]) == revision


# Any life of a task.


class Client(threading.Thread):
    """Follows a task over one connection after another, as a browser does, and remembers what came."""

    def __init__(self, server: Server, path: str) -> None:
        super().__init__(daemon=True)
        self.ids: list[int] = []
        self.names: list[str] = []
        self.newest: Any = None
        self._stream = server.stream(path, **self._cursor())
        self._stream.socket.settimeout(60)

    def _cursor(self) -> dict[str, Any]:
        return {}

    def run(self) -> None:
        with contextlib.suppress(StopIteration, OSError, ValueError):
            while True:
                self._take(self._stream)

    def _take(self, stream: EventStream) -> None:
        event = stream.next()
        self.names.append(event.name)
        if event.name == "message":
            self.newest = event.json
            self.ids.append(int(event.id))

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_RDWR)
        self.join()


class Returned(Client):
    """A client that comes back with what it has seen."""

    def __init__(self, server: Server, path: str, before: Client) -> None:
        self._before = before
        super().__init__(server, path)
        self.ids, self.newest = list(before.ids), before.newest

    def _cursor(self) -> dict[str, Any]:
        return {"Last_Event_ID": str(self._before.ids[-1])} if self._before.ids else {}


# A restore is found by the sweep, every ten seconds.
PATIENCE = 25
not_ended = precondition(lambda self: not self.ended)


class Life(RuleBasedStateMachine):
    """One task, its writers, and those who follow it on a real server."""

    server: Server
    engine: sa.Engine
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.ended = False
        self.task_id = f"life_{secrets.token_hex(8)}"
        insert(self.engine, self.task_id)
        self.path = f"/api/tasks/{self.task_id}/events"
        self.open: list[Client] = []
        self.dropped: list[Client] = []

    def _row(self) -> dict[str, Any]:
        return row(self.engine, self.task_id)

    @not_ended
    @rule()
    def start(self) -> None:
        """A worker starts it; or another one, since the queue has delivered it again."""
        before = self._row()
        attempt = self.store.claim(self.task_id, 60)
        assert (attempt is None) == (before["cancel_requested_at"] is not None)
        if attempt is None:
            self.store.refuse(self.task_id)
            self._end("failed")
        else:
            assert (self._row()["progress"], self._row()["completed_items"]) == (0, 0)

    @not_ended
    @rule(progress=st.integers(0, 99), late=st.booleans(), again=st.booleans())
    def report(self, progress: int, late: bool, again: bool) -> None:
        """A worker says how far it is, or that it is to be tried again; one of an earlier attempt changes nothing."""
        attempt, before = self.store.attempt(self.task_id), self._row()
        assert attempt is not None
        status = TaskStatus.QUEUED if again else TaskStatus.RUNNING
        key = attempt.key._replace(attempt=attempt.number - late)
        told = self.store.report([Report(*key, status=status, progress=progress)], 60)
        assert (key in told.over) == (late or before["status"] in ("pending", "queued"))
        if key in told.over:
            assert self._row() == before
        elif again and before["cancel_requested_at"] is not None:
            self._end("failed")

    @not_ended
    @rule()
    def cancel(self) -> None:
        waits = self._row()["status"] in ("pending", "queued")
        assert self.server.request("POST", f"/api/tasks/{self.task_id}/cancel", 1).status == 202
        if waits:
            self._end("failed")

    @not_ended
    @rule(limit=st.sampled_from(["start_by", "end_by", "lease_expires_at"]))
    def run_out_of_time(self, limit: str) -> None:
        past = "2020-01-01T00:00:00.000Z"
        update(self.engine, self.task_id, **{limit: past}, **({"start_by": past} if limit == "end_by" else {}))
        task = self._row()
        if limit != ("lease_expires_at" if task["status"] in ("pending", "queued") else "start_by"):
            wait_until(lambda: TaskStatus(self._row()["status"]).is_final)  # the server's own maintenance
            self._end("failed" if task["cancel_requested_at"] is not None and limit != "start_by" else "timeout")

    def _end(self, status: str) -> None:
        self.ended = True
        assert self._row()["status"] == status

    @not_ended
    @rule(progress=st.integers(0, 99))
    def write(self, progress: int) -> None:
        update(self.engine, self.task_id, status="running", progress=progress)

    @rule(progress=st.integers(0, 99))
    def write_and_roll_back(self, progress: int) -> None:
        with self.engine.connect() as connection:
            statement = sa.text("UPDATE user_tasks SET progress = :progress, stage = 'never' WHERE task_id = :task_id")
            connection.execute(statement, {"progress": progress, "task_id": self.task_id})
            connection.rollback()

    @precondition(lambda self: len(self.open) < 6 and not self.ended)
    @rule()
    def connect(self) -> None:
        self._follow(Client(self.server, self.path))

    @precondition(lambda self: self.open and not self.ended)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.open))
        self.open.remove(client)
        client.drop()
        self.dropped.append(client)

    @precondition(lambda self: self.dropped and not self.ended)
    @rule(data=st.data())
    def reconnect(self, data: st.DataObject) -> None:
        before = data.draw(st.sampled_from(self.dropped))
        self.dropped.remove(before)
        self._follow(Returned(self.server, self.path, before))

    @precondition(lambda self: self.engine.dialect.name == "postgresql")
    @rule()
    def kill_the_listener(self) -> None:
        with self.engine.begin() as connection:
            killed = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN user_tasks%'"
            connection.execute(sa.text(killed))

    @not_ended
    @rule()
    def be_quiet(self) -> None:
        """After quiet, the last that everybody has seen is the row."""
        current = row(self.engine, self.task_id)
        wait_until(lambda: all(client.ids and client.ids[-1] == current["revision"] for client in self.open), PATIENCE)
        assert all(client.newest["progress"] == current["progress"] for client in self.open)
        assert current["stage"] is None
        if current["cancel_requested_at"] is not None:
            wait_until(lambda: all(self._has_been_told(client) for client in self.open))

    def _has_been_told(self, client: Client) -> bool:
        return client.names.count("cancelling") == 1

    def _follow(self, client: Client) -> None:
        client.start()
        self.open.append(client)

    def teardown(self) -> None:
        """The task ends, and so must everybody who follows it, once and for good."""
        if not self.ended:
            update(self.engine, self.task_id, status="completed", progress=100)
        final = self._row()
        for client in self.open:
            client.join(30)
            assert not client.is_alive()
            assert client.ids[-1] == final["revision"]
            assert client.newest["status"] == final["status"]
            assert client.names[-2:] == ["message", "done"]
            assert client.names.count("done") == 1
            again = self.server.stream(self.path, Last_Event_ID=str(client.ids[-1]))
            assert again.status == 204
        self._look_back(final)
        self.server.close_streams()

    def _look_back(self, final: dict[str, Any]) -> None:
        for client in self.open + self.dropped:
            assert client.ids == sorted(set(client.ids)), "ids ascend"
            assert client.names.count("cancelling") <= (final["cancel_requested_at"] is not None)


class RestoredLife(Life):
    """The same on a database of which a backup is put back: what was sent since has not happened."""

    def __init__(self) -> None:
        super().__init__()
        self.restores = 0
        self.connect()
        self.connect()
        self.start()
        self.backup = self._row()

    @not_ended
    @rule()
    def back_up(self) -> None:
        self.backup = self._row()

    @precondition(lambda self: self.restores < 2 and not self.ended)
    @rule()
    def restore(self) -> None:
        self.restores += 1
        columns = ", ".join(f"{name} = :{name}" for name in self.backup)
        with self.engine.begin() as connection, untriggered(connection):
            connection.execute(sa.text(f"UPDATE user_tasks SET {columns} WHERE task_id = :task_id"), self.backup)

    def _has_been_told(self, client: Client) -> bool:
        return "cancelling" in client.names

    def _look_back(self, final: dict[str, Any]) -> None:
        """What was lost may have been more than what came of it."""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "lives"), [(Life, 25), (RestoredLife, 10)])
def test_every_life_of_a_task_ends_truly_for_everybody(
    server: Server, engine: sa.Engine, store: Store, kind: type[Life], lives: int
) -> None:
    life = type("LifeHere", (kind,), {"server": server, "engine": engine, "store": store})

    run_state_machine_as_test(life, settings=settings(REPEATABLE, max_examples=lives, stateful_step_count=20))
