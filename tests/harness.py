"""What the tests are made with: a real server, a client of its streams, and rows written by hand."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import jwt
import sqlalchemy as sa

if TYPE_CHECKING:  # what another machine's process runs of this needs no taskapi
    from taskapi.progress import Progress

ROOT = Path(__file__).parent.parent
KEY = secrets.token_urlsafe(48)
SECONDS = 20.0


def wait_until(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Wait until a condition holds; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.01)
    return value


def pipe(stream: IO[str] | None) -> IO[str]:
    """A process's pipe, where it was given one."""
    assert stream is not None
    return stream


def make_token(user: int = 1, *, key: str = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    """A bearer token; a claim that is given as None is left out."""
    claims = {"sub": str(user), "exp": int(time.time()) + 3600, **claims}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm)


def insert(engine: sa.Engine, task_id: str, user: int = 1, **columns: Any) -> int:
    """A row written by hand; its id."""
    columns = {"task_id": task_id, "user_id": user, **columns}
    names, values = ", ".join(columns), ", ".join(f":{name}" for name in columns)
    with engine.begin() as connection:
        statement = sa.text(f"INSERT INTO user_tasks ({names}) VALUES ({values}) RETURNING id")
        return int(connection.scalar(statement, columns))


def update(engine: sa.Engine, task_id: str, **columns: Any) -> None:
    """A change of a row by hand."""
    changes = ", ".join(f"{name} = :{name}" for name in columns)
    with engine.begin() as connection:
        connection.execute(
            sa.text(f"UPDATE user_tasks SET {changes} WHERE task_id = :task_id"), {**columns, "task_id": task_id}
        )


def delete(engine: sa.Engine, task_id: str) -> None:
    """A row removed by hand."""
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM user_tasks WHERE task_id = :task_id"), {"task_id": task_id})


def row(engine: sa.Engine, task_id: str) -> dict[str, Any]:
    """A row as it is."""
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT * FROM user_tasks WHERE task_id = :id"), {"id": task_id}).mappings()
        return dict(found.one())


@contextlib.contextmanager
def writes(progress: Progress) -> Iterator[list[None]]:
    """One entry for each transaction that the helper commits."""
    changer = progress._writer.store().changer
    found: list[None] = []
    change = changer.change

    def noted(*changes: tuple[str, Any]) -> list[list[tuple[Any, ...]]]:
        rows = change(*changes)
        if not changes[0][0].lstrip().startswith("SELECT"):
            found.append(None)
        return rows

    with mock.patch.object(changer, "change", noted):
        yield found


def grants(schema: str, role: str) -> list[str]:
    """What a role needs on PostgreSQL, as docs/deployment.md says."""
    return [
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON user_tasks TO {role}",
        f"GRANT USAGE ON SEQUENCE user_tasks_id_seq TO {role}",
    ]


class Proxy:
    """A way to PostgreSQL that can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open: list[socket.socket] = []
        self.port = 0
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while self._open:
            connection = self._open.pop()
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                join(client, server)


def join(client: socket.socket, server: socket.socket) -> None:
    """Pass on what each of two connections says to the other."""
    for one, other in ((client, server), (server, client)):
        threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


class Event(NamedTuple):
    """One event as a browser dispatches it (HTML standard, 9.2.6), or a comment."""

    name: str
    data: str
    id: str
    retry: int | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.data)


def parse(lines: Iterator[str]) -> Iterator[Event]:
    """An event-stream parser written from the standard alone; comments come as events of the name "comment"."""
    name, last_id = "message", ""
    data: list[str] = []
    retry: int | None = None
    for line in lines:
        if line == "":
            if data or retry is not None:
                yield Event(name, "\n".join(data), last_id, retry)
            name, data, retry = "message", [], None
        elif line.startswith(":"):
            yield Event("comment", line[1:], last_id)
        else:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value
            elif field == "id":
                last_id = value
            elif field == "retry" and value.isdigit():
                retry = int(value)


class EventStream:
    """A client of one stream over a socket of its own."""

    def __init__(self, port: int, path: str, headers: dict[str, str], seconds: float = SECONDS) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=seconds)
        self.connection.request("GET", path, headers=headers)
        assert self.connection.sock is not None
        self.socket: socket.socket = self.connection.sock
        self.response: HTTPResponse = self.connection.getresponse()
        self.status = self.response.status
        self.headers = self.response.headers
        self.follower: Follower | None = None
        self._events = parse(self._lines())

    def _lines(self) -> Iterator[str]:
        while line := self.response.readline():
            yield line.decode().removesuffix("\n")

    def next(self, *, comments: bool = False) -> Event:
        """The next event; `StopIteration` once the server has ended the stream.

        Raises `TimeoutError` like the socket, but keep-alives do not count as something.
        """
        deadline = time.monotonic() + (self.socket.gettimeout() or SECONDS)
        while (event := next(self._events)).name == "comment" and not comments:
            if time.monotonic() > deadline:
                raise TimeoutError("nothing but comments came")
        return event

    def __iter__(self) -> Iterator[Event]:
        """The events until the server ends the stream."""
        return (event for event in self._events if event.name != "comment")

    def rest(self) -> list[Event]:
        """All of them."""
        return list(self)

    def close(self) -> None:
        """Close the connection as a browser does."""
        if self.follower is not None:
            self.follower.leave()
        self.socket.close()
        self.response.close()
        self.connection.close()


class Follower(threading.Thread):
    """Reads a stream until it ends, and keeps what came: every event, and the newest snapshot of each task."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__(daemon=True)
        self.events: list[Event] = []
        self.newest: dict[str, dict[str, Any]] = {}
        self.stream = stream
        stream.follower = self
        stream.socket.settimeout(120)  # it is the test that gives up
        self.start()

    def run(self) -> None:
        with contextlib.suppress(StopIteration, OSError, HTTPException):
            while True:
                event = self.stream.next(comments=True)
                if event.name == "message":
                    self.newest[event.json["task_id"]] = event.json
                if event.name != "comment":
                    self.events.append(event)

    def leave(self) -> None:
        """Stop reading."""
        with contextlib.suppress(OSError):
            self.stream.socket.shutdown(socket.SHUT_RDWR)
        self.join()

    @property
    def ended(self) -> bool:
        """Whether the server has closed the stream."""
        return not self.is_alive()

    @property
    def names(self) -> list[str]:
        """The names of what came beside snapshots."""
        return [event.name for event in self.events if event.name != "message"]


def wait_until_shown(followers: list[Follower], task_id: str, seconds: float = SECONDS, /, **fields: Any) -> None:
    """Wait until the newest snapshot of a task that each follower has says this."""

    def shows(follower: Follower) -> bool:
        return fields.items() <= follower.newest.get(task_id, {}).items()

    wait_until(lambda: all(map(shows, followers)), seconds)


class Answer(NamedTuple):
    """A response that was read whole."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def environment(database_url: str, **settings: Any) -> dict[str, str]:
    """The environment of a process that works on a test's database."""
    names = {"DATABASE_URL": database_url, "JWT_SECRET_KEY": KEY, **settings}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKAPI_")}
    return {**kept, **{f"TASKAPI_{name}": str(value) for name, value in names.items()}}


def migrate(database_url: str) -> None:
    """Bring a database's schema up to date, as its operator does."""
    command = [sys.executable, "-m", "flask", "db", "upgrade"]
    subprocess.run(command, cwd=ROOT, env=environment(database_url), check=True, capture_output=True)


class Server:
    """Real gunicorn with gevent workers."""

    def __init__(
        self,
        database_url: str,
        log: Path,
        *arguments: str,
        app: str = "wsgi:app",
        port: int | None = None,
        wait: bool = True,
        variables: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.port = port or free_port()
        self.log = log
        self.streams: list[EventStream] = []
        # Not `python -m gunicorn`, which cannot start itself anew (USR2).
        command = [str(Path(sys.executable).with_name("gunicorn")), "-c", "python:taskapi.gunicorn_conf", app]
        command += ["-b", f"127.0.0.1:{self.port}", *arguments]
        counts = {"PROMETHEUS_MULTIPROC_DIR": str(log.with_name(f"{log.name}-counts"))}
        variables = {**environment(database_url, **settings), **counts, **(variables or {})}
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=output, stderr=output)
        if wait:
            wait_until(lambda: self.process.poll() is not None or self.answers("/readyz"))
            assert self.process.poll() is None, log.read_text()

    def answers(self, path: str) -> bool:
        with contextlib.suppress(OSError):
            return self.get(path).status == 200
        return False

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def request(self, method: str, path: str, user: int | None = None, **headers: str) -> Answer:
        """One request on a connection of its own; underscores in header names stand for hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if user is not None:
            sent["Authorization"] = f"Bearer {make_token(user)}"
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SECONDS + 15)
        try:
            connection.request(method, path, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, user: int | None = None, **headers: str) -> Answer:
        return self.request("GET", path, user, **headers)

    def stream(self, path: str, user: int | None = 1, **headers: str) -> EventStream:
        """Open a stream, by bearer token unless `user` is None."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if user is not None:
            sent.setdefault("Authorization", f"Bearer {make_token(user)}")
        self.streams.append(EventStream(self.port, path, sent))
        return self.streams[-1]

    def close_streams(self) -> None:
        """Close what a test left open."""
        while self.streams:
            self.streams.pop().close()

    def close(self) -> None:
        """End the server at once (its stop is other tests' business) and close what the test left open."""
        self.close_streams()
        if self.process.poll() is None:
            workers = self.workers()
            for pid in (self.process.pid, *workers):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Stop the server; how many seconds that took."""
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30)
        return time.monotonic() - started


def may_pull_cables() -> bool:
    """Whether this process may make network namespaces."""
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return made.returncode == 0 and shutil.which("ip") is not None


class Machine:
    """Another machine: a network namespace at the far end of a cable that can be pulled.

    A pulled cable is silence: nothing arrives, nothing is acknowledged, nobody says so.
    """

    def __init__(self) -> None:
        self.name = f"taskapi-{os.getpid()}"
        number = os.getpid() % 250
        self.near, self.far = f"10.213.{number}.1", f"10.213.{number}.2"
        self._cable = f"tk{os.getpid()}"
        self._ip(f"netns add {self.name}")
        self._ip(f"link add {self._cable} type veth peer name far netns {self.name}")
        self._ip(f"addr add {self.near}/30 dev {self._cable}")
        self._ip(f"link set {self._cable} up")
        self._ip(f"-n {self.name} addr add {self.far}/30 dev far")
        self.plug_in()

    @staticmethod
    def _ip(command: str) -> None:
        subprocess.run(["ip", *command.split()], check=True)

    def command(self, *arguments: str) -> list[str]:
        """A command line that runs there."""
        return ["ip", "netns", "exec", self.name, *arguments]

    def pull(self) -> None:
        """Cut the network."""
        self._ip(f"-n {self.name} link set far down")

    def plug_in(self) -> None:
        """Mend it."""
        self._ip(f"-n {self.name} link set far up")

    def close(self) -> None:
        """Remove it; what ran there must have ended."""
        self._ip(f"link del {self._cable}")
        self._ip(f"netns del {self.name}")


def forward(host: str, port: int, target: str, target_port: int) -> None:
    """Pass every connection to a port on to another, for ever."""
    with socket.create_server((host, port)) as listener:
        while True:
            client, _address = listener.accept()
            join(client, socket.create_connection((target, target_port)))
