"""Every setting: its default, its name in the environment, its check."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from . import extras
from .database.address import Url

log = logging.getLogger(__name__)

PREFIX = "TASKAPI_"
# Variables that are no settings.
OTHER_VARIABLES = {"TASKAPI_TOKEN", "TASKAPI_DEMO_KEY", "TASKAPI_LOG_FORMAT"}
# How alike two names are, from 0 to 1, if one is the other misspelt. Beside ours, other sources name Flask's settings
# and those of its extensions.
ALIKE = 0.6
MISSPELT = 0.8
# RFC 7518 section 3.2: a key of the same size as the hash output or larger.
HS256_KEY_BYTES = 32

# Not `float()` and `int()` alone, which take "nan", "1_0" and other scripts' digits.
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_SWITCH = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}
_PREFIX = re.compile(r"(/[a-z0-9_.~-]+)+/?", re.IGNORECASE)
# A name only: what has other characters would be a regular expression to Flask-CORS.
_ORIGIN = re.compile(r"https?://[a-z0-9_.-]+(:[0-9]{1,5})?", re.IGNORECASE)


SWITCH = "1 or 0"


class ConfigError(ValueError):
    """A setting has a value that the service cannot run with; the text names the setting."""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _seconds(value: Any) -> float:
    if not _SECONDS.fullmatch(str(value)) or not float(value):
        raise ValueError
    return float(value)


def _seconds_or_zero(value: Any) -> float:
    return 0.0 if str(value) in ("0", "0.0") else _seconds(value)


def _error_details(value: Any) -> str:
    if value not in ("owner", "admin"):
        raise ValueError
    return str(value)


def _switch(value: Any) -> bool:
    return _SWITCH[str(value).lower()]


def _url_prefix(value: Any) -> str:
    if not _PREFIX.fullmatch(value):
        raise ValueError
    return str(value).rstrip("/")


def _count_or_zero(value: Any) -> int:
    return 0 if str(value) == "0" else _count(value)


def _count(value: Any) -> int:
    if not _COUNT.fullmatch(str(value)):
        raise ValueError
    return int(value)


def _algorithm(value: Any) -> str:
    if value not in ("HS256", "RS256", "ES256"):
        raise ValueError
    return str(value)


def _hs256_key(value: Any) -> str:
    if len(_text(value).encode()) < HS256_KEY_BYTES:
        raise ValueError
    return str(value)


def _origins(value: Any) -> list[str]:
    names = value.split(",") if isinstance(value, str) else list(value)
    return [_origin(name.strip()) for name in names if name.strip()]


def _origin(name: str) -> str:
    if not _ORIGIN.fullmatch(name):
        raise ValueError
    return name


def _database_url(value: Any) -> Url:
    url = Url.of(value)
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        extras.need("postgresql", "PostgreSQL")
        return url.set(drivername="postgresql+psycopg")
    if url.drivername != "sqlite" or url.database in (None, "", ":memory:"):
        raise ValueError
    return url


@dataclass(frozen=True)
class Setting:
    """One setting: `parse` takes what a file, the environment or a caller gave, and raises for a bad value."""

    default: Any
    parse: Callable[[Any], Any]
    wanted: str


SETTINGS = {
    "DATABASE_URL": Setting(
        "sqlite:///taskapi.db",
        _database_url,
        "an SQLAlchemy URL: sqlite:///FILE or postgresql://HOST/DATABASE",
    ),
    "JWT_SECRET_KEY": Setting(None, _hs256_key, f"a text of at least {HS256_KEY_BYTES} bytes (RFC 7518, 3.2)"),
    "JWT_ALGORITHM": Setting("HS256", _algorithm, "HS256, RS256 or ES256"),
    "JWT_PUBLIC_KEY": Setting(None, _text, "the signer's public key in PEM"),
    "SECRET_KEY": Setting(None, _hs256_key, f"a text of at least {HS256_KEY_BYTES} bytes"),
    "ADMIN_CLAIM": Setting("is_admin", _text, "the name of a claim"),
    "CORS_ORIGINS": Setting([], _origins, "origins such as https://app.example.com, comma separated"),
    "LEASE_SECONDS": Setting(60.0, _seconds, "a number of seconds above 0"),
    "MAX_STREAMS_PER_USER": Setting(50, _count, "a whole number, at least 1"),
    "MAX_STREAMS": Setting(None, _count, "a whole number, at least 1"),
    "MAX_THREAD_STREAMS": Setting(None, _count_or_zero, "a whole number"),
    "STREAM_MAX_AGE": Setting(900.0, _seconds, "a number of seconds above 0"),
    "MAX_WAITS_PER_USER": Setting(5, _count_or_zero, "a whole number"),
    "START_WITHIN_SECONDS": Setting(86_400.0, _seconds_or_zero, "a number of seconds, 0 for no limit"),
    "CANCEL_SECONDS": Setting(30.0, _seconds, "a number of seconds above 0"),
    "ERROR_DETAILS": Setting("owner", _error_details, "owner or admin"),
    "URL_PREFIX": Setting("/api/tasks", _url_prefix, "a path such as /api/tasks"),
    "PAGE": Setting(False, _switch, SWITCH),
    "DOCS": Setting(False, _switch, SWITCH),
    "METRICS": Setting(False, _switch, SWITCH),
    "HEALTH": Setting(False, _switch, SWITCH),
}


def instance_path() -> Path:
    """Where this installation keeps what is its own; the same folder for the server, the commands and the helper.

    In a checkout its folder `instance`, for an installed package one below `sys.prefix`, as Flask has it.
    """
    root = Path(__file__).resolve().parent.parent
    installed = root.name in ("site-packages", "dist-packages")
    return Path(sys.prefix, "var", "taskapi-instance") if installed else root / "instance"


def load(instance: Path, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read the settings: defaults, `instance/config.py`, the environment, then `settings`.

    Names that are not taskapi's own (those of Flask and its extensions) pass through `config.py` and `settings`
    unchecked. Raises `ConfigError`.
    """
    in_file = _from_file(instance / "config.py")
    _tell_of_strangers(os.environ, {*in_file, *(settings or {})})
    return _complete({**in_file, **_from_environment(), **(settings or {})}, instance)


def of_host(configuration: Mapping[str, Any], instance: Path) -> dict[str, Any]:
    """An application's settings: the environment, then the names that begin with `TASKAPI_` in its configuration.

    Raises `ConfigError`.
    """
    given = {name: configuration[PREFIX + name] for name in SETTINGS if PREFIX + name in configuration}
    _tell_of_strangers([*os.environ, *(name for name in configuration if name.startswith(PREFIX))], ())
    return _complete({**_from_environment(), **given}, instance)


def _from_file(path: Path) -> dict[str, Any]:
    """The names in capitals that a Python file assigns, as Flask reads one."""
    names: dict[str, Any] = {"__file__": str(path)}
    if path.exists():
        exec(compile(path.read_bytes(), path, "exec"), names)  # noqa: S102 - the operator's own file
    return {name: value for name, value in names.items() if name.isupper()}


def _from_environment() -> dict[str, str]:
    return {name: os.environ[PREFIX + name] for name in SETTINGS if PREFIX + name in os.environ}


def _complete(given: Mapping[str, Any], instance: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {name: setting.default for name, setting in SETTINGS.items()}
    settings.update(given)
    for name, setting in SETTINGS.items():
        if settings[name] is not None or setting.default is not None:
            settings[name] = _checked(name, setting, settings[name])
    settings["DATABASE_URL"] = _absolute(settings["DATABASE_URL"], instance)
    return settings


def _tell_of_strangers(variables: Iterable[str], names: Iterable[str]) -> None:
    """Log names that are no settings: all variables with our prefix, and of other names those that look like ours."""
    for variable in variables:
        if variable.upper().startswith(PREFIX) and variable not in {*OTHER_VARIABLES, *map(PREFIX.__add__, SETTINGS)}:
            tell_of_stranger(variable, PREFIX, ALIKE)
    for name in names:
        if name.startswith(PREFIX) or (name not in SETTINGS and _nearest(name, MISSPELT)):
            tell_of_stranger(name, "", MISSPELT)


@cache
def tell_of_stranger(name: str, prefix: str, alike: float) -> None:
    """Log, once in a process, that a name is no setting, and which one it is like; never its value."""
    nearest = _nearest(name.upper().removeprefix(PREFIX), alike)
    log.warning("%s is not a setting%s.", name, f": {prefix}{nearest} is" if nearest else "")


def _nearest(name: str, alike: float) -> str:
    import difflib  # hardly any process needs it

    return "".join(difflib.get_close_matches(name, SETTINGS, n=1, cutoff=alike))


def _checked(name: str, setting: Setting, value: Any) -> Any:
    try:
        return setting.parse(value)
    except (ValueError, TypeError, AttributeError, KeyError):
        # `from None` and no value in the text: it may be a key or hold a password.
        raise ConfigError(f"{PREFIX}{name} must be {setting.wanted}.") from None


def _absolute(url: Url, instance: Path) -> Url:
    """Resolve an embedded database's path against the instance folder, wherever the process was started."""
    if url.drivername != "sqlite":
        return url
    return url.set(database=str(instance / str(url.database)))


def add_keys(config: dict[str, Any], instance: Path) -> None:
    """Fill in the keys that were not given: made once, kept in the instance folder with mode 0600.

    Raises `ConfigError` if the key that verifies tokens is not one for `JWT_ALGORITHM`.
    """
    if config["JWT_ALGORITHM"] == "HS256":
        config["JWT_SECRET_KEY"] = config["JWT_SECRET_KEY"] or _kept_key("JWT_SECRET_KEY", instance)
        config["SECRET_KEY"] = config["SECRET_KEY"] or derived_key(config["JWT_SECRET_KEY"])
    config["SECRET_KEY"] = config["SECRET_KEY"] or _kept_key("SECRET_KEY", instance)
    _check_verification_key(config["JWT_ALGORITHM"], config)


def _check_verification_key(algorithm: str, config: Mapping[str, Any]) -> None:
    # Imported here: workers read the settings too, and verify nothing.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from jwt import PyJWTError
    from jwt.algorithms import get_default_algorithms

    name = "JWT_SECRET_KEY" if algorithm == "HS256" else "JWT_PUBLIC_KEY"
    try:
        key = config[name] if algorithm == "HS256" else load_pem_public_key(_text(config[name]).encode())
        get_default_algorithms()[algorithm].prepare_key(key)
    except (ValueError, TypeError, PyJWTError, UnsupportedAlgorithm):
        raise ConfigError(f"{PREFIX}{name} must be {SETTINGS[name].wanted}, of the kind for {algorithm}.") from None


def derived_key(secret: str | bytes) -> str:
    """The key of stream tickets, where only another secret is given."""
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.new(key, b"taskapi stream tickets", hashlib.sha256).hexdigest()


def _kept_key(name: str, instance: Path) -> str:
    path = instance / name.lower()
    if not path.exists():
        _write_once(path, secrets.token_urlsafe(48))
    return str(_checked(name, SETTINGS[name], path.read_text()))


def _write_once(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all; of several processes starting at once, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent) as draft:  # created with mode 0600
        draft.write(text)
        draft.flush()
        try:
            os.link(draft.name, path)
        except FileExistsError:
            return
