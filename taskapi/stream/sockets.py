"""Delivery over bare sockets, under gunicorn's gevent worker.

Under gunicorn a stream leaves its greenlet once the response's headers are sent: the descriptor is detached from
gunicorn's socket object, and from then on each frame is one `write` on a bare descriptor. What is left of a stream
is a small object; its greenlet (22 kB) is gone. This leans on how gunicorn's gevent worker ends a request: a version
that was not tried gets generators.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, NamedTuple

from .. import servers
from .sse import LAST_CHUNK, Frame
from .streams import Stream, Terms

# A small send buffer keeps old frames out of the kernel, where "only the newest state" could not replace them.
SEND_BUFFER_BYTES = 16_384
# Nothing is to be heard from the client of a stream: what it sends all the same must not pile up in the kernel.
RECEIVE_BUFFER_BYTES = 2_048
# A client that is owed so many frames, of so many tasks, is not read any more.
FRAMES_AT_MOST = 50_000
# Unacknowledged for so many milliseconds means that the network is cut (RFC 5482).
USER_TIMEOUT_MS = 30_000
# How many waiting frames one client, and how many clients, are served before other work of the process may run: one
# that takes frames as fast as they are written would hold up everybody until it has them all, a stop included.
FRAMES_PER_TURN = 64
CLIENTS_PER_TURN = 64
# The constants of `select`, by their Linux names; gevent takes `select.epoll` and its family away.
EPOLLOUT: Final = 0x004
EPOLLERR: Final = 0x008
EPOLLHUP: Final = 0x010
EPOLLRDHUP: Final = 0x2000

# What the kernel says when it has waited so long in vain.
GIVEN_UP = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)

Leave = Callable[..., None]


def can_take_over(environ: dict[str, Any]) -> bool:
    """Whether this request came over a plain socket that gunicorn's gevent worker will let go of."""
    taken = environ.get("gunicorn.socket")
    if taken is None or environ["SERVER_PROTOCOL"] not in ("HTTP/1.1", "HTTP/1.0") or not servers.is_cooperative():
        return False
    if not servers.is_known_gunicorn():
        return False
    from gevent.socket import socket as gevent_socket

    return type(taken) is gevent_socket  # a TLS socket is a subclass, and has to encrypt


class Poller:
    """Watches all bare sockets of the process through one epoll: who has gone, and who can take bytes again."""

    def __init__(self) -> None:
        from gevent import get_hub, monkey, spawn

        self._streams: dict[int, SocketStream] = {}
        self._epoll = monkey.get_original("select", "epoll")()
        self._readable = get_hub().loop.io(self._epoll.fileno(), 1)
        self._hub = get_hub()
        # gevent's own waits for a turn of the loop, in case that it watches the descriptor; it does not.
        self.close: Callable[[int], None] = monkey.get_original("os", "close")
        spawn(self._run)

    @property
    def streams(self) -> list[SocketStream]:
        """All that it watches, those that have ended but for what their clients have yet to take included."""
        return list(self._streams.values())

    def add(self, stream: SocketStream) -> None:
        """Call the stream's `hear_why` when its client goes."""
        self._streams[stream.descriptor] = stream
        self._epoll.register(stream.descriptor, EPOLLRDHUP)

    def want_to_write(self, stream: SocketStream, wanted: bool) -> None:
        """Call the stream's `flush` when its client takes bytes, or no longer."""
        self._epoll.modify(stream.descriptor, EPOLLRDHUP | (EPOLLOUT if wanted else 0))

    def remove(self, stream: SocketStream) -> None:
        """Stop watching a stream, before its descriptor's number can be another connection's."""
        del self._streams[stream.descriptor]
        self._epoll.unregister(stream.descriptor)

    def _run(self) -> None:
        while True:
            self._hub.wait(self._readable)
            for descriptor, events in self._epoll.poll(0, CLIENTS_PER_TURN):
                self._handle(descriptor, events)

    def _handle(self, descriptor: int, events: int) -> None:
        stream = self._streams.get(descriptor)
        if stream is None:
            return
        if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            stream.hear_why()
        else:
            stream.flush()


class Backlog:
    """What a client has not taken: the rest of the frame being sent, and the newest one for each key behind it."""

    __slots__ = ("rest", "since", "waiting")

    def __init__(self, rest: bytes) -> None:
        self.rest = rest
        self.waiting: dict[int, bytes] = {}
        self.since = time.monotonic()

    def put(self, key: int, data: bytes) -> None:
        """Let a frame wait, in place of an older one of its key."""
        self.waiting.pop(key, None)
        self.waiting[key] = data

    def next(self) -> bytes:
        """The next bytes to write; none are left when this is empty."""
        if not self.rest and self.waiting:
            self.rest = self.waiting.pop(next(iter(self.waiting)))
        return self.rest


class Connection(NamedTuple):
    """A stream's connection on its way to another process, with what its client is owed: if `is_last`, nothing more."""

    descriptor: int
    protocol: str
    backlog: Backlog | None
    is_last: bool


class SocketStream(Stream):
    """A stream on a bare, non-blocking descriptor."""

    __slots__ = ("_backlog", "_environ", "_finished", "_form", "_leave", "_poller", "descriptor")

    def __init__(self, environ: dict[str, Any], poller: Poller, leave: Leave, terms: Terms) -> None:
        super().__init__(terms)
        self.descriptor = -1
        self._environ: dict[str, Any] | None = environ
        self._poller = poller
        self._leave = leave
        # gunicorn answers an HTTP/1.0 peer (nginx's default) without chunks.
        self._form = 1 if environ["SERVER_PROTOCOL"] == "HTTP/1.1" else 0
        self._backlog: Backlog | None = Backlog(b"")
        self._finished = False

    def __iter__(self) -> Iterator[bytes]:
        """The response's body: takes the socket, and the headers that gunicorn has for it, and ends the request."""
        environ = self._environ
        if environ is None:
            yield b""
            return  # dropped before the headers were sent: gunicorn closes its socket
        taken: socket.socket = environ["gunicorn.socket"]
        taken.__class__ = _leaving_socket()
        _written[id(taken)] = b""
        try:
            yield b""
        finally:
            headers = _written.pop(id(taken))
        self._environ = None
        self._attach(taken, headers)

    def _attach(self, taken: socket.socket, headers: bytes) -> None:
        set_options(taken)
        self.descriptor = taken.detach()
        if self._backlog is not None:
            self._backlog.rest = headers + self._backlog.next()  # in one packet
        self._poller.add(self)
        if not self._write_backlog():
            self._poller.want_to_write(self, True)

    def part(self) -> Connection:
        """Let go of the connection, for another process to go on with; nothing is written to it until then."""
        self._poller.remove(self)
        connection = Connection(self.descriptor, ("HTTP/1.0", "HTTP/1.1")[self._form], self._backlog, self._finished)
        self.descriptor, self._backlog = -1, None
        return connection

    def resume(self, connection: Connection) -> None:
        """Go on with a connection, another process's or the one that was let go."""
        self._environ = None
        self.descriptor, _, self._backlog, self._finished = connection
        self._poller.add(self)
        if self._backlog is not None:
            self._poller.want_to_write(self, True)

    def close(self) -> None:
        """WSGI's `close`: gives up a stream whose socket was never taken over."""
        if self._environ is not None:
            self._environ = None
            self._leave(self)

    def send(self, key: int, frame: Frame) -> None:
        """Write a frame, or let it wait for the client."""
        self._send(key, frame[self._form])

    def finish(self, key: int, frame: Frame | None) -> None:
        """Write a last frame, and close as soon as the client has taken what it is owed."""
        if not self._finished:
            self._finished = True
            self._send(key, (frame[self._form] if frame else b"") + (LAST_CHUNK if self._form else b""))
            if self._backlog is None:
                self._close()

    def _send(self, key: int, data: bytes) -> None:
        if self._backlog is not None:
            self._backlog.put(key, data)
            if len(self._backlog.waiting) > FRAMES_AT_MOST:
                self.drop("stalled")
        elif rest := self._write(data):
            self._backlog = Backlog(rest)
            self._poller.want_to_write(self, True)

    def _write(self, data: bytes) -> bytes:
        """Write what the socket takes now; what it did not take."""
        try:
            written = os.write(self.descriptor, data)
        except BlockingIOError:
            return data
        except OSError as error:
            self.drop(reason_of(error))
            return b""
        return b"" if written == len(data) else data[written:]

    def flush(self) -> None:
        """Write what waits, now that the client takes bytes again."""
        if self._write_backlog() and self.descriptor >= 0:
            self._poller.want_to_write(self, False)

    def _write_backlog(self) -> bool:
        """Write what waits for the client, as far as its turn goes; whether that was all."""
        for _ in range(FRAMES_PER_TURN):
            backlog = self._backlog
            if backlog is None or not (data := backlog.next()):
                break
            backlog.rest = self._write(data)
            if backlog.rest:
                return False
        else:
            return False
        self._backlog = None
        if self._finished:
            self._close()
        return True

    def stalled_since(self) -> float | None:
        """Since when the client owes us room for what it was sent."""
        return self._backlog.since if self._backlog else None

    def hear_why(self) -> None:
        """Drop a stream whose connection has ended, by itself or by the kernel."""
        try:
            os.read(self.descriptor, 1)
        except OSError as error:
            self.drop(reason_of(error))
        else:
            self.drop()

    def drop(self, reason: str = "client") -> None:
        """Close at once, whatever was not sent."""
        self._environ = None
        self._leave(self, reason)
        self._close()

    def _close(self) -> None:
        if self.descriptor < 0:
            return
        self._poller.remove(self)
        self._poller.close(self.descriptor)
        self.descriptor = -1
        self._backlog = None


def reason_of(error: OSError) -> str:
    """Why a stream's connection broke: its client left, or had stalled until the kernel gave it up."""
    return "stalled" if error.errno in GIVEN_UP else "client"


# What gunicorn has written to the sockets that streams are about to take, by the sockets' `id`.
_written: dict[int, bytes] = {}


@cache
def _leaving_socket() -> type:
    """The class of a socket that a stream takes: keeps what is written to it, and in the end refuses it."""
    from gevent.socket import socket as gevent_socket

    return type("LeavingSocket", (gevent_socket,), {"__slots__": (), "send": _keep, "sendall": _keep})


def _keep(taken: socket.socket, data: bytes, _flags: int = 0) -> int:
    # What gunicorn writes to end the body: at EPIPE it takes the client to have left. Not raised by the body itself,
    # since whoever watches the application's errors would be told of it.
    if id(taken) not in _written:
        raise BrokenPipeError(errno.EPIPE, "the stream has left")
    _written[id(taken)] += data
    return len(data)


def set_options(taken: socket.socket) -> None:
    """Prepare a socket for a long stream of small frames."""
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    if taken.family in (socket.AF_INET, socket.AF_INET6):
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
