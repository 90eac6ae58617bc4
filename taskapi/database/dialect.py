"""What the two databases do differently, as one interface; `sqlite` and `postgresql` fill it in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .address import AnyUrl, Url
from .statements import Statements

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


class Dialect(ABC):
    """One of the two databases."""

    name: str
    # SQLAlchemy's name of the driver that we know.
    drivername: str
    # Whether the database is a file of this machine, which the server and the helper make and bring up to date.
    is_embedded: bool
    statements: Statements
    # What lets one upgrade wait for another.
    before_upgrade: tuple[str, ...] = ()
    # What follows an upgrade to the tables that tell their own version.
    after_upgrade: tuple[str, ...] = ()

    @abstractmethod
    def insist_on_driver(self) -> None:
        """Raise what says how to get it, if the driver is not there or too old. Imports nothing."""

    @property
    @abstractmethod
    def driver(self) -> Any:
        """The driver's module (PEP 249)."""

    @abstractmethod
    def load(self) -> None:
        """Import what connections need; where another thread does, wait until it has."""

    @abstractmethod
    def engine_options(self, url: Url) -> dict[str, Any]:
        """The options of `sqlalchemy.create_engine`."""

    @abstractmethod
    def prepare(self, engine: Engine) -> None:
        """Give an engine of our own what we count on: moments in UTC, writers that wait for each other."""

    @abstractmethod
    def open_reader(self, url: Url) -> Any:
        """A new connection of the driver, in autocommit mode, for statements that only read, which its `rows` takes."""

    @abstractmethod
    def open_changer(self, url: Url) -> Any:
        """The same for `change`."""

    @abstractmethod
    def change(self, connection: Any, changes: Sequence[tuple[str, Mapping[str, Any]]]) -> list[list[tuple[Any, ...]]]:
        """Run statements, written for the driver, in one transaction of theirs; the rows that each returns."""

    @abstractmethod
    def is_current(self, connection: Any) -> bool:
        """Whether a connection of ours still leads to the database that others see."""

    @abstractmethod
    def is_lost(self, connection: Any) -> bool:
        """Whether a connection on which something went wrong has lost its server."""

    @abstractmethod
    def is_in_transaction(self, connection: Any) -> bool:
        """Whether an application's connection still is in a transaction after it has released a savepoint."""

    @abstractmethod
    def statement_for_driver(self, statement: str) -> str:
        """A statement whose parameters are written `:name`, as the driver wants them."""

    @abstractmethod
    def list_parameter(self, values: Iterable[int | str | None]) -> Any:
        """A list of numbers, or of texts, as one parameter."""

    @abstractmethod
    def known_parameters(self, known: Mapping[int, int]) -> dict[str, Any]:
        """The parameters of the statement `news`, of tasks given as `{id: revision}`."""

    @abstractmethod
    def is_outdated(self, error: Exception) -> bool:
        """Whether the database answered that it has no such table or column."""

    @abstractmethod
    def explain(self, url: AnyUrl, error: Exception) -> str:
        """What went wrong where, in a sentence for the operator: without statements, values of rows or passwords."""

    @abstractmethod
    def make_file(self, url: AnyUrl) -> None:
        """Make an embedded database's file, if there is none. Raises `DatabaseError`."""

    @abstractmethod
    def prepare_file(self, url: AnyUrl) -> None:
        """The same for one that is ours alone, as we want it. Nothing else makes a file."""
