"""``python -m infrastructure configure --stage dev``: a stack's outputs into the stage."""

import argparse
import json
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infrastructure.stage import PROJECT, configure, stack_name


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infrastructure", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("configure", help="write a stack's outputs into the stage")
    command.add_argument("--stage", required=True, help="dev, prod or another stage of yours")
    stage = parser.parse_args().stage
    try:
        stacks = boto3.client("cloudformation").describe_stacks(StackName=stack_name(stage))
    except (BotoCoreError, ClientError) as error:
        print(f"The stack {stack_name(stage)} cannot be read: {error}", file=sys.stderr)
        return 1
    outputs = {
        output["OutputKey"]: output["OutputValue"] for output in stacks["Stacks"][0]["Outputs"]
    }
    path = PROJECT / ".chalice" / "config.json"
    config = configure(json.loads(path.read_text()), stage, outputs)
    path.write_text(json.dumps(config, indent=2) + "\n")
    print(f"Stage {stage} is configured. Now: chalice deploy --stage {stage}")
    if sys.version_info < (3, 12):
        print("Deploy with Python 3.12 or later: Pillow has no wheel for Lambda's Python 3.11.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
