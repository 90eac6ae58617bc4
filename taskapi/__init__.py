"""Progress of background tasks: a row in a table, three JSON endpoints and a stream that moves the bar at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["create_app"]


def create_app(settings: Mapping[str, Any] | None = None) -> Flask:
    """Build the Flask application.

    `settings` win over the environment, which wins over `instance/config.py`, which wins over the defaults;
    the names are those of the README's table without `TASKAPI_`.

    Raises `taskapi.config.ConfigError`, with a sentence that names the setting, for a bad value.
    """
    # Imported here, not above: gunicorn reads `taskapi.gunicorn_conf` before gevent has patched the standard
    # library, and what would be imported with it would keep its unpatched, blocking parts.
    from .app import build

    return build(settings or {})
