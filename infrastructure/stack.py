"""CloudFormation: what a template would change, changing it, and taking it all away."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from yaml import YAMLError

from chalicelib.errors import PipelineError
from infrastructure.template import rendered

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.literals import CapabilityType
    from mypy_boto3_cloudformation.type_defs import ParameterTypeDef

POLL_S = 2.0
MAX_INLINE_BYTES = 51_200
"""The most that CloudFormation takes as a TemplateBody."""

CAPABILITIES: tuple["CapabilityType", ...] = ("CAPABILITY_NAMED_IAM",)
STATEFUL = (
    *("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::SQS::Queue"),
    *("AWS::Cognito::UserPool", "AWS::Logs::LogGroup"),
)

NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
DONE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "DELETE_COMPLETE")
GONE = ("DELETE_COMPLETE", "DELETE_SKIPPED")
IN_REVIEW = "REVIEW_IN_PROGRESS"
"""A stack that has only a change set yet: there is nothing in it."""


class StackFailed(PipelineError):
    """The stack is not as the template says; the message has CloudFormation's first reason."""

    code = "stack_failed"


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a change set. ``replaces``: the resource goes, and a new one comes."""

    action: str
    logical_id: str
    kind: str
    replaces: bool

    @property
    def is_loss(self) -> bool:
        """Whether something goes that has more in it than the template says."""
        return self.kind in STATEFUL and (self.replaces or self.action == "Remove")

    def __str__(self) -> str:
        action = "Replace" if self.replaces else self.action
        return f"{action:<8} {self.kind:<32} {self.logical_id}"


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What a template would change. It is there until it is applied or dropped."""

    name: str
    is_new: bool
    changes: Sequence[Change]


class Stack:
    """A stack by its name, whether it exists or not."""

    def __init__(
        self,
        client: "CloudFormationClient",
        name: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._client = client
        self._sleep = sleep

    def describe(self) -> dict[str, Any] | None:
        """As DescribeStacks gives it; None where there is none, or nothing in it yet."""
        stack = self._any()
        return None if stack is None or stack["StackStatus"] == IN_REVIEW else stack

    def _any(self) -> dict[str, Any] | None:
        try:
            stack: Any = self._client.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError":
                return None
            raise
        return None if stack["StackStatus"] == "DELETE_COMPLETE" else dict(stack)

    def outputs(self) -> dict[str, str]:
        """Its outputs. Raises StackFailed where it does not exist."""
        stack = self.describe()
        if stack is None:
            raise StackFailed(f"There is no stack {self.name} here: deploy it first.")
        return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())}

    def resources(self) -> Iterator[Mapping[str, Any]]:
        """As ListStackResources gives them, without those that are gone or never were."""
        for page in self._client.get_paginator("list_stack_resources").paginate(
            StackName=self.name
        ):
            for resource in page["StackResourceSummaries"]:
                if resource.get("PhysicalResourceId") and resource["ResourceStatus"] not in GONE:
                    yield resource

    # ── changing ─────────────────────────────────────────────────────────────────────────────────

    def propose(
        self,
        template: Path,
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        names: Mapping[str, str] = MappingProxyType({}),
    ) -> ChangeSet | None:
        """What the template would change; None where nothing.

        A parameter that is not given keeps the value it has. Resources that an earlier stack of
        this name left behind are taken over, as far as ``names`` has the variables in theirs
        (``AWS::AccountId`` …): CloudFormation knows them again by names that are written out.
        Where the stack is being changed, this waits; one that
        could not be made goes first: there is nothing in it. Raises StackFailed where it cannot be
        told.
        """
        try:
            body = rendered(template, {**parameters, **names})
        except YAMLError as error:
            raise StackFailed(f"{template.name} is no YAML: {error}") from error
        if len(body.encode()) > MAX_INLINE_BYTES:
            raise StackFailed(f"{template.name} is over the {MAX_INLINE_BYTES:,} bytes CFN takes.")
        stack = self._settled()
        name = f"deploy-{time.time_ns()}"
        known = {each["ParameterKey"] for each in (stack or {}).get("Parameters", ())}
        declared = set(json.loads(body).get("Parameters", ()))
        if unknown := parameters.keys() - declared:
            raise StackFailed(
                f"{template.name} has no parameter {', '.join(sorted(unknown))}; "
                f"there are {', '.join(sorted(declared))}."
            )
        kept = (declared & known) - parameters.keys()
        values: list[ParameterTypeDef] = [
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ]
        values += [{"ParameterKey": key, "UsePreviousValue": True} for key in sorted(kept)]
        self._client.create_change_set(
            StackName=self.name,
            ChangeSetName=name,
            ChangeSetType="UPDATE" if stack else "CREATE",
            TemplateBody=body,
            Parameters=values,
            Capabilities=CAPABILITIES,
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            ImportExistingResources=stack is None,
        )
        while True:
            answer = self._client.describe_change_set(StackName=self.name, ChangeSetName=name)
            if answer["Status"] == "FAILED":
                reason = answer.get("StatusReason", "")
                refused = StackFailed(f"CloudFormation refuses {template.name}: {reason}")
                try:
                    self.drop(name, is_new=stack is None)
                except ClientError as error:  # which tells less than the reason does
                    raise refused from error
                if any(words in reason for words in NO_CHANGES):
                    return None
                raise refused
            if answer["Status"] == "CREATE_COMPLETE":
                return ChangeSet(name, stack is None, tuple(self._changes(name)))
            self._sleep(POLL_S)

    def _changes(self, name: str) -> Iterator[Change]:
        for page in self._client.get_paginator("describe_change_set").paginate(
            StackName=self.name, ChangeSetName=name
        ):
            for each in page["Changes"]:
                change = each["ResourceChange"]
                yield Change(
                    action=change["Action"],
                    logical_id=change["LogicalResourceId"],
                    kind=change["ResourceType"],
                    replaces=change.get("Replacement", "False") != "False",
                )

    def _settled(self) -> dict[str, Any] | None:
        """The stack, once it can be changed. Raises StackFailed where it cannot be."""
        while (stack := self.describe()) and stack["StackStatus"].endswith("_IN_PROGRESS"):
            self._sleep(POLL_S)
        status = stack["StackStatus"] if stack else ""
        if status == "ROLLBACK_COMPLETE":
            self.delete(lambda _: None)
            return None
        if status in ("ROLLBACK_FAILED", "DELETE_FAILED"):
            raise StackFailed(
                f"{self.name} could not be made or taken away before ({status}), and so cannot be "
                "changed. `destroy` it, then deploy again."
            )
        return stack

    def drop(self, change_set: str, *, is_new: bool) -> None:
        """Forget a change set, and the empty stack that was made to hold it."""
        self._client.delete_change_set(StackName=self.name, ChangeSetName=change_set)
        # Somebody else may have made the stack meanwhile.
        if is_new and (self._any() or {}).get("StackStatus") == IN_REVIEW:
            self._client.delete_stack(StackName=self.name)

    def apply(self, change_set: ChangeSet, report: Callable[[str], None]) -> None:
        """Do what a change set says; a line for each resource. Raises StackFailed."""
        seen = self._event_ids()
        self._client.execute_change_set(StackName=self.name, ChangeSetName=change_set.name)
        self._follow(self.name, seen, report)

    def delete(self, report: Callable[[str], None]) -> None:
        """Take it away, but for what its template retains. Raises StackFailed."""
        stack = self.describe()
        if stack is None:
            return
        seen = self._event_ids()
        self._client.delete_stack(StackName=self.name)
        self._follow(stack["StackId"], seen, report)  # a deleted stack has lost its name

    # ── following ────────────────────────────────────────────────────────────────────────────────

    def _follow(self, stack: str, seen: set[str], report: Callable[[str], None]) -> None:
        failures: list[str] = []
        while True:
            status = self._client.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
            for event in self._events(stack, seen):
                if event["ResourceStatus"].endswith(("_COMPLETE", "_FAILED")):
                    report(f"{event['ResourceStatus']:<24} {event['LogicalResourceId']}")
                if event["ResourceStatus"].endswith("_FAILED"):
                    failures.append(
                        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
                    )
            if not status.endswith("_IN_PROGRESS"):
                break
            self._sleep(POLL_S)
        if status not in DONE:
            first = failures[0] if failures else "CloudFormation gives no reason"
            raise StackFailed(f"{self.name} ended as {status}. {first}")

    def _events(self, stack: str, seen: set[str]) -> list[Any]:
        """What has happened since, oldest first."""
        events = []
        for page in self._client.get_paginator("describe_stack_events").paginate(StackName=stack):
            fresh = [each for each in page["StackEvents"] if each["EventId"] not in seen]
            events += fresh
            if len(fresh) < len(page["StackEvents"]):
                break
        seen.update(event["EventId"] for event in events)
        return events[::-1]

    def _event_ids(self) -> set[str]:
        seen: set[str] = set()
        if self.describe() is not None:
            self._events(self.name, seen)
        return seen
