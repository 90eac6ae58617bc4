"""Many bars at once as browsers have them: each reconnects with the last id it has, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterable
from typing import Any

FINAL = ("completed", "failed", "timeout")


class EventSource:
    """One `EventSource` (HTML standard, 9.2): any answer but a 200 is final, the end of one is not."""

    def __init__(self, path: str, token: str) -> None:
        self.path = path
        self.newest: dict[str, Any] = {}
        self.connections = 0
        self.answer: int | None = None  # the one that ended it for good
        self._token = token
        self._last_id = ""
        self._retry = 1.0

    @property
    def is_final(self) -> bool:
        """Whether the bar shows an end."""
        return self.newest.get("status") in FINAL

    async def follow(self, port: Callable[[], int]) -> None:
        """Go on until it is told to stop."""
        while self.answer is None:
            with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
                await self._connect(port())
            if self.answer is None:
                await asyncio.sleep(self._retry)

    async def _connect(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            # HTTP/1.0, so that the body has no chunks.
            request = (
                f"GET {self.path} HTTP/1.0\r\nAuthorization: Bearer {self._token}\r\nAccept: text/event-stream\r\n"
            )
            writer.write(f"{request}Last-Event-ID: {self._last_id}\r\n\r\n".encode())
            status = int((await reader.readuntil(b"\r\n")).split()[1])
            await reader.readuntil(b"\r\n\r\n")
            if status != 200:
                self.answer = status
                return
            self.connections += 1
            while line := await reader.readline():
                self._read(line.decode().rstrip("\r\n"))
        finally:
            writer.close()

    def _read(self, line: str) -> None:
        field, _, value = line.partition(": ")
        if field == "id":
            self._last_id = value
        elif field == "retry":
            self._retry = int(value) / 1000
        elif field == "data" and '"task_id"' in value and '"progress"' in value:
            self.newest = json.loads(value)


class Crowd(threading.Thread):
    """Everybody who looks, in a thread of its own."""

    def __init__(self, sources: Iterable[EventSource], port: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self.sources = list(sources)
        self._port = port
        self.start()

    def run(self) -> None:
        """Let all look until all were told to stop."""
        asyncio.run(self._follow_all())

    async def _follow_all(self) -> None:
        await asyncio.gather(*(source.follow(self._port) for source in self.sources))
