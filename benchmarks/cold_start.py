"""``python -m benchmarks.cold_start``: what a cold start costs, part by part, and in which package.

The lean package and Chalice's own are built of the app, unpacked, and imported in turns by
processes that have them and Python's own library alone and cannot write bytecode, as on Lambda.
What counts is the CPU time they take, so that what else the machine does counts little. Chalice's
own is built with Python 3.12 or later only: before, it compiles Pillow for minutes.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from chalice.config import Config
from chalice.deploy.packager import DependencyBuilder, LambdaDeploymentPackager
from chalice.utils import UI, OSUtils
from PIL import Image

from infrastructure.package import build
from infrastructure.stage import PROJECT

START = {
    "Chalice": "import chalice.app",
    "boto3 and botocore": "import boto3",
    "settings": "import chalicelib.config",
    "messages": "import chalicelib.messages",
    "pipeline": "import chalicelib.pipeline",
    "the rest of `import app`": "import app",
    "the first client": "from chalicelib.bootstrap import services; services().catalog",
}
LATER = {
    "another client": "services().queue",
    "imaging, with a first small JPEG": (
        "from chalicelib import imaging; from chalicelib.bootstrap import settings;"
        "from chalicelib.model import Limits;"
        "imaging.render(open(sys.argv[3], 'rb').read(), settings().renditions, Limits())"
    ),
}
MINIMUM = {
    "Chalice": "from chalice import Chalice; Chalice('empty')",
    "boto3 and botocore": "import boto3",
    "a client": "boto3.client('dynamodb')",
}
PROCESS = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
taken, before = {}, time.process_time()
for name, statement in json.loads(sys.argv[2]).items():
    exec(statement)
    taken[name] = 1000 * (time.process_time() - before)
    before = time.process_time()
print(json.dumps(taken))
"""
VARIABLES = {
    "STAGE": "dev",
    "UPLOADS_BUCKET": "uploads",
    "RENDITIONS_BUCKET": "renditions",
    "TABLE_NAME": "catalog",
    "WORK_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/000000000000/work",
    "TOPIC_ARN": "arn:aws:sns:us-east-1:000000000000:announcements",
    "MAX_RECEIVE_COUNT": "5",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
CONTENTS = {
    "service models of AWS": r"boto(core|3)/data/",
    "the rest of botocore and boto3": r"boto(core|3)",
    "Pillow": r"PIL/|pillow\.libs/|pillow-",
    "pillow_heif": r"_?pillow_heif",
    "the app and Chalice": r"app\.py|__pycache__/app|chalice",
    "other libraries": r"",
}


def make_packages(folder: Path) -> dict[str, Path]:
    """The packages for this machine, of a copy of the app, so that nobody deploys them."""
    project = folder / "project"
    shutil.copytree(PROJECT / "chalicelib", project / "chalicelib")
    for name in ("app.py", "requirements.txt"):
        shutil.copy(PROJECT / name, project)
    config = Config.create(project_dir=str(project))
    packages = {"lean": build(config, local=True).rename(folder / "lean.zip")}
    if sys.version_info >= (3, 12):
        osutils = OSUtils()
        packager = LambdaDeploymentPackager(osutils, DependencyBuilder(osutils), UI())
        own = packager.create_deployment_package(str(project), config.lambda_python_version)
        packages["Chalice's own"] = Path(own)
    return packages


def megabytes(package: Path) -> Counter[str]:
    """What each part takes in a package, compressed."""
    found: Counter[str] = Counter()
    with zipfile.ZipFile(package) as zipped:
        for entry in zipped.infolist():
            part = next(name for name, start in CONTENTS.items() if re.match(start, entry.filename))
            found[part] += entry.compress_size
    return Counter({part: size / 1e6 for part, size in found.items()})


def cpu_ms(package: Path, statements: Mapping[str, str], picture: Path) -> dict[str, float]:
    """CPU milliseconds that each statement takes after those before it, in a fresh interpreter."""
    printed = subprocess.run(
        [*(sys.executable, "-ISB", "-c", PROCESS), package, json.dumps(statements), picture],
        env=os.environ | VARIABLES,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(printed.stdout))


def row(name: str, *columns: object) -> None:
    print(f"{name:<36}", *(f"{column:>14}" for column in columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    runs: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    with TemporaryDirectory() as name:
        folder = Path(name)
        packages = make_packages(folder)
        for where, package in packages.items():
            with zipfile.ZipFile(package) as zipped:
                zipped.extractall(folder / where)
        picture = folder / "picture.jpg"
        Image.effect_noise((320, 240), 50).save(picture)
        for _ in range(rounds):
            for where in packages:
                run = cpu_ms(folder / where, START | LATER, picture)
                run["all of it"] = sum(run[part] for part in START)
                run["least"] = sum(cpu_ms(folder / where, MINIMUM, picture).values())
                run["ratio"] = run["all of it"] / run["least"]
                runs[where].append(run)
        sizes = {where: megabytes(package) for where, package in packages.items()}
        zipped_mb = [f"{package.stat().st_size / 1e6:.1f}" for package in packages.values()]

    def medians(part: str) -> list[float]:
        return [median(run[part] for run in runs[where]) for where in packages]

    row(f"CPU ms, medians of {rounds}", *packages)
    for part in [*START, "all of it", "least", *LATER]:
        label = {"least": "bare Chalice app with the same client"}.get(part, part)
        row(label, *(f"{time:.0f}" for time in medians(part)))
    row("ratio of all of it to the bare app", *(f"{ratio:.2f}" for ratio in medians("ratio")))
    row("\nMB zipped", *packages)
    for part in CONTENTS:
        row(part, *(f"{size[part]:.2f}" for size in sizes.values()))
    row("all of it", *zipped_mb)


if __name__ == "__main__":
    main()
