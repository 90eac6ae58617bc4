"""What the README and the pages of `taskapi/docs/` say of the repository is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import DOCS, PAGES, README, ROOT, blocks

INSTALL = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
# Which test runs a block that is no recipe, by the page and the block's first line; "*" for all of a page.
RUN_BY = {
    ("README.md", f"{INSTALL} && .venv/bin/flask demo"): ".ci/demo.py",
    ("README.md", f"{INSTALL} && .venv/bin/pytest"): ".ci/run",
    ("README.md", "*"): "test_examples.py::test_three_lines_and_a_tag_are_all_that_an_application_needs",
    ("tutorial.md", "*"): "test_tutorial.py::test_the_tutorial_leads_from_nothing_to_a_bar_that_moves",
    ("front-end-in-ten-minutes.md", "*"):
        "test_tutorial.py::test_ten_minutes_lead_from_npm_to_a_bar_that_is_typed_german_dressed_and_cancelled",
    ("in-your-application.md", "*"): "test_guide.py::test_every_block_is_a_file_a_change_or_a_command",
    ("tokens.md", "export TASKAPI_JWT_SECRET_KEY=$(openssl rand -hex 32)"):
        "test_tutorial.py::test_the_key_that_the_page_makes_is_long_enough",
    ("tokens.md", '<script type="module">'): "test_examples.py::test_a_page_gets_its_tokens_from_the_applications_view",
    ("tokens.md", "*"): "test_tutorial.py::test_a_token_that_the_page_tells_how_to_sign_is_believed",
    ("cancel-limits-retries.md", "with progress.run(task_id) as task:"):
        "test_cancel.py::test_the_loop_of_the_documentation_is_left_between_two_items_and_tears_nothing",
    ("cancel-limits-retries.md", "SELECT cancel_requested_at IS NOT NULL FROM user_tasks WHERE task_id = 'by_hand';"):
        "test_examples.py::test_a_worker_in_another_language_hears_of_a_cancellation_and_says_that_it_stopped",
    ("workers.md", "from taskapi.progress import Progress"): "test_examples.py::test_the_helpers_first_example_runs",
    ("workers.md", 'with progress.task(user_id=123, kind="video") as task:'):
        "test_steps.py::test_the_example_of_the_documentation_runs",
    ("workers.md", "async def load(url):"): "test_asyncio.py::test_the_example_of_the_documentation_runs",
    ("front-end.md", "const ticket = await fetch(`/api/tasks/${id}/events`, "
        "{method: \"POST\", headers: {Authorization: `Bearer ${token}`}});"):
        "test_examples.py::test_without_the_element_three_lines_follow_a_task",
    ("contributing.md", "*"): ".ci/run",
    ("deployment.md", "export TASKAPI_DATABASE_URL=postgresql://taskapi@db.example.com/taskapi"):
        "test_examples.py::test_a_deployment_starts_as_it_is_written",
    ("deployment.md", "GRANT USAGE ON SCHEMA public TO taskapi;"):
        "test_examples.py::test_the_grants_that_are_shown_are_those_that_the_tests_give",
    ("operation.md", "flask tasks list --user 123             # newest first"):
        "test_examples.py::test_the_commands_of_the_terminal_do_what_is_said_beside_them",
    ("operation.md", "flask taskapi doctor"): "test_examples.py::test_the_doctors_commands_run_as_they_are_written",
}  # fmt: skip
RECIPES = {path.read_text() for path in (ROOT / "tests" / "recipes").rglob("*") if path.is_file()}
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
        for page in [*PAGES, *(ROOT / ".github").glob("*.md")]
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_every_block_of_code_is_a_recipe_or_run_by_a_test(page: Path) -> None:
    code = [block for block in blocks(page) if block.language != "text" and block.text not in RECIPES]  # or an output

    assert [block.text for block in code if not block.language] == [], "say which language it is"
    lines = [block.text.partition("\n")[0] for block in code]
    strangers = [line for line in lines if not {(page.name, line), (page.name, "*")} & set(RUN_BY)]
    assert strangers == [], "run it in a test, and name that in RUN_BY; what only shows an output is ```text"


@pytest.mark.parametrize(("place", "test"), RUN_BY.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_test_that_runs_a_block_exists(place: tuple[str, str], test: str) -> None:
    file, _, name = test.partition("::")
    page = README if place[0] == README.name else DOCS / place[0]

    assert place[1] == "*" or place[1] in [block.text.partition("\n")[0] for block in blocks(page)]
    assert f"def {name}(" in (ROOT / "tests" / file).read_text() if name else (ROOT / file).exists()


def test_every_page_is_in_the_contents() -> None:
    contents = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "index.md").read_text()))

    assert contents == {page.name for page in DOCS.glob("*.md")} - {"index.md"}


def test_the_readme_compares_by_the_figures_that_were_measured() -> None:
    rows = re.findall(r"^\| .*\| ([\d ]+) \|$", README.read_text(), re.MULTILINE)
    figures = (DOCS / "figures.md").read_text()

    assert len(rows) == 5
    ours = rows[0]
    assert [frames for frames in rows[1:] if f"({ours} and {frames} frames)" not in figures] == []


def test_the_readme_is_a_face_and_no_book() -> None:
    assert len(README.read_text().splitlines()) <= 200


def test_every_room_and_file_that_the_architecture_names_exists() -> None:
    named = set(re.findall(r"`([\w./-]+(?:\.(?:py|js|json|txt)|/))`", (DOCS / "architecture.md").read_text()))

    assert len(named) > 50
    assert [name for name in named if not (ROOT / name).exists() and not (ROOT / "taskapi" / name).exists()] == []


# What whoever carries on finds at the door.

FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))


def test_the_workflow_runs_what_everybody_runs_and_nothing_else() -> None:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())

    runs = {name: [step["run"] for step in job["steps"] if "run" in step][-1] for name, job in workflow["jobs"].items()}
    assert runs == {"run": ".ci/run", "newer": 'bash -euo pipefail -c "$(.ci/readme-command pytest)"'}
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads "on" so


@pytest.mark.parametrize("form", FORMS, ids=lambda form: str(form.name))
def test_an_issues_form_is_one_that_github_takes(form: Path) -> None:
    yaml = pytest.importorskip("yaml")
    read = yaml.safe_load(form.read_text())

    assert {"name", "description", "body"} <= set(read)
    asked = [field for field in read["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in asked} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert len({field["id"] for field in asked}) == len(asked) > 0
    assert all(field["attributes"]["label"] for field in asked)
