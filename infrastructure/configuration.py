"""Let Chalice's own commands work on a stage that somebody else has deployed.

Writes what the stack says into .chalice/config.json, and what is deployed into .chalice/deployed/.
"""

import argparse

from boto3 import Session

from infrastructure.deploy import write_configuration
from infrastructure.stage import PROJECT
from infrastructure.state import state_of, write_chalice_state
from infrastructure.workflow import outputs_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``configure`` takes a stage and nothing else."""


def run(options: argparse.Namespace) -> int:
    session = Session()
    outputs = outputs_of(options.stage, session.client("cloudformation"))
    write_configuration(options.stage, outputs)
    state = state_of(session, outputs)
    write_chalice_state(PROJECT, options.stage, state)
    print(f"  chalice deploy, logs, url and delete know the stage {options.stage}")
    return 0
