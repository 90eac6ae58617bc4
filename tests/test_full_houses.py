"""Users who open everything at once, tasks by the hundred thousand, clients that only send: what one may take of all.

The seconds in this file bound no speed: what they tell apart took many times as long (5 s, 13 s, 31 s) or for ever.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa
from clusters import Cluster
from conftest import open_engine, postgres_schema, sqlite_file
from harness import (
    Follower,
    Server,
    delete,
    insert,
    make_token,
    migrate,
    update,
    wait_until,
    wait_until_shown,
)
from test_clients import in_status
from test_metrics import metric
from test_streams import connections_at, on, raw_stream, read_until

Start = Callable[..., Server]

SOON = 3.0
CAP = 50  # TASKAPI_MAX_STREAMS_PER_USER, by default
WAITS = 5  # TASKAPI_MAX_WAITS_PER_USER, by default


def follow(server: Server, path: str, user: int = 1, cursor: str = "") -> Follower:
    return Follower(server.stream(f"/api/tasks/{path}/events", user, Last_Event_ID=cursor))


def fill(engine: sa.Engine, prefix: str, number: int, status: str, user: int = 1) -> None:
    """Many tasks by one statement."""
    with engine.begin() as connection:
        statement = sa.text(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :number) "
            "INSERT INTO user_tasks (task_id, user_id, status) SELECT :prefix || n, :user, :status FROM numbers"
        )
        connection.execute(statement, {"number": number, "prefix": prefix, "user": user, "status": status})


# Places.


def test_of_four_hundred_streams_opened_at_once_as_many_stay_as_the_cap_lets_in(
    start_server: Start, engine: sa.Engine
) -> None:
    server = start_server(MAX_STREAMS_PER_USER=CAP)
    insert(engine, "a", status="running")
    paths = ["/api/tasks/a/events", "/api/tasks/users/me/events"]

    with contextlib.ExitStack() as held:
        streams = [held.enter_context(raw_stream(server, paths[number % 2])) for number in range(400)]
        opened = [read_until(stream, b"data: ") for stream in streams]
        refused = [data for data in opened if b"event: bye" in data]

        assert len(opened) - len(refused) == CAP
        assert metric(server, "taskapi_streams_open") == CAP
    for data in refused:
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\nretry: 30000\n" in data


@contextlib.contextmanager
def table_away(engine: sa.Engine) -> Iterator[None]:
    """A database that answers every question with an error."""
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE user_tasks RENAME TO user_tasks_away")
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE user_tasks_away RENAME TO user_tasks")


def assert_the_cap_is_free(server: Server, user: int, task_id: str) -> None:
    """The user can open as many streams as ever."""
    wait_until(lambda: metric(server, "taskapi_streams_open") == 0)
    paths = [f"/api/tasks/{task_id}/events", "/api/tasks/users/me/events"]
    streams = [server.stream(paths[number % 2], user) for number in range(CAP)]
    assert {stream.next().name for stream in streams} == {"message"}


@pytest.mark.parametrize(
    ("user", "path", "status"),
    [(11, "none", 404), (12, "%00", 404), (13, "theirs", 403), (14, "ended", 200)],
)
def test_an_answer_that_is_no_stream_takes_no_place(
    server: Server, engine: sa.Engine, user: int, path: str, status: int
) -> None:
    insert(engine, "mine", user, status="running")
    insert(engine, "ended", user, status="completed")
    insert(engine, "theirs", 99, status="running")

    answers = [server.get(f"/api/tasks/{path}/events", user) for _ in range(CAP + 1)]
    answers += [server.request("HEAD", f"/api/tasks/{path}/events", user)]

    assert {answer.status for answer in answers} == {status}
    assert_the_cap_is_free(server, user, "mine")


def test_a_stream_that_the_database_fails_takes_no_place(server: Server, engine: sa.Engine) -> None:
    insert(engine, "mine", 15, status="running")

    with table_away(engine):
        paths = ["/api/tasks/mine/events", "/api/tasks/users/me/events"] * CAP
        answers = [server.get(path, 15) for path in paths]

    assert {answer.status for answer in answers} == {503}
    assert_the_cap_is_free(server, 15, "mine")


@on("postgresql")  # a reader of SQLite waits for nobody
def test_a_client_that_leaves_before_it_was_answered_takes_no_place(server: Server, engine: sa.Engine) -> None:
    insert(engine, "mine", 1, status="running")

    with engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE user_tasks IN ACCESS EXCLUSIVE MODE")
        for number in range(2 * CAP):
            raw_stream(server, f"/api/tasks/{('mine', 'users/me')[number % 2]}/events").close()

    wait_until(lambda: connections_at(server.port) == 0)
    assert_the_cap_is_free(server, 1, "mine")


NO_CURSORS = [
    "9" * 19,
    str(2**63),
    str(2**63 - 1),
    "9" * 40,
    "-1",
    "1e9",
    "1.5",
    "²",
    "٣",
    "0x10",
    "NaN",
    "",
    " ",
    "\x00",
]


@pytest.mark.parametrize("path", ["mine", "users/me"])
@pytest.mark.parametrize("name", ["last_event_id", "lastEventId"])
def test_whatever_a_client_sends_as_a_cursor_is_no_error_and_keeps_no_place(
    server: Server, engine: sa.Engine, path: str, name: str
) -> None:
    insert(engine, "ended", 16, status="completed")
    insert(engine, "mine", 16, status="running")

    for _ in range(CAP // len(NO_CURSORS) + 1):
        for junk in NO_CURSORS:
            stream = server.stream(f"/api/tasks/{path}/events?{name}={quote(junk)}", 16)
            assert stream.status == 200, junk
            assert stream.next().json["task_id"] == "mine", junk
            stream.close()

    assert_the_cap_is_free(server, 16, "mine")


@pytest.mark.parametrize("path", ["mine", "users/me"])
def test_whatever_a_client_sends_as_last_event_id_is_no_error(server: Server, engine: sa.Engine, path: str) -> None:
    insert(engine, "ended", 17, status="completed")
    insert(engine, "mine", 17, status="running")

    for junk in NO_CURSORS[:-1]:  # a header holds no NUL
        header = junk.encode().decode("latin-1")
        stream = server.stream(f"/api/tasks/{path}/events", 17, Last_Event_ID=header)
        assert stream.status == 200, junk
        assert stream.next().json["task_id"] == "mine", junk
        stream.close()


# Requests that are held.


@contextlib.contextmanager
def held_polls(server: Server, users: list[int], tag: str) -> Iterator[list[socket.socket]]:
    """A poll of the task `a` by each of these users, to be held until it changes."""
    with contextlib.ExitStack() as connections:
        yield [connections.enter_context(_held_poll(server, user, tag)) for user in users]


def _held_poll(server: Server, user: int, tag: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    headers = f"Host: x\r\nConnection: close\r\nAuthorization: Bearer {make_token(user, is_admin=True)}\r\n"
    preference = f"If-None-Match: {tag}\r\nPrefer: wait=30\r\n"
    connection.sendall(f"GET /api/tasks/a/status HTTP/1.1\r\n{headers}{preference}\r\n".encode())
    return connection


def answers_of(connections: list[socket.socket], number: int, seconds: float = 10.0) -> list[bytes]:
    """What comes over these connections until so many are answered whole, or so many seconds have passed.

    Those that are answered leave the list.
    """
    parts: dict[socket.socket, bytes] = dict.fromkeys(connections, b"")
    whole: list[bytes] = []
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        while len(whole) < number and time.monotonic() < deadline:
            for key, _ in selector.select(0.1):
                connection = key.fileobj  # type: ignore[assignment]
                data = connection.recv(65536)
                parts[connection] += data
                if not data:
                    selector.unregister(connection)
                    connections.remove(connection)
                    whole.append(parts[connection])
    return whole


def statuses(answers: list[bytes]) -> set[bytes]:
    return {answer.split(b" ", 2)[1] for answer in answers}


@pytest.mark.parametrize("settings", [{}, {"MAX_WAITS_PER_USER": 2}])
def test_polls_of_one_user_beyond_the_cap_are_answered_at_once(
    start_server: Start, engine: sa.Engine, settings: dict[str, int]
) -> None:
    server = start_server(**settings)
    cap = settings.get("MAX_WAITS_PER_USER", WAITS)
    insert(engine, "a", status="running")
    for progress in (1, 2):  # the places come free again
        tag = server.get("/api/tasks/a/status", 1).headers["ETag"]

        with held_polls(server, [1] * (cap + 3), tag) as polls:
            at_once = answers_of(polls, 3)
            update(engine, "a", progress=progress)
            held = answers_of(polls, cap)

        assert (len(at_once), len(held)) == (3, cap)
        assert (statuses(at_once), statuses(held)) == ({b"304"}, {b"200"})
        assert not any(b"Preference-Applied" in answer for answer in at_once)
        assert all(b"\r\nPreference-Applied: wait=30\r\n" in answer for answer in held)


@pytest.mark.parametrize("of_one", [1010, WAITS])
def test_a_thousand_held_polls_keep_nobody_else_waiting(start_server: Start, engine: sa.Engine, of_one: int) -> None:
    """More than the worker's connections (1000), of one user or of two hundred."""
    server = start_server()
    insert(engine, "a", status="running")
    tag = server.get("/api/tasks/a/status", 1).headers["ETag"]

    with held_polls(server, [1 + number // of_one for number in range(1010)], tag) as polls:
        at_once = answers_of(polls, 1010 - WAITS, 3)
        started = time.monotonic()
        polled = server.get("/api/tasks/users/me", 2000)
        seconds = time.monotonic() - started

    assert polled.status == 200
    assert seconds < 1, f"{seconds:.1f} s"
    assert at_once
    assert statuses(at_once) == {b"304"}
    assert of_one == WAITS or len(at_once) == 1010 - WAITS


# Very many tasks.


@pytest.fixture(params=["sqlite", "postgresql"])
def own_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Each database in turn, of one test's own: nobody else is to remove what it filled in."""
    if request.param == "sqlite":
        yield sqlite_file(tmp_path)
        return
    with postgres_schema(f"taskapi_test_{os.getpid()}_full") as url:
        yield url


@pytest.fixture
def own_engine(own_url: str) -> Iterator[sa.Engine]:
    engine = open_engine(own_url)
    yield engine
    engine.dispose()


class Health(threading.Thread):
    """Asks `/healthz` again and again; how long the slowest answer took."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.slowest = 0.0
        self._server = server
        self._stop_asking = threading.Event()

    def run(self) -> None:
        while not self._stop_asking.wait(0.02):
            started = time.monotonic()
            assert self._server.get("/healthz").status == 200
            self.slowest = max(self.slowest, time.monotonic() - started)

    def __enter__(self) -> Health:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop_asking.set()
        self.join()


@pytest.mark.slow
def test_a_hundred_thousand_waiting_tasks_cost_their_owner_a_thousand_frames_and_others_nothing(
    own_url: str, own_engine: sa.Engine, serve: Start
) -> None:
    """Through a sweep as well. The second is no benchmark: a process that reads all of these rows, or compares them,
    in one go answered nobody for five seconds, one that lets others run answers within milliseconds."""
    fill(own_engine, "old", 99_000, "queued")
    fill(own_engine, "new", 1000, "queued")
    insert(own_engine, "other", 2)
    server = serve(own_url)
    worker = server.workers()[0]
    server.stream("/api/tasks/users/me/events", 2).next()
    memory_before = in_status(worker, "VmRSS")

    with Health(server) as health:
        mine = [follow(server, "users/me") for _ in range(5)]
        wait_until(lambda: all(len(follower.newest) >= 1000 for follower in mine))
        time.sleep(12)  # a sweep is due every ten
        shown = [set(follower.newest) for follower in mine]
        grown = in_status(worker, "VmRSS") - memory_before

    assert health.slowest < 1, f"{health.slowest:.1f} s"
    assert grown < 100_000, f"{grown} kB"
    assert [len(tasks) for tasks in shown] == [1000] * 5
    assert shown == [{f"new{number}" for number in range(1, 1001)}] * 5
    update(own_engine, "new1000", status="completed")
    wait_until_shown(mine, "new1000", SOON, status="completed")
    update(own_engine, "old1", status="running")
    wait_until_shown(mine, "old1", SOON, status="running")


@pytest.fixture(scope="module")
def cluster(start_cluster: Callable[..., Cluster]) -> Cluster:
    """A PostgreSQL that logs every statement, and whose commits reach the disk."""
    cluster = start_cluster(fsync="on", log_statement="all")
    migrate(cluster.url())
    return cluster


@pytest.fixture
def cluster_engine(cluster: Cluster) -> Iterator[sa.Engine]:
    engine = open_engine(cluster.url())
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE user_tasks")
    yield engine
    engine.dispose()


@pytest.mark.slow
def test_twenty_thousand_tasks_that_ended_under_a_users_streams_are_not_asked_about_for_ever(
    cluster: Cluster, cluster_engine: sa.Engine, serve: Start
) -> None:
    """PostgreSQL logs every statement; what asks on SQLite is the same code."""
    server = serve(cluster.url())
    first = follow(server, "users/me")
    for batch in range(10):
        fill(cluster_engine, f"task{batch}_", 2000, "running")
        with cluster_engine.begin() as connection:
            connection.exec_driver_sql("UPDATE user_tasks SET status = 'completed' WHERE status = 'running'")
    wait_until(lambda: sum(task["status"] == "completed" for task in list(first.newest.values())) == 20_000, 120)
    insert(cluster_engine, "open", status="running")
    second = follow(server, "users/me")  # as a page that is loaded again: the topic outlives each of its streams
    wait_until_shown([first, second], "open", status="running")
    first.stream.close()

    time.sleep(11)  # what was left to do is done, and a sweep has been
    logged = cluster.log.stat().st_size
    time.sleep(11)  # and here is another one
    with cluster.log.open() as log:
        log.seek(logged)
        by_second = Counter(line[:19] for line in log if "statement: " in line or "execute " in line)

    # The sweep's come together; every two seconds come those of what closes tasks.
    assert 0 < max(by_second.values()) < 15, by_second
    update(cluster_engine, "open", status="completed")
    wait_until_shown([second], "open", SOON, status="completed")


# Tasks that go.


def test_a_deleted_task_ends_its_streams_at_once_and_is_forgotten(server: Server, engine: sa.Engine) -> None:
    for task_id in ("a", "kept"):
        insert(engine, task_id, status="running")
    bars, kept, mine = [follow(server, "a") for _ in range(2)], follow(server, "kept"), follow(server, "users/me")
    wait_until_shown([*bars, mine], "a", status="running")
    wait_until_shown([kept, mine], "kept", status="running")

    delete(engine, "a")
    wait_until(lambda: all(bar.ended for bar in bars), SOON)
    before = len(mine.events)
    update(engine, "kept", progress=50)
    wait_until_shown([kept, mine], "kept", SOON, progress=50)
    again = follow(server, "users/me", cursor=mine.events[0].id)
    wait_until_shown([again], "kept", SOON, progress=50)

    assert [bar.names for bar in bars] == [[], []]
    assert server.stream("/api/tasks/a/events").status == 404
    assert {event.json["task_id"] for event in mine.events[before:]} == {"kept"}
    assert set(again.newest) == {"kept"}


def test_a_deleted_task_ends_a_poll_that_is_held_at_once(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    tag = server.get("/api/tasks/a/status", 1).headers["ETag"]

    with held_polls(server, [1], tag) as polls:
        assert answers_of(polls, 1, 0.5) == []
        delete(engine, "a")
        answers = answers_of(polls, 1, SOON)

    assert statuses(answers) == {b"404"}


# Commits that come late.


def test_a_task_begun_and_ended_in_one_transaction_is_shown_though_it_commits_late(
    server: Server, engine: sa.Engine
) -> None:
    insert(engine, "open", status="running")
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO user_tasks (task_id, user_id, status) VALUES ('short', 1, 'running')")
        connection.exec_driver_sql("UPDATE user_tasks SET status = 'completed' WHERE task_id = 'short'")
        mine = follow(server, "users/me")
        wait_until_shown([mine], "open", status="running")
        connection.commit()

    wait_until_shown([mine], "short", SOON, status="completed")


@on("postgresql")  # SQLite lets one transaction write at a time
def test_who_comes_back_sees_what_was_committed_after_a_later_change(server: Server, engine: sa.Engine) -> None:
    with engine.connect() as slow:
        slow.exec_driver_sql("INSERT INTO user_tasks (task_id, user_id, status) VALUES ('short', 1, 'running')")
        slow.exec_driver_sql("UPDATE user_tasks SET status = 'completed' WHERE task_id = 'short'")
        insert(engine, "later", status="running")
        stream = server.stream("/api/tasks/users/me/events")
        cursor = stream.next().id
        stream.close()
        slow.commit()

    back = follow(server, "users/me", cursor=cursor)

    wait_until_shown([back], "short", SOON, status="completed")


@pytest.fixture
def quick_and_slow(cluster: Cluster) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
    """Two writers: the one's commits return at once, the other's take a tenth of a second on their way to the disk."""
    with psycopg.connect(cluster.url()) as quick, psycopg.connect(cluster.url()) as slow:
        quick.execute("SET synchronous_commit = off")
        slow.execute("SET commit_delay = 100000")
        slow.execute("SET commit_siblings = 0")
        for connection in (quick, slow):
            connection.commit()
        yield quick, slow


# Until the next twentieth of a second begins.
NEXT_WINDOW = """
    SELECT pg_sleep(ceil(extract(epoch FROM clock_timestamp()) * 20) / 20 - extract(epoch FROM clock_timestamp()))
"""


def test_of_two_changes_within_a_moment_the_second_arrives_soon_though_its_commit_is_slow(
    cluster: Cluster,
    cluster_engine: sa.Engine,
    serve: Start,
    quick_and_slow: tuple[psycopg.Connection, psycopg.Connection],
) -> None:
    """Two changes of one row within 50 ms, the second of which is there 100 ms later: nothing announces it."""
    quick, slow = quick_and_slow
    insert(cluster_engine, "a", status="running")
    server = serve(cluster.url())
    followers = [follow(server, "a"), follow(server, "users/me")]
    wait_until_shown(followers, "a", status="running")

    for progress in (10, 20, 30):
        quick.execute(NEXT_WINDOW)
        quick.execute("UPDATE user_tasks SET progress = %s", [progress])
        quick.commit()
        slow.execute("UPDATE user_tasks SET progress = %s", [progress + 1])
        started = time.monotonic()
        slow.commit()
        committed = time.monotonic() - started

        assert committed > 0.1, "this commit was to be slow"
        wait_until_shown(followers, "a", SOON, progress=progress + 1)


# Clients that send, and such that do not read.


class Queues(NamedTuple):
    """Bytes that the kernel keeps at one end of a connection."""

    unsent: int
    unread: int


def queues(local_port: int, remote_port: int) -> Queues:
    """What waits at the local end of a connection within this machine."""
    ends = (f":{local_port:04X}", f":{remote_port:04X}")
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, waiting, *_ = line.split()
        if (local[-5:], remote[-5:]) == ends:
            return Queues(*(int(number, 16) for number in waiting.split(":")))
    return Queues(0, 0)


def send_all_that_is_taken(client: socket.socket, number: int) -> None:
    """Send so many bytes, or as many as the other side takes."""
    client.settimeout(1)
    with contextlib.suppress(OSError):
        while number > 0:
            number -= client.send(b"x" * min(number, 65536))


@pytest.mark.parametrize("uploaded", [0, 8_000_000])
def test_a_client_that_sends_into_its_open_stream_takes_no_memory(
    start_server: Start, engine: sa.Engine, uploaded: int
) -> None:
    """An upload before it, on the same connection, has the kernel grow the buffer."""
    server = start_server()
    insert(engine, "a", status="running")
    head = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {make_token()}\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.settimeout(20)
        if uploaded:
            client.sendall(f"POST /api/tasks/a/events {head}Content-Length: {uploaded}\r\n\r\n".encode())
            client.sendall(b"x" * uploaded)
            read_until(client, b"}")
        client.sendall(f"GET /api/tasks/a/events {head}\r\n".encode())
        read_until(client, b"data: ")

        send_all_that_is_taken(client, 4_000_000)
        kept = queues(server.port, client.getsockname()[1]).unread
        update(engine, "a", stage="moved")
        client.settimeout(20)
        read_until(client, b"moved")

    assert kept <= 65_536


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Deaf(threading.Thread):
    """A client that asks `/healthz` so many times on one connection, then for a stream, and reads nothing for long."""

    def __init__(self, server: Server, before: int) -> None:
        super().__init__(daemon=True)
        self._connection = socket.socket()
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._connection.connect(("127.0.0.1", server.port))
        self._requests = HEALTH * before
        self._requests += f"GET /api/tasks/a/events HTTP/1.1\r\nAuthorization: Bearer {make_token()}\r\n".encode()
        self._requests += b"Host: x\r\n\r\n"
        self._listens = threading.Event()
        self.start()

    def run(self) -> None:
        sender = threading.Thread(target=self._send, daemon=True)
        sender.start()
        self._listens.wait()
        with contextlib.suppress(OSError):
            while self._connection.recv(1 << 20):
                pass

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.sendall(self._requests)

    def sent_but_not_read(self, server: Server) -> int:
        """How many bytes of answers wait in the kernel, at either end."""
        port = self._connection.getsockname()[1]
        return queues(server.port, port).unsent + queues(port, server.port).unread

    def wait_until_nothing_fits(self, server: Server) -> int:
        """Wait until the server cannot write; how many bytes it has written."""
        written, unchanged = -1, 0
        while unchanged < 5:
            time.sleep(0.2)
            before, written = written, self.sent_but_not_read(server)
            unchanged = unchanged + 1 if written == before else 0
        return written

    def listen(self) -> None:
        self._listens.set()

    def leave(self) -> None:
        self.listen()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self.join()
        self._connection.close()


@pytest.fixture
def deaf(start_server: Start) -> Iterator[Callable[[Server, int], Deaf]]:
    clients: list[Deaf] = []

    def start(server: Server, before: int) -> Deaf:
        clients.append(Deaf(server, before))
        return clients[-1]

    yield start
    for client in clients:
        client.leave()


@pytest.mark.slow
@on("sqlite")
def test_a_stream_dropped_before_its_headers_were_sent_leaves_no_descriptor(
    start_server: Start, engine: sa.Engine, deaf: Callable[[Server, int], Deaf]
) -> None:
    """A client that reads nothing leaves no room for the headers of its stream, which is then dropped as stalled. When
    it reads at last, the headers are sent, and the socket must not be taken over for nobody.

    Only a buffer that is full to the last byte at that very moment will do: a first client tells about how many
    answers fill it, and of some others, with one request more each, one or two are right.
    """
    server = start_server(MAX_STREAMS_PER_USER=100)
    insert(engine, "a", status="running")
    with raw_stream(server, "/healthz") as connection:
        size = len(read_until(connection, b"}"))
    probe = deaf(server, 20_000)
    fits = probe.wait_until_nothing_fits(server) // size
    probe.leave()

    clients = []
    for before in range(fits - 3, fits + 4):
        clients.append(deaf(server, before))
        clients[-1].wait_until_nothing_fits(server)
    wait_until(lambda: metric(server, "taskapi_streams_open") == 0, 90)
    dropped = metric(server, 'taskapi_streams_ended_total{reason="stalled"}')
    assert 0 < dropped < len(clients), "for some the buffer was to be full before their stream, for some after it"
    for client in clients:
        client.listen()

    wait_until(lambda: connections_at(server.port) == metric(server, "taskapi_streams_open"))
