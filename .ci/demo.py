"""Run the README's demo command as it stands in a clean clone; see the page, a poll and a stream answer; stop it."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent
INSTALLATION_SECONDS = 300
FIRST_BAR_SECONDS = 60


def main() -> None:
    """Start the demo, look at it, end it."""
    command = subprocess.check_output([ROOT / ".ci" / "readme-command", "demo"], text=True).strip()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
        demo = subprocess.Popen(
            command, shell=True, cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("TASKAPI_")},
            start_new_session=True,
        )  # fmt: skip
        try:
            look(demo)
            print(f"from the clone to a bar that moves: {time.monotonic() - started:.0f} s, the installation included")
        finally:
            os.killpg(demo.pid, signal.SIGINT)
            print(f"ended with {demo.wait(30)}")


def look(demo: subprocess.Popen[str]) -> None:
    """Do what its lines say."""
    assert demo.stdout is not None
    started = time.monotonic()
    url, first_line = "", 0.0
    curls: list[str] = []
    while not url or len(curls) < 2:
        line = demo.stdout.readline()
        assert line, f"the demo ended with {demo.wait()}"
        if line.startswith("Starting"):  # what came before is pip's
            first_line = time.monotonic()
        print(line, end="")
        url = url or next(iter(re.findall(r"http://\S+/demo\?\S+", line)), "")
        curls += [line.strip()] if line.strip().startswith("curl ") else []
        assert time.monotonic() - started < INSTALLATION_SECONDS
    page = urllib.request.urlopen(url, timeout=10).read()
    assert b"task-progress" in page or b"page.js" in page
    stream, poll = sorted(curls, key=lambda line: "/events" not in line)
    assert b'"task_id"' in subprocess.check_output(poll, shell=True, timeout=10)
    seconds = moving_bar(stream) - first_line
    print(f"the first bar moved {seconds:.1f} s after the demo's first line")
    assert seconds < FIRST_BAR_SECONDS


def moving_bar(curl: str) -> float:
    """When the second different progress of one task came over the stream."""
    with subprocess.Popen(curl, shell=True, stdout=subprocess.PIPE, text=True, start_new_session=True) as stream:
        seen: dict[str, set[str]] = {}
        assert stream.stdout is not None
        try:
            for line in stream.stdout:
                if found := re.search(r'"task_id":"([^"]+)".*"progress":([0-9.]+)', line):
                    seen.setdefault(found[1], set()).add(found[2])
                    if len(seen[found[1]]) > 1:
                        return time.monotonic()
        finally:
            os.killpg(stream.pid, signal.SIGTERM)
    sys.exit("the stream ended")


if __name__ == "__main__":
    main()
