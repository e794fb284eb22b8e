"""Process what is under a prefix with the pipeline as it is now."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None: ...


def run(options: argparse.Namespace) -> int: ...
