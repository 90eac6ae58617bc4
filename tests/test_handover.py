"""A deploy that nobody notices: streams go from a process that stops to others, their connections with them."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import selectors
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import gevent
import gevent.socket
import pytest
import sqlalchemy as sa
from benchmarks.programs import Streams
from harness import Event, Server, insert, make_token, parse, row, update, wait_until
from test_metrics import metric
from test_sockets import leave_gunicorn
from test_streams import raw_stream

from taskapi.database.models import Snapshot, TaskStatus
from taskapi.stream.handover import Handover
from taskapi.stream.hub import Hub
from taskapi.stream.sockets import Poller, SocketStream
from taskapi.stream.sse import Frame
from taskapi.stream.streams import Places, Terms
from taskapi.stream.successors import PREFIX, Colleagues

Start = Callable[..., Server]

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LIFETIME = 900.0


# Two processes' halves in one: what travels, and who writes.


@pytest.fixture(autouse=True)
def _close_what_was_opened() -> Iterator[None]:
    yield
    while Client.opened:
        Client.opened.pop().close()


class Half:
    """The streams of one process, and what its broadcaster is asked to read again."""

    def __init__(self, most: int = 100, most_per_user: int = 100) -> None:
        self.hub = Hub(Places(most, most_per_user), Places(10, 5))
        self.poller = Poller()
        self.handover = Handover(self.hub, self.poller, self, cast(Colleagues, None))
        self.asked: dict[int, int] = {}
        self.gaps = 0

    def take_up(self, tasks: dict[int, int]) -> None:
        self.asked |= tasks

    def gap(self) -> None:
        self.gaps += 1

    def streams(self) -> list[SocketStream]:
        return self.poller.streams


class Client:
    """One connection, and what came over it."""

    opened: ClassVar[list[socket.socket]] = []

    def __init__(self, half: Half, user: int = 1, protocol: str = "HTTP/1.1", admin: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.socket = socket.create_connection(listener.getsockname())
            taken = gevent.socket.socket(fileno=listener.accept()[0].detach())
        self.opened.extend([self.socket, taken])
        self.socket.settimeout(5)
        terms = Terms(user, admin, None, half.hub.clock() + LIFETIME, "expired")
        environ = {"gunicorn.socket": taken, "SERVER_PROTOCOL": protocol}
        self.stream = SocketStream(environ, half.poller, half.hub.leave, terms)
        assert half.hub.admit(self.stream, sys.maxsize) is None
        self._taken = taken

    def leave_gunicorn(self) -> Client:
        leave_gunicorn(self.stream, self._taken)
        return self

    def read(self) -> bytes:
        """All that has come by now."""
        return self.socket.recv(1 << 20)

    def read_to_the_end(self) -> bytes:
        data = b""
        while received := self.socket.recv(1 << 20):
            data += received
        return data


def task(revision: int, status: str = "running", number: int = 7, user: int = 1) -> Snapshot:
    return Snapshot(number, user, f"task{number}", TaskStatus(status), revision, b'{"n": %d}' % revision)


def following(half: Half, **terms: Any) -> Client:
    """A client of the task at revision 1."""
    client = Client(half, **terms)
    half.hub.follow_task(task(1), client.stream)
    return client.leave_gunicorn()


def following_all(half: Half, *tasks: Snapshot) -> Client:
    client = Client(half)
    half.hub.follow_user(1, 0, {}, client.stream)
    half.hub.introduce(client.stream, tasks)
    return client.leave_gunicorn()


def hand_over(old: Half, *new: Half) -> None:
    pairs = [socket.socketpair() for _ in new]
    threads = [
        threading.Thread(target=half.handover.take_from, args=(pair[1],)) for half, pair in zip(new, pairs, strict=True)
    ]
    for thread in threads:
        thread.start()
    old.handover.give_to([pair[0] for pair in pairs])
    for pair, thread in zip(pairs, threads, strict=True):
        pair[0].close()
        thread.join()


def test_the_successor_goes_on_where_the_stream_was_on_its_terms() -> None:
    old, new = Half(), Half()
    client = following(old, user=5, protocol="HTTP/1.0", admin=True)
    deadline = client.stream.deadline
    client.read()

    hand_over(old, new)
    (stream,) = new.streams()
    is_inheritable = os.get_inheritable(stream.descriptor)
    new.hub.publish([task(1)])  # which it has
    new.hub.publish([task(2, "completed")])

    assert (len(old.hub), old.streams(), new.asked, is_inheritable) == (0, [], {7: 1}, False)
    assert (stream.user_id, stream.is_admin, stream.deadline, stream.deadline_reason) == (5, True, deadline, "expired")
    ids, done = client.read_to_the_end().split(b"event: ")
    assert (ids, done.split(b"\n")[0]) == (b'id: 2\ndata: {"n": 2}\n\n', b"done")


def test_what_ended_on_the_way_is_news_to_those_who_follow_all_of_a_users_tasks() -> None:
    old, new = Half(), Half()
    client = following_all(old, task(3), task(4, number=8))
    client.read()

    hand_over(old, new)
    known = new.hub.known({7: 1, 8: 1})
    new.hub.publish([task(9, "completed"), task(4, number=8)])

    assert (new.asked, known, new.gaps) == ({7: 1, 8: 1}, {7: 3, 8: 4}, 1)
    assert client.read().count(b"data: ") == 1


def test_streams_of_one_user_from_two_processes_lack_nothing_that_either_had() -> None:
    olds, new = [Half(), Half()], Half()
    clients = [following_all(olds[0], task(3)), following_all(olds[1], task(5), task(6, number=8))]
    for client in clients:
        client.read()

    for old in olds:
        hand_over(old, new)
    new.hub.publish([task(5), task(6, number=8)])

    assert new.asked == {7: 1, 8: 1}
    assert clients[0].read().count(b"data: ") == 2


def test_a_half_written_frame_and_what_waits_behind_it_arrive_whole() -> None:
    old, new = Half(), Half()
    client = following(old)
    frames = [Frame.of("é€".encode() * 200_000 + b"%d" % key) for key in range(1, 4)]
    for key, frame in enumerate(frames, 1):
        client.stream.send(key, frame)

    hand_over(old, new)
    (stream,) = new.streams()
    new.hub.dismiss([stream], "shutdown")
    reader = threading.Thread(target=lambda: read.append(client.read_to_the_end()))
    read: list[bytes] = []
    reader.start()
    while reader.is_alive():
        gevent.sleep(0.001)  # the new process writes

    assert stream.topic is None
    assert b"".join(frame.chunk for frame in frames) in read[0]
    assert read[0].endswith(b"\r\n0\r\n\r\n")


def test_a_stream_that_has_ended_but_for_its_last_bytes_is_handed_over_too() -> None:
    old, new = Half(), Half()
    client = following(old)
    client.stream.send(1, Frame.of(b"x" * 5_000_000))
    old.hub.publish([task(2, "completed")])

    hand_over(old, new)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(client.read_to_the_end()))
    reader.start()
    while reader.is_alive():
        gevent.sleep(0.001)

    assert b"event: done" in read[0]
    assert (len(new.hub), new.streams()) == (0, [])


def test_what_one_successor_has_no_place_for_the_next_one_takes_and_the_rest_stays() -> None:
    old, full, roomy = Half(), Half(most=1), Half(most_per_user=3)
    clients = [following(old) for _ in range(6)]

    hand_over(old, full, roomy)

    assert [len(half.hub) for half in (old, full, roomy)] == [2, 1, 3]
    for half in (old, full, roomy):
        half.hub.publish([task(2, "completed")])
    assert all(b"event: done" in client.read_to_the_end() for client in clients)


def test_a_successor_that_dies_before_it_answers_has_taken_nothing() -> None:
    old = Half()
    clients = [following(old) for _ in range(3)]
    giver, taker = socket.socketpair()

    def die() -> None:
        _, descriptors, *_ = socket.recv_fds(taker, 8, 250)
        for descriptor in descriptors:
            os.close(descriptor)
        taker.close()

    dying = threading.Thread(target=die)
    dying.start()
    old.handover.give_to([giver])
    dying.join()
    old.hub.publish([task(2, "completed")])

    assert old.asked == {7: 1}  # it may have changed on the way
    assert all(b"event: done" in client.read_to_the_end() for client in clients)


def test_a_giver_that_dies_halfway_leaves_its_successor_as_it_was() -> None:
    new = Half()
    giver, taker = socket.socketpair()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    with socket.socket() as connection:
        socket.send_fds(giver, [(1000).to_bytes(8, "big")], [connection.fileno()])
        giver.sendall(b"[[[false")
        giver.close()
        new.handover.take_from(taker)

    assert (len(new.hub), new.streams()) == (0, [])
    assert len(os.listdir("/proc/self/fd")) == before - 2  # noqa: PTH208


# On real servers.

OFFERED = "streams of workers that stop can be handed over to this one"


class Crowd(threading.Thread):
    """Clients that open their streams once, read as long as they last, and never come back."""

    def __init__(self, server: Server, paths: list[str]) -> None:
        super().__init__(daemon=True)
        self.data = [bytearray() for _ in paths]
        self.left = 0  # whose connections the server has closed
        self._selector = selectors.DefaultSelector()
        self._stopped = False
        for number, path in enumerate(paths):
            connection = raw_stream(server, path)
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, number)
        self.start()
        wait_until(lambda: all(b"data: " in data for data in self.data))

    def run(self) -> None:
        while not self._stopped:
            for key, _ in self._selector.select(0.1):
                received = cast(socket.socket, key.fileobj).recv(1 << 16)
                self.data[key.data] += received
                if not received:
                    self.left += 1
                    self._close(key.fileobj)

    def _close(self, connection: Any) -> None:
        self._selector.unregister(connection)
        connection.close()

    def close(self) -> None:
        self._stopped = True
        self.join()
        for key in list(self._selector.get_map().values()):
            self._close(key.fileobj)
        self._selector.close()

    def events(self, number: int) -> list[Event]:
        """What one of them was told; every byte must be where HTTP and the HTML standard want it."""
        body = unchunked(bytes(self.data[number]))
        assert body.endswith(b"\n\n")
        return [event for event in parse(iter(body.decode().split("\n"))) if event.name not in ("comment", "forecast")]

    def names(self) -> Counter[str]:
        """How many were told what last."""
        return Counter(self.events(number)[-1].name for number in range(len(self.data)))


def unchunked(data: bytes) -> bytes:
    """A response's body, as strictly as RFC 9112 (7.1) has it; an open one ends with a whole chunk."""
    body, data = b"", data.partition(b"\r\n\r\n")[2]
    while data and data != b"0\r\n\r\n":
        size, _, data = data.partition(b"\r\n")
        chunk, end, data = data[: int(size, 16)], data[int(size, 16) :][:2], data[int(size, 16) + 2 :]
        assert end == b"\r\n"
        body += chunk
    return body


@pytest.fixture
def gather() -> Iterator[Callable[..., Crowd]]:
    with contextlib.ExitStack() as crowds:
        yield lambda server, paths: crowds.enter_context(contextlib.closing(Crowd(server, paths)))


@contextlib.contextmanager
def writing(engine: sa.Engine, tasks: list[str], ending: list[str]) -> Iterator[None]:
    """Change tasks all the time, and end some on the way; in the end all have ended."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            update(engine, tasks[number % len(tasks)], progress=number % 100)
            if not number % 5 and ending:
                update(engine, ending.pop(), status="completed")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()
    for task_id in tasks + ending:
        update(engine, task_id, status="completed")


def wait_until_replaced(server: Server, old: set[int]) -> None:
    wait_until(lambda: not old & set(server.workers()), 60)


def assert_all_saw_everything(crowd: Crowd, engine: sa.Engine, paths: list[str]) -> None:
    for number, path in enumerate(paths):
        last: dict[str, int] = {}
        for event in crowd.events(number):
            if event.name == "message":
                assert event.json["task_id"] not in last or int(event.id) >= last[event.json["task_id"]]
                last[event.json["task_id"]] = int(event.id)
        if "users/me" in path:
            assert len(last) == 80
        else:
            ((task_id, revision),) = last.items()
            assert revision == row(engine, task_id)["revision"]


def everybody(engine: sa.Engine) -> tuple[list[str], list[str], list[str]]:
    """Tasks that change, tasks that end meanwhile, and the streams of 300 clients."""
    names = [f"t{number}" for number in range(80)]
    for name in names:
        insert(engine, name, status="running")
    paths = [f"/api/tasks/{names[number % 80]}/events" for number in range(280)]
    return names[:30], names[30:], paths + ["/api/tasks/users/me/events"] * 20


def test_a_reload_is_noticed_by_no_client(start_server: Start, engine: sa.Engine, gather: Callable[..., Crowd]) -> None:
    server = start_server("--workers", "2", MAX_STREAMS_PER_USER=400)
    wait_until(lambda: len(server.workers()) == 2)
    changing, ending, paths = everybody(engine)
    crowd = gather(server, paths)
    old = set(server.workers())

    with writing(engine, changing, ending):
        server.process.send_signal(signal.SIGHUP)
        wait_until_replaced(server, old)
        assert metric(server, "taskapi_streams_open") == 300 - crowd.left
        open_before_the_end = len(ending)
    wait_until(lambda: crowd.left == 280)
    wait_until(lambda: all(data.count(b'"completed"') >= 80 for data in crowd.data[280:]))

    assert open_before_the_end < 50  # tasks did end meanwhile
    assert crowd.names() == {"done": 280, "message": 20}
    assert_all_saw_everything(crowd, engine, paths)
    assert 0 < metric(server, "taskapi_streams_handed_over_total") <= 300
    assert metric(server, "taskapi_streams_opened_total") == 300
    assert metric(server, 'taskapi_streams_ended_total{reason="done"}') == 280
    assert metric(server, 'taskapi_streams_ended_total{reason="shutdown"}') == 0


@only_sqlite
def test_a_new_master_gets_the_streams_of_the_old_one_that_quits(
    start_server: Start, engine: sa.Engine, gather: Callable[..., Crowd], tmp_path: Path
) -> None:
    server = start_server("--pid", str(tmp_path / "pid"), MAX_STREAMS_PER_USER=400)
    changing, ending, paths = everybody(engine)
    crowd = gather(server, paths)

    with writing(engine, changing, ending):
        server.process.send_signal(signal.SIGUSR2)
        new = wait_until(lambda: read_pid(tmp_path / "pid.2"), 60)
        wait_until(lambda: server.log.read_text().count(OFFERED) == 2, 60)
        server.process.send_signal(signal.SIGQUIT)
        server.process.wait(60)
    wait_until(lambda: crowd.left == 280)
    wait_until(lambda: all(data.count(b'"completed"') >= 80 for data in crowd.data[280:]))
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: crowd.left == 300)

    assert crowd.names() == {"done": 280, "bye": 20}
    assert_all_saw_everything(crowd, engine, paths)


def read_pid(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


@only_sqlite
def test_a_worker_that_is_told_to_stop_hands_over_to_its_siblings(
    start_server: Start, engine: sa.Engine, gather: Callable[..., Crowd]
) -> None:
    server = start_server("--workers", "2")
    wait_until(lambda: len(server.workers()) == 2)
    insert(engine, "a", status="running")
    crowd = gather(server, ["/api/tasks/a/events"] * 20)

    for number, worker in enumerate(server.workers(), 2):
        wait_until(lambda: server.log.read_text().count(OFFERED) == number, 60)  # noqa: B023
        os.kill(worker, signal.SIGTERM)
        wait_until_replaced(server, {worker})
    update(engine, "a", status="completed")
    wait_until(lambda: crowd.left == 20)

    assert crowd.names() == {"done": 20}


OTHER_VERSION = """
def post_fork(server, worker):
    from taskapi.stream import successors
    successors.VERSION += 1
"""
# What a configuration says that is loaded again, and how six streams end.
RELOADED = {
    "another database": ("raw_env = ['TASKAPI_DATABASE_URL=sqlite:///{folder}/other.db']", {"bye": 6}),
    "other keys": ("raw_env = ['TASKAPI_JWT_SECRET_KEY={key}']", {"bye": 6}),
    "another version": (OTHER_VERSION, {"bye": 6}),
    "fewer places": ("raw_env = ['TASKAPI_MAX_STREAMS_PER_USER=4']", {"bye": 2, "done": 4}),
}


@only_sqlite
@pytest.mark.parametrize("change", RELOADED)
def test_a_successor_takes_only_what_is_its_own_and_for_which_it_has_room(
    start_server: Start, engine: sa.Engine, gather: Callable[..., Crowd], tmp_path: Path, change: str
) -> None:
    configuration = tmp_path / "gunicorn.conf.py"
    configuration.write_text("from taskapi.gunicorn_conf import *\n")
    server = start_server("-c", str(configuration))
    insert(engine, "a", status="running")
    crowd = gather(server, ["/api/tasks/a/events"] * 6)
    old = set(server.workers())
    lines, ends = RELOADED[change]

    with configuration.open("a") as more:
        more.write(lines.format(folder=tmp_path, key="k" * 40) + "\n")
    server.process.send_signal(signal.SIGHUP)
    wait_until_replaced(server, old)
    update(engine, "a", status="completed")
    wait_until(lambda: crowd.left == 6)

    assert crowd.names() == ends


@pytest.mark.slow
@only_sqlite
def test_a_reload_loses_none_of_eighteen_thousand_streams(start_server: Start, engine: sa.Engine) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 20_000:
        pytest.skip("a process may not have 20 000 descriptors here")
    names = [f"t{number}" for number in range(100)]
    for name in names:
        insert(engine, name, status="running")
    server = start_server("--timeout", "120", MAX_STREAMS_PER_USER=18_000)
    (old,) = server.workers()
    paths = ",".join(f"/api/tasks/{name}/events" for name in names)
    headers = {"Authorization": f"Bearer {make_token()}"}

    with contextlib.closing(Streams(server.port, 18_000, paths, headers)) as streams:
        with writing(engine, names, []):
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: old not in server.workers(), 120)
        ended = streams.ended_after(60)

    assert ended == 18_000  # with `done`
    assert "18000 streams were handed over" in server.log.read_text()


@only_sqlite
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_who_listens_at_the_servers_name_gets_nothing(
    start_server: Start, engine: sa.Engine, gather: Callable[..., Crowd]
) -> None:
    server = start_server()
    insert(engine, "a", status="running")
    crowd = gather(server, ["/api/tasks/a/events"] * 3)
    (worker,) = server.workers()
    (digest,) = re.findall(rf"{PREFIX}{worker}-\w+-(\w+)", Path("/proc/net/unix").read_text())
    listen = f"""
        import os, socket, sys
        os.setuid(65534)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("\\0{PREFIX[1:]}1-00-{digest}")
        listener.listen()
        print(flush=True)
        print(listener.accept()[0].recv(1), flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(listen)], stdout=subprocess.PIPE, text=True
    ) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()

        server.stop()

        assert stranger.stdout.readline() == "b''\n"
    wait_until(lambda: crowd.left == 3)
    assert crowd.names() == {"bye": 3}
