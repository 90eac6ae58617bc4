"""What the README and the pages of `taskapi/docs/` say of the repository is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "taskapi" / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
PROMISES = (DOCS / "promises.md").read_text()


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


def links() -> list[tuple[str, str]]:
    """Each page, by its path, and where it links to in this repository."""
    return sorted(
        (str(page.relative_to(ROOT)), target)
        for page in PAGES
        for target in set(re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()))
    )


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("page", "target"), links())
def test_every_file_and_heading_that_is_linked_exists(page: str, target: str) -> None:
    file, _, heading = target.partition("#")
    linked = (ROOT / page).parent / file if file else ROOT / page

    assert linked.exists()
    assert not heading or heading in headings(linked)


def test_every_page_is_in_the_contents() -> None:
    contents = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "index.md").read_text()))

    assert contents == {page.name for page in DOCS.glob("*.md")} - {"index.md"}


def test_the_readme_is_a_face_and_no_book() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_every_room_that_is_shown_exists() -> None:
    rooms = (DOCS / "architecture.md").read_text().partition("| room (`taskapi/`) |")[2].partition("\n\n")[0]
    named = re.findall(r"`([a-z_]+(?:\.py|/))`", rooms)

    assert len(named) > 15
    assert [name for name in named if not (ROOT / "taskapi" / name).exists()] == []
