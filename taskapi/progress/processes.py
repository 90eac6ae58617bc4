"""This process's writers, one for each database, and what becomes of them in a fork and at the end."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator

from ..database.address import Url
from .writer import Writer

_registry_lock = threading.RLock()  # for signal handlers
_registry: dict[tuple[str, float], Writer] = {}


# A test's, in the place of all of them.
_instead: list[Writer] = []


def writer_for(url: Url, lease: float) -> Writer:
    """This process's writer for a database."""
    if _instead:
        return _instead[-1]
    key = (url.render_as_string(hide_password=False), lease)
    with _registry_lock:
        if key not in _registry:
            _registry.setdefault(key, Writer(url, lease))
        return _registry[key]


@contextlib.contextmanager
def writing_through(writer: Writer) -> Iterator[None]:
    """Let everything be written through one writer meanwhile, whatever database it was meant for."""
    _instead.append(writer)
    try:
        yield
    finally:
        _instead.remove(writer)


def _before_fork() -> None:
    _registry_lock.acquire()
    for writer in _registry.values():
        writer.before_fork()


def _after_fork_in_parent() -> None:
    for writer in _registry.values():
        writer.after_fork_in_parent()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    for writer in _registry.values():
        writer.after_fork_in_child()
    _registry_lock.release()


def _write_at_exit() -> None:
    for writer in list(_registry.values()):
        writer.write_at_exit()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_write_at_exit)
