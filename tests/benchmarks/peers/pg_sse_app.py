"""pg-sse as its README shows it: a trigger notifies, every stream reads again from its cursor."""

import os

from pg_sse import Event, Hub, IntCursor
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.routing import Route

URL = os.environ["DATABASE_URL"]
hub = Hub(URL, channel="bench_change", max_subscribers=20_000)
cursors = IntCursor()
pool = AsyncConnectionPool(URL, open=False, min_size=4, max_size=10)


async def read_after(room, after):
    async with pool.connection() as connection:
        rows = await connection.execute(
            "SELECT id, body FROM bench_messages WHERE room = %s AND id > %s ORDER BY id DESC LIMIT 1", (room, after)
        )
        return [Event({"body": body}, id=number) for number, body in await rows.fetchall()]


async def stream(request):
    await pool.open()
    cursor = cursors.parse_one(request.headers.get("last-event-id"))
    return hub.sse("hot", read=lambda after: read_after("hot", after), cursor=cursor or 0)


app = Starlette(routes=[Route("/stream", stream)], lifespan=hub.lifespan)
