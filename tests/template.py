"""The template as CloudFormation reads it: tags as mappings, loops written out, conditions decided.

``python -m tests.template FILE`` prints a template with its loops written out, as JSON, for those
who do not know loops.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from infrastructure.stage import CONFIG as CONFIG_FILE
from infrastructure.stage import TEMPLATE as TEMPLATE_FILE

LOOP = "Fn::ForEach::"
PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::NoValue": None,
}


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's tags: ``!Ref X`` is {"Ref": X}, ``!Sub X`` {"Fn::Sub": X}."""


def _tagged(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _tagged)


def read_template(path: Path = TEMPLATE_FILE) -> dict[str, Any]:
    """A template with its loops written out; ``!GetAtt X.Arn`` is {"Fn::GetAtt": "X.Arn"}."""
    template = yaml.load(path.read_text(), _Loader)  # noqa: S506 - it is a safe one
    written_out = _written_out(template, {}, template.get("Mappings", {}))
    assert isinstance(written_out, dict)
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
                found[_filled(name, here)] = _written_out(body, here, mappings)
    return _simplified(found, bound, mappings)


def _simplified(node: dict[str, Any], bound: Mapping[str, str], mappings: Mapping[str, Any]) -> Any:
    """A function, as far as the variables of loops and the mappings answer it."""
    answer: Any = node
    match node:
        case {"Ref": str(name)} if name in bound:
            answer = bound[name]
        case {"Fn::Sub": str(text)}:
            text = _filled(text, bound)
            answer = {"Fn::Sub": text} if "${" in text else text
        case {"Fn::Sub": [text, dict(values)]}:
            texts = {name: value for name, value in values.items() if isinstance(value, str)}
            rest = {name: value for name, value in values.items() if name not in texts}
            text = _filled(text, {**bound, **texts})
            answer = {"Fn::Sub": [text, rest] if rest else text}
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            answer = {"Fn::GetAtt": f"{name}.{attribute}"}
        case {"Fn::FindInMap": [str(name), str(row), str(column)]}:
            answer = mappings[name][row][column]
    return answer


def _filled(text: str, values: Mapping[str, Any]) -> str:
    return re.sub(
        r"\$\{([\w:.]+)\}",
        lambda found: str(values[found[1]]) if found[1] in values else found[0],
        text,
    )


def decided(template: Mapping[str, Any], **parameters: Any) -> dict[str, Any]:
    """A template as a stack has it that is made with these parameters.

    What its conditions leave out is gone, and parameters and pseudo parameters have their values;
    references to resources stay.
    """
    values = PSEUDO | {
        name: parameters.get(name, each.get("Default"))
        for name, each in template["Parameters"].items()
    }
    for name, each in template["Parameters"].items():
        if each["Type"] == "CommaDelimitedList":
            values[name] = values[name].split(",")
    truths: dict[str, bool] = {}
    for name, condition in template["Conditions"].items():
        truths[name] = _resolved(condition, values, truths)
    stack = dict(template)
    for section in ("Resources", "Outputs"):
        stack[section] = {
            name: _resolved(each, values, truths)
            for name, each in template[section].items()
            if truths.get(each.get("Condition", ""), True)
        }
    return stack


def _resolved(node: Any, values: Mapping[str, Any], truths: Mapping[str, bool]) -> Any:
    """A node with parameters and conditions filled in; None for what is AWS::NoValue."""
    if isinstance(node, list):
        found = [_resolved(each, values, truths) for each in node]
        return [each for each in found if each is not None]
    if not isinstance(node, dict):
        return node
    if "Fn::If" in node:
        name, then, otherwise = node["Fn::If"]
        return _resolved(then if truths[name] else otherwise, values, truths)
    found = {name: _resolved(each, values, truths) for name, each in node.items()}
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
            text = _filled(text, values)
            answer = {"Fn::Sub": text} if re.search(r"\$\{[^!]", text) else text
    return answer


CONFIG: dict[str, Any] = json.loads(CONFIG_FILE.read_text())


def timeout_s(function: str, stage: str) -> int:
    """The Lambda timeout of a function in a stage, as Chalice resolves it."""
    here = CONFIG["stages"].get(stage, {})
    scopes = (
        here.get("lambda_functions", {}).get(function, {}),
        here,
        CONFIG.get("lambda_functions", {}).get(function, {}),
        CONFIG,
    )
    return int(next(scope["lambda_timeout"] for scope in scopes if "lambda_timeout" in scope))


if __name__ == "__main__":
    json.dump(read_template(Path(sys.argv[1])), sys.stdout, indent=1)
