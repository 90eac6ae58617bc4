"""Settings: which source wins, what is refused, and the keys that are made once."""

from __future__ import annotations

import multiprocessing
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask import Flask
from harness import ROOT, Server

from taskapi import config, create_app
from taskapi.config import SETTINGS, ConfigError

LONG_KEY = "k" * 32
SECRET = "hunter2"


def load_with_keys(instance: Path, **settings: Any) -> dict[str, Any]:
    loaded = config.load(instance, settings)
    config.add_keys(loaded, instance)
    return loaded


# Which source wins.


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    loaded = config.load(tmp_path)

    assert str(loaded["DATABASE_URL"]) == f"sqlite:///{tmp_path}/taskapi.db"
    assert {name: loaded[name] for name in SETTINGS if name != "DATABASE_URL"} == {
        "JWT_SECRET_KEY": None,
        "JWT_ALGORITHM": "HS256",
        "JWT_PUBLIC_KEY": None,
        "SECRET_KEY": None,
        "ADMIN_CLAIM": "is_admin",
        "CORS_ORIGINS": [],
        "LEASE_SECONDS": 60.0,
        "MAX_STREAMS_PER_USER": 50,
        "MAX_STREAMS": None,
        "MAX_THREAD_STREAMS": None,
        "STREAM_MAX_AGE": 900.0,
        "MAX_WAITS_PER_USER": 5,
        "START_WITHIN_SECONDS": 86_400.0,
        "CANCEL_SECONDS": 30.0,
        "ERROR_DETAILS": "owner",
        "URL_PREFIX": "/api/tasks",
        "PAGE": False,
        "DOCS": False,
        "METRICS": False,
        "HEALTH": False,
    }


@pytest.mark.parametrize(
    ("in_file", "in_environment", "given", "expected"),
    [
        (None, None, None, 60),
        (2, None, None, 2),
        (None, 3, None, 3),
        (2, 3, None, 3),
        (None, None, 4, 4),
        (2, None, 4, 4),
        (None, 3, 4, 4),
        (2, 3, 4, 4),
    ],
)
def test_the_caller_wins_over_the_environment_over_the_file_over_the_default(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_file: int | None,
    in_environment: int | None,
    given: int | None,
    expected: float,
) -> None:
    if in_file:
        (tmp_path / "config.py").write_text(f"LEASE_SECONDS = {in_file}\n")
    if in_environment:
        monkeypatch.setenv("TASKAPI_LEASE_SECONDS", str(in_environment))

    loaded = config.load(tmp_path, {"LEASE_SECONDS": given} if given else None)

    assert loaded["LEASE_SECONDS"] == expected


def test_create_app_takes_the_same_settings(sqlite_url: str) -> None:
    settings = {"DATABASE_URL": sqlite_url, "JWT_SECRET_KEY": LONG_KEY, "LEASE_SECONDS": 7, "ADMIN_CLAIM": "boss"}

    app = create_app(settings)

    assert (app.config["LEASE_SECONDS"], app.config["ADMIN_CLAIM"]) == (7, "boss")
    assert app.secret_key is None, "Flask would prepare a session for every request"


def test_settings_of_flask_and_its_extensions_pass_through(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("JWT_ACCESS_COOKIE_NAME = 'sid'\nlower = 1\n")

    loaded = config.load(tmp_path, {"JWT_DECODE_LEEWAY": 5})

    assert (loaded["JWT_ACCESS_COOKIE_NAME"], loaded["JWT_DECODE_LEEWAY"]) == ("sid", 5)


def test_a_broken_config_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("LEASE_SECONDS = \n")

    with pytest.raises(SyntaxError):
        config.load(tmp_path)


# Values.


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("LEASE_SECONDS", "2.5", 2.5),
        ("LEASE_SECONDS", 2, 2.0),
        ("STREAM_MAX_AGE", "0.1", 0.1),
        ("START_WITHIN_SECONDS", "0", 0.0),
        ("START_WITHIN_SECONDS", 0, 0.0),
        ("START_WITHIN_SECONDS", 3600, 3600.0),
        ("ERROR_DETAILS", "admin", "admin"),
        ("STREAM_MAX_AGE", 1 / 3, 1 / 3),
        ("MAX_STREAMS", "20000", 20_000),
        ("MAX_STREAMS_PER_USER", 1, 1),
        ("ADMIN_CLAIM", "https://example.com/admin", "https://example.com/admin"),
        ("CORS_ORIGINS", "", []),
        ("CORS_ORIGINS", ["http://localhost:3000"], ["http://localhost:3000"]),
        (
            "CORS_ORIGINS",
            " https://app.example.com , http://127.0.0.1:8080,",
            ["https://app.example.com", "http://127.0.0.1:8080"],
        ),
    ],
)
def test_a_setting_is_read_from_text_and_from_python(tmp_path: Path, name: str, value: Any, expected: Any) -> None:
    assert config.load(tmp_path, {name: value})[name] == expected


NUMBERS = ["", "0", "-1", "+5", "1_0", "²", "٣", "nan", "inf", "1e3", " 1", "x", 0, -1, True, None, float("nan"),
           float("inf"), 10**400, [], b"5"]  # fmt: skip
SWITCHES: list[Any] = ["", None, 5, "maybe", "2", []]
TEXTS: list[Any] = ["", 5, b"x" * 40, [], True]
BAD_VALUES: dict[str, list[Any]] = {
    "DATABASE_URL": [
        "",
        None,
        5,
        "taskapi.db",
        f"mysql://user:{SECRET}@host/x",
        f"postgresql+psycopg2://user:{SECRET}@host/x",
        f"postgresql://user:{SECRET}@host:port/x",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
    ],
    "JWT_SECRET_KEY": [*TEXTS, SECRET, "k" * 31],
    "JWT_ALGORITHM": ["", None, "none", "HS512", "hs256", "RS512", 256, ["HS256"]],
    "JWT_PUBLIC_KEY": TEXTS,
    "SECRET_KEY": [*TEXTS, SECRET, "k" * 31],
    "START_WITHIN_SECONDS": ["", "-1", "00", "nan", -1, True, None, []],
    "CANCEL_SECONDS": NUMBERS,
    "ERROR_DETAILS": ["", "Owner", "nobody", None, True, 1, []],
    "ADMIN_CLAIM": [*TEXTS, None],
    "CORS_ORIGINS": [
        None,
        5,
        [5],
        "*",
        "null",
        "app.example.com",
        "https://",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://*.example.com",
        "https://app.example.com|https://evil.com",
        "https://.*",
        f"https://user:{SECRET}@app.example.com",
        "https://app.example.com:port",
        "ftp://app.example.com",
        "https://a.example.com https://b.example.com",
        "https://a.example.com;https://b.example.com",
    ],
    "LEASE_SECONDS": [*NUMBERS, "0.0", 10**9],
    "MAX_STREAMS_PER_USER": [*NUMBERS, "1.5", 1.5, 10**9],
    "MAX_STREAMS": [number for number in [*NUMBERS, "1.5", 1.5, 10**9] if number is not None],
    "MAX_THREAD_STREAMS": [number for number in NUMBERS if number not in ("0", 0, None)],
    "STREAM_MAX_AGE": [*NUMBERS, "0.0", 10**9],
    "MAX_WAITS_PER_USER": [number for number in NUMBERS if number not in ("0", 0)],
    "URL_PREFIX": [None, 5, "api", "/", "/a b", "https://x/api", "/<tenant>", "//evil.com"],
    **dict.fromkeys(("PAGE", "DOCS", "METRICS", "HEALTH"), SWITCHES),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD_VALUES for value in BAD_VALUES[name]])
def test_a_bad_value_is_an_error_that_names_the_setting_and_hides_the_value(
    tmp_path: Path, name: str, value: Any
) -> None:
    with pytest.raises(ConfigError, match=rf"^TASKAPI_{name} must be .+\.$") as caught:
        config.load(tmp_path, {name: value})

    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__, "a traceback would show the value"


def test_there_is_a_bad_value_for_every_setting() -> None:
    assert set(BAD_VALUES) == set(SETTINGS)


def test_a_bad_value_in_the_environment_stops_the_server_with_a_sentence(tmp_path: Path) -> None:
    environment = {**os.environ, "TASKAPI_JWT_SECRET_KEY": SECRET}

    started = subprocess.run(
        [sys.executable, "-c", "import taskapi; taskapi.create_app()"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert started.returncode != 0
    assert "TASKAPI_JWT_SECRET_KEY must be a text of at least 32 bytes" in started.stderr.splitlines()[-1]
    assert SECRET not in started.stderr


# Names that are no settings.


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """Load the settings twice, as a process that has not done so before; what the log says."""

    def told(instance: Path, **settings: Any) -> list[str]:
        config.tell_of_stranger.cache_clear()
        for _ in range(2):
            config.load(instance, settings)
        return caplog.messages

    return told


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("TASKAPI_LEASE_SECOND", "TASKAPI_LEASE_SECOND is not a setting: TASKAPI_LEASE_SECONDS is."),
        ("TASKAPI_DB_URL", "TASKAPI_DB_URL is not a setting: TASKAPI_DATABASE_URL is."),
        ("taskapi_lease_seconds", "taskapi_lease_seconds is not a setting: TASKAPI_LEASE_SECONDS is."),
        ("TASKAPI_COLOUR", "TASKAPI_COLOUR is not a setting."),
    ],
)
def test_a_stranger_in_the_environment_is_named_once_and_without_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[..., list[str]], variable: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, SECRET)

    assert told(tmp_path) == [sentence]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("LEASE_SECOND", "LEASE_SECOND is not a setting: LEASE_SECONDS is."),
        ("JWT_SECRET", "JWT_SECRET is not a setting: JWT_SECRET_KEY is."),
        ("TASKAPI_LEASE_SECONDS", "TASKAPI_LEASE_SECONDS is not a setting: LEASE_SECONDS is."),
    ],
)
def test_a_misspelt_name_in_config_py_or_from_the_caller_is_named_once_and_without_its_value(
    tmp_path: Path, told: Callable[..., list[str]], name: str, sentence: str
) -> None:
    instance = tmp_path / "instance"
    instance.mkdir()
    (instance / "config.py").write_text(f"{name} = {SECRET!r}\n")

    assert told(instance) == [sentence]
    assert told(tmp_path, **{name: SECRET}) == [sentence] * 2


def test_names_of_flask_its_extensions_and_our_commands_are_no_strangers(
    app: Flask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: Callable[..., list[str]]
) -> None:
    monkeypatch.setenv("TASKAPI_TOKEN", SECRET)
    others = {name: value for name, value in app.config.items() if name not in SETTINGS}
    assert len(others) > 60

    assert told(tmp_path, **others) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_misspelt_setting_is_named_in_the_servers_log(start_server: Callable[..., Server], engine: sa.Engine) -> None:
    server = start_server(LEASE_SECOND=SECRET)

    log = server.log.read_text()

    assert re.findall(r"\[WARNING\] (.*LEASE.*)", log) == [
        "TASKAPI_LEASE_SECOND is not a setting: TASKAPI_LEASE_SECONDS is."
    ]
    assert SECRET not in log


# The database's URL.


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_means_psycopg_3(tmp_path: Path, scheme: str) -> None:
    url = config.load(tmp_path, {"DATABASE_URL": f"{scheme}://me:p%40ss@db:5433/x?sslmode=require"})["DATABASE_URL"]

    assert url.render_as_string(hide_password=False) == "postgresql+psycopg://me:p%40ss@db:5433/x?sslmode=require"


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///taskapi.db", "{instance}/taskapi.db"),
        ("sqlite:///data/tasks.db", "{instance}/data/tasks.db"),
        ("sqlite:////var/lib/tasks.db", "/var/lib/tasks.db"),
    ],
)
def test_a_relative_sqlite_path_starts_at_the_instance_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, file: str
) -> None:
    instance = tmp_path / "instance"
    monkeypatch.chdir(tmp_path)

    assert config.load(instance, {"DATABASE_URL": url})["DATABASE_URL"].database == file.format(instance=instance)


def test_server_and_helper_mean_the_same_file_wherever_they_start(tmp_path: Path) -> None:
    program = "from taskapi import config; print(config.load(config.instance_path())['DATABASE_URL'].database)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TASKAPI_DATABASE_URL": "sqlite:///some.db"}

    found = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()
        for folder in (tmp_path, ROOT, "/")
    }

    assert found == {f"{config.instance_path()}/some.db"}
    assert config.instance_path().is_absolute()


# Keys.


def test_keys_are_made_once_and_kept_to_their_owner(tmp_path: Path) -> None:
    instance = tmp_path / "deep" / "instance"

    first, second = load_with_keys(instance), load_with_keys(instance)

    assert first["JWT_SECRET_KEY"] == second["JWT_SECRET_KEY"]
    assert len(first["JWT_SECRET_KEY"]) >= 43
    assert [path.name for path in instance.iterdir()] == ["jwt_secret_key"]
    assert stat.S_IMODE((instance / "jwt_secret_key").stat().st_mode) == 0o600
    assert load_with_keys(tmp_path / "other")["JWT_SECRET_KEY"] != first["JWT_SECRET_KEY"]


def test_the_tickets_key_is_derived_from_the_tokens_key_and_is_not_it(tmp_path: Path) -> None:
    one, same, other = (load_with_keys(tmp_path, JWT_SECRET_KEY=key) for key in (LONG_KEY, LONG_KEY, "j" * 32))

    assert one["SECRET_KEY"] == same["SECRET_KEY"]
    assert len({one["SECRET_KEY"], other["SECRET_KEY"], LONG_KEY}) == 3
    assert load_with_keys(tmp_path, JWT_SECRET_KEY=LONG_KEY, SECRET_KEY="s" * 32)["SECRET_KEY"] == "s" * 32
    assert not list(tmp_path.iterdir())


def _load_when_all_are_ready(instance: Path, barrier: Any, results: Any) -> None:
    loaded = config.load(instance)
    barrier.wait()
    config.add_keys(loaded, instance)
    results.put(loaded["JWT_SECRET_KEY"])


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.SimpleQueue()
    arguments = (tmp_path, barrier, results)
    processes = [context.Process(target=_load_when_all_are_ready, args=arguments) for _ in range(4)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(30)

    assert [process.exitcode for process in processes] == [0] * 4
    assert len({results.get() for _ in processes}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["jwt_secret_key"], "a draft was left"


@pytest.mark.parametrize("kept", ["", "\n", "short", LONG_KEY[:31]])
def test_a_kept_key_that_was_cut_short_stops_the_start(tmp_path: Path, kept: str) -> None:
    (tmp_path / "jwt_secret_key").write_text(kept)

    with pytest.raises(ConfigError, match=r"^TASKAPI_JWT_SECRET_KEY must be"):
        load_with_keys(tmp_path)


def public_pem(key: Any) -> str:
    kinds = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(*kinds).decode())


def private_pem(key: Any) -> str:
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return str(key.private_bytes(*kinds).decode())


RSA, P256, P384 = rsa.generate_private_key(65537, 2048), *map(ec.generate_private_key, (ec.SECP256R1(), ec.SECP384R1()))


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", public_pem(RSA)), ("ES256", public_pem(P256))])
def test_tokens_of_another_service_need_its_public_key_and_no_secret(tmp_path: Path, algorithm: str, key: str) -> None:
    loaded = load_with_keys(tmp_path, JWT_ALGORITHM=algorithm, JWT_PUBLIC_KEY=key)

    assert loaded["JWT_SECRET_KEY"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]
    assert loaded["SECRET_KEY"] == (tmp_path / "secret_key").read_text()
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize(
    "key",
    [None, "junk", LONG_KEY, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", public_pem(P384), "other"],
)
def test_a_public_key_that_cannot_verify_stops_the_start(tmp_path: Path, algorithm: str, key: str | None) -> None:
    if key == "other":
        key = public_pem(P256 if algorithm == "RS256" else RSA)

    with pytest.raises(ConfigError, match=f"^TASKAPI_JWT_PUBLIC_KEY must be .*PEM.*{algorithm}") as caught:
        load_with_keys(tmp_path, JWT_ALGORITHM=algorithm, JWT_PUBLIC_KEY=key)

    assert key is None or key not in str(caught.value)


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", private_pem(RSA)), ("ES256", private_pem(P256))])
def test_a_private_key_does_not_pass_for_a_public_one(tmp_path: Path, algorithm: str, key: str) -> None:
    with pytest.raises(ConfigError, match=r"^TASKAPI_JWT_PUBLIC_KEY must be"):
        load_with_keys(tmp_path, JWT_ALGORITHM=algorithm, JWT_PUBLIC_KEY=key)


def test_a_public_key_does_not_pass_for_a_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^TASKAPI_JWT_SECRET_KEY must be"):
        load_with_keys(tmp_path, JWT_SECRET_KEY=public_pem(RSA))
