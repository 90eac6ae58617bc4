"""A worker's run is part of the trace of the request that made its task."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import sqlalchemy as sa
from harness import ROOT, environment, row

from taskapi.progress import Progress

pytest.importorskip("opentelemetry.sdk", reason="the tests of traces need the package opentelemetry-sdk")

# In a process of its own, since who has imported OpenTelemetry traces for good.
BEGIN = """
    import json
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("application")

    def show():
        for span in spans.get_finished_spans():
            parent = span.parent.span_id if span.parent else None
            events = [event.attributes["exception.type"] for event in span.events]
            print(json.dumps([span.name, span.context.span_id, parent, span.context.trace_id, events]))
"""


def spans(code: str, database_url: str) -> dict[str, list[Any]]:
    """What a program's spans say, by name: its id, its parent's, its trace's, and the exceptions in it."""
    program = textwrap.dedent(BEGIN) + textwrap.dedent(code) + "\nshow()\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(database_url), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {name: told for name, *told in map(json.loads, done.stdout.splitlines())}


def test_a_run_and_what_it_does_are_part_of_the_trace_of_the_request(database_url: str) -> None:
    found = spans(
        """
        from taskapi.progress import Progress
        progress = Progress()
        with tracer.start_as_current_span("POST /decks"):
            task_id = progress.create(user_id=1, kind="deck")
        with progress.run(task_id):
            with tracer.start_as_current_span("make a card"):
                pass
        """,
        database_url,
    )

    request, run, card = found["POST /decks"], found["run deck"], found["make a card"]
    assert run[1] == request[0]
    assert card[1] == run[0]
    assert {request[2]} == {run[2], card[2]}


def test_a_coroutine_and_a_transaction_of_the_applications_own_are_so_too(database_url: str) -> None:
    found = spans(
        """
        import asyncio
        from flask import Flask
        from flask_sqlalchemy import SQLAlchemy
        from taskapi import TaskAPI
        from taskapi.progress import Progress
        import os

        app = Flask(__name__)
        url = os.environ["TASKAPI_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
        app.config.update(SECRET_KEY="k" * 40, SQLALCHEMY_DATABASE_URI=url)
        db = SQLAlchemy(app)
        tasks = TaskAPI(app, db=db)
        with app.app_context(), tracer.start_as_current_span("POST /decks"):
            task_id = tasks.create(user_id=1, kind="deck")
            db.session.commit()

        async def work():
            async with Progress().arun(task_id):
                with tracer.start_as_current_span("make a card"):
                    await asyncio.sleep(0)

        asyncio.run(work())
        """,
        database_url,
    )

    assert found["run deck"][1] == found["POST /decks"][0]
    assert found["make a card"][1] == found["run deck"][0]


def test_a_run_that_fails_says_by_what(database_url: str) -> None:
    found = spans(
        """
        from taskapi.progress import Progress
        try:
            with Progress().task(user_id=1, kind="deck"):
                raise KeyError("title")
        except KeyError:
            pass
        """,
        database_url,
    )

    assert found["run deck"][3] == ["KeyError"]


@pytest.mark.parametrize("junk", [None, "", "not a trace", "00-" + "0" * 32 + "-" + "0" * 16 + "-00"])
def test_what_names_no_trace_begins_one(progress: Progress, engine: sa.Engine, database_url: str, junk: str) -> None:
    task_id = progress.create(user_id=1, kind="deck")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE user_tasks SET traceparent = :junk"), {"junk": junk})

    found = spans(f"from taskapi.progress import Progress\nwith Progress().run({task_id!r}): pass", database_url)

    assert found["run deck"][1] is None


def test_where_nobody_traces_nothing_is_kept(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)

    assert row(engine, task_id)["traceparent"] is None
