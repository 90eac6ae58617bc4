"""The service as its clients reach it: through proxies, prefixes and whatever else is in front."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPMessage
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from .findings import Finding, note, well, wrong

# A stream has a word for its client every 15 seconds at least, and its headers come at once.
ANSWER_SECONDS = 20.0
AT_ONCE_SECONDS = 2.0


class _Answer(NamedTuple):
    status: int
    headers: HTTPMessage
    body: bytes
    seconds: float


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        """A redirect is an answer: a login page's, most often."""


_open = build_opener(_NoRedirect).open


def findings(url: str, prefix: str, token: str | None) -> Iterator[Finding]:
    """What a client without a token gets, and one with it; how soon a stream begins; what is public."""
    try:
        yield _refusal(f"{url}{prefix}/users/me")
        if token is None:
            yield note("stream", "Without a token no stream can be opened.", "Give one: --token, or TASKAPI_TOKEN.")
        else:
            yield from _served(f"{url}{prefix}/users/me", token)
        yield from _secrets(url)
    except (OSError, HTTPException, ValueError) as error:
        cause = getattr(error, "reason", error)
        yield wrong("url", f"{url} cannot be reached: {cause}.", "Is it the address that browsers use?")


def _refusal(url: str) -> Finding:
    answer = _get(url)
    kind = answer.headers.get_content_type()
    if answer.status == 401 and kind == "application/problem+json":
        return well("url", "Who brings no token is refused by taskapi itself.")
    return wrong(
        "url",
        f"Who brings no token gets {answer.status} ({kind}) at {url}, not taskapi's 401.",
        "Something else answers there: a login page, another application, or the prefix is another one.",
    )


def _served(url: str, token: str) -> Iterator[Finding]:
    answer = _get(url, token)
    if answer.status != 200:
        yield wrong("token", f"The token gets {answer.status}: {_detail(answer)}",
                    "Does the proxy pass the Authorization header on, and do all nodes have the same key?")  # fmt: skip
        return
    yield well("token", "The token is taken.")
    try:
        yield _stream(_get(f"{url}/events", token, first=True))
    except TimeoutError:
        yield _buffered(ANSWER_SECONDS)


def _stream(answer: _Answer) -> Finding:
    if answer.status != 200 or answer.headers.get_content_type() != "text/event-stream":
        return wrong("stream", f"The stream's answer is {answer.status} ({answer.headers.get_content_type()}).",
                     "Let everything below the prefix reach taskapi unchanged.")  # fmt: skip
    if encoding := answer.headers["Content-Encoding"]:
        return wrong("stream", f"A proxy compresses the stream ({encoding}), and so holds it back.",
                     "Do not compress text/event-stream.")  # fmt: skip
    if answer.seconds > AT_ONCE_SECONDS:
        return _buffered(answer.seconds)
    return well("stream", f"A stream begins at once ({1000 * answer.seconds:.0f} ms).")


def _buffered(seconds: float) -> Finding:
    return wrong(
        "stream",
        f"Nothing of a stream had come after {seconds:.0f} s: a proxy buffers it.",
        "Switch buffering off for it: `proxy_buffering off` in nginx, or let X-Accel-Buffering count.",
    )


def _secrets(url: str) -> Iterator[Finding]:
    if _get(f"{url}/metrics").status == 200:
        yield note("metrics", f"{url}/metrics answers everybody.", "Keep it from the public in the proxy.")


def _get(url: str, token: str | None = None, *, first: bool = False) -> _Answer:
    """An answer, or of one that goes on its beginning."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("it is not an http or https URL")
    headers = {"Accept-Encoding": "gzip"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    began = time.monotonic()
    try:
        response = _open(Request(url, headers=headers), timeout=ANSWER_SECONDS)  # noqa: S310 - the scheme is checked
    except HTTPError as error:
        response = error
    seconds = time.monotonic() - began
    with response:
        return _Answer(response.status, response.headers, response.read(1) if first else response.read(), seconds)


def _detail(answer: _Answer) -> str:
    try:
        return str(json.loads(answer.body)["detail"])
    except (ValueError, KeyError, TypeError):
        return "an answer that is not taskapi's."
