"""Delivery to bare sockets: what one client takes, and when others have their turn."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Iterator

import gevent
import gevent.socket
import pytest

from taskapi.stream.sockets import FRAMES_PER_TURN, Poller, SocketStream
from taskapi.stream.sse import Frame
from taskapi.stream.streams import Terms

FRAME = b"data: " + b"x" * 92 + b"\n\n"


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection's two ends: the server's, as gunicorn has it, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server = gevent.socket.socket(fileno=listener.accept()[0].detach())
    client.setblocking(False)
    with client, contextlib.closing(server):
        yield server, client


def leave_gunicorn(stream: SocketStream, taken: gevent.socket.socket) -> None:
    """What gunicorn does with a response's body."""
    body = iter(stream)
    next(body)
    assert list(body) == []
    with pytest.raises(BrokenPipeError):
        taken.send(b"0\r\n\r\n")


def received(client: socket.socket) -> float:
    """How many frames have come since the last look."""
    size = 0
    with contextlib.suppress(BlockingIOError):
        while data := client.recv(1 << 20):
            size += len(data)
    return size / len(FRAME)


def test_a_client_that_takes_all_it_can_get_leaves_others_their_turn(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    server, client = connection
    environ = {"gunicorn.socket": server, "SERVER_PROTOCOL": "HTTP/1.0"}
    stream = SocketStream(environ, Poller(), lambda *_: None, Terms(1, False, None, math.inf, "max_age"))
    for key in range(1000):
        stream.send(key, Frame.of(FRAME))

    leave_gunicorn(stream, server)
    turns = [received(client)]
    while sum(turns) < 1000:
        gevent.sleep(0.001)  # others' turn
        turns.append(received(client))
    stream.drop()

    assert max(turns) <= 2 * FRAMES_PER_TURN
    assert sum(turns) == 1000
