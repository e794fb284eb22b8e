"""Find what the buckets and the catalog do not agree about, and mend it."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None: ...


def run(options: argparse.Namespace) -> int: ...
