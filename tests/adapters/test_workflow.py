"""Executions of a real state machine, started by name."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.aws.storage import Renditions
from chalicelib.aws.workflow import Workflow
from chalicelib.errors import Throttled
from chalicelib.messages import decode_work
from chalicelib.model import Original, image_id_of
from localcloud.cloud import LocalCloud
from tests.adapters.conftest import NUMBERS, Operations, error_of
from tests.waiting import eventually

ORIGINAL = Original("uploads/cat.jpg", "1", "etag", 7, "0", "2026-01-31T09:15:00.000Z")


@pytest.fixture
def workflow(cloud: LocalCloud, client_of: Callable[[str], Any]) -> Iterator[Workflow]:
    """A state machine that does nothing for a second."""
    client = client_of("stepfunctions")
    definition = {
        "StartAt": "Wait",
        "States": {"Wait": {"Type": "Wait", "Seconds": 1, "End": True}},
    }
    arn = client.create_state_machine(
        name=f"adapters-{next(NUMBERS)}",
        definition=json.dumps(definition),
        roleArn=cloud.outputs["RoleProcessImages"],  # any will do
    )["stateMachineArn"]
    yield Workflow(client, arn)
    client.delete_state_machine(stateMachineArn=arn)


def executions(workflow: Workflow, status: str) -> list[Any]:
    answer = workflow.client.list_executions(
        stateMachineArn=workflow.arn,
        statusFilter=status,  # type: ignore[arg-type]
    )
    return list(answer["executions"])


def test_name_is_one_execution_while_it_runs(workflow: Workflow) -> None:
    """Its input is what a message holds."""
    assert workflow.start("cat", ORIGINAL)
    assert workflow.start("cat", ORIGINAL)

    [execution] = executions(workflow, "RUNNING")
    described = workflow.client.describe_execution(executionArn=execution["executionArn"])
    assert decode_work(described["input"]) == ORIGINAL


def test_name_is_used_up_once_it_has_ended(workflow: Workflow) -> None:
    assert workflow.start("cat", ORIGINAL)
    eventually(lambda: executions(workflow, "SUCCEEDED"))

    assert not workflow.start("cat", ORIGINAL)
    assert workflow.start("another", ORIGINAL)


@pytest.mark.parametrize("code", ["ThrottlingException", "ExecutionLimitExceeded"])
def test_what_is_over_the_quota_is_throttled(workflow: Workflow, code: str) -> None:
    with Operations(workflow.client) as operations:
        operations.before("sfn.StartExecution", *[error_of(code)] * 5)
        with pytest.raises(Throttled):
            workflow.start("cat", ORIGINAL)


def test_other_errors_are_left_as_they_are(workflow: Workflow) -> None:
    nowhere = Workflow(workflow.client, workflow.arn + "x")
    with pytest.raises(ClientError, match="StateMachineDoesNotExist"):
        nowhere.start("cat", ORIGINAL)


def test_what_a_stage_puts_down_is_withheld_and_found_again(
    cloud: LocalCloud, client_of: Callable[[str], Any]
) -> None:
    renditions = Renditions(client_of("s3"), cloud.outputs["RenditionsBucket"])
    image_id = image_id_of(f"uploads/kept-{time.time_ns()}")

    renditions.keep(image_id, 3, "render.json", b"{}")

    assert renditions.kept(image_id, 3, "render.json") == b"{}"
    assert renditions.kept(image_id, 2, "render.json") is None
    keys = list(renditions.listing(f"quarantine/{image_id}/"))
    assert keys == [f"quarantine/{image_id}/3/render.json"]
    renditions.delete(keys)
