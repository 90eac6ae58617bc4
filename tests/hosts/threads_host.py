"""A host with users in its own database, read through `db.session` for whoever asks.

`HOST_DATABASE` is an SQLAlchemy URL. A request says who it is from by the header `X-User`, a page in the browser by
the query.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Flask, g, render_template_string, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.middleware.proxy_fix import ProxyFix

from taskapi import Identity, TaskAPI

app = Flask(__name__)
app.config.update(
    SECRET_KEY="the key of a host that only tests run",
    SQLALCHEMY_DATABASE_URI=os.environ["HOST_DATABASE"],
    SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 5, "max_overflow": 0}
    if "postgresql" in os.environ["HOST_DATABASE"]
    else {},
    TASKAPI_HEALTH=True,
)
db = SQLAlchemy(app)
tasks = TaskAPI(app, db=db)

PAGE = """<!doctype html><title>Host</title>
{% for task in tasks %}{{ task_progress(task, label=task) }}{% endfor %}"""


class Member(db.Model):  # type: ignore[name-defined,misc]
    """Somebody who may sign in."""

    __tablename__ = "threads_host_members"
    id: Mapped[int] = mapped_column(primary_key=True)
    team: Mapped[str]


@app.before_request
def load_user() -> None:
    number = request.headers.get("X-User") or request.args.get("user") or request.cookies.get("user")
    g.member = db.session.get(Member, int(number)) if number else None


@tasks.identity
def identity() -> Identity | None:
    return Identity(g.member.id) if g.member else None


@tasks.may_see
def is_of_a_team(_identity: Identity, _task: object) -> bool:
    return bool(g.member.team == "support")


@app.get("/")
def page() -> str:
    return "hello"


@app.get("/bars")
def bars() -> tuple[str, dict[str, str]]:
    shown = render_template_string(PAGE, tasks=request.args["tasks"].split(","))
    return shown, {"Set-Cookie": f"user={request.args['user']}"}


class Watched:
    """What an error tracker puts around an application: every exception is written down, and goes on."""

    def __init__(self, wrapped: Callable[..., Iterable[bytes]]) -> None:
        self.wrapped = wrapped

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return WatchedBody(self.wrapped(environ, start_response))


class WatchedBody:
    """A response's body that is iterated under watch."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self.body = body

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self.body
        except GeneratorExit:
            raise
        except BaseException as error:
            print(f"captured: {error!r}", flush=True)
            raise

    def close(self) -> None:
        if hasattr(self.body, "close"):
            self.body.close()


wrapped = Watched(ProxyFix(app))  # what gunicorn is told to serve
