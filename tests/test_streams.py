"""Streams over sockets on real gunicorn with gevent, on both databases."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from harness import Event, EventStream, Server, insert, make_token, row, update, wait_until

Start = Callable[..., Server]


def on(database: str) -> pytest.MarkDecorator:
    """Mark a test of what only one of the databases has."""
    return pytest.mark.parametrize("database_url", [database], indirect=True)


def descriptors(pid: int) -> list[str]:
    """What a process has open."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(link.readlink()))
    return links


def connections_at(port: int) -> int:
    """How many connections of clients the processes hold that listen on a port."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    listening, nobodys = "0A", "0"
    return sum(row[1].endswith(f":{port:04X}") and row[3] != listening and row[9] != nobodys for row in rows)


def raw_stream(server: Server, path: str, protocol: str = "HTTP/1.1", receive_buffer: int = 0) -> socket.socket:
    """A connection that has asked for a stream, without a client's manners."""
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(f"GET {path} {protocol}\r\nHost: x\r\nAuthorization: Bearer {make_token()}\r\n\r\n".encode())
    return connection


def read_until(connection: socket.socket, text: bytes) -> bytes:
    data = b""
    while text not in data:
        received = connection.recv(65536)
        assert received, data
        data += received
    return data


# Frames.


def test_a_stream_shows_every_change_then_done_and_ends(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")
    stream = server.stream("/api/tasks/a/events")

    seen = [stream.next()]
    for change in ({"status": "running"}, {"progress": 40}, {"status": "completed", "progress": 100}):
        update(engine, "a", **change)
        seen.append(stream.next())
    ending = stream.rest()

    assert [event.json["status"] for event in seen] == ["pending", "running", "running", "completed"]
    assert [event.json["progress"] for event in seen] == [0, 0, 40, 100]
    assert [int(event.id) for event in seen] == sorted({int(event.id) for event in seen})
    assert int(seen[-1].id) == row(engine, "a")["revision"]
    assert [(event.name, event.data) for event in ending] == [("done", '{"status": "completed"}')]
    assert server.stream("/api/tasks/a/events", Last_Event_ID=seen[-1].id).status == 204


def test_a_snapshot_is_what_the_json_endpoint_says(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", stage="saving_structure", total_items=50, completed_items=23, progress=46)

    event = server.stream("/api/tasks/a/events").next()

    assert event.data.encode() == server.get("/api/tasks/a/status", 1).body


def test_a_streams_headers_keep_proxies_from_holding_it_back(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")

    stream = server.stream("/api/tasks/a/events")

    assert stream.headers["Content-Type"] == "text/event-stream"
    assert stream.headers["Cache-Control"] == "no-cache, no-transform"
    assert stream.headers["X-Accel-Buffering"] == "no"


def test_a_rolled_back_write_moves_nothing(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")
    stream = server.stream("/api/tasks/a/events")
    stream.next()

    with engine.connect() as connection:
        connection.execute(sa.text("UPDATE user_tasks SET progress = 66"))
        connection.rollback()
    update(engine, "a", progress=67)

    assert stream.next().json["progress"] == 67


def test_a_task_that_is_final_when_the_stream_opens_is_shown_once(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="failed")

    first = server.stream("/api/tasks/a/events").rest()

    assert [event.name for event in first] == ["message", "done"]
    assert server.stream("/api/tasks/a/events", Last_Event_ID=first[0].id).status == 204


@pytest.mark.parametrize("name", ["last_event_id", "lastEventId"])
def test_a_cursor_may_come_in_the_query(server: Server, engine: sa.Engine, name: str) -> None:
    insert(engine, "a")
    revision = row(engine, "a")["revision"]
    stream = server.stream(f"/api/tasks/a/events?{name}={revision}")

    update(engine, "a", progress=12)

    assert stream.next().json["progress"] == 12


@pytest.mark.parametrize("cursor", ["junk", "-1", "1e9", "²", "9" * 40])
def test_a_junk_cursor_counts_as_none(server: Server, engine: sa.Engine, cursor: str) -> None:
    insert(engine, "a", status="completed")

    stream = server.stream("/api/tasks/a/events", Last_Event_ID=cursor.encode().decode("latin-1"))

    assert [event.name for event in stream.rest()] == ["message", "done"]


def test_an_http_1_0_peer_gets_frames_without_chunks(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    with raw_stream(server, "/api/tasks/a/events", "HTTP/1.0") as connection:
        head = read_until(connection, b"\n\n")
        update(engine, "a", status="completed")

        body = head + read_until(connection, b"event: done\ndata: ")

    assert b"chunked" not in body
    assert b"\r\n\r\nid: " in body
    assert b"}\n\nid: " in body


def test_a_head_request_opens_no_stream(start_server: Start, engine: sa.Engine) -> None:
    server = start_server(MAX_STREAMS_PER_USER=1)
    insert(engine, "a")

    answers = [server.request("HEAD", "/api/tasks/a/events", 1) for _ in range(3)]

    assert all((answer.status, answer.body) == (200, b"") for answer in answers)
    assert server.stream("/api/tasks/a/events").next().name == "message"


# All of a user's tasks.


def test_one_connection_follows_all_of_a_users_tasks(server: Server, engine: sa.Engine) -> None:
    for name, status in (("old", "completed"), ("one", "running"), ("two", "pending")):
        insert(engine, name, status=status)
    insert(engine, "other", user=2)
    stream = server.stream("/api/tasks/users/me/events")

    shown = [stream.next().json["task_id"] for _ in range(2)]
    update(engine, "other", progress=5)
    insert(engine, "three")
    new = stream.next()
    update(engine, "one", status="completed")
    ended = stream.next()
    update(engine, "two", progress=3)

    assert shown == ["one", "two"]
    assert new.json["task_id"] == "three"
    assert (ended.json["task_id"], ended.json["status"]) == ("one", "completed")
    assert stream.next().json["task_id"] == "two"


def test_who_comes_back_sees_also_what_became_final_meanwhile(server: Server, engine: sa.Engine) -> None:
    insert(engine, "long ago", status="completed")
    with engine.begin() as connection:  # the database stamps every write but one of the lease alone
        connection.execute(sa.text("DELETE FROM user_tasks"))
    insert(engine, "a", status="running")
    stream = server.stream("/api/tasks/users/me/events")
    cursor = stream.next().id
    stream.close()

    update(engine, "a", status="failed")
    stream = server.stream("/api/tasks/users/me/events", Last_Event_ID=cursor)

    assert stream.next().json["status"] == "failed"


# Ends.


def test_sigterm_says_bye_to_every_stream_and_exits_soon(start_server: Start, engine: sa.Engine) -> None:
    server = start_server()
    insert(engine, "a")
    streams = [server.stream("/api/tasks/a/events") for _ in range(50)]
    for stream in streams:
        stream.next()

    seconds = server.stop()

    byes = [stream.rest() for stream in streams]
    assert all(len(bye) == 1 and bye[0].json == {"reason": "shutdown"} for bye in byes)
    assert len({bye[0].retry for bye in byes}) > 10
    assert seconds < 5


@pytest.mark.slow
def test_a_held_poll_does_not_hold_up_a_stop(start_server: Start, engine: sa.Engine) -> None:
    server = start_server()
    insert(engine, "a")
    tag = server.get("/api/tasks/a/status", 1).headers["ETag"]
    request = f"GET /api/tasks/a/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {make_token()}\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"{request}If-None-Match: {tag}\r\nPrefer: wait=30\r\n\r\n".encode())
        server.get("/healthz")

        seconds = server.stop()

        assert connection.recv(65536).startswith(b"HTTP/1.1 304")
    assert seconds < 5


@pytest.mark.slow
def test_a_client_that_does_not_take_its_answer_holds_up_a_stop_for_ten_seconds(
    start_server: Start, engine: sa.Engine
) -> None:
    server = start_server()
    for number in range(100):
        insert(engine, f"a{number}", error_details="x" * 100_000)
    request = f"GET /api/tasks/users/me?limit=100 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {make_token()}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request.encode())
        connection.recv(1000)

        seconds = server.stop()

    assert seconds < 15


def test_a_stream_ends_with_the_token_that_opened_it(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")
    expires = int(time.time()) + 4
    stream = server.stream("/api/tasks/a/events", Authorization=f"Bearer {make_token(exp=expires)}")

    events = stream.rest()

    assert time.time() < expires + 0.5
    assert events[-1].json == {"reason": "expired"}


@pytest.mark.slow
def test_a_stream_of_great_age_is_asked_to_come_back(start_server: Start, engine: sa.Engine) -> None:
    server = start_server(STREAM_MAX_AGE=2)
    insert(engine, "a")

    events = server.stream("/api/tasks/a/events").rest()

    assert [event.name for event in events] == ["message", "bye"]
    assert events[-1].json == {"reason": "max_age"}
    assert events[-1].retry


def test_the_cap_of_one_user_answers_busy_and_comes_free_again(start_server: Start, engine: sa.Engine) -> None:
    server = start_server(MAX_STREAMS_PER_USER=2)
    insert(engine, "a")
    first, _ = (server.stream("/api/tasks/a/events") for _ in range(2))
    insert(engine, "b", user=2)

    refused = server.stream("/api/tasks/a/events")

    assert (refused.status, refused.headers["Content-Type"]) == (200, "text/event-stream")
    assert [(event.name, event.json, event.retry) for event in refused.rest()] == [("bye", {"reason": "busy"}, 30_000)]
    assert server.stream("/api/tasks/b/events", 2).next().name == "message"
    first.close()
    wait_until(lambda: server.stream("/api/tasks/a/events").next().name == "message")


def test_the_cap_of_the_process_answers_busy(start_server: Start, engine: sa.Engine) -> None:
    server = start_server(MAX_STREAMS=1)
    insert(engine, "a")
    insert(engine, "b", user=2)
    server.stream("/api/tasks/a/events").next()

    assert server.stream("/api/tasks/b/events", 2).next().json == {"reason": "busy"}


@on("postgresql")  # SQLite's feed sees a delete at the next sweep: see the slow test
def test_a_deleted_task_ends_its_streams(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")
    stream = server.stream("/api/tasks/a/events")
    stream.next()

    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM user_tasks"))

    assert stream.rest() == []
    assert server.get("/api/tasks/a/status", 1).status == 404


# Clients.


def test_a_client_that_goes_is_freed_though_nothing_is_sent(start_server: Start, engine: sa.Engine) -> None:
    server = start_server(MAX_STREAMS_PER_USER=1)
    insert(engine, "a")
    for _ in range(5):
        stream = server.stream("/api/tasks/a/events")
        assert stream.next().name == "message"
        stream.close()

        wait_until(lambda: not connections_at(server.port), 1)


@pytest.mark.slow
def test_a_thousand_streams_hold_no_database_connection_and_let_polls_through(
    start_server: Start, engine: sa.Engine
) -> None:
    server = start_server(MAX_STREAMS_PER_USER=2000)
    insert(engine, "a")
    worker = server.workers()[0]
    server.stream("/api/tasks/a/events").next()
    before = len(descriptors(worker))
    database_before = sum("taskapi.db" in name for name in descriptors(worker))

    connections = [raw_stream(server, "/api/tasks/a/events") for _ in range(1000)]
    for connection in connections:
        read_until(connection, b"data: ")

    assert len(descriptors(worker)) - before <= 1000 + 4
    assert sum("taskapi.db" in name for name in descriptors(worker)) - database_before <= 3
    assert server.get("/api/tasks/a/status", 1).status == 200
    update(engine, "a", status="completed")
    for connection in connections:
        assert read_until(connection, b"0\r\n\r\n").count(b"event: done") == 1
        connection.close()
    wait_until(lambda: len(descriptors(worker)) <= before + 4)


@pytest.mark.slow
def test_a_client_that_stops_reading_holds_nobody_back_and_gets_the_newest_state(
    server: Server, engine: sa.Engine
) -> None:
    insert(engine, "a", status="running")
    stopped = raw_stream(server, "/api/tasks/a/events", receive_buffer=2048)
    read_until(stopped, b"data: ")
    reader = server.stream("/api/tasks/a/events")
    reader.next()

    for number in range(1, 101):
        update(engine, "a", progress=number, stage="x" * 1000)
        while reader.next().json["progress"] < number:
            pass
    update(engine, "a", status="completed")
    assert reader.rest()[-1].name == "done"
    data = read_until(stopped, b"0\r\n\r\n")
    stopped.close()

    events = [part for part in unchunk(data).split("\n\n") if part]
    assert all(event.startswith(("id: ", "event: done")) for event in events), "a frame was torn"
    assert '"status":"completed"' in events[-2]
    assert len(events) < 60


def unchunk(data: bytes) -> str:
    """The body behind chunked transfer coding (RFC 9112, 7.1), from the first whole chunk on."""
    body, start = b"", data.index(b"\r\nid: ") - 3 if not data.startswith(b"id: ") else 0
    while (line := data[start:].split(b"\r\n", 1)[0].strip()) != b"0":
        start = data.index(b"\r\n", start) + 2
        size = int(line, 16)
        body += data[start : start + size]
        assert data[start + size : start + size + 2] == b"\r\n"
        start += size + 2
    return body.decode()


# The server's life.


def test_one_of_two_workers_killed_loses_nobody_for_good(start_server: Start, engine: sa.Engine) -> None:
    server = start_server("--workers", "2")
    wait_until(lambda: len(server.workers()) == 2)
    insert(engine, "a", status="running")
    streams = [server.stream("/api/tasks/a/events") for _ in range(20)]
    for stream in streams:
        stream.next()

    os.kill(server.workers()[0], signal.SIGKILL)
    update(engine, "a", status="completed")
    ends = [[event.name for event in follow_to_the_end(server, stream)] for stream in streams]

    assert all(names[-1] == "done" and names.count("done") == 1 for names in ends)


def follow_to_the_end(server: Server, stream: EventStream) -> list[Event]:
    """Read a stream as a browser does: come back with the last id until `done`."""
    events: list[Event] = []
    while not events or events[-1].name != "done":
        with contextlib.suppress(OSError):
            events += stream.rest()
        if not events or events[-1].name != "done":
            last = next((event.id for event in reversed(events) if event.id), "0")
            stream = wait_until(lambda: reopen(server, last))  # noqa: B023
            assert stream.status == 200
    return events


def reopen(server: Server, last: str) -> EventStream | None:
    with contextlib.suppress(OSError):
        return server.stream("/api/tasks/a/events", Last_Event_ID=last)
    return None


@pytest.mark.slow
def test_max_requests_retires_a_worker_politely(start_server: Start, engine: sa.Engine) -> None:
    server = start_server("--max-requests", "30")
    insert(engine, "a", status="running")
    stream = server.stream("/api/tasks/a/events")
    stream.next()

    for _ in range(30):
        with contextlib.suppress(OSError):
            server.get("/healthz")

    assert stream.rest()[-1].json == {"reason": "shutdown"}


def test_preloading_is_refused_with_a_reason(database_url: str, tmp_path: Path, engine: sa.Engine) -> None:
    server = Server(database_url, tmp_path / "log", "--preload", wait=False)

    assert server.process.wait(20) != 0
    assert "cannot be preloaded" in server.log.read_text()


# Another server than gunicorn's gevent worker: the same hub, a generator.


def test_under_a_threaded_worker_the_same_frames_come_from_a_generator(start_server: Start, engine: sa.Engine) -> None:
    server = start_server("-k", "gthread", "--threads", "8", wait=False)
    wait_until(lambda: server.answers("/healthz"))
    insert(engine, "a")
    stream, mine = server.stream("/api/tasks/a/events"), server.stream("/api/tasks/users/me/events")

    first = (stream.next().json["status"], mine.next().json["status"])
    update(engine, "a", status="running")
    second = (stream.next().json["status"], mine.next().json["status"])
    update(engine, "a", status="completed")

    assert (first, second) == (("pending", "pending"), ("running", "running"))
    assert [event.name for event in stream.rest()] == ["message", "done"]
    assert mine.next().json["status"] == "completed"


# The feed.


@on("postgresql")
def test_a_killed_listener_loses_nothing(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    stream = server.stream("/api/tasks/a/events")
    stream.next()

    with engine.begin() as connection:
        killed = connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN user_tasks%'"
                " OR (application_name = 'taskapi' AND pid <> pg_backend_pid())"
            )
        ).all()
    update(engine, "a", status="completed", progress=77)

    assert killed
    assert [event.name for event in stream.rest()] == ["message", "done"]
    wait_until(lambda: server.answers("/readyz"))


@pytest.fixture
def silent_postgresql(engine: sa.Engine) -> Iterator[None]:
    """The table without the trigger that announces changes."""

    def switch(word: str) -> None:
        with engine.begin() as connection:
            connection.execute(sa.text(f"ALTER TABLE user_tasks {word} TRIGGER user_tasks_announce"))

    switch("DISABLE")
    yield
    switch("ENABLE")


@pytest.mark.slow
@on("postgresql")
@pytest.mark.usefixtures("silent_postgresql")
def test_without_any_notification_everything_arrives_by_the_sweep(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    stream, mine = server.stream("/api/tasks/a/events"), server.stream("/api/tasks/users/me/events")
    stream.next(), mine.next()

    update(engine, "a", status="completed")
    insert(engine, "b")

    assert [event.name for event in stream.rest()] == ["message", "done"]
    assert {mine.next().json["task_id"] for _ in range(2)} == {"a", "b"}


@on("postgresql")
def test_the_last_of_many_changes_within_a_moment_arrives_soon(server: Server, engine: sa.Engine) -> None:
    """Only the first of them is announced; well before the sweep, which would hide it."""
    insert(engine, "a", status="running")
    stream, mine = server.stream("/api/tasks/a/events"), server.stream("/api/tasks/users/me/events")
    stream.next(), mine.next()

    for number in range(1, 8):
        update(engine, "a", progress=number)
    started = time.monotonic()

    for follower in (stream, mine):
        while follower.next().json["progress"] < 7:
            pass
    assert time.monotonic() - started < 5


@on("postgresql")
def test_a_change_that_is_committed_long_after_it_was_made_arrives_at_once(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    stream = server.stream("/api/tasks/a/events")
    stream.next()

    update(engine, "a", progress=1)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE user_tasks SET progress = 2 WHERE task_id = 'a'"))
        connection.execute(sa.text("SELECT pg_sleep(1)"))
    started = time.monotonic()

    while stream.next().json["progress"] < 2:
        pass
    assert time.monotonic() - started < 5


@pytest.mark.slow
@on("sqlite")
def test_a_deleted_task_ends_its_streams_by_the_sweep(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    stream = server.stream("/api/tasks/a/events")
    stream.next()

    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM user_tasks"))

    assert stream.rest() == []


@pytest.mark.slow
@on("sqlite")
def test_a_write_lock_held_long_stalls_no_stream_and_no_poll(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")
    insert(engine, "stale", status="running", lease_expires_at="2020-01-01 00:00:00")  # the reaper wants to write
    stream = server.stream("/api/tasks/a/events")
    stream.next()

    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE user_tasks SET progress = 9 WHERE task_id = 'a'"))
        started = time.monotonic()
        slowest = 0.0
        while time.monotonic() - started < 3:
            before = time.monotonic()
            assert server.get("/api/tasks/a/status", 1).status == 200
            slowest = max(slowest, time.monotonic() - before)

    assert slowest < 1
    assert stream.next().json["progress"] == 9
