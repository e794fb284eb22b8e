"""``make run``: the cloud stays up, its functions' logs on the screen, until Ctrl-C."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError

from chalicelib.messages import printable
from infrastructure.stage import PROJECT
from localcloud.cloud import LocalCloud, Ports
from localcloud.emulator import CloudFailed

DEFAULT_PORTS = Ports(api=8000, cloud=4566)
POLL_S = 0.5
NOISE = ("START RequestId", "END RequestId", "REPORT RequestId", "INIT_START")

KEY_FACTS = ("key", "image_id", "message_id", "request_id")
"""What is shown of a line behind its message, where it is known."""

WELCOME = """
The page          {api}/
The API           {api}/images
The S3 endpoint   {endpoint}

Upload over S3    . {env} && aws s3 cp cat.jpg s3://{uploads}/uploads/
Upload over REST  curl --data-binary @cat.jpg '{api}/images?name=cat.jpg'
From a URL        curl --json '{{"url": "https://…/cat.jpg", "name": "cat.jpg"}}' {api}/images
What became of it curl {api}/images/uploads/cat.jpg/status

State is kept in {state}/ (`make clean` forgets it). Code is reloaded when it changes.
Ctrl-C stops everything.
"""


def run(ports: Ports, state: Path) -> int:
    """Keep the cloud up until SIGINT or SIGTERM. 0 when it was stopped, 1 when it broke."""
    try:
        with LocalCloud(ports, state) as cloud:
            env = _write_environment(cloud)
            print(
                WELCOME.format(
                    api=cloud.api_url,
                    endpoint=cloud.endpoint,
                    env=_shown(env),
                    uploads=cloud.outputs["UploadsBucket"],
                    state=_shown(state),
                ),
                flush=True,
            )
            _follow(cloud)
    except KeyboardInterrupt:
        print("\nStopped.")
    return 0


def _follow(cloud: LocalCloud) -> None:
    """Print what the functions log, and deploy anew whenever their code changes."""
    code = dict(_code())
    logs = _logs(cloud)
    while True:
        try:
            for line in next(logs):
                print(line, flush=True)
        except BotoCoreError as error:
            raise CloudFailed(f"The cloud does not answer any more: {error}") from error
        if ended := cloud.failed_children():
            raise CloudFailed("Part of the cloud has ended:\n" + "\n".join(ended))
        if (now := dict(_code())) != code:
            code = now
            changed = time.monotonic()
            try:
                cloud.deploy()
                print(f"Reloaded in {time.monotonic() - changed:.1f} s.", flush=True)
            except CloudFailed as error:
                print(f"{error}\nThe functions stay as they were until this is mended.", flush=True)
        time.sleep(POLL_S)


def _code() -> Iterator[tuple[Path, int]]:
    """The files that the functions are made of, with their times of modification."""
    for path in (PROJECT / "app.py", *(PROJECT / "chalicelib").rglob("*")):
        with suppress(FileNotFoundError):  # an editor may be replacing it just now
            if path.is_file() and "__pycache__" not in path.parts:
                yield path, path.stat().st_mtime_ns


def _logs(cloud: LocalCloud) -> Iterator[list[str]]:
    """What the functions have logged since the last time, again and again."""
    logs = cloud.client("logs")
    since = int(time.time() * 1000)
    seen: set[tuple[str, int, str]] = set()
    while True:
        lines = []
        for group in logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/")["logGroups"]:
            name = group["logGroupName"]
            function = name.rpartition("-")[2]
            for event in logs.filter_log_events(logGroupName=name, startTime=since)["events"]:
                entry = (event["logStreamName"], event["timestamp"], event["message"])
                if entry in seen or event["message"].startswith(NOISE):
                    continue
                seen.add(entry)
                lines.append((event["timestamp"], f"{function}  {readable(event['message'])}"))
        yield [line for _, line in sorted(lines)]


def readable(line: str) -> str:
    """A line of a function's log for people: its level, what it says, and the key facts.

    What is no JSON stays as it is, such as what Lambda says itself.
    """
    try:
        fields = json.loads(line)
    except ValueError:
        return line.rstrip()
    if not isinstance(fields, dict):
        return line.rstrip()
    said = _metrics(fields) if "_aws" in fields else fields.get("message", "")
    facts = [f"{name}={fields[name]}" for name in KEY_FACTS if name in fields]
    shown = printable("  ".join([f"{fields.get('level', 'METRICS'):<7}", said, *facts]))
    traceback = fields.get("exception", {}).get("traceback", "")
    return f"{shown}\n{traceback}".rstrip()


def _metrics(fields: dict[str, Any]) -> str:
    directives = fields["_aws"]["CloudWatchMetrics"]
    return " ".join(f"{each['Name']}={fields[each['Name']]}" for each in directives[0]["Metrics"])


def _write_environment(cloud: LocalCloud) -> Path:
    """A file to source in a shell, so that aws, boto3 and chalice local find this cloud."""
    path = cloud.state / "env"
    variables = cloud.client_environ | cloud.variables
    path.write_text("".join(f"export {name}='{value}'\n" for name, value in variables.items()))
    return path


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path)
