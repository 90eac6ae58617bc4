"""RQ: the web side makes the task, a worker process reports under its id, and tries again what broke off.

Run in this folder, with TASKAPI_DATABASE_URL set as for the server (and REDIS_URL, if Redis is elsewhere):
    rq worker --url "${REDIS_URL:-redis://127.0.0.1:6379/0}"
    python -c "import rq_jobs; print(rq_jobs.start(123, '/usr/lib/python3', '/tmp/modules.zip'))"
"""

import os
import pathlib
import zipfile

from redis import ConnectionError, Redis
from rq import Queue, Retry, get_current_job

from taskapi.progress import Progress

queue = Queue(connection=Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")))
progress = Progress()  # connects when it is first used, so RQ's forked processes may share it


def pack_modules(task_id: str, folder: str, archive: str) -> None:
    again = bool(get_current_job().retries_left)  # the last attempt decides
    # In this order: the archive is closed before the task counts as completed.
    with progress.run(task_id, retry=again) as task, zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        task.stage("packing_modules")
        for file in task.track(sorted(pathlib.Path(folder).rglob("*.py"))):
            packed.write(file, file.relative_to(folder))
        task.result(f"{len(packed.namelist())} modules")


def start(user_id: int, folder: str, archive: str) -> str:
    """What a view calls. The row comes first: a worker may be faster than the next line."""
    task_id = progress.create(user_id=user_id, kind="pack_modules", status="queued")
    try:
        queue.enqueue(pack_modules, task_id, folder, archive, job_timeout=600, retry=Retry(max=2))
    except ConnectionError:  # no Redis
        with progress.run(task_id):
            raise  # leaves the task "failed", so that no bar waits for ever
    return task_id
