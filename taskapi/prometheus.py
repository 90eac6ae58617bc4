"""How the counts of several processes add up for Prometheus; the only module that knows prometheus_client.

Where `PROMETHEUS_MULTIPROC_DIR` names a folder, prometheus_client keeps each process's counts in files of its own
there, for ever. Here the counts of the dead are added up in one file of each kind. The folder may be an operator's,
with other services' files in it: only those of processes that left a sign of life here are touched.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "Histogram", "exposition"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
# The kinds whose counts stay true when their process is gone. Those of all the dead are kept in one file of each.
SUMMED = ("counter", "histogram", "summary")
LOCK_LOOK_SECONDS = 0.001
LABELS = ("kind", "status")

_folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")


def exposition(tasks: Iterable[tuple[str, str, int, float]]) -> bytes:
    """The counts of all processes, as Prometheus reads them, and what is in the database now.

    `tasks`: kind, status, how many there are, and since how many seconds the oldest is there.
    """
    registry = CollectorRegistry()
    registry.register(_Tasks(tasks))
    if not _folder:
        return generate_latest(registry) + generate_latest(REGISTRY)
    with _locked(Path(_folder)) as folder:
        _bury_the_dead(folder, os.getpid())
        registry.register(_Files(folder))
        return generate_latest(registry)


class _Tasks(Collector):
    """What is in the database now."""

    def __init__(self, tasks: Iterable[tuple[str, str, int, float]]) -> None:
        self._tasks = tasks

    def collect(self) -> Iterable[Metric]:
        """Two gauges."""
        counts = GaugeMetricFamily("taskapi_tasks", "Tasks that have not ended, by kind and status", labels=LABELS)
        ages = GaugeMetricFamily("taskapi_oldest_task_seconds", "Since when the oldest of them is there", labels=LABELS)
        for kind, status, count, oldest in self._tasks:
            counts.add_metric((kind, status), count)
            ages.add_metric((kind, status), oldest)
        return [counts, ages]


class _Files(Collector):
    """The files of a folder, but for those that a process has only just made: they are empty yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """The sums."""
        files = [str(file) for file in self._folder.glob("*.db") if file.stat().st_size]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def _live(folder: Path) -> None:
    """Let this process be one of those that count until they die."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _bury_the_dead(folder)  # also one of the same number: in a container, all have the same
        _show_sign_of_life(folder)
    os.register_at_fork(after_in_child=lambda: _show_sign_of_life(folder))


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Let nobody else read or bury meanwhile: a process that is counted twice, or not, is a jump to Prometheus."""
    with (folder / "taskapi.lock").open("w") as file:
        while not _try(fcntl.flock, file.fileno()):
            time.sleep(LOCK_LOOK_SECONDS)  # a wait in the kernel would stop every greenlet
        yield folder


def _try(lock: Callable[[int, int], None], descriptor: int) -> bool:
    try:
        lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _show_sign_of_life(folder: Path) -> None:
    """Lock a file until this process ends: then the kernel lets go, and a forked child has no share in it."""
    sign = os.open(folder / f"taskapi_{os.getpid()}.alive", os.O_CREAT | os.O_WRONLY, 0o600)
    _try(fcntl.lockf, sign)


def _bury_the_dead(folder: Path, but: int | None = None) -> None:
    """Keep the counts of processes that have died; `but` is the own number: no process is kept out by its own lock."""
    for sign in folder.glob("taskapi_*.alive"):
        process = sign.stem.removeprefix("taskapi_")
        if process != str(but) and _is_of_the_dead(sign):
            for kind in SUMMED:
                _add(folder / f"{kind}_{process}.db", folder / f"{kind}_taskapi.db")
            mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]
            sign.unlink()


def _is_of_the_dead(sign: Path) -> bool:
    with sign.open("w") as file:
        return _try(fcntl.lockf, file.fileno())


def _add(counts: Path, sums: Path) -> None:
    """Add a file's counts to another's, and remove it."""
    if counts.exists() and counts.stat().st_size:  # else its process died before it counted
        total = MmapedDict(str(sums))  # type: ignore[no-untyped-call]
        for key, count, *_ in MmapedDict.read_all_values_from_file(counts):  # type: ignore[no-untyped-call]
            total.write_value(key, total.read_value(key)[0] + count, 0.0)  # type: ignore[no-untyped-call]
        total.close()  # type: ignore[no-untyped-call]
    counts.unlink(missing_ok=True)


if _folder:
    _live(Path(_folder))  # before the first metric opens its file there
