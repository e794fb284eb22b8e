"""What Chalice has deployed of a stage, kept in the stage's own bucket.

Chalice writes it into ``.chalice/deployed/<stage>.json`` and finds by it what to update. Kept in
the bucket, it is the same for every machine and every build that deploys. A lock beside it lets one
of them deploy at a time.
"""

import getpass
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boto3 import Session
from botocore.exceptions import ClientError

from chalicelib.errors import PipelineError
from chalicelib.messages import timestamp
from chalicelib.pipeline import utc_now

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STATE_KEY = "state.json"
LOCK_KEY = "lock.json"
ABANDONED = timedelta(minutes=20)
"""Chalice takes two or three: who has held the lock for as long has died."""

ABSENT = ("NoSuchKey", "404")
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class Locked(PipelineError):
    """Somebody else is deploying the stage."""

    code = "locked"


@dataclass(frozen=True, slots=True)
class State:
    """What was deployed last. ``chalice`` is as Chalice records it.

    ``fingerprint`` is of the package and the configuration it was deployed with.
    """

    chalice: dict[str, Any] = field(default_factory=lambda: {"resources": []})
    fingerprint: str = ""
    deployed_at: str = ""
    deployed_by: str = ""


@dataclass(frozen=True, slots=True)
class StateStore:
    """A stage's state in its bucket."""

    client: "S3Client"
    bucket: str

    def load(self) -> State:
        """The state; an empty one where nothing was deployed yet."""
        body = self._get(STATE_KEY)
        return State(**json.loads(body[0])) if body else State()

    def save(self, state: State) -> None:
        self.client.put_object(
            Bucket=self.bucket,
            Key=STATE_KEY,
            Body=json.dumps(asdict(state), indent=2).encode(),
            ContentType="application/json",
        )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one who changes the stage. Raises Locked that says who else is.

        One whose holder has died, or has had it for longer than ABANDONED, is taken over; S3 lets
        only one do so.
        """
        etag = self._take()
        try:
            yield
        finally:
            try:
                self.client.delete_object(Bucket=self.bucket, Key=LOCK_KEY, IfMatch=etag)
            except ClientError as error:  # taken over meanwhile: it is somebody else's now
                if error.response["Error"]["Code"] not in (*TAKEN, *ABSENT):
                    raise

    def _take(self) -> str:
        try:
            return self._put_lock(IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] not in TAKEN:
                raise
        held = self._get(LOCK_KEY)
        if held is None:
            return self._take()  # given back just now
        body, etag = held
        holder = json.loads(body)
        since = datetime.fromisoformat(holder["since"])
        if since > utc_now() - ABANDONED and not _has_died(holder):
            raise Locked(
                f"{holder['by']} has been deploying since {holder['since']}. Wait for that to end; "
                f"if it has died, the lock is void {ABANDONED.seconds // 60} minutes after it was "
                f"taken, or delete s3://{self.bucket}/{LOCK_KEY}."
            )
        try:
            return self._put_lock(IfMatch=etag)
        except ClientError as error:
            if error.response["Error"]["Code"] in ABSENT:
                return self._take()  # likewise
            if error.response["Error"]["Code"] in TAKEN:
                raise Locked("Somebody else has just begun to deploy.") from error
            raise

    def _put_lock(self, **condition: Any) -> str:
        lock = {"by": who(), "pid": os.getpid(), "since": timestamp(utc_now())}
        answer = self.client.put_object(
            Bucket=self.bucket, Key=LOCK_KEY, Body=json.dumps(lock).encode(), **condition
        )
        return answer["ETag"]

    def _get(self, key: str) -> tuple[bytes, str] | None:
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ABSENT:
                return None
            raise
        return answer["Body"].read(), answer["ETag"]


def _has_died(holder: dict[str, Any]) -> bool:
    """Whether it was a process of this user's on this machine that is no more."""
    if holder["by"] != who():
        return False
    try:
        os.kill(holder.get("pid", os.getpid()), 0)
    except (ProcessLookupError, PermissionError):  # gone, or its number is somebody else's now
        return True
    return False


def who() -> str:
    """Who runs this, and where, for others to ask."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def state_of(session: Session, outputs: Mapping[str, str]) -> State:
    """The state of the stage whose stack has these outputs; empty where it has no place for one."""
    bucket = outputs.get("DeploymentsBucket")
    return StateStore(session.client("s3"), bucket).load() if bucket else State()


def write_chalice_state(project: Path, stage: str, state: State) -> None:
    """Put the state where Chalice looks for it."""
    path = chalice_state_path(project, stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(state.chalice, indent=2) + "\n")


def read_chalice_state(project: Path, stage: str) -> dict[str, Any]:
    """What Chalice has recorded there; nothing deployed where there is no record."""
    path = chalice_state_path(project, stage)
    recorded: dict[str, Any] = json.loads(path.read_text()) if path.exists() else State().chalice
    return recorded


def chalice_state_path(project: Path, stage: str) -> Path:
    return project / ".chalice" / "deployed" / f"{stage}.json"
