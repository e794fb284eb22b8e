"""The local cloud: MiniStack, a Rekognition, the app's functions and its REST API.

MiniStack runs the Lambda functions in worker processes of this very environment. Everything
listens on 127.0.0.1 and ends with the process that started it.
"""

import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

from infrastructure.stage import PROJECT, TEMPLATE, stack_name, stage_config
from localcloud.functions import STAGE
from localcloud.processes import Child, free_port, require_port

READY_TIMEOUT_S = 30
REGION = "us-east-1"
INBOX = "image-pipeline-local-inbox"
"""A queue subscribed to the announcements, so that they can be read without a mailbox."""


class CloudFailed(Exception):
    """The local cloud did not come up; the message has the last words of what failed."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where things listen on 127.0.0.1; 0 is any free port."""

    api: int = 0
    cloud: int = 0


class LocalCloud:
    """A context manager: up on entering, gone on leaving.

    ``state`` is a folder that survives; without one everything is forgotten at the end.
    ``settings`` are variables of the functions beside the stage's own (``{"BATCH_SIZE": "1"}``).
    With ``enforce_iam`` each function may do what its role allows and nothing else.
    """

    def __init__(
        self,
        ports: Ports = Ports(),
        state: Path | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        enforce_iam: bool = False,
    ) -> None:
        self._keep = state is not None
        self.state = state or Path(tempfile.mkdtemp(prefix="localcloud-"))
        self._settings = dict(settings or {})
        self._enforce_iam = enforce_iam
        self._owns_state = False
        self._children: list[Child] = []
        self._api: Child | None = None
        self.outputs: dict[str, str] = {}
        cloud_port = require_port(ports.cloud, "CLOUD_PORT") if ports.cloud else free_port()
        self._api_port = require_port(ports.api, "API_PORT") if ports.api else free_port()
        self._rekognition_port = free_port()
        self.endpoint = f"http://127.0.0.1:{cloud_port}"
        self.api_url = f"http://127.0.0.1:{self._api_port}"
        self.rekognition_url = f"http://127.0.0.1:{self._rekognition_port}"
        self._environ = {
            name: value for name, value in os.environ.items() if not name.startswith("AWS_")
        } | self.client_environ
        self._cloud_environ = {
            "AUTH": str(enforce_iam).lower(),
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(cloud_port),
            "LOG_LEVEL": "WARNING",
            "PERSIST_STATE": str(int(self._keep)),
            "S3_PERSIST": str(int(self._keep)),
            "S3_DATA_DIR": str(self.state / "s3"),
            "STATE_DIR": str(self.state / "state"),
            "TMPDIR": str(self.state / "tmp"),
        }

    @property
    def client_environ(self) -> dict[str, str]:
        """The variables with which any AWS SDK or the AWS CLI talks to this cloud."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_REKOGNITION": self.rekognition_url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def variables(self) -> dict[str, str]:
        """The variables that the functions of this cloud run with."""
        variables: dict[str, str] = stage_config(self.outputs)["environment_variables"]
        return variables

    def client(self, service: str) -> Any:
        """A boto3 client of this cloud, whatever account the environment names."""
        rekognition = service == "rekognition"
        return boto3.Session().client(
            service,  # type: ignore[call-overload]  # its stubs know literals alone
            endpoint_url=self.rekognition_url if rekognition else self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106
            config=Config(retries={"mode": "standard"}, max_pool_connections=50),
        )

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # Ctrl-C, too, must leave nothing running
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process; those that use others end before them."""
        for child in reversed(self._children):
            child.stop()
        self._children.clear()
        if self._owns_state:
            obsolete = self.state / "tmp" if self._keep else self.state
            shutil.rmtree(obsolete, ignore_errors=True)
            self._lock.close()

    def deploy(self) -> None:
        """Put the app's functions as they are in the project now; the API is started anew.

        Raises CloudFailed when they cannot be deployed; then all runs on as it was.
        """
        functions = self._child(
            "functions", [sys.executable, "-m", "localcloud.functions", str(self.state)]
        )
        failed = functions.process.wait(READY_TIMEOUT_S) != 0
        self._children.remove(functions)
        if failed:
            raise CloudFailed(f"The functions were not deployed:\n{functions.last_words()}")
        if self._api is not None:
            self._api.stop()
            self._children.remove(self._api)
        api = [sys.executable, "-m", "localcloud.api", str(self.state), str(self._api_port)]
        self._api = self._child("api", api)
        self._wait(self._api, f"{self.api_url}/images?limit=1")

    def failed_children(self) -> list[str]:
        """What has ended although it should run, with its last words."""
        return [child.last_words() for child in self._children if not child.is_running]

    def _start(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        self._lock = (self.state / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CloudFailed(
                f"Another cloud is running on {self.state}: stop it first."
            ) from error
        self._owns_state = True
        for folder in ("tmp", "logs"):
            (self.state / folder).mkdir(exist_ok=True)
        ministack = self._child("ministack", [sys.executable, "-m", "localcloud.ministack"])
        port = str(self._rekognition_port)
        rekognition = self._child(
            "rekognition", [sys.executable, "-m", "localcloud.rekognition", "--port", port]
        )
        self._wait(ministack, f"{self.endpoint}/_ministack/health")
        self.outputs = self._apply_template() | {
            _camel_case(name): value for name, value in self._settings.items()
        }
        (self.state / "outputs.json").write_text(json.dumps(self.outputs))
        self._open_inbox()
        self.deploy()
        self._wait(rekognition, self.rekognition_url)

    def _child(self, name: str, command: list[str]) -> Child:
        log = self.state / "logs" / f"{name}.log"
        child = Child(command, self._environ | self._cloud_environ, log, PROJECT)
        self._children.append(child)
        return child

    def _wait(self, child: Child, url: str) -> None:
        """Wait until the child answers, with whatever status. Raises CloudFailed if it ends."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while child.is_running and time.monotonic() < deadline:
            try:
                with urlopen(url, timeout=5):  # noqa: S310
                    return
            except URLError as error:
                if hasattr(error, "code"):
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise CloudFailed(f"{child.log.stem} does not answer:\n{child.last_words()}")

    def _apply_template(self) -> dict[str, str]:
        """Create the stack, or bring one that was kept up to date; its outputs."""
        cloudformation = self.client("cloudformation")
        request = {
            "StackName": stack_name(STAGE),
            "TemplateBody": TEMPLATE.read_text(),
            "Parameters": [{"ParameterKey": "Stage", "ParameterValue": STAGE}],
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        }
        step = "stack_create_complete"
        try:
            cloudformation.create_stack(**request)
        except cloudformation.exceptions.AlreadyExistsException:
            step = "stack_update_complete"
            try:
                cloudformation.update_stack(**request)
            except ClientError as error:
                if "No updates" not in str(error):
                    raise
                step = "stack_exists"
        waiter = cloudformation.get_waiter(step)
        try:
            waiter.wait(
                StackName=request["StackName"], WaiterConfig={"Delay": 0.05, "MaxAttempts": 200}
            )
        except WaiterError as error:
            events = cloudformation.describe_stack_events(StackName=request["StackName"])
            reasons = [
                f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
                for event in events["StackEvents"]
                if event.get("ResourceStatusReason")
            ]
            kept = (
                "\nIf the cloud was ended the hard way, `make clean` helps." if self._keep else ""
            )
            raise CloudFailed(
                "The template was not applied:\n" + "\n".join(reasons) + kept
            ) from error
        stack = cloudformation.describe_stacks(StackName=request["StackName"])["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def _open_inbox(self) -> None:
        sqs, topic = self.client("sqs"), self.outputs["TopicArn"]
        url = sqs.create_queue(QueueName=INBOX)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
        may_send = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn["QueueArn"],
            "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [may_send]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"])


def _camel_case(variable: str) -> str:
    return "".join(word.capitalize() for word in variable.split("_"))
