"""Write a stack's outputs into its stage of .chalice/config.json."""

import argparse
import json
import sys

import boto3

from infrastructure.stage import CONFIG, configure, stack_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``configure`` takes a stage and nothing else."""


def run(options: argparse.Namespace) -> int:
    stage = options.stage
    stacks = boto3.client("cloudformation").describe_stacks(StackName=stack_name(stage))
    outputs = {
        output["OutputKey"]: output["OutputValue"] for output in stacks["Stacks"][0]["Outputs"]
    }
    config = configure(json.loads(CONFIG.read_text()), stage, outputs)
    CONFIG.write_text(json.dumps(config, indent=2) + "\n")
    print(f"Stage {stage} is configured. Now: chalice deploy --stage {stage}")
    if sys.version_info < (3, 12):
        print("Deploy with Python 3.12 or later: Pillow has no wheel for Lambda's Python 3.11.")
    return 0
