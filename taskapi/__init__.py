"""Progress of background tasks: a row in a table, three JSON endpoints and a stream that moves the bar at once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask

    from .auth.identity import Identity
    from .extension import TaskAPI

__all__ = ["Identity", "TaskAPI", "create_app"]

# Imported only when one is used: gunicorn reads `taskapi.gunicorn_conf` before gevent has patched the standard
# library, and what would be imported with it would keep its unpatched, blocking parts; and a worker that only reports
# needs no Flask.
_HOMES = {"Identity": ".auth.identity", "TaskAPI": ".extension"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def create_app(settings: Mapping[str, Any] | None = None) -> Flask:
    """Build the standalone service, a Flask application.

    `settings` win over the environment, which wins over `instance/config.py`, which wins over the defaults;
    the names are those of the table in docs/settings.md without `TASKAPI_`.

    Raises `taskapi.config.ConfigError`, with a sentence that names the setting, for a bad value.
    Raises `taskapi.extras.MissingExtraError` where the extra `server` is not installed.
    """
    from . import extras

    extras.need("server", "The standalone service")
    from .standalone import build

    return build(settings or {})
