"""Print the template of a stage as CloudFormation gets it.

``resources.yaml`` has loops, a deletion policy that depends on the stage, and names that hold the
account. CloudFormation knows the first two by a transform that has its own limits, and takes over
what an earlier stack left behind only under names that are written out. So all three are written
out here, and what goes there needs no transform.
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from boto3 import Session

from infrastructure.stage import TEMPLATE

NAMES = ("BucketName", "TableName", "QueueName")
POLICIES = ("DeletionPolicy", "UpdateReplacePolicy")
LOOP = "Fn::ForEach::"


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's tags: ``!Ref X`` is {"Ref": X}, ``!Sub X`` {"Fn::Sub": X}."""


def _tagged(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    mapping: Any = node
    return {name: loader.construct_mapping(mapping, deep=True)}


_Loader.add_multi_constructor("!", _tagged)


def read_template(path: Path = TEMPLATE) -> dict[str, Any]:
    """A template with its loops written out; ``!GetAtt X.Arn`` is {"Fn::GetAtt": "X.Arn"}."""
    template = yaml.load(path.read_text(), _Loader)  # noqa: S506 - it is a safe one
    written_out: dict[str, Any] = _written_out(template, {}, template.get("Mappings", {}))
    return written_out


def _written_out(node: Any, bound: Mapping[str, str], mappings: Mapping[str, Any]) -> Any:
    """A node with its loops written out. ``bound`` holds the variables of those it stands in."""
    if isinstance(node, list):
        return [_written_out(each, bound, mappings) for each in node]
    if not isinstance(node, dict):
        return node
    found: dict[str, Any] = {}
    for key, value in node.items():
        if not key.startswith(LOOP):
            found[key] = _written_out(value, bound, mappings)
            continue
        variable, collection, fragment = value
        for each in collection:
            here = {**bound, variable: each}
            for name, body in fragment.items():
                found[filled(name, here)] = _written_out(body, here, mappings)
    return _simplified(found, bound, mappings)


def _simplified(node: dict[str, Any], bound: Mapping[str, str], mappings: Mapping[str, Any]) -> Any:
    """A function, as far as the variables of loops and the mappings answer it."""
    answer: Any = node
    match node:
        case {"Ref": str(name)} if name in bound:
            answer = bound[name]
        case {"Fn::Sub": str(text)}:
            text = filled(text, bound)
            answer = {"Fn::Sub": text} if "${" in text else text
        case {"Fn::Sub": [text, dict(values)]}:
            texts = {name: value for name, value in values.items() if isinstance(value, str)}
            rest = {name: value for name, value in values.items() if name not in texts}
            text = filled(text, {**bound, **texts})
            answer = {"Fn::Sub": [text, rest] if rest else text}
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            answer = {"Fn::GetAtt": f"{name}.{attribute}"}
        case {"Fn::FindInMap": [str(name), str(row), str(column)]}:
            answer = mappings[name][row][column]
    return answer


def filled(text: str, values: Mapping[str, Any]) -> str:
    return re.sub(
        r"\$\{([\w:.]+)\}",
        lambda found: str(values[found[1]]) if found[1] in values else found[0],
        text,
    )


def rendered(path: Path, variables: Mapping[str, str]) -> str:
    """A template as JSON without transform, loops, and policies with conditions.

    ``variables`` are parameters and pseudo parameters (``AWS::AccountId``): names that need no
    other are written out.
    """
    template = read_template(path)
    template.pop("Transform", None)
    for resource in template["Resources"].values():
        for policy in POLICIES:
            if isinstance(chosen := resource.get(policy), dict):
                name, then, otherwise = chosen["Fn::If"]
                holds = resolved(template["Conditions"][name], variables, {})
                resource[policy] = then if holds else otherwise
        properties = resource.get("Properties", {})
        for name in NAMES:
            if isinstance(properties.get(name), dict) and "Fn::Sub" in properties[name]:
                text = filled(properties[name]["Fn::Sub"], variables)
                properties[name] = text if "${" not in text else properties[name]
    return json.dumps(template, ensure_ascii=False, separators=(",", ":"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``template`` takes a stage and nothing else."""


def run(options: argparse.Namespace) -> int:
    session = Session()
    account = session.client("sts").get_caller_identity()["Account"]
    names = {"AWS::AccountId": account, "AWS::Region": session.region_name}
    print(rendered(TEMPLATE, {"Stage": options.stage, **names}))
    return 0


def resolved(node: Any, values: Mapping[str, Any], truths: Mapping[str, bool]) -> Any:
    """A node with parameters and conditions filled in; None for what is AWS::NoValue."""
    if isinstance(node, list):
        members = [resolved(each, values, truths) for each in node]
        return [each for each in members if each is not None]
    if not isinstance(node, dict):
        return node
    if "Fn::If" in node:
        name, then, otherwise = node["Fn::If"]
        return resolved(then if truths[name] else otherwise, values, truths)
    found = {name: resolved(each, values, truths) for name, each in node.items()}
    answer: Any = {name: each for name, each in found.items() if each is not None}
    match found:
        case {"Ref": str(name)} if name in values:
            answer = values[name]
        case {"Fn::Equals": [one, other]}:
            answer = one == other
        case {"Fn::Not": [one]}:
            answer = not one
        case {"Fn::Or": several}:
            answer = any(several)
        case {"Condition": str(name)} if len(node) == 1:
            answer = truths[name]
        case {"Fn::Sub": str(text)}:
            text = filled(text, values)
            answer = {"Fn::Sub": text} if re.search(r"\$\{[^!]", text) else text
    return answer
