"""The demo's worker process: builds deck after deck, and reports each as a task. Knows no server.

`python -m taskapi.demo.worker FOLDER` writes the decks into a folder, until SIGTERM.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..progress import Progress, Task
from . import USER_ID, decks
from .decks import Card, Topic

log = logging.getLogger(__name__)

# How many decks are made at the same time, by threads: together they never take more than one core.
LANES = 2
PAUSE_SECONDS = 1.0
NICENESS = 5
STOPPED = "The demo was stopped."


class DemoStopped(Exception):
    """The demo ends before the deck is done."""


class Worker:
    """Builds decks into a folder until it is told to stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopping = False
        self.progress = Progress()
        self.topics = itertools.cycle(decks.TOPICS)

    def stop(self, *_signal: Any) -> None:
        """Let the decks that are being made fail, and make no more."""
        self.stopping = True

    def run(self) -> None:
        """Build one deck after another, whatever becomes of each."""
        while not self.stopping:
            topic = next(self.topics)
            try:
                self.build(topic)
            except DemoStopped:
                return
            except Exception as error:  # the task has its traceback
                log.warning("No deck about %s: %s", topic.title, error)
            time.sleep(PAUSE_SECONDS)

    def build(self, topic: Topic) -> None:
        """Build one deck, as a task."""
        folder = self.folder / str(topic.number)
        task_id = self.progress.create(
            user_id=USER_ID, kind=topic.kind, learning_path_id=topic.number, stage="initializing"
        )
        with self.progress.run(task_id) as task:
            task.stage("planning_path_structure")
            lessons = decks.plan(topic)
            task.stage("saving_structure")
            decks.save_structure(folder, topic, lessons)
            task.stage("generating_cards")
            planned = sum(len(lesson.names) for lesson in lessons)
            cards = list(task.track(self._until_stopped(task, decks.cards(lessons)), planned))
            decks.save_cards(folder, topic, cards)
            task.result(f"{topic.title}: {len(cards)} cards created")

    def _until_stopped(self, task: Task, cards: Iterable[Card]) -> Iterator[Card]:
        # Looks at a flag: an exception out of the signal handler could hit the report of this very failure.
        for card in cards:
            if self.stopping:
                task.result(STOPPED)
                raise DemoStopped(STOPPED)
            yield card


def main() -> None:
    """Work until SIGTERM."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    os.nice(NICENESS)
    worker = Worker(Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, worker.stop)
    with ThreadPoolExecutor(LANES) as lanes:
        for lane in [lanes.submit(worker.run) for _ in range(LANES)]:
            lane.result()


if __name__ == "__main__":
    main()
