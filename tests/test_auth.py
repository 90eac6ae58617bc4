"""Who is asking: bearer tokens of every kind, JWT cookies, administrators."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token, create_refresh_token, get_csrf_token
from harness import KEY, insert, make_token

from taskapi import create_app
from taskapi.auth.jwt import OwnTokens
from taskapi.state import state_of

ROUTES = [
    ("GET", "/api/tasks/a/status"),
    ("GET", "/api/tasks/users/me"),
    ("GET", "/api/tasks/learning-paths/7"),
    ("GET", "/api/tasks/a/events"),
    ("GET", "/api/tasks/users/me/events"),
    ("POST", "/api/tasks/a/events"),
    ("POST", "/api/tasks/users/me/events"),
]
MINE = "/api/tasks/users/me"


@contextmanager
def application(database_url: str, **settings: Any) -> Iterator[Flask]:
    app = create_app({"DATABASE_URL": database_url, "TESTING": True, **settings})
    yield app
    state_of(app).store.close()


@pytest.fixture
def client(sqlite_url: str) -> Iterator[FlaskClient]:
    """A client of the application on SQLite: who is asking is decided before any database is."""
    with application(sqlite_url, JWT_SECRET_KEY=KEY) as app:
        yield app.test_client()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def assert_refused(client: FlaskClient, headers: Any, challenge: str, query: str = "") -> None:
    """Every route answers 401, twice: what was refused once is not remembered as genuine."""
    for method, path in ROUTES * 2:
        response = client.open(path + query, method=method, headers=headers)
        assert response.status_code == 401, (method, path, response.text)
        assert response.content_type == "application/problem+json"
        assert list(response.get_json()) == ["type", "title", "status", "detail"]
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers.getlist("WWW-Authenticate") == [response.headers["WWW-Authenticate"]]
        assert response.headers["WWW-Authenticate"].startswith(challenge)
        assert ("error=" in response.headers["WWW-Authenticate"]) is ("error=" in challenge)


# No token.


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}, {"Authorization": "  "}])
def test_without_a_token_the_challenge_names_no_error(client: FlaskClient, headers: dict[str, str]) -> None:
    assert_refused(client, headers, "Bearer")


@pytest.mark.parametrize(
    "value",
    ["Basic dXNlcjpwYXNz", "Negotiate", "Digest x", "Token " + make_token(), make_token(), "Bearer:" + make_token()],
)
def test_another_schemes_credentials_are_no_token(client: FlaskClient, value: str) -> None:
    assert_refused(client, {"Authorization": value}, "Bearer")


@pytest.mark.parametrize("name", ["jwt", "token", "access_token", "bearer", "authorization"])
def test_a_token_in_the_query_string_is_no_token(client: FlaskClient, name: str) -> None:
    assert_refused(client, {}, "Bearer", f"?{name}={make_token()}")


# Bad tokens.


def encoded(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def handmade(header: Any, claims: Any, key: str = KEY) -> str:
    """A token with a right HS256 signature, whatever is in it."""
    body = f"{encoded(header)}.{encoded(claims)}"
    return f"{body}.{encoded(hmac.new(key.encode(), body.encode(), hashlib.sha256).digest())}"


def with_claims(**claims: Any) -> str:
    return handmade({"alg": "HS256", "typ": "JWT"}, {"sub": "1", "exp": int(time.time()) + 3600, **claims})


def without(name: str) -> str:
    claims = {"sub": "1", "exp": int(time.time()) + 3600}
    del claims[name]
    return handmade({"alg": "HS256"}, claims)


def raw_claims(text: str) -> str:
    """Claims written by hand, for what `json.dumps` would not write."""
    return handmade({"alg": "HS256"}, text.encode())


NOW = int(time.time())
GOOD_CLAIMS = {"sub": "1", "exp": NOW + 3600}
BAD_TOKENS = {
    "nothing": "",
    "a word": "garbage",
    "two words": "a b",
    "two parts": "a.b",
    "three empty parts": "..",
    "four parts": make_token() + ".x",
    "dots": "." * 4000,
    "not ASCII": "é.ü.ö",
    "no base64": "!.!.!",
    "truncated": make_token()[:-1],
    "a tampered claim": ".".join([*make_token(2).split(".")[:2], make_token(1).split(".")[2]]),
    "a signature removed": make_token().rsplit(".", 1)[0] + ".",
    "another key": make_token(key=secrets.token_urlsafe(48)),
    "algorithm none": jwt.encode(GOOD_CLAIMS, "", "none"),
    "algorithm None, cased": handmade({"alg": "NoNe"}, GOOD_CLAIMS),
    "algorithm HS384": make_token(algorithm="HS384"),
    "algorithm HS512": make_token(key=KEY * 2, algorithm="HS512"),
    "no algorithm": handmade({}, GOOD_CLAIMS),
    "an algorithm that is a list": handmade({"alg": ["HS256"]}, GOOD_CLAIMS),
    "an algorithm that is a number": handmade({"alg": 256}, GOOD_CLAIMS),
    "a critical extension": handmade({"alg": "HS256", "crit": ["x"], "x": 1}, GOOD_CLAIMS),
    "a header that is a list": handmade([], GOOD_CLAIMS),
    "a header that is no JSON": handmade(b"{", GOOD_CLAIMS),
    "a header nested deeply": handmade(b"[" * 5000, GOOD_CLAIMS),
    "claims that are a list": handmade({"alg": "HS256"}, []),
    "claims that are null": handmade({"alg": "HS256"}, None),
    "claims that are no JSON": handmade({"alg": "HS256"}, b"\xff"),
    "claims that are empty": handmade({"alg": "HS256"}, {}),
    "no exp": without("exp"),
    "exp null": with_claims(exp=None),
    "exp past": with_claims(exp=NOW - 1),
    "exp long past": with_claims(exp=0),
    "exp negative": with_claims(exp=-1),
    "exp text": with_claims(exp=str(NOW + 3600)),
    "exp a date": with_claims(exp="2099-01-01T00:00:00Z"),
    "exp true": with_claims(exp=True),
    "exp a list": with_claims(exp=[NOW + 3600]),
    "exp an object": with_claims(exp={}),
    "exp NaN": with_claims(exp=math.nan),
    "exp Infinity": with_claims(exp=math.inf),
    "exp -Infinity": with_claims(exp=-math.inf),
    "exp 1e400": raw_claims('{"sub": "1", "exp": 1e400}'),
    "exp past the year 9999": with_claims(exp=253_402_300_800),
    "exp of 30 digits": with_claims(exp=10**30),
    "exp of 5000 digits": raw_claims('{"sub": "1", "exp": ' + "9" * 5000 + "}"),
    "nbf to come": with_claims(nbf=NOW + 600),
    "nbf text": with_claims(nbf="soon"),
    "nbf NaN": with_claims(nbf=math.nan),
    "nbf Infinity": with_claims(nbf=math.inf),
    "iat to come": with_claims(iat=NOW + 600),
    "iat text": with_claims(iat="now"),
    "iat Infinity": with_claims(iat=math.inf),
    "a refresh token": with_claims(type="refresh"),
    "no sub": without("sub"),
    "sub null": with_claims(sub=None),
    "sub a number": with_claims(sub=1),
    "sub true": with_claims(sub=True),
    "sub a list": with_claims(sub=["1"]),
    **{f"sub {text!r}": with_claims(sub=text)
       for text in ("", "-1", "+1", "1.0", "01", "00", " 1", "1 ", "1\n", "1\0", "²", "٣", "1_0", "0x1", "1e1", "me",
                    str(2**63), "9" * 100, "1,2", "1; --")},
}  # fmt: skip


@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_bad_token_is_a_401_everywhere(client: FlaskClient, token: str) -> None:
    value = f"Bearer {token}".encode().decode("latin-1")

    assert_refused(client, {"Authorization": value}, 'Bearer error="invalid_token"')


def test_a_refresh_token_of_flask_jwt_extended_opens_nothing(client: FlaskClient) -> None:
    with client.application.app_context():
        token = create_refresh_token("1")

    assert_refused(client, bearer(token), 'Bearer error="invalid_token"')


@pytest.mark.parametrize(
    "values",
    [
        [f"Bearer {make_token(1)}", f"Bearer {make_token(2)}"],
        [f"Bearer {make_token(1)}", f"Bearer {make_token(1)}"],
        [f"Bearer {make_token(1)}", "Basic dXNlcjpwYXNz"],
        ["Basic dXNlcjpwYXNz", f"Bearer {make_token(1)}"],
    ],
)
def test_of_several_authorization_headers_none_is_believed(client: FlaskClient, values: list[str]) -> None:
    headers = {"Authorization": ",".join(values)}  # as WSGI servers hand them on (RFC 9110, 5.3)

    assert_refused(client, headers, 'Bearer error="invalid_token"')


def test_a_token_is_refused_from_the_moment_it_expires(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    token = make_token(exp=int(time.time()) + 60)
    assert client.get(MINE, headers=bearer(token)).status_code == 200

    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)

    assert_refused(client, bearer(token), 'Bearer error="invalid_token"')


# Good tokens.


@pytest.mark.parametrize(
    "token",
    [
        with_claims(),
        with_claims(sub="0"),
        with_claims(sub=str(2**63 - 1)),
        with_claims(exp=NOW + 3600.5),
        with_claims(exp=253_402_300_799),
        with_claims(nbf=NOW - 1, iat=NOW - 1),
        with_claims(iss="https://login.example.com", aud=["api"], jti="x", fresh=False, name="Zoë"),
        with_claims(is_admin=None),
    ],
)
def test_a_token_of_another_library_is_as_good(client: FlaskClient, token: str) -> None:
    assert [client.get(MINE, headers=bearer(token)).status_code for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer ", "bEaReR  "])
def test_the_schemes_case_does_not_matter(client: FlaskClient, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {make_token()}"}

    assert [client.get(MINE, headers=headers).status_code for _ in range(2)] == [200, 200]


def test_every_token_is_its_own_user_however_often_they_take_turns(app: Flask, engine: sa.Engine) -> None:
    client, users = app.test_client(), range(1, 6)
    for user in users:
        insert(engine, f"of {user}", user)
    tokens = [make_token(user) for user in users] * 3

    seen = [client.get(MINE, headers=bearer(token)).get_json()[0]["user_id"] for token in tokens]

    assert seen == [*users] * 3


# Tokens that another service signs.


def pem(key: Any) -> tuple[str, str]:
    """A key's private and public half."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@pytest.fixture(scope="module")
def keys() -> dict[str, tuple[str, str]]:
    return {"RS256": pem(rsa.generate_private_key(65537, 2048)), "ES256": pem(ec.generate_private_key(ec.SECP256R1()))}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_tokens_that_another_service_signs_are_verified_by_its_public_key(
    sqlite_url: str, keys: dict[str, tuple[str, str]], algorithm: str
) -> None:
    private, public = keys[algorithm]
    stranger = pem(
        rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    )
    claims: dict[str, Any] = {"aud": "api", "iss": "https://login.example.com"}

    with application(sqlite_url, JWT_ALGORITHM=algorithm, JWT_PUBLIC_KEY=public, SECRET_KEY=KEY) as app:
        client = app.test_client()

        good = make_token(key=private, algorithm=algorithm, **claims)
        assert client.get(MINE, headers=bearer(good)).status_code == 200
        assert client.post("/api/tasks/users/me/events", headers=bearer(good)).status_code == 201
        for bad in (
            make_token(key=stranger[0], algorithm=algorithm),
            # The classic confusion: the public key, which everybody has, as the secret of an HMAC.
            handmade({"alg": "HS256"}, GOOD_CLAIMS, key=public),
            handmade({"alg": algorithm}, GOOD_CLAIMS, key=public),
            handmade({"alg": "HS256"}, GOOD_CLAIMS, key=KEY),
            jwt.encode(GOOD_CLAIMS, "", "none"),
            make_token(key=private, algorithm=algorithm, exp=NOW - 1),
        ):
            assert_refused(client, bearer(bad), 'Bearer error="invalid_token"')


# Administrators.


@pytest.mark.parametrize("value", ["true", "True", "1", 1, 1.0, [True], {"is": True}, False, None, "", 0, "yes"])
def test_nothing_but_json_true_makes_an_administrator(app: Flask, engine: sa.Engine, value: Any) -> None:
    insert(engine, "a", 1, learning_path_id=7)
    client, headers = app.test_client(), bearer(with_claims(sub="2", is_admin=value))

    answers = [client.open(path, method=method, headers=headers) for method, path in ROUTES if "users/me" not in path]

    assert {answer.status_code for answer in answers} == {403}
    assert {answer.content_type for answer in answers} == {"application/problem+json"}


def test_the_claim_that_makes_an_administrator_can_be_named(database_url: str, engine: sa.Engine) -> None:
    insert(engine, "a", 1)
    with application(database_url, JWT_SECRET_KEY=KEY, ADMIN_CLAIM="https://example.com/staff") as app:
        client = app.test_client()

        def status(**claims: Any) -> int:
            return client.get("/api/tasks/a/status", headers=bearer(make_token(2, **claims))).status_code

        assert status(**{"https://example.com/staff": True}) == 200
        assert status(**{"https://example.com/staff": "true"}) == 403
        assert status(is_admin=True) == 403


# The JWT cookie of Flask-JWT-Extended.


@pytest.fixture
def cookie_token(client: FlaskClient) -> str:
    """A token with its CSRF half, set as the client's cookie."""
    with client.application.app_context():
        token: str = create_access_token("1")
    client.set_cookie("access_token_cookie", token)
    return token


def csrf_of(client: FlaskClient, token: str) -> str:
    with client.application.app_context():
        return get_csrf_token(token)


@pytest.mark.usefixtures("cookie_token")
def test_the_jwt_cookie_reads(client: FlaskClient) -> None:
    assert client.get(MINE).status_code == 200
    assert client.head("/api/tasks/users/me/events").status_code == 200


def test_a_ticket_by_cookie_needs_the_csrf_token(client: FlaskClient, cookie_token: str) -> None:
    def post(headers: dict[str, str]) -> int:
        return client.post("/api/tasks/users/me/events", headers=headers).status_code

    assert post({}) == 401
    assert post({"X-CSRF-TOKEN": "guessed"}) == 401
    assert post({"X-CSRF-TOKEN": csrf_of(client, cookie_token)}) == 201
    assert post({}) == 401


@pytest.mark.parametrize("token", [BAD_TOKENS["another key"], BAD_TOKENS["exp past"], BAD_TOKENS["no exp"], "garbage"])
def test_a_bad_cookie_is_a_401(client: FlaskClient, token: str) -> None:
    client.set_cookie("access_token_cookie", token)

    assert client.get(MINE).status_code == 401


@pytest.mark.usefixtures("cookie_token")
def test_a_bad_header_is_not_made_up_for_by_a_good_cookie(client: FlaskClient) -> None:
    assert client.get(MINE, headers=bearer(BAD_TOKENS["another key"])).status_code == 401


@pytest.mark.parametrize("value", ["Basic dXNlcjpwYXNz", "Token x", "bearerx y"])
def test_a_cookies_user_is_not_remembered_by_the_header_beside_it(
    client: FlaskClient, cookie_token: str, value: str
) -> None:
    # A proxy before the service may ask everybody for the same password.
    headers: dict[str, str] = {"Authorization": value}
    assert client.get(MINE, headers=headers).status_code == 200
    csrf = headers | {"X-CSRF-TOKEN": csrf_of(client, cookie_token)}
    assert client.post("/api/tasks/users/me/events", headers=csrf).status_code == 201

    assert client.post("/api/tasks/users/me/events", headers=headers).status_code == 401
    client.delete_cookie("access_token_cookie")
    assert client.get(MINE, headers=headers).status_code == 401


def test_the_memory_of_verified_tokens_is_bounded(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskapi.auth.jwt.REMEMBERED", 10)
    identify = state_of(client.application).identify
    assert isinstance(identify, OwnTokens)
    memory = identify._remembered

    answers = [client.get(MINE, headers=bearer(make_token(user))).status_code for user in range(50)]

    assert set(answers) == {200}
    assert len(memory) == 10
