"""``python -m benchmarks.cold_start``: ``import app`` beside an empty Chalice app with one client.

Each import is timed in processes of its own, one after the other in turns, by the CPU time it
takes, so that what else the machine does counts little.
"""

import argparse
import os
import statistics
import subprocess
import sys

from infrastructure.stage import PROJECT

STATEMENTS = {
    "import app": "import app",
    "empty Chalice app, one boto3 client": (
        "import boto3; from chalice import Chalice; Chalice('empty'); boto3.client('s3')"
    ),
}
VARIABLES = {
    "UPLOADS_BUCKET": "uploads",
    "RENDITIONS_BUCKET": "renditions",
    "TABLE_NAME": "catalog",
    "WORK_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/000000000000/work",
    "TOPIC_ARN": "arn:aws:sns:us-east-1:000000000000:announcements",
    "MAX_RECEIVE_COUNT": "5",
    "AWS_DEFAULT_REGION": "us-east-1",
}
CLOCK = "import time; before = time.process_time(); {}; print(time.process_time() - before)"


def cpu_ms(statement: str) -> float:
    """CPU milliseconds that a statement takes in a fresh interpreter."""
    printed = subprocess.run(
        [sys.executable, "-c", CLOCK.format(statement)],
        cwd=PROJECT,
        env=os.environ | VARIABLES,
        capture_output=True,
        text=True,
        check=True,
    )
    return 1000 * float(printed.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds):
        for name, statement in STATEMENTS.items():
            taken[name].append(cpu_ms(statement))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, median in medians.items():
        print(f"{name:<38} {median:6.0f} ms CPU, median of {rounds}")
    ours, base = medians.values()
    print(f"{'ratio':<38} {ours / base:6.2f}")


if __name__ == "__main__":
    main()
