"""The hub with a clock in the test's hand and streams that only take notes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taskapi.database.models import Snapshot, TaskStatus
from taskapi.stream.frames import BUSY_RETRY, RETRY_RANGE, farewell
from taskapi.stream.hub import KEEP_ALIVE_SECONDS, STALL_SECONDS, STREAMS_PER_TURN, TICK_SECONDS, Hub
from taskapi.stream.sse import Frame
from taskapi.stream.streams import Places, Stream, Terms

# The database's clock, in microseconds, when streams of a user begin.
NOW = 1_000_000_000
A_MINUTE = 60_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Notes(Stream):
    """A stream that writes down what it is given."""

    def __init__(
        self, hub: Hub, user: int = 1, cursor: int | None = None, lifetime: float = 900.0, admin: bool = False
    ) -> None:
        super().__init__(Terms(user, admin, cursor, hub.clock() + lifetime, "max_age"))
        self.hub = hub
        self.frames: list[str] = []
        self.ended = self.dropped = False
        self.stalled: float | None = None

    def send(self, key: int, frame: Frame) -> None:
        assert not self.ended
        self.frames.append(frame.raw.decode())

    def finish(self, key: int, frame: Frame | None) -> None:
        if frame is not None:
            self.send(key, frame)
        self.ended = True

    def drop(self) -> None:
        self.hub.leave(self)
        self.ended = self.dropped = True

    def stalled_since(self) -> float | None:
        return self.stalled

    @property
    def ids(self) -> list[int]:
        return [int(frame.split("\n")[0].removeprefix("id: ")) for frame in self.frames if frame.startswith("id: ")]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(clock: Clock) -> Hub:
    return Hub(Places(1000, 900), Places(10, 5), clock=clock)


def task(revision: int, status: str = "running", number: int = 7, user: int = 1) -> Snapshot:
    return Snapshot(number, user, f"task{number}", TaskStatus(status), revision, b"{}")


def watching(hub: Hub, revision: int = 1, **state: Any) -> Notes:
    stream = Notes(hub, **state)
    assert hub.admit(stream, 10_000) is None
    hub.follow_task(task(revision), stream)
    return stream


def pass_time(hub: Hub, clock: Clock, until: Callable[[], bool]) -> None:
    """Let the broadcaster's loop run, in no time."""
    for _ in range(10_000):
        wait = hub.tick()
        if until():
            return
        clock.now += wait or TICK_SECONDS
    raise AssertionError("it never came")


def watching_all(hub: Hub, *tasks: Snapshot, user: int = 1) -> Notes:
    stream = Notes(hub, user)
    assert hub.admit(stream, 10_000) is None
    hub.follow_user(user, NOW, {}, stream)
    hub.introduce(stream, tasks)
    return stream


def test_a_stream_gets_the_snapshot_at_once_and_then_every_newer_one(hub: Hub) -> None:
    stream = watching(hub, 1)

    for revision in (2, 5, 9):
        hub.publish([task(revision)])

    assert stream.ids == [1, 2, 5, 9]


def test_a_stream_never_goes_back(hub: Hub) -> None:
    stream = watching(hub, 5)

    for revision in (5, 4, 6, 6, 2):
        hub.publish([task(revision)])

    assert stream.ids == [5, 6]


def test_a_stream_that_has_the_snapshot_gets_only_what_is_newer(hub: Hub) -> None:
    stream = watching(hub, 5, cursor=5)
    assert stream.frames == []

    hub.publish([task(6)])

    assert stream.ids == [6]


def test_a_slow_client_that_was_said_goodbye_is_dropped_too(hub: Hub, clock: Clock) -> None:
    stream = watching(hub, lifetime=20)
    stream.stalled = clock.now + 15
    pass_time(hub, clock, lambda: stream.ended)
    assert not stream.dropped

    pass_time(hub, clock, lambda: stream.dropped)

    assert 15 + STALL_SECONDS < clock.now - 1000 < 15 + STALL_SECONDS + KEEP_ALIVE_SECONDS + TICK_SECONDS
    assert hub.tick() is None


def test_the_first_stream_of_a_task_asks_for_a_second_reading_and_the_next_ones_do_not(hub: Hub) -> None:
    assert hub.follow_task(task(1), Notes(hub)) is True
    assert hub.follow_task(task(1), Notes(hub)) is False


def test_a_stream_that_opens_with_another_row_has_it_read_again_and_both_get_what_is_true(hub: Hub) -> None:
    first = watching(hub, 1)
    hub.publish([task(8)])

    late = Notes(hub)
    assert hub.follow_task(task(3), late) is True
    hub.publish([task(8)])

    assert late.ids == [3, 8]
    assert first.ids == [1, 8]


def test_a_row_that_went_back_is_news_once_its_topic_starts_over(hub: Hub) -> None:
    stream, mine = watching(hub, 5), watching_all(hub, task(5))

    assert hub.publish([task(3)]) is False
    assert hub.publish([task(5)]) is True
    hub.start_over([7])
    assert hub.publish([task(3)]) is True

    assert stream.ids == [5, 3]
    assert mine.ids == [5, 5], "a moment, which never goes back"


def test_who_was_told_of_a_cancellation_that_a_restore_undid_is_told_of_the_next_one(hub: Hub) -> None:
    stream, mine = watching(hub, 1), watching_all(hub, task(1))

    hub.publish([task(5)._replace(cancel_requested_at="2026-11-24T10:00:00.000Z")])
    hub.start_over([7])
    hub.publish([task(3)])
    hub.publish([task(9)._replace(cancel_requested_at="2026-11-24T11:00:00.000Z")])
    hub.publish([task(10)._replace(cancel_requested_at="2026-11-24T11:00:00.000Z")])

    for frames in (stream.frames, mine.frames):
        told = [frame for frame in frames if "cancelling" in frame]
        assert ["T10:00" in told[0], "T11:00" in told[1], len(told)] == [True, True, 2]


def test_another_tasks_row_under_a_used_id_ends_the_streams_unseen(hub: Hub) -> None:
    stream, boss = watching(hub, 5), watching(hub, 5, user=9, admin=True)

    hub.publish([Snapshot(7, 2, "another", TaskStatus("running"), 6, b"{}")])

    assert (stream.ids, boss.ids) == ([5], [5])
    assert stream.ended
    assert boss.ended


def test_a_new_owner_ends_the_previous_ones_streams_and_an_administrators_goes_on(hub: Hub) -> None:
    stream, boss = watching(hub, 5), watching(hub, 5, user=9, admin=True)

    hub.publish([task(6, user=2)])

    assert stream.ids == [5]
    assert stream.ended
    assert boss.ids == [5, 6]


def test_a_newer_row_brought_by_a_new_stream_reaches_the_others(hub: Hub) -> None:
    first = watching(hub, 1)

    watching(hub, 4)

    assert first.ids == [1, 4]


def test_a_final_snapshot_is_followed_by_one_done_and_the_end(hub: Hub) -> None:
    stream = watching(hub, 1)

    hub.publish([task(2, "failed")])
    hub.publish([task(3, "failed")])

    assert stream.frames[1:] == ['id: 2\ndata: {}\n\nevent: done\ndata: {"status": "failed"}\n\n']
    assert stream.ended
    assert len(hub) == 0


def test_a_task_that_became_final_while_the_stream_opened_ends_it(hub: Hub) -> None:
    stream = Notes(hub)
    hub.follow_task(task(2, "timeout"), stream)

    assert stream.ended
    assert len(hub) == 0


def test_a_users_stream_shows_all_tasks_of_the_user_and_has_no_done(hub: Hub) -> None:
    stream = watching_all(hub, task(3), task(5, number=8))

    hub.publish([task(6, "completed")])
    hub.publish([task(7, number=9)])
    hub.publish([task(8, number=10, user=2)])

    assert stream.ids == [3, 5, 6, 7]
    assert not any("done" in frame for frame in stream.frames)
    assert not stream.ended


def test_a_late_word_of_what_ended_before_a_users_stream_opened_is_history(hub: Hub) -> None:
    stream = Notes(hub)
    hub.follow_user(1, NOW, {7: NOW - 5}, stream)

    hub.publish([task(NOW - 5, "completed")])
    hub.publish([task(NOW - 2 * A_MINUTE, "completed", number=6)])
    hub.publish([task(NOW - 4, number=8)])
    hub.publish([task(NOW - 3, "completed", number=9)])

    assert stream.ids == [NOW - 4, NOW - 3], "the last was committed after the stream had opened"


def test_what_has_ended_is_asked_about_no_more_and_forgotten_after_a_while(hub: Hub) -> None:
    watching_all(hub, task(NOW + 1), task(NOW + 2, number=8))
    hub.publish([task(NOW + 3, "completed")])

    assert hub.revisions() == {8: NOW + 2}
    assert not hub.is_news(7, 1, NOW + 3)
    hub.forget_ended(NOW + 4)
    assert hub.is_news(7, 1, NOW + 3)


def test_a_users_streams_forget_what_was_deleted_or_belongs_to_somebody_else(hub: Hub) -> None:
    watching_all(hub, task(3), task(4, number=8), task(5, number=9))

    hub.gone(8)
    hub.disown({7: 1, 9: 2})

    assert hub.revisions() == {7: 3}


def test_ids_of_a_users_stream_ascend_though_a_slow_transaction_commits_late(hub: Hub) -> None:
    stream = watching_all(hub)

    hub.publish([task(20)])
    hub.publish([task(19, number=8)])

    assert stream.ids == [20, 20]


def test_what_was_published_while_a_users_stream_was_read_is_not_taken_back(hub: Hub) -> None:
    stream = Notes(hub)
    hub.follow_user(1, NOW, {}, stream)
    hub.publish([task(9)])

    hub.introduce(stream, [task(4)])

    assert stream.ids == [9]


def test_a_second_stream_of_a_user_is_introduced_without_troubling_the_first(hub: Hub) -> None:
    first = watching_all(hub, task(3))

    second = watching_all(hub, task(3))

    assert first.ids == [3]
    assert second.ids == [3]


def test_keep_alive_comes_after_fifteen_quiet_seconds_and_not_before(hub: Hub, clock: Clock) -> None:
    stream = watching(hub)

    clock.now += KEEP_ALIVE_SECONDS - TICK_SECONDS - 0.1
    hub.tick()
    assert len(stream.frames) == 1
    clock.now += 0.2
    hub.tick()

    assert stream.frames[1:] == [":\n\n"]


def test_a_frame_puts_the_keep_alive_off(hub: Hub, clock: Clock) -> None:
    stream = watching(hub)
    clock.now += 10
    hub.publish([task(2)])

    clock.now += 10
    hub.tick()

    assert ":\n\n" not in stream.frames


def test_keep_alives_go_on_for_as_long_as_nothing_happens(hub: Hub, clock: Clock) -> None:
    stream = watching(hub, lifetime=10_000)

    for _ in range(120):
        clock.now += TICK_SECONDS
        hub.tick()

    assert 120 / KEEP_ALIVE_SECONDS <= stream.frames.count(":\n\n") <= 120 / (KEEP_ALIVE_SECONDS - TICK_SECONDS)


def test_a_stream_ends_no_later_than_its_deadline_and_says_why(hub: Hub, clock: Clock) -> None:
    stream = watching(hub, lifetime=20)

    pass_time(hub, clock, lambda: stream.ended)

    assert clock.now <= 1020
    assert '{"reason": "max_age"}' in stream.frames[-1]
    assert len(hub) == 0


def test_a_client_that_takes_nothing_is_dropped(hub: Hub, clock: Clock) -> None:
    stream = watching(hub, lifetime=10_000)
    stream.stalled = clock.now

    pass_time(hub, clock, lambda: stream.ended)

    assert STALL_SECONDS < clock.now - 1000 < STALL_SECONDS + KEEP_ALIVE_SECONDS + TICK_SECONDS
    assert ":\n\n" not in stream.frames


def test_a_tick_with_nothing_open_waits_for_nothing(hub: Hub, clock: Clock) -> None:
    stream = watching(hub)
    hub.leave(stream)

    clock.now += KEEP_ALIVE_SECONDS

    assert hub.tick() is None


def test_the_caps_count_places_and_those_given_back_come_free_again(clock: Clock) -> None:
    hub = Hub(Places(3, 2), Places(1, 1), clock=clock)
    first = watching(hub, user=1)
    watching(hub, user=1)

    assert hub.admit(Notes(hub, 1), 10) == "busy"
    hub.leave(first)
    hub.leave(first)
    unopened = Notes(hub, 1)
    assert hub.admit(unopened, 10) is None
    watching(hub, user=2)
    assert hub.admit(Notes(hub, 3), 10) == "busy"
    hub.leave(unopened)
    assert hub.admit(Notes(hub, 3), 2) == "busy", "so many are served here"
    assert hub.admit(Notes(hub, 3), 10) is None


def test_closing_says_bye_to_all_and_lets_nobody_in(hub: Hub) -> None:
    streams = [watching(hub), watching(hub), watching_all(hub)]

    hub.close("shutdown")

    assert all(stream.ended and '{"reason": "shutdown"}' in stream.frames[-1] for stream in streams)
    assert len(hub) == 0
    assert hub.admit(Notes(hub), 10) == "shutdown"


def test_a_deleted_task_ends_its_streams(hub: Hub) -> None:
    stream = watching(hub)

    hub.gone(7)

    assert stream.ended
    assert stream.ids == [1]


def test_only_followed_tasks_are_worth_reading(hub: Hub) -> None:
    watching(hub)
    watching_all(hub, user=5)

    watched = hub.followed([(7, 1), (8, 1), (9, 5), (10, 6)])

    assert watched == {7: 1, 9: 5}


def test_a_long_pass_lets_others_have_their_turn_and_survives_who_leaves_meanwhile(clock: Clock) -> None:
    turns: list[int] = []
    streams: list[Notes] = []

    def pause() -> None:
        turns.append(1)
        for stream in streams:
            own.leave(stream)

    own = Hub(Places(10_000, 10_000), Places(1, 1), clock=clock, pause=pause)
    streams += [watching(own) for _ in range(2 * STREAMS_PER_TURN)]
    own.publish([task(2)])

    assert len(turns) >= 1
    assert sum(len(stream.frames) == 2 for stream in streams) == STREAMS_PER_TURN


def test_retry_is_spread_and_longer_where_the_server_is_full() -> None:
    retries = {int(farewell("shutdown").raw.split(b"retry: ")[1].split(b"\n")[0]) for _ in range(200)}

    assert min(retries) >= RETRY_RANGE[0]
    assert max(retries) <= RETRY_RANGE[1]
    assert len(retries) > 50
    assert f"retry: {BUSY_RETRY}\n".encode() in farewell("busy").raw


def test_what_all_streams_of_a_task_have_is_not_read_again(hub: Hub) -> None:
    watching(hub, revision=5)
    watching_all(hub, task(6, number=9, user=5), user=5)
    keys = {7: 1, 9: 5, 10: 5, 11: 1}

    assert hub.known(keys) == {7: 5, 9: 6, 10: -1, 11: -1}


def test_what_one_stream_lacks_is_read_again(hub: Hub) -> None:
    watching(hub, revision=5)
    watching(hub, revision=4)  # read a moment ago: or the row went back
    watching_all(hub, task(6, number=8, user=5), user=5)
    hub.follow_task(task(7, number=8, user=5), Notes(hub))

    assert hub.known({7: 1, 8: 5}) == {7: -1, 8: -1}


def test_many_tasks_are_published_in_turns(clock: Clock) -> None:
    pauses: list[int] = []
    hub = Hub(Places(1000, 900), Places(10, 5), clock=clock, pause=lambda: pauses.append(1))
    streams = [watching_task(hub, number) for number in range(250)]

    assert hub.publish([task(2, number=number) for number in range(250)]) is True

    assert [stream.ids for stream in streams] == [[1, 2]] * 250
    assert len(pauses) == 2


def watching_task(hub: Hub, number: int) -> Notes:
    stream = Notes(hub)
    assert hub.admit(stream, 10_000) is None
    hub.follow_task(task(1, number=number), stream)
    return stream
