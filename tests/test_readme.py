"""What the README says of the repository is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PROMISES = README.partition("\n## What it promises\n")[2].partition("\n## ")[0]


def promised_tests() -> list[tuple[str, str]]:
    """Each test that the table of promises names, as file and function; "" where it names a whole file."""
    found, file = [], ""
    for named, test in re.findall(r"`(test_\w+\.py|…)(?:::(\w+))?`", PROMISES):
        file = file if named == "…" else named
        found.append((file, test))
    return found


@pytest.mark.parametrize(("file", "test"), promised_tests())
def test_every_test_that_a_promise_names_exists(file: str, test: str) -> None:
    source = (ROOT / "tests" / file).read_text()

    assert f"def {test or 'test_'}" in source


def test_every_promise_names_its_test() -> None:
    rows = [line for line in PROMISES.splitlines() if line.startswith("| ")][2:]

    assert len(rows) > 20
    assert [row for row in rows if "`test_" not in row] == []


PAGES = [ROOT / "README.md", *sorted((ROOT / "taskapi" / "docs").glob("*.md"))]
LINKS = {(page, target) for page in PAGES for target in re.findall(r"\]\(((?!http|#)[^)#]+)", page.read_text())}


@pytest.mark.parametrize(("page", "target"), sorted(LINKS))
def test_every_file_that_is_linked_exists(page: Path, target: str) -> None:
    assert (page.parent / target).exists()


@pytest.mark.parametrize("heading", sorted(set(re.findall(r"\]\(#([^)]+)\)", README))))
def test_every_heading_that_is_linked_exists(heading: str) -> None:
    headings = [line.lstrip("# ").lower().replace(" ", "-") for line in README.splitlines() if line.startswith("#")]

    assert heading in headings


def test_every_room_that_is_shown_exists() -> None:
    rooms = README.partition("| room (`taskapi/`) |")[2].partition("\n\n")[0]
    named = re.findall(r"`([a-z_]+(?:\.py|/))`", rooms)

    assert len(named) > 15
    assert [name for name in named if not (ROOT / "taskapi" / name).exists()] == []
