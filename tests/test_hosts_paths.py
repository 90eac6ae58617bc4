"""Wherever an application puts it, every address that is handed out is right."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from flask import Flask, g
from flask.testing import FlaskClient
from harness import insert
from hosts import diary
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response

from taskapi import TaskAPI

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ADA = 1
SWITCHES = {"PAGE": "/", "DOCS": "/docs", "METRICS": "/metrics", "HEALTH": "/healthz"}
Start = Callable[..., Flask]


@pytest.fixture
def start(database_url: str, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start the small application; Ada has three tasks, the newest of a learning path."""
    monkeypatch.setenv("HOST_INSTANCE", str(tmp_path))
    for task_id in ("a", "b", "c"):
        insert(engine, task_id, ADA, status="completed", learning_path_id=456)

    def start(options: dict[str, Any] | None = None, **settings: Any) -> Flask:
        config = {"TESTING": True, "TASKAPI_DATABASE_URL": database_url}
        config |= {f"TASKAPI_{name}": value for name, value in settings.items()}
        app = diary.create_app(config, **(options or {}))
        assert app.test_cli_runner().invoke(args=["init-db"]).exit_code == 0
        return app

    return start


def visitor(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.post("/login/1")
    return client


def by_setting(start: Start) -> tuple[FlaskClient, str]:
    return visitor(start(URL_PREFIX="/work/tasks")), "/work/tasks"


def by_slash(start: Start) -> tuple[FlaskClient, str]:
    return visitor(start(URL_PREFIX="/work/")), "/work"


def by_argument(start: Start) -> tuple[FlaskClient, str]:
    return visitor(start({"url_prefix": "/a/b-c/d.e"}, URL_PREFIX="/overruled")), "/a/b-c/d.e"


def by_default(start: Start) -> tuple[FlaskClient, str]:
    return visitor(start()), "/api/tasks"


def mounted(start: Start) -> tuple[FlaskClient, str]:
    """Below another application, as a WSGI server mounts it."""
    app = start(URL_PREFIX="/progress")
    app.wsgi_app = DispatcherMiddleware(Response("elsewhere", 404), {"/shop": app.wsgi_app})  # type: ignore[method-assign]
    client = app.test_client()
    client.post("/shop/login/1")
    return client, "/shop/progress"


def behind_a_proxy(start: Start) -> tuple[FlaskClient, str]:
    """Behind a proxy that takes a prefix off, and says so."""
    app = start()
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1, x_host=1, x_proto=1)  # type: ignore[method-assign]
    client = visitor(app)
    client.environ_base |= {
        "HTTP_X_FORWARDED_PREFIX": "/shop",
        "HTTP_X_FORWARDED_HOST": "example.com",
        "HTTP_X_FORWARDED_PROTO": "https",
    }
    return client, "/shop/api/tasks"


PLACES = [by_default, by_setting, by_slash, by_argument, mounted, behind_a_proxy]


@pytest.fixture(params=PLACES, ids=lambda place: place.__name__)
def place(request: pytest.FixtureRequest, start: Start) -> tuple[FlaskClient, str]:
    """A client, and where the API is to be found by whoever is outside."""
    found: tuple[FlaskClient, str] = request.param(start)
    return found


def inside(client: FlaskClient, outside: str) -> str:
    """What reaches the application of an address: a proxy takes its prefix off."""
    prefix = client.environ_base.get("HTTP_X_FORWARDED_PREFIX", "")
    assert outside.startswith(prefix + "/"), outside
    return outside.removeprefix(prefix)


def get(client: FlaskClient, outside: str) -> Any:
    return client.get(inside(client, outside), buffered=True)


def test_the_endpoints_are_there(place: tuple[FlaskClient, str]) -> None:
    client, api = place

    paths = ("/a/status", "/users/me", "/learning-paths/456", "/a/events", "/a/forecast", "/static/task-progress.js")
    assert [get(client, api + path).status_code for path in paths] == [200] * 6


def test_a_ticket_names_the_stream_where_it_is(place: tuple[FlaskClient, str]) -> None:
    client, api = place
    nobody = client.application.test_client()
    nobody.environ_base = client.environ_base

    for stream in ("/a/events", "/users/me/events"):
        answer: Any = client.post(inside(client, api + stream))

        url = answer.get_json()["url"]
        assert urlsplit(url).path == api + stream
        assert answer.headers["Location"] == url
        assert nobody.head(inside(client, url)).status_code == 200


def test_a_cancelled_task_says_where_its_status_is(place: tuple[FlaskClient, str], engine: sa.Engine) -> None:
    client, api = place
    insert(engine, "d", ADA)

    answer = client.post(inside(client, f"{api}/d/cancel"))

    assert (answer.status_code, answer.headers["Location"]) == (202, f"{api}/d/status")


@pytest.mark.parametrize("listed", ["/users/me", ""], ids=["mine", "everybody's"])
def test_pages_of_a_list_link_to_one_another(place: tuple[FlaskClient, str], listed: str) -> None:
    client, api = place
    with client.session_transaction(base_url=f"http://localhost{api}") as session:
        session.update(user_id=ADA, is_admin=True)
    url, seen = f"{api}{listed}?limit=1", []

    for _ in range(3):
        answer = get(client, url)
        seen += [task["task_id"] for task in answer.get_json()]
        links = dict(re.findall(r'<([^>]+)>; rel="(\w+)"', answer.headers["Link"]))
        url = {rel: link for link, rel in links.items()}.get("next", "")

    assert (seen, url) == (["c", "b", "a"], "")


def test_the_element_of_a_template_and_its_module_are_where_they_are(place: tuple[FlaskClient, str]) -> None:
    client, api = place
    page = "/shop/bar" if api == "/shop/progress" else "/bar"

    text = client.get(f"{page}?task=a").text

    module, source = re.findall(r'src="([^"]+)"', text)
    assert html.unescape(source) == f"{api}/a"
    assert module == f"{api}/static/task-progress.js"
    assert get(client, module).mimetype == "text/javascript"


def test_the_description_says_where_it_is(start: Start) -> None:
    client = visitor(start(URL_PREFIX="/work", PAGE=True))

    plain = client.get("/work/openapi.json").get_json()
    below = client.get("/work/openapi.json", environ_overrides={"SCRIPT_NAME": "/shop"}).get_json()

    assert (plain["servers"], below["servers"]) == ([{"url": "/"}], [{"url": "/shop"}])
    assert plain["paths"] == below["paths"]
    assert {"/work/", "/work/openapi.json", "/work/users/me", "/work/{task_id}/events"} <= set(plain["paths"])
    assert [path for path in plain["paths"] if not f"{path}/".startswith("/work/")] == []


def test_what_a_service_has_beside_the_api_is_off_in_an_application(start: Start) -> None:
    app = start()

    found = [app.test_client().get(f"/api/tasks{path}").status_code for path in (*SWITCHES.values(), "/openapi.json")]

    assert found == [404] * 5
    assert [app.test_client().get(path).status_code for path in list(SWITCHES.values())[1:]] == [404] * 3


@pytest.mark.parametrize("name", SWITCHES)
def test_each_is_below_the_prefix_if_it_is_wanted(start: Start, name: str) -> None:
    client = start(URL_PREFIX="/work", **{name: "1"}).test_client()

    found = {path for path in SWITCHES.values() if client.get(f"/work{path}").status_code == 200}

    assert found == {SWITCHES[name]}
    assert client.get(SWITCHES[name]).status_code in (200, 404)


def test_the_page_and_the_applications_own_may_be_named_the_same(start: Start) -> None:
    client = start(PAGE=True).test_client()

    assert "<title>Diary</title>" in client.get("/").text
    assert "<title>Tasks</title>" in client.get("/api/tasks/").text


@pytest.mark.parametrize("name", ["PAGE", "DOCS"])
def test_whatever_a_page_of_ours_asks_for_is_there(start: Start, name: str) -> None:
    client = start(URL_PREFIX="/work", **{name: True}).test_client()

    page = client.get("/work" + SWITCHES[name]).text

    wanted = [url for url in re.findall(r'(?:src|href|data-url)="([^"]+)"', page) if not url.startswith(("data:", "#"))]
    assert len(wanted) > 3
    assert [url for url in wanted if client.get(url, buffered=True).status_code != 200] == []


def test_without_the_page_the_description_knows_no_page(start: Start) -> None:
    described = start(DOCS=True).test_client().get("/api/tasks/openapi.json").get_json()

    assert "/api/tasks/docs" in described["paths"]
    assert {"/api/tasks/", "/api/tasks/metrics", "/api/tasks/healthz"} & set(described["paths"]) == set()


def test_addresses_stay_right_where_the_application_adds_to_all_of_them(start: Start) -> None:
    app = start()

    @app.url_defaults
    def add_language(_endpoint: str, values: dict[str, Any]) -> None:
        values.setdefault("lang", g.get("lang", "en"))

    client = visitor(app)

    ticket: Any = client.post("/api/tasks/a/events").get_json()
    source = re.findall(r'src="([^"]+)"', client.get("/bar?task=a").text)[1]
    assert app.test_client().get(ticket["url"]).status_code == 200
    assert source == "/api/tasks/a"


def test_one_object_serves_several_applications(database_url: str, tmp_path: Path) -> None:
    tasks = TaskAPI(url_prefix="/mine")
    tasks.identity(diary.who)
    apps = [Flask(name, instance_path=str(tmp_path)) for name in ("one", "two")]
    for app in apps:
        app.config.update(TESTING=True, SECRET_KEY="x", TASKAPI_DATABASE_URL=database_url)
    tasks.init_app(apps[0])
    tasks.init_app(apps[1], url_prefix="/theirs")

    found = [[app.test_client().get(f"/{where}/users/me").status_code for where in ("mine", "theirs")] for app in apps]

    assert found == [[401, 404], [404, 401]]
