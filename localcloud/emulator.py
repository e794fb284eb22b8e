"""An AWS on this machine with nothing in it: MiniStack and a Rekognition.

Everything listens on 127.0.0.1 and ends with the process that started it.
"""

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

import boto3
from botocore.config import Config

from infrastructure.stage import PROJECT
from localcloud.processes import Child, free_port, require_port

READY_TIMEOUT_S = 120
"""On a laptop that has much else to do; what ends instead of answering is noticed at once."""

REGION = "us-east-1"


class CloudFailed(Exception):
    """The cloud did not come up; the message has the last words of what failed."""


class Emulator:
    """A context manager: up on entering, gone on leaving.

    ``port`` is where the AWS APIs answer; 0 is any free one. ``state`` is a folder that survives;
    without one everything is forgotten at the end. With ``enforce_iam`` each function may do what
    its role allows and nothing else, and ``calls`` tells what they did.

    ``moderation_rules`` is the file that says what Rekognition flags, which need not exist (see
    localcloud/rekognition/moderation.py). By default it is the one that MODERATION_RULES names in
    the environment, else ``moderation.json`` in the state.
    """

    def __init__(
        self,
        port: int = 0,
        state: Path | None = None,
        *,
        enforce_iam: bool = False,
        moderation_rules: Path | None = None,
    ) -> None:
        self._keep = state is not None
        self.state = state or Path(tempfile.mkdtemp(prefix="localcloud-"))
        self._owns_state = False
        self._children: list[Child] = []
        cloud_port = require_port(port, "CLOUD_PORT") if port else free_port()
        self._rekognition_port = free_port()
        self.endpoint = f"http://127.0.0.1:{cloud_port}"
        self.rekognition_url = f"http://127.0.0.1:{self._rekognition_port}"
        self.calls_log = self.state / "calls.jsonl"
        rules = moderation_rules or os.environ.get("MODERATION_RULES")
        self.moderation_rules = Path(rules or self.state / "moderation.json").resolve()
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("AWS_")
        } | self.client_environ
        self._cloud_environ = {
            "AUTH": str(enforce_iam).lower(),
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(cloud_port),
            "LOG_LEVEL": "WARNING",
            "PERSIST_STATE": str(int(self._keep)),
            "S3_PERSIST": str(int(self._keep)),
            "S3_DATA_DIR": str(self.state / "s3"),
            "STATE_DIR": str(self.state / "state"),
            "TMPDIR": str(self.state / "tmp"),
        }
        if enforce_iam:
            self._cloud_environ["CALLS_LOG"] = str(self.calls_log)

    @property
    def client_environ(self) -> dict[str, str]:
        """The variables with which any AWS SDK or the AWS CLI talks to this cloud."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_REKOGNITION": self.rekognition_url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """A boto3 client of this cloud, whatever account the environment names."""
        rekognition = service == "rekognition"
        return boto3.Session().client(
            service,  # type: ignore[call-overload]  # its stubs know literals alone
            endpoint_url=self.rekognition_url if rekognition else self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106
            config=Config(retries={"mode": "standard"}, max_pool_connections=50),
        )

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # Ctrl-C, too, must leave nothing running
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process; those that use others end before them."""
        for child in reversed(self._children):
            child.stop()
        self._children.clear()
        if self._owns_state:
            obsolete = self.state / "tmp" if self._keep else self.state
            shutil.rmtree(obsolete, ignore_errors=True)
            self._lock.close()

    def failed_children(self) -> list[str]:
        """What has ended although it should run, with its last words."""
        return [child.last_words() for child in self._children if not child.is_running]

    def _fill(self) -> None:
        """Put into it what is to be there from the start: nothing."""

    def _start(self) -> None:
        self._claim_state()
        ministack = self._child("ministack", ["localcloud.ministack"])
        port, rules = str(self._rekognition_port), str(self.moderation_rules)
        rekognition = self._child(
            "rekognition",
            ["localcloud.rekognition", "--port", port, "--moderation-rules", rules],
        )
        self._wait(ministack, f"{self.endpoint}/_ministack/health")
        self._fill()
        self._wait(rekognition, self.rekognition_url)

    def _claim_state(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        self._lock = (self.state / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CloudFailed(
                f"Another cloud is running on {self.state}: stop it first."
            ) from error
        self._owns_state = True
        for folder in ("tmp", "logs"):
            (self.state / folder).mkdir(exist_ok=True)

    def _child(self, name: str, module: Sequence[str]) -> Child:
        """Start a module of this project with its arguments."""
        log = self.state / "logs" / f"{name}.log"
        command = [sys.executable, "-m", *module]
        child = Child(command, self.environ | self._cloud_environ, log, PROJECT)
        self._children.append(child)
        return child

    def _wait(self, child: Child, url: str) -> None:
        """Wait until the child answers, with whatever status. Raises CloudFailed if it ends."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while child.is_running and time.monotonic() < deadline:
            try:
                with urlopen(url, timeout=5):  # noqa: S310
                    return
            except URLError as error:
                if hasattr(error, "code"):
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise CloudFailed(f"{child.log.stem} does not answer:\n{child.last_words()}")
