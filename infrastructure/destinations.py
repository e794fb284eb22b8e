"""Send what the S3 handlers and the sweep fail at for good to the dead-letter queue.

Lambda tries an event it was handed asynchronously three times and then drops it, unless the
function has a destination for such events, which Chalice cannot set. Running this twice changes
nothing.
"""

import argparse
import os

import boto3
from chalice.app import Chalice, CloudWatchEventConfig, S3EventConfig, ScheduledEventConfig
from chalice.cli.factory import CLIFactory
from chalice.config import Config

from chalicelib.aws.queue import WorkQueue
from infrastructure.dead_letters import dead_letters_arn
from infrastructure.stage import PROJECT, services_of

RETRIES = 2
MAX_EVENT_AGE_S = 6 * 60 * 60
"""Both are the most that Lambda takes (PutFunctionEventInvokeConfig)."""

ASYNCHRONOUS = (S3EventConfig, ScheduledEventConfig, CloudWatchEventConfig)
"""Triggers that hand their event over and do not wait; SQS keeps what fails by itself."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``destinations`` takes a stage and nothing else."""


def run(options: argparse.Namespace) -> int:
    services = services_of(options.stage)
    config = CLIFactory(str(PROJECT), environ=os.environ).create_config_obj(options.stage)
    for function in set_destinations(config, services.queue):
        print(f"What {function} fails at for good goes to the dead-letter queue.")
    return 0


def set_destinations(config: Config, work_queue: WorkQueue) -> list[str]:
    """Give every asynchronous function of a deployed app its destination; their names on Lambda.

    Raises ClientError where one is not deployed, or where its role may not send to the queue.
    """
    arn = dead_letters_arn(work_queue)
    client = boto3.client("lambda")
    functions = [
        f"{config.app_name}-{config.chalice_stage}-{name}"
        for name in asynchronous_functions(config.chalice_app)
    ]
    for function in functions:
        client.put_function_event_invoke_config(
            FunctionName=function,
            MaximumRetryAttempts=RETRIES,
            MaximumEventAgeInSeconds=MAX_EVENT_AGE_S,
            DestinationConfig={"OnFailure": {"Destination": arn}},
        )
    return functions


def asynchronous_functions(app: Chalice) -> list[str]:
    """The names of the app's functions that nobody waits for."""
    return [source.name for source in app.event_sources if isinstance(source, ASYNCHRONOUS)]
