"""The command line: which rows, how often, and how the table is printed."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from . import costs, fanout, helper, nodes, own_tasks, polling, programs, scale, writes
from .table import Row, markdown

SIZES, QUICK_SIZES = (1000, 5000), (1000,)


def rows_of(quick: bool) -> dict[str, Callable[[int], Iterator[Row]]]:
    """What can be asked for by `--only`."""
    sizes = QUICK_SIZES if quick else SIZES
    return {
        "fan-out": lambda number: fanout.fan_out(number, sizes),
        "delivery": lambda number: fanout.delivery(number, sizes),
        "own-tasks": own_tasks.own_tasks,
        "one-bar": costs.one_bar,
        "idle": lambda number: costs.idle(number, sizes),
        "memory": lambda number: costs.memory(number, sizes),
        "opening": costs.opening,
        "polling": polling.polling,
        "helper": helper.helper,
        "writes": writes.writes,
        "nodes": nodes.nodes,
        "scale": scale.scale,
    }


def machine() -> str:
    """Where and when."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(": ")[2] if models else platform.machine()
    return f"{dt.date.today()}, {os.cpu_count()} cores ({model}), {memory:.0f} GiB, Python {platform.python_version()}"


def main() -> None:
    """Measure, and print one table."""
    names = list(rows_of(quick=False))
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=names, help="only these rows; without it, all but scale")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds, of which the median counts (3)")
    parser.add_argument("--quick", action="store_true", help="few streams and one round: to see that it works")
    asked = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows: list[Row] = []
    try:
        for name, measure in rows_of(asked.quick).items():
            if name in (asked.only or [name for name in names if name != "scale"]):
                for row in measure(1 if asked.quick else asked.rounds):
                    rows.append(row)
                    print(" · ".join(row), flush=True)
    finally:
        shutil.rmtree(programs.folder(), ignore_errors=True)
    print(f"\n{machine()}\n\n{markdown(rows)}")


if __name__ == "__main__":
    main()
