"""From a stack's outputs to the configuration of a Chalice stage, by their names alone.

``WorkQueueUrl`` becomes the variable ``WORK_QUEUE_URL`` of every function, and ``RoleApiHandler``
the role of the function ``api_handler``. The local cloud and AWS are configured alike.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chalicelib.bootstrap import Services
from chalicelib.config import read_settings

PROJECT = Path(__file__).resolve().parent.parent
TEMPLATE = PROJECT / "infrastructure" / "resources.yaml"
CONFIG = PROJECT / ".chalice" / "config.json"


def stack_name(stage: str) -> str:
    return f"image-pipeline-{stage}"


def stage_config(outputs: Mapping[str, str]) -> dict[str, Any]:
    """What a stack's outputs say to Chalice: variables for all functions, a role for each."""
    roles = {name: value for name, value in outputs.items() if name.startswith("Role")}
    return {
        "environment_variables": {
            _snake_case(name).upper(): value for name, value in outputs.items() if name not in roles
        },
        "lambda_functions": {
            _snake_case(name.removeprefix("Role")): {"iam_role_arn": role}
            for name, role in roles.items()
        },
    }


def configure(config: Mapping[str, Any], stage: str, outputs: Mapping[str, str]) -> dict[str, Any]:
    """A Chalice configuration (``.chalice/config.json``) with a stage's outputs worked in.

    What the stage says of itself, beside these variables and roles, stays as it is.
    """
    stages = dict(config.get("stages", {}))
    here = dict(stages.get(stage, {}))
    from_stack = stage_config(outputs)
    here["environment_variables"] = (
        here.get("environment_variables", {}) | from_stack["environment_variables"]
    )
    functions = dict(here.get("lambda_functions", {}))
    for name, role in from_stack["lambda_functions"].items():
        functions[name] = functions.get(name, {}) | role
    here["lambda_functions"] = functions
    return {**config, "stages": {**stages, stage: here}}


def services_of(stage: str) -> Services:
    """The services of a configured stage, with the credentials of whoever runs this.

    What the stage does not say of itself is taken from the environment, as ``make run`` writes it
    into a file. Raises SettingsError that names what is missing.
    """
    stages = json.loads(CONFIG.read_text()).get("stages", {})
    here = stages.get(stage, {}).get("environment_variables", {})
    return Services(read_settings(os.environ | here))


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
