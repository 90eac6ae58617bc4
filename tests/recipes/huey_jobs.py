"""Huey: the web side makes the task, a worker process reports under its id, and tries again what broke off.

Run in this folder, with TASKAPI_DATABASE_URL set as for the server (and REDIS_URL, if Redis is elsewhere):
    huey_consumer huey_jobs.huey
    python -c "import huey_jobs; print(huey_jobs.start(123, '/usr/lib/python3'))"
A worker that is killed takes its job along: Huey hands it to nobody else, and the task becomes "timeout".
"""

import os
import pathlib

from huey.api import CancelExecution, RedisHuey, Task
from redis import ConnectionError

from taskapi.progress import Progress, TaskClosed

huey = RedisHuey("taskapi", url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), results=False)
progress = Progress()  # connects when it is first used, so Huey's processes may share it


@huey.task(retries=2, retry_delay=1, context=True)
def count_words(task_id: str, folder: str, task: Task = None) -> None:
    try:
        with progress.run(task_id, retry=task.retries > 0) as running:  # the last attempt decides
            files = running.track(sorted(pathlib.Path(folder).rglob("*.py")))
            running.result(f"{sum(len(file.read_text().split()) for file in files)} words")
    except TaskClosed:  # what has ended is not tried again
        raise CancelExecution(retry=False) from None


def start(user_id: int, folder: str) -> str:
    """What a view calls. The row comes first: a worker may be faster than the next line."""
    task_id = progress.create(user_id=user_id, kind="count_words", status="queued")
    try:
        count_words(task_id, folder)
    except ConnectionError:  # no Redis
        with progress.run(task_id):
            raise  # leaves the task "failed", so that no bar waits for ever
    return task_id
