"""The state machine of a stage, in a stack of its own: there with ``ORCHESTRATION=stepfunctions``.

It is made before the functions that it calls, which take their roles and its ARN from its stack.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from boto3 import Session

from chalicelib.config import STEP_FUNCTIONS
from infrastructure.stack import Stack
from infrastructure.stage import PROJECT, setting_of, stack_name, variables_of

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

WORKFLOW = PROJECT / "infrastructure" / "workflow.yaml"


def workflow_stack(stage: str, client: "CloudFormationClient") -> Stack:
    return Stack(client, f"{stack_name(stage)}-workflow")


def is_wanted(stage: str) -> bool:
    return bool(setting_of(variables_of(stage), "orchestration") == STEP_FUNCTIONS)


def outputs_of(stage: str, client: "CloudFormationClient") -> dict[str, str]:
    """What all stacks of a stage say. Raises StackFailed where its resources are not there."""
    workflow = workflow_stack(stage, client)
    said = workflow.outputs() if workflow.describe() else {}
    return Stack(client, stack_name(stage)).outputs() | said


def worker_of(outputs: Mapping[str, str]) -> dict[str, str]:
    """The parameter that says who starts executions."""
    return {"Worker": outputs["RoleProcessImages"].rpartition("/")[2]}


def tell_eventbridge(bucket: str, session: Session, *, wanted: bool) -> list[str]:
    """Have the bucket tell EventBridge what happens to it, or not; what was done, if anything.

    Not in the template of the bucket: CloudFormation would take away what Chalice has it tell.
    """
    s3 = session.client("s3")
    told: Any = s3.get_bucket_notification_configuration(Bucket=bucket)
    del told["ResponseMetadata"]
    if ("EventBridgeConfiguration" in told) is wanted:
        return []
    told.pop("EventBridgeConfiguration", None)
    told |= {"EventBridgeConfiguration": {}} if wanted else {}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=told)
    return [f"uploads {'start' if wanted else 'no longer start'} executions by EventBridge"]
