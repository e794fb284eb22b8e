"""The deploy tool as a person runs it, onto an AWS that has nothing in it.

The project is copied, because a deployment writes into its configuration. Each function runs under
its own role, from the very package that Lambda would get.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infrastructure.stage import PROJECT
from localcloud.emulator import Emulator
from tests.e2e.clones import IGNORED, chalice, clone, python
from tests.pictures import photo, saved
from tests.waiting import eventually

STAGE = "dev"

pytestmark = pytest.mark.usefixtures("deployed")


class Tool:
    """``python -m infrastructure`` in a copy of the project, on an emulator."""

    def __init__(self, project: Path, emulator: Emulator) -> None:
        self.project = project
        self.emulator = emulator

    def __call__(self, *words: str, stage: str = STAGE) -> subprocess.CompletedProcess[str]:
        command = ("-m", "infrastructure", *words, "--stage", stage)
        return python(self.project, self.emulator.environ, *command)

    def chalice(self, *words: str) -> subprocess.CompletedProcess[str]:
        return chalice(self.project, self.emulator.environ, *words, "--stage", STAGE)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(enforce_iam=True) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def tool(project: Path, emulator: Emulator) -> Tool:
    return Tool(project, emulator)


@pytest.fixture(scope="module")
def deployed(tool: Tool) -> str:
    """What the first deployment said."""
    ran = tool("deploy", "--email", "you@example.com")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_first_deployment_does_every_step_and_sends_a_picture_through(deployed: str) -> None:
    """Resources, functions, what Chalice cannot do, and a real image by S3 event and API."""
    steps = [line for line in deployed.splitlines() if line and not line.startswith(" ")]
    assert steps[:7] == [
        *("Preflight", "Package", "Resources", "Configuration", "Functions and API"),
        *("Beyond Chalice", "Smoke test"),
    ]
    assert "completed and announced" in deployed
    assert "the API tells of it" in deployed
    assert "Stage dev is up." in deployed


def test_second_deployment_changes_nothing(tool: Tool) -> None:
    before = everything(tool.emulator)
    ran = tool("deploy", "--no-smoke-test")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("  unchanged") == 4
    assert everything(tool.emulator) == before
    assert tool("diff").returncode == 0


def test_status_is_well_and_logs_show_the_way_of_the_image(tool: Tool) -> None:
    ran = tool("status")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "work queue" in ran.stdout
    logged = tool("logs", "--since", "1h")
    assert logged.returncode == 0, logged.stderr
    for word in ("handle_upload", "process_images", "handle_removal"):
        assert word in logged.stdout


def test_api_refuses_who_does_not_sign_with_cors_and_problem_details(tool: Tool) -> None:
    """API Gateway's own errors look like the app's, and a page of another origin can read them."""
    gateway = tool.emulator.client("apigateway")
    api = gateway.get_rest_apis()["items"][0]["id"]
    answers = {
        item["responseType"]: item
        for item in gateway.get_gateway_responses(restApiId=api, limit=500)["items"]
    }
    for kind in ("DEFAULT_4XX", "DEFAULT_5XX"):
        parameters = answers[kind]["responseParameters"]
        assert parameters["gatewayresponse.header.Access-Control-Allow-Origin"] == "'*'"
    stage = gateway.get_stage(restApiId=api, stageName=STAGE)
    assert stage["tracingEnabled"]
    assert stage["accessLogSettings"]["destinationArn"].endswith(f"image-pipeline-{STAGE}")
    assert stage["methodSettings"]["*/*"]["throttlingRateLimit"] > 0


def test_a_change_of_code_is_deployed_by_another_machine(tool: Tool, tmp_path: Path) -> None:
    """A fresh clone knows nothing: what is deployed it learns from the stage's bucket."""
    clone = tmp_path / "another"
    shutil.copytree(tool.project, clone, ignore=IGNORED)
    shutil.copy(PROJECT / ".chalice" / "config.json", clone / ".chalice")
    app = clone / "app.py"
    app.write_text(app.read_text() + "\nCHANGED = True\n")
    other = Tool(clone, tool.emulator)
    apis = tool.emulator.client("apigateway").get_rest_apis()["items"]
    assert other("diff").returncode == 1
    ran = other("deploy")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Updating lambda function: image-pipeline-dev-process_images" in ran.stdout
    assert [api["id"] for api in apis] == [
        api["id"] for api in tool.emulator.client("apigateway").get_rest_apis()["items"]
    ]


def test_two_at_once_are_refused(tool: Tool) -> None:
    bucket = f"image-pipeline-{STAGE}-deployments-000000000000-us-east-1"
    s3 = tool.emulator.client("s3")
    lock = {"by": "somebody@else", "since": "2999-01-01T00:00:00.000Z"}
    s3.put_object(Bucket=bucket, Key="lock.json", Body=json.dumps(lock).encode())
    try:
        ran = tool("deploy", "--no-smoke-test")
    finally:
        s3.delete_object(Bucket=bucket, Key="lock.json")
    assert ran.returncode == 1
    assert "somebody@else has been deploying" in ran.stderr


def test_unknown_parameter_is_named_and_nothing_is_changed(tool: Tool) -> None:
    before = everything(tool.emulator)
    ran = tool("deploy", "--parameter", "NoSuch=1")
    assert ran.returncode == 1
    assert "'Resources' failed" in ran.stderr
    assert "no parameter NoSuch" in ran.stderr
    assert everything(tool.emulator) == before


def test_chalices_own_commands_work_once_the_stack_exists(tool: Tool) -> None:
    assert tool("configure").returncode == 0
    assert ".execute-api." in tool.chalice("url").stdout
    logged = tool.chalice("logs", "--name", "process_images")
    assert logged.returncode == 0, logged.stderr
    assert "COMPLETED" in logged.stdout


def test_destroy_asks_for_the_name_and_leaves_nothing(tool: Tool) -> None:
    """Last: with originals in the bucket and nobody at a terminal."""
    s3 = tool.emulator.client("s3")
    bucket = f"image-pipeline-{STAGE}-uploads-000000000000-us-east-1"
    s3.put_object(Bucket=bucket, Key="uploads/cat.jpg", Body=saved(photo(300, 200)))
    s3.put_object(Bucket=bucket, Key="uploads/cat.jpg", Body=saved(photo(200, 300)))
    refused = tool("destroy")
    assert refused.returncode == 1
    assert "Nothing was taken away" in refused.stderr
    ran = tool("destroy", "--confirm", STAGE)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    eventually(lambda: all(not found for found in everything(tool.emulator).values()))
    again = tool("destroy", "--confirm", STAGE)
    assert again.returncode == 0, again.stdout + again.stderr
    config = json.loads((tool.project / ".chalice" / "config.json").read_text())
    assert "UPLOADS_BUCKET" not in config["stages"][STAGE]["environment_variables"]


def everything(emulator: Emulator) -> dict[str, Any]:
    """What there is in the account, as far as a deployment makes it, and when it was changed."""
    client = emulator.client
    gateway = client("apigateway")
    return {
        "stacks": [
            (stack["StackName"], stack.get("LastUpdatedTime"))
            for stack in client("cloudformation").describe_stacks()["Stacks"]
        ],
        "functions": [
            (function["FunctionName"], function["CodeSha256"], function["LastModified"])
            for function in client("lambda").list_functions()["Functions"]
        ],
        "mappings": [
            mapping["UUID"]
            for mapping in client("lambda").list_event_source_mappings()["EventSourceMappings"]
        ],
        "apis": [
            (api["id"], len(gateway.get_deployments(restApiId=api["id"])["items"]))
            for api in gateway.get_rest_apis()["items"]
        ],
        "buckets": [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]],
        "queues": client("sqs").list_queues().get("QueueUrls", []),
        "tables": client("dynamodb").list_tables()["TableNames"],
        "topics": client("sns").list_topics()["Topics"],
        "roles": [role["RoleName"] for role in client("iam").list_roles()["Roles"]],
        "alarms": [
            alarm["AlarmName"] for alarm in client("cloudwatch").describe_alarms()["MetricAlarms"]
        ],
        "log groups": [
            group["logGroupName"] for group in client("logs").describe_log_groups()["logGroups"]
        ],
        "rules": [rule["Name"] for rule in client("events").list_rules()["Rules"]],
    }
