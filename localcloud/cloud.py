"""The local cloud: MiniStack, a Rekognition, the app's functions and its REST API.

MiniStack runs the Lambda functions in worker processes of this very environment.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path

from botocore.exceptions import ClientError, WaiterError

from chalicelib.config import STEP_FUNCTIONS
from infrastructure.stage import TEMPLATE, setting_of, stack_name, stage_config, variables_of
from infrastructure.template import rendered
from infrastructure.workflow import WORKFLOW, worker_of, workflow_stack
from localcloud.emulator import READY_TIMEOUT_S, CloudFailed, Emulator
from localcloud.functions import STAGE
from localcloud.processes import Child, free_port, require_port

INBOX = "image-pipeline-local-inbox"
"""A queue subscribed to the announcements, so that they can be read without a mailbox."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where things listen on 127.0.0.1; 0 is any free port."""

    api: int = 0
    cloud: int = 0


class LocalCloud(Emulator):
    """An emulator with the stage ``local`` in it: resources, functions, and the REST API.

    ``settings`` are variables of the functions beside the stage's own (``{"BATCH_SIZE": "1"}``).
    """

    def __init__(
        self,
        ports: Ports = Ports(),
        state: Path | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        enforce_iam: bool = False,
        moderation_rules: Path | None = None,
    ) -> None:
        super().__init__(
            ports.cloud, state, enforce_iam=enforce_iam, moderation_rules=moderation_rules
        )
        self._settings = dict(settings or {})
        self._api: Child | None = None
        self.outputs: dict[str, str] = {}
        self._api_port = require_port(ports.api, "API_PORT") if ports.api else free_port()
        self.api_url = f"http://127.0.0.1:{self._api_port}"

    @property
    def variables(self) -> dict[str, str]:
        """The variables that the functions of this cloud run with."""
        variables: dict[str, str] = stage_config(self.outputs)["environment_variables"]
        return variables

    def deploy(self) -> None:
        """Put the app's functions as they are in the project now; the API is started anew.

        Raises CloudFailed when they cannot be deployed; then all runs on as it was.
        """
        functions = self._child("functions", ["localcloud.functions", str(self.state)])
        failed = functions.process.wait(READY_TIMEOUT_S) != 0
        self._children.remove(functions)
        if failed:
            raise CloudFailed(f"The functions were not deployed:\n{functions.last_words()}")
        if self._api is not None:
            self._api.stop()
            self._children.remove(self._api)
        api = ["localcloud.api", str(self.state), str(self._api_port)]
        self._api = self._child("api", api)
        self._wait(self._api, f"{self.api_url}/images?limit=1")

    def _fill(self) -> None:
        given = {_camel_case(name): value for name, value in self._settings.items()}
        self.outputs = given | self._apply_templates()
        (self.state / "outputs.json").write_text(json.dumps(self.outputs))
        self._open_inbox()
        if sender := parseaddr(self._setting("mail_from"))[1]:
            self.client("ses").verify_email_identity(EmailAddress=sender)
        self.deploy()

    def _apply_templates(self) -> dict[str, str]:
        """Create the stacks, or bring those that were kept up to date; their outputs."""
        auth, orchestration = (self._setting(name) for name in ("api_auth", "orchestration"))
        outputs = self._apply(TEMPLATE, stack_name(STAGE), {"Stage": STAGE, "ApiAuth": auth})
        workflow = workflow_stack(STAGE, self.client("cloudformation"))
        if orchestration == STEP_FUNCTIONS:
            parameters = {"Stage": STAGE} | worker_of(outputs)
            return outputs | self._apply(WORKFLOW, workflow.name, parameters)
        workflow.delete(lambda _: None)
        return outputs

    def _setting(self, name: str) -> str:
        try:
            return str(setting_of(variables_of(STAGE) | self._settings, name))
        except ValueError as error:
            raise CloudFailed(f"{name.upper()} {error}.") from error

    def _apply(self, template: Path, name: str, parameters: Mapping[str, str]) -> dict[str, str]:
        cloudformation = self.client("cloudformation")
        request = {
            "StackName": name,
            "TemplateBody": rendered(template, {"Stage": STAGE}),
            "Parameters": [
                {"ParameterKey": name, "ParameterValue": value}
                for name, value in parameters.items()
            ],
            "Capabilities": ["CAPABILITY_IAM"],
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
                StackName=request["StackName"], WaiterConfig={"Delay": 0.05, "MaxAttempts": 2000}
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
