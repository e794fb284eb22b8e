"""Who gets into the API of a local cloud that asks for users, or for a key."""

import json
import os
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPMessage
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import jwt
import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from infrastructure.stage import PROJECT
from localcloud.cloud import LocalCloud
from localcloud.processes import Child, free_port
from localcloud.run import CHANGEABLE
from tests.waiting import TIMEOUT_S, eventually

ADA = "ada@example.com"
INVITED, CHOSEN = "Change-me-12", "A-longer-word-7"
OPEN = ("/", "/static/app.js", "/docs", "/openapi.json", "/health")
GUARDED = (
    ("GET", "/images"),
    ("POST", "/images"),
    ("POST", "/uploads"),
    ("GET", "/images/x"),
    ("DELETE", "/images/x"),
    ("GET", "/images/x/status"),
    ("POST", "/images/x/reprocess"),
    ("GET", "/images/uploads/x/status"),
    ("GET", "/labels"),
    ("GET", "/stats"),
)

Answer = tuple[int, HTTPMessage, bytes]


def ask(url: str, method: str = "GET", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = b"{}" if method == "POST" else None
    try:
        with urlopen(Request(url, body, named, method=method), timeout=TIMEOUT_S) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as error:
        return error.code, error.headers, error.read()


# ── users ────────────────────────────────────────────────────────────────────────────────────────


class Users:
    """The user pool of a local cloud, and those who sign in."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.cognito = cloud.client("cognito-idp")
        self.pool = cloud.outputs["UserPoolId"]
        self.client = cloud.outputs["UserPoolClientId"]

    def invite(self, name: str) -> None:
        """As an administrator does: nobody else can."""
        self.cognito.admin_create_user(
            UserPoolId=self.pool,
            Username=name,
            TemporaryPassword=INVITED,
            MessageAction="SUPPRESS",
        )

    def sign_in(self, name: str, password: str) -> Any:
        return self.cognito.initiate_auth(
            ClientId=self.client,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": name, "PASSWORD": password},
        )

    def choose_password(self, challenge: Mapping[str, Any], name: str) -> Any:
        return self.cognito.respond_to_auth_challenge(
            ClientId=self.client,
            ChallengeName=challenge["ChallengeName"],
            Session=challenge["Session"],
            ChallengeResponses={"USERNAME": name, "NEW_PASSWORD": CHOSEN},
        )

    def signing_key(self) -> Any:
        """What the pool itself signs ID tokens with: only a test gets at it."""
        path = self.cloud.state / "state" / "cognito-pool-keys" / f"{self.pool}-id.pem"
        return load_pem_private_key(path.read_bytes(), password=None)

    def status(self, token: str) -> int:
        return ask(f"{self.cloud.api_url}/images", Authorization=token)[0]


@pytest.fixture(scope="module")
def users() -> Iterator[Users]:
    with LocalCloud(settings={"API_AUTH": "cognito"}) as cloud:
        yield Users(cloud)


@pytest.fixture(scope="module")
def tokens(users: Users) -> dict[str, str]:
    """Of somebody who was invited and has chosen a password."""
    users.invite(ADA)
    challenge = users.sign_in(ADA, INVITED)
    assert challenge["ChallengeName"] == "NEW_PASSWORD_REQUIRED"
    assert "AuthenticationResult" not in challenge
    users.choose_password(challenge, ADA)
    result: dict[str, str] = users.sign_in(ADA, CHOSEN)["AuthenticationResult"]
    return result


@pytest.mark.parametrize("scheme", ["", "Bearer "])
def test_user_who_was_invited_signs_in_and_gets_in(
    users: Users, tokens: dict[str, str], scheme: str
) -> None:
    """With the ID token, bare as API Gateway wants it or as OAuth writes it."""
    assert users.status(scheme + tokens["IdToken"]) == 200


def test_session_goes_on_by_its_refresh_token(users: Users, tokens: dict[str, str]) -> None:
    """An ID token lasts half an hour; the page gets the next one by itself."""
    renewed = users.cognito.initiate_auth(
        ClientId=users.client,
        AuthFlow="REFRESH_TOKEN_AUTH",
        AuthParameters={"REFRESH_TOKEN": tokens["RefreshToken"]},
    )["AuthenticationResult"]

    assert renewed["IdToken"] != tokens["IdToken"]
    assert users.status(renewed["IdToken"]) == 200
    claims = jwt.decode(renewed["IdToken"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 30 * 60


def test_wrong_password_and_unknown_user_are_told_alike(
    users: Users, tokens: dict[str, str]
) -> None:
    """Or it could be found out who the users are."""
    assert tokens
    said = []
    for name in (ADA, "nobody@example.com"):
        with pytest.raises(ClientError) as refused:
            users.sign_in(name, "Wrong-word-123")
        said.append(refused.value.response["Error"])

    assert said[0]["Code"] == said[1]["Code"] == "NotAuthorizedException"
    assert said[0]["Message"] == said[1]["Message"]


def test_nobody_signs_up(users: Users) -> None:
    """The pool's users are those that were invited."""
    with pytest.raises(ClientError, match="NotAuthorizedException"):
        users.cognito.sign_up(ClientId=users.client, Username="eve@example.com", Password=CHOSEN)


def test_password_that_is_chosen_is_a_good_one(users: Users) -> None:
    """By the rules of the pool; the invitation stays as it is."""
    users.invite("bob@example.com")
    challenge = users.sign_in("bob@example.com", INVITED)

    with pytest.raises(ClientError, match="InvalidPasswordException"):
        users.cognito.respond_to_auth_challenge(
            ClientId=users.client,
            ChallengeName=challenge["ChallengeName"],
            Session=challenge["Session"],
            ChallengeResponses={"USERNAME": "bob@example.com", "NEW_PASSWORD": "password"},
        )

    assert users.sign_in("bob@example.com", INVITED)["ChallengeName"] == "NEW_PASSWORD_REQUIRED"


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_without_a_token_nobody_gets_in(users: Users, method: str, path: str) -> None:
    """A 401 that says what to send, with the challenge that HTTP asks for."""
    status, headers, body = ask(users.cloud.api_url + path, method)

    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (401, "sign_in_required")


@pytest.mark.parametrize("path", OPEN)
def test_what_one_signs_in_on_is_open(users: Users, path: str) -> None:
    """And holds nothing of anybody's."""
    assert ask(users.cloud.api_url + path)[0] == 200


@pytest.mark.parametrize("path", ["/?url=http://127.0.0.1/cat.jpg", "/?label=cat"])
def test_open_page_does_nothing_for_the_unknown(users: Users, path: str) -> None:
    """The same path lists and ingests, for those who come by convention."""
    assert ask(users.cloud.api_url + path, Accept="application/json")[0] == 401


@pytest.mark.parametrize(
    "token", ["", "x", "Bearer", "Bearer x.y.z", "a.b.c", "e30.e30.", "Basic YTpi", "…"]
)
def test_garbage_is_no_token(users: Users, token: str) -> None:
    assert users.status(token.encode().decode("latin-1")) == 401


@pytest.mark.parametrize("kind", ["AccessToken", "RefreshToken"])
def test_another_token_of_the_same_user_is_none(
    users: Users, tokens: dict[str, str], kind: str
) -> None:
    """API Gateway takes ID tokens where a route has no scopes."""
    assert users.status(tokens[kind]) == 401


Forgery = Callable[[Users, dict[str, Any], str], str]
"""A token made of the claims and the key id of a right one."""


def resigned(**changes: Any) -> Forgery:
    """With other claims, signed by the pool; None leaves a claim out."""

    def forge(users: Users, claims: dict[str, Any], kid: str) -> str:
        changed = {name: each for name, each in {**claims, **changes}.items() if each is not None}
        return jwt.encode(changed, users.signing_key(), "RS256", {"kid": kid})

    return forge


def of_a_foreign_key(_users: Users, claims: dict[str, Any], kid: str) -> str:
    return jwt.encode(claims, generate_private_key(65_537, 2_048), "RS256", {"kid": kid})


def of_an_unknown_key(users: Users, claims: dict[str, Any], _kid: str) -> str:
    return jwt.encode(claims, users.signing_key(), "RS256", {"kid": "unknown"})


def unsigned(_users: Users, claims: dict[str, Any], kid: str) -> str:
    return jwt.encode(claims, None, "none", {"kid": kid})


def signed_with_the_public_key(users: Users, claims: dict[str, Any], kid: str) -> str:
    """As if it were a secret that both sides share (RFC 8725, 2.1); by hand: no library would."""
    public = users.signing_key().public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = ({"alg": "HS256", "kid": kid}, claims)
    text = b".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(text, secret)
    return (text + b"." + urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(resigned(exp=1_700_000_000), id="expired"),
        pytest.param(resigned(exp=None), id="without an end"),
        pytest.param(resigned(iss="https://cognito-idp.us-east-1.amazonaws.com/other"), id="pool"),
        pytest.param(resigned(aud="another-client"), id="another client's"),
        pytest.param(resigned(token_use="access"), id="no ID token"),  # noqa: S106
        pytest.param(resigned(token_use=None), id="of no use"),
        of_a_foreign_key,
        of_an_unknown_key,
        unsigned,
        signed_with_the_public_key,
    ],
)
def test_forged_token_lets_nobody_in(users: Users, tokens: dict[str, str], forge: Forgery) -> None:
    """Each differs from a right one in one thing; what is made alike without it gets in."""
    claims = jwt.decode(tokens["IdToken"], options={"verify_signature": False})
    kid = jwt.get_unverified_header(tokens["IdToken"])["kid"]
    assert users.status(resigned()(users, claims, kid)) == 200

    assert users.status(forge(users, claims, kid)) == 401


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def keyed() -> Iterator[LocalCloud]:
    with LocalCloud(settings={"API_AUTH": "key"}) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def key(keyed: LocalCloud) -> str:
    """The stage's own, which the template makes."""
    found = keyed.client("apigateway").get_api_key(
        apiKey=keyed.outputs["ApiKeyId"], includeValue=True
    )
    assert found["name"] == "image-pipeline-local"
    return str(found["value"])


def test_key_of_the_stage_opens_the_api(keyed: LocalCloud, key: str) -> None:
    assert ask(f"{keyed.api_url}/images", x_api_key=key)[0] == 200


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_without_a_key_nobody_gets_in(keyed: LocalCloud, method: str, path: str) -> None:
    """A 403, as API Gateway answers it, that names the header."""
    status, _, body = ask(keyed.api_url + path, method)

    problem = json.loads(body)
    assert (status, problem["status"], problem["code"]) == (403, 403, "invalid_api_key")
    assert "x-api-key" in problem["detail"]


@pytest.mark.parametrize("wrong", ["", "wrong", "image-pipeline-local"])
def test_wrong_key_is_none(keyed: LocalCloud, wrong: str) -> None:
    assert ask(f"{keyed.api_url}/images", x_api_key=wrong)[0] == 403


def test_key_that_is_switched_off_opens_nothing(keyed: LocalCloud) -> None:
    """One that was made for somebody opens the API until then."""
    gateway = keyed.client("apigateway")
    made = gateway.create_api_key(name="for somebody", enabled=True)
    assert ask(f"{keyed.api_url}/images", x_api_key=made["value"])[0] == 200

    gateway.delete_api_key(apiKey=made["id"])

    assert ask(f"{keyed.api_url}/images", x_api_key=made["value"])[0] == 403


@pytest.mark.parametrize("path", OPEN)
def test_page_is_open_where_a_key_is_asked_for(keyed: LocalCloud, path: str) -> None:
    """Somebody types the key in there."""
    assert ask(keyed.api_url + path)[0] == 200


# ── make run ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("auth", "words"),
    [("key", ["-H 'x-api-key: "]), ("cognito", ["admin-create-user", "initiate-auth"])],
)
def test_environment_chooses_who_may_call_and_the_welcome_says_how(
    tmp_path: Path, auth: str, words: list[str]
) -> None:
    """``API_AUTH=cognito make run``, over what the stage says, and back again on the same state."""
    assert "API_AUTH" in CHANGEABLE
    for chosen, expected in ((auth, words), ("none", ["make clean"])):
        api, cloud = free_port(), free_port()
        command = [sys.executable, "-m", "localcloud", "run", "--state", str(tmp_path / "state")]
        child = Child(
            [*command, "--api-port", str(api), "--cloud-port", str(cloud)],
            os.environ | {"API_AUTH": chosen, "PYTHONUNBUFFERED": "1"},
            log := tmp_path / f"{chosen}.log",
            PROJECT,
        )
        try:
            eventually(lambda log=log: "Ctrl-C stops everything" in log.read_text())
            status = ask(f"http://127.0.0.1:{api}/images")[0]
        finally:
            child.stop()
        assert status == {"key": 403, "cognito": 401, "none": 200}[chosen]
        assert all(word in log.read_text() for word in expected)
