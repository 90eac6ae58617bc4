"""asyncio: counting is free; creating, starting and ending a task ask the database, so that is done in a thread.

$ python asyncio_worker.py 123 /usr/lib/python3  # with TASKAPI_DATABASE_URL set as for the server
"""

import asyncio
import contextlib
import pathlib
import sys
import zlib
from typing import Any

from taskapi.progress import Progress, Task


class InThread:
    def __init__(self, block: contextlib.AbstractContextManager[Task]) -> None:
        self.block = block

    async def __aenter__(self) -> Task:
        return await asyncio.to_thread(self.block.__enter__)

    async def __aexit__(self, *error: Any) -> None:  # "failed" for an exception, a cancelled task's too
        await asyncio.to_thread(self.block.__exit__, *error)


async def compress(file: pathlib.Path, task: Task) -> int:
    size = await asyncio.to_thread(lambda: len(zlib.compress(file.read_bytes())))
    task.advance()
    return size


async def main(user_id: int, folder: str) -> None:
    progress, files = Progress(), sorted(pathlib.Path(folder).rglob("*.py"))
    task_id = await asyncio.to_thread(progress.create, user_id=user_id, kind="compress", total_items=len(files))
    async with InThread(progress.run(task_id)) as task, asyncio.TaskGroup() as group:
        sizes = [group.create_task(compress(file, task)) for file in files]
        task.result(f"{sum([await size for size in sizes])} bytes")


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
