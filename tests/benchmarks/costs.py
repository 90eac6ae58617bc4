"""What a stream costs: opening, memory, CPU while idle; and how soon one bar moves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial

from . import programs
from .fanout import Publisher, ours
from .polling import hello, per_second
from .programs import Streams
from .table import Row, figure, ratio

OPENED = 4000
QUIET_SECONDS = 20.0


def opening(number: int) -> Iterator[Row]:
    """Streams opened for each second of CPU: token checked, row read, through the blueprint."""
    found = programs.rounds(number, {"ours": _opened_per_second, "hello": _answered_per_second})
    value = ratio(found["ours"], found["hello"], " for each second of CPU")
    yield Row("streams opened", "Flask's hello, a connection each", value, "3 000/s")


def _answered_per_second() -> float:
    """What a connection and one answer of Flask cost on the same server, to see what this machine is worth today."""
    with contextlib.closing(hello()) as program:
        return per_second(program, "/", "Connection: close")


def _opened_per_second() -> float:
    with ours("sqlite") as running:
        Streams(running.program.port, 200, running.path, running.headers).close()
        time.sleep(1)
        before = running.program.cpu()
        with contextlib.closing(Streams(running.program.port, OPENED, running.path, running.headers)):
            return OPENED / (running.program.cpu() - before)


def memory(number: int, sizes: tuple[int, ...]) -> Iterator[Row]:
    """Kilobytes of process memory for each open stream."""
    for streams in sizes:
        found = programs.rounds(number, {"ours": partial(_kilobytes, streams)})["ours"]
        yield Row(f"memory of a stream, {streams} open", "–", _value(found, " kB"), "under 1 kB")


def _kilobytes(streams: int) -> float:
    with ours("sqlite") as running:
        warm = Streams(running.program.port, 200, running.path, running.headers)
        before = running.program.memory()
        with (
            contextlib.closing(warm),
            contextlib.closing(Streams(running.program.port, streams, running.path, running.headers)),
        ):
            time.sleep(1)
            return (running.program.memory() - before) / streams


def idle(number: int, sizes: tuple[int, ...]) -> Iterator[Row]:
    """Per cent of a core while nothing changes."""
    for kind, name in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL")):
        for streams, to_reach in ((0, "under 0.1 %"), (sizes[-1], "at most 0.5 %")):
            found = programs.rounds(1, {"ours": partial(_idle_percent, kind, streams)})["ours"]
            yield Row(f"CPU of an idle process, {streams} quiet streams, {name}", "–", _value(found, " %"), to_reach)


def _idle_percent(kind: str, streams: int) -> float:
    with ours(kind) as running, contextlib.ExitStack() as opened:
        if streams:
            opened.enter_context(
                contextlib.closing(Streams(running.program.port, streams, running.path, running.headers))
            )
        time.sleep(4)
        return running.program.cpu_percent(QUIET_SECONDS)


def one_bar(number: int) -> Iterator[Row]:
    """The median of the time from a commit to one client, while the task moves."""
    for kind, name, to_reach in (("sqlite", "SQLite", "5 ms"), ("postgresql", "PostgreSQL", "2 ms")):
        found = programs.rounds(number, {"ours": partial(_milliseconds, kind)})["ours"]
        yield Row(f"p50 from commit to one client, {name}", "–", _value(found, " ms"), to_reach)


def _milliseconds(kind: str) -> float:
    with ours(kind) as running:
        streams = Streams(running.program.port, 1, running.path, running.headers)
        with contextlib.closing(streams), Publisher(running.publish, 0.1) as publisher:
            streams.measure(0.5)
            return 1000 * (streams.measure(4).p50 - publisher.commit_seconds)


def _value(found: float | programs.Missing, unit: str) -> str:
    return f"left out: {found}" if isinstance(found, programs.Missing) else f"{figure(found)}{unit}"
