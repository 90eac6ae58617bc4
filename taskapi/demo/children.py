"""Processes that end when the one that started them does, however it does. Knows nothing of what they do."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

# How long a child may take to end by itself; then it is killed.
STOP_SECONDS = 5.0
# linux/prctl.h: the signal that a process gets when its parent dies.
PR_SET_PDEATHSIG = 1
# Ctrl-C, a request to end, and a terminal that was closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How many lines of a log explain an end.
LOG_LINES = 20


class ChildEndedError(Exception):
    """A child has ended by itself; the text has the end of its log."""


class Child(NamedTuple):
    """A running process, by the name that messages give it."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Children:
    """Starts processes, and on leaving ends them: SIGTERM first, SIGKILL for those that do not listen.

    Inside, each of `SIGNALS` is a `KeyboardInterrupt`.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []

    def start(self, name: str, command: Sequence[str], folder: Path, log: Path) -> None:
        """Start a command in a folder; what it says goes into a fresh log."""
        parent = os.getpid()
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - a fixed command
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C in a terminal goes to us alone, and we end the others in order
                preexec_fn=lambda: _end_with(parent),  # we have one thread
            )
        self._children.append(Child(name, process, log))

    def check(self) -> None:
        """Raise `ChildEndedError` if one has ended by itself."""
        for name, process, log in self._children:
            if (status := process.poll()) is not None:
                how = f"with exit status {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
                end = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
                raise ChildEndedError(f"The {name} ended {how}. The end of {log}:\n{end}")

    def __enter__(self) -> Self:
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave some behind
        for child in self._children:
            child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, deadline - time.monotonic()))
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):  # the group: its own children too
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its parent dies, be it by SIGKILL (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
