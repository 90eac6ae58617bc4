"""The wire format of server-sent events (HTML standard, section 9.2): what to say in, bytes out. Pure.

Everything said is JSON on one line or a number, so that no text needs escaping and no frame can be torn.
"""

from __future__ import annotations

import json
from typing import NamedTuple

CONTENT_TYPE = "text/event-stream"
# Nothing but digits, and no more than 64 bits hold: what a client sends back as its last event id.
_CURSOR_LENGTH = 19


class Frame(NamedTuple):
    """One or more events, ready to write: `raw`, and the same bytes as one chunk of HTTP/1.1 (RFC 9112, 7.1)."""

    raw: bytes
    chunk: bytes

    @classmethod
    def of(cls, raw: bytes) -> Frame:
        """Frame these bytes."""
        return cls(raw, b"%x\r\n%b\r\n" % (len(raw), raw))


LAST_CHUNK = b"0\r\n\r\n"
KEEP_ALIVE = Frame.of(b":\n\n")


def snapshot(revision: int, response: bytes) -> bytes:
    """A snapshot event: the row as one line of JSON, its revision as the event's id."""
    return b"id: %d\ndata: %b\n\n" % (revision, response)


def done(status: str) -> bytes:
    """The event after the snapshot of a final status."""
    return f"event: done\ndata: {json.dumps({'status': status})}\n\n".encode()


def cancelling(requested_at: str, task_id: str | None = None) -> bytes:
    """The event that says when somebody asked for the end of a task, which a stream of many tasks names."""
    task = {} if task_id is None else {"task_id": task_id}
    return f"event: cancelling\ndata: {json.dumps({**task, 'requested_at': requested_at})}\n\n".encode()


def forecast(json: bytes) -> bytes:
    """What is expected of a task; without an id, since it is no state that a client could have missed."""
    return b"event: forecast\ndata: %b\n\n" % json


def bye(reason: str, retry: int) -> bytes:
    """The event before a planned close: the browser reconnects after `retry` milliseconds."""
    return f"event: bye\nretry: {retry}\ndata: {json.dumps({'reason': reason})}\n\n".encode()


def cursor(last_event_id: str | None) -> int | None:
    """The revision that a client has seen, or None for none and for what cannot be one."""
    if not last_event_id or not (last_event_id.isascii() and last_event_id.isdigit()):
        return None
    return int(last_event_id) if len(last_event_id) <= _CURSOR_LENGTH else None
