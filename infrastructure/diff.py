"""Show what a deployment would change, and change nothing.

The exit status is 0 when nothing would change, 1 when something would.
"""

import argparse
import json

from boto3 import Session

from infrastructure import deploy, package
from infrastructure.deployed import Deployed
from infrastructure.preflight import preflight
from infrastructure.stack import ChangeSet, Stack
from infrastructure.stage import (
    CONFIG,
    TAG,
    TEMPLATE,
    chalice_config,
    configure,
    stack_name,
    variables_of,
)
from infrastructure.state import state_of
from infrastructure.workflow import (
    WORKFLOW,
    is_wanted,
    outputs_of,
    worker_of,
    workflow_stack,
)

add_arguments = deploy.add_parameters


def run(options: argparse.Namespace) -> int:
    stage: str = options.stage
    session = Session()
    target = preflight(stage, variables_of(stage), session, may_be_open=True)
    stack = Stack(session.client("cloudformation"), stack_name(stage))
    print("Resources")
    wanted = deploy.parameters(stage, options, target, session)
    change_set = stack.propose(TEMPLATE, deploy.of_resources(wanted), {TAG: stage}, target.names)
    is_changed = _told(stack, change_set)
    if stack.describe() is None:
        print("Functions and API\n  all of them are new")
        return 1
    outputs = outputs_of(stage, session.client("cloudformation"))
    workflow = workflow_stack(stage, session.client("cloudformation"))
    if is_wanted(stage):
        print("Workflow")
        told = deploy.of_workflow(wanted) | worker_of(outputs)
        is_changed |= _told(workflow, workflow.propose(WORKFLOW, told, {TAG: stage}, target.names))
    elif workflow.describe():
        print("Workflow\n  all of it goes")
        is_changed = True
    print("Functions and API")
    config = json.loads(CONFIG.read_text())
    state = state_of(session, outputs)
    chalice = chalice_config(stage)
    packaged = package.build(chalice, local=target.is_local)
    would_be = deploy.fingerprint_of(packaged, configure(config, stage, outputs), stage)
    deployed = Deployed(session, chalice.app_name, stage)
    is_there = deploy.is_on_lambda(packaged, state, deployed)
    if target.is_local:
        package.set_aside(packaged)
    if would_be == state.fingerprint and is_there:
        print("  unchanged")
        return 1 if is_changed else 0
    print(
        "  the code, its libraries or the stage's configuration differ from what was deployed "
        f"{state.deployed_at or 'by hand'}"
    )
    return 1


def _told(stack: Stack, change_set: ChangeSet | None) -> bool:
    """Whether a template would change something; it is said, and not done."""
    if change_set is None:
        print("  unchanged")
        return False
    deploy.print_changes(change_set)
    stack.drop(change_set.name, is_new=change_set.is_new)
    return True
