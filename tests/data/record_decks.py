"""Records how long the demo's decks wait and run, for the tests of forecasts: `python tests/data/record_decks.py`.

Decks about a few modules of a topic each are ordered at random moments, singly and in bursts, and made by two lanes
as in the demo. `decks.jsonl` then has a line for each: its moments in seconds since the first order, how it ended,
and its progress as it was in the row, given as `[moment, percent]`.
"""

from __future__ import annotations

import json
import queue
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from taskapi.database import connections, schema
from taskapi.demo import decks
from taskapi.demo.decks import Topic
from taskapi.progress import Progress

RECORDING = Path(__file__).with_name("decks.jsonl")
DECKS = 400
LANES = 2
# Between two orders, on average; some order several decks at once.
PAUSE_SECONDS = 4.0
MOST_AT_ONCE = 6
LOOK_SECONDS = 0.25
# How many points of a task's progress are kept.
POINTS = 12

ROWS = """
    SELECT task_id, status, progress,
        86400 * julianday(created_at), 86400 * julianday(started_at), 86400 * julianday(ended_at)
    FROM user_tasks ORDER BY id"""


def order(chance: random.Random) -> Topic:
    """A few modules of one topic."""
    number, title, modules = chance.choice(decks.TOPICS)
    return Topic(number, title, tuple(chance.sample(modules, chance.randint(1, 2))))


def make(progress: Progress, task_id: str, topic: Topic) -> None:
    """What the demo's worker does with a deck, but for the files."""
    with progress.run(task_id) as task:
        task.stage("planning_path_structure")
        lessons = decks.plan(topic)
        task.stage("generating_cards")
        cards = list(task.track(decks.cards(lessons), sum(len(lesson.names) for lesson in lessons)))
        task.result(f"{topic.title}: {len(cards)} cards created")


def lane(progress: Progress, orders: queue.Queue[tuple[str, Topic] | None]) -> None:
    """Make decks until there are no more orders."""
    while (ordered := orders.get()) is not None:
        try:
            make(progress, *ordered)
        except TypeError as error:  # a module without a source
            print(ordered[0], error)


def customers(progress: Progress, orders: queue.Queue[tuple[str, Topic] | None]) -> None:
    """Order decks at random moments."""
    chance = random.Random(1)
    ordered = 0
    while ordered < DECKS:
        time.sleep(chance.expovariate(1 / PAUSE_SECONDS))
        for _ in range(chance.choice((1, 1, 1, 2, MOST_AT_ONCE))):
            ordered += 1
            orders.put((progress.create(user_id=1, kind="deck", status="queued"), order(chance)))
    for _ in range(LANES):
        orders.put(None)


def look(engine: sa.Engine, seen: dict[str, dict[str, Any]]) -> None:
    """Note what the rows say now."""
    now = 86400 * (time.time() / 86400 + 2440587.5)
    with engine.connect() as connection:
        for task_id, status, progress, created, started, ended in connection.exec_driver_sql(ROWS):
            task = seen.setdefault(task_id, {"created": created, "progress": []})
            task |= {"started": started, "ended": ended, "status": status}
            if started and not ended and progress != (task["progress"] or [[0, 0]])[-1][1]:
                task["progress"].append([now, progress])


def rounded(seen: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The recording as it is kept."""
    first = min(task["created"] for task in seen.values())
    for task in seen.values():
        points = task["progress"]
        kept = [points[number * len(points) // POINTS] for number in range(POINTS)] if len(points) > POINTS else points
        task["progress"] = [[round(moment - first, 2), round(percent, 1)] for moment, percent in kept]
        task |= {name: round(task[name] - first, 3) for name in ("created", "started", "ended")}
    return list(seen.values())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/decks.db"
        engine = connections.open_engine(make_url(url))
        schema.upgrade(engine)
        progress = Progress(url)
        orders: queue.Queue[tuple[str, Topic] | None] = queue.Queue()
        threads = [threading.Thread(target=lane, args=(progress, orders)) for _ in range(LANES)]
        threads.append(threading.Thread(target=customers, args=(progress, orders)))
        for thread in threads:
            thread.start()
        seen: dict[str, dict[str, Any]] = {}
        while any(thread.is_alive() for thread in threads):
            look(engine, seen)
            time.sleep(LOOK_SECONDS)
        look(engine, seen)
        engine.dispose()
    RECORDING.write_text("".join(json.dumps(task) + "\n" for task in rounded(seen)))


if __name__ == "__main__":
    main()
