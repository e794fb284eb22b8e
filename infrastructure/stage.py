"""From a stack's outputs to the configuration of a Chalice stage, by their names alone.

``WorkQueueUrl`` is named like a setting, so it becomes the variable ``WORK_QUEUE_URL`` of every
function; ``RoleApiHandler`` becomes the role of the function ``api_handler``. Other outputs are for
whoever deploys. The local cloud and AWS are configured alike.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from chalice.cli.factory import CLIFactory
from chalice.config import Config

from chalicelib.bootstrap import Services
from chalicelib.config import Settings, read_settings

PROJECT = Path(__file__).resolve().parent.parent
TEMPLATE = PROJECT / "infrastructure" / "resources.yaml"
PARAMETERS = PROJECT / "infrastructure" / "parameters.json"
CONFIG = PROJECT / ".chalice" / "config.json"
SOMETIMES = ("USER_POOL_ARN", "USER_POOL_CLIENT_ID", "STATE_MACHINE_ARN")
"""Variables that a stack tells or, once other settings ask for no such thing any more, does not."""

FROM_STACK = {
    *(each.name.upper() for each in fields(Settings) if each.metadata["default"] is MISSING),
    *SOMETIMES,
}
"""Variables that only a stack can tell."""

TAG = "image-pipeline-stage"
"""Every resource of a stage carries it, with the stage's name: CloudFormation hands it down."""


def stack_name(stage: str) -> str:
    return f"image-pipeline-{stage}"


def stage_config(outputs: Mapping[str, str]) -> dict[str, Any]:
    """What a stack's outputs say to Chalice: variables for all functions, a role for each."""
    roles = {name: value for name, value in outputs.items() if name.startswith("Role")}
    settings = {setting.name for setting in fields(Settings)}
    return {
        "environment_variables": {
            _snake_case(name).upper(): value
            for name, value in outputs.items()
            if _snake_case(name) in settings
        },
        "lambda_functions": {
            _snake_case(name.removeprefix("Role")): {"iam_role_arn": role}
            for name, role in roles.items()
        },
    }


def configure(config: Mapping[str, Any], stage: str, outputs: Mapping[str, str]) -> dict[str, Any]:
    """A Chalice configuration (``.chalice/config.json``) with a stage's outputs worked in.

    What the stage says of itself, beside these variables and roles, stays as it is. Its API is
    published under the stage's name unless it says otherwise: in the metrics of API Gateway nothing
    else tells the stages of an account apart. Its functions get the tag that CloudFormation gives
    to its resources.
    """
    stages = dict(config.get("stages", {}))
    here = {"api_gateway_stage": stage, "tags": {TAG: stage}} | stages.get(stage, {})
    from_stack = stage_config(outputs)
    kept = here.get("environment_variables", {}).items()
    here["environment_variables"] = {
        **{name: value for name, value in kept if name not in SOMETIMES},
        **from_stack["environment_variables"],
    }
    functions = dict(here.get("lambda_functions", {}))
    for name, role in from_stack["lambda_functions"].items():
        functions[name] = functions.get(name, {}) | role
    here["lambda_functions"] = functions
    return {**config, "stages": {**stages, stage: here}}


def forget(stage: str, outputs: Mapping[str, str]) -> None:
    """Take what a stack said out of ``.chalice/config.json``, where it still says so."""
    config = json.loads(CONFIG.read_text())
    here = config.get("stages", {}).get(stage, {})
    gone = stage_config(outputs)
    for name, value in gone["environment_variables"].items():
        if here.get("environment_variables", {}).get(name) == value:
            del here["environment_variables"][name]
    for name, role in gone["lambda_functions"].items():
        function = here.get("lambda_functions", {}).get(name, {})
        if function.get("iam_role_arn") == role["iam_role_arn"]:
            del function["iam_role_arn"]
    CONFIG.write_text(json.dumps(config, indent=2) + "\n")


def services_of(stage: str) -> Services:
    """The services of a configured stage, with the credentials of whoever runs this.

    What the stage does not say of itself is taken from the environment, as ``make run`` writes it
    into a file. Raises SettingsError that names what is missing.
    """
    return Services(read_settings(os.environ | variables_of(stage)))


def variables_of(stage: str) -> dict[str, str]:
    """The environment variables that ``.chalice/config.json`` gives a stage's functions."""
    config = json.loads(CONFIG.read_text())
    variables: dict[str, str] = {
        **config.get("environment_variables", {}),
        **config.get("stages", {}).get(stage, {}).get("environment_variables", {}),
    }
    return variables


def setting_of(variables: Mapping[str, str], name: str) -> Any:
    """One setting of a stage, where its resources may not be known yet.

    Raises ValueError that says what it has to be.
    """
    [setting] = (each for each in fields(Settings) if each.name == name)
    return setting.metadata["parse"](variables.get(name.upper(), setting.metadata["default"]))


def chalice_config(stage: str) -> Config:
    """The project's configuration as Chalice reads it. The app is loaded when it is asked for."""
    return CLIFactory(str(PROJECT), environ=os.environ).create_config_obj(stage)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
