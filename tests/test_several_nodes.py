"""A bad day of several nodes: what the page Deployment promises, with two thousand bars open all the time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from clusters import Cluster
from eventsources import FINAL, Crowd, EventSource
from harness import ROOT, Server, environment, free_port, make_token, migrate, wait_until
from test_failover import Pair
from test_nginx import NGINX, Nginx

from taskapi.progress import Progress

USERS, TASKS_OF_EACH = 100, 20
TASKS = USERS * TASKS_OF_EACH
PROCESSES = 8
LEASE_SECONDS = 15
# Works on its share of the tasks, each for some minutes or less, a change every few seconds; every tenth fails.
WORKER = f"""
    import sys, threading, time
    from taskapi.progress import Progress, TaskClosed

    progress = Progress()

    def work(number):
        try:
            with progress.run(f"bar_{{number}}") as task:
                for _ in task.track(range(12)):
                    time.sleep(4 + number % 7)
                if number % 10 == 0:
                    raise ValueError("this one fails")
        except (TaskClosed, ValueError):
            pass

    mine = range(int(sys.argv[1]), {TASKS}, {PROCESSES})
    threads = [threading.Thread(target=work, args=(number,)) for number in mine]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NGINX is None, reason="nginx is not installed")]


class House:
    """Two nodes behind nginx, on a primary with a standby."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self._folder = folder
        ports = [free_port(), free_port()]
        self._started = 0
        self.nodes = [self._start(port) for port in ports]
        self.nginx = self._nginx()

    def _start(self, port: int) -> Server:
        self._started += 1
        log = self._folder / f"node{self._started}.log"
        return Server(self.pair.url, log, "--workers", "1", port=port, LEASE_SECONDS=LEASE_SECONDS)

    def _nginx(self) -> Nginx:
        backends = "; server ".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return Nginx(backends, self._folder)

    def roll_out(self) -> None:
        """A new version, node by node."""
        for node in self.nodes:
            old = node.workers()
            node.process.send_signal(signal.SIGHUP)
            wait_until(partial(has_changed, node, old), 60)
            wait_until(partial(node.answers, "/readyz"), 60)

    def lose_a_node(self) -> None:
        """kill -9, and a new one in its place some seconds later."""
        port = self.nodes[0].port
        self.nodes[0].close()
        self.nodes[0] = self._start(port)

    def lose_nginx(self) -> None:
        """kill -9, and start it again."""
        self.nginx.process.kill()
        self.nginx.process.wait()
        self.nginx = self._nginx()

    def close(self) -> None:
        self.nginx.close()
        for node in self.nodes:
            node.close()


@pytest.fixture
def house(start_cluster: Callable[..., Cluster], tmp_path: Path) -> Iterator[House]:
    primary = start_cluster(max_connections="200")
    migrate(primary.url())
    with contextlib.closing(
        House(Pair(primary, start_cluster(copy_of=primary, max_connections="200")), tmp_path)
    ) as house:
        yield house


@pytest.fixture
def workers(house: House) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two machines' worth of processes at work."""
    progress = Progress(house.pair.primary.url())
    for number in range(TASKS):
        progress.create(user_id=number % USERS, kind="bar", task_id=f"bar_{number}", status="queued")
    variables = environment(house.pair.url, LEASE_SECONDS=LEASE_SECONDS)
    command = [sys.executable, "-c", textwrap.dedent(WORKER)]
    processes = [subprocess.Popen([*command, str(number)], cwd=ROOT, env=variables) for number in range(PROCESSES)]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def has_changed(node: Server, old: list[int]) -> bool:
    """Whether other workers are at work."""
    return bool(node.workers()) and not set(node.workers()) & set(old)


def back_up(cluster: Cluster, path: Path) -> None:
    subprocess.run(["pg_dump", "-Fc", "-f", path, "-d", cluster.url()], check=True)


def restore(cluster: Cluster, path: Path) -> None:
    command = ["pg_restore", "--clean", "--if-exists", "--single-transaction", "-d", cluster.url()]
    subprocess.run([*command, str(path)], check=True)


def statuses(cluster: Cluster) -> dict[str, str]:
    return dict(cluster.query("SELECT task_id, status FROM user_tasks"))


def test_every_bar_ends_true_on_a_bad_day(house: House, workers: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    bars = [EventSource(f"/api/tasks/bar_{number}/events", make_token(number % USERS)) for number in range(TASKS)]
    crowd = Crowd(bars, lambda: house.nginx.port)
    wait_until(lambda: all(bar.newest for bar in bars), 90)

    house.roll_out()
    back_up(house.pair.primary, tmp_path / "backup")
    house.lose_a_node()
    os.kill(workers[0].pid, signal.SIGKILL)
    house.lose_nginx()
    house.pair.standby.wait_for(house.pair.primary)
    house.pair.fail_over()
    wait_until(lambda: all(node.answers("/readyz") for node in house.nodes), 60)
    ended_before = {bar.path for bar in bars if bar.answer is not None}
    restore(house.pair.standby, tmp_path / "backup")

    wait_until(lambda: not set(statuses(house.pair.standby).values()) - set(FINAL), 120)
    crowd.join(60)
    rows = statuses(house.pair.standby)
    assert Counter(bar.answer for bar in bars) == {204: TASKS}
    untrue = [
        (bar.path, bar.newest["status"], rows[bar.newest["task_id"]])
        for bar in bars
        if bar.path not in ended_before and bar.newest["status"] != rows[bar.newest["task_id"]]
    ]
    assert untrue == []
    assert set(Counter(rows.values())) == {"completed", "failed", "timeout"}
    for node in house.nodes:
        assert "Traceback" not in node.log.read_text()
