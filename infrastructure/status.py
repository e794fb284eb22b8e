"""Say how a stage is: its resources, functions, queues, alarms and images.

The exit status is 0 when all is well, 1 when something needs a look.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from boto3 import Session

from infrastructure.deployed import Deployed
from infrastructure.stack import Stack
from infrastructure.stage import chalice_config, stack_name
from infrastructure.state import State, state_of
from infrastructure.workflow import workflow_stack

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True, slots=True)
class Line:
    """One fact. ``advice`` says what to do where it is not well."""

    name: str
    fact: str
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``status`` takes a stage and nothing else."""


def run(options: argparse.Namespace) -> int:
    session = Session()
    stack = Stack(session.client("cloudformation"), stack_name(options.stage))
    lines = list(_lines(options.stage, stack, session))
    width = max(len(line.name) for line in lines)
    for line in lines:
        print(f"{line.name:<{width}}  {line.fact}{f'   ← {line.advice}' if line.advice else ''}")
    return 1 if any(line.advice for line in lines) else 0


def _lines(stage: str, stack: Stack, session: Session) -> Iterator[Line]:
    description = stack.describe()
    if description is None:
        yield Line("stack", "there is none", f"python -m infrastructure deploy --stage {stage}")
        return
    yield of_stack(description)
    workflow = workflow_stack(stage, session.client("cloudformation"))
    if made := workflow.describe():
        yield replace(of_stack(made), name="workflow")
    outputs = stack.outputs()
    if not outputs:
        return  # it could not be made
    state = state_of(session, outputs)
    yield from of_functions(state, Deployed(session, chalice_config(stage).app_name, stage), stage)
    yield from _of_queues(outputs, stage, session)
    stacks = (stack, workflow) if made else (stack,)
    yield from of_alarms([alarm for each in stacks for alarm in _alarms(each, session)])


def of_stack(description: Mapping[str, Any]) -> Line:
    status = description["StackStatus"]
    is_well = status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")
    return Line("stack", status, "" if is_well else "deploy again; it says why it fails")


def of_functions(state: State, deployed: Deployed, stage: str) -> Iterator[Line]:
    """When it was deployed, and whether Lambda still has what was."""
    again = f"python -m infrastructure deploy --stage {stage}"
    if not state.deployed_at:
        yield Line("functions", "not deployed, or not to the end", again)
    else:
        yield Line("deployed", f"{state.deployed_at} by {state.deployed_by}")
    packages, handlers = set(), set()
    recorded = {
        resource["name"]
        for resource in state.chalice["resources"]
        if resource["resource_type"] == "lambda_function"
    }
    for function in deployed.functions():
        packages.add(function.sha256)
        handlers.add(function.handler)
        yield Line(
            function.handler, f"{function.runtime}, {function.sha256[:10]}, {function.modified_at}"
        )
    for handler in sorted(recorded - handlers):
        yield Line(handler, "is not on Lambda any more", again)
    if len(packages) > 1:
        yield Line("packages", "not all functions have the same", again)
    for resource in state.chalice["resources"]:
        if resource["resource_type"] == "rest_api":
            yield Line("API", resource["rest_api_url"])


def _of_queues(outputs: Mapping[str, str], stage: str, session: Session) -> Iterator[Line]:
    client = session.client("sqs")
    for name, output in (
        ("work queue", "WorkQueueUrl"),
        ("dead letters", "DeadLetterQueueUrl"),
        ("webhooks", "WebhookQueueUrl"),
    ):
        yield of_queue(name, counts_of(client, outputs[output]), stage)


def counts_of(client: "SQSClient", queue_url: str) -> dict[str, int]:
    """How many messages wait in a queue, and how many are in work, as SQS calls these numbers."""
    answer = client.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )
    return {name: int(count) for name, count in answer["Attributes"].items()}


def of_queue(name: str, counts: Mapping[str, int], stage: str) -> Line:
    waiting = counts["ApproximateNumberOfMessages"]
    in_work = counts["ApproximateNumberOfMessagesNotVisible"]
    is_bad = name == "dead letters" and waiting + in_work
    return Line(
        name,
        f"{waiting:,} waiting, {in_work:,} in work",
        f"python -m infrastructure dlq --stage {stage}" if is_bad else "",
    )


def _alarms(stack: Stack, session: Session) -> list[Mapping[str, Any]]:
    names = {
        resource["PhysicalResourceId"]
        for resource in stack.resources()
        if resource["ResourceType"] == "AWS::CloudWatch::Alarm"
    }
    paginator = session.client("cloudwatch").get_paginator("describe_alarms")
    return [
        alarm
        for page in paginator.paginate(AlarmNamePrefix=stack.name)
        for alarm in page["MetricAlarms"]
        if alarm["AlarmName"] in names
    ]


def of_alarms(alarms: list[Mapping[str, Any]]) -> Iterator[Line]:
    raised = [alarm for alarm in alarms if alarm["StateValue"] == "ALARM"]
    yield Line("alarms", f"{len(raised)} of {len(alarms)} raised")
    for alarm in raised:
        yield Line(
            alarm["AlarmName"], alarm["StateValue"], alarm.get("AlarmDescription") or "look at it"
        )
