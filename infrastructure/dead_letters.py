"""List what is in the dead-letter queue by cause, and give it back to the work queue."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None: ...


def run(options: argparse.Namespace) -> int: ...
