"""What serves this process, as far as it can be told from within: gunicorn's worker, threads, greenlets."""

from __future__ import annotations

import signal
import sys
from typing import Any


def gunicorn_worker() -> Any:
    """gunicorn's worker object, if this is a worker of gunicorn's.

    It listens for SIGTERM by a method of its own, and tells nobody else: this needs no hook in its configuration.
    """
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return worker if hasattr(worker, "alive") and hasattr(worker, "cfg") else None


def is_cooperative() -> bool:
    """Whether gevent has replaced threads by greenlets, which cost next to nothing while they wait."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def threads(environ: dict[str, Any]) -> int | None:
    """How many threads answer requests here; None if each request gets one of its own."""
    software = environ.get("SERVER_SOFTWARE")
    if software is None or software.startswith("Werkzeug"):
        return None  # a test's client, or the development server
    if not environ.get("wsgi.multithread"):
        return 1
    worker = gunicorn_worker()
    # What is not known is taken for a small pool, such as waitress has.
    return 4 if worker is None else int(worker.cfg.threads)
