"""The wire format, byte for byte, and read back by a parser written from the standard."""

from __future__ import annotations

import pytest
from harness import Event, parse

from taskapi.stream import sse
from taskapi.stream.sse import Frame


def read(data: bytes) -> list[Event]:
    return list(parse(iter(data.decode().split("\n")[:-1])))


def test_a_snapshot_is_an_unnamed_event_with_the_revision_as_its_id() -> None:
    frame = sse.snapshot(42, b'{"task_id":"a"}')

    assert frame == b'id: 42\ndata: {"task_id":"a"}\n\n'
    assert read(frame) == [Event("message", '{"task_id":"a"}', "42")]


def test_done_names_the_status_and_moves_no_cursor() -> None:
    frame = sse.done("completed")

    assert frame == b'event: done\ndata: {"status": "completed"}\n\n'


def test_bye_tells_when_to_come_back_and_has_no_id() -> None:
    frame = sse.bye("shutdown", 1500)

    assert frame == b'event: bye\nretry: 1500\ndata: {"reason": "shutdown"}\n\n'
    assert read(frame) == [Event("bye", '{"reason": "shutdown"}', "", 1500)]


def test_a_keep_alive_is_a_comment_that_dispatches_nothing() -> None:
    assert [event.name for event in read(sse.KEEP_ALIVE.raw)] == ["comment"]


def test_a_frame_has_its_chunk_ready() -> None:
    frame = Frame.of(b"x" * 300)

    assert frame.chunk == b"12c\r\n" + b"x" * 300 + b"\r\n"


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        ("0", 0),
        ("42", 42),
        ("007", 7),
        (str(2**63 - 1), 2**63 - 1),
        (None, None),
        ("", None),
        ("-1", None),
        ("+5", None),
        ("1_0", None),
        ("1.5", None),
        ("²", None),
        ("٣", None),
        (" 1", None),
        ("1\n", None),
        ("abc", None),
        ("9" * 5000, None),
    ],
)
def test_a_cursor_is_digits_and_junk_counts_as_none(text: str | None, cursor: int | None) -> None:
    assert sse.cursor(text) == cursor
