"""What clients can do to a running server: reset, stop, read a byte a second, lose their network; and what it costs."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from harness import Machine, Server, free_port, insert, make_token, may_pull_cables, pipe, update, wait_until
from test_metrics import metric
from test_streams import connections_at, descriptors, raw_stream, read_until, unchunk

from taskapi.stream.hub import KEEP_ALIVE_SECONDS, STALL_SECONDS
from taskapi.stream.sockets import USER_TIMEOUT_MS

Start = Callable[..., Server]

sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

# A stalled client is found at its next timer; the rest is for a busy machine.
DROPPED_WITHIN = STALL_SECONDS + KEEP_ALIVE_SECONDS + 30
CUT_OFF_WITHIN = KEEP_ALIVE_SECONDS + USER_TIMEOUT_MS / 1000 + 30


def in_status(pid: int, name: str) -> int:
    """A number of `/proc/<pid>/status`."""
    found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def database_connections(pid: int, port: int) -> int:
    """How many connections to its database a process holds, by what else it has open."""
    names = descriptors(pid)
    files = sum(name.endswith("taskapi.db") for name in names)
    return files + sum(name.startswith("socket:") for name in names) - connections_at(port)


@contextlib.contextmanager
def busy(engine: sa.Engine, task_id: str, pause: float) -> Iterator[Callable[[], int]]:
    """Write a kilobyte of a task's row again and again; gives what tells the number of the last write."""
    stop, number = threading.Event(), 0

    def write() -> None:
        nonlocal number
        while not stop.wait(pause):
            update(engine, task_id, stage="x" * 1000, completed_items=number + 1)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield lambda: number
    finally:
        stop.set()
        writer.join()


class Reset(threading.Thread):
    """Connects and goes again, at moments drawn from a seed."""

    def __init__(self, server: Server, seed: int, times: int) -> None:
        super().__init__()
        self._server, self._random, self._times = server, random.Random(seed), times

    def run(self) -> None:
        for _ in range(self._times):
            self._once()

    def _once(self) -> None:
        draw = self._random
        path = draw.choice(["/api/tasks/a/events", "/api/tasks/users/me/events"])
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {make_token()}\r\n\r\n".encode()
        part = request[: draw.choice([0, draw.randrange(len(request)), len(request), len(request)])]
        with socket.create_connection(("127.0.0.1", self._server.port)) as connection:
            connection.sendall(part)
            time.sleep(draw.choice([0, 0, draw.random() / 50]))
            if part == request and draw.random() < 0.5:
                connection.settimeout(20)
                connection.recv(draw.randrange(1, 2000))
            if draw.random() < 0.7:  # a reset instead of an end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset_at_random_moments(server: Server, times: int, seed: int) -> None:
    """So many connects and resets by eight clients at once."""
    clients = [Reset(server, seed + number, times // 8) for number in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


@pytest.mark.slow
def test_a_thousand_resets_at_random_moments_leave_the_server_as_it_was(start_server: Start, engine: sa.Engine) -> None:
    greenlets = 30
    # Without the long keep-alive, half a request would hold its greenlet for two seconds only.
    server = start_server("--worker-connections", str(greenlets), "--keep-alive", "120", MAX_STREAMS_PER_USER=2000)
    insert(engine, "a", status="running")
    worker = server.workers()[0]
    reset_at_random_moments(server, 80, seed=1)  # the pools keep what they once needed
    wait_until(lambda: connections_at(server.port) == 0)
    database_before, threads_before = database_connections(worker, server.port), in_status(worker, "Threads")

    with busy(engine, "a", pause=0.01):
        reset_at_random_moments(server, 1000, seed=100)

    wait_until(lambda: metric(server, "taskapi_streams_open") == 0)
    wait_until(lambda: connections_at(server.port) == 0)
    # Two pools of five connections; three more are those of the feed.
    wait_until(lambda: database_connections(worker, server.port) <= max(database_before, 10) + 3)
    assert in_status(worker, "Threads") <= threads_before + 2
    assert server.workers() == [worker]
    assert "Traceback" not in server.log.read_text()
    assert_greenlets_are_free(server, greenlets)


def assert_greenlets_are_free(server: Server, number: int) -> None:
    """All but one wait for the rest of a request; the last one has to answer."""
    with contextlib.ExitStack() as held:
        for _ in range(number - 1):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        read_until(held.enter_context(raw_stream(server, "/healthz")), b'{"status":"ok"}')


def test_the_cap_of_the_process_comes_free_by_a_reset(start_server: Start, engine: sa.Engine) -> None:
    server = start_server(MAX_STREAMS=2)
    insert(engine, "a")
    insert(engine, "b", user=2)
    first = raw_stream(server, "/api/tasks/a/events")
    read_until(first, b"data: ")
    server.stream("/api/tasks/a/events").next()
    assert server.stream("/api/tasks/b/events", 2).next().json == {"reason": "busy"}

    first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first.close()

    wait_until(lambda: server.stream("/api/tasks/b/events", 2).next().name == "message", 1)


def test_a_client_that_reads_in_dribs_gets_whole_frames_and_the_newest_state(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    draw = random.Random(7)
    slow = raw_stream(server, "/api/tasks/a/events", receive_buffer=2048)
    data = read_until(slow, b"data: ")

    for number in range(1, 401):
        update(engine, "a", stage="x" * draw.randrange(1000, 3000), completed_items=number)
        if not number % 4:
            data += slow.recv(draw.randrange(1, 1500))
    update(engine, "a", status="completed")
    data += read_until(slow, b"\r\n0\r\n\r\n")
    slow.close()

    events = [event for event in unchunk(data.split(b"\r\n\r\n", 1)[1]).split("\n\n") if event]
    snapshots = [json.loads(event.partition("\ndata: ")[2]) for event in events[:-1]]
    counts = [snapshot["completed_items"] for snapshot in snapshots]
    assert counts == sorted(counts)
    assert len(data) < 200_000, "newer states take the place of older ones that were not sent: all were 800 kB"
    assert (snapshots[-1]["completed_items"], snapshots[-1]["status"]) == (400, "completed")
    assert events[-1] == 'event: done\ndata: {"status": "completed"}'


class Reader(threading.Thread):
    """A client in good health: what it has seen."""

    def __init__(self, server: Server, task_id: str) -> None:
        super().__init__(daemon=True)
        self.seen = -1
        self.names: list[str] = []
        self.ids: list[int] = []
        self._stream = server.stream(f"/api/tasks/{task_id}/events")

    def run(self) -> None:
        with contextlib.suppress(StopIteration, OSError):
            while True:
                event = self._stream.next()
                if event.name == "message":
                    self.ids.append(int(event.id))
                    self.seen = event.json["completed_items"]
                else:
                    self.names.append(event.name)

    def leave(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_RDWR)
        self.join()


class ByteReader(threading.Thread):
    """A client that reads one byte a second."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(daemon=True)
        self._connection = connection

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while self._connection.recv(1):
                time.sleep(1)


@pytest.fixture
def start_reader() -> Iterator[Callable[[Server, str], Reader]]:
    readers: list[Reader] = []

    def start(server: Server, task_id: str) -> Reader:
        readers.append(Reader(server, task_id))
        readers[-1].start()
        return readers[-1]

    yield start
    for reader in readers:
        reader.leave()


@pytest.fixture
def stopped() -> Iterator[Callable[..., socket.socket]]:
    """A client that has asked for a stream and does not read."""
    with contextlib.ExitStack() as connections:
        yield lambda *arguments, **options: connections.enter_context(raw_stream(*arguments, **options))


@pytest.mark.slow
@sqlite
def test_two_hundred_stopped_readers_cost_fifty_healthy_ones_nothing_and_are_dropped(
    start_server: Start,
    engine: sa.Engine,
    start_reader: Callable[[Server, str], Reader],
    stopped: Callable[..., socket.socket],
) -> None:
    server = start_server(MAX_STREAMS_PER_USER=1000)
    worker = server.workers()[0]
    for task_id in ("hot", "short"):
        insert(engine, task_id, status="running")
    healthy = [start_reader(server, "hot") for _ in range(50)]
    wait_until(lambda: all(reader.seen == 0 for reader in healthy))

    for task_id, buffer, number in (("hot", 2048, 200), ("hot", 0, 1), ("short", 2048, 5)):
        for _ in range(number):
            read_until(stopped(server, f"/api/tasks/{task_id}/events", receive_buffer=buffer), b"data: ")
    slow = ByteReader(stopped(server, "/api/tasks/hot/events", receive_buffer=2048))
    slow.start()
    with busy(engine, "hot", pause=0.05) as written:
        memory_before = in_status(worker, "VmRSS")
        for _ in range(100):
            update(engine, "short", stage="y" * 1000)
            time.sleep(0.01)
        update(engine, "short", status="completed")
        wait_until(lambda: metric(server, 'taskapi_streams_ended_total{reason="done"}') == 5)
        assert connections_at(server.port) >= 50 + 207, "whoever is owed bytes is waited for"

        started = time.monotonic()
        while metric(server, 'taskapi_streams_ended_total{reason="stalled"}') < 202:
            newest = written()
            wait_until(lambda: all(reader.seen >= newest for reader in healthy), 10)  # noqa: B023
            assert time.monotonic() - started < DROPPED_WITHIN
            time.sleep(0.2)
        wait_until(lambda: connections_at(server.port) <= 50)
        grown = in_status(worker, "VmRSS") - memory_before
    update(engine, "hot", status="completed")
    for reader in healthy:
        reader.join(20)

    assert [reader.names for reader in healthy] == [["done"]] * 50
    assert {reader.seen for reader in healthy} == {written()}
    assert all(reader.ids == sorted(set(reader.ids)) for reader in healthy)
    assert grown < 8_000, f"{grown} kB for 207 clients that do not read"
    assert time.monotonic() - started > STALL_SECONDS - 15, "they had their time"


CLIENT = """
import socket, sys
connections = []
for task in ("hot", "quiet"):
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    request = f"GET /api/tasks/{task}/events HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer {sys.argv[3]}"
    connection.sendall(request.encode() + b"\\r\\n\\r\\n")
    while b"data: " not in connection.recv(65536):
        pass
    connections.append(connection)
print("following", flush=True)
while connections[0].recv(65536):
    pass
"""


@pytest.mark.slow
@sqlite
@pytest.mark.skipif(not may_pull_cables(), reason="network namespaces are not allowed here")
def test_clients_whose_network_is_cut_are_dropped_on_busy_and_on_quiet_tasks(
    start_server: Start, engine: sa.Engine
) -> None:
    machine = Machine()
    port = free_port()
    server = start_server("-b", f"{machine.near}:{port}")
    for task_id in ("hot", "quiet"):
        insert(engine, task_id, status="running")
    command = machine.command(sys.executable, "-c", CLIENT, machine.near, str(port), make_token())
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert pipe(client.stdout).readline() == "following\n"
        assert metric(server, "taskapi_streams_open") == 2

        machine.pull()
        with busy(engine, "hot", pause=0.1):
            wait_until(lambda: metric(server, "taskapi_streams_open") == 0, CUT_OFF_WITHIN)

        wait_until(lambda: not connections_at(port))
    finally:
        client.kill()
        client.communicate()
        machine.close()
