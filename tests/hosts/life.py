"""How the tests bring a host to life: its tables and users made anew, and nothing of it left open."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from taskapi.state import KEY, state_of

# In the order of their ids, from 1 on; of the board they are the teams.
PEOPLE = ("ada", "bob", "cleo")
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
