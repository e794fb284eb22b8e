"""Send what the S3 handlers fail at for good to the dead-letter queue."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None: ...


def run(options: argparse.Namespace) -> int: ...
