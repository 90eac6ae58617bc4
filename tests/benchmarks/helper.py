"""Nanoseconds that `track` adds to each item of a loop, beside tqdm."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Iterator

from taskapi.progress import Progress

from . import programs
from .table import Row, ratio

ITEMS = 2_000_000
# What tqdm adds, in its own environment: the same loop with it and without.
TQDM = """
import sys, time
from tqdm import tqdm
def seconds(items):
    started = time.perf_counter()
    for _ in items: pass
    return time.perf_counter() - started
n = int(sys.argv[1])
with open("/dev/null", "w") as nowhere:
    items = list(range(n))
    print(1e9 * (seconds(tqdm(items, file=nowhere)) - seconds(items)) / n)
"""


def seconds(items: Iterable[int]) -> float:
    """How long a loop that does nothing takes."""
    started = time.perf_counter()
    for _ in items:
        pass
    return time.perf_counter() - started


def added(make: Callable[[], Iterable[int]], url: str) -> float:
    """Nanoseconds that `track` adds to each item."""
    with Progress(url).task(user_id=1, kind="benchmark", total_items=ITEMS) as task:
        with_it = seconds(task.track(make()))
    return 1e9 * (with_it - seconds(make())) / ITEMS


def tqdm() -> float:
    """Nanoseconds that tqdm adds to each item of a list."""
    said = subprocess.run([programs.peers_python(), "-c", TQDM, str(ITEMS)], capture_output=True, text=True, check=True)
    return float(said.stdout)


def helper(number: int) -> Iterator[Row]:
    """Over a list, a range and a generator."""
    numbers = list(range(ITEMS))
    kinds: dict[str, tuple[Callable[[], Iterable[int]], str]] = {
        "list": (lambda: numbers, "5 ns"),
        "range": (lambda: range(ITEMS), "5 ns"),
        "generator": (lambda: (item for item in numbers), "15 ns"),
    }
    with programs.task_database("sqlite") as url:
        found = programs.rounds(
            number, {name: lambda make=make: added(make, url) for name, (make, _) in kinds.items()} | {"tqdm": tqdm}
        )
    for name, (_, to_reach) in kinds.items():
        yield Row(
            f"`track` over a {name}, added to an item", "tqdm", ratio(found[name], found["tqdm"], " ns"), to_reach
        )
