"""The command line: which rows, how often, and how the table is printed."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import resource
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from . import costs, fanout, helper, nodes, own_tasks, polling, programs, scale, writes
from .table import Row, markdown

SIZES, QUICK_SIZES = (1000, 5000), (1000,)


def rows_of(quick: bool, streams: int = scale.STREAMS) -> dict[str, Callable[[int], Iterator[Row]]]:
    """What can be asked for by `--only`."""
    sizes = QUICK_SIZES if quick else SIZES
    return {
        "fan-out": lambda number: fanout.fan_out(number, sizes),
        "delivery": lambda number: fanout.delivery(number, sizes),
        "own-tasks": own_tasks.own_tasks,
        "own-tasks-by-helper": own_tasks.own_tasks_by_helper,
        "one-bar": costs.one_bar,
        "idle": lambda number: costs.idle(number, sizes),
        "memory": lambda number: costs.memory(number, sizes),
        "opening": costs.opening,
        "polling": polling.polling,
        "helper": helper.helper,
        "writes": writes.writes,
        "nodes": nodes.nodes,
        "scale": lambda _number: scale.scale(streams),
    }


def machine() -> str:
    """Where, when and with what."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(": ")[2] if models else platform.machine()
    here = f"{dt.date.today()}, {os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}"
    versions = [f"{name} {metadata.version(name)}" for name in ("gunicorn", "gevent", "Flask", "psycopg", "orjson")]
    databases = [f"SQLite {sqlite3.sqlite_version}", *postgresql()]
    return f"{here}; {', '.join([f'Python {platform.python_version()}', *versions, *databases])}"


def postgresql() -> list[str]:
    """Which PostgreSQL answers, if one does."""
    engine = sa.create_engine(make_url(programs.POSTGRES).set(drivername="postgresql+psycopg"))
    try:
        with engine.connect() as connection:
            return [f"PostgreSQL {connection.scalar(sa.text('SHOW server_version'))}"]
    except SQLAlchemyError:
        return []
    finally:
        engine.dispose()


def guarded(name: str, measure: Callable[[int], Iterator[Row]], number: int) -> Iterator[Row]:
    """Rows, and one that says so if they cannot all be measured: half an hour's others are not lost for that."""
    try:
        yield from measure(number)
    except Exception as error:  # whatever it is
        programs.tell(traceback.format_exc())
        yield Row(name, "–", f"left out: {programs.as_missing(error)}", "–")


def main() -> None:
    """Measure, and print one table."""
    names = list(rows_of(quick=False))
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=names, help="only these rows; without it, all but scale")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds, of which the median counts (3)")
    parser.add_argument("--quick", action="store_true", help="few streams and one round: to see that it works")
    parser.add_argument("--streams", type=int, default=scale.STREAMS, help="how many scale is to open (100 000)")
    parser.add_argument("--output", type=Path, help="write the table to this file, too, in Markdown")
    asked = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended, as after Ctrl-C
    rows: list[Row] = []
    began = time.monotonic()
    for name, measure in rows_of(asked.quick, asked.streams).items():
        if name in (asked.only or [name for name in names if name != "scale"]):
            programs.tell(f"{(time.monotonic() - began) / 60:.1f} min: {name}")
            for row in guarded(name, measure, 1 if asked.quick else asked.rounds):
                rows.append(row)
                programs.tell(" · ".join(row))
    table = f"{machine()}\n\n{markdown(rows)}\n"
    print(table, end="")
    if asked.output:
        asked.output.write_text(table)


if __name__ == "__main__":
    main()
