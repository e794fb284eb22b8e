"""Put a stage on AWS, or bring it up to date: resources, functions, API, and a test that it works.

Run it as often as you like: what is as it should be is left alone, and a deployment that was cut
off goes on where it stopped.
"""

import argparse
import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from boto3 import Session
from botocore.exceptions import BotoCoreError, ClientError
from chalice.config import Config

from chalicelib.aws.queue import WorkQueue
from chalicelib.config import Settings
from chalicelib.errors import PipelineError
from chalicelib.messages import timestamp
from chalicelib.pipeline import utc_now
from infrastructure import package
from infrastructure.deployed import Deployed
from infrastructure.destinations import set_destinations
from infrastructure.gateway import Gateway, close_to_keys, responses
from infrastructure.preflight import Target, preflight
from infrastructure.smoke import Proof, signed, smoke_test
from infrastructure.stack import ChangeSet, Stack
from infrastructure.stage import (
    CONFIG,
    PARAMETERS,
    PROJECT,
    TAG,
    TEMPLATE,
    chalice_config,
    configure,
    services_of,
    setting_of,
    stack_name,
    variables_of,
)
from infrastructure.state import (
    State,
    StateStore,
    read_chalice_state,
    who,
    write_chalice_state,
)
from infrastructure.template import read_template
from infrastructure.workflow import (
    WORKFLOW,
    is_wanted,
    outputs_of,
    tell_eventbridge,
    worker_of,
    workflow_stack,
)

ACCOUNT_STACK = "image-pipeline-account"
ACCOUNT_TEMPLATE = PROJECT / "infrastructure" / "account.yaml"

CHALICE = "import sys; from chalice.cli import main; sys.exit(main())"

BAD_CREDENTIALS = (
    *("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "RequestExpired"),
    *("SignatureDoesNotMatch", "UnrecognizedClientException"),
)


class StepFailed(PipelineError):
    """A step of a deployment has failed: which, why, and what to do."""

    code = "step_failed"


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """The options that say what the resources shall be like."""
    parser.add_argument("--email", help="who gets a mail about images and alarms")
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        type=_parameter,
        metavar="NAME=VALUE",
        help="of infrastructure/resources.yaml or workflow.yaml; kept until it is given anew; "
        "may come repeatedly",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_parameters(parser)
    parser.add_argument(
        "--allow-data-loss", action="store_true", help="do not ask where a change loses data"
    )
    parser.add_argument(
        "--open-api", action="store_true", help="really deploy an API that anybody may call"
    )
    parser.add_argument("--no-smoke-test", action="store_true", help="send no picture through")


def run(options: argparse.Namespace) -> int:
    stage: str = options.stage
    session = Session()
    with step("Preflight"):
        target = preflight(stage, variables_of(stage), session, may_be_open=options.open_api)
        print(f"  {target}")
    with step("Package"):
        packaged = _build(chalice_config(stage), target)
    with step("Resources"):
        wanted = parameters(stage, options, target, session)
        outputs = _apply_resources(stage, wanted, target, session, may_lose=options.allow_data_loss)
    with step("Configuration"):
        write_configuration(stage, outputs)
    store = StateStore(session.client("s3"), outputs["DeploymentsBucket"])
    with step("Functions and API"), store.lock():
        state = _deploy_functions(stage, packaged, store, session)
        config = chalice_config(stage)
        api = _api_of(state.chalice)
        with step("Beyond Chalice"):
            _beyond_chalice(config, api, outputs, session)
        store.save(state)  # not before: cut off until here, all of it is done again
        if target.is_local:
            package.set_aside(packaged)
    url = api_url(api, os.environ)
    if not options.no_smoke_test:
        with step("Smoke test"):
            for line in smoke_test(services_of(stage), url, _proof(outputs, session)):
                print(f"  {line}", flush=True)
    print(summary(stage, url, outputs, target))
    return 0


# ── steps ────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say what is being done. What fails in it is raised as StepFailed, which says what to do."""
    print(f"{name}", flush=True)
    try:
        yield
    except StepFailed:
        raise
    except (BotoCoreError, ClientError, PipelineError, OSError) as error:
        raise StepFailed(
            f"{name!r} failed. {error}\n{advice(error)} What is done already stays done."
        ) from error


def advice(error: Exception) -> str:
    """What to do about it, in a sentence."""
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "Log in first (`aws configure`, `aws sso login`, or AWS_PROFILE), then run it again."
    if code in BAD_CREDENTIALS:
        return "Log in anew, or enable the region in your account, then run it again."
    if code in ("AccessDenied", "AccessDeniedException") or "not authorized to" in str(error):
        return (
            "These credentials may not do that. infrastructure/deployer.yaml has a role that may, "
            "but for the stack image-pipeline-account, which an administrator makes once. "
            "Then run it again."
        )
    if "UPDATE_ROLLBACK_FAILED" in str(error):
        return "`aws cloudformation continue-update-rollback` it, then run it again."
    return "Mend that, then run it again."


def parameters(
    stage: str, options: argparse.Namespace, target: Target, session: Session
) -> dict[str, str]:
    """What the template is told: what the file says of the stage, and over it the options."""
    of_stage: dict[str, str] = json.loads(PARAMETERS.read_text()).get(stage, {})
    told = {
        **of_stage,
        **({"NotificationEmail": options.email} if options.email else {}),
        **_boundary(stage, target, session),
        **dict(options.parameter),
    }
    if "Stage" in told:
        raise StepFailed("The parameter Stage is what --stage says. Leave it out.")
    if "ApiAuth" in told:
        raise StepFailed(
            "The parameter ApiAuth is what the setting API_AUTH says. Leave it out, and set "
            "API_AUTH in .chalice/config.json."
        )
    return {"Stage": stage, "ApiAuth": setting_of(variables_of(stage), "api_auth"), **told}


def _boundary(stage: str, target: Target, session: Session) -> dict[str, str]:
    """The bound of what roles may be given, where ``infrastructure/deployer.yaml`` has set one."""
    policy = f"policy/image-pipeline/image-pipeline-boundary-{stage}-{target.region}"
    arn = target.arn("iam", policy)
    try:
        session.client("iam").get_policy(PolicyArn=arn)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchEntity", "AccessDenied"):
            raise
        return {}
    return {"PermissionsBoundary": arn}


def _build(config: Config, target: Target) -> Path:
    packaged = package.build(config, local=target.is_local)
    size_mb = packaged.stat().st_size / 1e6
    print(f"  {size_mb:.1f} MB for {config.lambda_python_version} on {config.lambda_architecture}")
    return packaged


def _apply_resources(
    stage: str,
    parameters: Mapping[str, str],
    target: Target,
    session: Session,
    *,
    may_lose: bool,
) -> dict[str, str]:
    client = session.client("cloudformation")
    if not session.client("apigateway").get_account().get("cloudwatchRoleArn"):
        print("  API Gateway may not write logs in this account and region yet:")
        _apply(Stack(client, ACCOUNT_STACK), ACCOUNT_TEMPLATE, {}, {}, {}, may_lose=may_lose)
    stack = Stack(client, stack_name(stage))
    _apply(
        stack,
        TEMPLATE,
        of_resources(parameters),
        {TAG: stage},
        target.names,
        may_lose=may_lose,
        prepare=lambda change_set: release_plan(change_set, stack, session),
    )
    workflow = workflow_stack(stage, client)
    if is_wanted(stage):
        print("  What takes images through their stages:")
        wanted = of_workflow(parameters) | worker_of(stack.outputs())
        _apply(workflow, WORKFLOW, wanted, {TAG: stage}, target.names, may_lose=may_lose)
    elif workflow.describe():
        print("  The worker takes images through their stages itself from now on:")
        workflow.delete(lambda line: print(f"  {line}", flush=True))
    return outputs_of(stage, client)


def of_resources(parameters: Mapping[str, str]) -> dict[str, str]:
    """All but those that the state machine alone has: who mistypes one is told so."""
    others = declared(WORKFLOW) - declared(TEMPLATE)
    return {name: value for name, value in parameters.items() if name not in others}


def of_workflow(parameters: Mapping[str, str]) -> dict[str, str]:
    names = declared(WORKFLOW)
    return {name: value for name, value in parameters.items() if name in names}


def declared(template: Path) -> set[str]:
    return {*read_template(template)["Parameters"]}


def release_plan(change_set: ChangeSet, stack: Stack, session: Session) -> None:
    """CloudFormation cannot delete a usage plan that has an API, and knows nothing of ours."""
    plans = [each for each in change_set.changes if each.kind == "AWS::ApiGateway::UsagePlan"]
    if any(plan.action == "Remove" for plan in plans):
        close_to_keys(session.client("apigateway"), stack.outputs()["ApiPlanId"])


def _apply(
    stack: Stack,
    template: Path,
    parameters: Mapping[str, str],
    tags: Mapping[str, str],
    names: Mapping[str, str],
    *,
    may_lose: bool,
    prepare: Callable[[ChangeSet], None] = lambda _: None,
) -> None:
    """``prepare`` is called once it is agreed on."""
    change_set = stack.propose(template, parameters, tags, names)
    if change_set is None:
        print("  unchanged")
        return
    print_changes(change_set)
    if any(change.is_loss for change in change_set.changes) and not (may_lose or _is_agreed()):
        stack.drop(change_set.name, is_new=change_set.is_new)
        raise StepFailed(
            "Nothing was changed. If the data may go, say so when asked, or by --allow-data-loss."
        )
    prepare(change_set)
    stack.apply(change_set, _progress(len(change_set.changes)))


def _progress(total: int) -> Any:
    done = 0

    def report(line: str) -> None:
        nonlocal done
        done += 1
        print(f"  {min(done, total):>3}/{total}  {line}", flush=True)

    return report


def print_changes(change_set: ChangeSet) -> None:
    for change in change_set.changes:
        print(f"  {change}{'   ← its data goes' if change.is_loss else ''}")


def write_configuration(stage: str, outputs: Mapping[str, str]) -> None:
    """Work the stack's outputs into ``.chalice/config.json``."""
    config = json.loads(CONFIG.read_text())
    configured = configure(config, stage, outputs)
    if configured == config:
        print("  unchanged")
        return
    CONFIG.write_text(json.dumps(configured, indent=2) + "\n")
    print(f"  {CONFIG.relative_to(PROJECT)}: the stage {stage} knows its resources and roles")


def _deploy_functions(stage: str, packaged: Path, store: StateStore, session: Session) -> State:
    """What is deployed then."""
    config = chalice_config(stage)
    deployed = Deployed(session, config.app_name, stage)
    state = store.load()
    fingerprint = fingerprint_of(packaged, json.loads(CONFIG.read_text()), stage)
    if state.fingerprint == fingerprint and is_on_lambda(packaged, state, deployed):
        write_chalice_state(PROJECT, stage, state)
        print("  unchanged")
        return state
    before = State(chalice=deployed.completed(state.chalice))
    write_chalice_state(PROJECT, stage, before)
    store.save(before)  # without a fingerprint: until it is done, it is to be done
    run_chalice("deploy", stage)
    return State(
        chalice=read_chalice_state(PROJECT, stage),
        fingerprint=fingerprint,
        deployed_at=timestamp(utc_now()),
        deployed_by=who(),
    )


def fingerprint_of(packaged: Path, config: Mapping[str, Any], stage: str) -> str:
    """Of all that a deployment by Chalice is made of: the package and the configuration."""
    common = {name: value for name, value in config.items() if name != "stages"}
    made_of = json.dumps([common, config["stages"][stage]], sort_keys=True).encode()
    return hashlib.sha256(hashlib.sha256(packaged.read_bytes()).digest() + made_of).hexdigest()


def is_on_lambda(packaged: Path, state: State, deployed: Deployed) -> bool:
    """Whether Lambda has every function with this very package, whatever was done by hand."""
    sha256 = base64.b64encode(hashlib.sha256(packaged.read_bytes()).digest()).decode()
    recorded = {
        resource["lambda_arn"]
        for resource in state.chalice["resources"]
        if resource["resource_type"] == "lambda_function"
    }
    return recorded == {each.arn for each in deployed.functions() if each.sha256 == sha256}


def run_chalice(command: str, stage: str) -> None:
    """Run Chalice's own command. Raises StepFailed with its last words.

    The app is loaded for it, which would take settings that the stage leaves out from this very
    shell: a route's guard must not depend on who deploys.
    """
    words = [sys.executable, "-c", CHALICE, command, "--stage", stage]
    last: list[str] = []
    settings = {setting.name.upper() for setting in fields(Settings)}
    environ = {name: value for name, value in os.environ.items() if name not in settings}
    with subprocess.Popen(
        words, cwd=PROJECT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as chalice:
        for line in chalice.stdout or ():
            last = [*last[-20:], line]
            if not line.startswith(("  ", "Traceback")):
                print(f"  {line.rstrip()}", flush=True)
    if chalice.returncode:
        raise StepFailed(
            f"`chalice {command} --stage {stage}` failed:\n{''.join(last).strip()}\n"
            "Mend that, then run it again: it goes on."
        )


def _beyond_chalice(
    config: Config, api: Mapping[str, str], outputs: Mapping[str, str], session: Session
) -> None:
    queue = WorkQueue(session.client("sqs"), outputs["WorkQueueUrl"])
    done = [
        f"what {function} fails at for good goes to the dead-letter queue"
        for function in set_destinations(config, queue)
    ]
    variables = variables_of(config.chalice_stage)
    auth, origins = (setting_of(variables, name) for name in ("api_auth", "api_allowed_origins"))
    gateway = Gateway(session.client("apigateway"), api["rest_api_id"], config.api_gateway_stage)
    done += gateway.configure(
        tags={TAG: config.chalice_stage},
        errors=responses(auth, origins),
        access_log_arn=outputs["ApiLogGroupArn"],
        requests_per_s=float(outputs["ApiRequestsPerSecond"]),
        burst=int(outputs["ApiBurst"]),
        traced=bool(config.xray_enabled),
    )
    if "ApiPlanId" in outputs:
        done += gateway.open_to_keys(outputs["ApiPlanId"])
    starts_from_s3 = outputs.get("StartFromS3") == "true"
    done += tell_eventbridge(outputs["UploadsBucket"], session, wanted=starts_from_s3)
    for line in done or ["unchanged"]:
        print(f"  {line}")


def _proof(outputs: Mapping[str, str], session: Session) -> Proof | None:
    """What the API asks of a caller, as far as whoever deploys has it."""
    if "UserPoolId" in outputs:
        return None
    if "ApiKeyId" not in outputs:
        return signed(session)
    key = session.client("apigateway").get_api_key(apiKey=outputs["ApiKeyId"], includeValue=True)
    return lambda _url: {"x-api-key": key["value"]}


# ── what came of it ──────────────────────────────────────────────────────────────────────────────


def _api_of(record: Mapping[str, Any]) -> dict[str, str]:
    api: dict[str, str] = next(
        each for each in record["resources"] if each["resource_type"] == "rest_api"
    )
    return api


def api_url(api: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Where the API answers, with a slash at its end. An emulator serves it at its own address."""
    url = api["rest_api_url"]
    if not (endpoint := environ.get("AWS_ENDPOINT_URL", "").rstrip("/")):
        return url
    api_stage = url.rstrip("/").rpartition("/")[2]
    return f"{endpoint}/restapis/{api['rest_api_id']}/{api_stage}/_user_request_/"


def summary(stage: str, url: str, outputs: Mapping[str, str], target: Target) -> str:
    """The last words of a deployment: what is where."""
    console = (
        f"https://{target.region}.console.aws.amazon.com/cloudwatch/home?region={target.region}"
    )
    rows = {
        "API": f"{url}images",
        "Page": url,
        "Upload": f"aws s3 cp cat.jpg s3://{outputs['UploadsBucket']}/uploads/",
        "Dashboard": f"{console}#dashboards/dashboard/{outputs['DashboardName']}",
        "Logs": f"python -m infrastructure logs --stage {stage} --follow",
        "State": f"python -m infrastructure status --stage {stage}",
    }
    if "ApiKeyId" in outputs:
        rows["Key"] = (
            f"aws apigateway get-api-key --api-key {outputs['ApiKeyId']} --include-value "
            f"--query value --output text --region {target.region}"
        )
    if "UserPoolId" in outputs:
        rows["Invite"] = (
            f"aws cognito-idp admin-create-user --user-pool-id {outputs['UserPoolId']} "
            "--username ada@example.com --user-attributes Name=email_verified,Value=true "
            f"Name=email,Value=ada@example.com --region {target.region}"
        )
    return f"\nStage {stage} is up.\n" + "\n".join(
        f"  {name:<10} {row}" for name, row in rows.items()
    )


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"is NAME=VALUE, not {text!r}")
    return name, value


def _is_agreed() -> bool:
    if not sys.stdin.isatty():
        return False
    return input("  Go on? [y/N] ").strip().lower() in {"y", "yes"}
