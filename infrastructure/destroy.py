"""Take a stage away: functions, API and resources.

Every stage but prod loses all it holds: originals, renditions, records, dead letters, logs. Prod
keeps its buckets, table and users, and a later deployment takes buckets and table over again. It is
not taken away while there are dead letters.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from boto3 import Session
from tqdm import tqdm

from chalicelib.aws import batches
from infrastructure.deploy import ACCOUNT_STACK, run_chalice, step, write_configuration
from infrastructure.deployed import Deployed
from infrastructure.gateway import close_to_keys
from infrastructure.preflight import preflight
from infrastructure.stack import Stack, StackFailed
from infrastructure.stage import PROJECT, TAG, chalice_config, forget, stack_name, variables_of
from infrastructure.state import State, StateStore, chalice_state_path, write_chalice_state
from infrastructure.status import counts_of
from infrastructure.workflow import outputs_of, workflow_stack

KEEPS = "prod"
"""The stage whose data stays; the template's condition IsProd is of the same name."""

DELETE_BATCH = 1000
"""The most that S3's DeleteObjects takes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--confirm", metavar="STAGE", help="the stage's name once more, instead of being asked"
    )


def run(options: argparse.Namespace) -> int:
    stage: str = options.stage
    session = Session()
    with step("Preflight"):
        target = preflight(stage, variables_of(stage), session, may_be_open=True)
        print(f"  {target}")
    client = session.client("cloudformation")
    stack = Stack(client, stack_name(stage))
    outputs = outputs_of(stage, client) if stack.describe() else {}
    buckets = [] if stage == KEEPS else list(_buckets(stack))
    print(warning(stage, buckets))
    if (options.confirm or _asked()) != stage:
        print("That is not its name. Nothing was taken away.", file=sys.stderr)
        return 1
    with step("Configuration"):  # Chalice loads the app, which wants its settings
        if outputs:
            write_configuration(stage, outputs)
    if stage == KEEPS:
        with step("Dead letters"):
            require_no_dead_letters(stage, stack, session)
    with step("Functions and API"):
        _delete_functions(stage, outputs, session)
    with step("Resources"):
        for bucket in buckets:
            _empty(bucket, session)
        for each in (workflow_stack(stage, client), stack):
            each.delete(lambda line: print(f"  {line}", flush=True))
    with step("Account"):
        _forget_account(stage, session)
    forget(stage, outputs)
    chalice_state_path(PROJECT, stage).unlink(missing_ok=True)
    print(f"\nStage {stage} is gone{'; its data is kept' if stage == KEEPS else ''}.")
    return 0


def warning(stage: str, buckets: list[str]) -> str:
    """What goes and what stays, before it is asked whether that is meant."""
    if stage == KEEPS:
        return "  Functions, API, roles, queues and alarms go. Buckets, table and users stay."
    return f"  Everything goes, with all that is in {', '.join(buckets) or 'it'}."


def _asked() -> str:
    if not sys.stdin.isatty():
        print("This is no terminal to ask at: --confirm STAGE goes on.", file=sys.stderr)
        return ""
    return input("  The stage's name, if you mean it: ").strip()


def _buckets(stack: Stack) -> Iterator[str]:
    if stack.describe() is not None:
        for resource in stack.resources():
            if resource["ResourceType"] == "AWS::S3::Bucket":
                yield resource["PhysicalResourceId"]


def require_no_dead_letters(stage: str, stack: Stack, session: Session) -> None:
    """Raises StackFailed while there are any: a queue cannot be kept for the next stack."""
    client = session.client("sqs")
    for resource in stack.resources():
        if not resource["LogicalResourceId"].endswith("DeadLetterQueue"):
            continue
        queue = resource["PhysicalResourceId"]
        if any(counts_of(client, queue).values()):
            raise StackFailed(
                f"There are dead letters in {queue}, which would be lost. Look at them: "
                f"python -m infrastructure dlq --stage {stage}"
            )
    print("  there are none")


def _delete_functions(stage: str, outputs: Mapping[str, str], session: Session) -> None:
    if "ApiPlanId" in outputs:
        close_to_keys(session.client("apigateway"), outputs["ApiPlanId"])
    config = chalice_config(stage)
    deployed = Deployed(session, config.app_name, stage)
    record = State(chalice=deployed.completed(State().chalice))
    if not record.chalice["resources"]:
        print("  there are none")
        return
    if "DeploymentsBucket" not in outputs:
        write_chalice_state(PROJECT, stage, record)
        run_chalice("delete", stage)
        return
    store = StateStore(session.client("s3"), outputs["DeploymentsBucket"])
    with store.lock():
        write_chalice_state(PROJECT, stage, record)
        run_chalice("delete", stage)
        store.save(State())


def _empty(bucket: str, session: Session) -> None:
    """Delete every version of every object. Triggers are gone by now, so nothing reacts."""
    client = session.client("s3")
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket)
    with tqdm(unit="object", desc=f"  {bucket}", disable=None) as bar:
        for page in pages:
            versions: list[Any] = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            for batch in batches(versions, DELETE_BATCH):
                answer = client.delete_objects(
                    Bucket=bucket,
                    Delete={
                        "Objects": [
                            {"Key": each["Key"], "VersionId": each["VersionId"]} for each in batch
                        ],
                        "Quiet": True,
                    },
                )
                if errors := answer.get("Errors"):
                    raise OSError(f"{bucket}: {errors[0]['Key']}: {errors[0]['Message']}")
                bar.update(len(batch))
    print(f"  {bucket} is empty")


def _forget_account(stage: str, session: Session) -> None:
    """Take the account's role for API Gateway's logs away with the last stage that needs it."""
    client = session.client("cloudformation")
    others = [
        stack["StackName"]
        for page in client.get_paginator("describe_stacks").paginate()
        for stack in page["Stacks"]
        if any(tag["Key"] == TAG and tag["Value"] != stage for tag in stack["Tags"])
    ]
    account = Stack(client, ACCOUNT_STACK)
    if others or account.describe() is None:
        print("  unchanged")
        return
    gateway = session.client("apigateway")
    used = gateway.get_account().get("cloudwatchRoleArn", "")
    if used.rpartition("/")[2] in {each["PhysicalResourceId"] for each in account.resources()}:
        gateway.update_account(
            patchOperations=[{"op": "replace", "path": "/cloudwatchRoleArn", "value": ""}]
        )
    account.delete(lambda line: print(f"  {line}", flush=True))
