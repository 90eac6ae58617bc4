"""gunicorn's settings: `gunicorn -c python:taskapi.gunicorn_conf wsgi:app`; flags after it override."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from gunicorn.errors import ConfigError

log = logging.getLogger("gunicorn.error")

worker_class = "gevent"
# What a stop waits for clients that do not take their answer; all others have it by then, held polls included.
graceful_timeout = 10
# Every server of one user would open the same socket.
control_socket_disable = True
# No query strings: tickets travel there.
access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(m)s %(U)s %(H)s" %(s)s %(b)s "%(a)s" %(D)s'

# Where the workers' counts for `/metrics` meet (see `metrics`): the operator's folder, or one for this master alone,
# since after a USR2 the new master starts with the environment that this one was started with.
own_counts = None
if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    own_counts = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="taskapi-metrics-")

# How often a worker looks whether it is told to stop.
LOOK_SECONDS = 1.0


def on_starting(server: Any) -> None:
    """Refuse what would run, but not well."""
    if server.cfg.preload_app:
        raise ConfigError(
            "taskapi cannot be preloaded: psycopg and locks that are imported before gevent patches the standard "
            "library block every request. Start without --preload."
        )
    if server.cfg.protocol != "http":
        raise ConfigError("taskapi's streams speak HTTP: start without --protocol.")


def post_fork(_server: Any, worker: Any) -> None:
    """Take all the descriptors that the system lets us have (each stream is one), and listen for a stop."""
    _log_as_gunicorn_does(worker.log.error_log)
    # gunicorn's own handler comes only when the application is loaded: a SIGTERM before that was lost, and the
    # worker killed after 30 s.
    signal.signal(signal.SIGTERM, worker.handle_exit)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def post_worker_init(worker: Any) -> None:
    """Start what a worker does beside requests: the change feed, and the reaper."""
    _insist_on_cooperative_psycopg()
    parts = getattr(worker.wsgi, "extensions", {})
    if "taskapi.broadcaster" not in parts:
        log.warning("The application is wrapped: its feed starts with the first stream, and nothing reaps.")
        return
    from . import reaper

    broadcaster = parts["taskapi.broadcaster"]
    broadcaster.start()
    _in_background(reaper.run, parts["taskapi.store"], worker.wsgi.config["LEASE_SECONDS"])
    _in_background(_say_bye_when_told_to_stop, worker, broadcaster)


def on_exit(_server: Any) -> None:
    """Remove the counts, if this master made a folder for them."""
    if own_counts:
        shutil.rmtree(own_counts, ignore_errors=True)


def _in_background(function: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()  # a greenlet, under gevent


def _log_as_gunicorn_does(gunicorns: logging.Logger) -> None:
    ours = logging.getLogger("taskapi")
    ours.handlers, ours.propagate = gunicorns.handlers, False
    ours.setLevel(gunicorns.level)


def _insist_on_cooperative_psycopg() -> None:
    from gevent.monkey import is_module_patched

    waiting = sys.modules.get("psycopg.waiting")
    if is_module_patched("select") and waiting is not None and waiting.wait is getattr(waiting, "wait_c", None):
        raise RuntimeError("psycopg was imported before gevent patched the standard library: a query would block all.")


def _say_bye_when_told_to_stop(worker: Any, broadcaster: Any) -> None:
    # gunicorn has no hook at SIGTERM: it only clears this flag, and then waits for what is busy.
    while worker.alive:
        time.sleep(LOOK_SECONDS)
    broadcaster.close()
