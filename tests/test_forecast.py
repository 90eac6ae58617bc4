"""When a task will start and end: the mathematics on recorded and simulated pasts, the route, the stream's event."""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from harness import Follower, Server, insert, make_token, row, update, wait_until
from test_tasks_api import assert_problem, bearer, status_of

from taskapi.database.store import Store
from taskapi.forecast import Forecast, History, Moments, Run, has_changed, of_started, of_waiting, quantile
from taskapi.forecasts import RUNS_AT_MOST, Forecasts

NOTHING = {"position": None, "starts_at": None, "ends_at": None, "sample": 0}


# Calibration: whoever looks at a random moment sees a task that waits and one that runs, and is told of both.


class Past(NamedTuple):
    """What became of a task: moments in seconds, and the shares that were done, as `(moment, share)`."""

    created: float
    started: float
    ended: float
    shares: list[tuple[float, float]]

    def share(self, now: float) -> float:
        return max((share for moment, share in self.shares if moment <= now), default=0.0)


def recorded_decks() -> list[Past]:
    """Real runs of the demo's decks (see `data/record_decks.py`)."""
    lines = (Path(__file__).parent / "data" / "decks.jsonl").read_text().splitlines()
    decks = map(json.loads, lines)
    return [
        Past(deck["created"], deck["started"], deck["ended"], [(at, percent / 100) for at, percent in deck["progress"]])
        for deck in decks
    ]


def heavy_tailed(seed: int, lanes: int = 3, load: float = 0.85) -> list[Past]:
    """Three lanes, tasks in bursts, durations without a variance (Pareto, 1.5), of items whose costs differ."""
    chance = random.Random(seed)
    bursts = (1, 1, 1, 2, 8)
    pause = 6.0 * sum(bursts) / len(bursts) / lanes / load  # such durations are 6 s on average
    now, free = 0.0, [0.0] * lanes
    tasks: list[Past] = []
    while len(tasks) < 1200:
        now += chance.expovariate(1 / pause)
        for _ in range(chance.choice(bursts)):
            started = max(heapq.heappop(free), now) + chance.uniform(0.02, 0.1)
            duration = 2 * chance.paretovariate(1.5)
            heapq.heappush(free, started + duration)
            tasks.append(Past(now, started, started + duration, items(chance, started, duration)))
    return tasks


def items(chance: random.Random, started: float, duration: float) -> list[tuple[float, float]]:
    """The progress of a task of some items, none of which is done in the first while."""
    costs = [chance.lognormvariate(0, 1) for _ in range(chance.randint(5, 60))]
    while_ = chance.uniform(0, 0.15)
    done = [while_ + (1 - while_) * cost / sum(costs) for cost in itertools.accumulate(costs)]
    return [(started + duration * part, number / len(costs)) for number, part in enumerate(done[:-1], 1)]


class Told(NamedTuple):
    """What was told at one moment, and what came."""

    now: float
    moments: Moments
    came: float


def replayed(tasks: list[Past], looks: int, warm: int, seed: int) -> tuple[list[Told], list[Told]]:
    """Look at random moments, once so many tasks have ended: of a waiting task the start, of each the end."""
    chance = random.Random(seed)
    by_end = sorted(tasks, key=lambda task: task.ended)
    starts, ends = [], []
    for _ in range(looks):
        now = chance.uniform(by_end[warm].ended, max(task.created for task in tasks))
        ended = [task for task in by_end if task.ended <= now][-RUNS_AT_MOST:]
        running = [task for task in tasks if task.started <= now < task.ended]
        waiting = [task for task in tasks if task.created <= now < task.started]
        runs = [Run(*task[:3]) for task in ended] + [Run(task.created, task.started, None) for task in running]
        history = History.of(runs)
        if waiting:
            place = chance.randrange(len(waiting))
            told = of_waiting(history, now, place + 1, waiting[0].created)
            assert told.starts_at
            assert told.ends_at
            starts.append(Told(now, told.starts_at, waiting[place].started))
            ends.append(Told(now, told.ends_at, waiting[place].ended))
        if running:
            task = chance.choice(running)
            told = of_started(history, now, task.started, task.share(now))
            assert told.ends_at
            ends.append(Told(now, told.ends_at, task.ended))
    return starts, ends


def held(told: list[Told], name: str) -> float:
    """Of how many in 100 the moment came true."""
    return 100 * sum(bool(each.came <= getattr(each.moments, name)) for each in told) / len(told)


PASTS: dict[str, Callable[[], list[Past]]] = {"decks": recorded_decks, "heavy_tailed": lambda: heavy_tailed(1)}


@pytest.mark.parametrize("past", PASTS)
def test_what_was_told_came_true_as_often_as_it_said(past: str) -> None:
    starts, ends = replayed(PASTS[past](), looks=800, warm=20, seed=1)

    assert len(starts) > 300
    assert 85 <= held(starts, "p90") <= 95
    assert 85 <= held(ends, "p90") <= 95
    assert 40 <= held(starts, "p50") <= 60
    assert 40 <= held(ends, "p50") <= 60


@pytest.mark.slow
@pytest.mark.parametrize(("lanes", "load"), [(1, 0.7), (3, 0.85), (8, 0.9)])
def test_it_comes_true_however_many_work_and_whatever_came_by_chance(lanes: int, load: float) -> None:
    pasts = [replayed(heavy_tailed(seed, lanes, load), looks=400, warm=60, seed=seed) for seed in range(2, 8)]

    starts = [told for starts, _ in pasts for told in starts]
    ends = [told for _, ends in pasts for told in ends]
    assert 85 <= held(starts, "p90") <= 95
    assert 85 <= held(ends, "p90") <= 95


def test_a_task_that_is_half_done_is_told_more_exactly() -> None:
    history = History.of([Run(0, number, number + 10 * 2**number) for number in range(8)])

    fresh = of_started(history, 1000, 980, 0).ends_at
    half = of_started(history, 1000, 980, 0.5).ends_at
    nearly = of_started(history, 1000, 980, 0.95).ends_at

    assert fresh
    assert half
    assert nearly
    assert nearly.p50 < half.p50 < fresh.p50
    assert nearly.p90 < half.p90 < fresh.p90
    assert half.p50 == pytest.approx(1020, abs=10)


def test_durations_that_hardly_differ_are_believed_more_than_a_progress_that_does_not_fit() -> None:
    history = History.of([Run(0, number, number + 100 + number % 3) for number in range(50)])

    told = of_started(history, 1000, 950, 0.3)

    assert told.ends_at
    assert told.ends_at.p50 == pytest.approx(1051, abs=2)


# The mathematics.


def test_the_next_of_n_values_is_in_each_cell_between_them_with_the_same_chance() -> None:
    past = [10.0, 20.0, 30.0, 40.0]

    assert [quantile(past, cell / 5) for cell in range(5)] == [0, 10, 20, 30, 40]
    assert quantile(past, 0.5) == 25
    assert quantile(past, 0.5, passed=25) == pytest.approx(35)  # 30 and 40 are left, of three cells the second's middle


def test_what_has_lasted_longer_than_anything_lasts_twice_as_long_with_an_even_chance() -> None:
    past = [10.0, 20.0]

    assert quantile(past, 0.5, passed=60) == 120
    assert quantile(past, 0.9, passed=60) == pytest.approx(600)


def test_a_position_further_back_waits_longer() -> None:
    history = History.of([Run(0, 10 * number, 10 * number + 5) for number in range(50)])

    waits = [of_waiting(history, 490, position, 0).starts_at for position in (1, 2, 10, 1000)]

    assert [each and round(each.p50) for each in waits] == [500, 510, 590, 10490]


def test_time_that_nobody_waited_is_no_time_of_waiting() -> None:
    at_once = History.of([Run(100 * number, 100 * number + 1, 100 * number + 50) for number in range(20)])

    told = of_waiting(at_once, 2000, 1, 2000).starts_at

    assert told
    assert told.p90 == pytest.approx(2001, abs=0.2)


def test_a_first_in_line_that_has_waited_longer_than_anything_may_wait_as_long_again() -> None:
    history = History.of([Run(10 * number, 10 * number + 1, 10 * number + 5) for number in range(20)])

    told = of_waiting(history, 1000, 1, 400).starts_at

    assert told
    assert told.p50 == pytest.approx(1600, rel=0.05)


@pytest.mark.parametrize(
    ("runs", "now", "position", "share"),
    [
        ([Run(0, 0, 0)] * 5, 0.0, 1, 0.0),
        ([Run(5, 3, 1)] * 5, 2.0, 3, 1.0),
        ([Run(0, 1, 1e12)] * 5, 1e15, 10**9, 1e-9),
        ([Run(0, 0, 1e-9)] * 200, 1e9, 1, 0.5),
        ([Run(-1e12, 1e9, 1e9)] * 5, -5.0, 10**18, 0.5),
    ],
)
def test_whatever_the_past_says_there_is_an_answer(runs: list[Run], now: float, position: int, share: float) -> None:
    history = History.of(runs)

    for told in (of_waiting(history, now, position, 0), of_started(history, now, 0, share)):
        assert told.ends_at
        assert now <= told.ends_at.p50 <= told.ends_at.p90 < math.inf
        assert json.loads(told.json)["sample"] == len(runs)


def test_of_less_than_five_finished_tasks_only_the_position_is_told() -> None:
    history = History.of([Run(0, 1, 2)] * 4 + [Run(0, 1, None)])

    assert of_waiting(history, 10, 3, 0) == Forecast(3, None, None, 4)
    assert of_started(history, 10, 1, 0.5) == Forecast(None, None, None, 4)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (Forecast(), Forecast(), False),
        (Forecast(5), Forecast(4), True),
        (Forecast(20), Forecast(19), False),
        (Forecast(1), Forecast(None), True),
        (Forecast(ends_at=Moments(200, 300)), Forecast(ends_at=Moments(209, 319)), False),
        (Forecast(ends_at=Moments(200, 300)), Forecast(ends_at=Moments(211, 300)), True),
        (Forecast(ends_at=Moments(200, 300)), Forecast(ends_at=Moments(200, 279)), True),
        (Forecast(ends_at=Moments(200, 300)), Forecast(), True),
        (Forecast(ends_at=Moments(100.2, 100.4)), Forecast(ends_at=Moments(100.25, 100.45)), False),
    ],
)
def test_a_change_is_one_of_more_than_a_tenth(before: Forecast, after: Forecast, expected: bool) -> None:
    assert has_changed(before, after, now=100.0) is expected


# The route.


def moment(seconds: float) -> str:
    """So many seconds from now."""
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()


def finish(engine: sa.Engine, count: int, kind: str = "deck", user: int = 5, **columns: Any) -> None:
    """Tasks that waited for 30 s and ran for 60, one after another, until now."""
    for number in range(count):
        start = 60 * (number - count)
        moments = {
            "created_at": moment(start - 30),
            "started_at": moment(start),
            "ended_at": moment(start + 60),
        }
        columns = {"status": "completed", **columns}
        insert(engine, f"{kind} {number} of {user}", user, kind=kind, **{**moments, **columns})


def forecast_of(client: FlaskClient, task_id: str, **claims: Any) -> dict[str, Any]:
    response = client.get(f"/api/tasks/{task_id}/forecast", headers=bearer(**claims))
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert list(response.get_json()) == ["position", "starts_at", "ends_at", "sample"]
    assert response.headers["Cache-Control"] == "private, no-cache"
    return dict(response.get_json())


def seconds_until(text: str) -> float:
    assert text.endswith("Z")
    return (dt.datetime.fromisoformat(text) - dt.datetime.now(dt.UTC)).total_seconds()


def test_a_waiting_task_is_told_its_position_when_it_starts_and_when_it_ends(
    client: FlaskClient, engine: sa.Engine
) -> None:
    finish(engine, 12)
    for number, status in enumerate(("queued", "pending", "queued")):
        insert(engine, f"waiting{number}", kind="deck", status=status, created_at=moment(number - 3))
    insert(engine, "another kind's", kind="export", created_at=moment(-100))
    insert(engine, "no kind's", created_at=moment(-100))

    told = [forecast_of(client, f"waiting{number}") for number in range(3)]

    assert [each["position"] for each in told] == [1, 2, 3]
    assert [each["sample"] for each in told] == [12, 12, 12]
    for each in told:
        assert 0 <= seconds_until(each["starts_at"]["p50"]) <= seconds_until(each["starts_at"]["p90"])
        assert seconds_until(each["ends_at"]["p50"]) - seconds_until(each["starts_at"]["p50"]) == pytest.approx(
            60, abs=5
        )
        assert seconds_until(each["ends_at"]["p50"]) <= seconds_until(each["ends_at"]["p90"])
    assert seconds_until(told[2]["starts_at"]["p50"]) == pytest.approx(87, abs=5)


def test_a_started_task_is_told_only_when_it_ends(client: FlaskClient, engine: sa.Engine) -> None:
    finish(engine, 12)
    insert(engine, "a", kind="deck", status="running", started_at=moment(-20))
    insert(engine, "b", kind="deck", status="starting")

    running, starting = forecast_of(client, "a"), forecast_of(client, "b")

    assert (running["position"], running["starts_at"]) == (None, None)
    assert seconds_until(running["ends_at"]["p50"]) == pytest.approx(40, abs=5)
    assert (starting["position"], starting["starts_at"]) == (None, None)
    assert seconds_until(starting["ends_at"]["p50"]) == pytest.approx(60, abs=5)


@pytest.mark.parametrize("status", ["completed", "failed", "timeout"])
def test_of_a_task_that_has_ended_nothing_is_expected(client: FlaskClient, engine: sa.Engine, status: str) -> None:
    finish(engine, 6)
    insert(engine, "a", kind="deck", status=status, started_at=moment(-60))

    assert forecast_of(client, "a") == NOTHING | {"sample": 7}


def test_below_five_finished_tasks_of_its_kind_nothing_is_told_but_the_position(
    client: FlaskClient, engine: sa.Engine
) -> None:
    finish(engine, 4)
    finish(engine, 9, kind="export")
    insert(engine, "waiting", kind="deck")
    insert(engine, "running", kind="deck", status="running")
    insert(engine, "of no kind", status="queued")

    assert forecast_of(client, "waiting") == NOTHING | {"position": 1, "sample": 4}
    assert forecast_of(client, "running") == NOTHING | {"sample": 4}
    assert forecast_of(client, "of no kind") == NOTHING


def test_what_failed_ran_as_well_and_what_never_started_did_not(client: FlaskClient, engine: sa.Engine) -> None:
    finish(engine, 3)
    finish(engine, 2, user=6, status="failed")
    finish(engine, 2, user=7, status="timeout")
    finish(engine, 4, user=8, status="timeout", started_at=None)
    insert(engine, "said only at its end", kind="deck", status="completed")
    insert(engine, "a", kind="deck")

    assert forecast_of(client, "a")["sample"] == 8


def test_only_the_last_hundred_count(client: FlaskClient, engine: sa.Engine) -> None:
    finish(engine, RUNS_AT_MOST + 5)
    insert(engine, "a", kind="deck")

    assert forecast_of(client, "a")["sample"] == RUNS_AT_MOST


def test_a_task_that_is_tried_again_is_in_line_again(client: FlaskClient, engine: sa.Engine) -> None:
    finish(engine, 6)
    insert(engine, "a", kind="deck", status="running", created_at=moment(-50))
    insert(engine, "b", kind="deck", status="queued", created_at=moment(-40))
    update(engine, "a", status="queued", started_at=None)

    assert [forecast_of(client, name)["position"] for name in ("a", "b")] == [1, 2]


def test_a_forecast_is_for_the_owner_and_administrators(client: FlaskClient, engine: sa.Engine) -> None:
    finish(engine, 6)
    insert(engine, "a", kind="deck")
    path = "/api/tasks/a/forecast"

    assert client.get(path, headers=bearer(1)).status_code == 200
    assert client.get(path, headers=bearer(2, is_admin=True)).status_code == 200
    assert_problem(client.get(path, headers=bearer(2)), 403)
    assert_problem(client.get(path), 401)
    for name in ("nothing", "a%00", "a" * 256):
        assert_problem(client.get(f"/api/tasks/{name}/forecast", headers=bearer(1)), 404)


def test_the_past_of_a_kind_is_read_once_for_all_who_ask_within_a_second(
    store: Store, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(engine, 6)
    ids = [insert(engine, f"task {number}", kind="deck") for number in range(50)]
    statements: list[str] = []
    rows = store.reader.rows

    def noted(statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        statements.append(statement)
        return rows(statement, parameters)

    monkeypatch.setattr(store.reader, "rows", noted)
    forecasts = Forecasts(store)

    told = dict(forecasts.of_many(ids))
    first = len(statements)
    for number in ids:
        forecasts.of(number)

    assert [told[number].position for number in ids] == list(range(1, 51))
    assert first == 3  # where they stand, the past, and the line
    assert len(statements) == first + 2 * len(ids)  # where each stands, and its place


def test_who_is_far_back_in_line_or_has_ended_is_told_nothing_unasked(
    store: Store, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(engine, 6)
    ids = [insert(engine, f"task {number}", kind="deck") for number in range(12)]
    ended = insert(engine, "ended", kind="deck", status="failed")
    monkeypatch.setattr("taskapi.forecasts.LINE_AT_MOST", 10)
    forecasts = Forecasts(store)

    assert set(dict(forecasts.of_many([*ids, ended, 0]))) == set(ids[:10])
    assert forecasts.of(ids[-1]).position == 12
    assert forecasts.of(0) == Forecast()


# The stream's event.


@pytest.fixture
def follow(server: Server) -> Iterator[Callable[..., Follower]]:
    followers: list[Follower] = []

    def follow(task_id: str, user: int = 1, **headers: str) -> Follower:
        followers.append(Follower(server.stream(f"/api/tasks/{task_id}/events", user, **headers)))
        return followers[-1]

    yield follow
    for follower in followers:
        follower.leave()


def forecasts_in(follower: Follower) -> list[dict[str, Any]]:
    return [event.json for event in follower.events if event.name == "forecast"]


def test_a_stream_is_told_the_forecast_after_the_first_snapshot_and_whoever_joins_at_once(
    engine: sa.Engine, server: Server, follow: Callable[..., Follower]
) -> None:
    finish(engine, 12)
    insert(engine, "first", kind="deck", created_at=moment(-1))
    insert(engine, "a", kind="deck")

    follower = follow("a")
    wait_until(lambda: forecasts_in(follower))
    second = server.stream("/api/tasks/a/events")

    assert [event.name for event in follower.events] == ["message", "forecast"]
    told = forecasts_in(follower)[0]
    assert (told["position"], told["sample"]) == (2, 12)
    assert seconds_until(told["ends_at"]["p50"]) > seconds_until(told["starts_at"]["p50"])
    revision = str(row(engine, "a")["revision"])
    assert [(event.name, event.id) for event in (second.next(), second.next())] == [
        ("message", revision),
        ("forecast", revision),  # it has no id of its own: the last one stays
    ]


def test_the_frame_is_one_line_without_an_id(engine: sa.Engine, server: Server) -> None:
    finish(engine, 12)
    insert(engine, "a", kind="deck")

    stream = server.stream("/api/tasks/a/events")
    lines = [stream.response.readline() for _ in range(6)]

    assert lines[0].startswith(b"id: ")
    assert lines[2:4] == [b"\n", b"event: forecast\n"]
    assert lines[4].startswith(b'data: {"position":1,"starts_at":{"p50":"')
    assert lines[5] == b"\n"


def test_a_stream_is_told_again_when_what_is_expected_has_changed(
    engine: sa.Engine, follow: Callable[..., Follower]
) -> None:
    finish(engine, 12)
    insert(engine, "a", kind="deck")
    follower = follow("a")
    wait_until(lambda: forecasts_in(follower))

    update(engine, "a", status="running")
    wait_until(lambda: forecasts_in(follower)[-1]["position"] is None)
    before = forecasts_in(follower)[-1]
    update(engine, "a", progress=90)
    wait_until(lambda: forecasts_in(follower)[-1]["ends_at"] != before["ends_at"])
    update(engine, "a", status="completed")
    wait_until(lambda: follower.ended)

    assert before["starts_at"] is None
    assert forecasts_in(follower)[-1]["ends_at"]["p50"] < before["ends_at"]["p50"]
    assert follower.events[-1].name == "done"


def test_a_stream_hears_nothing_where_nothing_can_be_told_until_it_can(
    engine: sa.Engine, follow: Callable[..., Follower]
) -> None:
    finish(engine, 4)
    insert(engine, "a", kind="deck")
    insert(engine, "without")
    follower, other = follow("a"), follow("without")
    wait_until(lambda: follower.events and other.events)

    finish(engine, 1, user=6)
    wait_until(lambda: forecasts_in(follower))

    assert forecasts_in(follower)[0]["sample"] == 5
    assert [event.name for event in other.events] == ["message"]


def test_the_stream_of_all_my_tasks_has_no_forecasts_and_a_held_request_does_not_end_by_one(
    engine: sa.Engine, server: Server, follow: Callable[..., Follower]
) -> None:
    finish(engine, 12)
    insert(engine, "a", kind="deck")
    mine = follow("users/me")
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Prefer": "wait=4", "If-None-Match": f'W/"{row(engine, "a")["revision"]}"'}
    connection.request("GET", status_of("a"), headers={**headers, "Authorization": f"Bearer {make_token()}"})
    began = time.monotonic()

    follower = follow("a")
    wait_until(lambda: forecasts_in(follower))
    answer = connection.getresponse()

    assert answer.status == 304
    assert time.monotonic() - began > 3
    assert mine.names == []
    connection.close()
