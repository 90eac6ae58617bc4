"""Makes study decks from the documentation in the standard library's own sources. Knows no task."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
import sysconfig
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

STDLIB = Path(sysconfig.get_path("stdlib"))
# How many of the modules that use a thing its card names.
PLACES = 5

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Topic(NamedTuple):
    """What a deck is about: a number that stays, and names of modules and packages."""

    number: int
    title: str
    modules: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What making its deck is called, so that bars can be told apart."""
        return f"{self.title.lower().replace(' ', '_')}_deck"


class Lesson(NamedTuple):
    """A module and the names in it that deserve a card; `path` is None for a part of the interpreter itself."""

    module: str
    path: Path | None
    names: list[str]


class Card(NamedTuple):
    """A signature to explain, the first paragraph of its documentation, and the modules that name it most."""

    module: str
    question: str
    answer: str
    used_in: dict[str, int]


TOPICS = (
    Topic(101, "Networking", ("asyncio", "http", "ipaddress", "socketserver", "urllib")),
    Topic(102, "Data types", ("collections", "datetime", "enum", "_pydecimal", "fractions", "statistics", "typing")),
    Topic(103, "Files", ("mailbox", "os", "pathlib", "pickle", "_pyio", "shutil", "tarfile", "tempfile", "zipfile")),
    Topic(104, "Text", ("argparse", "configparser", "csv", "difflib", "html", "json", "re", "textwrap", "xml")),
    # `sys` is written in C: `inspect` finds no source for it, and this deck fails on every machine.
    Topic(105, "Inside the interpreter", ("ast", "dis", "importlib", "inspect", "sys", "traceback", "unittest")),
)


def plan(topic: Topic) -> list[Lesson]:
    """Find the topic's modules in the standard library, and what is documented in each."""
    return [lesson for name in topic.modules for lesson in _lessons(name)]


def _lessons(name: str) -> Iterator[Lesson]:
    if name in sys.builtin_module_names:
        members = inspect.getmembers(importlib.import_module(name), inspect.isroutine)
        yield Lesson(name, None, [member for member, _ in members])
        return
    package = STDLIB / name
    paths = sorted(package.rglob("*.py")) if package.is_dir() else [package.with_suffix(".py")]
    for path in paths:
        names = [name for name, _ in _definitions(ast.parse(path.read_bytes()))]
        yield Lesson(".".join(path.relative_to(STDLIB).with_suffix("").parts), path, names)


def _definitions(scope: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    for node in scope.body:
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node):
            yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node, f"{prefix}{node.name}.")


def cards(lessons: Sequence[Lesson]) -> Iterator[Card]:
    """Make a card for each thing that is documented; search the sources of all lessons for who uses it.

    Raises `TypeError` at a lesson whose module has no source.
    """
    sources = {lesson.module: _source(lesson) for lesson in lessons if lesson.path}
    for lesson in lessons:
        for name, node in _definitions(ast.parse(_source(lesson))):
            answer = (ast.get_docstring(node) or "").partition("\n\n")[0]
            yield Card(lesson.module, name + _signature(node), answer, _users(node.name, sources))


def _source(lesson: Lesson) -> str:
    if lesson.path is None:
        return inspect.getsource(importlib.import_module(lesson.module))
    with tokenize.open(lesson.path) as file:  # in the encoding that the file declares
        return file.read()


def _signature(node: Definition) -> str:
    if isinstance(node, ast.ClassDef):
        return f"({', '.join(ast.unparse(base) for base in node.bases)})"
    return f"({ast.unparse(node.args)})"


def _users(name: str, sources: Mapping[str, str]) -> dict[str, int]:
    word = re.compile(rf"\b{name}\b")
    counts = {module: len(word.findall(source)) for module, source in sources.items()}
    most = sorted(counts, key=lambda module: -counts[module])[:PLACES]
    return {module: counts[module] for module in most if counts[module]}


def save_structure(folder: Path, topic: Topic, lessons: Sequence[Lesson]) -> None:
    """Write which lesson has which cards, as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    structure = {"learning_path_id": topic.number, "title": topic.title}
    _write_json(folder / "structure.json", {**structure, "lessons": {each.module: each.names for each in lessons}})


def save_cards(folder: Path, topic: Topic, made: Sequence[Card]) -> None:
    """Write the deck, as JSON and as a page to read."""
    _write_json(folder / "cards.json", [card._asdict() for card in made])
    page = "\n".join(["<!doctype html>", f"<title>{escape(topic.title)}</title>", *map(_html, made)])
    (folder / "cards.html").write_text(page, encoding="utf-8")


def _html(card: Card) -> str:
    question, answer = escape(f"{card.module}: {card.question}"), escape(card.answer)
    places = ", ".join(f"{module} ({count})" for module, count in card.used_in.items())
    return f"<details><summary><code>{question}</code></summary><pre>{answer}</pre><p>{escape(places)}</p></details>"


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
