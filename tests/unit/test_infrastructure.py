"""What the template, the stages and the app promise each other."""

import ast
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

import pytest
from chalice.app import ScheduledEventConfig

import app
from chalicelib.config import UPLOADS_PREFIX, Settings, read_settings
from chalicelib.sweep import TIME_TO_END
from chalicelib.worker import TIME_TO_HAND_BACK, TIME_TO_START
from infrastructure.destinations import asynchronous_functions
from infrastructure.stage import PROJECT, configure, stage_config
from tests.machine import STAGES as STAGES_OF_AN_IMAGE
from tests.template import CONFIG, read_template, timeout_s

DAY = 24 * 60 * 60


TEMPLATE_DATA = read_template()
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE_DATA["Resources"]
OUTPUTS: dict[str, Any] = TEMPLATE_DATA["Outputs"]
PARAMETERS: dict[str, dict[str, Any]] = TEMPLATE_DATA["Parameters"]


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: resource["Properties"]
        for name, resource in RESOURCES.items()
        if resource["Type"] == kind
    }


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement that allows something to a function, and where it stands."""
    for name, policy in of_type("AWS::IAM::ManagedPolicy").items():
        for statement in policy["PolicyDocument"]["Statement"]:
            yield name, statement
    for name, role in of_type("AWS::IAM::Role").items():
        for policy in role.get("Policies", ()):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def allowed(function: str) -> dict[str, set[str]]:
    """What the role of a function allows: action → the resources, as the template names them."""
    resource = OUTPUTS[f"Role{_camel_case(function)}"]["Value"]["Fn::GetAtt"].removesuffix(".Arn")
    holders = {resource, *(arn["Ref"] for arn in of_role(resource).get("ManagedPolicyArns", ()))}
    found: dict[str, set[str]] = {}
    for holder, statement in statements():
        if holder in holders:
            for action in listed(statement["Action"]):
                found.setdefault(action, set()).update(map(_named, listed(statement["Resource"])))
    return found


def of_role(resource: str) -> dict[str, Any]:
    return of_type("AWS::IAM::Role")[resource]


def _named(resource: Any) -> str:
    """``Catalog`` for the ARN of it, ``Uploads/uploads/*`` for what is under it."""
    if isinstance(resource, str):
        return resource
    [name] = resource.values()
    return str(name).replace("${", "").replace(".Arn}", "").removesuffix(".Arn")


def _camel_case(function: str) -> str:
    return "".join(word.capitalize() for word in function.split("_"))


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def functions() -> set[str]:
    """Every Lambda function that Chalice makes of the app."""
    triggered = {source.name for source in app.app.event_sources}
    return (
        triggered
        | {function.name for function in app.app.pure_lambda_functions}
        | {
            "api_handler"  # all routes together
        }
    )


# ── queues ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stage", CONFIG["stages"])
def test_message_stays_hidden_for_six_timeouts_of_its_function(stage: str) -> None:
    """Less, and Lambda may receive a message anew that it is still retrying (AWS's own advice)."""
    visibility_s = RESOURCES["WorkQueue"]["Properties"]["VisibilityTimeout"]

    assert visibility_s >= 6 * timeout_s("process_images", stage)


@pytest.mark.parametrize("stage", CONFIG["stages"])
def test_time_is_left_to_process_and_to_hand_back(stage: str) -> None:
    """An invocation that keeps its time free for the end has some before it, too."""
    kept_free_s = (TIME_TO_START + TIME_TO_HAND_BACK).total_seconds()

    assert timeout_s("process_images", stage) >= 2 * kept_free_s


def test_message_is_tried_five_times_or_more_before_it_is_a_dead_letter() -> None:
    """Throttled by Lambda, messages are received without being tried: AWS asks for five."""
    policy = RESOURCES["WorkQueue"]["Properties"]["RedrivePolicy"]

    assert policy["maxReceiveCount"] == {"Ref": "MaxReceiveCount"}
    assert policy["deadLetterTargetArn"] == {"Fn::GetAtt": "DeadLetterQueue.Arn"}
    assert PARAMETERS["MaxReceiveCount"]["Type"] == "Number"
    assert PARAMETERS["MaxReceiveCount"]["MinValue"] >= 5
    assert PARAMETERS["MaxReceiveCount"]["Default"] >= 5


def test_functions_are_told_how_often_a_message_is_received() -> None:
    """The worker has to know the last receive: it is the number that the queue itself counts to."""
    assert OUTPUTS["MaxReceiveCount"]["Value"] == {"Ref": "MaxReceiveCount"}
    settings = read_settings(environment() | {"MAX_RECEIVE_COUNT": "7"})
    assert settings.max_receive_count == 7
    for stage in CONFIG["stages"].values():  # a stage that sets it would tell something else
        assert "MAX_RECEIVE_COUNT" not in stage.get("environment_variables", {})


def test_dead_letters_outlive_the_queue_they_come_from() -> None:
    """A dead letter keeps the time it was sent at, so its queue has to keep longer: 14 days."""
    dead = RESOURCES["DeadLetterQueue"]["Properties"]["MessageRetentionPeriod"]

    assert dead == 14 * DAY
    assert RESOURCES["WorkQueue"]["Properties"]["MessageRetentionPeriod"] < dead


def test_somebody_hears_of_the_first_dead_letter() -> None:
    """The alarm watches the dead-letter queue, and goes off at one message."""
    alarms = of_type("AWS::CloudWatch::Alarm").values()
    watching = [
        alarm
        for alarm in alarms
        if alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
        and {"Name": "QueueName", "Value": {"Fn::GetAtt": "DeadLetterQueue.QueueName"}}
        in alarm["Dimensions"]
    ]

    [alarm] = watching
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (0, "GreaterThanThreshold")
    assert alarm["AlarmActions"]


def test_every_queue_is_encrypted() -> None:
    """Messages name files of people."""
    for name, queue in of_type("AWS::SQS::Queue").items():
        assert queue["SqsManagedSseEnabled"], name


def test_lambda_asks_for_no_more_than_the_event_source_takes() -> None:
    """The defaults and what each stage sets make a working event source mapping."""
    for stage in CONFIG["stages"].values():
        read_settings(environment() | stage.get("environment_variables", {}))


# ── schedule ─────────────────────────────────────────────────────────────────────────────────────


def test_events_and_schedule_are_what_nobody_waits_for() -> None:
    """Each of these needs a place for what it fails at; SQS and the API have their own."""
    assert sorted(asynchronous_functions(app.app)) == ["handle_removal", "handle_upload", "sweep"]


def test_sweep_runs_by_itself() -> None:
    """Once an hour; nobody has to think of it."""
    [sweep] = [source for source in app.app.event_sources if source.name == "sweep"]

    assert isinstance(sweep, ScheduledEventConfig)
    expression = sweep.schedule_expression
    assert (expression if isinstance(expression, str) else expression.to_string()) == "rate(1 hour)"


@pytest.mark.parametrize("stage", CONFIG["stages"])
def test_sweep_has_time_to_sweep_and_ends_before_the_next(stage: str) -> None:
    """Two at once would move each other's bookmark; Lambda runs a function 15 minutes at most."""
    assert 2 * TIME_TO_END.total_seconds() < timeout_s("sweep", stage) <= 900


# ── catalog ──────────────────────────────────────────────────────────────────────────────────────


def test_catalog_has_the_indexes_that_are_asked() -> None:
    """Each by its name's attribute, and by the time that it is read in the order of."""
    table = RESOURCES["Catalog"]["Properties"]
    indexes = {
        index["IndexName"]: {key["KeyType"]: key["AttributeName"] for key in index["KeySchema"]}
        for index in table["GlobalSecondaryIndexes"]
    }

    assert indexes == {
        "listing": {"HASH": "listing", "RANGE": "listed_at"},
        "listing_by_status": {"HASH": "listing_by_status", "RANGE": "listed_at"},
        "unsettled": {"HASH": "unsettled", "RANGE": "updated_at"},
    }


def test_every_attribute_of_a_key_is_defined_and_no_other() -> None:
    """DynamoDB refuses a table that defines more or less; every key is a string."""
    table = RESOURCES["Catalog"]["Properties"]
    schemas = [table["KeySchema"], *(each["KeySchema"] for each in table["GlobalSecondaryIndexes"])]
    used = {key["AttributeName"] for schema in schemas for key in schema}

    defined = {
        each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]
    }
    assert defined == dict.fromkeys(used, "S")


def test_indexes_hold_keys_alone() -> None:
    """Every write of a record would be one of each index; what a list shows is read by key."""
    for index in RESOURCES["Catalog"]["Properties"]["GlobalSecondaryIndexes"]:
        assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}, index["IndexName"]


# ── stages ───────────────────────────────────────────────────────────────────────────────────────


def required() -> list[Any]:
    return [setting for setting in fields(Settings) if setting.metadata["default"] is MISSING]


def environment() -> dict[str, str]:
    """What a stack gives the functions, each a text that any setting can be."""
    return {setting.name.upper(): "5" for setting in required()}


def test_every_variable_without_a_default_is_an_output() -> None:
    """A deployed stack gives the functions everything that they cannot do without."""
    given = stage_config(dict.fromkeys(OUTPUTS, ""))["environment_variables"]

    assert {setting.name.upper() for setting in required()} <= given.keys()


def test_every_function_has_a_role_and_every_role_a_function() -> None:
    """Each function of the app runs under a role of its own, and none is left over."""
    assert "sweep" in functions()
    assert set(stage_config(dict.fromkeys(OUTPUTS, ""))["lambda_functions"]) == functions()
    roles = [OUTPUTS[name]["Value"] for name in OUTPUTS if name.startswith("Role")]
    assert sorted(role["Fn::GetAtt"] for role in roles) == sorted(
        f"{name}.Arn" for name in of_type("AWS::IAM::Role")
    )


def test_stages_configure_functions_that_exist() -> None:
    """A setting for a function that was renamed would be dropped without a word."""
    configured = set(CONFIG.get("lambda_functions", {}))
    for stage in CONFIG["stages"].values():
        configured |= set(stage.get("lambda_functions", {}))

    assert configured <= functions() | {*STAGES_OF_AN_IMAGE}


def test_chalice_writes_no_policies() -> None:
    """Chalice's own policies allow far more than a function does."""
    assert CONFIG["manage_iam_role"] is False
    outputs = dict.fromkeys(OUTPUTS, "arn:aws:iam::1:role/x")
    configured = configure(CONFIG, "dev", outputs)["stages"]["dev"]["lambda_functions"]
    assert {name for name in functions() if configured[name].get("iam_role_arn")} == functions()


# ── buckets ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bucket", of_type("AWS::S3::Bucket"))
def test_bucket_is_private_and_encrypted(bucket: str) -> None:
    """No ACL, no public policy, and nothing on a disk that can be read."""
    properties = RESOURCES[bucket]["Properties"]

    assert properties["PublicAccessBlockConfiguration"] == {
        "BlockPublicAcls": True,
        "BlockPublicPolicy": True,
        "IgnorePublicAcls": True,
        "RestrictPublicBuckets": True,
    }
    assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    [rule] = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] in {"AES256", "aws:kms"}


@pytest.mark.parametrize("bucket", of_type("AWS::S3::Bucket"))
def test_bucket_is_reached_over_tls_alone(bucket: str) -> None:
    """A policy denies everything that comes in the clear, on the bucket and all its objects."""
    [policy] = [
        policy
        for policy in of_type("AWS::S3::BucketPolicy").values()
        if policy["Bucket"] == {"Ref": bucket}
    ]
    [statement] = [
        statement
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny"
    ]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert (statement["Principal"], statement["Action"]) == ("*", "s3:*")
    assert statement["Resource"] == [
        {"Fn::GetAtt": f"{bucket}.Arn"},
        {"Fn::Sub": f"${{{bucket}.Arn}}/*"},
    ]


def test_originals_are_versioned_and_old_versions_end() -> None:
    """A version is what is processed; what is deleted is really gone some day."""
    uploads = RESOURCES["Uploads"]["Properties"]

    assert uploads["VersioningConfiguration"] == {"Status": "Enabled"}
    rules = uploads["LifecycleConfiguration"]["Rules"]
    assert any("NoncurrentVersionExpiration" in rule for rule in rules)
    assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)


def test_nothing_is_triggered_by_what_the_pipeline_writes() -> None:
    """Only uploads trigger functions, under their prefix: renditions cannot start a loop."""
    for bucket in of_type("AWS::S3::Bucket").values():
        assert "NotificationConfiguration" not in bucket
    assert OUTPUTS["UploadsBucket"]["Value"] == {"Ref": "Uploads"}
    assert OUTPUTS["RenditionsBucket"]["Value"] == {"Ref": "Renditions"}
    triggers = [config for config in app.app.event_sources if hasattr(config, "bucket")]
    assert {trigger.bucket for trigger in triggers} == {app.settings().uploads_bucket}
    assert {trigger.prefix for trigger in triggers} == {UPLOADS_PREFIX}
    events = sorted(event for trigger in triggers for event in trigger.events)
    assert events == ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


# ── roles ────────────────────────────────────────────────────────────────────────────────────────


def test_no_action_is_a_wildcard() -> None:
    """A role lists its actions by name, and no user policy hangs on it."""
    for name, statement in statements():
        assert statement["Effect"] == "Allow", name
        assert not [action for action in listed(statement["Action"]) if "*" in action], name
    for name, role in of_type("AWS::IAM::Role").items():
        arns = role.get("ManagedPolicyArns", [])
        assert all(isinstance(arn, dict) for arn in arns), name


def test_no_function_may_read_the_catalog_by_a_scan() -> None:
    """Queries only: a scan is not even allowed."""
    actions = {action for _, statement in statements() for action in listed(statement["Action"])}

    assert "dynamodb:Scan" not in actions
    assert {"dynamodb:GetItem", "dynamodb:Query"} <= actions


@pytest.mark.parametrize("function", sorted(functions() - {"deliver_webhooks", "sweep"}))
def test_every_function_keeps_the_catalog(function: str) -> None:
    """Records, labels and counts are written by key: put, updated and deleted."""
    may = allowed(function)

    for action in ("GetItem", "PutItem", "UpdateItem", "DeleteItem"):
        assert "Catalog" in may[f"dynamodb:{action}"], action


def test_worker_takes_hands_back_and_postpones() -> None:
    """All that a message may need: to be received, deleted, delayed, and sent again as a copy."""
    may = allowed("process_images")

    for action in (
        *("ReceiveMessage", "DeleteMessage", "GetQueueAttributes"),
        *("ChangeMessageVisibility", "SendMessage"),
    ):
        assert may[f"sqs:{action}"] == {"WorkQueue"}, action
    assert may["s3:GetObjectVersion"] == {"Uploads/uploads/*"}
    assert may["rekognition:DetectLabels"] == {"*"}


@pytest.mark.parametrize("function", asynchronous_functions(app.app))
def test_event_that_is_failed_at_for_good_becomes_a_dead_letter(function: str) -> None:
    """Lambda sends it with the function's own role, and refuses a destination without the right."""
    assert allowed(function)["sqs:SendMessage"] == {"WorkQueue", "DeadLetterQueue"}


@pytest.mark.parametrize(
    ("function", "asked"),
    [
        ("process_images", {"WorkQueue"}),
        ("deliver_webhooks", {"WebhookQueue"}),
        ("api_handler", {"WorkQueue", "WebhookQueue"}),
    ],
)
def test_what_answers_writes_no_dead_letters(function: str, asked: set[str]) -> None:
    """Its failures are the caller's, or go there by the queue's own redrive policy."""
    may = allowed(function)

    queues = {queue for action in may if action.startswith("sqs:") for queue in may[action]}
    assert queues == asked


def test_deliveries_change_no_image_and_see_none_that_is_withheld() -> None:
    """Renditions are read by the tag that only what everybody may see has; mails need them."""
    may = allowed("deliver_webhooks")

    changing = {"UpdateItem", "DeleteItem", "TransactWriteItems"}
    assert not {f"dynamodb:{action}" for action in changing} & may.keys()
    assert {action: may[action] for action in may if action.startswith("s3:")} == {
        "s3:GetObject": {"Renditions/*"}
    }
    [reading] = [
        statement
        for name, statement in statements()
        if name == "DeliverWebhooksRole" and statement["Action"] == "s3:GetObject"
    ]
    assert reading["Condition"] == {"StringEquals": {"s3:ExistingObjectTag/status": "COMPLETED"}}


def test_mails_are_sent_by_deliveries_alone() -> None:
    """From identities of the account."""
    mailing = {name for name in functions() if "ses:SendRawEmail" in allowed(name)}

    assert mailing == {"deliver_webhooks"}


def test_whoever_removes_may_list_what_there_is_to_remove() -> None:
    """Renditions are found by a listing of the image, then deleted."""
    removing = {name for name in functions() if "Renditions/*" in deletable(name)}

    assert removing == {"handle_upload", "handle_removal", "process_images"}
    for function in removing:
        assert "Renditions" in allowed(function)["s3:ListBucket"], function


def deletable(function: str) -> set[str]:
    return allowed(function).get("s3:DeleteObject", set())


def test_only_the_api_deletes_originals() -> None:
    """What people have uploaded goes when they ask for it."""
    deleting = {name for name in functions() if "Uploads/uploads/*" in deletable(name)}

    assert deleting == {"api_handler"}


def test_sweep_finds_and_asks_and_does_nothing_else() -> None:
    """It lists, reads the index of what is left to do, and enqueues; it touches no object."""
    may = allowed("sweep")

    assert may["dynamodb:Query"] == {"Catalog/index/unsettled"}
    assert "Catalog" in may["dynamodb:BatchGetItem"]
    assert "WorkQueue" in may["sqs:SendMessage"] & may["sqs:GetQueueAttributes"]
    assert {action for action in may if action.startswith("s3:")} == {"s3:ListBucket"}
    assert may["s3:ListBucket"] == {"Uploads"}
    assert not [action for action in may if action.startswith(("sns:", "rekognition:"))]


def test_only_lambda_takes_the_roles() -> None:
    """No account, no other service and no person becomes a function."""
    for name, role in of_type("AWS::IAM::Role").items():
        [trust] = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}, name
        assert trust["Action"] == "sts:AssumeRole", name


def test_the_app_only_delegates() -> None:
    """app.py, which import-linter cannot see, knows neither AWS nor Pillow."""
    tree = ast.parse((PROJECT / "app.py").read_text())
    imported = {
        node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    } | {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    foreign = ("boto3", "botocore", "PIL", "chalicelib.aws", "chalicelib.imaging")
    assert [name for name in imported if name.startswith(foreign)] == []
    assert "chalicelib.bootstrap" in imported
