"""For the tests of an application: reports that are in the row at once, and the events of a stream.

def test_a_path_is_generated(app, client):
    with eager(app):
        task_id = client.post("/paths").json["task_id"]

        assert client.get(f"/api/tasks/{task_id}/status").json["status"] == "completed"
        assert frames(client.get(f"/api/tasks/{task_id}/events"))[-1].event == "done"
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from flask import Flask
from werkzeug.wrappers import Response

from .progress.eager import EagerWriter
from .progress.processes import writing_through
from .state import state_of
from .stream.sse import CONTENT_TYPE, KEEP_ALIVE

__all__ = ["Frame", "eager", "frames"]


@contextmanager
def eager(app: Flask) -> Iterator[None]:
    """Let the helper write at once, to the application's own database, in all threads of this process.

    In the block whatever a worker says is in the row when the call is over, and in a `track` loop each item is given
    out when those before it are counted. Every `Progress()` works, one that was made before, and whatever URL it has:
    none is needed. There is no background thread, no lease is renewed, and an error of the database is raised as it
    is.

    A database in memory (`sqlite://`) has one connection for everybody. There a report's commit commits what the
    application has flushed as well.
    """
    with app.app_context():
        state = state_of(app)
    with writing_through(EagerWriter(state.store, state.settings["LEASE_SECONDS"])):
        yield


class Frame(NamedTuple):
    """One event of a stream: a snapshot is a "message" and has the task's revision as its `id`."""

    id: int | None
    event: str
    data: Any


def frames(response: Response) -> list[Frame]:
    """The events of a stream, from a test client's response, until the stream ends; `data` is parsed.

    A stream of what has not ended goes on. It is left when nothing has come for as long as it takes the server to
    send a keep-alive (15 s), with what came until then. Raises `ValueError` for a response that is no stream.
    """
    if response.status_code == 204:
        return []
    if response.mimetype != CONTENT_TYPE:
        raise ValueError(f"not a stream, but {response.status}: {response.get_data(as_text=True)}")
    with closing(response):
        return [_frame(block) for block in _until_silence(response.iter_encoded())]


def _until_silence(chunks: Iterable[bytes]) -> Iterator[str]:
    """What empty lines part."""
    rest = b""
    for chunk in chunks:
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            if block == KEEP_ALIVE.raw.rstrip():
                return
            yield block.decode()


def _frame(block: str) -> Frame:
    fields = dict(line.split(": ", 1) for line in block.splitlines())
    number = int(fields["id"]) if "id" in fields else None
    return Frame(number, fields.get("event", "message"), json.loads(fields["data"]))
