"""Worker processes that report through the helper: `python -m tests.benchmarks.workers URL PROCESSES TASKS`.

Each runs so many tasks of its own and says something new of all of them four times a second, until standard input ends.
They start one after another, as a queue's workers do, which fork from one process that has imported everything: fifty
at once on one core would be busy with that for longer than is measured, and on SQLite wait for each other's starts.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator

from taskapi.progress import Progress, Task

from . import programs
from .fanout import stamp
from .programs import Missing

PROCESSES, TASKS_EACH = 50, 20
EVERY_SECONDS = 0.25  # which is how often the helper writes
READY = b"."


@contextlib.contextmanager
def working(url: str) -> Iterator[None]:
    """All of them at work, for as long as this is open. Raises `Missing`."""
    command = [sys.executable, "-m", __name__, url, str(PROCESSES), str(TASKS_EACH)]
    process = subprocess.Popen(
        command, cwd=programs.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {programs.CLIENT_CORE}),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        ready = len(process.stdout.read(PROCESSES))
        if ready < PROCESSES:
            raise Missing(f"only {ready} of {PROCESSES} workers started")
        yield
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


def main(url: str, processes: int, tasks: int) -> None:
    """Start one after the other, and wait for all."""
    progress = Progress(url)
    started: list[int] = []
    for number in range(processes):
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            os.close(ours)
            work(progress, range(number * tasks + 1, (number + 1) * tasks + 1), theirs)
        os.close(theirs)
        started.append(child)
        os.write(1, os.read(ours, 1))
        os.close(ours)
    for child in started:
        os.waitpid(child, 0)


def work(progress: Progress, numbers: range, told: int) -> None:
    """Run these tasks until standard input ends; then the process does, at once: nobody looks at its database again."""
    with contextlib.suppress(BaseException), contextlib.ExitStack() as running:
        mine: list[Task] = [running.enter_context(progress.run(f"t{number}")) for number in numbers]
        os.write(told, READY)
        while not select.select([0], [], [], EVERY_SECONDS)[0]:
            for task in mine:
                task.stage(stamp())
        os._exit(0)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
