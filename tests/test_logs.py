"""The log as JSON, a line each, for those who collect it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from harness import Server, insert, wait_until

from taskapi.logs import JsonFormatter

Start = Callable[..., Server]

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def lines(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def test_every_line_is_an_object_and_tells_its_request(start_server: Start, engine: sa.Engine) -> None:
    server = start_server("--access-logfile", "-", variables={"TASKAPI_LOG_FORMAT": "json"})
    insert(engine, "a")
    ticket = server.request("POST", "/api/tasks/a/events", 1).json["url"]

    server.get("/api/tasks/a/status", 1, X_Request_ID="r1", traceparent=TRACE)
    server.stream(ticket, None).next()
    server.stop()

    found = lines(server)
    [polled] = [line for line in found if line.get("request_id") == "r1"]
    assert polled.items() >= {
        "level": "INFO", "logger": "gunicorn.access", "message": "GET /api/tasks/a/status 200", "method": "GET",
        "path": "/api/tasks/a/status", "status": "200", "traceparent": TRACE,
    }.items()  # fmt: skip
    assert {line["logger"] for line in found} >= {"gunicorn.error", "taskapi.stream.feed"}
    assert all(line["timestamp"].endswith("+00:00") for line in found)
    assert not [line for line in found if "not a setting" in line["message"]]
    assert ticket.partition("ticket=")[2][:20] not in server.log.read_text()


def test_what_goes_wrong_in_a_request_tells_which_one(start_server: Start, engine: sa.Engine) -> None:
    server = start_server(variables={"TASKAPI_LOG_FORMAT": "json"})
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE user_tasks RENAME TO elsewhere")

    try:
        server.get("/api/tasks/a/status", 1, X_Request_ID="r2")
        wait_until(lambda: any(line.get("request_id") == "r2" for line in lines(server)))
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO user_tasks")


def test_another_format_is_no_start(start_server: Start) -> None:
    server = start_server(wait=False, variables={"TASKAPI_LOG_FORMAT": "xml"})

    assert server.process.wait(20) != 0
    assert "TASKAPI_LOG_FORMAT must be text or json." in server.log.read_text()


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("said", ["taskapi\udcff.db", 2**70])
def test_what_json_cannot_hold_is_logged_as_text(said: Any) -> None:
    record = logging.makeLogRecord({"msg": "no file %s", "args": (said,), "process": 7, "given": said})

    [line] = JsonFormatter().format(record).splitlines()

    found = json.loads(line)
    assert found["message"] == "no file " + str(said).replace("\udcff", "\\udcff")
    assert (found["given"], found["process"]) == (found["message"].removeprefix("no file "), 7)
