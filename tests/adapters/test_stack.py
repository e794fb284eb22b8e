"""Stacks as CloudFormation makes, changes and takes them away, and the commands that read them."""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from infrastructure import deploy, destroy, logs, status
from infrastructure import stage as stages
from infrastructure.deploy import ACCOUNT_STACK, ACCOUNT_TEMPLATE, StepFailed
from infrastructure.stack import MAX_INLINE_BYTES, POLL_S, Stack, StackFailed
from infrastructure.stage import TAG, TEMPLATE
from infrastructure.template import rendered
from localcloud.emulator import REGION, Emulator
from tests.adapters.conftest import Operations

NUMBERS = count(1)
ACCOUNT = "000000000000"
NAMES = {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION}

Resources = Mapping[str, Any]
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def client(emulator: Emulator) -> Any:
    return emulator.client("cloudformation")


@pytest.fixture
def name() -> str:
    """Of a stack, and of what is in it, that no other test has."""
    return f"stack-{next(NUMBERS)}"


def nap(_: float) -> None:
    """The emulator is done sooner than CloudFormation."""
    time.sleep(0.02)


@pytest.fixture
def stack(client: Any, name: str) -> Stack:
    return Stack(client, name, sleep=nap)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a template; gives its path."""

    def write(resources: Resources, **sections: Any) -> Path:
        path = tmp_path / f"template-{next(NUMBERS)}.json"
        path.write_text(json.dumps({**sections, "Resources": resources}))
        return path

    return write


def deployed(
    stack: Stack,
    template: Path,
    parameters: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> list[str]:
    """Change a stack into what the template says; what is reported of it."""
    change_set = stack.propose(template, parameters or {}, tags or {}, NAMES)
    assert change_set is not None
    told: list[str] = []
    stack.apply(change_set, told.append)
    return told


def silent(_: str) -> None:
    """Nobody reads it."""


def queue(name: str, **properties: Any) -> dict[str, Any]:
    return {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": name, **properties}}


def bucket(name: str, **attributes: Any) -> dict[str, Any]:
    return {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": name}, **attributes}


def table(name: str, key: str = "pk") -> dict[str, Any]:
    return {
        "Type": "AWS::DynamoDB::Table",
        "Properties": {
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
        },
    }


def alarm(name: str) -> dict[str, Any]:
    properties = {
        "AlarmName": name,
        "Namespace": "N",
        "MetricName": "m",
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanThreshold",
    }
    return {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}


def impossible(name: str) -> dict[str, Any]:
    """A queue that SQS refuses: a FIFO queue's name ends in .fifo."""
    return queue(name, FifoQueue=True)


def names_of_stacks(client: Any) -> set[str]:
    """All there are, those that have a change set alone too."""
    return {
        each["StackName"]
        for each in client.list_stacks()["StackSummaries"]
        if each["StackStatus"] != "DELETE_COMPLETE"
    }


def queues(emulator: Emulator, prefix: str) -> set[str]:
    urls = emulator.client("sqs").list_queues(QueueNamePrefix=prefix).get("QueueUrls", ())
    return {url.rpartition("/")[2] for url in urls}


# ── making ───────────────────────────────────────────────────────────────────────────────────────


def test_stack_is_made_of_what_was_proposed(
    stack: Stack, name: str, write: Write, emulator: Emulator
) -> None:
    """First it is said what will come, then it comes, a line for each; tags and outputs are on."""
    template = write({"Q": queue(name)}, Outputs={"Url": {"Value": {"Ref": "Q"}}})
    change_set = stack.propose(template, {}, {TAG: "dev"})
    assert change_set is not None
    assert change_set.is_new
    assert [str(change).split() for change in change_set.changes] == [
        ["Add", "AWS::SQS::Queue", "Q"]
    ]
    assert not queues(emulator, name)
    assert stack.describe() is None

    told: list[str] = []
    stack.apply(change_set, told.append)

    assert [line.split() for line in told] == [["CREATE_COMPLETE", "Q"], ["CREATE_COMPLETE", name]]
    assert queues(emulator, name) == {name}
    assert stack.outputs()["Url"].endswith(f"/{name}")
    description = stack.describe()
    assert description is not None
    assert description["Tags"] == [{"Key": TAG, "Value": "dev"}]
    assert [each["LogicalResourceId"] for each in stack.resources()] == ["Q"]


def test_nothing_is_proposed_where_nothing_would_change(
    stack: Stack, name: str, write: Write, client: Any
) -> None:
    """And no change set is left behind: an account has room for some only."""
    template = write({"Q": queue(name)})
    deployed(stack, template, tags={TAG: "dev"})
    before = client.list_change_sets(StackName=name)["Summaries"]

    assert stack.propose(template, {}, {TAG: "dev"}) is None
    assert client.list_change_sets(StackName=name)["Summaries"] == before


def test_what_happened_before_is_not_reported_again(stack: Stack, name: str, write: Write) -> None:
    """A change reports what it does itself."""
    deployed(stack, write({"Q": queue(name)}))

    told = deployed(stack, write({"Q": queue(name), "R": queue(f"{name}-r")}))

    lines = [line.split() for line in told]
    assert lines[-1] == ["UPDATE_COMPLETE", name]
    assert "R" in {resource for _, resource in lines}
    assert not {("CREATE_COMPLETE", "Q"), ("CREATE_COMPLETE", name)} & {*map(tuple, lines)}


def test_what_is_not_there_yet_is_waited_for(stack: Stack, write: Write, client: Any) -> None:
    """CloudFormation works while somebody waits, and is asked now and then."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        nap(seconds)

    patient = Stack(client, stack.name, sleep=sleep)
    pending = iter(["CREATE_PENDING", "CREATE_IN_PROGRESS"])
    with Operations(client) as operations:
        operations.change_answer(
            "cloudformation.DescribeChangeSet",
            lambda answer: answer.update(Status=next(pending, answer["Status"])),
        )
        change_set = patient.propose(write({"Q": queue(stack.name)}), {}, {})

    assert change_set is not None
    assert slept == [POLL_S, POLL_S]
    patient.apply(change_set, silent)
    assert set(slept) == {POLL_S}


def test_absent_stack_has_no_outputs_and_says_so(stack: Stack) -> None:
    assert stack.describe() is None
    with pytest.raises(StackFailed, match=f"no stack {stack.name} here: deploy it first"):
        stack.outputs()


def test_not_being_allowed_to_look_is_not_taken_for_nothing_there(
    stack: Stack, client: Any
) -> None:
    """Or a second stage would be made beside the first."""
    with Operations(client) as operations:
        denied = {"Error": {"Code": "AccessDenied", "Message": "No."}}
        operations.before("cloudformation.DescribeStacks", denied)
        with pytest.raises(ClientError, match="AccessDenied"):
            stack.describe()


# ── parameters ───────────────────────────────────────────────────────────────────────────────────

PARAMETERS = {name: {"Type": "String", "Default": "default"} for name in ("A", "B")}


def told_by(stack: Stack) -> dict[str, str]:
    return {name: value for name, value in stack.outputs().items() if name in PARAMETERS}


@pytest.fixture
def parametrized(write: Write, name: str) -> Path:
    outputs = {each: {"Value": {"Ref": each}} for each in PARAMETERS}
    return write({"Q": queue(name)}, Parameters=PARAMETERS, Outputs=outputs)


def test_parameter_that_is_not_given_keeps_its_value(stack: Stack, parametrized: Path) -> None:
    """A mail address is given once, and not at every deployment."""
    deployed(stack, parametrized, {"A": "1", "B": "2"})

    assert stack.propose(parametrized, {}, {}) is None
    assert stack.propose(parametrized, {"A": "1"}, {}) is None
    assert told_by(stack) == {"A": "1", "B": "2"}


def test_parameter_of_a_new_stack_is_the_templates(stack: Stack, parametrized: Path) -> None:
    deployed(stack, parametrized, {"B": "2"})

    assert told_by(stack) == {"A": "default", "B": "2"}


def test_parameter_that_the_template_has_gained_is_the_templates(
    stack: Stack, parametrized: Path, write: Write, name: str
) -> None:
    """There is no earlier value to keep."""
    deployed(stack, write({"Before": queue(f"{name}-before")}))

    deployed(stack, parametrized, {"B": "2"})

    assert told_by(stack) == {"A": "default", "B": "2"}


def test_parameter_that_the_template_has_lost_is_let_go(
    stack: Stack, parametrized: Path, write: Write, name: str
) -> None:
    deployed(stack, parametrized, {"A": "1"})

    deployed(stack, write({"Q": queue(name, DelaySeconds=5)}))

    assert told_by(stack) == {}


@pytest.mark.parametrize("exists", [False, True])
def test_unknown_parameter_is_named_beside_those_there_are(
    stack: Stack, parametrized: Path, client: Any, *, exists: bool
) -> None:
    """Nothing is changed, and no empty stack is left behind."""
    if exists:
        deployed(stack, parametrized, {"A": "1"})

    with pytest.raises(StackFailed, match=r"no parameter C, D; there are A, B\."):
        stack.propose(parametrized, {"A": "2", "D": "", "C": ""}, {})

    assert (stack.name in names_of_stacks(client)) is exists
    assert not exists or told_by(stack)["A"] == "1"


# ── refused ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "is no YAML"),
        ('{"Resources": {"Q": {"Type": "AWS::SQS::Nothing"}}}', "AWS::SQS::Nothing"),
    ],
)
def test_invalid_template_is_refused_with_the_reason(
    body: str, reason: str, stack: Stack, client: Any, tmp_path: Path
) -> None:
    """In CloudFormation's words; nothing is left behind."""
    template = tmp_path / "template.json"
    template.write_text(body)

    with pytest.raises((StackFailed, ClientError), match=reason):
        stack.propose(template, {}, {})

    assert stack.name not in names_of_stacks(client)


def refuse_change_set(operations: Operations) -> None:
    """Have CloudFormation find out that it cannot be, once it looks at a change set."""
    operations.change_answer(
        "cloudformation.DescribeChangeSet",
        lambda answer: answer.update(Status="FAILED", StatusReason="Circular dependency: Q"),
    )


def test_change_set_that_fails_says_why_and_leaves_nothing(
    stack: Stack, name: str, write: Write, client: Any
) -> None:
    """In CloudFormation's words, with the template's name."""
    template = write({"Q": queue(name)})

    with Operations(client) as operations:
        refuse_change_set(operations)
        with pytest.raises(StackFailed, match=rf"refuses {template.name}: Circular dependency: Q"):
            stack.propose(template, {}, {})

    assert name not in names_of_stacks(client)


def test_reason_is_told_even_if_the_change_set_cannot_be_dropped(
    stack: Stack, name: str, write: Write, client: Any
) -> None:
    """That is the lesser trouble."""
    with Operations(client) as operations:
        refuse_change_set(operations)
        denied = {"Error": {"Code": "AccessDenied", "Message": "No."}}
        operations.before("cloudformation.DeleteChangeSet", denied)
        with pytest.raises(StackFailed, match="Circular dependency: Q"):
            stack.propose(write({"Q": queue(name)}), {}, {})


def test_template_that_is_too_large_is_refused_before_anybody_is_asked(
    stack: Stack, tmp_path: Path, client: Any
) -> None:
    """By its bytes: CloudFormation counts those of UTF-8, and takes no more directly."""
    template = tmp_path / "template.yaml"
    template.write_text(f"Resources: {{}}\nDescription: {'é' * (MAX_INLINE_BYTES // 2)}")

    with Operations(client) as operations, pytest.raises(StackFailed, match="51,200 bytes"):
        stack.propose(template, {}, {})
    assert not operations.made


def test_templates_of_the_project_are_small_enough() -> None:
    """The tool gives them directly, without a bucket."""
    for template in (TEMPLATE, ACCOUNT_TEMPLATE):
        assert len(rendered(template, {"Stage": "prod"}).encode()) <= MAX_INLINE_BYTES


@pytest.mark.parametrize("state", ["ROLLBACK_FAILED", "DELETE_FAILED"])
def test_stack_that_cannot_be_changed_says_what_to_do(
    state: str, stack: Stack, write: Write, client: Any
) -> None:
    """Instead of CloudFormation's refusal, which says the state alone."""
    template = write({"Q": queue(stack.name)})
    deployed(stack, template)

    with Operations(client) as operations:
        operations.change_answer(
            "cloudformation.DescribeStacks",
            lambda answer: answer["Stacks"][0].update(StackStatus=state),
        )
        with pytest.raises(StackFailed, match=f"{state}.*`destroy` it"):
            stack.propose(template, {}, {})
        assert "CreateChangeSet" not in operations.made


def test_stack_that_is_being_changed_is_waited_for(
    stack: Stack, name: str, write: Write, client: Any
) -> None:
    """Whoever began it may have died; CloudFormation goes on."""
    deployed(stack, write({"Q": queue(name)}))
    slept: list[float] = []
    patient = Stack(client, name, sleep=slept.append)

    states = iter(["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"])
    with Operations(client) as operations:
        operations.change_answer(
            "cloudformation.DescribeStacks",
            lambda answer: answer["Stacks"][0].update(
                StackStatus=next(states, answer["Stacks"][0]["StackStatus"])
            ),
        )
        change_set = patient.propose(write({"Q": queue(name, DelaySeconds=5)}), {}, {})

    assert change_set is not None
    assert not change_set.is_new
    assert slept[:2] == [POLL_S, POLL_S]


# ── failing ──────────────────────────────────────────────────────────────────────────────────────


def test_resource_that_fails_is_named_with_the_first_reason(
    stack: Stack, name: str, write: Write, emulator: Emulator
) -> None:
    """What is cancelled after it has a reason, too, which is none. What was made is gone again."""
    second = impossible(f"{name}-second") | {"DependsOn": "First"}
    change_set = stack.propose(
        write({"Made": queue(name), "First": impossible(f"{name}-first"), "Second": second}), {}, {}
    )
    assert change_set is not None

    told: list[str] = []
    with pytest.raises(StackFailed, match=rf"{name} ended as ROLLBACK_COMPLETE\. First: .*fifo"):
        stack.apply(change_set, told.append)

    assert any(line.split() == ["CREATE_FAILED", "First"] for line in told)
    assert not queues(emulator, name)


def test_stack_that_could_not_be_made_is_made_anew(
    stack: Stack, name: str, write: Write, emulator: Emulator
) -> None:
    """CloudFormation changes no such stack; there is nothing in it that could be lost."""
    with pytest.raises(StackFailed, match="First"):
        deployed(stack, write({"First": impossible(name)}))

    change_set = stack.propose(write({"First": queue(name)}), {}, {})
    assert change_set is not None
    assert change_set.is_new
    stack.apply(change_set, silent)

    assert queues(emulator, name) == {name}


def test_stack_that_could_not_be_made_is_taken_away(
    stack: Stack, name: str, write: Write, client: Any
) -> None:
    with pytest.raises(StackFailed, match="First"):
        deployed(stack, write({"First": impossible(name)}))

    stack.delete(silent)

    assert name not in names_of_stacks(client)


def test_change_that_fails_leaves_the_stack_as_it_was(
    stack: Stack, name: str, write: Write, emulator: Emulator
) -> None:
    """And to be changed again."""
    deployed(stack, write({"Q": queue(name)}))

    with pytest.raises(StackFailed, match=r"UPDATE_ROLLBACK_COMPLETE\. R: .*fifo"):
        deployed(stack, write({"Q": queue(name), "R": impossible(f"{name}-r")}))

    assert queues(emulator, name) == {name}
    deployed(stack, write({"Q": queue(name), "R": queue(f"{name}-r")}))
    assert queues(emulator, name) == {name, f"{name}-r"}


# ── data ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_goes_with_its_data_is_marked_as_loss(stack: Stack, name: str, write: Write) -> None:
    """A bucket, queue or table that is replaced or removed; an alarm has nothing in it."""
    deployed(
        stack,
        write(
            {
                "Renamed": bucket(f"{name}-old"),
                "Rekeyed": table(f"{name}-old"),
                "Removed": bucket(f"{name}-b"),
                "RemovedTable": table(f"{name}-t"),
                "RemovedAlarm": alarm(f"{name}-a"),
                "RenamedAlarm": alarm(f"{name}-c"),
                "RemovedQueue": queue(f"{name}-q"),
                "Changed": queue(name),
            }
        ),
    )

    change_set = stack.propose(
        write(
            {
                "Renamed": bucket(f"{name}-new"),
                "Rekeyed": table(f"{name}-new", key="id"),
                "RenamedAlarm": alarm(f"{name}-d"),
                "Changed": queue(name, DelaySeconds=5),
                "Added": bucket(f"{name}-added"),
            }
        ),
        {},
        {},
    )

    assert change_set is not None
    changes = {change.logical_id: change for change in change_set.changes}
    assert {each: change.is_loss for each, change in changes.items()} == {
        **dict.fromkeys(("Renamed", "Rekeyed", "Removed", "RemovedTable", "RemovedQueue"), True),
        **dict.fromkeys(("RemovedAlarm", "RenamedAlarm", "Changed", "Added"), False),
    }
    assert str(changes["Renamed"]).startswith("Replace ")
    assert str(changes["Removed"]).startswith("Remove ")
    assert str(changes["Changed"]).startswith("Modify ")


@pytest.mark.usefixtures("nobody_at_the_terminal")
def test_loss_of_data_that_nobody_agrees_to_changes_nothing(
    stack: Stack, name: str, write: Write, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said what would go, and how to have it go; the change set is dropped."""
    deployed(stack, write({"B": bucket(name), "Q": queue(name)}))
    without = write({"Q": queue(name)})
    before = client.list_change_sets(StackName=name)["Summaries"]

    with pytest.raises(StepFailed, match=r"Nothing was changed\..*--allow-data-loss"):
        apply(stack, without, may_lose=False)

    assert "its data goes" in capsys.readouterr().out
    assert {each["LogicalResourceId"] for each in stack.resources()} == {"B", "Q"}
    assert client.list_change_sets(StackName=name)["Summaries"] == before


@pytest.mark.usefixtures("nobody_at_the_terminal")
def test_loss_of_data_that_is_allowed_is_done(stack: Stack, name: str, write: Write) -> None:
    deployed(stack, write({"B": bucket(name), "Q": queue(name)}))

    apply(stack, write({"Q": queue(name)}), may_lose=True)

    assert {each["LogicalResourceId"] for each in stack.resources()} == {"Q"}


def apply(stack: Stack, template: Path, *, may_lose: bool) -> None:
    """The step of a deployment, without its package."""
    deploy._apply(stack, template, {}, {}, {}, may_lose=may_lose)  # noqa: SLF001 - see above


@pytest.fixture
def nobody_at_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO())


# ── dropping, taking away ────────────────────────────────────────────────────────────────────────


def test_dropped_change_set_of_a_new_stack_leaves_nothing(
    stack: Stack, write: Write, client: Any
) -> None:
    """``diff`` of a stage that is not there."""
    change_set = stack.propose(write({"Q": queue(stack.name)}), {}, {})
    assert change_set is not None

    stack.drop(change_set.name, is_new=change_set.is_new)

    assert stack.name not in names_of_stacks(client)


def test_dropped_change_set_leaves_a_stack_as_it_is(stack: Stack, name: str, write: Write) -> None:
    """``diff`` of one that is."""
    deployed(stack, write({"Q": queue(name)}))
    change_set = stack.propose(write({"R": queue(f"{name}-r")}), {}, {})
    assert change_set is not None

    stack.drop(change_set.name, is_new=change_set.is_new)

    assert [each["LogicalResourceId"] for each in stack.resources()] == ["Q"]


def test_dropping_does_not_take_away_what_somebody_else_has_made(
    stack: Stack, name: str, write: Write, client: Any
) -> None:
    """``diff`` beside the first deployment of the same stage changes nothing, too."""
    template = write({"Q": queue(name)})
    looked_at = stack.propose(template, {}, {})
    assert looked_at is not None
    deployed(Stack(client, name, sleep=nap), template)

    stack.drop(looked_at.name, is_new=looked_at.is_new)

    assert [each["LogicalResourceId"] for each in stack.resources()] == ["Q"]
    description = stack.describe()
    assert description is not None
    assert description["StackStatus"] == "CREATE_COMPLETE"


def test_stack_is_taken_away_with_a_line_for_each(
    stack: Stack, name: str, write: Write, emulator: Emulator
) -> None:
    """But for what its template retains; a second time there is nothing to do."""
    deployed(stack, write({"Q": queue(name), "Kept": bucket(name, DeletionPolicy="Retain")}))

    told: list[str] = []
    stack.delete(told.append)

    assert ["DELETE_COMPLETE", "Q"] in [line.split() for line in told]
    assert stack.describe() is None
    assert not queues(emulator, name)
    emulator.client("s3").head_bucket(Bucket=name)
    stack.delete(lambda _: pytest.fail("Nothing is there."))


def test_what_is_gone_is_no_resource_of_a_stack(
    stack: Stack, name: str, write: Write, client: Any
) -> None:
    """``destroy`` would empty a bucket that is not there, and the stage could not be mended.

    After a failed creation CloudFormation lists everything as DELETE_COMPLETE, and what could not
    be created without an id (ListStackResources). The emulator lists nothing then.
    """
    deployed(stack, write({"Q": queue(name)}))
    gone = {
        "LogicalResourceId": "B",
        "PhysicalResourceId": name,
        "ResourceType": "AWS::S3::Bucket",
        "ResourceStatus": "DELETE_COMPLETE",
    }
    never = {
        "LogicalResourceId": "C",
        "ResourceType": "AWS::S3::Bucket",
        "ResourceStatus": "CREATE_FAILED",
    }
    with Operations(client) as operations:
        operations.change_answer(
            "cloudformation.ListStackResources",
            lambda answer: answer["StackResourceSummaries"].extend([gone, never]),
        )
        assert [each["LogicalResourceId"] for each in stack.resources()] == ["Q"]


# ── the project's own template ───────────────────────────────────────────────────────────────────


@pytest.fixture
def empty() -> Iterator[Emulator]:
    """An AWS with nothing in it at all."""
    with Emulator() as emulator:
        yield emulator


def stage_stack(emulator: Emulator, stage: str) -> Stack:
    return Stack(emulator.client("cloudformation"), stages.stack_name(stage), sleep=nap)


def make_stage(emulator: Emulator, stage: str, **parameters: str) -> Stack:
    """The resources of a stage, as a deployment makes them."""
    stack = stage_stack(emulator, stage)
    deployed(stack, TEMPLATE, {"Stage": stage, **parameters}, {TAG: stage})
    return stack


def holdings(emulator: Emulator) -> dict[str, set[str]]:
    """All that has data in it, and what makes names taken."""
    client = emulator.client
    urls = client("sqs").list_queues().get("QueueUrls", ())
    return {
        "buckets": {each["Name"] for each in client("s3").list_buckets()["Buckets"]},
        "tables": set(client("dynamodb").list_tables()["TableNames"]),
        "queues": {url.rpartition("/")[2] for url in urls},
        "users": {
            each["Name"]
            for each in client("cognito-idp").list_user_pools(MaxResults=60)["UserPools"]
        },
        "logs": {
            each["logGroupName"] for each in client("logs").describe_log_groups()["logGroups"]
        },
        "topics": {each["TopicArn"] for each in client("sns").list_topics()["Topics"]},
        "roles": {each["RoleName"] for each in client("iam").list_roles()["Roles"]},
        "alarms": {
            each["AlarmName"] for each in client("cloudwatch").describe_alarms()["MetricAlarms"]
        },
    }


def test_stage_for_trying_leaves_nothing(empty: Emulator) -> None:
    """Once its buckets are empty."""
    before = holdings(empty)
    stack = make_stage(empty, "dev", ApiAuth="cognito")
    assert all(made for made in holdings(empty).values())

    stack.delete(silent)

    assert holdings(empty) == before


def test_production_keeps_what_has_data_in_it(empty: Emulator) -> None:
    """Originals, renditions, the record of deployments, the catalog and users."""
    before = holdings(empty)
    make_stage(empty, "prod", ApiAuth="cognito").delete(silent)

    kept = {kind: names - before[kind] for kind, names in holdings(empty).items()}
    assert kept == {
        "buckets": {
            f"image-pipeline-prod-{each}-{ACCOUNT}-{REGION}"
            for each in ("uploads", "renditions", "deployments")
        },
        "tables": {"image-pipeline-prod"},
        "users": {"image-pipeline-prod"},
        **{kind: set() for kind in ("queues", "logs", "topics", "roles", "alarms")},
    }


@pytest.mark.usefixtures("environ")
def test_dead_letters_of_production_are_not_lost(emulator: Emulator) -> None:
    """Its queue cannot be kept for the next stack, so it is not taken away while it holds any."""
    stack = make_stage(emulator, "prod")
    session = boto3.Session()
    destroy.require_no_dead_letters("prod", stack, session)
    queue = stack.outputs()["DeadLetterQueueUrl"]
    emulator.client("sqs").send_message(QueueUrl=queue, MessageBody="{}")

    with pytest.raises(StackFailed, match="dlq --stage prod"):
        destroy.require_no_dead_letters("prod", stack, session)

    stack.delete(silent)


def test_production_takes_over_what_it_has_kept(empty: Emulator) -> None:
    """Buckets and table are imported, and not made. The emulator goes no further than to say so."""
    make_stage(empty, "prod").delete(silent)

    again = stage_stack(empty, "prod").propose(TEMPLATE, {"Stage": "prod"}, {TAG: "prod"}, NAMES)

    assert again is not None
    actions: dict[str, set[str]] = {}
    for change in again.changes:
        actions.setdefault(change.action, set()).add(change.logical_id)
    assert actions["Import"] == {"Uploads", "Renditions", "Deployments", "Catalog"}
    assert actions.keys() == {"Import", "Add"}


# ── commands ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def environ(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The commands work on the emulator, and write into a project of their own."""
    for variable, value in emulator.client_environ.items():
        monkeypatch.setenv(variable, value)
    config = tmp_path / ".chalice" / "config.json"
    config.parent.mkdir()
    config.write_text(stages.CONFIG.read_text())
    for module in (stages, deploy):
        monkeypatch.setattr(module, "CONFIG", config)
    for module in (deploy, destroy):
        monkeypatch.setattr(module, "PROJECT", tmp_path)
    monkeypatch.setattr("infrastructure.stack.POLL_S", 0.02)


def options(module: Any, stage: str, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage")
    module.add_arguments(parser)
    return parser.parse_args(["--stage", stage, *words])


@pytest.fixture
def dev(emulator: Emulator) -> Iterator[Stack]:
    """The resources of a stage, with an original in them; what is left of them goes."""
    stack = make_stage(emulator, "dev")
    s3, uploads = emulator.client("s3"), stack.outputs()["UploadsBucket"]
    for body in (b"cat", b"other cat"):
        s3.put_object(Bucket=uploads, Key="uploads/cat.jpg", Body=body)
    s3.delete_object(Bucket=uploads, Key="uploads/cat.jpg")
    yield stack
    if stack.describe() is not None:
        for version in (each := s3.list_object_versions(Bucket=uploads)).get("Versions", []) + (
            each.get("DeleteMarkers", [])
        ):
            s3.delete_object(Bucket=uploads, Key=version["Key"], VersionId=version["VersionId"])
        stack.delete(silent)


@pytest.fixture
def account(emulator: Emulator) -> Iterator[Stack]:
    """What an account needs once, whatever stages it has."""
    stack = Stack(emulator.client("cloudformation"), ACCOUNT_STACK, sleep=nap)
    deployed(stack, ACCOUNT_TEMPLATE)
    yield stack
    stack.delete(silent)
    emulator.client("apigateway").update_account(
        patchOperations=[{"op": "replace", "path": "/cloudwatchRoleArn", "value": ""}]
    )


def log_role(emulator: Emulator) -> str:
    role: str = emulator.client("apigateway").get_account().get("cloudwatchRoleArn", "")
    return role


@pytest.mark.usefixtures("environ", "nobody_at_the_terminal")
@pytest.mark.parametrize("confirmed", [(), ("--confirm", "prod"), ("--confirm", "DEV")])
def test_stage_is_not_taken_away_by_another_name(
    confirmed: tuple[str, ...], dev: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said what would go, and nothing does."""
    before = [each["PhysicalResourceId"] for each in dev.resources()]
    uploads = dev.outputs()["UploadsBucket"]

    assert destroy.run(options(destroy, "dev", *confirmed)) == 1

    said = capsys.readouterr()
    assert "Everything goes, with all that is in" in said.out
    assert uploads in said.out
    assert "Nothing was taken away" in said.err
    assert [each["PhysicalResourceId"] for each in dev.resources()] == before


@pytest.mark.usefixtures("environ")
def test_stage_is_taken_away_once_its_buckets_are_empty(
    dev: Stack, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """What nobody sees in them counts, too: versions, and the marker of a deleted object."""
    uploads = dev.outputs()["UploadsBucket"]

    assert destroy.run(options(destroy, "dev", "--confirm", "dev")) == 0

    assert f"{uploads} is empty" in capsys.readouterr().out
    assert dev.describe() is None
    assert uploads not in holdings(emulator)["buckets"]


@pytest.mark.usefixtures("environ", "dev")
def test_account_keeps_its_role_while_another_stage_needs_it(
    account: Stack, emulator: Emulator, stack: Stack, write: Write
) -> None:
    """And loses it with the last one, though that has been taken away before."""
    role = log_role(emulator)
    assert role
    deployed(stack, write({"Q": queue(stack.name)}), tags={TAG: "mine"})

    assert destroy.run(options(destroy, "dev", "--confirm", "dev")) == 0
    assert account.describe() is not None
    assert log_role(emulator) == role

    stack.delete(silent)
    assert destroy.run(options(destroy, "dev", "--confirm", "dev")) == 0
    assert account.describe() is None
    assert not log_role(emulator)


@pytest.mark.usefixtures("environ")
def test_status_of_a_stage_that_is_not_there_says_how_to_make_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status.run(options(status, "nothing")) == 1
    assert "python -m infrastructure deploy --stage nothing" in capsys.readouterr().out


@pytest.mark.usefixtures("environ")
def test_status_of_a_stage_that_could_not_be_made_says_so(
    emulator: Emulator, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is then that somebody asks."""
    stack = stage_stack(emulator, "broken")
    with pytest.raises(StackFailed):
        deployed(stack, write({"Q": impossible("broken")}))

    assert status.run(options(status, "broken")) == 1
    assert "ROLLBACK_COMPLETE" in capsys.readouterr().out


@pytest.fixture
def alarms(emulator: Emulator, dev: Stack) -> Iterator[list[str]]:
    """One of ``dev`` and one of ``dev-eu``, both raised."""
    cloudwatch = emulator.client("cloudwatch")
    [own, *_] = [
        each["PhysicalResourceId"]
        for each in dev.resources()
        if each["ResourceType"] == "AWS::CloudWatch::Alarm"
    ]
    other = "image-pipeline-dev-eu-dead-letters"
    cloudwatch.put_metric_alarm(
        **alarm(other)["Properties"], AlarmDescription="Look at the dead letters."
    )
    for each in (own, other):
        cloudwatch.set_alarm_state(AlarmName=each, StateValue="ALARM", StateReason="a test")
    yield [own, other]
    cloudwatch.delete_alarms(AlarmNames=[other])


@pytest.mark.usefixtures("environ")
def test_status_tells_of_the_stages_alarms(
    alarms: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status.run(options(status, "dev")) == 1
    assert alarms[0] in capsys.readouterr().out


@pytest.mark.usefixtures("environ")
def test_alarm_of_another_stage_is_not_this_ones(
    alarms: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """``dev-eu`` begins like ``dev``."""
    status.run(options(status, "dev"))

    assert alarms[1] not in capsys.readouterr().out


@pytest.fixture
def logged(emulator: Emulator, write: Write) -> Iterator[None]:
    """Two stages, ``at`` and ``at-eu``; in each the API and the sweep have said where they are."""
    client, made = emulator.client("logs"), []
    for stage in ("at", "at-eu"):
        groups = {
            "Api": f"/aws/lambda/image-pipeline-{stage}",
            "Sweep": f"/aws/lambda/image-pipeline-{stage}-sweep",
            "Access": f"/aws/apigateway/image-pipeline-{stage}",
        }
        resources = {
            name: {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": group}}
            for name, group in groups.items()
        }
        stack = stage_stack(emulator, stage)
        deployed(stack, write(resources))
        made.append(stack)
        for name, group in groups.items():
            client.create_log_stream(logGroupName=group, logStreamName="s")
            message = json.dumps({"level": "INFO", "message": f"{name} of {stage}"})
            event = {"timestamp": int(time.time() * 1000), "message": message}
            client.put_log_events(logGroupName=group, logStreamName="s", logEvents=[event])
    yield
    for stack in made:
        stack.delete(silent)


@pytest.mark.usefixtures("environ", "logged")
def test_logs_are_those_of_the_stages_functions(capsys: pytest.CaptureFixture[str]) -> None:
    """Not the lines of the API's own access log, and not another stage's."""
    assert logs.run(options(logs, "at")) == 0

    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said == [
        ["api_handler", "INFO", "Api", "of", "at"],
        ["sweep", "INFO", "Sweep", "of", "at"],
    ]


@pytest.mark.usefixtures("environ", "logged")
def test_logs_of_one_function_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """As lines were logged, if that is what is asked for; of one that is not there, nothing."""
    assert logs.run(options(logs, "at", "--function", "sweep", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["message"] == "Sweep of at"

    assert logs.run(options(logs, "at", "--function", "swept")) == 1
    assert capsys.readouterr().out == "No function of at is called swept.\n"


@pytest.mark.usefixtures("environ", "logged")
def test_logs_of_the_api_are_asked_for_by_the_name_they_are_shown_with(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert logs.run(options(logs, "at", "--function", "api_handler")) == 0
    assert "Api of at" in capsys.readouterr().out


@pytest.mark.usefixtures("environ", "logged")
def test_functions_of_a_stage_with_a_hyphen_have_their_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The template allows hyphens."""
    logs.run(options(logs, "at-eu"))

    shown = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert shown == {"api_handler", "sweep"}


@pytest.mark.usefixtures("environ", "logged")
def test_end_of_a_functions_name_is_no_functions_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert logs.run(options(logs, "at", "--function", "weep")) == 1
    assert "Sweep of at" not in capsys.readouterr().out
