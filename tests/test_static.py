"""The front end's folder as an npm package, and its modules where there is no browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT

NODE, NPM = shutil.which("node"), shutil.which("npm")
STATIC = ROOT / "taskapi" / "static"
HOSTS = Path(__file__).parent / "npm"

needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
needs_npm = pytest.mark.skipif(NPM is None, reason="npm is not installed")


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_node
def test_where_there_is_no_page_the_element_is_imported_and_does_nothing(tmp_path: Path) -> None:
    shutil.copytree(STATIC, tmp_path / "static")
    script = "import { words } from './static/task-progress.js'; console.log(words('made_by_a_server'))"

    command = [str(NODE), "--input-type=module", "--eval", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.stderr, done.stdout) == ("", "Made by a server\n")


# What the manifest says is what the sources have.


def source(*names: str) -> str:
    return "\n".join((STATIC / name).read_text() for name in names)


ELEMENT = source("element.js")
ALL = source("element.js", "extras.js", "style.js", "cancel.js", "failure.js", "notify.js")


def described(what: str, **filters: Any) -> set[str]:
    """The names that `custom-elements.json` has for something."""
    [module] = json.loads((STATIC / "custom-elements.json").read_text())["modules"]
    [element] = module["declarations"]
    return {entry["name"] for entry in element[what] if filters.items() <= entry.items()}


def test_the_manifest_has_every_attribute_and_event() -> None:
    [observed] = re.findall(r"observedAttributes = \[(.*?)\]", ELEMENT)

    assert described("attributes") == set(re.findall(r'"(\w+)"', observed))
    assert described("events") == set(re.findall(r'new CustomEvent\("(\w+)"', ELEMENT))


def test_the_manifest_has_every_public_member() -> None:
    callbacks = {"connectedCallback", "disconnectedCallback", "attributeChangedCallback", "constructor"}
    methods = set(re.findall(r"^  (\w+)\(.*\) \{$", ELEMENT, re.MULTILINE)) - callbacks
    accessors = set(re.findall(r"^  set (\w+)\(", ELEMENT, re.MULTILINE))
    fields = set(re.findall(r"^  (\w+) = ", ELEMENT, re.MULTILINE))

    assert described("members", kind="method") == methods
    assert described("members", kind="field") == accessors | fields | {"messages"}


def test_the_manifest_has_every_slot_part_and_custom_property() -> None:
    texts = set(re.findall(r'"(\w+)"', re.findall(r"SPANS = \[(.*?)\]", ELEMENT)[0])) | {"message", "note"}
    made = set(re.findall(r'make\("\w+", "(\w+)"', ALL)) | texts

    assert described("slots") == set(re.findall(r'slot\("(\w+)"\)', ELEMENT))
    assert described("cssParts") == made
    assert described("cssProperties") == set(re.findall(r"var\((--task-progress-\w+)", ALL))


def test_every_sentence_is_typed() -> None:
    [body] = re.findall(r"interface Messages \{(.*?)\n\}", source("task-progress.d.ts"), re.DOTALL)

    german = re.findall(r"^  (\w+):", source("languages/de.js"), re.MULTILINE)

    assert sorted(re.findall(r"^  (\w+):", body, re.MULTILINE)) == sorted(german)


# In the hands of others.


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """The package as npm makes it."""
    [packed] = json.loads(run(str(NPM), "pack", "--json", "--pack-destination", str(tmp_path), cwd=STATIC))
    return tmp_path / str(packed["filename"])


@needs_npm
def test_the_package_has_the_element_and_nothing_of_the_page(tmp_path: Path) -> None:
    [packed] = json.loads(run(str(NPM), "pack", "--json", "--dry-run", cwd=STATIC))

    names = {entry["path"] for entry in packed["files"]}

    modules = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*.js")} - {"page.js", "docs.js"}
    modules = {name for name in modules if not name.startswith("page/")}
    assert names == modules | {"README.md", "custom-elements.json", "package.json", "task-progress.d.ts"}


@pytest.fixture
def install(pack: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Make a project that has the package installed."""

    def install(host: str) -> Path:
        project = tmp_path / host
        shutil.copytree(HOSTS / host, project)
        options = ("--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
        run(str(NPM), "install", *options, str(pack), cwd=project)
        return project

    return install


@needs_npm
@pytest.mark.slow
def test_react_18_knows_the_tag_and_a_server_renders_it(install: Callable[[str], Path]) -> None:
    project = install("react")
    options = ("--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
    older = ("react@18.3.1", "react-dom@18.3.1", "@types/react@18.3.26", "@types/react-dom@18.3.7")
    rendering = """
        import "taskapi-progress";
        import { createElement } from "react";
        import { renderToString } from "react-dom/server";
        console.log(renderToString(createElement("task-progress", { src: "/api/tasks/a", label: "Deck", cancel: "" })));
    """
    rendered = run(str(NODE), "--input-type=module", "--eval", rendering, cwd=project)
    assert rendered == '<task-progress src="/api/tasks/a" label="Deck" cancel=""></task-progress>\n'

    run(str(NPM), "install", *options, *older, cwd=project)

    run(str(NPM), "run", "check", cwd=project)
    assert run(str(NODE), "--input-type=module", "--eval", rendering, cwd=project) == rendered


@needs_npm
@pytest.mark.slow
@pytest.mark.parametrize("host", ["react", "vue"])
def test_a_project_type_checks_and_builds_with_the_package(install: Callable[[str], Path], host: str) -> None:
    project = install(host)

    run(str(NPM), "run", "check", cwd=project)
    run(str(NPM), "run", "build", cwd=project)

    built = "".join(path.read_text() for path in (project / "dist" / "assets").glob("*.js"))
    assert "task-progress" in built
    assert "Abgebrochen" in built  # languages are there, in parts of their own
    script = "import('taskapi-progress').then(({ words }) => console.log(words('on_a_server')))"
    rendered = run(str(NODE), "--eval", script, cwd=project)
    assert rendered == "On a server\n"
