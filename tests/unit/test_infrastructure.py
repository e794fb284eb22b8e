"""What the template, the stages and the app promise each other."""

import ast
import json
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

import pytest
import yaml

import app
from chalicelib.config import UPLOADS_PREFIX, Settings, read_settings
from infrastructure.stage import PROJECT, TEMPLATE, configure, stage_config

DAY = 24 * 60 * 60


class Template(yaml.SafeLoader):
    """YAML with CloudFormation's tags: ``!Ref X`` is {"Ref": X}, ``!Sub X`` {"Fn::Sub": X}."""


def _tagged(loader: Template, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


Template.add_multi_constructor("!", _tagged)

TEMPLATE_DATA: dict[str, Any] = yaml.load(TEMPLATE.read_text(), Template)  # noqa: S506 - it is safe
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE_DATA["Resources"]
OUTPUTS: dict[str, Any] = TEMPLATE_DATA["Outputs"]
CONFIG: dict[str, Any] = json.loads((PROJECT / ".chalice" / "config.json").read_text())


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
    timeout_s = CONFIG["lambda_functions"]["process_images"]["lambda_timeout"]
    of_stage = CONFIG["stages"][stage].get("lambda_functions", {}).get("process_images", {})
    timeout_s = of_stage.get("lambda_timeout", timeout_s)

    assert RESOURCES["WorkQueue"]["Properties"]["VisibilityTimeout"] >= 6 * timeout_s


def test_message_is_tried_five_times_or_more_before_it_is_a_dead_letter() -> None:
    """Throttled by Lambda, messages are received without being tried: AWS asks for five."""
    policy = RESOURCES["WorkQueue"]["Properties"]["RedrivePolicy"]

    assert policy["maxReceiveCount"] >= 5
    assert policy["deadLetterTargetArn"] == {"Fn::GetAtt": "DeadLetterQueue.Arn"}


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
    names = {setting.name.upper(): "x" for setting in required()}
    for stage in CONFIG["stages"].values():
        read_settings(names | stage.get("environment_variables", {}))


# ── stages ───────────────────────────────────────────────────────────────────────────────────────


def required() -> list[Any]:
    return [setting for setting in fields(Settings) if setting.metadata["default"] is MISSING]


def test_every_variable_without_a_default_is_an_output() -> None:
    """A deployed stack gives the functions everything that they cannot do without."""
    given = stage_config(dict.fromkeys(OUTPUTS, ""))["environment_variables"]

    assert {setting.name.upper() for setting in required()} <= given.keys()


def test_every_output_is_a_setting_or_a_role() -> None:
    """An output that nobody reads is a mistyped one."""
    given = stage_config(dict.fromkeys(OUTPUTS, ""))["environment_variables"]

    assert given.keys() <= {setting.name.upper() for setting in fields(Settings)}


def test_every_function_has_a_role_and_every_role_a_function() -> None:
    """Each function of the app runs under a role of its own, and none is left over."""
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

    assert configured <= functions()


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


def test_what_holds_pictures_outlives_the_stack() -> None:
    """Deleting the stack deletes no picture, no catalog and no dead letter."""
    kinds = {"AWS::S3::Bucket", "AWS::DynamoDB::Table"}
    for name, resource in RESOURCES.items():
        if resource["Type"] in kinds or name == "DeadLetterQueue":
            assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain", name


# ── roles ────────────────────────────────────────────────────────────────────────────────────────


def test_only_rekognition_is_allowed_on_everything() -> None:
    """Rekognition knows no resources for bytes; every other action names what it may touch."""
    everywhere = [
        action
        for _, statement in statements()
        if "*" in listed(statement["Resource"])
        for action in listed(statement["Action"])
    ]

    assert everywhere == ["rekognition:DetectLabels"]


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
