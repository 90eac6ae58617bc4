"""Which processes take over the streams of one that is about to stop, and how they find each other.

One that can deliver listens at an abstract Unix socket: the kernel shows all names, and forgets one with its process.
Its name ends with a digest of whatever both must agree on, so that one that has another database, other keys, or that
would not understand what it is told is not found at all.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import socket
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

# Of what one process tells the other. Another number, and they do not meet: streams end with a `bye`.
VERSION = 1
PREFIX = "@taskapi-"
NAMES = re.compile(rf"({PREFIX}(\d+)-[0-9a-f]+-([0-9a-f]+))$", re.MULTILINE)
# All processes of a server are told to stop at once, but do not hear it at once.
SETTLE_SECONDS = 0.1
LOOK_SECONDS = 0.05
# How long one that was started to take over may take to load its application: a part of what gunicorn waits for a sign
# of life of the one that waits, and, where the master may be about to stop as well, of what a stop may last.
PATIENCE_RELOADED = 0.8
PATIENCE_STOPPED = 0.3
# A process that answers nothing for so long does not answer any more.
ANSWER_SECONDS = 5.0
# Of /proc/PID/stat, behind the program's name: the state, and when it was started.
STATE, STARTED = 0, 19
CREDENTIALS: Final = struct.Struct("3i")  # of a peer: process, user, group


class Installation(NamedTuple):
    """What processes have in common that may take each other's streams; `secrets` cannot be told from its digest."""

    facts: tuple[str, ...]
    secrets: tuple[str, ...]

    def digest(self, addresses: Iterable[str]) -> str:
        """The same for all that listen at these addresses. As slow to guess as a password is."""
        facts = json.dumps([VERSION, *self.facts, *addresses])
        return hashlib.pbkdf2_hmac("sha256", json.dumps(self.secrets).encode(), facts.encode(), 50_000).hex()[:32]


class Colleagues:
    """The processes that may take each other's streams, as one of them, a worker of gunicorn's, sees them."""

    def __init__(self, installation: Installation, worker: Any) -> None:
        self._worker = worker
        self._digest = installation.digest(sorted(str(each.getsockname()) for each in worker.sockets))
        self._listens_at = {os.fstat(each.fileno()).st_ino for each in worker.sockets}
        # Whoever begins before a first request is to be expected to do so after a reload, too.
        self._begins_at_boot = not worker.booted
        self._listener: socket.socket | None = None

    # What is offered.

    def offer(self) -> None:
        """Tell that this process can deliver, and takes streams over. Raises `OSError` where that is forbidden."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"\0{PREFIX[1:]}{os.getpid()}-{secrets.token_hex(4)}-{self._digest}")
        self._listener.listen()

    def withdraw(self) -> None:
        """Take nothing more. The name stays until the process ends: it is not one that has yet to offer."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)

    def accept(self) -> socket.socket | None:
        """The next process that has streams to hand over; None once the offer was withdrawn."""
        while self._listener is not None:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno == errno.EINVAL:  # withdrawn, and nobody waits any more
                    return None
                time.sleep(LOOK_SECONDS)
                continue
            if self._worker.alive and _is_mine(connection):
                connection.settimeout(ANSWER_SECONDS)
                return connection
            connection.close()
        return None

    # What others offer.

    def await_successors(self) -> list[socket.socket]:
        """Connections to those that take streams over.

        Younger workers of the same master that have not offered anything yet are waited for, but not for ever: at a
        reload gunicorn stops the old ones as soon as it has forked the new.
        """
        began = time.monotonic()
        time.sleep(SETTLE_SECONDS if self._offers() or self._are_more_expected() else 0)
        while self._are_more_expected() and time.monotonic() < began + self._patience():
            time.sleep(LOOK_SECONDS)
        return [connection for name in self._offers() if (connection := _connect(name)) is not None]

    def _offers(self) -> list[str]:
        return [name for name, pid, digest in _names() if digest == self._digest and pid != os.getpid()]

    def _are_more_expected(self) -> bool:
        return self._begins_at_boot and bool(_newcomers(self._worker.ppid))

    def _patience(self) -> float:
        settings = self._worker.cfg
        # The first thing that a master does when it stops is to listen no more.
        if self._listens_at & _sockets(self._worker.ppid):
            return float(PATIENCE_RELOADED * (settings.timeout or settings.graceful_timeout))
        return float(PATIENCE_STOPPED * settings.graceful_timeout)


def _names() -> list[tuple[str, int, str]]:
    try:
        found = NAMES.findall(Path("/proc/net/unix").read_text())
    except OSError:
        return []
    return [(name, int(pid), digest) for name, pid, digest in set(found)]


def _newcomers(master: int) -> set[int]:
    """The younger workers of this master's, of which nothing was heard yet."""
    known = {pid for _, pid, _ in _names()}
    mine = _started(os.getpid())
    # One that has children is a master itself, as after USR2.
    return {pid for pid in _children(master) - known if _started(pid) > mine and not _children(pid)}


def _children(pid: int) -> set[int]:
    try:
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def _sockets(pid: int) -> set[int]:
    """The inodes of what a process has open; none if it is another user's."""
    found = set()
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                found.add(descriptor.stat().st_ino)
    return found


def _started(pid: int) -> int:
    """When a process was started; -1 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[STATE] in "ZX" else int(fields[STARTED])


def _connect(name: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_SECONDS)
    with contextlib.suppress(OSError):  # it is about to stop, too
        connection.connect(f"\0{name[1:]}")
    if _is_mine(connection):
        return connection
    connection.close()
    return None


def _is_mine(connection: socket.socket) -> bool:
    """Whether the other end is a process of the same user: anybody may listen at a name."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return bool(CREDENTIALS.unpack(credentials)[1] == os.geteuid())
