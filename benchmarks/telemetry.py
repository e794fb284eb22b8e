"""``python -m benchmarks.telemetry``: what a library for logs, metrics or traces adds to a start.

Each is installed into a folder of its own and imported after ``import app``, in fresh processes
that take turns.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import tests.conftest  # noqa: F401 - variables before ``app`` is imported
from infrastructure.stage import PROJECT

ROUNDS = 15

LIBRARIES = {
    "nothing": ("", ""),
    "nothing, again": ("", ""),
    "Powertools: Logger": (
        "aws-lambda-powertools==3.37.0",
        "from aws_lambda_powertools import Logger; Logger('x')",
    ),
    "Powertools: Logger, Metrics": (
        "aws-lambda-powertools==3.37.0",
        "from aws_lambda_powertools import Logger, Metrics; Logger('x'); Metrics('x')",
    ),
    "aws-xray-sdk": ("aws-xray-sdk==2.15.0", "import aws_xray_sdk.core"),
    "aws-embedded-metrics": ("aws-embedded-metrics==3.5.0", "import aws_embedded_metrics"),
}
"""What is installed, and what is run beside the app."""

MEASURED = """
import time
began = time.process_time()
import app
{statement}
print((time.process_time() - began) * 1000)
"""


def main() -> None:
    with TemporaryDirectory() as folder:
        paths = {}
        for package in {package for package, _ in LIBRARIES.values() if package}:
            paths[package] = str(Path(folder, package))
            install = ("install", "--quiet", "--disable-pip-version-check", "--target")
            subprocess.run(
                [sys.executable, "-m", "pip", *install, paths[package], package], check=True
            )
        times: dict[str, list[float]] = {name: [] for name in LIBRARIES}
        for turn in range(-1, ROUNDS):  # the first turn compiles, and does not count
            for name, (package, statement) in LIBRARIES.items():
                taken = cpu_ms(statement, paths.get(package))
                if turn >= 0:
                    times[name].append(taken)
    least = median(times["nothing"])
    print("| imported beside the app | CPU ms | more than the app alone |\n|---|--:|--:|")
    for name, taken in times.items():
        print(f"| {name} | {median(taken):.0f} | {median(taken) - least:+.0f} |")


def cpu_ms(statement: str, path: str | None) -> float:
    """CPU time of a fresh process for importing the app, and then a library from its folder."""
    # The app's own libraries come first: a folder has the library's dependencies, too.
    late = f"import sys; sys.path.append({path!r}); {statement}" if path else statement
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED.format(statement=late)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(ran.stdout)


if __name__ == "__main__":
    main()
