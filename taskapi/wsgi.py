"""The WSGI entry point of an installed package: `gunicorn -c python:taskapi.gunicorn_conf taskapi.wsgi:app`."""

from __future__ import annotations

import sys

from . import create_app
from .config import ConfigError
from .extras import MissingExtraError

# gunicorn takes this exit status of a worker for "do not start another one" (Arbiter.WORKER_BOOT_ERROR).
CANNOT_START = 3

try:
    app = create_app()
except (ConfigError, MissingExtraError) as error:
    print(f"Error: {error}", file=sys.stderr)
    sys.exit(CANNOT_START)
