"""What the roles of a stage allow, and what of it their functions made use of."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

ROLE = re.compile(r"image-pipeline-dev-(?P<name>[A-Za-z]+)Role-[A-Z0-9]+")
ARN = re.compile(r"arn:aws:[a-z0-9]+:[a-z0-9-]*:[0-9]*:(image-pipeline-dev-?)?")
ACCOUNT = re.compile(r"-[0-9]{12}-[a-z]+-[a-z]+-[0-9]")


class Grant(NamedTuple):
    """A function that may do something with something: ("Sweep", "sqs:SendMessage", "work")."""

    function: str
    action: str
    resource: str


def grants(iam: Any) -> dict[Grant, str]:
    """Everything that the roles of the functions allow, each with its resource as IAM has it."""
    return {
        Grant(match["name"], action, _named(resource)): resource
        for role in iam.list_roles()["Roles"]
        if (match := ROLE.fullmatch(role["RoleName"]))
        for document in _policies(iam, role["RoleName"])
        for statement in document["Statement"]
        for action in _listed(statement["Action"])
        for resource in _listed(statement["Resource"])
    }


def unused(granted: Mapping[Grant, str], made: Iterable[Mapping[str, Any]]) -> set[Grant]:
    """What none of these calls needed."""
    needed = {(_function(call), call["action"], call["resource"]) for call in made}
    return {
        grant
        for grant, pattern in granted.items()
        if not any(
            (function, action) == grant[:2] and fnmatchcase(resource, pattern)
            for function, action, resource in needed
        )
    }


def calls(log: Path) -> list[dict[str, Any]]:
    """Every call that a role of a function made, as ``localcloud/ministack.py`` writes it down."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if ROLE.search(line["principal"])]


def _function(call: Mapping[str, Any]) -> str:
    match = ROLE.search(call["principal"])
    assert match is not None
    return match["name"]


def _named(resource: str) -> str:
    """A resource in a word or two: ``uploads/uploads/*``, ``table/image-pipeline-dev``."""
    return ACCOUNT.sub("", ARN.sub("", resource))


def _policies(iam: Any, role: str) -> Iterator[Mapping[str, Any]]:
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        yield iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        yield iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
