"""Send what the S3 handlers and the sweep fail at for good to the dead-letter queue.

Lambda tries an event it was handed asynchronously three times and then drops it, unless the
function has a destination for such events, which Chalice cannot set.
"""

from typing import Any

import boto3
from chalice.app import Chalice, CloudWatchEventConfig, S3EventConfig, ScheduledEventConfig
from chalice.config import Config

from chalicelib.aws.queue import WorkQueue
from infrastructure.dead_letters import dead_letters_arn

RETRIES = 2
MAX_EVENT_AGE_S = 6 * 60 * 60
"""Both are the most that Lambda takes (PutFunctionEventInvokeConfig)."""

ASYNCHRONOUS = (S3EventConfig, ScheduledEventConfig, CloudWatchEventConfig)
"""Triggers that hand their event over and do not wait; SQS keeps what fails by itself."""


def set_destinations(config: Config, work_queue: WorkQueue) -> list[str]:
    """Give every asynchronous function of a deployed app its destination.

    The names on Lambda of those that had another one, or none. Raises ClientError where one is not
    deployed, or where its role may not send to the queue.
    """
    client = boto3.client("lambda")
    wanted: Any = {
        "MaximumRetryAttempts": RETRIES,
        "MaximumEventAgeInSeconds": MAX_EVENT_AGE_S,
        "DestinationConfig": {"OnFailure": {"Destination": dead_letters_arn(work_queue)}},
    }
    changed = []
    for name in asynchronous_functions(config.chalice_app):
        function = f"{config.app_name}-{config.chalice_stage}-{name}"
        if not _has(client, function, wanted):
            client.put_function_event_invoke_config(FunctionName=function, **wanted)
            changed.append(function)
    return changed


def _has(client: Any, function: str, wanted: dict[str, Any]) -> bool:
    try:
        current = client.get_function_event_invoke_config(FunctionName=function)
    except client.exceptions.ResourceNotFoundException:
        return False  # none is set; where there is no function, setting one says so
    on_failure = current.get("DestinationConfig", {}).get("OnFailure")
    return wanted == {
        **{name: current.get(name) for name in wanted},
        "DestinationConfig": {"OnFailure": on_failure},
    }


def asynchronous_functions(app: Chalice) -> list[str]:
    """The names of the app's functions that nobody waits for."""
    return [source.name for source in app.event_sources if isinstance(source, ASYNCHRONOUS)]
