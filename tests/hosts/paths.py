"""A host with a table of its own: whoever posts a learning path gets a task that fills it with cards."""

from __future__ import annotations

from typing import Any

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.engine import make_url

from taskapi import Identity, TaskAPI


class Host:
    """The parts of one such application."""

    def __init__(self, url: str, **config: Any) -> None:
        self.app = Flask("paths")
        self.app.config.update(SQLALCHEMY_DATABASE_URI=make_url(url), SECRET_KEY="secret", **config)
        self.db = SQLAlchemy(self.app)
        self.tasks = TaskAPI(self.app, db=self.db)
        self.tasks.identity(lambda: Identity(1))
        db = self.db

        class Path(db.Model):  # type: ignore[name-defined,misc]
            """A learning path."""

            id = db.Column(db.Integer, primary_key=True)
            title = db.Column(db.String(80), nullable=False)

        self.Path = Path

    def add_path(self, title: str = "Rust") -> int:
        """A learning path, flushed and not committed; its id."""
        path = self.Path(title=title)
        self.db.session.add(path)
        self.db.session.flush()
        return int(path.id)

    def serve(self, generate: Any) -> None:
        """Answer `POST /paths` by a path and a task of the same transaction, and the task's id."""

        def create() -> tuple[dict[str, Any], int]:
            path = self.add_path(request.args.get("title", "Rust"))
            task_id = self.tasks.create(user_id=1, learning_path_id=path, on_commit=generate)
            self.db.session.commit()
            return {"task_id": task_id}, 202

        self.app.post("/paths")(create)
