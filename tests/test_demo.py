"""`flask demo`, as a newcomer runs it: the real command with its real children."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.request import urlopen

import pytest
import sqlalchemy as sa
from conftest import open_engine
from harness import ROOT, environment, free_port, parse, wait_until

from taskapi.demo import decks
from taskapi.demo.decks import Topic
from taskapi.demo.worker import DemoStopped, Worker

FLASK = str(Path(sys.executable).with_name("flask"))


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and theirs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in children}.union(*(descendants(int(child)) for child in children))


def alive(pids: set[int]) -> set[int]:
    """Those of some processes that still run."""
    return {pid for pid in pids if is_alive(pid)}


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class Demo:
    """A running `flask demo`, its output in a pipe."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.database = f"sqlite:///{folder}/demo.db"
        command = [FLASK, "demo", "--folder", str(folder), *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment(self.database), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self.process.stdout is not None
        self.pipe = self.process.stdout
        os.set_blocking(self.pipe.fileno(), False)
        self.text = ""

    def says(self, text: str) -> bool:
        self.text += (self.pipe.read() or b"").decode()
        return text in self.text

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.says("Ctrl-C ends it") or self.process.poll() is not None)
        assert self.process.poll() is None, self.text

    @property
    def url(self) -> str:
        """The address to open."""
        found: list[str] = re.findall(r"^ +(http\S+)$", self.text, re.MULTILINE)
        return found[0]

    @property
    def origin(self) -> str:
        return self.url.partition("/demo?")[0]

    @property
    def curls(self) -> list[str]:
        return re.findall(r"^ +(curl .+)$", self.text, re.MULTILINE)

    def worker(self) -> int:
        """The process id of the worker."""
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(self.process.pid)}
        return next(pid for pid, command in commands.items() if "taskapi.demo.worker" in command)

    def tasks(self) -> set[tuple[str, str | None]]:
        """The tasks' status words, each with the messages that came with it."""
        engine = open_engine(self.database)
        try:
            with engine.connect() as connection:
                rows = connection.exec_driver_sql("SELECT status, result_message FROM user_tasks")
                return {(status, message) for status, message in rows}
        finally:
            engine.dispose()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(20)
        self.pipe.close()


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start a demo of the test's own: `start_demo("--port", "8001")`."""
    demos: list[Demo] = []

    def start(*arguments: str) -> Demo:
        demos.append(Demo(tmp_path, *arguments))
        return demos[-1]

    yield start
    for demo in demos:
        demo.close()


# What a deck is.


@pytest.mark.parametrize("topic", decks.TOPICS, ids=lambda topic: topic.title)
def test_every_topic_is_found_in_this_python(topic: Topic) -> None:
    lessons = decks.plan(topic)

    assert {lesson.module.partition(".")[0] for lesson in lessons} == set(topic.modules)
    assert sum(len(lesson.names) for lesson in lessons) > 100


def test_a_card_asks_for_a_signature_and_answers_with_its_documentation() -> None:
    cards = {card.question: card for card in decks.cards(decks.plan(Topic(1, "Small", ("heapq", "queue"))))}

    card = cards["heappush(heap, item)"]
    assert card.module == "heapq"
    assert card.answer == "Push item onto heap, maintaining the heap invariant."
    assert set(card.used_in) == {"heapq", "queue"}
    assert "Queue.put(self, item, block=True, timeout=None)" in cards
    assert not any(question.startswith("_") for question in cards)


def test_as_many_cards_are_made_as_were_planned() -> None:
    lessons = decks.plan(Topic(1, "Small", ("heapq", "json", "queue")))

    assert len(list(decks.cards(lessons))) == sum(len(lesson.names) for lesson in lessons)


def test_a_module_without_source_fails_after_the_cards_before_it() -> None:
    cards = decks.cards(decks.plan(Topic(1, "Small", ("heapq", "sys", "queue"))))

    assert next(cards).module == "heapq"
    with pytest.raises(TypeError, match="'sys'"):
        list(cards)


def test_a_deck_is_saved_to_read_and_a_later_one_replaces_it(tmp_path: Path) -> None:
    topic = Topic(1, "<Small>", ("heapq",))
    lessons = decks.plan(topic)
    cards = list(decks.cards(lessons))

    for _ in range(2):
        decks.save_structure(tmp_path, topic, lessons)
        decks.save_cards(tmp_path, topic, cards)

    assert json.loads((tmp_path / "structure.json").read_text())["lessons"] == {"heapq": lessons[0].names}
    assert len(json.loads((tmp_path / "cards.json").read_text())) == len(cards)
    page = (tmp_path / "cards.html").read_text()
    assert page.count("<details>") == len(cards)
    assert "<title>&lt;Small&gt;</title>" in page


# A deck is a task.


@pytest.fixture
def worker(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setenv("TASKAPI_DATABASE_URL", database_url)
    return Worker(tmp_path)


def only_task(engine: sa.Engine) -> dict[str, object]:
    with engine.connect() as connection:
        return dict(connection.execute(sa.text("SELECT * FROM user_tasks")).mappings().one())


def test_a_deck_that_is_done_is_a_completed_task(worker: Worker, engine: sa.Engine, tmp_path: Path) -> None:
    worker.build(Topic(7, "Small", ("heapq", "queue")))

    task = only_task(engine)
    made = len(json.loads((tmp_path / "7" / "cards.json").read_text()))
    assert (task["user_id"], task["learning_path_id"]) == (123, 7)
    assert (task["status"], task["stage"], task["progress"]) == ("completed", "finished", 100.0)
    assert task["total_items"] == task["completed_items"] == made
    assert task["result_message"] == f"Small: {made} cards created"


def test_a_module_without_source_is_a_failed_task_with_its_traceback(worker: Worker, engine: sa.Engine) -> None:
    with pytest.raises(TypeError):
        worker.build(Topic(7, "Small", ("heapq", "sys", "queue")))

    task = only_task(engine)
    assert (task["status"], task["stage"]) == ("failed", "generating_cards")
    assert 0 < float(str(task["progress"])) < 100
    assert "TypeError: <module 'sys' (built-in)> is a built-in module" in str(task["error_details"])


def test_a_deck_that_is_stopped_is_a_failed_task_that_says_so(worker: Worker, engine: sa.Engine) -> None:
    worker.stop()

    with pytest.raises(DemoStopped):
        worker.build(Topic(7, "Small", ("heapq",)))

    task = only_task(engine)
    assert (task["status"], task["result_message"]) == ("failed", "The demo was stopped.")


# It ends with everything that it started.


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_and_leaves_no_task_hanging(start_demo: Callable[..., Demo], number: int) -> None:
    demo = start_demo("--port", str(free_port()))
    demo.wait_until_ready()
    wait_until(lambda: ("running", None) in demo.tasks())
    started = descendants(demo.process.pid)
    assert len(started) >= 3  # gunicorn, its worker, ours

    demo.process.send_signal(number)
    demo.process.send_signal(number)  # as impatient people do
    status = demo.process.wait(10)

    assert status == 0
    assert alive(started) == set()
    assert ("failed", "The demo was stopped.") in demo.tasks()
    assert {status for status, _ in demo.tasks()} <= {"failed", "completed"}
    assert demo.says("Ended.")


@pytest.mark.slow
def test_sigkill_of_the_demo_ends_its_children_too(start_demo: Callable[..., Demo]) -> None:
    demo = start_demo("--port", str(free_port()))
    demo.wait_until_ready()
    wait_until(lambda: ("running", None) in demo.tasks())
    started = descendants(demo.process.pid)

    demo.process.kill()

    wait_until(lambda: not alive(started), 10)
    assert ("failed", "The demo was stopped.") in demo.tasks()
    assert {status for status, _ in demo.tasks()} <= {"failed", "completed"}


def test_the_demo_ends_with_a_message_if_a_child_ends_by_itself(start_demo: Callable[..., Demo]) -> None:
    demo = start_demo("--port", str(free_port()))
    demo.wait_until_ready()
    started = descendants(demo.process.pid)

    os.kill(demo.worker(), signal.SIGKILL)

    assert demo.process.wait(10) == 1
    assert demo.says("Error: The worker ended by SIGKILL.")
    assert alive(started) == set()


def test_a_server_that_cannot_start_is_shown_with_its_log(tmp_path: Path) -> None:
    settings = {**environment(f"sqlite:///{tmp_path}/demo.db"), "GUNICORN_CMD_ARGS": "--worker-class nix"}

    ended = subprocess.run(
        [FLASK, "demo", "--folder", str(tmp_path)], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=30
    )

    assert ended.returncode == 1
    assert "Error: The server ended with exit status" in ended.stderr
    assert "nix" in ended.stderr
    assert "curl" not in ended.stdout


def test_a_port_that_was_asked_for_and_is_in_use_is_a_sentence(start_demo: Callable[..., Demo]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        demo = start_demo("--port", str(port))

        assert demo.process.wait(10) == 1
    assert demo.says(f"Error: Port {port} is in use.\n")
    assert "Traceback" not in demo.text


# What it prints works as it stands.


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo that tests share and leave as it was."""
    demo = Demo(tmp_path_factory.mktemp("demo"))
    try:
        demo.wait_until_ready()
        yield demo
    finally:
        demo.close()


def test_the_page_answers_at_the_printed_url(demo: Demo) -> None:
    with urlopen(demo.url) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/html")


def test_one_url_and_two_curl_lines_are_printed_that_a_screen_has_room_for(demo: Demo) -> None:
    assert len(re.findall(r"^ +http\S+$", demo.text, re.MULTILINE)) == 1
    assert len(demo.curls) == 2
    assert len(demo.url) < 60
    assert "eyJ" not in demo.text


def test_the_printed_url_signs_in_any_number_of_times_and_nothing_like_it_does(demo: Demo) -> None:
    def location(query: str) -> str | None:
        with contextlib.closing(HTTPConnection(demo.origin.removeprefix("http://"), timeout=10)) as connection:
            connection.request("GET", f"/demo{query}")
            return connection.getresponse().headers["Location"]

    query = demo.url.removeprefix(f"{demo.origin}/demo")
    for _ in range(2):
        assert str(location(query)).startswith("/#token=eyJ")
    assert [location(other) for other in ("", "?", query[:-1], f"{query}x", "?%FF")] == [None] * 5


def test_what_signs_in_is_in_no_log_and_goes_with_the_demo(
    start_demo: Callable[..., Demo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--access-logfile -")
    demo = start_demo("--port", str(free_port()))
    demo.wait_until_ready()
    header, log = demo.folder / "demo-header", demo.folder / "demo-server.log"
    assert header.stat().st_mode & 0o777 == 0o600

    urlopen(demo.url).close()
    wait_until(lambda: "GET /demo HTTP" in log.read_text())
    assert demo.url.partition("?")[2] not in log.read_text()

    demo.process.terminate()

    assert demo.process.wait(20) == 0
    assert not header.exists()


def test_the_first_curl_line_polls_the_newest_task(demo: Demo) -> None:
    def newest() -> list[dict[str, object]]:
        polled = subprocess.run(demo.curls[0], shell=True, capture_output=True, check=True, timeout=10)
        return list(json.loads(polled.stdout))

    (task,) = wait_until(newest)

    assert "_deck_123_" in str(task["task_id"])
    assert task["user_id"] == 123


def test_the_second_curl_line_shows_a_bar_that_moves(demo: Demo) -> None:
    seen: dict[str, set[float]] = {}

    with subprocess.Popen(f"exec {demo.curls[1]}", shell=True, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        try:
            for event in parse(line.rstrip("\n") for line in curl.stdout):
                if event.name == "message" and event.json["stage"] == "generating_cards":
                    seen.setdefault(event.json["task_id"], set()).add(event.json["progress"])
                if any(len(values - {0, 100}) >= 2 for values in seen.values()):
                    break
        finally:
            curl.kill()

    assert any(len(values - {0, 100}) >= 2 for values in seen.values())


def test_the_curl_lines_hold_one_argument_each_where_a_shell_could_split_them(demo: Demo) -> None:
    for line in demo.curls:
        *_, header, url = shlex.split(line)
        assert header == f"@{demo.folder}/demo-header"
        assert url.startswith(demo.origin)


def test_the_worker_gives_way_to_others(demo: Demo) -> None:
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, demo.worker()) == 5)


def test_another_port_is_taken_if_8000_is_in_use(demo: Demo, start_demo: Callable[..., Demo]) -> None:
    second = start_demo()  # the shared one, or somebody else, has 8000
    second.wait_until_ready()

    assert second.origin not in (demo.origin, "http://127.0.0.1:8000")
    with urlopen(second.url) as response:
        assert response.status == 200
