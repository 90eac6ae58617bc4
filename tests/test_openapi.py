"""`/openapi.json` says what the application does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from harness import ROOT, insert, make_token

from taskapi.database.models import RESPONSE_FIELDS, TaskStatus

SPEC = json.loads((ROOT / "taskapi" / "site" / "openapi.json").read_text())
METHODS = {"get", "post", "put", "patch", "delete"}


def resolve(node: Any) -> Any:
    """What a `$ref` stands for."""
    while "$ref" in node:
        target = SPEC
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


def references(node: Any) -> Iterator[dict[str, Any]]:
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from references(child)
    if isinstance(node, dict) and "$ref" in node:
        yield node


def test_it_describes_every_route_and_nothing_else(app: Flask) -> None:
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.endswith("static")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    described = {(path, method) for path, item in SPEC["paths"].items() for method in item if method in METHODS}

    assert described == served


def test_a_task_is_described_field_by_field_in_order() -> None:
    schema = SPEC["components"]["schemas"]["UserTaskResponse"]

    assert tuple(schema["properties"]) == RESPONSE_FIELDS
    assert schema["required"] == list(RESPONSE_FIELDS)
    assert schema["properties"]["status"]["enum"] == [str(status) for status in TaskStatus]


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    used = {node["$ref"] for node in references(SPEC)}

    for reference in used:
        assert resolve({"$ref": reference})
    parts = ("parameters", "responses", "schemas")
    assert used == {f"#/components/{part}/{name}" for part in parts for name in SPEC["components"][part]}


def test_every_path_parameter_is_described() -> None:
    for path, item in SPEC["paths"].items():
        described = {resolve(parameter)["name"] for parameter in item.get("parameters", [])}

        assert described == set(re.findall(r"{(\w+)}", path))


def test_it_is_served_as_it_is(client: FlaskClient) -> None:
    with client.get("/openapi.json") as answer:
        assert answer.content_type == "application/json"
        assert answer.json == SPEC


def test_real_answers_have_the_status_type_and_headers_that_it_names(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", learning_path_id=5)
    insert(engine, "b", user=2, learning_path_id=6)
    insert(engine, "waiting", kind="deck")
    insert(engine, "done", kind="deck", status="completed")
    insert(engine, "broken", kind="deck", status="failed")
    own = {"Authorization": f"Bearer {make_token()}"}
    administrator = {"Authorization": f"Bearer {make_token(is_admin=True)}"}
    for method, path, url, headers in (
        ("get", "/api/tasks/{task_id}/status", "/api/tasks/a/status", own),
        ("get", "/api/tasks/{task_id}/status", "/api/tasks/a/status", {**own, "If-None-Match": "*"}),
        ("get", "/api/tasks/{task_id}/status", "/api/tasks/a/status", {**own, "If-None-Match": 'W/"1"'}),
        ("get", "/api/tasks/{task_id}/status", "/api/tasks/b/status", own),
        ("get", "/api/tasks/{task_id}/status", "/api/tasks/c/status", own),
        ("get", "/api/tasks/{task_id}/status", "/api/tasks/a/status", {}),
        ("get", "/api/tasks/users/me", "/api/tasks/users/me", own),
        ("get", "/api/tasks/users/me", "/api/tasks/users/me?skip=x", own),
        ("get", "/api/tasks/users/me", "/api/tasks/users/me?status=x", own),
        ("get", "/api/tasks", "/api/tasks?status=pending,running&limit=1", administrator),
        ("get", "/api/tasks", "/api/tasks?user_id=x", administrator),
        ("get", "/api/tasks", "/api/tasks", own),
        ("get", "/api/tasks/summary", "/api/tasks/summary", administrator),
        ("get", "/api/tasks/summary", "/api/tasks/summary", own),
        ("get", "/api/tasks/kinds", "/api/tasks/kinds", administrator),
        ("get", "/api/tasks/kinds", "/api/tasks/kinds", own),
        ("get", "/api/tasks/failures", "/api/tasks/failures?hours=168", administrator),
        ("get", "/api/tasks/failures", "/api/tasks/failures?hours=169", administrator),
        ("get", "/api/tasks/failures", "/api/tasks/failures", own),
        ("post", "/api/tasks/cancel", "/api/tasks/cancel", administrator),
        ("post", "/api/tasks/cancel", "/api/tasks/cancel", {**administrator, "Content-Type": "application/json"}),
        ("post", "/api/tasks/cancel", "/api/tasks/cancel", own),
        ("get", "/api/tasks/{task_id}/forecast", "/api/tasks/waiting/forecast", own),
        ("get", "/api/tasks/{task_id}/forecast", "/api/tasks/b/forecast", own),
        ("get", "/api/tasks/{task_id}/forecast", "/api/tasks/c/forecast", own),
        ("get", "/api/tasks/learning-paths/{learning_path_id}", "/api/tasks/learning-paths/5", own),
        ("get", "/api/tasks/learning-paths/{learning_path_id}", "/api/tasks/learning-paths/6", own),
        ("get", "/api/tasks/{task_id}/events", "/api/tasks/c/events", own),
        ("post", "/api/tasks/{task_id}/events", "/api/tasks/a/events", own),
        ("post", "/api/tasks/{task_id}/cancel", "/api/tasks/c/cancel", own),
        ("post", "/api/tasks/{task_id}/cancel", "/api/tasks/b/cancel", own),
        ("post", "/api/tasks/{task_id}/cancel", "/api/tasks/a/cancel", {}),
        ("post", "/api/tasks/{task_id}/cancel", "/api/tasks/a/cancel", own),
        ("post", "/api/tasks/{task_id}/cancel", "/api/tasks/a/cancel", own),
        ("post", "/api/tasks/users/me/events", "/api/tasks/users/me/events", own),
        ("post", "/api/tasks/users/me/events", "/api/tasks/users/me/events", {}),
        ("get", "/healthz", "/healthz", {}),
        ("get", "/metrics", "/metrics", {}),
    ):
        answer = client.open(url, method=method, headers=headers)

        described = resolve(SPEC["paths"][path][method]["responses"][str(answer.status_code)])
        if answer.data:
            assert answer.mimetype in described["content"], url
            if answer.is_json:
                check(answer.json, described["content"][answer.mimetype]["schema"])
        unsaid = {"Preference-Applied", "Retry-After", "Link", "ETag"} & set(answer.headers) - set(
            described.get("headers", {})
        )
        assert not unsaid, url


def check(value: Any, schema: Any) -> None:
    """Whether a value has the shape of a schema, as far as this description uses schemas."""
    schema = resolve(schema)
    if "oneOf" in schema and value is not None:
        schema = resolve(schema["oneOf"][0])
    if schema.get("type") == "array":
        for item in value:
            check(item, schema["items"])
    elif schema.get("type") == "object":
        assert set(schema.get("required", ())) <= set(value)
        if schema.get("additionalProperties") is False:
            assert set(value) <= set(schema["properties"])
        for name, part in schema.get("properties", {}).items():
            if name in value:
                check(value[name], part)
    else:
        check_simple(value, schema)


def check_simple(value: Any, schema: Any) -> None:
    kinds: dict[str, Any] = {"string": str, "integer": int, "number": (int, float), "null": type(None)}
    names = schema.get("type", [])
    allowed = [kinds[name] for name in ([names] if isinstance(names, str) else names)]
    assert not allowed or any(isinstance(value, kind) for kind in allowed), (value, schema)
    assert value == schema.get("const", value)
    assert value in schema.get("enum", [value])
