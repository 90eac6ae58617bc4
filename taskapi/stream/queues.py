"""Delivery through the server's own thread or greenlet: a generator for any WSGI server, and requests that are held."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from .. import servers
from .sse import KEEP_ALIVE, Frame
from .streams import Stream, Terms

Leave = Callable[..., None]

# Of the requests that a server answers at a time, every so many-th may be a stream, and as many may be held: the host's
# views must always find a place.
SHARE = 4
# How often a thread that has nothing to write looks whether its client is still there.
LOOK_SECONDS = 2.0


def capacity(environ: dict[str, Any], wanted: int | None) -> int:
    """How many streams the server of this request may carry at a time; `wanted`: of threads, what the settings say."""
    if wanted is not None and not servers.is_cooperative():
        return wanted
    most = servers.at_a_time(environ)
    return sys.maxsize if most is None else most // SHARE


class QueueStream(Stream):
    """A stream for any WSGI server: a thread or greenlet of the server's waits for frames and yields them."""

    __slots__ = ("_changed", "_environ", "_finished", "_leave", "_waiting")

    def __init__(self, environ: dict[str, Any], leave: Leave, terms: Terms) -> None:
        super().__init__(terms)
        self._environ = environ
        self._leave = leave
        self._changed = threading.Condition()
        self._waiting: dict[int, bytes] = {}
        self._finished = False

    def __iter__(self) -> Iterator[bytes]:
        """The response's body."""
        try:
            frames, finished = self._take()
            # Headers leave with the first byte (PEP 3333), and a client is to know at once that it is served.
            yield frames or KEEP_ALIVE.raw
            while not finished:
                self._wait()
                frames, finished = self._take()
                yield frames
        finally:
            self._leave(self)

    def _wait(self) -> None:
        """Wait for something to write, or for the client to leave: of a server's few threads none must wait in vain."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._waiting or self._finished, LOOK_SECONDS):
                self._finished = servers.has_left(self._environ)

    def _take(self) -> tuple[bytes, bool]:
        """What waits to be written, and whether that is all."""
        with self._changed:
            waiting, self._waiting = self._waiting, {}
            return b"".join(waiting.values()), self._finished

    def close(self) -> None:
        """WSGI's `close`, also where the body was never iterated."""
        self._leave(self)

    def send(self, key: int, frame: Frame) -> None:
        """Let a frame wait for the server's thread, in place of an older one of its key."""
        with self._changed:
            self._waiting.pop(key, None)
            self._waiting[key] = frame.raw
            self._changed.notify()

    def finish(self, key: int, frame: Frame | None) -> None:
        """Send a last frame and end the body."""
        if frame is not None:
            self.send(key, frame)
        with self._changed:
            self._finished = True
            self._changed.notify()

    def stalled_since(self) -> float | None:
        """Never known: the server's thread hangs in its own write."""
        return None

    def drop(self) -> None:
        """End the body."""
        self.finish(0, None)


class Waiter(Stream):
    """Not a client's stream, but a request that is held until there is news of its task."""

    __slots__ = ("_news",)

    is_held = True

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._news = threading.Event()

    def wait(self, seconds: float) -> None:
        """Wait for news, for so many seconds at most."""
        self._news.wait(seconds)

    def send(self, key: int, frame: Frame) -> None:
        """Any frame is news, but for one that only keeps a connection alive."""
        if frame is not KEEP_ALIVE:
            self._news.set()

    def finish(self, key: int, frame: Frame | None) -> None:
        """An end is news, too."""
        self._news.set()

    def stalled_since(self) -> float | None:
        """Never."""
        return None

    def drop(self) -> None:
        """End the waiting."""
        self._news.set()
