"""What is refused before a deployment touches anything, and what is let through."""

from typing import Any
from unittest.mock import create_autospec

import boto3
import pytest
from boto3 import Session
from botocore.exceptions import NoCredentialsError
from botocore.stub import Stubber

from infrastructure.preflight import LEAST_PYTHON, NotReady, Target, is_on_loopback, preflight

CALLER = "arn:aws:iam::123456789012:user/me"
LOOPBACK = "http://127.0.0.1:4566"
IAM, OPEN = {"API_AUTH": "iam"}, {"API_AUTH": "none"}

NEW_PYTHON, OLD_PYTHON = (*LEAST_PYTHON, 0, "final", 0), (3, 11, 9, "final", 0)


def session(region: str | None = "eu-central-1") -> Any:
    """One of a known caller; what it says of regions is what botocore knows of them."""
    sts = boto3.client("sts", region_name="us-east-1")
    stubber = Stubber(sts)
    stubber.add_response(
        "get_caller_identity", {"Account": "123456789012", "Arn": CALLER, "UserId": "AIDA"}
    )
    stubber.activate()
    real, fake = Session(), create_autospec(Session, instance=True)
    fake.region_name = region
    fake.get_available_regions.side_effect = real.get_available_regions
    fake.get_partition_for_region.side_effect = real.get_partition_for_region
    fake.client.return_value = sts
    return fake


@pytest.fixture
def on_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No emulator, and a Python that Lambda has Pillow for."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setattr("sys.version_info", NEW_PYTHON)


@pytest.fixture
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", LOOPBACK)


def refusal(stage: str = "dev", variables: dict[str, str] = IAM, **words: Any) -> str:
    """Why it does not begin. Nobody is asked who this is: that takes credentials, and is late."""
    asked = session(**words)
    with pytest.raises(NotReady) as refused:
        preflight(stage, variables, asked, may_be_open=False)
    asked.client.assert_not_called()
    return str(refused.value)


# ── let through ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("on_aws")
def test_target_says_where_it_goes_and_with_whose_credentials() -> None:
    """Account and caller as STS knows them, the region of the session."""
    target = preflight("dev", IAM, session(), may_be_open=False)

    assert target == Target("123456789012", "eu-central-1", CALLER, is_local=False)
    assert str(target) == f"account 123456789012, eu-central-1, as {CALLER}"


@pytest.mark.usefixtures("on_loopback")
def test_emulator_on_this_machine_is_said_to_be_one() -> None:
    """Who reads it knows that nothing leaves the machine."""
    target = preflight("dev", IAM, session(), may_be_open=False)

    assert target.is_local
    assert "on this machine" in str(target)


@pytest.mark.parametrize(
    ("caller", "arn"),
    [
        ("arn:aws:iam::1:user/me", "arn:aws:iam::1:policy/p"),
        ("arn:aws-cn:sts::1:assumed-role/r/s", "arn:aws-cn:iam::1:policy/p"),
    ],
)
def test_names_in_the_account_are_of_its_partition(caller: str, arn: str) -> None:
    """China and GovCloud have ARNs of their own."""
    target = Target("1", "eu-central-1", caller, is_local=False)

    assert target.arn("iam", "policy/p") == arn


@pytest.mark.usefixtures("on_aws")
def test_missing_credentials_are_not_made_another_error() -> None:
    """Whoever shows it knows what to say of it."""
    nobody = session()
    nobody.client.side_effect = NoCredentialsError()

    with pytest.raises(NoCredentialsError):
        preflight("dev", IAM, nobody, may_be_open=False)


# ── refused ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("on_aws")
def test_python_without_pillow_on_lambda_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both versions are named, and the command that makes an environment with another one."""
    monkeypatch.setattr("sys.version_info", OLD_PYTHON)

    said = refusal()

    assert "Python 3.11" in said
    assert "3.12" in said
    assert "-m venv" in said


@pytest.mark.usefixtures("on_loopback")
def test_emulator_runs_functions_with_any_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs them with this very one, which has Pillow."""
    monkeypatch.setattr("sys.version_info", OLD_PYTHON)

    assert preflight("dev", IAM, session(), may_be_open=False).is_local


@pytest.mark.usefixtures("on_aws")
def test_region_without_rekognition_is_refused_with_those_that_have_it() -> None:
    """Lambda is in more regions than Rekognition is."""
    said = refusal(region="eu-north-1")

    assert "Rekognition is not in eu-north-1" in said
    assert "eu-central-1" in said


@pytest.mark.usefixtures("on_aws")
def test_missing_region_is_refused_with_how_to_set_one() -> None:
    """boto3 would say so at the first call, and not of all that is missing."""
    assert "AWS_DEFAULT_REGION" in refusal(region=None)


@pytest.mark.parametrize("where", ["on_aws", "on_loopback"])
def test_stage_of_the_laptop_is_refused_anywhere(
    where: str, request: pytest.FixtureRequest
) -> None:
    """``local`` has an open API, and is set up by ``make run`` alone."""
    request.getfixturevalue(where)

    assert "'local' is the stage of `make run`" in refusal("local")


@pytest.mark.usefixtures("on_aws")
def test_open_api_is_refused_until_it_is_said_to_be_meant() -> None:
    """The refusal says what anybody could do, and both ways on."""
    said = refusal(variables=OPEN)

    assert "delete every image" in said
    assert "--open-api" in said
    assert "iam" in said
    assert not preflight("dev", OPEN, session(), may_be_open=True).is_local


@pytest.mark.usefixtures("on_aws")
def test_stage_that_says_nothing_of_its_callers_is_not_open() -> None:
    """The setting is ``iam`` unless somebody has written another."""
    assert preflight("dev", {}, session(), may_be_open=False)


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("API_AUTH", "password", "none, key, iam, cognito, not 'password'"),
        ("API_AUTH", "", "none, key, iam, cognito, not ''"),
        ("API_ALLOWED_ORIGINS", "example.com", "not 'example.com'"),
        ("QUARANTINE", "Vilence 80%", "the nearest is 'Violence'"),
        ("QUARANTINE", "any 80%", "add 'moderation' to it"),
        ("MAX_BYTES", "many", "not 'many'"),
    ],
)
@pytest.mark.usefixtures("on_loopback")
def test_setting_that_makes_no_sense_is_refused(variable: str, text: str, words: str) -> None:
    """Before the stack is changed, and on an emulator, too: the functions would not start."""
    said = refusal(variables={variable: text})

    assert f"({variable} " in said
    assert words in said
    assert ".chalice/config.json" in said


@pytest.mark.parametrize("auth", ["key", "iam", "cognito"])
@pytest.mark.usefixtures("on_aws")
def test_api_that_asks_who_calls_is_let_through(auth: str) -> None:
    """Whatever it asks for; a pool need not be there yet."""
    assert preflight("dev", {"API_AUTH": auth}, session(), may_be_open=False)


@pytest.mark.usefixtures("on_loopback")
def test_open_api_is_fine_where_nobody_else_comes() -> None:
    """An emulator on loopback is reached from this machine alone."""
    assert preflight("dev", OPEN, session(), may_be_open=False).is_local


@pytest.mark.usefixtures("on_aws")
def test_everything_that_is_wrong_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each, so that nobody mends one after the other."""
    monkeypatch.setattr("sys.version_info", OLD_PYTHON)

    said = refusal("local", OPEN, region="eu-north-1").splitlines()

    words = ("make run", "--open-api", "venv", "Rekognition")
    assert [word in line for word, line in zip(words, said, strict=True)] == [True] * 4


# ── this machine or not ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "endpoint",
    [
        *("http://localhost:4566", "http://LOCALHOST", "https://localhost/"),
        *("http://127.0.0.1:4566", "http://127.8.9.10", "http://[::1]:4566"),
    ],
)
def test_loopback_is_known_by_its_names_and_addresses(endpoint: str) -> None:
    """What listens there is on this machine, whatever its port."""
    assert is_on_loopback({"AWS_ENDPOINT_URL": endpoint})


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", "localhost:4566", "127.0.0.1"),  # no URLs: boto3 takes none of them
        *("http://10.0.0.1:4566", "http://0.0.0.0:4566", "http://[2001:db8::1]"),
        *("https://s3.eu-central-1.amazonaws.com", "http://localstack:4566"),
        *("http://127.0.0.1.example.com", "http://localhost.example.com", "http://mylocalhost"),
        *("http://example.com/127.0.0.1", "http://example.com#localhost", "http://example.com?::1"),
        *("http://127.0.0.1@example.com", "http://localhost:4566@example.com"),
    ],
)
def test_whatever_may_be_another_machine_is_not_loopback(endpoint: str) -> None:
    """Else an API without authorization could be put where others reach it."""
    assert not is_on_loopback({"AWS_ENDPOINT_URL": endpoint})


def test_without_an_endpoint_it_is_aws() -> None:
    """No variable at all."""
    assert not is_on_loopback({})


def test_endpoint_that_is_no_url_is_not_loopback() -> None:
    """Of a bracket too few boto3 says what is wrong; a traceback says nothing."""
    assert not is_on_loopback({"AWS_ENDPOINT_URL": "http://[::1"})


@pytest.mark.usefixtures("on_loopback")
def test_endpoint_that_boto3_is_told_to_ignore_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With it all goes to AWS, where an open API is open."""
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    monkeypatch.setattr("sys.version_info", NEW_PYTHON)

    refusal(variables=OPEN)
