"""The deploy tool as a person runs it, onto an AWS that has nothing in it.

The project is copied, because a deployment writes into its configuration. Each function runs under
its own role, from the very package that Lambda would get.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import skimage.data
import yaml
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from chalicelib.announcements import announcements_of
from chalicelib.aws.catalog import Catalog
from chalicelib.aws.destinations import Deliveries
from chalicelib.aws.layout import is_folding
from chalicelib.model import (
    DeliveryState,
    Image,
    ImageStatus,
    Label,
    Recognition,
    digest,
    image_id_of,
)
from infrastructure.stack import Stack
from infrastructure.stage import PROJECT
from localcloud.emulator import REGION, Emulator
from localcloud.rekognition.server import FAULTS_PATH
from tests.e2e.clones import IMPATIENT, TIMEOUT_S, chalice, clone, python
from tests.e2e.privileges import Grant, calls, grants, unused
from tests.pictures import photo, saved
from tests.waiting import eventually

STAGE = "dev"

LONG_AGO = "2026-01-31T09:15:00.000Z"
OLDEST = "0"
"""A sequencer."""
SCHEDULED = {
    **dict.fromkeys(("version", "account", "region", "source", "time", "id"), ""),
    "detail": {},
    "detail-type": "Scheduled Event",
    "resources": [],
}

NOT_ASKED_FOR = {
    Grant("*", "logs:*", "*"): "Lambda writes the logs with the function's role",
    Grant("*", "xray:*", "*"): "X-Ray's daemon sends the traces with it",
    Grant("*", "sqs:SendMessage", "dead-letters"): "Lambda gives up an event with it",
    Grant("ProcessImages", "sqs:ReceiveMessage", "work"): "Lambda polls the queue with it",
    Grant("ProcessImages", "sqs:GetQueueAttributes", "work"): "likewise",
    Grant("DeliverWebhooks", "sqs:[DGR]*", "webhooks"): "likewise; it deletes what was taken",
    Grant("DeliverWebhooks", "ses:SendRawEmail", "*"): "SES asks for it where a mail is MIME",
    Grant("DeliverWebhooks", "ses:SendEmail", "*configuration-set/*"): "identities may have one",
    Grant("ProcessImages", "rekognition:*", "*"): "another server is Rekognition here",
    Grant("ProcessImages", "s3:PutObjectTagging", "*"): "S3 asks for it where an upload has tags",
    Grant("*", "s3:ListBucket", "uploads"): "without it S3 says 403 of what is not there, not 404",
}
"""What AWS asks for and MiniStack does not, with the reason; ``*`` is anything."""

READER, NOWHERE = "mailto:ada@example.com", "https://127.0.0.1/"
TOLD = {
    "MAIL_FROM": "images@example.com",
    "WEBHOOKS": f"{READER} label=Mailed, {NOWHERE} FAILED",
    "WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwN5o3oXv1GYs=",
}
"""Who is told: by mail, of what no image shows by itself; and where nobody can be called."""

DEPLOYER = f"image-pipeline-deployer-{STAGE}"
ROOT = "arn:aws:iam::000000000000:root"

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
        emulator.client("sesv2").create_email_identity(EmailIdentity=TOLD["MAIL_FROM"])
        yield emulator


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return impatient_clone(tmp_path_factory.mktemp("clone"))


def impatient_clone(folder: Path) -> Path:
    """The project in a folder of its own; what fails in its functions is tried again at once."""
    copy = clone(folder)
    path = copy / ".chalice" / "config.json"
    config = json.loads(path.read_text())
    config["stages"][STAGE]["environment_variables"] = {"RETRY_DELAY_S": "0", **TOLD}
    path.write_text(json.dumps(config, indent=2))
    return copy


@pytest.fixture(scope="module")
def tool(project: Path, emulator: Emulator) -> Tool:
    return Tool(project, emulator)


class Life:
    """What happens to images in the deployed stage."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._catalog = Catalog(emulator.client("dynamodb"), f"image-pipeline-{STAGE}")
        self._bucket = f"image-pipeline-{STAGE}-uploads-000000000000-us-east-1"

    def upload(self, name: str, body: bytes) -> str:
        key = f"uploads/{name}"
        self._emulator.client("s3").put_object(Bucket=self._bucket, Key=key, Body=body)
        return key

    def reaches(self, key: str, status: ImageStatus, **facts: Any) -> Image:
        """The image once it is in that status and announced, with those facts in its record."""

        def has_arrived() -> Image | None:
            image = self._catalog.get(image_id_of(key))
            if image is None or image.status is not status or not image.announced:
                return None
            known = {**asdict(image), **asdict(image)["description"]} if facts else {}
            return image if facts.items() <= known.items() else None

        image = eventually(has_arrived)
        assert isinstance(image, Image)
        return image

    def rekognition(self, **faults: Any) -> None:
        url = self._emulator.rekognition_url + FAULTS_PATH
        urlopen(Request(url, json.dumps(faults).encode(), method="PUT"), timeout=TIMEOUT_S).close()

    def versions(self, key: str) -> list[str]:
        """The ids of an object's versions, newest first."""
        s3 = self._emulator.client("s3")
        found = s3.list_object_versions(Bucket=self._bucket, Prefix=key)["Versions"]
        return [version["VersionId"] for version in found]

    def remove(self, key: str, version: str = "") -> None:
        named = {"VersionId": version} if version else {}
        self._emulator.client("s3").delete_object(Bucket=self._bucket, Key=key, **named)

    @contextmanager
    def deaf(self) -> Iterator[None]:
        """Nobody is told of what happens to the bucket."""
        s3 = self._emulator.client("s3")
        heard = s3.get_bucket_notification_configuration(Bucket=self._bucket)
        del heard["ResponseMetadata"]
        s3.put_bucket_notification_configuration(Bucket=self._bucket, NotificationConfiguration={})
        yield
        s3.put_bucket_notification_configuration(
            Bucket=self._bucket, NotificationConfiguration=heard
        )

    def tell_of_upload(self, key: str, sequencer: str = "F" * 18) -> None:
        """As S3 does, unless told otherwise with a sequencer that is newer than any."""
        self._tell("handle_upload", "ObjectCreated:Put", key, sequencer)

    def tell_late_of_removal(self, key: str) -> None:
        self._tell("handle_removal", "ObjectRemoved:Delete", key, OLDEST)

    def _tell(self, function: str, event: str, key: str, sequencer: str) -> None:
        facts = {"key": key, "size": 1, "eTag": "e", "versionId": "gone", "sequencer": sequencer}
        record = {
            "eventName": event,
            "eventTime": LONG_AGO,
            "s3": {"bucket": {"name": self._bucket}, "object": facts},
        }
        self._invoke(function, {"Records": [record]})

    def unsettle(self, key: str) -> None:
        """Leave an image as a worker does that dies once it is recorded."""
        image = self.reaches(key, ImageStatus.COMPLETED)
        self._catalog.save(replace(image, announced=False), image)

    def label(self, key: str, name: str) -> None:
        """Give it a label that a look at the picture does not give."""
        image = self.reaches(key, ImageStatus.COMPLETED)
        labels = (Label(name=name, confidence=99.0),)
        self._catalog.save(replace(image, recognition=Recognition(labels=labels)), image)

    def mail(self, image: Image) -> None:
        """Tell of it as if it showed what is told by mail, and wait until that is sent."""
        details = announcements_of(image)[0].details
        details["labels"] = [{"name": "Mailed", "confidence": 99.0, "parents": []}]
        sns, dynamodb = self._emulator.client("sns"), self._emulator.client("dynamodb")
        topic = f"arn:aws:sns:{REGION}:000000000000:image-pipeline-{STAGE}"
        sns.publish(TopicArn=topic, Message=json.dumps(details))
        log = Deliveries(dynamodb, f"image-pipeline-{STAGE}")

        def is_sent() -> bool:
            known = log.get(digest(READER), details["event_id"])
            return known is not None and known.state is DeliveryState.DELIVERED

        eventually(is_sent)

    def sweep(self, key: str) -> None:
        """Leave an image behind, as a worker does that dies, and have the sweep find it."""
        image = self.reaches(key, ImageStatus.COMPLETED)
        left = replace(image, status=ImageStatus.PROCESSING, lease_until=LONG_AGO, announced=False)
        self._catalog.save(replace(left, updated_at=LONG_AGO), image)
        self._invoke("sweep", SCHEDULED)
        self.reaches(key, ImageStatus.COMPLETED, attempt=image.attempt + 1)

    def _invoke(self, function: str, event: Mapping[str, Any]) -> None:
        answer = self._emulator.client("lambda").invoke(
            FunctionName=f"image-pipeline-{STAGE}-{function}", Payload=json.dumps(event)
        )
        assert "FunctionError" not in answer, answer["Payload"].read()


def sample(name: str) -> bytes:
    """A photograph that comes with scikit-image."""
    return (Path(skimage.data.__file__).parent / name).read_bytes()


@pytest.fixture
def life(emulator: Emulator) -> Iterator[Life]:
    life = Life(emulator)
    yield life
    life.rekognition()


@pytest.fixture
def api(emulator: Emulator) -> Callable[..., tuple[int, Any]]:
    """The deployed API behind API Gateway, with requests signed as ``API_AUTH=iam`` asks."""
    [facts] = emulator.client("apigateway").get_rest_apis()["items"]
    url = f"{emulator.endpoint}/restapis/{facts['id']}/{STAGE}/_user_request_/"
    signer = SigV4Auth(Credentials("test", "test"), "execute-api", REGION)

    def call(method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        request: Any = AWSRequest(method, url + path, data=body, headers={"Accept": "*/*"})
        signer.add_auth(request)
        try:
            headers = dict(request.headers)
            with urlopen(
                Request(url + path, body, headers, method=method), timeout=TIMEOUT_S
            ) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, error.read()

    return call


@pytest.fixture(scope="module")
def deployer(emulator: Emulator) -> dict[str, str]:
    """Credentials of the role that deploys, made beforehand by whoever owns the account."""
    cloudformation, iam = emulator.client("cloudformation"), emulator.client("iam")
    for name, template, parameters in (
        ("image-pipeline-account", "account.yaml", {}),
        (DEPLOYER, "deployer.yaml", {"Stage": STAGE}),
    ):
        stack = Stack(cloudformation, name, sleep=lambda _: None)
        change_set = stack.propose(PROJECT / "infrastructure" / template, parameters, {})
        assert change_set
        stack.apply(change_set, lambda _: None)
    # It trusts CodeBuild alone, for which the account stands in here.
    trust = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "sts:AssumeRole"}
    iam.update_assume_role_policy(
        RoleName=f"{DEPLOYER}-{REGION}",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    role = stack.outputs()["Role"]
    answer = emulator.client("sts").assume_role(RoleArn=role, RoleSessionName="build")
    return {
        "AWS_ACCESS_KEY_ID": answer["Credentials"]["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": answer["Credentials"]["SecretAccessKey"],
        "AWS_SESSION_TOKEN": answer["Credentials"]["SessionToken"],
    }


@pytest.fixture(scope="module")
def deployed(tool: Tool, deployer: dict[str, str]) -> str:
    """What the first deployment said: that of the build that delivers the project, as its role."""
    build = yaml.safe_load((PROJECT / "infrastructure" / "buildspec-deploy.yml").read_text())
    commands = [*build["phases"]["install"]["commands"], *build["phases"]["build"]["commands"]]
    ran = subprocess.run(
        ["bash", "-euc", "\n".join(commands)],
        cwd=tool.project,
        env=tool.emulator.environ
        | IMPATIENT
        | deployer
        | {
            "STAGE": STAGE,
            "EMAIL": "you@example.com",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
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
    assert ran.stdout.count("  unchanged") == 4, ran.stdout
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


def test_api_refuses_who_does_not_sign_in_words_of_its_own(tool: Tool) -> None:
    """API Gateway's own errors are problem details, which no page of another origin may read."""
    gateway = tool.emulator.client("apigateway")
    api = gateway.get_rest_apis()["items"][0]["id"]
    url = f"{tool.emulator.endpoint}/restapis/{api}/{STAGE}/_user_request_"
    for path in ("/images", "/nowhere", "/"):
        with pytest.raises(HTTPError) as refused:
            urlopen(url + path, timeout=TIMEOUT_S)
        problem = json.load(refused.value)
        assert (problem["status"], problem["code"]) == (403, "missing_signature")
        assert "Access-Control-Allow-Origin" not in refused.value.headers
    with urlopen(f"{url}/health", timeout=TIMEOUT_S) as answer:
        assert json.load(answer) == {"status": "ok"}
    stage = gateway.get_stage(restApiId=api, stageName=STAGE)
    assert stage["tracingEnabled"]
    assert stage["accessLogSettings"]["destinationArn"].endswith(f"image-pipeline-{STAGE}")
    assert stage["methodSettings"]["*/*"]["throttlingRateLimit"] > 0


def test_a_change_of_code_is_deployed_by_another_machine(tool: Tool, tmp_path: Path) -> None:
    """A fresh clone knows nothing, and the stage's record is lost: it looks what there is.

    Killed in the middle, it goes on when it is run again.
    """
    tool.emulator.client("s3").delete_object(
        Bucket=f"image-pipeline-{STAGE}-deployments-000000000000-us-east-1", Key="state.json"
    )
    other = Tool(impatient_clone(tmp_path), tool.emulator)
    app = other.project / "app.py"
    app.write_text(app.read_text() + "\nCHANGED = True\n")
    apis = tool.emulator.client("apigateway").get_rest_apis()["items"]
    assert other("diff").returncode == 1
    die_at("Updating lambda function", other)
    ran = other("deploy")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Updating lambda function: image-pipeline-dev-process_images" in ran.stdout
    assert [api["id"] for api in apis] == [
        api["id"] for api in tool.emulator.client("apigateway").get_rest_apis()["items"]
    ]


def die_at(words: str, tool: Tool) -> None:
    """Deploy until it says so, and then end as a machine does that loses its power."""
    with subprocess.Popen(
        [sys.executable, "-m", "infrastructure", "deploy", "--stage", STAGE],
        cwd=tool.project,
        env=tool.emulator.environ | IMPATIENT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        for line in process.stdout or ():
            if words in line:
                break
        else:
            pytest.fail(f"It never said {words!r}.")
        os.killpg(process.pid, signal.SIGKILL)


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


def test_roles_allow_what_is_done_and_nothing_else(
    tool: Tool, life: Life, api: Callable[..., Any]
) -> None:
    """All that can happen to images, under enforced roles: no call is denied, no right is idle."""
    live_a_whole_life(life, api)

    made = calls(tool.emulator.calls_log)
    assert not [call for call in made if not call["allowed"]]
    idle = unused(grants(tool.emulator.client("iam")), made)
    unexplained = {grant for grant in idle if not any(map(fits(grant), NOT_ASKED_FOR))}
    assert not unexplained, "\n".join(map(str, sorted(unexplained)))
    needless = {rule for rule in NOT_ASKED_FOR if not any(fits(grant)(rule) for grant in idle)}
    assert not needless, "no longer idle"


def live_a_whole_life(life: Life, api: Callable[..., Any]) -> None:
    """Everything that any function has a right for, each beginning as AWS or a client begins it."""
    cat, other = sample("chelsea.png"), saved(photo(640, 480))

    name = folding("cat.png")
    cat_key = life.upload(name, cat)
    assert life.reaches(cat_key, ImageStatus.COMPLETED).recognition.labels
    life.upload(name, other)  # its labels go
    life.reaches(cat_key, ImageStatus.COMPLETED, width=640)
    life.remove(cat_key, version=life.versions(cat_key)[0])  # the cat is back
    assert life.reaches(cat_key, ImageStatus.COMPLETED, width=451).recognition.labels
    life.remove(cat_key)
    life.reaches(cat_key, ImageStatus.DELETED)

    life.reaches(life.upload("broken.jpg", b"no picture"), ImageStatus.FAILED)
    life.rekognition(error="InternalServerError", next_calls=3)
    life.reaches(life.upload("later.jpg", other), ImageStatus.COMPLETED)
    life.rekognition(error="ThrottlingException", next_calls=16)
    life.mail(life.reaches(life.upload("busy.jpg", other), ImageStatus.COMPLETED))
    left = life.upload("left.jpg", other)
    life.sweep(left)

    # Whoever hears of it settles it, and looks for its like.
    life.unsettle(left)
    life.tell_of_upload(left, OLDEST)
    assert life.reaches(left, ImageStatus.COMPLETED).duplicates
    life.unsettle(left)
    life.tell_late_of_removal(left)
    life.reaches(left, ImageStatus.COMPLETED)

    # Its removal was never told of; an upload that is told of late finds it out.
    lost = life.upload("lost.png", cat)
    life.reaches(lost, ImageStatus.COMPLETED)
    with life.deaf():
        life.remove(lost)
    life.tell_of_upload(lost)
    life.reaches(lost, ImageStatus.DELETED)

    # Likewise; an upload under the same name takes its place.
    name = folding("over-rest.png")
    status, answer = api("POST", f"images?name={name}", cat)
    assert status == 202, answer
    key = f"uploads/{name}"
    image = f"images/{image_id_of(key)}"
    life.reaches(key, ImageStatus.COMPLETED)
    with life.deaf():
        life.remove(key)
    assert api("POST", f"images?name={name}", other)[0] == 202
    life.reaches(key, ImageStatus.COMPLETED, width=640)
    for query in ("", "?status=COMPLETED", "?label=cat"):
        assert api("GET", f"images{query}")[0] == 200
    shown = api("GET", image)[1]
    with urlopen(shown["renditions"][0]["url"], timeout=TIMEOUT_S) as rendition:
        assert rendition.read()
    life.label(key, "Unicorn")
    assert api("POST", f"{image}/reprocess", b"")[0] == 202
    eventually(lambda: not life.reaches(key, ImageStatus.COMPLETED).recognition.labels)
    try_a_webhook(api)
    assert api("DELETE", image)[0] == 202
    life.reaches(key, ImageStatus.DELETED)


def try_a_webhook(api: Callable[..., Any]) -> None:
    [*_, webhook] = api("GET", "webhooks")[1]["webhooks"]
    assert api("POST", f"webhooks/{webhook['webhook_id']}/test", b"")[0] == 202


def folding(name: str) -> str:
    """A name whose image is one of those that add to the counters what has yet to be added."""
    names = (f"{number}-{name}" for number in count())
    return next(each for each in names if is_folding(image_id_of(f"uploads/{each}")))


def fits(grant: Grant) -> Callable[[Grant], bool]:
    """Whether a rule of NOT_ASKED_FOR explains a grant."""
    return lambda rule: all(
        fnmatchcase(word, pattern) for word, pattern in zip(grant, rule, strict=True)
    )


def deploy(
    tool: Tool, deployer: Mapping[str, str], settings: Mapping[str, str], *words: str
) -> str:
    """Change settings of the stage and deploy it with a deployer's rights; what that said."""
    path = tool.project / ".chalice" / "config.json"
    config = json.loads(path.read_text())
    config["stages"][STAGE]["environment_variables"] |= settings
    path.write_text(json.dumps(config))
    command = ("-m", "infrastructure", "deploy", "--stage", STAGE, *words)
    ran = python(tool.project, tool.emulator.environ | deployer, *command)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_another_setting_asks_for_users_and_then_for_a_key(
    tool: Tool, deployer: dict[str, str]
) -> None:
    """With a deployer's rights. Each time the smoke test is let in, or refused, as it should be."""
    said = deploy(tool, deployer, {"API_AUTH": "cognito"})
    cognito = tool.emulator.client("cognito-idp")
    [pool] = cognito.list_user_pools(MaxResults=60)["UserPools"]
    assert "the API asks who wants to know of it" in said
    assert f"admin-create-user --user-pool-id {pool['Id']}" in said

    said = deploy(tool, deployer, {"API_AUTH": "key"}, "--allow-data-loss")  # the users go
    gateway = tool.emulator.client("apigateway")
    [key] = gateway.get_api_keys(includeValues=True)["items"]
    [plan] = gateway.get_usage_plans()["items"]
    assert key["name"] == plan["name"] == f"image-pipeline-{STAGE}"
    assert [made["tags"]["image-pipeline-stage"] for made in (key, plan)] == [STAGE, STAGE]
    assert "the API tells of it" in said
    assert f"get-api-key --api-key {key['id']}" in said
    assert key["value"] not in said
    assert not cognito.list_user_pools(MaxResults=60)["UserPools"]


def test_another_setting_leads_images_by_a_state_machine(
    tool: Tool, deployer: dict[str, str]
) -> None:
    """With a deployer's rights; the smoke test goes by it. Without the setting it is gone again."""
    client = tool.emulator.client("stepfunctions")
    inline, staged = ({"ORCHESTRATION": each} for each in ("inline", "stepfunctions"))

    said = deploy(tool, deployer, staged, "--parameter", "StartFromS3=true")
    [machine] = client.list_state_machines()["stateMachines"]
    ended = client.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"]
    assert machine["name"] == f"image-pipeline-{STAGE}"
    assert {each["status"] for each in ended} == {"SUCCEEDED"}
    assert "completed and announced" in said
    assert "uploads start executions by EventBridge" in said
    assert "workflow" in tool("status").stdout
    assert deploy(tool, deployer, staged, "--no-smoke-test").count("  unchanged") == 5
    assert tool("diff").returncode == 0

    said = deploy(tool, deployer, inline)
    assert "completed and announced" in said
    assert "uploads no longer start executions by EventBridge" in said
    assert not client.list_state_machines()["stateMachines"]
    functions = tool.emulator.client("lambda").list_functions()["Functions"]
    assert not [each for each in functions if each["FunctionName"].endswith("_image")]

    deploy(tool, deployer, staged, "--no-smoke-test")  # for what comes last


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
    Stack(tool.emulator.client("cloudformation"), DEPLOYER).delete(lambda _: None)
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
        "keys": gateway.get_api_keys()["items"],
        "plans": gateway.get_usage_plans()["items"],
        "users": client("cognito-idp").list_user_pools(MaxResults=60)["UserPools"],
        "rules": [rule["Name"] for rule in client("events").list_rules()["Rules"]],
        "workflows": client("stepfunctions").list_state_machines()["stateMachines"],
    }
