"""`flask demo`: a server and a worker that does real work, with nothing to set up. Knows no task."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext
from flask_jwt_extended import create_access_token

from ..database import schema
from ..state import current
from .children import ChildEndedError, Children

USER_ID = 123
TOKEN_LIFETIME = dt.timedelta(days=1)
# By which the server knows the address that signs in: it is drawn anew for each demo.
KEY_VARIABLE = "TASKAPI_DEMO_KEY"
KEY_BYTES = 8

ROOT = Path(__file__).parent.parent.parent
HOST = "127.0.0.1"
PORT = 8000
# How long the server may take to answer.
START_SECONDS = 60.0
LOOK_SECONDS = 0.1
# How long gunicorn waits for requests that are under way; shorter than we wait for it.
GRACEFUL_SECONDS = 3

TEXT = """
Open this in a browser, and the bars move by themselves:

  {url}/demo?{key}

Poll the newest task, or stream all of them:

  curl -H @{header} "{url}/api/tasks/users/me?limit=1"
  curl -N -H @{header} {url}/api/tasks/users/me/events

Ctrl-C ends it. Its decks and logs are in {folder}."""


@click.command("demo")
@click.option(
    "--port", type=click.IntRange(1, 65535), help=f"The port to listen on.  [default: {PORT}, else any free one]"
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the decks and the logs go.  [default: the instance folder]",
)
@with_appcontext
def command(port: int | None, folder: Path | None) -> None:
    """Show live progress: start a server and a worker, and print where to look.

    The worker makes study decks from the documentation of Python's standard library. Nothing needs to be set up;
    settings, if there are any, are respected. Ctrl-C ends everything that was started.
    """
    schema.upgrade_embedded(current().store)
    if trouble := schema.trouble(current().store):
        raise click.ClickException(trouble.cause)
    token = make_token()
    key = secrets.token_urlsafe(KEY_BYTES)
    url = f"http://{HOST}:{_choose_port(port)}"
    folder = (folder or Path(current_app.instance_path)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    click.echo("Starting a server and a worker...")
    try:
        with Children() as children, _header_file(folder, token) as header:
            _start(children, url, folder, key)
            _wait_until_ready(children, url)
            click.echo(TEXT.format(url=url, key=key, header=shlex.quote(str(header)), folder=folder))
            while True:
                children.check()
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        click.echo("\nEnded.")
    except ChildEndedError as error:
        raise click.ClickException(str(error)) from None


def make_token() -> str:
    """A bearer token of the demo's user. Raises `click.ClickException` where others sign them."""
    if current_app.config["JWT_ALGORITHM"] != "HS256":
        raise click.ClickException("Tokens are signed by another service: TASKAPI_JWT_ALGORITHM is not HS256.")
    token: str = create_access_token(str(USER_ID), expires_delta=TOKEN_LIFETIME)
    return token


def _choose_port(wanted: int | None) -> int:
    candidates = [wanted] if wanted else [PORT, 0]
    for port in candidates:
        with contextlib.suppress(OSError), socket.create_server((HOST, port)) as probe:
            return int(probe.getsockname()[1])
    raise click.ClickException(f"Port {wanted} is in use.")


@contextlib.contextmanager
def _header_file(folder: Path, token: str) -> Iterator[Path]:
    """A file for `curl -H @FILE`, for us alone; a token in each line that is printed would fill the screen."""
    path = folder / "demo-header"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(f"Authorization: Bearer {token}\n")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _start(children: Children, url: str, folder: Path, key: str) -> None:
    os.environ[KEY_VARIABLE] = key
    server = [sys.executable, "-m", "gunicorn", "-c", "python:taskapi.gunicorn_conf", "taskapi.demo_wsgi:app"]
    server += ["-b", url.removeprefix("http://"), "--graceful-timeout", str(GRACEFUL_SECONDS)]
    worker = [sys.executable, "-m", "taskapi.demo.worker", str(folder / "decks")]
    children.start("server", server, ROOT, folder / "demo-server.log")
    children.start("worker", worker, ROOT, folder / "demo-worker.log")


def _wait_until_ready(children: Children, url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _is_ready(url):
        children.check()
        if time.monotonic() > deadline:
            raise click.ClickException(f"The server does not answer at {url}/readyz.")
        time.sleep(LOOK_SECONDS)


def _is_ready(url: str) -> bool:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
