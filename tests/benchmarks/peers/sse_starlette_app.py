"""sse-starlette: one generator a stream, woken by a condition, that sends the newest message."""

import asyncio

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

newest = {"number": 0, "text": "first"}
changed = asyncio.Condition()


async def messages():
    sent = -1
    while True:
        async with changed:
            while newest["number"] == sent:
                await changed.wait()
            sent, text = newest["number"], newest["text"]
        yield {"id": str(sent), "data": text}


async def stream(_request):
    return EventSourceResponse(messages())


async def publish(request):
    text = (await request.body()).decode()
    async with changed:
        newest.update(number=newest["number"] + 1, text=text)
        changed.notify_all()
    return Response(status_code=204)


app = Starlette(routes=[Route("/stream", stream), Route("/publish", publish, methods=["POST"])])
