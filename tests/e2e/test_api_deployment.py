"""The API deployed, deployed again and deleted, by Chalice onto moto's server.

moto implements API Gateway's imports on its own, so it is a second opinion on what MiniStack was
taught in ``localcloud/ministack.py``. Everything else is on MiniStack.
"""

import json
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
from chalice.cli.factory import CLIFactory
from chalice.deploy.packager import LambdaDeploymentPackager
from chalice.utils import UI, OSUtils

import app
from infrastructure.deployed import Deployed
from infrastructure.stage import PROJECT, configure
from localcloud.emulator import REGION, Emulator
from localcloud.processes import Child, free_port
from tests.e2e.clones import chalice, clone
from tests.waiting import eventually

STAGE = "dev"
ACCOUNT = "123456789012"
FUNCTIONS = (
    *("handle_upload", "handle_removal", "process_images"),
    *("deliver_webhooks", "sweep", "api_handler"),
)


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables with which API Gateway is moto's, and all else the emulator's."""
    endpoint = f"http://127.0.0.1:{(port := free_port())}"
    folder = tmp_path_factory.mktemp("moto")
    command = [sys.executable, "-m", "tests.e2e.moto_server", "-H", "127.0.0.1", "-p", str(port)]
    with Emulator() as emulator:
        environ = emulator.environ | {"AWS_ENDPOINT_URL_API_GATEWAY": endpoint}
        moto = Child(command, environ, folder / "moto.log", PROJECT)
        try:
            eventually(lambda: _answers(f"{endpoint}/moto-api/data.json"))
            yield environ
        finally:
            moto.stop()


def _answers(url: str) -> bool:
    with suppress(OSError), urlopen(url, timeout=5):
        return True
    return False


@pytest.fixture(scope="module")
def session(environ: dict[str, str]) -> Iterator[boto3.Session]:
    """A session that asks the same."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            if name.startswith("AWS_"):
                patch.setenv(name, value)
        yield boto3.Session()


@pytest.fixture(scope="module")
def project(session: boto3.Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose stage knows its resources, as the deploy tool configures it."""
    session.client("s3").create_bucket(Bucket="uploads")
    sqs = session.client("sqs")
    queue, webhooks = (
        sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("work", "webhooks")
    )
    trust = {"Version": "2012-10-17", "Statement": []}
    role = session.client("iam").create_role(
        RoleName="any", AssumeRolePolicyDocument=json.dumps(trust)
    )["Role"]["Arn"]
    outputs = {
        "Stage": STAGE,
        "UploadsBucket": "uploads",
        "RenditionsBucket": "renditions",
        "TableName": "catalog",
        "WorkQueueUrl": queue,
        "WebhookQueueUrl": webhooks,
        "MaxReceiveCount": "5",
        "TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:announcements",
        **{f"Role{name.title().replace('_', '')}": role for name in FUNCTIONS},
    }
    copy = clone(tmp_path_factory.mktemp("clone"))
    path = copy / ".chalice" / "config.json"
    path.write_text(json.dumps(configure(json.loads(path.read_text()), STAGE, outputs)))
    return copy


def put_package(project: Path, environ: dict[str, str]) -> None:
    """A package that has nothing in it but the app, where Chalice looks for one: nobody runs it."""
    config = CLIFactory(str(project), environ=environ).create_config_obj(STAGE)
    packager = LambdaDeploymentPackager(OSUtils(), None, UI(), config.lambda_architecture)
    package = Path(packager.deployment_package_filename(str(project), config.lambda_python_version))
    package.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(package, "w") as zipped:
        zipped.write(project / "app.py", "app.py")


def deploy(project: Path, environ: dict[str, str]) -> None:
    put_package(project, environ)
    ran = chalice(project, environ, "deploy", "--stage", STAGE)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def routes(session: boto3.Session, api_id: str) -> set[tuple[str, str]]:
    """Path and method of everything that an API passes on to a function."""
    answer: Any = session.client("apigateway").get_resources(
        restApiId=api_id, embed=["methods"], limit=500
    )
    return {
        (resource["path"], method)
        for resource in answer["items"]
        for method, facts in resource.get("resourceMethods", {}).items()
        if facts.get("methodIntegration", {}).get("type", "").upper() == "AWS_PROXY"
    }


def test_terraform_package_has_every_function_and_trigger(
    project: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    put_package(project, environ)
    words = ("package", "--stage", STAGE, "--pkg-format", "terraform", str(tmp_path))
    ran = chalice(project, environ, *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    resources = json.loads((tmp_path / "chalice.tf.json").read_text())["resource"]
    functions = resources["aws_lambda_function"]
    assert functions.keys() == set(FUNCTIONS)
    for function in functions.values():
        assert function["role"]
        assert function["environment"]["variables"]["STAGE"] == STAGE
    [told] = resources["aws_s3_bucket_notification"].values()
    assert {each["filter_prefix"] for each in told["lambda_function"]} == {"uploads/"}
    assert resources["aws_lambda_event_source_mapping"]
    assert resources["aws_cloudwatch_event_rule"]
    assert (tmp_path / "deployment.zip").exists()


def test_api_is_deployed_deployed_again_and_deleted(
    project: Path, environ: dict[str, str], session: boto3.Session
) -> None:
    """It keeps its id and follows the app; what a cut-off deployment has forgotten is found."""
    gateway = session.client("apigateway")
    deploy(project, environ)
    (api,) = gateway.get_rest_apis()["items"]
    declared = {(path, method) for path, methods in app.app.routes.items() for method in methods}
    assert routes(session, api["id"]) == declared

    # A deployment that was cut off leaves no record: it is made up from what exists.
    recorded = project / ".chalice" / "deployed" / f"{STAGE}.json"
    record = json.loads(recorded.read_text())
    found = Deployed(session, "image-pipeline", STAGE).completed({"resources": []})
    by_name = {resource["name"]: resource for resource in found["resources"]}
    assert by_name["rest_api"] == next(
        resource for resource in record["resources"] if resource["name"] == "rest_api"
    )
    recorded.write_text(json.dumps(found))

    source = (project / "app.py").read_text()
    changed = source.replace('@app.route("/stats"', '@app.route("/figures"')
    assert changed != source
    (project / "app.py").write_text(changed)
    deploy(project, environ)
    (again,) = gateway.get_rest_apis()["items"]
    assert again["id"] == api["id"]
    moved = {(path.replace("/stats", "/figures"), method) for path, method in declared}
    assert routes(session, api["id"]) == moved != declared

    ran = chalice(project, environ, "delete", "--stage", STAGE)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not gateway.get_rest_apis()["items"]
    assert not session.client("lambda").list_functions()["Functions"]
    assert not session.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    assert not session.client("events").list_rules()["Rules"]
