"""The benchmark runs for half an hour with nobody looking: what goes wrong costs a figure, and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import programs
from benchmarks.__main__ import guarded
from benchmarks.programs import Missing
from benchmarks.table import Row, markdown


def test_a_round_that_fails_is_left_out_of_the_median() -> None:
    outcomes: Iterator[float | Exception] = iter([3.0, OSError("gone"), 5.0])

    def measure() -> float:
        found = next(outcomes)
        if isinstance(found, Exception):
            raise found
        return found

    assert programs.rounds(3, {"ours": measure}) == {"ours": 5.0}


def test_who_can_take_part_in_no_round_is_asked_once_and_named_with_the_reason() -> None:
    asked: list[int] = []

    def measure() -> float:
        asked.append(1)
        raise Missing("no nginx")

    found = programs.rounds(3, {"peer": measure, "ours": lambda: 1.0})

    assert str(found["peer"]) == "no nginx"
    assert found["ours"] == 1.0
    assert len(asked) == 1


def test_rows_that_cannot_be_measured_cost_no_other_row() -> None:
    def measure(_number: int) -> Iterator[Row]:
        yield Row("first", "–", "1", "2")
        raise IndexError("a | b")

    rows = list(guarded("idle", measure, 3))

    assert [row.what for row in rows] == ["first", "idle"]
    assert markdown(rows).splitlines()[-1] == "| idle | – | left out: a / b | – |"


def test_a_database_goes_whatever_is_measured_on_it() -> None:
    files: list[Path] = []

    def measure() -> float:
        with programs.task_database("sqlite") as url:
            files.append(Path(url.removeprefix("sqlite:///")))
            assert files[0].exists()
            raise OSError("broken")

    programs.rounds(1, {"ours": measure})

    assert not files[0].exists()


@pytest.mark.slow
def test_a_quick_run_writes_its_table_to_a_file(tmp_path: Path) -> None:
    table = tmp_path / "figures.md"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--only", "one-bar", "--output", str(table)]

    done = subprocess.run(command, cwd=programs.ROOT, capture_output=True, text=True, timeout=300, check=True)

    assert done.stdout == table.read_text()
    assert "| p50 from commit to one client, SQLite | – |" in done.stdout
    assert "left out" not in done.stdout
