"""The front end's modules where there is no browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from harness import ROOT

NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_where_there_is_no_page_the_element_is_imported_and_does_nothing(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "taskapi" / "static", tmp_path / "static")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    script = "import { words } from './static/task-progress.js'; console.log(words('made_by_a_server'))"

    command = [str(NODE), "--input-type=module", "--eval", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.stderr, done.stdout) == ("", "Made by a server\n")
