"""Where a database is: URLs as SQLAlchemy reads and writes them, for workers, who do without it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qsl, quote, quote_plus, unquote

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

AnyUrl: TypeAlias = "Url | URL"

_FORM = re.compile(
    r"""
    (?P<drivername>[\w+]+)://
    (?:(?P<username>[^:/]*)(?::(?P<password>[^@]*))?@)?
    (?:\[(?P<address>[^/?]+)\]|(?P<name>[^/:?]+))?(?::(?P<port>[^/?]*))?
    (?:/(?P<database>[^?]*))?
    (?:\?(?P<query>.*))?
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Url:
    """A database's address; its names are those of `sqlalchemy.engine.URL`, and its text is the same."""

    drivername: str
    username: str | None = None
    password: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    query: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any) -> Url:
        """Read a text, or a URL of SQLAlchemy's. Raises `ValueError`, and `AttributeError` for what is neither."""
        if not isinstance(value, str):
            return cls(**{part.name: getattr(value, part.name) for part in fields(cls)})
        found = _FORM.match(value)
        if found is None:
            raise ValueError("not a URL")
        parts = found.groupdict()
        return cls(
            drivername=parts["drivername"],
            username=_unquoted(parts["username"]),
            password=_unquoted(parts["password"]),
            host=parts["name"] or parts["address"],
            port=int(parts["port"]) if parts["port"] else None,
            database=_unquoted(parts["database"]),
            query=_query(parts["query"] or ""),
        )

    def get_backend_name(self) -> str:
        """The database's kind, without the driver's name."""
        return self.drivername.partition("+")[0]

    def set(self, **parts: Any) -> Url:
        """The same, but for these parts."""
        return replace(self, **parts)

    def __str__(self) -> str:
        return self.render_as_string()

    __repr__ = __str__

    def render_as_string(self, hide_password: bool = True) -> str:
        """The URL as text."""
        port = "" if self.port is None else f":{self.port}"
        database = "" if self.database is None else f"/{quote(self.database, safe=' +/')}"
        return f"{self.drivername}://{self._user(hide_password)}{self._host}{port}{database}{self._options}"

    def _user(self, hide_password: bool) -> str:
        if self.username is None:
            return ""
        secret = "***" if hide_password else quote(self.password or "", safe=" +")
        return quote(self.username, safe=" +") + ("" if self.password is None else f":{secret}") + "@"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if self.host and ":" in self.host else self.host or ""

    @property
    def _options(self) -> str:
        pairs = [(name, each) for name in sorted(self.query) for each in _several(self.query[name])]
        return "?" * bool(pairs) + "&".join(f"{quote_plus(name)}={quote_plus(each)}" for name, each in pairs)


def _unquoted(text: str | None) -> str | None:
    return None if text is None else unquote(text)


def _query(text: str) -> dict[str, str | tuple[str, ...]]:
    """The options of a URL; one that is there more than once has several values."""
    found: dict[str, str | tuple[str, ...]] = {}
    for name, value in parse_qsl(text):
        found[name] = (*_several(found[name]), value) if name in found else value
    return found


def _several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
