"""The picture of the rooms: what each module may know, held against what it imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import taskapi

ROOT = Path(taskapi.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
    for path in sorted(ROOT.rglob("*.py"))
    if "migrations" not in path.parts
}

# What each module may import of taskapi. An import within a function counts like any other.
MAY_IMPORT = {
    "": {"auth.identity", "extension", "extras", "standalone"},
    "__main__": {"wsgi"},
    "wsgi": {"", "config", "extras"},
    "demo_wsgi": {"demo", "errors", "wsgi"},
    "standalone": {"auth.identity", "auth.jwt", "cli.service", "config", "database.connections", "database.schema",
                   "database.store", "errors", "extension", "extras", "routes", "state"},
    "extension": {"api.cancellations", "api.events", "auth.forgery", "auth.host", "auth.identity", "background",
                  "cli.host", "config", "database.connections", "database.counts", "database.store", "forecasts",
                  "hosting", "maintenance", "overview", "progress.rows", "routes", "state", "stream.broadcaster",
                  "stream.streams", "stream.successors", "transaction"},
    "routes": {"api.cancellations", "api.events", "api.forecasts", "api.health", "api.lists", "api.metrics",
               "api.overview", "api.tasks", "config", "errors", "extras", "site.description", "site.docs",
               "site.documentation",
               "site.page", "state"},
    "hosting": {"database.connections", "database.schema"},
    "testing": {"progress.eager", "progress.processes", "state", "stream.sse"},
    "transaction": {"database.connections"},
    "gunicorn_conf": {"scratch", "state"},
    "state": {"auth.identity", "background", "database.counts", "database.store", "forecasts", "overview",
              "stream.broadcaster"},
    "background": {"database.failures", "database.schema", "database.store", "endings", "maintenance", "metrics",
                   "servers", "stream.broadcaster", "stream.successors"},
    "maintenance": {"database.failures", "database.overdue", "database.store", "metrics"},
    "endings": {"database.failures", "database.store", "kinds", "metrics"},
    "kinds": {"database.store"},
    "migrations": {"database.schema"},
    "config": {"database.address", "extras"},
    "extras": set(),
    "errors": {"database.failures"},
    "metrics": {"extras", "prometheus"},
    "prometheus": set(),
    "logs": set(),
    "scratch": set(),
    "tracing": set(),
    "forecast": set(),
    "forecasts": {"database.models", "database.store", "forecast"},
    "overview": {"database.models", "database.store", "kept", "reasons"},
    "reasons": {"database.store"},
    "kept": set(),
    "servers": set(),
    "api": set(),
    "api.cancellations": {"api.tasks", "auth.access", "auth.forgery", "database.models", "errors", "metrics", "state"},
    "api.events": {"api.answers", "auth.access", "auth.identity", "auth.tickets", "errors", "state", "stream.frames",
                   "stream.sse", "stream.streams"},
    "api.forecasts": {"api.tasks", "auth.access", "state"},
    "api.health": {"database.schema", "errors", "state"},
    "api.lists": {"api.parameters", "api.tasks", "auth.access", "auth.identity", "database.models", "database.store",
                  "errors", "state"},
    "api.overview": {"api.parameters", "api.tasks", "auth.access", "errors", "overview", "state"},
    "api.parameters": {"errors"},
    "api.answers": set(),
    "api.metrics": {"database.failures", "kinds", "metrics", "prometheus", "state"},
    "api.tasks": {"api.answers", "auth.access", "auth.identity", "database.models", "errors", "metrics", "state"},
    "auth": set(),
    "auth.access": {"auth.identity", "auth.tickets", "database.models", "errors", "state"},
    "auth.host": {"auth.identity", "auth.jwt", "config", "errors"},
    "auth.forgery": {"auth.tickets", "errors"},
    "auth.identity": {"database.models"},
    "auth.jwt": {"auth.identity", "auth.tickets", "database.models", "errors"},
    "auth.tickets": {"auth.identity", "errors"},
    "database": set(),
    "database.address": set(),
    "database.changer": {"database.pool"},
    "database.connections": {"database.address", "database.dialect", "database.postgresql", "database.sqlite"},
    "database.counts": {"database.store"},
    "database.dialect": {"database.address", "database.statements"},
    "database.embedded": set(),
    "database.exchange": {"database.statements", "servers"},
    "database.failures": set(),
    "database.pool": {"database.address", "database.connections", "database.failures"},
    "database.models": set(),
    "database.overdue": {"database.models"},
    "database.postgresql": {"database.address", "database.dialect", "database.exchange", "database.statements",
                            "extras"},
    "database.reader": {"database.failures", "database.pool"},
    "database.schema": {"database.connections", "database.failures", "database.store"},
    "database.sqlite": {"database.address", "database.dialect", "database.embedded", "database.failures",
                        "database.statements"},
    "database.statements": {"database.models"},
    "database.store": {"database.address", "database.changer", "database.connections", "database.models",
                       "database.overdue", "database.reader", "database.sqlite"},
    "site": set(),
    "site.description": set(),
    "site.docs": {"site.page"},
    "site.documentation": {"errors", "site.page"},
    "site.page": {"auth.access", "errors"},
    "stream": set(),
    "stream.broadcaster": {"database.failures", "database.models", "database.store", "forecasts", "metrics",
                           "stream.feed", "stream.forecaster", "stream.handover", "stream.hub", "stream.queues",
                           "stream.sockets", "stream.streams", "stream.successors", "stream.topics"},
    "stream.feed": {"database.store", "stream.feed.base", "stream.feed.postgresql", "stream.feed.sqlite"},
    "stream.feed.base": {"database.failures", "database.store", "metrics"},
    "stream.feed.files": set(),
    "stream.feed.following": {"database.postgresql", "stream.feed.base"},
    "stream.feed.postgresql": {"database.failures", "database.postgresql", "database.store", "stream.feed.base",
                               "stream.feed.following"},
    "stream.feed.sqlite": {"database.embedded", "database.failures", "database.sqlite", "stream.feed.base",
                           "stream.feed.files"},
    "stream.forecaster": {"database.failures", "forecasts", "stream.hub"},
    "stream.frames": {"database.models", "forecast", "stream.sse"},
    "stream.handover": {"stream.hub", "stream.sockets", "stream.streams", "stream.successors"},
    "stream.hub": {"database.models", "forecast", "metrics", "stream.frames", "stream.sse", "stream.streams",
                   "stream.topics"},
    "stream.queues": {"servers", "stream.sse", "stream.streams"},
    "stream.sockets": {"servers", "stream.sse", "stream.streams"},
    "stream.sse": set(),
    "stream.streams": {"stream.sse"},
    "stream.successors": set(),
    "stream.topics": {"database.models", "forecast", "stream.frames", "stream.sse", "stream.streams"},
}  # fmt: skip
# Rooms of several modules that may import one another, and of the rest only this.
ROOMS_MAY_IMPORT = {
    "progress": {"config", "database", "tracing"},
    "demo": {"database", "progress", "state"},
    "cli": {"database", "demo", "doctor", "extras", "maintenance", "state"},
    "doctor": {"config", "database", "extras", "servers", "state"},
}
# Libraries, and who alone may know them.
LIBRARIES = {
    "flask": {
        "",
        "__main__",
        "api",
        "auth",
        "cli",
        "demo",
        "demo_wsgi",
        "errors",
        "extension",
        "routes",
        "site",
        "standalone",
        "state",
        "testing",
    },
    "flask_jwt_extended": {"auth.jwt", "cli", "demo"},
    "itsdangerous": {"auth.tickets"},
    "gevent": {"database.exchange", "stream.sockets"},
    "gunicorn": {"gunicorn_conf", "logs"},
    "prometheus_client": {"prometheus"},
    "inotify_simple": {"stream.feed.files"},
    "markdown_it": {"site.documentation"},
    "psycopg": {"database.exchange", "database.postgresql", "stream.feed.postgresql"},
    "sqlite3": {"database.embedded", "database.sqlite", "stream.feed.sqlite"},
    "opentelemetry": {"tracing", "progress"},
    "rich": {"cli.terminal"},
    "urllib.request": {"cli.remote", "doctor.proxy"},
    "socket": {"demo", "servers", "stream.handover", "stream.sockets", "stream.successors"},
}


def imports(module: str) -> set[str]:
    """The absolute names of the modules that a module imports, as far as `TYPE_CHECKING` or a function hides none."""
    path = MODULES[module]
    package = ["taskapi", *module.split(".")] if module else ["taskapi"]
    if path.name != "__init__.py":
        package.pop()
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            submodules = {f"{source}.{alias.name}" for alias in node.names}
            inner = {name for name in submodules if name.removeprefix("taskapi.") in MODULES}
            found |= inner or {source}
    return found


def own_imports(module: str) -> set[str]:
    return {name.removeprefix("taskapi").removeprefix(".") for name in imports(module) if name.startswith("taskapi")}


def room_of(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) not in ROOMS_MAY_IMPORT])
def test_a_module_imports_only_what_it_may_know(module: str) -> None:
    assert module in MAY_IMPORT, "the picture does not show it"
    assert own_imports(module) <= MAY_IMPORT[module]


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) in ROOMS_MAY_IMPORT])
def test_a_room_imports_only_what_it_may_know(module: str) -> None:
    rooms = {room_of(name) for name in own_imports(module)} - {room_of(module)}

    assert rooms <= ROOMS_MAY_IMPORT[room_of(module)]


def test_the_picture_shows_no_module_that_is_gone() -> None:
    shown = {*MAY_IMPORT, *ROOMS_MAY_IMPORT}.union(*MAY_IMPORT.values(), *ROOMS_MAY_IMPORT.values())

    assert shown <= set(MODULES)


def _shown(module: str) -> str:
    """A module, or the room in which the picture shows it."""
    return room_of(module) if room_of(module) in ROOMS_MAY_IMPORT else module


def test_imports_run_one_way() -> None:
    edges = {module: {_shown(known) for known in knows} for module, knows in MAY_IMPORT.items()}
    edges |= {room: set(knows) for room, knows in ROOMS_MAY_IMPORT.items()}

    def reach(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a circle: {' -> '.join((*path, module))}"
        for known in edges[module]:
            reach(known, (*path, module))

    for module in edges:
        reach(module, ())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_known_only_where_it_belongs(library: str) -> None:
    knowing = {module for module in MODULES if any(name.split(".")[0] == library for name in imports(module))}

    strangers = {module for module in knowing if not {module, room_of(module)} & LIBRARIES[library]}
    assert strangers == set()


def test_sql_is_written_in_few_places() -> None:
    speaking = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.lstrip().startswith(("SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM "))
    }

    assert speaking <= {
        "database.postgresql",
        "database.schema",
        "database.sqlite",
        "database.statements",
        "database.store",
        "doctor.database",  # questions about the server, and a trial by hand: not what the service asks
        "doctor.postgresql",
        "doctor.sqlite",
    }


@pytest.mark.parametrize("module", MODULES)
def test_a_module_opens_with_a_line_that_says_what_it_holds(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text()))

    assert docstring
    assert docstring.splitlines()[0].strip()


def test_the_two_databases_differ_in_two_files_and_their_feeds_alone() -> None:
    naming = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in ("sqlite", "postgresql")
    }

    assert naming <= {"database.sqlite", "database.postgresql", "config", "extension", "extras", "stream.feed"}


def test_the_picture_is_read_from_the_code() -> None:
    assert own_imports("database.statements") == {"database.models"}
    assert own_imports("api.tasks") >= {"auth.access", "errors", "state", "database.models"}
    assert own_imports("gunicorn_conf") == {"scratch", "state"}, "an import within a function"
    assert "gevent" in imports("stream.sockets")
