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
    "": {"app"},
    "app": {"api.docs", "api.events", "api.health", "api.metrics", "api.page", "api.tasks", "cli", "config", "database",
            "errors", "extensions", "schema", "store", "stream.broadcaster", "tokens"},
    "config": set(),
    "metrics": set(),
    "errors": set(),
    "extensions": {"models", "store", "stream.broadcaster", "tokens"},
    "tokens": set(),
    "auth": {"errors", "extensions", "models", "tokens"},
    "api": set(),
    "api.tasks": {"auth", "errors", "extensions", "models"},
    "api.events": {"auth", "extensions", "stream.hub", "stream.sse"},
    "api.health": {"errors", "extensions", "models", "schema"},
    "api.metrics": {"metrics"},
    "api.page": set(),
    "api.docs": {"api.page"},
    "stream": set(),
    "stream.sse": set(),
    "stream.hub": {"metrics", "models", "stream.sse"},
    "stream.feed": {"database", "metrics", "models", "store", "stream.files"},
    "stream.files": set(),
    "stream.sockets": {"stream.hub", "stream.sse"},
    "stream.broadcaster": {"metrics", "models", "store", "stream.feed", "stream.hub", "stream.sockets"},
    "models": set(),
    "statements": {"models"},
    "database": set(),
    "reader": {"database"},
    "store": {"models", "reader", "statements"},
    "schema": {"models"},
    "reaper": {"metrics", "store"},
    "gunicorn_conf": {"reaper"},
}  # fmt: skip
# Rooms of several modules that may import one another, and of the rest only this.
ROOMS_MAY_IMPORT = {
    "progress": {"config", "database", "models", "reader", "schema", "store"},
    "demo": {"extensions", "models", "progress", "schema"},
    "terminal": {"models"},
    "remote": set(),
    "cli": {"demo", "extensions", "models", "reaper", "remote", "schema", "terminal"},
}
# Libraries, and who alone may know them.
LIBRARIES = {
    "flask": {"", "app", "config", "errors", "extensions", "tokens", "auth", "api", "cli", "demo"},
    "flask_jwt_extended": {"auth", "extensions", "tokens", "cli", "demo"},
    "gevent": {"stream.sockets", "gunicorn_conf"},
    "gunicorn": {"gunicorn_conf"},
    "psycopg": {"stream.feed"},
    "sqlite3": {"database", "stream.feed"},
    "alembic": {"schema"},
    "rich": {"terminal", "cli"},
    "urllib.request": {"remote"},
    "socket": {"stream.sockets", "demo"},
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


def test_imports_run_one_way() -> None:
    edges = MAY_IMPORT | {room: set(known) for room, known in ROOMS_MAY_IMPORT.items()}

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

    assert speaking <= {"statements", "store", "schema"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_opens_with_a_line_that_says_what_it_holds(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text()))

    assert docstring
    assert docstring.splitlines()[0].strip()


def test_the_picture_is_read_from_the_code() -> None:
    assert own_imports("statements") == {"models"}
    assert own_imports("api.tasks") >= {"auth", "errors", "extensions", "models"}
    assert own_imports("gunicorn_conf") == {"reaper"}, "an import within a function"
    assert "gevent" in imports("stream.sockets")
