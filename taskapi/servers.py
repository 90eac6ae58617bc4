"""What serves this process, as far as it can be told from within: gunicorn's worker, threads, greenlets."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

log = logging.getLogger(__name__)

# From the first to the last that streams were tried with.
KNOWN_GUNICORNS = range(22, 28)
# What a worker of gunicorn's listens for by methods of its own; a host may have taken some for itself.
SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT, signal.SIGUSR1, signal.SIGWINCH)

_lock = threading.Lock()


def gunicorn_worker() -> Any:
    """gunicorn's worker object, if this is a worker of gunicorn's: this needs no hook in its configuration."""
    for number in SIGNALS:
        worker = getattr(signal.getsignal(number), "__self__", None)
        if hasattr(worker, "alive") and hasattr(worker, "cfg"):
            return worker
    return None


class _Stoppable:
    """A worker of gunicorn's that tells when it is to stop.

    There is no hook for it, but each of gunicorn's ways to end a worker (SIGTERM, SIGQUIT, SIGINT, `max_requests`, a
    reload) begins by clearing its `alive`.
    """

    @property
    def alive(self) -> bool:
        return bool(self.__dict__["alive"])

    @alive.setter
    def alive(self, alive: bool) -> None:
        self.__dict__["alive"] = alive
        if not alive:
            for call in self.__dict__.pop("stop_calls", ()):
                call()


def when_told_to_stop(worker: Any, call: Callable[[], object]) -> None:
    """Call something once, at the moment that gunicorn's worker is told to stop, or now if it has been.

    It is called within a signal handler, which may interrupt the main thread anywhere: it must wait for no lock.
    """
    with _lock:
        kind = type(worker)
        if not issubclass(kind, _Stoppable):
            worker.__class__ = type(kind.__name__, (_Stoppable, kind), {})
    worker.__dict__.setdefault("stop_calls", []).append(call)
    if not worker.alive:
        worker.alive = False


def is_cooperative() -> bool:
    """Whether gevent has replaced threads by greenlets, which cost next to nothing while they wait."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def at_a_time(environ: dict[str, Any]) -> int | None:
    """How many requests are answered at a time here; None if there is no limit."""
    worker = gunicorn_worker()
    if is_cooperative():
        return None if worker is None else int(worker.cfg.worker_connections)
    software = environ.get("SERVER_SOFTWARE")
    if software is None or software.startswith("Werkzeug"):
        return None  # a test's client, or the development server: each request gets a thread of its own
    if not environ.get("wsgi.multithread"):
        return 1
    # What is not known is taken for a small pool, such as waitress has.
    return 4 if worker is None else int(worker.cfg.threads)


def has_left(environ: dict[str, Any]) -> bool:
    """Whether the client of a request has closed its connection; False where that cannot be told without waiting."""
    taken = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if is_cooperative() or type(taken) is not socket.socket or taken.gettimeout() is not None:
        return False
    try:
        return not taken.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def lets_go_of_sockets() -> bool:
    """Whether streams here leave their greenlets, and could leave the process."""
    return sys.platform == "linux" and is_cooperative() and is_known_gunicorn()


@cache
def is_known_gunicorn() -> bool:
    """Whether this is a version of gunicorn's whose gevent worker is known to end a request without harm to others."""
    version = getattr(sys.modules.get("gunicorn"), "version_info", (0,))
    if version[0] not in KNOWN_GUNICORNS:
        log.warning("how gunicorn %s ends a request is not known: each stream costs a greenlet", version[0])
        return False
    return True
