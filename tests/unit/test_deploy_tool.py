"""What ``deploy`` and ``destroy`` decide and say. What they do is tested on an emulator."""

import argparse
import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import boto3
import pytest
from boto3 import Session
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.stub import Stubber

from chalicelib.errors import PipelineError
from infrastructure import deploy, destroy
from infrastructure import stage as stages
from infrastructure.deploy import (
    StepFailed,
    advice,
    api_url,
    fingerprint_of,
    is_on_lambda,
    parameters,
    step,
    summary,
    write_configuration,
)
from infrastructure.deployed import Deployed, Function
from infrastructure.preflight import Target
from infrastructure.stack import Change, ChangeSet, Stack, StackFailed
from infrastructure.state import State

TARGET = Target("1", "eu-central-1", "arn:aws:iam::1:user/me", is_local=False)
BOUNDARY = "arn:aws:iam::1:policy/image-pipeline/image-pipeline-boundary-dev-eu-central-1"


def refused_by_aws(code: str, message: str = "No.") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "CreateChangeSet")


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    deploy.add_arguments(parser)
    return parser.parse_args(words)


# ── steps ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCredentialsError(), "Log in first"),
        (PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "AWS_PROFILE"),
        (refused_by_aws("ExpiredToken"), "Log in anew"),
        (refused_by_aws("ExpiredTokenException"), "Log in anew"),
        (refused_by_aws("InvalidClientTokenId"), "Log in anew"),
        (refused_by_aws("AccessDenied"), "infrastructure/deployer.yaml"),
        (refused_by_aws("AccessDeniedException"), "infrastructure/deployer.yaml"),
        (StackFailed("User: x is not authorized to perform: s3:PutObject"), "deployer.yaml"),
        (refused_by_aws("LimitExceeded"), "Mend that"),
        (EndpointConnectionError(endpoint_url="https://x"), "Mend that"),
        (StackFailed("Q: there is one"), "Mend that"),
        (OSError("No space left on device"), "Mend that"),
    ],
)
def test_advice_is_for_the_kind_of_error_and_ends_in_another_run(
    error: Exception, words: str
) -> None:
    """A deployment goes on where it stopped, whatever stopped it."""
    said = advice(error)

    assert words in said
    assert said.lower().endswith("then run it again.")


@pytest.mark.parametrize(
    "error",
    [StackFailed("Q: no"), refused_by_aws("LimitExceeded", "Q: no"), OSError("Q: no")],
)
def test_failed_step_says_which_why_and_what_to_do(error: Exception) -> None:
    """And that nothing has to be taken back first."""
    with pytest.raises(StepFailed) as failed, step("Resources"):
        raise error

    said = str(failed.value)
    assert said.startswith("'Resources' failed. ")
    assert "Q: no" in said
    assert advice(error) in said
    assert said.endswith("What is done already stays done.")
    assert failed.value.__cause__ is error


def test_step_within_a_step_fails_under_its_own_name() -> None:
    """The innermost knows best; its message is not wrapped a second time."""
    with pytest.raises(StepFailed) as failed, step("Functions and API"), step("Beyond Chalice"):
        raise OSError("no")

    assert str(failed.value).startswith("'Beyond Chalice' failed. no")
    assert "Functions and API" not in str(failed.value)


def test_bug_is_not_told_as_something_to_mend() -> None:
    """Nobody who deploys could; the traceback is what is asked for."""
    with pytest.raises(ZeroDivisionError), step("Package"):
        raise ZeroDivisionError


def test_step_says_that_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything of it: some take minutes."""
    with step("Resources"):
        assert capsys.readouterr().out == "Resources\n"


# ── parameters ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stage ``dev`` says something of its own everywhere."""
    files = {
        "config.json": {
            "environment_variables": {"API_AUTH": "iam"},
            "stages": {"dev": {"environment_variables": {"API_AUTH": "none"}}, "prod": {}},
        },
        "parameters.json": {"dev": {"LogRetentionDays": "14", "NotificationEmail": "file@x.org"}},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    for module in (stages, deploy):
        monkeypatch.setattr(module, "CONFIG", tmp_path / "config.json")
    monkeypatch.setattr(deploy, "PARAMETERS", tmp_path / "parameters.json")
    monkeypatch.setattr(deploy, "PROJECT", tmp_path)
    return tmp_path


def account(*, bounded: bool = False, refusal: str = "NoSuchEntity") -> Any:
    """A session in an account with or without a boundary for the roles of ``dev``."""
    iam = boto3.client("iam", region_name="eu-central-1")
    stubber, asked = Stubber(iam), {"PolicyArn": BOUNDARY}
    if bounded:
        stubber.add_response("get_policy", {"Policy": {"Arn": BOUNDARY}}, asked)
    else:
        stubber.add_client_error("get_policy", refusal)
    stubber.activate()
    session = create_autospec(Session, instance=True)
    session.client.return_value = iam
    return session


@pytest.mark.usefixtures("project")
def test_template_is_told_what_the_file_says_of_the_stage() -> None:
    """Beside its name, and how its API is called, which the configuration says."""
    assert parameters("dev", options(), TARGET, account()) == {
        "Stage": "dev",
        "ApiAuth": "none",
        "LogRetentionDays": "14",
        "NotificationEmail": "file@x.org",
    }


@pytest.mark.usefixtures("project")
def test_stage_that_the_file_does_not_know_has_its_name_alone() -> None:
    """All else is as the template has it, or as it was given before."""
    assert parameters("prod", options(), TARGET, account()) == {"Stage": "prod", "ApiAuth": "iam"}


@pytest.mark.usefixtures("project")
def test_options_go_before_the_file() -> None:
    """Who says something now means it; what nobody has given is not told."""
    given = options("--email", "me@x.org", "--parameter", "LogRetentionDays=30")

    told = parameters("dev", given, TARGET, account())

    assert (told["NotificationEmail"], told["LogRetentionDays"]) == ("me@x.org", "30")


@pytest.mark.usefixtures("project")
def test_parameter_goes_before_all_that_has_a_word_of_its_own() -> None:
    """It is the most exact way to say it; of one that comes twice the last counts."""
    words = [
        *("--email", "me@x.org", "--parameter", "NotificationEmail=you@x.org"),
        *("--parameter", "ApiBurst=1", "--parameter", "ApiBurst=2"),
        *("--parameter", "PermissionsBoundary=arn:mine"),
    ]

    told = parameters("dev", options(*words), TARGET, account(bounded=True))

    assert told["NotificationEmail"] == "you@x.org"
    assert told["ApiBurst"] == "2"
    assert told["PermissionsBoundary"] == "arn:mine"


@pytest.mark.usefixtures("project")
def test_roles_are_bounded_where_there_is_a_boundary() -> None:
    """The deployer of ``infrastructure/deployer.yaml`` may make no role without it."""
    told = parameters("dev", options(), TARGET, account(bounded=True))

    assert told["PermissionsBoundary"] == BOUNDARY


@pytest.mark.usefixtures("project")
def test_who_may_not_ask_for_a_boundary_has_none() -> None:
    """Most deployers have never heard of it; any other failure is one."""
    told = parameters("dev", options(), TARGET, account(refusal="AccessDenied"))
    assert "PermissionsBoundary" not in told

    with pytest.raises(ClientError, match="ServiceFailure"):
        parameters("dev", options(), TARGET, account(refusal="ServiceFailure"))


@pytest.mark.usefixtures("project")
def test_stage_is_not_another_one_by_a_parameter() -> None:
    """The stack of ``dev`` would make, and later take away, what ``prod`` is called."""
    given = options("--parameter", "Stage=prod")

    with pytest.raises(PipelineError, match="Stage"):
        parameters("dev", given, TARGET, account())


@pytest.mark.usefixtures("project")
def test_template_and_routes_are_told_the_same_of_callers() -> None:
    """By the setting alone: routes that ask users of a pool that is not there let nobody in."""
    given = options("--parameter", "ApiAuth=cognito")

    with pytest.raises(PipelineError, match=r"API_AUTH in \.chalice/config\.json"):
        parameters("dev", given, TARGET, account())


def test_stage_that_says_nothing_of_its_callers_has_them_sign(project: Path) -> None:
    """Said to the template, too, which else would keep what it was told before."""
    (project / "config.json").write_text('{"stages": {"dev": {}}}')

    assert parameters("dev", options(), TARGET, account())["ApiAuth"] == "iam"


@pytest.mark.parametrize(
    ("text", "pair"),
    [("A=b", ("A", "b")), ("A=", ("A", "")), ("A=b=c", ("A", "b=c")), ("A= b ", ("A", " b "))],
)
def test_parameter_is_a_name_and_whatever_follows(text: str, pair: tuple[str, str]) -> None:
    """An empty value takes a mail address away again; a value may have any sign in it."""
    assert options("--parameter", text).parameter == [pair]


@pytest.mark.parametrize("text", ["", "A", "=b", "="])
def test_parameter_without_a_name_or_a_sign_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=f"is NAME=VALUE, not '{text}'"):
        options(f"--parameter={text}")


# ── what a deployment is made of ─────────────────────────────────────────────────────────────────

CONFIG: dict[str, Any] = {
    "version": "2.0",
    "lambda_memory_size": 512,
    "stages": {"dev": {"xray": True}, "prod": {"xray": False}},
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "package.zip"
    path.write_bytes(b"the package")
    return path


def test_same_package_and_configuration_are_the_same_deployment(package: Path) -> None:
    """Whatever the order in which somebody has written them, and wherever the package lies."""
    moved = package.with_name("elsewhere.zip")
    moved.write_bytes(package.read_bytes())
    reordered = dict(reversed(CONFIG.items()))

    assert fingerprint_of(moved, reordered, "dev") == fingerprint_of(package, CONFIG, "dev")


@pytest.mark.parametrize(
    "config",
    [
        CONFIG | {"stages": {"dev": {"xray": False}}},
        CONFIG | {"stages": {"dev": {"xray": True, "environment_variables": {"A": "1"}}}},
        CONFIG | {"lambda_memory_size": 1024},
        CONFIG | {"lambda_timeout": 30},
    ],
)
def test_configuration_of_the_stage_and_of_all_makes_another_deployment(
    config: dict[str, Any], package: Path
) -> None:
    assert fingerprint_of(package, config, "dev") != fingerprint_of(package, CONFIG, "dev")


def test_another_package_makes_another_deployment(package: Path) -> None:
    before = fingerprint_of(package, CONFIG, "dev")
    package.write_bytes(b"the package!")

    assert fingerprint_of(package, CONFIG, "dev") != before


def test_configuration_of_another_stage_makes_none(package: Path) -> None:
    """Or who deploys prod would have to deploy dev, too."""
    config = CONFIG | {"stages": {"dev": {"xray": True}, "mine": {}}}

    assert fingerprint_of(package, config, "dev") == fingerprint_of(package, CONFIG, "dev")


def test_stages_of_one_configuration_are_two_deployments(package: Path) -> None:
    assert fingerprint_of(package, CONFIG, "prod") != fingerprint_of(package, CONFIG, "dev")


SHA256 = "qzJvFt7FM7plE5lJJGWBwBa51Md9DeAEbmX0jldTcqM="
"""Of ``the package``, as Lambda gives it; made by ``openssl dgst -sha256 -binary | base64``."""


def on_lambda(**sha256s: str) -> Any:
    deployed = create_autospec(Deployed, instance=True)
    deployed.functions.return_value = [
        Function(name, name, f"arn:{name}", sha256, "now", "py") for name, sha256 in sha256s.items()
    ]
    return deployed


STATE = State(
    {
        "resources": [
            {"name": "a", "resource_type": "lambda_function", "lambda_arn": "arn:a"},
            {"name": "a-event", "resource_type": "sqs_event", "lambda_arn": "arn:a"},
            {"name": "b", "resource_type": "lambda_function", "lambda_arn": "arn:b"},
            {"name": "rest_api", "resource_type": "rest_api", "rest_api_id": "x"},
        ]
    }
)


def test_lambda_has_what_was_recorded(package: Path) -> None:
    assert is_on_lambda(package, STATE, on_lambda(a=SHA256, b=SHA256))


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"a": SHA256},
        {"a": SHA256, "b": "by hand"},
        {"a": SHA256, "b": SHA256, "left over": SHA256},
    ],
)
def test_what_was_done_by_hand_is_noticed(found: dict[str, str], package: Path) -> None:
    """A function that is gone, has other code, or that nobody has recorded."""
    assert not is_on_lambda(package, STATE, on_lambda(**found))


# ── data ─────────────────────────────────────────────────────────────────────────────────────────


def test_changes_that_lose_data_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    """Each on its line, so that who is asked sees what for."""
    change_set = ChangeSet(
        "c",
        is_new=False,
        changes=[
            Change("Modify", "Uploads", "AWS::S3::Bucket", replaces=True),
            Change("Remove", "Alarm", "AWS::CloudWatch::Alarm", replaces=False),
        ],
    )

    deploy.print_changes(change_set)

    lost, alarm = capsys.readouterr().out.splitlines()
    assert "Replace" in lost
    assert "Uploads" in lost
    assert lost.endswith("its data goes")
    assert "Alarm" in alarm
    assert "data" not in alarm


@pytest.mark.parametrize(("action", "is_released"), [("Remove", True), ("Modify", False)])
def test_plan_that_goes_lets_go_of_the_api(action: str, is_released: bool) -> None:  # noqa: FBT001
    """AWS refuses to delete one that has any; CloudFormation has not put it there."""
    client = boto3.client("apigateway", region_name="eu-central-1")
    stubber, plan = Stubber(client), {"usagePlanId": "plan"}
    if is_released:
        stubber.add_response(
            "get_usage_plan", {"apiStages": [{"apiId": "api", "stage": "dev"}]}, plan
        )
        patch = {"op": "remove", "path": "/apiStages", "value": "api:dev"}
        stubber.add_response("update_usage_plan", {}, plan | {"patchOperations": [patch]})
    stubber.activate()
    session = create_autospec(Session, instance=True)
    session.client.return_value = client
    stack = create_autospec(Stack, instance=True)
    stack.outputs.return_value = {"ApiPlanId": "plan"}
    change = Change(action, "ApiPlan", "AWS::ApiGateway::UsagePlan", replaces=False)

    deploy.release_plan(ChangeSet("c", is_new=False, changes=[change]), stack, session)

    stubber.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("stage", "buckets", "goes", "stays"),
    [
        ("dev", ["a-uploads", "a-renditions"], ["Everything goes", "a-uploads, a-renditions"], []),
        ("dev", [], ["Everything goes"], []),
        ("prod", [], ["Functions, API"], ["Buckets, table and users stay"]),
    ],
)
def test_warning_says_what_goes_and_what_stays(
    stage: str, buckets: list[str], goes: list[str], stays: list[str]
) -> None:
    """Before it is asked for the stage's name."""
    said = destroy.warning(stage, buckets)

    assert all(words in said for words in (*goes, *stays))
    assert ("stay" in said) is bool(stays)


# ── what came of it ──────────────────────────────────────────────────────────────────────────────

REST_API = {
    "rest_api_id": "abc",
    "rest_api_url": "https://abc.execute-api.eu-central-1.amazonaws.com/dev/",
}


def test_api_on_aws_is_where_chalice_says() -> None:
    assert api_url(REST_API, {}) == REST_API["rest_api_url"]
    assert api_url(REST_API, {"AWS_ENDPOINT_URL": ""}) == REST_API["rest_api_url"]


def test_api_on_an_emulator_is_at_the_emulators_address() -> None:
    """Nothing on this machine answers for amazonaws.com; the API's own stage is in the path."""
    url = api_url(REST_API, {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"})

    assert url == "http://127.0.0.1:4566/restapis/abc/dev/_user_request_/"


def test_slash_behind_an_emulators_address_changes_nothing() -> None:
    """Everybody else takes an endpoint with it and without."""
    url = api_url(REST_API, {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566/"})

    assert url == "http://127.0.0.1:4566/restapis/abc/dev/_user_request_/"


def test_last_words_say_what_is_where() -> None:
    """Addresses to be clicked and commands to be copied, with the region and stage in them."""
    outputs = {"UploadsBucket": "bucket", "DashboardName": "board"}

    said = summary("dev", "https://api.example/dev/", outputs, TARGET)

    for words in (
        "Stage dev is up.",
        "https://api.example/dev/images",
        "s3://bucket/uploads/",
        "region=eu-central-1#dashboards/dashboard/board",
        "python -m infrastructure logs --stage dev",
        "python -m infrastructure status --stage dev",
    ):
        assert words in said


def test_last_words_say_how_to_read_the_key_and_never_the_key() -> None:
    """It would stand in the log of every build."""
    outputs = {"UploadsBucket": "bucket", "DashboardName": "board", "ApiKeyId": "k3y1d"}

    said = summary("dev", "https://api.example/dev/", outputs, TARGET)

    assert "aws apigateway get-api-key --api-key k3y1d --include-value" in said


def test_last_words_say_how_to_invite_a_user() -> None:
    """Nobody can sign up, so the first one has to be invited."""
    outputs = {"UploadsBucket": "bucket", "DashboardName": "board", "UserPoolId": "eu_pool"}

    said = summary("dev", "https://api.example/dev/", outputs, TARGET)

    assert "aws cognito-idp admin-create-user --user-pool-id eu_pool" in said


def test_chalice_takes_no_setting_from_the_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who has API_AUTH=none there, for a laptop, would open an API whose stage leaves it out."""
    monkeypatch.setenv("API_AUTH", "none")
    monkeypatch.setattr(
        deploy, "CHALICE", "import os; print(os.environ.get('API_AUTH'), os.environ['PATH'])"
    )

    deploy.run_chalice("deploy", "dev")

    assert f"None {os.environ['PATH']}" in capsys.readouterr().out


def test_configuration_is_written_when_it_has_changed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage knows its resources; a second time the file is not touched."""
    path = project / "config.json"

    write_configuration("prod", {"UploadsBucket": "originals"})
    written = path.read_text()
    assert "the stage prod knows" in capsys.readouterr().out
    assert json.loads(written)["stages"]["prod"]["environment_variables"] == {
        "UPLOADS_BUCKET": "originals"
    }

    os.utime(path, (0, 0))
    write_configuration("prod", {"UploadsBucket": "originals"})
    assert path.stat().st_mtime == 0
    assert path.read_text() == written
    assert capsys.readouterr().out == "  unchanged\n"
