"""The same in a checkout: `gunicorn -c python:taskapi.gunicorn_conf wsgi:app`, and where `flask` finds the app."""

from taskapi.wsgi import app

__all__ = ["app"]
