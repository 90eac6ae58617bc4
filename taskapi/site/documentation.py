"""The documentation at `/docs/`: the Markdown files of `taskapi/docs`, as pages."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from flask import Blueprint, Response
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup, escape

from ..errors import NotFoundError
from .page import rendered

DOCS = Path(__file__).parent.parent / "docs"

bp = Blueprint(
    "documentation",
    __name__,
    static_folder=str(DOCS),
    static_url_path="/docs/files",
    template_folder="templates",
)

# Where the files' own links lead to here; what only a checkout has is shown without a link.
_PAGE = re.compile(r"([\w-]+)\.md(#[\w-]+)?")
_FILE = re.compile(r"(?:pictures|recipes)/.+")
_ELSEWHERE = re.compile(r"https?://.+|#.+|\.\./static/.+")


class Page(NamedTuple):
    """A file of the documentation, ready to be shown."""

    name: str
    body: Markup


@bp.get("/docs/")
def contents() -> Response:
    """What there is to read."""
    return _shown(_read("index"))


@bp.get("/docs/<page>")
def document(page: str) -> Response:
    """One page. Raises `NotFoundError`."""
    if page not in _titles():
        raise NotFoundError("There is no such page.")
    return _shown(_read(page))


def _shown(page: Page) -> Response:
    return rendered("taskapi/documentation.html", page=page, titles=_titles())


@cache
def _titles() -> dict[str, str]:
    """Each page's title by its name, in the order of the contents."""
    found = re.findall(r"\[([^\]]+)\]\(([\w-]+)\.md\)", (DOCS / "index.md").read_text())
    return {name: title for title, name in found}


@cache
def _read(name: str) -> Page:
    tokens = _MARKDOWN.parse((DOCS / f"{name}.md").read_text())
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(inline.content))
        _mend_links(inline.children or [])
    html = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    return Page(name, Markup(html))  # noqa: S704 - our own file, its HTML escaped


def _anchor(title: str) -> str:
    """The name of a heading, as GitHub has it."""
    return re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")


def _mend_links(tokens: list[Token]) -> None:
    hidden = False
    for token in tokens:
        if token.type == "link_open":
            address = _address(str(token.attrs["href"]))
            token.attrSet("href", address)
            hidden = not address
        if token.type in ("link_open", "link_close"):
            token.hidden = hidden
        if token.type == "image":
            token.attrSet("src", _address(str(token.attrs["src"])))


def _address(target: str) -> str:
    """Where what a file links to is here; nothing for what only a checkout has."""
    if page := _PAGE.fullmatch(target):
        name, heading = page.groups(default="")
        return ("./" if name == "index" else name) + heading
    if _FILE.fullmatch(target):
        return f"files/{target}"
    return target if _ELSEWHERE.fullmatch(target) else ""


class _Rules:
    """How we render what may be wider than the page: in a frame that scrolls, by keyboard, too."""

    @staticmethod
    def fence(_self: object, tokens: list[Token], index: int, _options: OptionsDict, _env: object) -> str:
        return f'<pre tabindex="0"><code>{escape(tokens[index].content)}</code></pre>\n'

    @staticmethod
    def table_open(*_given: object) -> str:
        return '<div class="table" tabindex="0"><table>\n'

    @staticmethod
    def table_close(*_given: object) -> str:
        return "</table></div>\n"


def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    for name in ("fence", "table_open", "table_close"):
        markdown.add_render_rule(name, getattr(_Rules, name))
    return markdown


_MARKDOWN = _markdown()
