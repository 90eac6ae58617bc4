"""A worker reads a database's URL without SQLAlchemy, and to the same end."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import make_url

from taskapi.database import postgresql
from taskapi.database.address import Url

URLS = [
    "sqlite://",
    "sqlite:///tasks.db",
    "sqlite:////var/lib/tasks%20of%20us/100%25.db",
    "sqlite:///file:tasks?mode=memory&cache=shared&uri=true",
    "postgresql://",
    "postgresql:///tasks",
    "postgresql+psycopg://me@db/tasks",
    "postgresql+psycopg://me:p%40ss%2F%3A%25@db:5433/tasks?sslmode=require&options=-csearch_path%3Da,b",
    "postgresql+psycopg2://me:@db/tasks?application_name=a+b%26c",
    "postgresql://me:p@ss@db/tasks",
    "postgresql://me@[::1]:5432/tasks",
    "postgresql://me@/tasks?host=/var/run/postgresql",
    "postgresql://me@/tasks?host=one,two&port=5432,5433",
    "postgresql://me@/tasks?host=one:5432&host=two:5433",
    "postgresql://me@/tasks?host=one:5432",
    "mysql://me:secret@db/tasks",
]


@pytest.mark.parametrize("text", URLS)
def test_a_url_says_what_it_says_to_sqlalchemy(text: str) -> None:
    ours, theirs = Url.of(text), make_url(text)

    assert Url.of(theirs) == ours
    for name in ("drivername", "username", "password", "host", "port", "database"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert dict(ours.query) == dict(theirs.query)
    assert ours.get_backend_name() == theirs.get_backend_name()
    assert (str(ours), repr(ours)) == (str(theirs), repr(theirs))
    assert ours.render_as_string(hide_password=False) == theirs.render_as_string(hide_password=False)


@pytest.mark.parametrize("text", [text for text in URLS if text.startswith("postgresql") and text != "postgresql://"])
def test_psycopg_connects_where_sqlalchemy_would(text: str) -> None:
    dialect: Any = PGDialect_psycopg

    _, theirs = dialect().create_connect_args(make_url(text))

    assert postgresql.libpq_options(Url.of(text)) == theirs


@pytest.mark.parametrize(
    "value", ["", "tasks.db", "//db/tasks", "postgresql://me@db:port/tasks", None, 5, b"sqlite://"]
)
def test_what_is_no_url_is_refused(value: object) -> None:
    with pytest.raises((ValueError, AttributeError)):
        Url.of(value)
