"""``make run``: the cloud stays up, its functions' logs on the screen, until Ctrl-C."""

import os
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from botocore.exceptions import BotoCoreError

from infrastructure.logs import events, function_of, is_wanted, log_groups, parsed, shown
from infrastructure.stack import Stack
from infrastructure.stage import PROJECT, setting_of, stack_name, variables_of
from localcloud.cloud import LocalCloud, Ports
from localcloud.emulator import REGION, CloudFailed
from localcloud.functions import STAGE

DEFAULT_PORTS = Ports(api=8000, cloud=4566)
POLL_S = 0.5
ALL_OF_IT = Namespace(image="", level="DEBUG", json=False)

WELCOME = """
The page          {api}/
The API           {api}/images
The S3 endpoint   {endpoint}

Upload over S3    . {env} && aws s3 cp cat.jpg s3://{uploads}/uploads/
Upload over REST  curl -F file=@cat.jpg {api}/images
From a URL        curl --json '{{"url": "https://…/cat.jpg", "name": "cat.jpg"}}' {api}/images
What became of it curl {api}/images/uploads/cat.jpg/status
What is withheld  see docs/settings.md, "On a laptop"; rules are in {rules}

{callers}State is kept in {state}/ (`make clean` forgets it). Code is reloaded when it changes.
Ctrl-C stops everything.
"""


CALLERS = {
    "none": "",
    "key": """The API asks for a key
with curl         -H 'x-api-key: {key}'

""",
    "iam": """The API asks for signed requests, by whatever credentials
with curl         --aws-sigv4 aws:amz:{region}:execute-api --user test:test

""",
    "cognito": """The API asks for users, whom you invite
make one          . {env} && aws cognito-idp admin-create-user --user-pool-id {pool} \\
                    --username ada@example.com --temporary-password 'Change-me-12'
let them review   . {env} && aws cognito-idp admin-add-user-to-group --user-pool-id {pool} \\
                    --username ada@example.com --group-name reviewers
who signs in      on the page, and chooses a password of at least 12 characters
with curl         -H "Authorization: Bearer $(. {env} && aws cognito-idp initiate-auth \\
                    --client-id {client} --auth-flow USER_PASSWORD_AUTH \\
                    --auth-parameters USERNAME=ada@example.com,PASSWORD='…' \\
                    --query AuthenticationResult.IdToken --output text)"

""",
}
"""What there is to know where the API asks who calls, by API_AUTH."""

CHANGEABLE = (
    *("API_AUTH", "API_ALLOWED_ORIGINS", "ORCHESTRATION"),
    *("RECOGNITION", "QUARANTINE", "DUPLICATE_DISTANCE", "REUSE_RECOGNITION"),
)
"""Settings of the stage that the environment may change."""


def run(ports: Ports, state: Path) -> int:
    """Keep the cloud up until SIGINT or SIGTERM. 0 when it was stopped, 1 when it broke."""
    settings = {name: os.environ[name] for name in CHANGEABLE if name in os.environ}
    try:
        with LocalCloud(ports, state, settings) as cloud:
            env = _write_environment(cloud)
            print(
                WELCOME.format(
                    api=cloud.api_url,
                    endpoint=cloud.endpoint,
                    env=_shown(env),
                    uploads=cloud.outputs["UploadsBucket"],
                    callers=_callers(cloud, env),
                    state=_shown(state),
                    rules=_shown(cloud.moderation_rules),
                ),
                flush=True,
            )
            _follow(cloud)
    except KeyboardInterrupt:
        print("\nStopped.")
    return 0


def _callers(cloud: LocalCloud, env: Path) -> str:
    """How to call the API, where it does not let in anybody."""
    auth = setting_of(variables_of(STAGE) | cloud.variables, "api_auth")
    key = cloud.outputs.get("ApiKeyId")
    return CALLERS[auth].format(
        key=key and cloud.client("apigateway").get_api_key(apiKey=key, includeValue=True)["value"],
        region=REGION,
        env=_shown(env),
        pool=cloud.outputs.get("UserPoolId"),
        client=cloud.outputs.get("UserPoolClientId"),
    )


def _follow(cloud: LocalCloud) -> None:
    """Print what the functions log, and deploy anew whenever their code changes."""
    groups = log_groups(Stack(cloud.client("cloudformation"), stack_name(STAGE)))
    now_ms = int(time.time() * 1000)
    between = _Watch(cloud)
    try:
        for group, message in events(
            cloud.client("logs"), groups, now_ms, follow=True, sleep=between
        ):
            line = parsed(message)
            if is_wanted(line, message, ALL_OF_IT):
                print(shown(function_of(group, STAGE), line, message), flush=True)
    except BotoCoreError as error:
        raise CloudFailed(f"The cloud does not answer any more: {error}") from error


class _Watch:
    """Looks after the cloud while there is nothing to print."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._code = dict(_code())

    def __call__(self, _seconds: float) -> None:
        if ended := self._cloud.failed_children():
            raise CloudFailed("Part of the cloud has ended:\n" + "\n".join(ended))
        if (now := dict(_code())) != self._code:
            self._code = now
            changed = time.monotonic()
            try:
                self._cloud.deploy()
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


def _write_environment(cloud: LocalCloud) -> Path:
    """A file to source in a shell, so that aws, boto3 and chalice local find this cloud."""
    path = cloud.state / "env"
    variables = cloud.client_environ | cloud.variables
    path.write_text("".join(f"export {name}='{value}'\n" for name, value in variables.items()))
    return path


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path)
