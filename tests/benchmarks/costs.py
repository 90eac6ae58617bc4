"""What a stream costs: opening, memory, CPU while idle; and how soon one bar moves."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

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


# What the kernel keeps for an open connection that is watched by an epoll (slab caches), beside its buffers.
CACHES = ("TCP", "TCPv6", "sock_inode_cache", "filp", "eventpoll_epi")
ENDS = 2  # the client's end is here, too, and watched likewise


class Kilobytes(NamedTuple):
    """What an open stream takes of its process, and of the kernel."""

    own: float
    kernel: float | None


def memory(number: int, sizes: tuple[int, ...]) -> Iterator[Row]:
    """Kilobytes of memory for each open stream, the process's own and the kernel's beside it."""
    for streams in sizes:
        seen: list[Kilobytes] = []

        def measure(streams: int = streams, seen: list[Kilobytes] = seen) -> float:
            seen.append(_kilobytes(streams))
            return seen[-1].own

        value = _value(programs.rounds(number, {"ours": measure})["ours"], " kB")
        kernel = [kilobytes.kernel for kilobytes in seen if kilobytes.kernel is not None]
        beside = f"; of the kernel's {figure(programs.median(kernel))} kB beside it" if kernel else ""
        yield Row(f"memory of a stream, {streams} open", "–", value + beside, "under 1 kB of its own")


def _kilobytes(streams: int) -> Kilobytes:
    with ours("sqlite") as running:
        warm = Streams(running.program.port, 200, running.path, running.headers)
        own, kernel = running.program.memory(), _kernel_kilobytes()
        with (
            contextlib.closing(warm),
            contextlib.closing(Streams(running.program.port, streams, running.path, running.headers)),
        ):
            time.sleep(1)
            grown = (running.program.memory() - own) / streams
            if kernel is None:
                return Kilobytes(grown, None)
            return Kilobytes(grown, ((_kernel_kilobytes() or 0) - kernel) / streams / ENDS)


def _kernel_kilobytes() -> float | None:
    """What all connections of this machine take of the kernel's memory, buffers included; None where that is secret."""
    try:
        lines = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()]
        sockets = Path("/proc/net/sockstat").read_text()
    except OSError:
        return None
    slabs = sum(int(line[1]) * int(line[3]) for line in lines if line[0] in CACHES)
    pages = int(sockets.partition("TCP: ")[2].partition("\n")[0].split()[-1])
    return (slabs + pages * os.sysconf("SC_PAGE_SIZE")) / 1024


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
