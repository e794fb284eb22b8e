"""What has to be right before a deployment touches anything."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from boto3 import Session

from chalicelib.config import read_settings
from chalicelib.errors import PipelineError, SettingsError
from infrastructure.stage import FROM_STACK

LEAST_PYTHON = (3, 12)
"""Pillow's wheels ask for a newer glibc than Lambda's Python 3.11 has, which is Amazon Linux 2."""

OPEN_API = (
    "API_AUTH is none: whoever knows the URL could upload, read and delete every image. "
    "Set it to cognito, key or iam in .chalice/config.json, or say --open-api if that is what you "
    "want."
)

NO_REGION = (
    "No region is set (AWS_REGION alone is not read): export AWS_DEFAULT_REGION, or "
    "`aws configure set region …`."
)

NAME = re.compile(r"[a-z][a-z0-9-]{0,7}")
TAKEN = {
    "local": "the stage of `make run`",
    "account": "what the account's own stack is called",
    "delivery": "what the stack of the pipeline is called",
    "github": "what the stack of GitHub's provider is called",
}


class NotReady(PipelineError):
    """Something is missing; the message names all of it and says what to do."""

    code = "not_ready"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a deployment goes, with whose credentials."""

    account: str
    region: str
    caller: str
    is_local: bool

    @property
    def names(self) -> dict[str, str]:
        """What a template calls this account and region."""
        return {"AWS::AccountId": self.account, "AWS::Region": self.region}

    def arn(self, service: str, resource: str, region: str = "") -> str:
        """Of something in this account."""
        partition = self.caller.split(":")[1]
        return f"arn:{partition}:{service}:{region}:{self.account}:{resource}"

    def __str__(self) -> str:
        where = " on this machine" if self.is_local else ""
        return f"account {self.account}{where}, {self.region}, as {self.caller}"


def preflight(
    stage: str, variables: Mapping[str, str], session: Session, *, may_be_open: bool
) -> Target:
    """Where it goes, once all is as it should be. Raises NotReady that names everything missing.

    ``variables`` are the stage's own. NoCredentialsError and the like go through as they are.
    """
    is_local = is_on_loopback(os.environ)
    problems = [
        *_stage_problems(stage),
        *_setting_problems(variables),
        *_api_problems(variables, is_local=is_local, may_be_open=may_be_open),
    ]
    if not is_local:
        problems += [*_python_problems(sys.version_info[:2]), *_region_problems(session)]
    if problems:
        raise NotReady("\n".join(problems))
    identity = session.client("sts").get_caller_identity()
    return Target(identity["Account"], session.region_name, identity["Arn"], is_local)


def is_on_loopback(environ: Mapping[str, str]) -> bool:
    """Whether AWS is an emulator on this machine, whose functions this very Python runs."""
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return False
    try:
        return is_loopback(urlsplit(environ.get("AWS_ENDPOINT_URL", "")).hostname or "")
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this very machine's own."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _stage_problems(stage: str) -> list[str]:
    if stage in TAKEN:
        return [f"{stage!r} is {TAKEN[stage]}: take dev, prod or a name of your own."]
    if not NAME.fullmatch(stage):
        return [f"A stage has 1 to 8 of a-z, 0-9 and '-', a letter first; {stage!r} has not."]
    return []


def _setting_problems(variables: Mapping[str, str]) -> list[str]:
    """Of all that a stage says: else its functions would be deployed, and none of them start."""
    try:
        read_settings({**dict.fromkeys(FROM_STACK, "1"), **variables})
    except SettingsError as error:
        return [str(error)]
    return []


def _api_problems(variables: Mapping[str, str], *, is_local: bool, may_be_open: bool) -> list[str]:
    is_open = variables.get("API_AUTH") == "none"
    return [OPEN_API] if is_open and not is_local and not may_be_open else []


def _python_problems(version: tuple[int, ...]) -> list[str]:
    if version < LEAST_PYTHON:
        this, least = (".".join(map(str, each)) for each in (version, LEAST_PYTHON))
        problem = (
            f"This is Python {this}, and so would the functions be; Pillow runs on Lambda from "
            f"Python {least} on. Make an environment with a newer one: "
            "python3.13 -m venv .venv-deploy"
        )
        return [problem]
    return []


def _region_problems(session: Session) -> list[str]:
    region: Any = session.region_name
    if not region:
        return [NO_REGION]
    regions = session.get_available_regions("rekognition", session.get_partition_for_region(region))
    if region not in regions:
        return [f"Rekognition is not in {region}. It is in {', '.join(sorted(regions)) or 'none'}."]
    return []
