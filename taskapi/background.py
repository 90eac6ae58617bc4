"""What runs beside an application's requests, started once per process: feed, maintenance, the end."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import resource
import sys
import threading
from collections.abc import Callable
from typing import Any

from . import endings, maintenance, metrics, servers
from .database import schema
from .database.failures import DatabaseError
from .database.store import Store
from .maintenance import Limits
from .stream.broadcaster import Broadcaster
from .stream.successors import Colleagues, Installation

log = logging.getLogger(__name__)


class Background:
    """One application's, in this process. The schema of an embedded database that it owns is kept up to date."""

    def __init__(
        self,
        store: Store,
        broadcaster: Broadcaster,
        limits: Limits,
        installation: Installation | None,
        *,
        owns_schema: bool,
        has_metrics: bool,
    ) -> None:
        self._installation = installation
        self._store = store
        self._broadcaster = broadcaster
        self._limits = limits
        self.owns_schema = owns_schema
        self._has_metrics = has_metrics
        self._lock = threading.Lock()
        self._process = 0

    def start(self) -> None:
        """Start what is to run; again does nothing, unless the database could not be brought up to date before."""
        if self._process == os.getpid():
            return
        with self._lock:
            if self._process == os.getpid() or not self._is_up_to_date():
                return
            self._process = os.getpid()
        _tell_of_blocking_psycopg()
        _take_all_descriptors()
        self._broadcaster.start()
        _in_background(maintenance.run, self._store, self._limits)
        if self._has_metrics:
            _in_background(endings.run, self._store)
        if (worker := servers.gunicorn_worker()) is not None:
            told = threading.Lock()
            told.acquire()
            servers.when_told_to_stop(worker, told.release)
            _in_background(_say_bye_when_told, told, self._broadcaster)
            if self._installation is not None and servers.lets_go_of_sockets():
                self._broadcaster.relieve(Colleagues(self._installation, worker))
        # A worker that had nothing to do may be gone before; and other servers do not say that they stop.
        atexit.register(self._say_bye_at_the_end)

    def _say_bye_at_the_end(self) -> None:
        if self._process == os.getpid():  # not in a child, which has the same connections
            with contextlib.suppress(SystemExit):  # gunicorn's way to quit may raise it once more, while this waits
                self._broadcaster.close()
            self._broadcaster.close()
            metrics.flush()

    def _is_up_to_date(self) -> bool:
        try:
            if self.owns_schema:
                schema.upgrade_embedded(self._store)
        except DatabaseError as error:
            log.error("the database cannot be brought up to date: %s", self._store.explain(error))  # noqa: TRY400
            return False
        return True


def _in_background(function: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()  # a greenlet, under gevent


def _take_all_descriptors() -> None:
    """Take all the descriptors that the system lets us have: each stream is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tell_of_blocking_psycopg() -> None:
    waiting = sys.modules.get("psycopg.waiting")
    if servers.is_cooperative() and waiting is not None and waiting.wait is getattr(waiting, "wait_c", None):
        log.error(
            "psycopg was imported before gevent patched the standard library: each query stops all requests of the "
            "process. Start gunicorn without --preload."
        )


def _say_bye_when_told(told: threading.Lock, broadcaster: Broadcaster) -> None:
    told.acquire()  # its release is all that a signal handler may do
    broadcaster.close()
