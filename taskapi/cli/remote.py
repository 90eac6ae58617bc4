"""A task's snapshots from a server far away, over its event stream. Knows no database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import orjson

# The server says something every 15 seconds; after so many without a word the connection is dead.
SILENCE_SECONDS = 45.0
# Between two attempts, until the server asks for another pause.
RETRY_SECONDS = 3.0


class CannotFollowError(Exception):
    """There is nothing to follow; says why in a sentence."""


class Event(NamedTuple):
    """One event (HTML standard, 9.2.6)."""

    name: str
    data: str
    id: str
    retry: int | None


def follow(url: str, task_id: str, token: str) -> Iterator[dict[str, Any]]:
    """Each snapshot of a task, until it has ended; over reconnects, as an `EventSource`.

    `url` is the server's, without `/api`. Raises `CannotFollowError` for a refusal, and for a server that did not
    even answer once.
    """
    if not url.startswith(("http://", "https://")):
        raise CannotFollowError(f"{url} is not an http or https URL.")
    stream = _Stream(f"{url.rstrip('/')}/api/tasks/{quote(task_id, safe='')}/events", token)
    while not stream.ended:
        try:
            yield from stream.snapshots()
        except HTTPError as error:
            if error.code < 500:
                raise CannotFollowError(_reason(error)) from None
            stream.known = True
        except (OSError, HTTPException) as error:
            if not stream.known:
                raise CannotFollowError(f"{url} cannot be reached: {_words(error)}.") from None
        if not stream.ended:
            time.sleep(stream.retry)


class _Stream:
    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        self.known = self.ended = False
        self.retry = RETRY_SECONDS

    def snapshots(self) -> Iterator[dict[str, Any]]:
        """Those of one connection."""
        request = Request(self._url, headers=self._headers)  # noqa: S310 - the scheme is checked
        with urlopen(request, timeout=SILENCE_SECONDS) as response:  # noqa: S310
            self.known = True
            self.ended = response.status == 204
            for event in events(response):
                if event.retry is not None:
                    self.retry = event.retry / 1000
                if event.name == "message":
                    self._headers["Last-Event-ID"] = event.id
                    yield orjson.loads(event.data)
                self.ended = event.name == "done"


def events(response: HTTPResponse) -> Iterator[Event]:
    """The events of a stream whose lines end as taskapi writes them."""
    name, data, last_id, retry = "message", "", "", None
    for line in response:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data = value
        elif field == "id":
            last_id = value
        elif field == "retry":
            retry = int(value)
        elif field == "" and (data or retry is not None):
            yield Event(name, data, last_id, retry)
            name, data, retry = "message", "", None


def _words(error: Exception) -> str:
    """The system's own, out of what urllib puts around them."""
    cause = getattr(error, "reason", error)
    return getattr(cause, "strerror", None) or str(cause)


def _reason(error: HTTPError) -> str:
    """What the server's problem (RFC 9457) says, or else its status."""
    try:
        return str(orjson.loads(error.read())["detail"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return f"The server answered {error.code} {error.reason}."
