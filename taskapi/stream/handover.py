"""A process that is about to stop hands its streams, their sockets included, to others: no client reconnects.

A stream is a descriptor and a small object, and both can travel (unix(7), `SCM_RIGHTS`). Exactly one process writes to
a connection at a time. The old one lets go of a batch, and sends it; the new one answers for which streams it has a
place, and writes from then on. Where no answer can come any more, the old one has kept the descriptors, and goes on.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol

import orjson

from .hub import Hub, State
from .sockets import Backlog, Connection, Poller, SocketStream
from .streams import Terms
from .successors import Colleagues

log = logging.getLogger(__name__)

# So many descriptors go with a message; the kernel takes 253.
BATCH = 250
HEAD: Final = struct.Struct("!Q")  # before a message, with its descriptors: how many bytes it has
# When all are handed over, the responses that just began have so long to become streams that can be.
BEGINNING_SECONDS = 1.0
LOOK_SECONDS = 0.01


class Travelling(NamedTuple):
    """A stream between two processes: its connection, and what it followed; None if it has ended."""

    stream: SocketStream
    connection: Connection
    state: State | None


class News(Protocol):
    """Who sees to it that streams get what they do not have yet."""

    def take_up(self, tasks: dict[int, int]) -> None:
        """Streams follow these tasks, given as `{id: user_id}`, and may not have what changed lately."""

    def gap(self) -> None:
        """Anything may have changed."""


class Handover:
    """Both sides of it in one process: what others hand over is taken, and in the end its own streams are given."""

    def __init__(self, hub: Hub, poller: Poller, news: News, colleagues: Colleagues) -> None:
        self._hub = hub
        self._poller = poller
        self._news = news
        self._colleagues = colleagues

    # The one that stops.

    def give(self) -> None:
        """Hand all streams over to whoever takes them; the others go on here."""
        self._colleagues.withdraw()
        if self._poller.streams or len(self._hub):
            with contextlib.ExitStack() as opened:
                successors = [opened.enter_context(each) for each in self._colleagues.await_successors()]
                if successors:
                    self.give_to(successors)

    def give_to(self, successors: list[socket.socket]) -> None:
        """Hand all streams over to these processes."""
        started = time.monotonic()
        number = self._give_all(successors)
        while self._any_begins() and time.monotonic() < started + BEGINNING_SECONDS:
            time.sleep(LOOK_SECONDS)
            number += self._give_all(successors)
        log.info("%d streams were handed over in %.1f s", number, time.monotonic() - started)

    def _any_begins(self) -> bool:
        """Whether a stream has a place, and no socket of its own yet."""
        return len(self._hub) > sum(stream.places is not None for stream in self._poller.streams)

    def _give_all(self, successors: list[socket.socket]) -> int:
        streams = sorted(self._poller.streams, key=lambda stream: id(stream.topic))
        # Each one's share; what it does not take, the next one is asked to.
        shares = [streams[number :: len(successors)] for number in range(len(successors))]
        for _ in successors:
            _all_at_once(self._give_share, successors, shares)
            shares.insert(0, shares.pop())
        return len(streams) - sum(map(len, shares))

    def _give_share(self, successor: socket.socket, share: list[SocketStream]) -> None:
        """Hand a share over; what is not taken stays in it."""
        streams, share[:] = share[:], []
        for start in range(0, len(streams), BATCH):
            batch = [stream for stream in streams[start : start + BATCH] if stream.descriptor >= 0]
            share += self._give_batch(successor, batch) if successor.fileno() >= 0 else batch

    def _give_batch(self, successor: socket.socket, streams: list[SocketStream]) -> list[SocketStream]:
        parted = zip(streams, self._hub.part(streams), strict=True)
        # Not those whose clients have left while the hub was asked.
        batch = [Travelling(stream, stream.part(), state) for stream, state in parted if stream.descriptor >= 0]
        refused = []
        for each, is_taken in zip(batch, self._answers(successor, batch), strict=True):
            if is_taken:
                self._poller.close(each.connection.descriptor)
                self._hub.leave_handed(each.stream)
            else:
                self._take_up([each])
                refused.append(each.stream)
        return refused

    def _answers(self, successor: socket.socket, batch: list[Travelling]) -> bytes:
        """Which streams a successor has taken; with one that does not answer, that is all there is to say."""
        try:
            _send(successor, [each.connection.descriptor for each in batch], self._message(batch))
            return _receive(successor, len(batch))
        except TimeoutError:
            successor.close()
            return b"\1" * len(batch)  # it may write to them at any moment: they are ours no more
        except OSError:
            successor.close()
            return b"\0" * len(batch)  # it is gone, and has not answered that it writes to them

    @staticmethod
    def _message(batch: list[Travelling]) -> bytes:
        """The streams of a batch, those that follow the same together."""
        groups = itertools.groupby(batch, key=lambda each: each.state)
        return orjson.dumps([[state, list(map(_described, group))] for state, group in groups])

    # The one that goes on.

    def take(self) -> None:
        """Offer to take streams over, and take what others hand over, for as long as the offer stands."""
        try:
            self._colleagues.offer()
        except OSError as error:  # a sandbox without Unix sockets
            log.warning("no worker can hand its streams over to this one: %s", error)
            return
        log.info("streams of workers that stop can be handed over to this one")
        while (connection := self._colleagues.accept()) is not None:
            threading.Thread(target=self.take_from, args=(connection,), daemon=True).start()

    def take_from(self, giver: socket.socket) -> None:
        """Take what one process hands over, until it has no more."""
        with giver, contextlib.suppress(OSError):  # it has ended, and what it did not hand over with it
            while self._take_batch(giver):
                pass
        self._news.gap()  # what changed meanwhile, a user's new tasks too

    def _take_batch(self, giver: socket.socket) -> bool:
        """Take some streams; False if no more come."""
        head, descriptors, *_ = socket.recv_fds(giver, HEAD.size, BATCH)
        if not head:
            return False
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # a process that the application starts would keep it open
        try:
            batch = [self._restored(*each) for each in _unpacked(_receive(giver, *HEAD.unpack(head)), descriptors)]
        except BaseException:  # too few descriptors, too, where the limit leaves no more
            self._close(descriptors)
            raise
        taken = [self._has_place(each) for each in batch]
        # From here on they are written to: the giver keeps none of which it reads that, and none if it is too late.
        with contextlib.suppress(OSError):
            giver.sendall(bytes(taken))
        self._close(each.connection.descriptor for each, is_taken in zip(batch, taken, strict=True) if not is_taken)
        self._take_up([each for each, is_taken in zip(batch, taken, strict=True) if is_taken])
        return True

    def _restored(self, state: State | None, descriptor: int, description: list[Any]) -> Travelling:
        protocol, is_last, cancelling, owed, user_id, is_admin, cursor, deadline, reason = description
        terms = Terms(user_id, is_admin, None if cursor < 0 else cursor, deadline, reason)
        stream = SocketStream({"SERVER_PROTOCOL": protocol}, self._poller, self._hub.leave, terms)
        stream.cancelling = frozenset(cancelling)
        return Travelling(stream, Connection(descriptor, protocol, _backlog(owed), is_last), state)

    def _has_place(self, each: Travelling) -> bool:
        if each.state is None:
            return self._hub.closing is None
        return self._hub.admit_handed(each.stream)

    def _take_up(self, batch: list[Travelling]) -> None:
        """Go on with streams; what they missed on their way is read again."""
        for each in batch:
            each.stream.resume(each.connection)
            if each.state is None:
                self._hub.see_off(each.stream)
        for state, group in itertools.groupby(batch, key=lambda each: each.state):
            if state is not None:
                self._news.take_up(self._hub.adopt([each.stream for each in group], state))

    def _close(self, descriptors: Iterable[int]) -> None:
        for descriptor in descriptors:
            self._poller.close(descriptor)


def _all_at_once(give: Callable[..., None], *arguments: Iterable[Any]) -> None:
    threads = [threading.Thread(target=give, args=each, daemon=True) for each in zip(*arguments, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _described(each: Travelling) -> list[Any]:
    """A stream for another process, whose monotonic clock is the same."""
    stream, (_, protocol, backlog, is_last), _ = each
    owed = None if backlog is None else [backlog.since, _text(backlog.rest), _texts(backlog.waiting)]
    terms = [stream.user_id, stream.is_admin, stream.cursor, stream.deadline, stream.deadline_reason]
    return [protocol, is_last, list(stream.cancelling), owed, *terms]


def _backlog(owed: list[Any] | None) -> Backlog | None:
    if owed is None:
        return None
    since, rest, waiting = owed
    backlog = Backlog(rest.encode("latin-1"))
    backlog.since = since
    for key, data in waiting:
        backlog.put(key, data.encode("latin-1"))
    return backlog


def _text(data: bytes) -> str:
    """Bytes as JSON can have them, which may end within a character."""
    return data.decode("latin-1")


def _texts(waiting: dict[int, bytes]) -> list[tuple[int, str]]:
    return [(key, _text(data)) for key, data in waiting.items()]


def _unpacked(message: bytes, descriptors: list[int]) -> Iterator[tuple[Any, int, list[Any]]]:
    described = [(state, each) for state, group in orjson.loads(message) for each in group]
    for (state, description), descriptor in zip(described, descriptors, strict=True):
        yield state, descriptor, description


def _send(successor: socket.socket, descriptors: list[int], message: bytes) -> None:
    socket.send_fds(successor, [HEAD.pack(len(message))], descriptors)
    successor.sendall(message)


def _receive(connection: socket.socket, size: int) -> bytes:
    """So many bytes. Raises `OSError` if the other end closes before."""
    data = bytearray()
    while len(data) < size:
        received = connection.recv(size - len(data))
        if not received:
            raise ConnectionResetError("the other process has ended")
        data += received
    return bytes(data)
