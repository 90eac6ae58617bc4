"""The documentation's pages, and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "taskapi" / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]

# A file names itself in its first line.
NAME = re.compile(r"(?:# |// |-- |<!-- |\+\+\+ )([\w./-]+\.\w+)(?: -->)?\n")


class Block(NamedTuple):
    """A block of code: its language, the file that it is or changes, and its text."""

    language: str
    file: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order; indented ones of a list, too."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [
        Block(
            language, name[1] if (name := NAME.match(text)) else "", re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
        )
        for indent, language, text in found
    ]
