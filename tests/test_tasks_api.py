"""The three JSON endpoints, through Flask's test client on both databases."""

from __future__ import annotations

import datetime as dt
import json
import re
import select
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from harness import KEY, Answer, Server, insert, make_token, row, update, wait_until
from werkzeug.test import TestResponse

from taskapi import create_app
from taskapi.database.schema import engine_of
from taskapi.state import state_of

# In the order of `task-status-api.md`.
FIELDS = [
    "task_id",
    "user_id",
    "learning_path_id",
    "status",
    "stage",
    "progress",
    "total_items",
    "completed_items",
    "result_message",
    "error_details",
    "started_at",
    "ended_at",
    "id",
    "created_at",
    "updated_at",
]
MINE = "/api/tasks/users/me"
PATH = "/api/tasks/learning-paths/"
BIGINT_MAX = 2**63 - 1


def bearer(user: int = 1, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {make_token(user, **claims)}"}


def status_of(task_id: str) -> str:
    return f"/api/tasks/{quote(task_id, safe='')}/status"


def assert_problem(response: TestResponse, status: int) -> dict[str, Any]:
    """The response is a problem (RFC 9457) that tells nothing of our insides; its members."""
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert list(response.get_json()) == ["type", "title", "status", "detail"]
    assert response.get_json()["status"] == status
    assert not re.search(r"Traceback|SELECT|sqlite|psycopg|sqlalchemy|user_tasks|File \"", response.text, re.IGNORECASE)
    problem: dict[str, Any] = response.get_json()
    return problem


# One task.


def test_a_task_is_the_fifteen_fields_of_the_specification_in_its_order(client: FlaskClient, engine: sa.Engine) -> None:
    values = {
        "learning_path_id": 456,
        "status": "running",
        "stage": "generating_cards",
        "progress": 45,
        "total_items": 50,
        "completed_items": 23,
    }
    number = insert(engine, "full_path_gen_123", 123, **values)

    response = client.get(status_of("full_path_gen_123"), headers=bearer(123))

    assert (response.status_code, response.content_type) == (200, "application/json")
    task = json.loads(response.data, parse_float=lambda text: ("float", text))
    moments = {name: task.pop(name) for name in ("started_at", "created_at", "updated_at")}
    assert list(response.get_json()) == FIELDS
    assert task == {
        "task_id": "full_path_gen_123",
        "user_id": 123,
        **values,
        "progress": ("float", "45.0"),
        "result_message": None,
        "error_details": None,
        "ended_at": None,
        "id": number,
    }
    for moment in moments.values():
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", moment)
        assert abs(dt.datetime.fromisoformat(moment) - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=5)


def test_a_task_that_was_only_inserted_has_the_defaults(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a")

    task = client.get(status_of("a"), headers=bearer()).get_json()

    kept = {name: value for name, value in task.items() if name not in ("id", "created_at", "updated_at")}
    assert kept == dict.fromkeys(FIELDS[:12]) | {
        "task_id": "a",
        "user_id": 1,
        "status": "pending",
        "progress": 0.0,
        "completed_items": 0,
    }


def test_a_moment_written_with_an_offset_is_shown_in_utc(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", created_at="2023-10-27T12:00:00.5+02:00", started_at="2023-10-27 10:05:00")

    task = client.get(status_of("a"), headers=bearer()).get_json()

    assert dt.datetime.fromisoformat(task["created_at"]) == dt.datetime(2023, 10, 27, 10, 0, 0, 500_000, dt.UTC)
    assert dt.datetime.fromisoformat(task["started_at"]) == dt.datetime(2023, 10, 27, 10, 5, 0, 0, dt.UTC)
    assert task["created_at"].endswith("Z")
    assert task["started_at"].endswith("Z")


@pytest.mark.parametrize(
    "task_id",
    [
        "with some  spaces",
        " ",
        "ünïcödé 任务 🂡",
        "100%",
        "a%2Fb",
        "what?",
        "a#b",
        "a;b&c=d+e",
        'o\'Neill "x"',
        "<script>",
        "line\nbreak\ttab",
        "..",
        "{}",
        "users",
        "me",
        "a" * 255,
        "任" * 255,
        "'; DROP TABLE user_tasks; --",
        ":task_id %(task_id)s %s ?",
    ],
)
def test_any_legal_task_id_can_be_asked_for(client: FlaskClient, engine: sa.Engine, task_id: str) -> None:
    insert(engine, task_id)

    response = client.get(status_of(task_id), headers=bearer())

    assert response.status_code == 200
    assert response.get_json()["task_id"] == task_id


@pytest.mark.parametrize(
    "path",
    [
        "/api/tasks/nothing/status",
        f"/api/tasks/{'a' * 256}/status",
        f"/api/tasks/{'a' * 5000}/status",
        "/api/tasks/a%00/status",
        "/api/tasks/%00/status",
        "/api/tasks/%FF%FE/status",
        "/api/tasks/a%20/status",
        "/api/tasks/A/status",
        "/api/tasks/a%2Fb/status",
        *(PATH + quote(number, safe="")
          for number in ("1", "-1", str(BIGINT_MAX), str(BIGINT_MAX + 1), "9" * 5000, "²", "\uff11", "٣", "1_0", "1.5",
                         "+5", " 5", "5\n", "5\0", "1e1", "0x5", "nan", "abc", "'")),
    ],
)  # fmt: skip
def test_an_id_that_does_not_or_cannot_exist_is_a_404(client: FlaskClient, engine: sa.Engine, path: str) -> None:
    insert(engine, "a", learning_path_id=5)
    insert(engine, "b", learning_path_id=10)

    response = client.get(path, headers=bearer())

    assert_problem(response, 404)


# Whose task.


def test_a_task_is_shown_to_its_owner_and_to_administrators_only(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", 1, learning_path_id=7)

    for path in (status_of("a"), PATH + "7"):
        assert client.get(path, headers=bearer(1)).get_json()["task_id"] == "a"
        assert client.get(path, headers=bearer(2, is_admin=True)).get_json()["task_id"] == "a"
        assert_problem(client.get(path, headers=bearer(2)), 403)
        assert_problem(client.get(path), 401)


def test_nobody_learns_without_a_token_which_tasks_exist(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", learning_path_id=7)

    answers = [client.get(path) for path in (status_of("a"), status_of("b"), PATH + "7", PATH + "8", PATH + "x")]

    assert {(answer.status_code, answer.data) for answer in answers} == {(401, answers[0].data)}


def test_an_administrators_own_list_holds_only_their_own_tasks(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "theirs", 1)
    insert(engine, "mine", 2)

    tasks = client.get(MINE, headers=bearer(2, is_admin=True)).get_json()

    assert [task["task_id"] for task in tasks] == ["mine"]


def test_the_largest_and_the_smallest_user_id_work(client: FlaskClient, engine: sa.Engine) -> None:
    for user in (0, BIGINT_MAX):
        insert(engine, f"of {user}", user)

        assert client.get(status_of(f"of {user}"), headers=bearer(user)).get_json()["user_id"] == user
        assert len(client.get(MINE, headers=bearer(user)).get_json()) == 1


# The latest task of a learning path.


def test_the_latest_task_of_a_learning_path_is_the_one_created_last(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "newest", learning_path_id=7, created_at="2026-03-03T00:00:00Z")
    insert(engine, "oldest", learning_path_id=7, created_at="2026-01-01T00:00:00Z")
    insert(engine, "middle", learning_path_id=7, created_at="2026-02-02T00:00:00Z")
    insert(engine, "another path's", learning_path_id=8)
    insert(engine, "no path's")

    response = client.get(PATH + "7", headers=bearer())

    assert response.get_json()["task_id"] == "newest"
    assert list(response.get_json()) == FIELDS
    assert response.headers["ETag"] == f'W/"{row(engine, "newest")["revision"]}"'


def test_of_tasks_created_at_once_the_one_inserted_last_is_the_latest(client: FlaskClient, engine: sa.Engine) -> None:
    for name in ("a", "b", "c"):
        insert(engine, name, learning_path_id=7, created_at="2026-01-01T00:00:00Z")
    update(engine, "a", progress=50)

    assert client.get(PATH + "7", headers=bearer()).get_json()["task_id"] == "c"
    assert [task["task_id"] for task in client.get(MINE, headers=bearer()).get_json()] == ["c", "b", "a"]


def test_of_a_shared_learning_path_the_latest_decides_who_may_see_it(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "mine", 1, learning_path_id=7, created_at="2026-01-01T00:00:00Z")
    insert(engine, "theirs", 2, learning_path_id=7, created_at="2026-01-02T00:00:00Z")

    assert_problem(client.get(PATH + "7", headers=bearer(1)), 403)
    assert client.get(PATH + "7", headers=bearer(2)).get_json()["task_id"] == "theirs"


def test_the_largest_learning_path_id_works(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", learning_path_id=BIGINT_MAX)

    assert client.get(f"{PATH}{BIGINT_MAX}", headers=bearer()).get_json()["learning_path_id"] == BIGINT_MAX


# The caller's tasks.


def insert_many(engine: sa.Engine, count: int, user: int = 1) -> list[str]:
    """Tasks created a minute apart; their ids, newest first."""
    names = [f"task {number:03}" for number in range(count)]
    rows = [
        {
            "name": name,
            "user": user,
            "at": dt.datetime(2026, 1, 1, number // 60, number % 60, tzinfo=dt.UTC).isoformat(),
        }
        for number, name in enumerate(names)
    ]
    statement = "INSERT INTO user_tasks (task_id, user_id, created_at) VALUES (:name, :user, CAST(:at AS {}))"
    kind = "text" if engine.dialect.name == "sqlite" else "timestamptz"
    with engine.begin() as connection:
        connection.execute(sa.text(statement.format(kind)), rows)
    return names[::-1]


def names(response: TestResponse) -> list[str]:
    assert response.status_code == 200, response.text
    return [task["task_id"] for task in response.get_json()]


def links(response: TestResponse) -> dict[str, str]:
    """The web links of a response by their relation (RFC 8288)."""
    found = re.findall(r'<([^>]*)>; rel="([a-z]+)"', response.headers.get("Link", ""))
    return {relation: url for url, relation in found}


def test_without_tasks_the_list_is_empty(client: FlaskClient) -> None:
    response = client.get(MINE, headers=bearer())

    assert (response.status_code, response.data) == (200, b"[]")
    assert "Link" not in response.headers


def test_the_list_is_twenty_tasks_newest_first(client: FlaskClient, engine: sa.Engine) -> None:
    newest_first = insert_many(engine, 25)
    insert(engine, "somebody else's", 2)

    response = client.get(MINE, headers=bearer())

    assert names(response) == newest_first[:20]
    assert all(list(task) == FIELDS for task in response.get_json())
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert response.headers["Vary"] == "Authorization, Cookie"


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("skip=5", 5, 25),
        ("limit=3", 0, 3),
        ("skip=5&limit=3", 5, 8),
        ("limit=100", 0, 100),
        ("limit=101", 0, 100),
        ("limit=100000000000000000000000000000000", 0, 100),
        ("skip=119", 119, 120),
        ("skip=120", 120, 120),
        (f"skip={BIGINT_MAX}", 120, 120),
        ("skip=007&limit=001", 7, 8),
        ("skip=0&limit=1&other=x", 0, 1),
    ],
)
def test_skip_and_limit_cut_the_list(client: FlaskClient, engine: sa.Engine, query: str, start: int, end: int) -> None:
    newest_first = insert_many(engine, 120)

    assert names(client.get(f"{MINE}?{query}", headers=bearer())) == newest_first[start:end]


@pytest.mark.parametrize("name", ["skip", "limit"])
@pytest.mark.parametrize(
    "value",
    ["", "-1", "+5", "1_0", "²", "٣", "\uff11", "1.5", "1e2", "abc", " 1", "1 ", "1\n", "\0", "1\0", "nan", "inf",
     "0x10", "None", "9" * 5000, "1,2", "'", "1;DROP TABLE user_tasks"],
)  # fmt: skip
def test_a_bad_skip_or_limit_is_a_400_that_names_it(client: FlaskClient, name: str, value: str) -> None:
    response = client.get(f"{MINE}?{name}={quote(value)}", headers=bearer())

    assert name in assert_problem(response, 400)["detail"]


@pytest.mark.parametrize("query", [f"skip={BIGINT_MAX + 1}", "skip=99999999999999999999999", "limit=0", "limit=00"])
def test_a_skip_past_64_bits_and_a_limit_of_nothing_are_a_400(client: FlaskClient, query: str) -> None:
    response = client.get(f"{MINE}?{query}", headers=bearer())

    assert query.split("=")[0] in assert_problem(response, 400)["detail"]


@pytest.mark.parametrize("limit", [1, 4, 5, 20])
def test_following_the_links_walks_every_page_there_and_back(
    client: FlaskClient, engine: sa.Engine, limit: int
) -> None:
    newest_first = insert_many(engine, 20)
    there, back = [], []

    following: str | None = f"{MINE}?limit={limit}"
    while following:
        response = client.get(following, headers=bearer())
        there.append(names(response))
        following, last = links(response).get("next"), following
    preceding: str | None = last
    while preceding:
        response = client.get(preceding, headers=bearer())
        back.append(names(response))
        preceding = links(response).get("prev")

    assert [name for page in there for name in page] == newest_first
    assert back == there[::-1]


def test_a_page_names_only_the_pages_there_are(client: FlaskClient, engine: sa.Engine) -> None:
    insert_many(engine, 10)

    relations = {
        query: sorted(links(client.get(f"{MINE}?{query}", headers=bearer())))
        for query in ("limit=10", "limit=9", "skip=1&limit=9", "skip=1&limit=8")
    }

    assert relations == {
        "limit=10": [],
        "limit=9": ["next"],
        "skip=1&limit=9": ["prev"],
        "skip=1&limit=8": ["next", "prev"],
    }


# Conditional requests.


def test_the_etag_is_the_revision_and_changes_with_the_row(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a")

    before = client.get(status_of("a"), headers=bearer()).headers["ETag"]
    update(engine, "a", progress=1)
    after = client.get(status_of("a"), headers=bearer()).headers["ETag"]

    assert re.fullmatch(r'W/"\d+"', before)
    assert after == f'W/"{row(engine, "a")["revision"]}"'
    assert before != after


@pytest.mark.parametrize("form", ['W/"{}"', '"{}"', 'W/"x", W/"{}"', '"x" , "{}"', "*"])
def test_a_client_that_has_the_revision_gets_a_304_with_the_same_headers(
    client: FlaskClient, engine: sa.Engine, form: str
) -> None:
    insert(engine, "a", learning_path_id=7)
    matching = {"If-None-Match": form.format(row(engine, "a")["revision"])}

    for path in (status_of("a"), PATH + "7"):
        full = client.get(path, headers=bearer())
        response = client.get(path, headers=bearer() | matching)

        assert (response.status_code, response.data) == (304, b"")
        assert "Content-Type" not in response.headers
        for name in ("ETag", "Cache-Control", "Vary", "Retry-After"):
            assert response.headers[name] == full.headers[name]


@pytest.mark.parametrize("tag", ['W/"0"', '"x"', "junk", "", '"', "W/", ",,,", '"*"', "é", '"{}', "W/{}x", '"a{}"'])
def test_a_tag_that_is_not_the_revision_gets_the_task(client: FlaskClient, engine: sa.Engine, tag: str) -> None:
    insert(engine, "a")
    sent = {"If-None-Match": tag.replace("{}", "1" + str(row(engine, "a")["revision"]))}

    response = client.get(status_of("a"), headers=bearer() | sent)

    assert response.status_code == 200


@pytest.mark.parametrize("tag", ["right", "*"])
@pytest.mark.parametrize("prefer", ["", "wait=0"])
def test_a_right_tag_tells_nothing_to_who_may_not_see_the_task(
    client: FlaskClient, engine: sa.Engine, tag: str, prefer: str
) -> None:
    insert(engine, "a", learning_path_id=7)
    value = f'W/"{row(engine, "a")["revision"]}"' if tag == "right" else tag
    sent = {"If-None-Match": value, "Prefer": prefer}

    for path in (status_of("a"), PATH + "7"):
        assert_problem(client.get(path, headers=bearer(2) | sent), 403)
        assert_problem(client.get(path, headers=sent), 401)


@pytest.mark.parametrize("status", ["pending", "queued", "starting", "running", "completed", "failed", "timeout"])
def test_a_client_is_told_when_to_ask_again_until_the_task_is_final(
    client: FlaskClient, engine: sa.Engine, status: str
) -> None:
    insert(engine, "a", status=status)

    response = client.get(status_of("a"), headers=bearer())

    assert response.headers["Cache-Control"] == "private, no-cache"
    assert response.headers["Vary"] == "Authorization, Cookie"
    if status in ("completed", "failed", "timeout"):
        assert "Retry-After" not in response.headers
    else:
        assert int(response.headers["Retry-After"]) >= 1


# Methods and routes.


@pytest.mark.parametrize("path", [status_of("a"), MINE, PATH + "7"])
def test_head_answers_with_the_headers_of_get_and_no_body(client: FlaskClient, engine: sa.Engine, path: str) -> None:
    insert(engine, "a", learning_path_id=7)

    full, head = client.get(path, headers=bearer()), client.head(path, headers=bearer())

    assert (head.status_code, head.data) == (200, b"")
    assert dict(head.headers) == dict(full.headers)
    assert client.head(path).status_code == 401


@pytest.mark.parametrize("path", [status_of("a"), MINE, PATH + "7"])
def test_options_tells_the_methods_to_anybody(client: FlaskClient, path: str) -> None:
    response = client.options(path)

    assert response.status_code == 200
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
@pytest.mark.parametrize("path", [status_of("a"), MINE, PATH + "7", "/healthz"])
def test_another_method_is_a_405_that_names_the_right_ones(client: FlaskClient, path: str, method: str) -> None:
    response = client.open(path, method=method, headers=bearer(), data=b"x")

    assert_problem(response, 405)
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("path", ["/api", "/api/tasks/", "/api/tasks/a", "/api/tasks/users/me/", "/nothing", "/%00"])
def test_an_unknown_route_is_a_404_problem(client: FlaskClient, path: str) -> None:
    assert_problem(client.get(path, headers=bearer()), 404)


def test_every_answer_forbids_sniffing(client: FlaskClient) -> None:
    for path in (MINE, "/nothing", "/healthz"):
        assert client.get(path).headers["X-Content-Type-Options"] == "nosniff"


# Prefer: wait (RFC 7240).


def held(server: Server, **headers: str) -> tuple[Answer, float]:
    """The answer to a request for task "a", and how many seconds it was held."""
    started = time.monotonic()
    answer = server.get(status_of("a"), 1, **headers)
    return answer, time.monotonic() - started


def tag_of(engine: sa.Engine, task_id: str) -> str:
    return f'W/"{row(engine, task_id)["revision"]}"'


class Held:
    """A request for task "a", sent and not yet answered."""

    def __init__(self, server: Server, tag: str, seconds: int) -> None:
        self.sent_at = time.monotonic()
        self.connection = HTTPConnection("127.0.0.1", server.port, timeout=40)
        headers = {"If-None-Match": tag, "Prefer": f"wait={seconds}"}
        self.connection.request("GET", status_of("a"), headers=bearer() | headers)

    def answer(self) -> tuple[Answer, float]:
        """The answer, and how many seconds it was held."""
        response = self.connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        self.connection.close()
        return answer, time.monotonic() - self.sent_at


def test_a_held_request_is_answered_as_soon_as_the_task_changes(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")
    request = Held(server, tag_of(engine, "a"), 20)
    assert not select.select([request.connection.sock], [], [], 0.3)[0], "it was not held"

    update(engine, "a", progress=40)
    answer, seconds = request.answer()

    assert (answer.status, answer.json["progress"]) == (200, 40)
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert answer.headers["ETag"] == tag_of(engine, "a")
    assert seconds < 5


def test_a_held_request_is_a_304_once_the_time_has_passed(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")

    answer, seconds = held(server, If_None_Match=tag_of(engine, "a"), Prefer="wait=1")

    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert answer.headers["Retry-After"]
    assert 1 <= seconds < 5


@pytest.mark.slow
def test_a_request_is_held_for_longer_than_a_stream_may_be_silent(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")

    answer, seconds = held(server, If_None_Match=tag_of(engine, "a"), Prefer="wait=17")

    assert answer.status == 304
    assert 17 <= seconds < 20


def test_held_requests_hold_no_database_connection(start_server: Callable[..., Server], engine: sa.Engine) -> None:
    server = start_server(MAX_WAITS_PER_USER=50)
    insert(engine, "a")
    tag = tag_of(engine, "a")

    requests = [Held(server, tag, 20) for _ in range(40)]  # more than the pools hold
    polls = [held(server) for _ in range(20)]
    update(engine, "a", status="completed")
    answers = [request.answer()[0] for request in requests]

    assert {answer.status for answer, _ in polls} == {200}
    assert max(seconds for _, seconds in polls) < 1
    assert {answer.json["status"] for answer in answers} == {"completed"}


@pytest.mark.parametrize(
    ("status", "tag", "prefer"),
    [
        ("completed", "current", "wait=20"),
        ("running", "older", "wait=20"),
        ("running", "none", "wait=20"),
        ("running", "current", "wait=0"),
        ("running", "current", ""),
        ("running", "current", "wait"),
        ("running", "current", "wait="),
        ("running", "current", "wait=-5"),
        ("running", "current", "wait=abc"),
        ("running", "current", "wait=1.5"),
        ("running", "current", "wait=²"),
        ("running", "current", "wait=nan"),
        ("running", "current", "wait=1e9"),
        ("running", "current", "await=20"),
        ("running", "current", "respond-async"),
        ("running", "current", ";,;,="),
    ],
)
def test_a_request_is_not_held_without_a_reason(
    server: Server, engine: sa.Engine, status: str, tag: str, prefer: str
) -> None:
    insert(engine, "a", status=status)
    tags = {"current": {"If_None_Match": tag_of(engine, "a")}, "older": {"If_None_Match": 'W/"0"'}, "none": {}}

    answer, seconds = held(server, Prefer=prefer.encode().decode("latin-1"), **tags[tag])

    assert answer.status == (304 if tag == "current" else 200)
    assert ("Preference-Applied" in answer.headers) is (prefer in ("wait=0", "wait=20"))
    assert seconds < 5


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=7", "wait=7"),
        ("WAIT=7", "wait=7"),
        ("wait = 7", "wait=7"),
        ('wait="7"', "wait=7"),
        ("respond-async, wait=7", "wait=7"),
        ("wait=7; x=y, return=minimal", "wait=7"),
        ("wait=007", "wait=7"),
        ("wait=30", "wait=30"),
        ("wait=31", "wait=30"),
        ("wait=999999999", "wait=30"),
        ("wait=7, wait=8", "wait=7"),
    ],
)
def test_the_wait_that_is_applied_is_told_and_at_most_30_seconds(
    client: FlaskClient, engine: sa.Engine, prefer: str, applied: str
) -> None:
    insert(engine, "a")

    response = client.get(status_of("a"), headers=bearer() | {"Prefer": prefer})

    assert response.status_code == 200
    assert response.headers["Preference-Applied"] == applied


def test_a_request_held_for_a_task_that_is_deleted_meanwhile_is_a_404(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")
    request = Held(server, tag_of(engine, "a"), 1)

    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM user_tasks"))

    assert request.answer()[0].status == 404


# Health.


def test_the_process_is_ready_when_database_and_feed_work(server: Server) -> None:
    assert wait_until(lambda: server.answers("/readyz"))
    assert server.get("/readyz").json == {"status": "ok"}
    assert server.get("/healthz").json == {"status": "ok"}
    assert server.get("/healthz").headers["Cache-Control"] == "no-store"


def test_a_process_whose_feed_has_not_started_is_alive_but_not_ready(client: FlaskClient) -> None:
    assert_problem(client.get("/readyz"), 503)
    assert client.get("/healthz").status_code == 200


@pytest.fixture
def app_without_database() -> Flask:
    return create_app({"DATABASE_URL": "postgresql://nobody:hunter2@127.0.0.1:1/none", "JWT_SECRET_KEY": KEY})


def test_without_a_database_every_answer_is_a_503_but_the_process_lives(app_without_database: Flask) -> None:
    client = app_without_database.test_client()

    for path in (status_of("a"), MINE, PATH + "7", "/readyz"):
        response = client.get(path, headers=bearer())

        assert_problem(response, 503)
        assert int(response.headers["Retry-After"]) > 0
        assert "hunter2" not in response.text
    assert client.get("/healthz").status_code == 200
    assert client.get(MINE).status_code == 401


@pytest.mark.parametrize("path", ["a", "users/me"])
def test_without_a_database_an_event_source_is_asked_to_come_back(app_without_database: Flask, path: str) -> None:
    client, url = app_without_database.test_client(), f"/api/tasks/{path}/events"

    asked = client.get(url, headers={**bearer(), "Accept": "text/event-stream"})
    plain = client.get(url, headers=bearer())

    assert (asked.status_code, asked.mimetype) == (200, "text/event-stream")  # to a browser a 503 is final
    assert re.fullmatch(r'event: bye\nretry: \d{4,5}\ndata: {"reason": "busy"}\n\n', asked.text)
    assert_problem(plain, 503)


@pytest.mark.parametrize("table", ["user_tasks", "user_tasks_schema"])
def test_a_database_without_its_tables_is_not_ready(tmp_path: Path, table: str) -> None:
    app = create_app({"DATABASE_URL": f"sqlite:///{tmp_path}/taskapi.db", "JWT_SECRET_KEY": KEY})
    client, store = app.test_client(), state_of(app).store
    assert client.get("/healthz").status_code == 200  # the first request brings the tables
    with engine_of(store) as engine, engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {table}")

    ready, tasks, alive = client.get("/readyz"), client.get(MINE, headers=bearer()), client.get("/healthz")
    store.close()

    assert_problem(ready, 503)
    assert alive.status_code == 200
    if table == "user_tasks":
        assert_problem(tasks, 503)


# Other origins.


def test_only_the_named_origins_may_read_answers(sqlite_url: str) -> None:
    settings = {"DATABASE_URL": sqlite_url, "JWT_SECRET_KEY": KEY, "CORS_ORIGINS": "https://app.example.com"}
    app = create_app({**settings, "TESTING": True})
    client = app.test_client()

    def allowed(origin: str, method: str = "GET") -> str | None:
        sent = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        return client.open(MINE, method=method, headers=bearer() | sent).headers.get("Access-Control-Allow-Origin")

    try:
        assert allowed("https://app.example.com") == "https://app.example.com"
        assert allowed("https://app.example.com", "OPTIONS") == "https://app.example.com"
        for other in ("https://app.example.com.evil.com", "https://appXexample.com", "http://app.example.com", "null"):
            assert allowed(other) is None
            assert allowed(other, "OPTIONS") is None
    finally:
        state_of(app).store.close()
