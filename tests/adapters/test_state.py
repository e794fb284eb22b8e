"""What is deployed, by the record in the bucket, by Chalice's own, and in fact."""

import json
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from boto3 import Session
from botocore.exceptions import ClientError

from chalicelib.messages import timestamp
from chalicelib.pipeline import utc_now
from infrastructure.deployed import Deployed, Function
from infrastructure.state import (
    ABANDONED,
    Locked,
    State,
    StateStore,
    read_chalice_state,
    who,
    write_chalice_state,
)
from localcloud.emulator import REGION, Emulator
from tests.adapters.conftest import Operations, error_of

NUMBERS = count(1)
APP = "image-pipeline"
ACCOUNT = "000000000000"
LAMBDA = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
FULL = State(
    chalice={"resources": [{"name": "é", "resource_type": "rest_api"}], "schema_version": "2.0"},
    fingerprint="0f",
    deployed_at="2026-01-31T09:15:00.000Z",
    deployed_by="me@here",
)


@pytest.fixture(scope="module")
def s3(emulator: Emulator) -> Any:
    return emulator.client("s3")


@pytest.fixture
def store(s3: Any) -> StateStore:
    """The state of a stage that was never deployed, in a bucket with versions like the stage's."""
    bucket = f"state-{next(NUMBERS)}"
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return StateStore(s3, bucket)


# ── the record ───────────────────────────────────────────────────────────────────────────────────


def test_state_is_empty_where_nothing_was_deployed(store: StateStore) -> None:
    """As Chalice has it: no resources, and nothing that could be taken for up to date."""
    assert store.load() == State()
    assert store.load().chalice == {"resources": []}
    assert not store.load().fingerprint


def test_state_comes_back_as_it_was_saved(store: StateStore) -> None:
    """The last one of them."""
    store.save(State(fingerprint="before"))
    store.save(FULL)

    assert store.load() == FULL


def test_bucket_that_is_not_there_is_no_empty_state(s3: Any) -> None:
    """Or everything would be made a second time."""
    with pytest.raises(ClientError, match="NoSuchBucket"):
        StateStore(s3, "no-such-bucket").load()


def test_states_of_two_do_not_share_what_is_in_them() -> None:
    """A list that two had in common would mix two stages."""
    first, second = State(), State()
    first.chalice["resources"].append({"name": "only here"})

    assert second.chalice == {"resources": []}


def test_chalices_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Each stage's in a file of its own, where Chalice looks; the folder need not be there."""
    write_chalice_state(tmp_path, "dev", FULL)

    assert read_chalice_state(tmp_path, "dev") == FULL.chalice
    written = (tmp_path / ".chalice" / "deployed" / "dev.json").read_text()
    assert json.loads(written) == FULL.chalice


def test_without_chalices_record_nothing_is_deployed(tmp_path: Path) -> None:
    write_chalice_state(tmp_path, "prod", FULL)

    assert read_chalice_state(tmp_path, "dev") == {"resources": []}


# ── the lock ─────────────────────────────────────────────────────────────────────────────────────


def holder(store: StateStore) -> str:
    """Who has the lock; empty where nobody has."""
    held = store.client.list_objects_v2(Bucket=store.bucket, Prefix="lock.json").get("Contents")
    if not held:
        return ""
    body = store.client.get_object(Bucket=store.bucket, Key="lock.json")["Body"].read()
    return str(json.loads(body)["by"])


def leave_lock(store: StateStore, age: timedelta, by: str = "somebody@else") -> None:
    """As somebody does who dies while deploying."""
    lock = {"by": by, "since": timestamp(utc_now() - age)}
    store.client.put_object(Bucket=store.bucket, Key="lock.json", Body=json.dumps(lock).encode())


def test_lock_is_there_as_long_as_it_is_held(store: StateStore) -> None:
    """Under the name of its holder, and free for the next one afterwards."""
    for _ in range(2):
        with store.lock():
            assert holder(store) == who()
        assert not holder(store)


def test_lock_keeps_others_out_and_says_who_has_it_since_when(store: StateStore) -> None:
    """And where it is, for the case that its holder has died."""
    days = [timestamp(utc_now())[:10]]
    with store.lock():
        days.append(timestamp(utc_now())[:10])
        with pytest.raises(Locked) as refused, store.lock():
            pytest.fail("Two at once.")
        assert holder(store) == who()

    said = str(refused.value)
    assert who() in said
    assert any(day in said for day in days)
    assert "20 minutes" in said
    assert f"s3://{store.bucket}/lock.json" in said


def test_lock_is_given_back_after_a_failure(store: StateStore) -> None:
    """What fails is mended and run again, at once."""
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    assert not holder(store)


def test_lock_of_another_stage_is_no_hindrance(store: StateStore, s3: Any) -> None:
    """Each stage's bucket has its own."""
    s3.create_bucket(Bucket=f"{store.bucket}-other")

    with store.lock(), StateStore(s3, f"{store.bucket}-other").lock():
        assert holder(store) == who()


def test_lock_is_not_abandoned_before_its_time(store: StateStore) -> None:
    """A deployment may be slow."""
    leave_lock(store, ABANDONED - timedelta(minutes=1))

    with pytest.raises(Locked, match="somebody@else"), store.lock():
        pytest.fail("It is held.")
    assert holder(store) == "somebody@else"


def test_abandoned_lock_is_taken_over(store: StateStore) -> None:
    """Without anybody's doing, and given back like one's own."""
    leave_lock(store, ABANDONED + timedelta(minutes=1))

    with store.lock():
        assert holder(store) == who()
    assert not holder(store)


def test_abandoned_lock_is_taken_over_by_one_of_two(store: StateStore, emulator: Emulator) -> None:
    """Both have read that it is abandoned; S3 lets only the first one write."""
    leave_lock(store, ABANDONED + timedelta(minutes=1))
    slow = StateStore(emulator.client("s3"), store.bucket)

    with Operations(slow.client) as operations, ExitStack() as fast:
        operations.before("s3.PutObject", None, lambda: enter(fast, store.lock()))
        with pytest.raises(Locked, match="just begun"), slow.lock():
            pytest.fail("Two at once.")
        assert holder(store) == who()
    assert not holder(store)


def enter(stack: ExitStack, context: AbstractContextManager[None]) -> None:
    """For a lambda, whose value would be taken for an answer."""
    stack.enter_context(context)


def test_lock_that_was_taken_over_is_left_to_its_new_holder(store: StateStore) -> None:
    """Who was given up for dead and comes back does not open the door behind somebody else."""
    with store.lock():
        leave_lock(store, timedelta(0), by="new@holder")

    assert holder(store) == "new@holder"


def test_lock_that_somebody_has_deleted_is_given_back_without_a_word(store: StateStore) -> None:
    """As the refusal tells people to."""
    with store.lock():
        store.client.delete_object(Bucket=store.bucket, Key="lock.json")

    assert not holder(store)


def test_lock_that_is_given_back_while_it_is_looked_at_is_taken(
    store: StateStore, emulator: Emulator
) -> None:
    """Between the refusal and the look at who holds it."""
    leave_lock(store, timedelta(0))
    late = StateStore(emulator.client("s3"), store.bucket)

    with Operations(late.client) as operations:
        operations.before("s3.GetObject", lambda: unlock(store))
        with late.lock():
            assert holder(store) == who()


def test_lock_that_is_given_back_while_it_is_taken_over_is_taken(
    store: StateStore, emulator: Emulator
) -> None:
    """Its holder was slow and not dead; there is nothing to tell of."""
    leave_lock(store, ABANDONED + timedelta(minutes=1))
    late = StateStore(emulator.client("s3"), store.bucket)

    with Operations(late.client) as operations:
        operations.before("s3.PutObject", None, lambda: unlock(store))
        with late.lock():
            assert holder(store) == who()


def unlock(store: StateStore) -> None:
    store.client.delete_object(Bucket=store.bucket, Key="lock.json")


def test_no_right_to_lock_is_not_taken_for_somebody_elses_lock(
    store: StateStore, emulator: Emulator
) -> None:
    """What to do about it is another thing."""
    stranger = StateStore(emulator.client("s3"), store.bucket)

    with Operations(stranger.client) as operations:
        operations.before("s3.PutObject", error_of("AccessDenied"))
        with pytest.raises(ClientError, match="AccessDenied"), stranger.lock():
            pytest.fail("It has no lock.")


@pytest.mark.parametrize("name", ["LOGNAME", "USER", "LNAME", "USERNAME"])
def test_who_deploys_has_a_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the machine's, by which others find whom to ask."""
    for each in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "ada")

    assert who().startswith("ada@")


def test_who_has_no_name_deploys_nevertheless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run under a number that nobody has written down."""
    for each in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)

    assert "@" in who()


# ── what is there ────────────────────────────────────────────────────────────────────────────────


def code() -> bytes:
    """A package with nothing in it to run."""
    body = BytesIO()
    with zipfile.ZipFile(body, "w") as package:
        package.writestr("app.py", "def app(event, context): pass\n")
    return body.getvalue()


@pytest.fixture(scope="module")
def make(emulator: Emulator) -> Callable[..., str]:
    """Make a function as Chalice does; gives its ARN. Without a stage it is somebody else's."""
    client = emulator.client("lambda")

    def make(name: str, stage: str = "", app: str = APP) -> str:
        tags = {"aws-chalice": f"version=1.31.3:stage={stage}:app={app}"} if stage else {}
        made = client.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=f"arn:aws:iam::{ACCOUNT}:role/any",
            Handler="app.app",
            Code={"ZipFile": code()},
            Tags=tags,
        )
        arn: str = made["FunctionArn"]
        return arn

    return make


@pytest.fixture(scope="module")
def make_api(emulator: Emulator) -> Callable[[str, str], str]:
    """Make an API in front of a function, as Chalice does; gives its id."""
    client = emulator.client("apigateway")

    def make_api(function_arn: str, stage: str) -> str:
        uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{function_arn}"
        integration = {
            "type": "aws_proxy",
            "httpMethod": "POST",
            "uri": f"{uri}/invocations",
            "passthroughBehavior": "when_no_match",
        }
        get = {"responses": {}, "x-amazon-apigateway-integration": integration}
        document = {
            "swagger": "2.0",
            "info": {"version": "1.0", "title": APP},
            "paths": {"/images": {"get": get}},
        }
        api: str = client.import_rest_api(body=json.dumps(document).encode())["id"]
        client.create_deployment(restApiId=api, stageName=stage)
        return api

    return make_api


@pytest.fixture(scope="module")
def stages(
    emulator: Emulator, make: Callable[..., str], make_api: Callable[[str, str], str]
) -> dict[str, str]:
    """Two stages, ``dev`` and ``dev-eu``, and what others have made; the ids of what has one."""
    ids = {}
    for stage in ("dev", "dev-eu"):
        name = f"{APP}-{stage}"
        api_handler = make(name, stage)
        sweep = make(f"{name}-sweep", stage)
        worker = make(f"{name}-process_images", stage)
        upload = make(f"{name}-handle_upload", stage)
        ids[stage] = make_api(api_handler, f"{stage.replace('-', '')}v1")
        queue = emulator.client("sqs").create_queue(QueueName=f"{name}-work")["QueueUrl"]
        queue_arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue.rpartition('/')[2]}"
        ids[f"{stage} mapping"] = emulator.client("lambda").create_event_source_mapping(
            FunctionName=worker, EventSourceArn=queue_arn
        )["UUID"]
        bucket = f"{name}-uploads-{ACCOUNT}-{REGION}"
        emulator.client("s3").create_bucket(Bucket=bucket)
        trigger = {"LambdaFunctionArn": upload, "Events": ["s3:ObjectCreated:*"]}
        emulator.client("s3").put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"LambdaFunctionConfigurations": [trigger]}
        )
        events = emulator.client("events")
        events.put_rule(Name=f"{name}-sweep-event", ScheduleExpression="rate(1 hour)")
        events.put_targets(Rule=f"{name}-sweep-event", Targets=[{"Id": "1", "Arn": sweep}])
    make(f"{APP}-dev-by_hand")
    make(f"{APP}-dev-of_another_app", "dev", app=f"{APP}-dev")
    make("another-app-dev", "dev", app="another-app")
    emulator.client("events").put_rule(
        Name=f"{APP}-dev-by_hand-event", ScheduleExpression="rate(1 day)"
    )
    return ids


@pytest.fixture
def session(emulator: Emulator, stages: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Session:
    """One in whose account the stages are."""
    assert stages
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator.endpoint)
    return Session(region_name=REGION)


HANDLERS = ["api_handler", "handle_upload", "process_images", "sweep"]


@pytest.mark.parametrize("stage", ["dev", "dev-eu"])
def test_functions_are_the_stages_own_by_chalices_tag(stage: str, session: Session) -> None:
    """Not those of a stage whose name goes on where this one's ends, and nobody else's.

    The API of ``dev-eu`` has the name that a function ``eu`` of ``dev`` would have.
    """
    found = {each.handler: each for each in Deployed(session, APP, stage).functions()}

    assert sorted(found) == HANDLERS
    worker = found["process_images"]
    assert worker == Function(
        handler="process_images",
        name=f"{APP}-{stage}-process_images",
        arn=f"{LAMBDA}:{APP}-{stage}-process_images",
        sha256=worker.sha256,
        modified_at=worker.modified_at,
        runtime="python3.13",
    )
    assert worker.modified_at
    assert len(worker.sha256) == 44
    assert found["api_handler"].name == f"{APP}-{stage}"


@pytest.mark.parametrize("stage", ["dev", "dev-eu"])
def test_everything_of_a_stage_is_found_as_chalice_records_it(
    stage: str, session: Session, stages: dict[str, str]
) -> None:
    """Functions, the trigger of each kind, and the API, at the stage where it is published."""
    name = f"{APP}-{stage}"
    arn = f"{LAMBDA}:{name}"
    bucket = f"{name}-uploads-{ACCOUNT}-{REGION}"

    found = {each["name"]: each for each in Deployed(session, APP, stage).resources()}

    functions = {each: found.pop(each) for each in HANDLERS}
    assert {each["resource_type"] for each in functions.values()} == {"lambda_function"}
    assert functions["sweep"]["lambda_arn"] == f"{arn}-sweep"
    assert found == {
        "process_images-sqs-event-source": {
            "name": "process_images-sqs-event-source",
            "resource_type": "sqs_event",
            "queue_arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}-work",
            "event_uuid": stages[f"{stage} mapping"],
            "queue": f"{name}-work",
            "lambda_arn": f"{arn}-process_images",
        },
        "handle_upload-s3event": {
            "name": "handle_upload-s3event",
            "resource_type": "s3_event",
            "bucket": bucket,
            "lambda_arn": f"{arn}-handle_upload",
        },
        "sweep-event": {
            "name": "sweep-event",
            "resource_type": "cloudwatch_event",
            "rule_name": f"{name}-sweep-event",
        },
        "rest_api": {
            "name": "rest_api",
            "resource_type": "rest_api",
            "rest_api_id": stages[stage],
            "rest_api_url": f"https://{stages[stage]}.execute-api.{REGION}.amazonaws.com/"
            f"{stage.replace('-', '')}v1/",
        },
    }


def test_of_a_stage_that_was_never_deployed_there_is_nothing(session: Session) -> None:
    """Though others have all of it."""
    assert list(Deployed(session, APP, "prod").resources()) == []


def test_record_is_completed_by_what_it_lacks_alone(session: Session) -> None:
    """What Chalice has recorded stays as it is, in its place: it knows more than can be seen."""
    known = {"name": "rest_api", "resource_type": "rest_api", "rest_api_id": "as recorded"}
    sweep = {"name": "sweep", "resource_type": "lambda_function", "lambda_arn": "as recorded"}
    record = {"schema_version": "3.0", "backend": "terraform", "resources": [known, sweep]}

    completed = Deployed(session, APP, "dev").completed(record)

    assert (completed["schema_version"], completed["backend"]) == ("3.0", "terraform")
    assert completed["resources"][:2] == [known, sweep]
    added = [each["name"] for each in completed["resources"][2:]]
    assert sorted(added) == sorted(
        {*HANDLERS, "process_images-sqs-event-source", "handle_upload-s3event", "sweep-event"}
        - {"sweep"}
    )
    assert record["resources"] == [known, sweep]


def test_record_that_has_everything_stays_as_it_is(session: Session) -> None:
    """A deployment that was not cut off adds nothing."""
    deployed = Deployed(session, APP, "dev")
    whole = deployed.completed({"resources": []})

    assert deployed.completed(whole) == whole


def test_record_from_nothing_is_one_that_chalice_reads(session: Session) -> None:
    """Without these two words Chalice takes it for one of its first versions."""
    record = Deployed(session, APP, "prod").completed(State().chalice)

    assert record == {"schema_version": "2.0", "backend": "api", "resources": []}
