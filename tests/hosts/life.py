"""How the tests bring a host to life: its tables and users made anew, and nothing of it left open."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

from flask import Flask
from flask.testing import FlaskClient
from harness import Server

from taskapi.state import KEY, state_of

# In the order of their ids, from 1 on; of the board they are the teams.
PEOPLE = ("ada", "bob", "cleo")
SECONDS = 10
TEAMS = ("red", "red", "blue")


def with_driver(url: str) -> str:
    """A test's database as SQLAlchemy opens it."""
    return url.replace("postgresql://", "postgresql+psycopg://")


@contextlib.contextmanager
def alive(module: ModuleType, url: str, *, with_tasks: bool = True, **config: Any) -> Iterator[Flask]:
    """A host with a database of Flask-SQLAlchemy's, its three users in it; errors are answered as in production."""
    config = {"SQLALCHEMY_DATABASE_URI": with_driver(url), "TESTING": True, "PROPAGATE_EXCEPTIONS": False, **config}
    app: Flask = module.create_app(config, with_tasks=with_tasks)
    with app.app_context():
        module.db.drop_all()
        module.db.create_all()
        module.db.session.add_all(people(module))
        module.db.session.commit()
    yield app
    if KEY in app.extensions:
        state_of_host(app).close()
    with app.app_context():
        module.db.session.remove()
        module.db.engine.dispose()


def state_of_host(app: Flask) -> Any:
    """Its parts, which may only be made now."""
    with app.app_context():
        return state_of(app)


def people(module: ModuleType) -> list[Any]:
    """The users: of the JSON API by name, the third one of its staff; of the board by team."""
    if hasattr(module.User, "team"):
        return [module.User(id=number, team=team) for number, team in enumerate(TEAMS, 1)]
    return [module.User(id=number, name=name, is_staff=number == 3) for number, name in enumerate(PEOPLE, 1)]


def move(app: Flask, module: ModuleType, user: int, team: str) -> None:
    """Put somebody into another team."""
    with app.app_context():
        module.db.session.execute(module.db.update(module.User).filter_by(id=user).values(team=team))
        module.db.session.commit()


def forgery_token(page: str) -> str:
    """The token against forgery in a form."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


def sign_in(client: FlaskClient, user: int) -> FlaskClient:
    """Sign in at the board as a browser does."""
    token = forgery_token(client.get("/login").text)
    assert client.post("/login", data={"csrf_token": token, "user": user}).status_code == 302
    return client


# Over a real server.


def post(server: Server, path: str, body: str, **headers: str) -> Any:
    """The response to a POST, read whole."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    found = (response.status, response.headers, response.read())
    connection.close()
    return found


def token(server: Server, name: str) -> dict[str, Any]:
    """Sign in at a conduit; the header."""
    _, _, body = post(server, "/users/login", json.dumps({"name": name}), Content_Type="application/json")
    return {"Authorization": f"Token {json.loads(body)['token']}"}


def session(server: Server, user: int, mount: str = "") -> dict[str, Any]:
    """Sign in at a board; the cookie."""
    form = server.get(f"{mount}/login")
    cookie = form.headers["Set-Cookie"].split(";")[0]
    body = urlencode({"csrf_token": forgery_token(form.body.decode()), "user": user})
    kind = "application/x-www-form-urlencoded"
    status, headers, _ = post(server, f"{mount}/login", body, Content_Type=kind, Cookie=cookie)
    assert status == 302
    return {"Cookie": headers["Set-Cookie"].split(";")[0]}
