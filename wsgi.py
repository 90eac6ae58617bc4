"""The WSGI entry point: `gunicorn -c python:taskapi.gunicorn_conf wsgi:app`, and where `flask` finds the app."""

import sys

from taskapi import create_app
from taskapi.config import ConfigError

# gunicorn takes this exit status of a worker for "do not start another one" (Arbiter.WORKER_BOOT_ERROR).
CANNOT_START = 3

try:
    app = create_app()
except ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    sys.exit(CANNOT_START)
