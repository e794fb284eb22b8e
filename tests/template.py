"""The template as a stack has it: conditions decided, parameters with their values.

``python -m tests.template FILE`` prints a template with its loops written out, as JSON, for those
who do not know loops.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infrastructure.stage import CONFIG as CONFIG_FILE
from infrastructure.template import read_template, resolved

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::NoValue": None,
}


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
        truths[name] = resolved(condition, values, truths)
    stack = dict(template)
    for section in ("Resources", "Outputs"):
        stack[section] = {
            name: resolved(each, values, truths)
            for name, each in template[section].items()
            if truths.get(each.get("Condition", ""), True)
        }
    return stack


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
