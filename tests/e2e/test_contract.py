"""The API does what its description says, whatever it is sent: schemathesis tries it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from localcloud.cloud import LocalCloud
from tests.pictures import photo, saved

HERE = Path(__file__).parent
EXAMPLES_EACH = 20
"""Of an operation, beside its examples, the edges of its schema, and chains of several."""


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """One of its own: what is asked depends on what there is, and much of it is left behind."""
    with LocalCloud(enforce_iam=True) as cloud:
        yield cloud


def test_the_api_keeps_to_its_description(cloud: LocalCloud, tmp_path: Path) -> None:
    """A thousand requests, valid and not: no 5xx, no status or body that is not described.

    All of schemathesis' checks: also that what is invalid is refused, what is valid is taken, what
    was deleted is gone, and that other methods are answered with 405.
    """
    for number in range(5):
        picture = saved(photo(120, 80, number))
        headers = {"Content-Type": "image/jpeg"}
        url = f"{cloud.api_url}/images?name=contract{number}.jpg"
        urlopen(Request(url, picture, headers)).close()
    wish = {"url": f"{cloud.api_url}/static/1.jpg", "statuses": ["DUPLICATE"]}
    headers = {"Content-Type": "application/json"}
    request = Request(f"{cloud.api_url}/webhooks", json.dumps(wish).encode(), headers)
    with urlopen(request) as answer:
        webhook = f"{cloud.api_url}{answer.headers['Location']}"
    urlopen(Request(f"{webhook}/test", method="POST")).close()
    command = [
        *(sys.executable, "-m", "schemathesis.cli"),
        *("--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{cloud.api_url}/openapi.json"),
        *("--checks", "all", "--max-examples", str(EXAMPLES_EACH)),
    ]
    environ = {
        "API_URL": cloud.api_url,
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parents[1]))),
    }

    tried = subprocess.run(
        command, env=os.environ | environ, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert tried.returncode == 0, tried.stdout[-10_000:] + tried.stderr
    [number_of_requests] = re.findall(r"(\d+) generated", tried.stdout)
    assert int(number_of_requests) >= 1_000
