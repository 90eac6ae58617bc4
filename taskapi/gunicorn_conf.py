"""gunicorn's settings: `gunicorn -c python:taskapi.gunicorn_conf wsgi:app`; flags after it override."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from typing import Any

from gunicorn.errors import ConfigError

from . import scratch

log = logging.getLogger("gunicorn.error")

worker_class = "gevent"
# What a stop waits for clients that do not take their answer; all others have it by then, held polls included.
graceful_timeout = 10
# Every server of one user would open the same socket.
control_socket_disable = True
# No query strings: tickets travel there.
access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(m)s %(U)s %(H)s" %(s)s %(b)s "%(a)s" %(D)s'

log_format = os.environ.get("TASKAPI_LOG_FORMAT", "text")
if log_format not in ("text", "json"):
    raise ConfigError("TASKAPI_LOG_FORMAT must be text or json.")
if log_format == "json":
    logger_class = "taskapi.logs.JsonLogger"

# Where the workers' counts for `/metrics` meet (see `metrics`): the operator's folder, or one for this master alone,
# since after a USR2 the new master starts with the environment that this one was started with.
own_counts = None
if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    own_counts = os.environ["PROMETHEUS_MULTIPROC_DIR"] = scratch.make_folder("taskapi-metrics-")


def on_starting(server: Any) -> None:
    """Refuse what would run, but not well."""
    if server.cfg.preload_app:
        raise ConfigError(
            "taskapi cannot be preloaded: psycopg and locks that are imported before gevent patches the standard "
            "library block every request. Start without --preload."
        )
    if getattr(server.cfg, "protocol", "http") != "http":  # gunicorn 22 speaks nothing else
        raise ConfigError("taskapi's streams speak HTTP: start without --protocol.")


def post_fork(_server: Any, worker: Any) -> None:
    """Log as gunicorn does, and listen for a stop."""
    _log_as_gunicorn_does(worker.log.error_log)
    # gunicorn's own handler comes only when the application is loaded: a SIGTERM before that was lost, and the
    # worker killed after 30 s.
    signal.signal(signal.SIGTERM, worker.handle_exit)


def post_worker_init(worker: Any) -> None:
    """Let what runs beside requests begin now, and not with the first of them, where the application can be seen."""
    if "taskapi" in getattr(worker.wsgi, "extensions", {}):
        from .state import state_of

        state_of(worker.wsgi).background.start()


def on_exit(_server: Any) -> None:
    """Remove the counts, if this master made a folder for them."""
    if own_counts:
        shutil.rmtree(own_counts, ignore_errors=True)


def _log_as_gunicorn_does(gunicorns: logging.Logger) -> None:
    ours = logging.getLogger("taskapi")
    ours.handlers, ours.propagate = gunicorns.handlers, False
    ours.setLevel(gunicorns.level)
