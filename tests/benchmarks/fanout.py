"""Frames a second to many streams of one hot task, and how late the slowest are."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection
from typing import Any, NamedTuple

import sqlalchemy as sa

from . import programs
from .programs import HERE, Missing, Program, Streams
from .table import Row, ratio

SECONDS = 4.0
# A frame of taskapi has about 360 bytes; so have the peers'.
PADDING = "x" * 280


class Contestant(NamedTuple):
    """A running server, the path of its stream, and what makes it send a frame to all."""

    program: Program
    path: str
    publish: Callable[[], None]
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    commits: bool = False  # whether to publish is to commit, which is not part of the delivery


def stamp() -> str:
    """What tells the client how old a frame is."""
    return f"at={time.clock_gettime_ns(time.CLOCK_MONOTONIC)} "


@contextlib.contextmanager
def writing(engine: sa.Engine, task_id: str) -> Iterator[Callable[[], None]]:
    """What changes a task, with a stamp, and commits that."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # What is measured begins with the commit: one round trip, and no waiting for the disk.
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(sa.text("SET synchronous_commit = off"))
        update = sa.text("UPDATE user_tasks SET stage = :stage WHERE task_id = :task_id")

        def publish() -> None:
            connection.execute(update, {"stage": stamp(), "task_id": task_id})
            connection.commit()

        yield publish


@contextlib.contextmanager
def ours(kind: str) -> Iterator[Contestant]:
    """Our server, and a writer of the row."""
    with programs.task_database(kind) as url, contextlib.closing(programs.taskapi(url)) as program:
        engine = programs.open_engine(url)
        with writing(engine, "hot") as publish:
            yield Contestant(program, "/api/tasks/hot/events", publish, programs.BEARER, commits=True)
        engine.dispose()


@contextlib.contextmanager
def floor(changes: float = 0) -> Iterator[Contestant]:
    """The C send loop, which publishes by itself."""
    port = programs.free_port()
    program = Program(port, programs.compiled("floor"), port, changes)
    with contextlib.closing(program):
        yield Contestant(program, "/", lambda: time.sleep(0.05))


def poster(port: int) -> Callable[[], None]:
    """Publishes by a POST."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def publish() -> None:
        connection.request("POST", "/publish", stamp() + PADDING)
        connection.getresponse().read()

    return publish


@contextlib.contextmanager
def nchan_program() -> Iterator[Program]:
    """nginx with nchan, running. Raises `Missing`."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if nginx is None:
        raise Missing("no nginx")
    port = programs.free_port()
    home = programs.folder() / f"nchan{port}"
    home.mkdir()
    text = (HERE / "peers" / "nchan.conf").read_text().replace("FOLDER", str(home)).replace("PORT", str(port))
    (home / "nginx.conf").write_text(text)
    with contextlib.closing(Program(port, nginx, "-c", home / "nginx.conf", "-p", home)) as program:
        yield program


@contextlib.contextmanager
def nchan() -> Iterator[Contestant]:
    """nginx with nchan, one channel."""
    with nchan_program() as program:
        publish = poster(program.port)
        publish()
        yield Contestant(program, "/stream", publish)


@contextlib.contextmanager
def flask_sse() -> Iterator[Contestant]:
    """flask-sse on gunicorn and gevent, with Redis."""
    port = programs.free_port()
    command = [programs.peers_python(), "-m", "gunicorn", "-k", "gevent", "--worker-connections", "20000"]
    command += ["--no-control-socket", "--backlog", "4096", "-b", f"127.0.0.1:{port}", "flask_sse_app:app"]
    with contextlib.closing(Program(port, *command, cwd=HERE / "peers", REDIS_URL=programs.REDIS)) as program:
        yield Contestant(program, "/stream", poster(port))


@contextlib.contextmanager
def sse_starlette() -> Iterator[Contestant]:
    """sse-starlette on uvicorn with uvloop."""
    with contextlib.closing(uvicorn("sse_starlette_app:app")) as program:
        yield Contestant(program, "/stream", poster(program.port))


@contextlib.contextmanager
def pg_sse() -> Iterator[Contestant]:
    """pg-sse on uvicorn with uvloop: a row for each message, a trigger that notifies."""
    with programs.task_database("postgresql") as url:
        engine = programs.open_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE bench_messages (id bigserial PRIMARY KEY, room text, body text)")
            connection.exec_driver_sql(
                "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_notify('bench_change', NEW.room); RETURN NULL; END $$"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER tell AFTER INSERT ON bench_messages FOR EACH ROW EXECUTE FUNCTION tell()"
            )

        def publish() -> None:
            with engine.begin() as connection:
                insert = sa.text("INSERT INTO bench_messages (room, body) VALUES ('hot', :body)")
                connection.execute(insert, {"body": stamp() + PADDING})

        with contextlib.closing(uvicorn("pg_sse_app:app", DATABASE_URL=url)) as program:
            publish()
            yield Contestant(program, "/stream", publish)
        engine.dispose()


def uvicorn(app: str, **variables: Any) -> Program:
    """A peer on uvicorn, with all that makes it fast."""
    port = programs.free_port()
    command = [programs.peers_python(), "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--port", port]
    return Program(port, *command, "--no-access-log", "--backlog", "4096", app, cwd=HERE / "peers", **variables)


class Publisher(threading.Thread):
    """Publishes again and again, with a pause."""

    def __init__(self, publish: Callable[[], None], pause: float) -> None:
        super().__init__(daemon=True)
        self._publish, self._pause = publish, pause
        self._over = threading.Event()
        self._seconds: list[float] = []

    def run(self) -> None:
        """Until it is over."""
        while not self._over.wait(self._pause):
            started = time.monotonic()
            self._publish()
            self._seconds.append(time.monotonic() - started)

    @property
    def commit_seconds(self) -> float:
        """What lies between a change's stamp and the end of its commit."""
        return programs.median(self._seconds)

    def __enter__(self) -> Publisher:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self.join()


def open_and(measure: Callable[[Streams, Contestant], Any], contestant: Any, streams: int) -> Any:
    """Open so many streams of a contestant, measure, and end it."""
    with contestant as running, contextlib.closing(first_frame(running, streams)) as opened:
        return measure(opened, running)


def measured(measure: Callable[..., float], contestant: Callable[[], Any], streams: int, units: int = 1) -> float:
    """The same for a contestant that is yet to begin; in so many units to one."""
    return float(units * open_and(measure, contestant(), streams))


def first_frame(running: Contestant, streams: int) -> Streams:
    """Streams count as open with their first frame, which some peers send only when somebody publishes."""
    with Publisher(running.publish, 0.2):
        return Streams(running.program.port, streams, running.path, running.headers)


def rate(pause: float) -> Callable[[Streams, Contestant], float]:
    """Frames for each second of the server's CPU, while somebody publishes so often."""

    def measure(streams: Streams, running: Contestant) -> float:
        with Publisher(running.publish, pause):
            streams.measure(1.0)  # until all are at it
            before = running.program.cpu()
            frames = streams.measure(SECONDS).frames
            return frames / (running.program.cpu() - before)

    return measure


def lateness(streams: Streams, running: Contestant) -> float:
    """The 99th percentile of the seconds from a change to a client, at ten changes a second."""
    with Publisher(running.publish, 0.1) as publisher:
        streams.measure(1.0)
        return streams.measure(2 * SECONDS).p99 - (publisher.commit_seconds if running.commits else 0)


# What to reach, and how often the peer is told: fast enough to keep it busy, not so fast that it only queues.
PEERS: dict[str, tuple[Callable[[], Any], str, float]] = {
    "nginx + nchan": (nchan, "1.3", 0.001),
    "flask-sse": (flask_sse, "6", 0.02),
    "sse-starlette": (sse_starlette, "6", 0.001),
    "pg-sse": (pg_sse, "20", 0.05),
    "a C send loop": (floor, "0.8", 0.001),
}


def fan_out(number: int, sizes: tuple[int, ...]) -> Iterator[Row]:
    """Frames for each second of the server's CPU (Redis, PostgreSQL and whoever publishes are not counted)."""
    for streams in sizes:
        found = programs.rounds(
            number,
            {"ours": partial(measured, rate(0.001), partial(ours, "sqlite"), streams)}
            | {name: partial(measured, rate(pause), peer, streams) for name, (peer, _, pause) in PEERS.items()},
        )
        for name, (_, to_reach, _) in PEERS.items():
            yield Row(
                f"frames for each second of CPU, {streams} streams",
                name,
                ratio(found["ours"], found[name], " frames"),
                f"{to_reach} ×",
            )


def delivery(number: int, sizes: tuple[int, ...]) -> Iterator[Row]:
    """The 99th percentile of the time from a commit to the client's socket."""
    for streams in sizes:
        found = programs.rounds(
            number,
            {
                "SQLite": partial(measured, lateness, partial(ours, "sqlite"), streams, 1000),
                "PostgreSQL": partial(measured, lateness, partial(ours, "postgresql"), streams, 1000),
                "floor": partial(measured, lateness, partial(floor, 10), streams, 1000),
            },
        )
        for kind in ("SQLite", "PostgreSQL"):
            yield Row(
                f"p99 at 10 changes/s, {streams} streams, {kind}", "a C send loop",
                ratio(found[kind], found["floor"], " ms"), "at most 1.5 ×",
            )  # fmt: skip
