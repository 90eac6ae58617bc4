"""Lists with filters, everybody's tasks and their number, on both databases."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from harness import insert, update, wait_until
from test_tasks_api import BIGINT_MAX, FIELDS, MINE, assert_problem, bearer, links, names

from taskapi.database.counts import QUICK_SECONDS
from taskapi.database.models import TaskStatus
from taskapi.database.store import KINDS_AT_MOST
from taskapi.state import state_of

ALL = "/api/tasks"
SUMMARY = "/api/tasks/summary"
ADMINISTRATOR = bearer(9, is_admin=True)


@pytest.fixture
def tasks(engine: sa.Engine) -> list[str]:
    """Two users' tasks of each status, kind and learning path; their ids, newest first."""
    combinations = itertools.product((1, 2), TaskStatus, ("deck", "export"), (7, 8))
    made = []
    for minute, (user, status, kind, path) in enumerate(combinations):
        made.append(f"{user} {status} {kind} {path}")
        at = f"2026-01-01T00:{minute:02}:00Z"
        insert(engine, made[-1], user, status=str(status), kind=kind, learning_path_id=path, created_at=at)
    return made[::-1]


# Filters.


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("status=running", {"running"}),
        ("status=running,failed,pending", {"running", "failed", "pending"}),
        ("status=running&status=failed", {"running", "failed"}),
        ("status=pending,queued,starting,running", {"pending", "queued", "starting", "running"}),
        (f"status={','.join(TaskStatus)}", set(TaskStatus)),
        ("kind=deck", {"deck"}),
        ("learning_path_id=8", {"8"}),
        ("status=failed&kind=export&learning_path_id=7", None),
        ("kind=unknown", set()),
        ("kind=", set()),
        (f"learning_path_id={BIGINT_MAX}", set()),
        ("kind=%27%20OR%201=1%20--", set()),
        ("kind=deck%25", set()),
        ("q=", {"deck", "export"}),
        ("q=DeCk", {"deck"}),
        ("q=ailed_EXPORT_7", None),
        ("q=d%25k", set()),
        ("q=d_ck", set()),
        ("q=d%5Cck", set()),
        ("q=%27%20OR%201=1%20--", set()),
        ("q=deck%208&status=running&kind=export", set()),
    ],
)
def test_a_list_holds_what_the_filters_let_through_in_its_order(
    client: FlaskClient, tasks: list[str], query: str, parts: set[str] | None
) -> None:
    def is_wanted(name: str) -> bool:
        _, *words = name.split()
        return words == ["failed", "export", "7"] if parts is None else bool(parts & set(words))

    mine = names(client.get(f"{MINE}?{query}&limit=100", headers=bearer(1)))
    everybodys = names(client.get(f"{ALL}?{query}&limit=100", headers=ADMINISTRATOR))

    assert mine == [name for name in tasks if name.startswith("1") and is_wanted(name)]
    assert everybodys == [name for name in tasks if is_wanted(name)]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("status=sleeping", "sleeping"),
        ("status=running,,failed", "status"),
        ("status=", "status"),
        ("status=RUNNING", "RUNNING"),
        ("status=running,%20failed", "status"),
        ("status=%00", "status"),
        (f"status={'x' * 5000}", "status"),
        ("kind=a%00", "kind"),
        ("q=a%00", "q"),
        (f"q={'x' * 256}", "q"),
        ("learning_path_id=x", "learning_path_id"),
        ("learning_path_id=", "learning_path_id"),
        ("learning_path_id=-1", "learning_path_id"),
        (f"learning_path_id={BIGINT_MAX + 1}", "learning_path_id"),
        ("skip=x", "skip"),
        ("limit=0", "limit"),
    ],
)
def test_a_filter_that_cannot_be_is_a_400_that_names_it(client: FlaskClient, query: str, name: str) -> None:
    for path, who in ((MINE, bearer()), (ALL, ADMINISTRATOR)):
        detail = assert_problem(client.get(f"{path}?{query}", headers=who), 400)["detail"]

        assert name in detail
        assert len(detail) < 200


def test_a_text_is_looked_for_in_id_kind_stage_and_result(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "Ab-1", kind="deck_export", stage="card_updates", result_message="50% done\nÄpfel")
    insert(engine, "other", error_details="card")

    def found(text: str) -> list[str]:
        return names(client.get(f"{MINE}?q={quote(text)}", headers=bearer()))

    for text in ("aB-1", "Deck Export", "deck_export", "CARD UPD", "50%", "done\n", "ÄPFEL"):
        assert found(text) == ["Ab-1"], text
    # Letters beyond ASCII are themselves, on both databases.
    for text in ("äpfel", "x" * 255):
        assert found(text) == [], text


@pytest.mark.parametrize("path", [MINE, ALL])
def test_behind_the_last_page_there_is_nothing_however_far(client: FlaskClient, tasks: list[str], path: str) -> None:
    for filters in ("", "&kind=deck", "&status=failed", "&limit=100"):
        answer = client.get(f"{path}?skip={BIGINT_MAX}{filters}", headers=ADMINISTRATOR)

        assert (answer.status_code, answer.json) == (200, [])


@pytest.mark.parametrize("path", [MINE, ALL])
def test_the_pages_beside_a_filtered_one_are_filtered(client: FlaskClient, tasks: list[str], path: str) -> None:
    filters = "&status=running,failed&status=pending&kind=deck&q=Deck" + ("&user_id=1" if path == ALL else "")
    there, back = [], []
    url: str | None = f"{path}?limit=2{filters}"

    while url:
        response = client.get(url, headers=bearer(1, is_admin=True))
        there.append(names(response))
        url, last = links(response).get("next"), url
    url = last
    while url:
        response = client.get(url, headers=bearer(1, is_admin=True))
        back.append(names(response))
        url = links(response).get("prev")

    wanted = [name for name in tasks if name.startswith("1") and "deck" in name and "completed" not in name]
    wanted = [name for name in wanted if name.split()[1] in ("running", "failed", "pending")]
    assert [name for page in there for name in page] == wanted
    assert back == there[::-1]


# Everybody's tasks.


def test_an_administrator_lists_everybodys_tasks_newest_first(client: FlaskClient, tasks: list[str]) -> None:
    response = client.get(ALL, headers=ADMINISTRATOR)

    assert names(response) == tasks[:20]
    assert all(list(task) == FIELDS for task in response.get_json())
    assert links(response) == {"next": f"{ALL}?skip=20&limit=20"}
    assert response.headers["Cache-Control"] == "private, no-cache"


def insert_all(engine: sa.Engine, rows: list[dict[str, Any]]) -> None:
    columns = ("task_id", "user_id", "kind", "status", "created_at", "ended_at")
    moment = "text" if engine.dialect.name == "sqlite" else "timestamptz"
    values = [f"CAST(:{name} AS {moment})" if name.endswith("_at") else f":{name}" for name in columns]
    statement = f"INSERT INTO user_tasks ({', '.join(columns)}) VALUES ({', '.join(values)})"
    with engine.begin() as connection:
        connection.execute(sa.text(statement), rows)


@pytest.mark.parametrize("kinds", [["deck"], ["deck", "export", None], [f"kind {n}" for n in range(KINDS_AT_MOST + 5)]])
@pytest.mark.parametrize("filters", ["", "&status=failed", "&status=completed,running", "&kind=deck", "&kind=kind%201"])
def test_the_order_is_that_of_creation_however_the_rows_came_in(
    client: FlaskClient, engine: sa.Engine, kinds: list[str | None], filters: str
) -> None:
    chance = random.Random(1)
    statuses = ["completed", "completed", "failed", "running", "queued"]
    rows = []
    for number in range(600):
        created = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=number)
        status = chance.choice(statuses)
        took = dt.timedelta(minutes=chance.paretovariate(0.5))  # some of them months
        ended = created + min(took, dt.timedelta(days=200)) if status in ("completed", "failed") else None
        rows.append(
            {
                "task_id": f"task {number:03}",
                "user_id": number % 7,
                "kind": chance.choice(kinds),
                "status": status,
                "created_at": created.isoformat(),
                "ended_at": ended and ended.isoformat(),
            }
        )
    insert_all(engine, chance.sample(rows[:300], 300) + rows[300:550] + rows[550:][::-1])

    wanted = dict(part.split("=") for part in filters.split("&") if part)
    statuses = wanted.get("status", "").split(",")
    kind = wanted.get("kind", "").replace("%20", " ")
    expected = [
        row["task_id"]
        for row in reversed(rows)
        if (not statuses[0] or row["status"] in statuses) and (not kind or row["kind"] == kind)
    ]
    for skip in (0, 40, 400):
        page = names(client.get(f"{ALL}?skip={skip}&limit=30{filters}", headers=ADMINISTRATOR))
        assert page == expected[skip : skip + 30]


def test_an_administrator_lists_one_users_tasks(client: FlaskClient, tasks: list[str]) -> None:
    assert names(client.get(f"{ALL}?user_id=2&limit=100", headers=ADMINISTRATOR)) == [
        name for name in tasks if name.startswith("2")
    ]
    assert names(client.get(f"{ALL}?user_id=3", headers=ADMINISTRATOR)) == []


@pytest.mark.parametrize("value", ["", "x", "-1", str(BIGINT_MAX + 1), "1,2", "1\0"])
def test_a_user_who_cannot_be_is_a_400_that_names_it(client: FlaskClient, value: str) -> None:
    response = client.get(f"{ALL}?user_id={quote(value)}", headers=ADMINISTRATOR)

    assert "user_id" in assert_problem(response, 400)["detail"]


def test_what_is_everybodys_is_for_administrators_only(client: FlaskClient, tasks: list[str]) -> None:
    for path in (ALL, f"{ALL}?user_id=1", f"{ALL}?user_id=x", SUMMARY):
        assert_problem(client.get(path), 401)
        assert_problem(client.get(path, headers=bearer(1)), 403)
        assert_problem(client.get(path, headers=bearer(1, is_admin="true")), 403)


def test_what_cannot_be_done_with_everybodys_tasks_is_a_problem(client: FlaskClient) -> None:
    assert_problem(client.post(ALL, headers=ADMINISTRATOR), 405)
    assert_problem(client.get(f"{ALL}/", headers=ADMINISTRATOR), 404)


def test_a_task_may_be_called_like_a_route(client: FlaskClient, engine: sa.Engine) -> None:
    for name in ("summary", "users", "me"):
        insert(engine, name)

        assert client.get(f"/api/tasks/{name}/status", headers=bearer()).get_json()["task_id"] == name


# How many there are.


def test_without_tasks_the_summary_counts_none(client: FlaskClient) -> None:
    response = client.get(SUMMARY, headers=ADMINISTRATOR)

    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.get_json() == {"counts": dict.fromkeys(TaskStatus, 0), "oldest_waiting_at": None, "stalled": 0}
    assert list(response.get_json()["counts"]) == list(TaskStatus)


def test_the_summary_counts_all_seven_statuses_at_once(
    client: FlaskClient, engine: sa.Engine, tasks: list[str]
) -> None:
    before = client.get(SUMMARY, headers=ADMINISTRATOR).get_json()
    update(engine, tasks[-1], status="completed")
    after = client.get(SUMMARY, headers=ADMINISTRATOR).get_json()

    assert before["counts"] == dict.fromkeys(TaskStatus, 8)
    assert after["counts"] == dict.fromkeys(TaskStatus, 8) | {"pending": 7, "completed": 9}


def test_the_summary_says_since_when_the_oldest_waits(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "ended", status="failed", created_at="2026-01-01T00:00:00Z")
    insert(engine, "running", status="running", created_at="2026-01-02T00:00:00Z")
    insert(engine, "queued", status="queued", created_at="2026-01-03T00:00:00Z")
    insert(engine, "pending", status="pending", created_at="2026-01-04T00:00:00Z")

    assert client.get(SUMMARY, headers=ADMINISTRATOR).get_json()["oldest_waiting_at"].startswith("2026-01-03T00:00:00")
    update(engine, "queued", status="running")
    assert client.get(SUMMARY, headers=ADMINISTRATOR).get_json()["oldest_waiting_at"].startswith("2026-01-04T00:00:00")


def test_a_task_whose_lease_has_run_out_is_stalled_until_it_is_closed(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "stalled", status="running", lease_expires_at="2026-01-01T00:00:00Z")
    insert(engine, "alive", status="running", lease_expires_at="2100-01-01T00:00:00Z")
    insert(engine, "without a lease", status="starting")
    insert(engine, "waiting", status="queued", lease_expires_at="2026-01-01T00:00:00Z")
    insert(engine, "ended", status="failed", lease_expires_at="2026-01-01T00:00:00Z")

    def is_one() -> bool:
        update(engine, "stalled", status="running")  # another test's application may still be closing such tasks
        return bool(client.get(SUMMARY, headers=ADMINISTRATOR).get_json()["stalled"] == 1)

    wait_until(is_one)
    update(engine, "stalled", status="timeout")
    assert client.get(SUMMARY, headers=ADMINISTRATOR).get_json()["stalled"] == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # where a statement can be held up
def test_what_takes_long_to_count_is_kept_for_twenty_times_as_long(app: Flask, engine: sa.Engine) -> None:
    counts = state_of(app).counts
    insert(engine, "a", status="completed")
    with engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE user_tasks IN ACCESS EXCLUSIVE MODE"))
        with_lock = ThreadPoolExecutor(1).submit(counts.summary)
        assert not with_lock.done()
        time.sleep(2 * QUICK_SECONDS)
    with_lock.result()
    insert(engine, "b", status="completed")
    insert(engine, "c")

    summary = counts.summary()

    assert summary.counts["completed"] == 1
    assert summary.counts["pending"] == 1
