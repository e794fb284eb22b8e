"""What the template of a stage promises, held against the app and the stages' configuration.

Each promise is a rule: a function from a stack (the template, decided for a stage) to what breaks
it there. A rule that lets a broken template pass holds nothing, so each is shown templates that it
has to refuse.
"""

import json
import re
import runpy
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import MISSING, fields
from typing import Any, get_args

import boto3
import pytest

import app
from chalicelib.config import AUTHS, UPLOADS_PREFIX, Settings
from chalicelib.model import EventKind, ImageStatus
from chalicelib.services import Step
from chalicelib.sweep import TIME_TO_END
from chalicelib.telemetry import COUNTS, NAMESPACE
from infrastructure.stage import TEMPLATE, setting_of
from infrastructure.template import rendered
from infrastructure.workflow import WORKFLOW
from tests.machine import STAGES as STAGES_OF_AN_IMAGE
from tests.template import CONFIG, PSEUDO, decided, read_template, timeout_s

Stack = dict[str, Any]
Rule = Callable[[Stack], Iterator[str]]

SOURCE = read_template()
STAGES = ("dev", "prod")
DAY_S = 24 * 60 * 60
MAX_INLINE_BYTES = 51_200
"""What CloudFormation takes as TemplateBody; a larger template has to be in a bucket first."""

EVERYTHING = {
    **dict.fromkeys(
        (
            *("rekognition:DetectLabels", "rekognition:DetectModerationLabels"),
            *("rekognition:DetectFaces", "rekognition:RecognizeCelebrities"),
            "rekognition:DetectText",
        ),
        "Rekognition has no resources for images passed as bytes",
    ),
    "xray:PutTraceSegments": "X-Ray has no resources for segments",
    "xray:PutTelemetryRecords": "X-Ray has no resources for telemetry",
    **dict.fromkeys(
        (
            *("logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery"),
            *("logs:DeleteLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy"),
            *("logs:DescribeResourcePolicies", "logs:DescribeLogGroups"),
        ),
        "CloudWatch has no resources for the delivery of logs",
    ),
}
"""What a function may do on ``*``, and why it cannot be less."""

FOR_WHOEVER_DEPLOYS = {
    *("Stage", "DeploymentsBucket", "DeadLetterQueueUrl", "WebhookQueueUrl"),
    *("AlarmsTopicArn", "ApiLogGroupArn", "ApiRequestsPerSecond", "ApiBurst", "DashboardName"),
    *("UserPoolId", "ApiKeyId", "ApiPlanId"),
}
"""Outputs that need not be settings. One of these may become one."""

SUBSCRIPTION = "AWS::SNS::Subscription"
HOLDS = {"AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::Cognito::UserPool"}
"""What cannot be made again. Dead letters are looked after before a stack is taken away."""


# ── what the app declares, what a stack has ──────────────────────────────────────────────────────


def functions() -> set[str]:
    """Every Lambda function that Chalice makes of the app; all routes together are one."""
    declared = (*app.app.event_sources, *app.app.pure_lambda_functions)
    return {function.name for function in declared} | {"api_handler"}


def lambda_name(function: str, stage: str) -> str:
    """What Chalice names a function on Lambda."""
    name = f"image-pipeline-{stage}"
    return name if function == "api_handler" else f"{name}-{function}"


def camel_case(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def stage_of(stack: Stack) -> str:
    return str(stack["Outputs"]["Stage"]["Value"])


def of_type(stack: Stack, kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: resource["Properties"]
        for name, resource in stack["Resources"].items()
        if resource["Type"] == kind
    }


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def role_of(function: str, stack: Stack) -> str:
    """The resource that is the role of a function, by the output that Chalice is told."""
    value = stack["Outputs"][f"Role{camel_case(function)}"]["Value"]
    return str(value["Fn::GetAtt"]).removesuffix(".Arn")


def statements(stack: Stack) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement that allows something to a function, and the resource where it stands."""
    for name, policy in of_type(stack, "AWS::IAM::ManagedPolicy").items():
        for statement in policy["PolicyDocument"]["Statement"]:
            yield name, statement
    for name, role in of_type(stack, "AWS::IAM::Role").items():
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def allowed(function: str, stack: Stack) -> Iterator[tuple[str, Any]]:
    """What a function may do: pairs of an action and a resource, as the template names it."""
    role = role_of(function, stack)
    shared = stack["Resources"][role]["Properties"].get("ManagedPolicyArns", [])
    holders = {role, *(arn["Ref"] for arn in shared)}
    for holder, statement in statements(stack):
        if holder in holders:
            for action in listed(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    yield action, resource


def alarms(stack: Stack, metric: str, dimension: Any) -> list[dict[str, Any]]:
    """The alarms that watch a metric of what a dimension's value names."""
    return [
        alarm
        for alarm in of_type(stack, "AWS::CloudWatch::Alarm").values()
        if alarm["MetricName"] == metric
        and dimension in [each["Value"] for each in alarm["Dimensions"]]
    ]


def dead_letter_queue_of(queue: dict[str, Any]) -> str:
    return str(queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"]).removesuffix(".Arn")


def dead_letter_queues(stack: Stack) -> set[str]:
    queues = of_type(stack, "AWS::SQS::Queue").values()
    return {dead_letter_queue_of(queue) for queue in queues if "RedrivePolicy" in queue}


def consumers(stack: Stack) -> Iterator[tuple[str, str]]:
    """Pairs of a function and the queue it takes from, by the setting that names the queue."""
    for source in app.app.event_sources:
        for setting in fields(Settings) if hasattr(source, "queue") else ():
            url = str(getattr(app.settings(), setting.name))
            if setting.name.endswith("_queue_url") and url.rpartition("/")[2] == source.queue:
                yield source.name, stack["Outputs"][camel_case(setting.name)]["Value"]["Ref"]


# ── queues ───────────────────────────────────────────────────────────────────────────────────────


def messages_stay_hidden_for_six_timeouts(stack: Stack) -> Iterator[str]:
    """Less, and Lambda may receive a message anew that it is still trying (AWS's own advice)."""
    taking = list(consumers(stack))
    if len(taking) != sum(hasattr(source, "queue") for source in app.app.event_sources):
        yield "a queue that a function takes from is no output"
    for function, queue in taking:
        hidden_s = stack["Resources"][queue]["Properties"]["VisibilityTimeout"]
        if hidden_s < 6 * timeout_s(function, stage_of(stack)):
            yield f"{queue} hides for {hidden_s} s what {function} takes"


def queues_have_dead_letters(stack: Stack) -> Iterator[str]:
    """Throttling receives without trying, so AWS asks for five receives; letters keep 14 days."""
    queues = of_type(stack, "AWS::SQS::Queue")
    for name, queue in queues.items():
        if name in dead_letter_queues(stack):
            if queue["MessageRetentionPeriod"] != 14 * DAY_S:
                yield f"{name} keeps letters for less than SQS can"
        elif "RedrivePolicy" not in queue:
            yield f"{name} has no dead-letter queue"
        elif queue["RedrivePolicy"]["maxReceiveCount"] < 5:
            yield f"{name} gives up too early"
        elif queue["MessageRetentionPeriod"] >= 14 * DAY_S:
            yield f"{name} keeps messages as long as its dead-letter queue does"


def webhooks_hear_announcements_alone(stack: Stack) -> Iterator[str]:
    """SNS may send for this topic and no other, and does so once somebody takes from the queue."""
    [policy] = [
        policy
        for policy in of_type(stack, "AWS::SQS::QueuePolicy").values()
        if policy["Queues"] == [{"Ref": "WebhookQueue"}]
    ]
    may = [each for each in policy["PolicyDocument"]["Statement"] if each["Effect"] == "Allow"]
    if may != [
        {
            "Sid": "AnnouncementsOnly",
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": {"Fn::GetAtt": "WebhookQueue.Arn"},
            "Condition": {"ArnEquals": {"aws:SourceArn": {"Ref": "Announcements"}}},
        }
    ]:
        yield "others may send to the webhooks"
    subscriptions = of_type(stack, "AWS::SNS::Subscription").values()
    endpoint = {"Fn::GetAtt": "WebhookQueue.Arn"}
    [webhooks] = [each for each in subscriptions if each["Endpoint"] == endpoint] or [{}]
    if not webhooks.get("RawMessageDelivery") or "FilterPolicy" in webhooks:
        yield "webhooks do not hear of everything as it is"


# ── alarms ───────────────────────────────────────────────────────────────────────────────────────


def functions_have_alarms(stack: Stack) -> Iterator[str]:
    """Somebody hears when one fails, is nearly killed for its time, or is not let run."""
    stage = stage_of(stack)
    for function in functions():
        name = lambda_name(function, stage)
        for metric, statistic, threshold in (
            ("Errors", "Sum", 1),
            ("Throttles", "Sum", 0),
            ("Duration", "Maximum", None),
        ):
            found = alarms(stack, metric, name)
            if (function, metric) == ("deliver_webhooks", "Errors"):
                yield from found  # it fails whenever somebody else's system does
            elif [alarm["Statistic"] for alarm in found] != [statistic]:
                yield f"{function} has no alarm of its {metric}"
            elif threshold is not None and found[0]["Threshold"] != threshold:
                yield f"{function} has a late alarm of its {metric}"


def alarms_of_duration_come_before_the_timeout(stack: Stack) -> Iterator[str]:
    """At 80 % of it, but for the sweep, which goes on until a few seconds are left."""
    stage = stage_of(stack)
    for function in functions():
        timeout_ms = 1000 * timeout_s(function, stage)
        for alarm in alarms(stack, "Duration", lambda_name(function, stage)):
            if function == "sweep":
                ends_ms = timeout_ms - 1000 * TIME_TO_END.total_seconds()
                right = ends_ms < alarm["Threshold"] < timeout_ms
            else:
                right = alarm["Threshold"] == pytest.approx(0.8 * timeout_ms)
            if not right:
                yield f"{function} may take {timeout_ms} ms, its alarm is at {alarm['Threshold']}"


def first_dead_letter_is_heard_of(stack: Stack) -> Iterator[str]:
    for queue in dead_letter_queues(stack):
        name = {"Fn::GetAtt": f"{queue}.QueueName"}
        found = alarms(stack, "ApproximateNumberOfMessagesVisible", name)
        if [alarm["Threshold"] for alarm in found] != [0]:
            yield queue


def the_rest_is_watched(stack: Stack) -> Iterator[str]:
    """Work that waits, an API that breaks, and images that fail."""
    work = {"Fn::GetAtt": "WorkQueue.QueueName"}
    if [alarm["Threshold"] for alarm in alarms(stack, "ApproximateAgeOfOldestMessage", work)] != [
        15 * 60
    ]:
        yield "nobody hears of work that waits"
    stage = stage_of(stack)
    published = CONFIG["stages"][stage]["api_gateway_stage"]
    if not alarms(stack, "5XXError", published):
        yield f"nobody hears of errors of the API, which is published as {published}"
    failed = alarms(stack, COUNTS[ImageStatus.FAILED], stage)
    if [alarm["Namespace"] for alarm in failed] != [NAMESPACE]:
        yield "nobody hears of images that fail"


def alarms_reach_somebody_and_say_what_to_do(stack: Stack) -> Iterator[str]:
    for name, alarm in of_type(stack, "AWS::CloudWatch::Alarm").items():
        here = f"{PSEUDO['AWS::Region']}:{PSEUDO['AWS::AccountId']}"
        topic = f"arn:aws:sns:{here}:image-pipeline-{stage_of(stack)}-alarms"
        if alarm["AlarmActions"] not in ([{"Ref": "Alarms"}], [topic]):
            yield f"{name} tells nobody"
        if "Look first at" not in str(alarm["AlarmDescription"]):
            yield f"{name} says what is wrong and not what to do"
        if alarm["ComparisonOperator"] != "GreaterThanThreshold":
            yield f"{name} compares otherwise than its rule thinks"
        if alarm["TreatMissingData"] != "notBreaching":
            yield f"{name} goes off when nothing happens"


def cloudwatch_may_publish_alarms(stack: Stack) -> Iterator[str]:
    """For this account alone. CloudWatch could not use the key aws/sns."""
    [policy] = [
        policy
        for policy in of_type(stack, "AWS::SNS::TopicPolicy").values()
        if policy["Topics"] == [{"Ref": "Alarms"}]
    ]
    [statement] = [
        each for each in policy["PolicyDocument"]["Statement"] if each["Effect"] == "Allow"
    ]
    if set(statement["Principal"]["Service"]) != {
        "cloudwatch.amazonaws.com",
        "budgets.amazonaws.com",
    }:
        yield "the wrong services may publish"
    if list(statement["Condition"]["StringEquals"]) != ["aws:SourceAccount"]:
        yield "another account's alarms may come here"
    if "KmsMasterKeyId" in stack["Resources"]["Alarms"]["Properties"]:
        yield "CloudWatch may not use the topic's key"


def dashboard_shows_everything(stack: Stack) -> Iterator[str]:
    """Every function and queue, and every metric of the pipeline's own."""
    body = stack["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    widgets = json.loads(body)["widgets"]
    named = json.dumps([widget["properties"]["metrics"] for widget in widgets])
    wanted = {f'"{lambda_name(function, stage_of(stack))}"' for function in functions()}
    wanted |= {f'"${{{queue}.QueueName}}"' for queue in of_type(stack, "AWS::SQS::Queue")}
    wanted |= {f'"{step.capitalize()}Duration"' for step in get_args(Step)}
    for metric in ("ImagesCompleted", "ImagesFailed", "BytesSaved", "EstimatedCost", NAMESPACE):
        wanted.add(f'"{metric}"')
    for metric in ("Count", "4XXError", "5XXError", "Latency", "Errors", "Throttles"):
        wanted.add(f'"{metric}"')
    wanted.add(f"{{{NAMESPACE},Stage,Code}}")
    yield from (each for each in sorted(wanted) if each not in named)
    places = {(widget["x"], widget["y"]) for widget in widgets}
    if len(places) != len(widgets):
        yield "widgets lie on each other"


# ── nothing goes round in circles ────────────────────────────────────────────────────────────────


def renditions_trigger_nothing(stack: Stack) -> Iterator[str]:
    """What a function writes must not be what it reacts to: a loop costs until somebody notices."""
    triggers = [source for source in app.app.event_sources if hasattr(source, "bucket")]
    for trigger in triggers:
        if trigger.bucket != app.settings().uploads_bucket or trigger.prefix != UPLOADS_PREFIX:
            yield f"{trigger.name} reacts to {trigger.bucket}/{trigger.prefix}"
    uploads, renditions = (
        stack["Outputs"][name]["Value"] for name in ("UploadsBucket", "RenditionsBucket")
    )
    if uploads == renditions:
        yield "originals and renditions share a bucket"
    for name, bucket in of_type(stack, "AWS::S3::Bucket").items():
        if "NotificationConfiguration" in bucket:
            yield f"{name} tells somebody that the app does not know of"
    for function in functions() - {"api_handler"}:
        for action, resource in allowed(function, stack):
            if action.startswith("s3:Put") and f"${{{uploads['Ref']}.Arn}}" in str(resource):
                yield f"{function} may write what triggers it"


# ── kept and forgotten ───────────────────────────────────────────────────────────────────────────


def functions_have_logs_that_end(stack: Stack) -> Iterator[str]:
    """A group that Lambda makes by itself never forgets anything."""
    groups = of_type(stack, "AWS::Logs::LogGroup")
    names = {group["LogGroupName"] for group in groups.values()}
    for function in functions():
        if f"/aws/lambda/{lambda_name(function, stage_of(stack))}" not in names:
            yield f"{function} has no log group"
    for name, group in groups.items():
        if not group.get("RetentionInDays"):
            yield f"{name} never ends"
    for stage, configured in CONFIG["stages"].items():
        if "log_retention_in_days" in configured:
            yield f"Chalice makes the log groups of {stage}, too"


def buckets_forget_what_nobody_sees(stack: Stack) -> Iterator[str]:
    """Parts of unfinished uploads and old versions are paid for and shown nowhere."""
    for name, bucket in of_type(stack, "AWS::S3::Bucket").items():
        rules = bucket.get("LifecycleConfiguration", {}).get("Rules", [])
        if not any("AbortIncompleteMultipartUpload" in rule for rule in rules):
            yield f"{name} keeps parts of uploads"
        if "VersioningConfiguration" in bucket and not any(
            "NoncurrentVersionExpiration" in rule for rule in rules
        ):
            yield f"{name} keeps old versions"


def prod_keeps_and_others_go(stack: Stack) -> Iterator[str]:
    """What prod holds outlives its stack; another stage leaves nothing in the way of a new one.

    UpdateReplacePolicy knows no RetainExceptOnCreate.
    """
    prod = stage_of(stack) == "prod"
    for name, resource in stack["Resources"].items():
        policies = (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        if resource["Type"] in HOLDS:
            if policies != (("RetainExceptOnCreate", "Retain") if prod else ("Delete", "Delete")):
                yield f"{name} has {policies}"
        elif set(policies) - {None, "Delete"}:
            yield f"{name} has {policies}"
    table = stack["Resources"]["Catalog"]["Properties"]
    if table["DeletionProtectionEnabled"] is not prod:
        yield "the table is protected in the wrong stage"


# ── names ────────────────────────────────────────────────────────────────────────────────────────


def names_are_a_stage_s_own(stack: Stack) -> Iterator[str]:
    """Two stages fit into one account, and so do two regions of it."""
    stage = stage_of(stack)
    for name, resource in stack["Resources"].items():
        for property_name, value in resource["Properties"].items():
            kind = resource["Type"].rpartition("::")[2]
            if property_name not in {"Name", f"{kind}Name", "LogGroupName", "ClientName"}:
                continue
            if f"image-pipeline-{stage}" not in str(value):
                yield f"{name} is named {value}"
            if kind in {"Role", "ManagedPolicy", "Dashboard", "Bucket"} and not str(value).endswith(
                "-eu-central-1"
            ):
                yield f"{name} of another region is named {value}, too"


def buckets_names_fit(stack: Stack) -> Iterator[str]:
    """63 characters, with the longest name of a stage in the longest of a region."""
    pattern = stack["Parameters"]["Stage"]["AllowedPattern"]
    longest_stage = next(
        length for length in range(99, 0, -1) if re.fullmatch(pattern, "a" * length)
    )
    session = boto3.Session()
    longest_region = max(
        len(region)
        for partition in ("aws", "aws-cn", "aws-us-gov", "aws-eusc")
        for region in session.get_available_regions("s3", partition)
    )
    spare = longest_stage - len(stage_of(stack)) + longest_region - len("eu-central-1")
    for name, bucket in of_type(stack, "AWS::S3::Bucket").items():
        if len(bucket["BucketName"]) + spare > 63:
            yield f"{name} may be named with {len(bucket['BucketName']) + spare} characters"


# ── sealed ───────────────────────────────────────────────────────────────────────────────────────


def everything_is_encrypted(stack: Stack) -> Iterator[str]:
    """The topic of alarms is the exception, see there."""
    for name, bucket in of_type(stack, "AWS::S3::Bucket").items():
        rules = bucket.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [])
        if not any("ServerSideEncryptionByDefault" in rule for rule in rules):
            yield name
    for name, queue in of_type(stack, "AWS::SQS::Queue").items():
        if not queue.get("SqsManagedSseEnabled"):
            yield name
    for name, table in of_type(stack, "AWS::DynamoDB::Table").items():
        if not table.get("SSESpecification", {}).get("SSEEnabled"):
            yield name
    for name, topic in of_type(stack, "AWS::SNS::Topic").items():
        if name != "Alarms" and "KmsMasterKeyId" not in topic:
            yield name


def denials_in_the_clear(stack: Stack) -> Iterator[tuple[str, str, list[Any]]]:
    """What nobody may do without TLS: an action, on whose policy that stands, and on what."""
    for kind, holders in (
        ("AWS::S3::BucketPolicy", "Bucket"),
        ("AWS::SQS::QueuePolicy", "Queues"),
        ("AWS::SNS::TopicPolicy", "Topics"),
    ):
        for policy in of_type(stack, kind).values():
            [holder] = listed(policy[holders])
            for each in policy["PolicyDocument"]["Statement"]:
                if (each["Effect"], each["Principal"]) == ("Deny", "*") and each["Condition"] == {
                    "Bool": {"aws:SecureTransport": "false"}
                }:
                    yield each["Action"], holder["Ref"], listed(each["Resource"])


def everything_is_reached_over_tls(stack: Stack) -> Iterator[str]:
    """Buckets, queues and topics each deny what comes in the clear, on all that they hold."""
    sealed = list(denials_in_the_clear(stack))
    for name in of_type(stack, "AWS::S3::Bucket"):
        whole = [{"Fn::GetAtt": f"{name}.Arn"}, {"Fn::Sub": f"${{{name}.Arn}}/*"}]
        if ("s3:*", name, whole) not in sealed:
            yield name
    for name in of_type(stack, "AWS::SQS::Queue"):
        if ("sqs:*", name, [{"Fn::GetAtt": f"{name}.Arn"}]) not in sealed:
            yield name
    for name in of_type(stack, "AWS::SNS::Topic"):
        if ("sns:Publish", name, [{"Ref": name}]) not in sealed:
            yield name


# ── roles ────────────────────────────────────────────────────────────────────────────────────────


def functions_may_do_what_they_do(stack: Stack) -> Iterator[str]:
    """Actions by name, on resources by name, but for those that AWS knows no resources of."""
    for name, statement in statements(stack):
        for action in listed(statement["Action"]):
            if "*" in action:
                yield f"{name} allows {action}"
            if "*" in listed(statement["Resource"]) and action not in EVERYTHING:
                yield f"{name} allows {action} on everything"
        if statement["Effect"] != "Allow":
            yield f"{name} is no plain list of what is allowed"


def functions_write_their_own_logs(stack: Stack) -> Iterator[str]:
    """And make no group, which would have no end."""
    for function in functions():
        group = {"Fn::GetAtt": f"{camel_case(function)}Logs.Arn"}
        logs = {(act, str(on)) for act, on in allowed(function, stack) if act.startswith("logs:")}
        if logs != {("logs:CreateLogStream", str(group)), ("logs:PutLogEvents", str(group))}:
            yield f"{function} may {sorted(logs)}"


def lambda_alone_takes_the_roles(stack: Stack) -> Iterator[str]:
    for name, role in of_type(stack, "AWS::IAM::Role").items():
        [statement] = role["AssumeRolePolicyDocument"]["Statement"]
        if (statement["Principal"], statement["Action"]) != (
            {"Service": "lambda.amazonaws.com"},
            "sts:AssumeRole",
        ):
            yield name


def only_topics_own_account_publishes(stack: Stack) -> Iterator[str]:
    """A policy of ours without an Allow takes the place of SNS's own, which has one."""
    for policy in of_type(stack, "AWS::SNS::TopicPolicy").values():
        if policy["Topics"] == [{"Ref": "Announcements"}]:
            said = policy["PolicyDocument"]["Statement"]
            if {each["Effect"] for each in said} == {"Deny"}:
                return
    yield "Announcements"


# ── what Chalice and the app are told ────────────────────────────────────────────────────────────


def who_announces_tells_all_channels(stack: Stack) -> Iterator[str]:
    """A function that may tell one and not the other would be tried again for ever."""
    topic = ("sns:Publish", str({"Ref": "Announcements"}))
    bus = ("events:PutEvents", str({"Fn::GetAtt": "Events.Arn"}))
    announcing = 0
    for function in functions():
        may = {(action, str(resource)) for action, resource in allowed(function, stack)}
        announcing += topic in may
        if (topic in may) is not (bus in may):
            yield f"{function} may tell one channel alone"
    if not announcing:
        yield "nobody may announce anything"


def outputs_are_what_is_asked_for(stack: Stack) -> Iterator[str]:
    """Every setting without a default, a role for every function, and nothing mistyped."""
    settings = {camel_case(setting.name): setting for setting in fields(Settings)}
    for name, setting in settings.items():
        if setting.metadata["default"] is MISSING and name not in stack["Outputs"]:
            yield f"{setting.name} is not told"
    roles = {f"Role{camel_case(function)}" for function in functions()}
    known = roles | settings.keys() | FOR_WHOEVER_DEPLOYS
    yield from (f"there is no {name}" for name in sorted(roles - stack["Outputs"].keys()))
    yield from (f"nobody reads {name}" for name in sorted(stack["Outputs"].keys() - known))
    if not re.fullmatch(r".*:log-group:\$\{ApiAccessLogs\}", logs_of_the_api(stack)):
        yield "API Gateway takes no ARN with :* behind it"


def logs_of_the_api(stack: Stack) -> str:
    return str(stack["Outputs"]["ApiLogGroupArn"]["Value"]["Fn::Sub"])


def users_are_those_let_in(stack: Stack) -> Iterator[str]:
    """Nobody signs up or guesses a password, and a stolen token soon ends."""
    pool, client = (
        of_type(stack, f"AWS::Cognito::{kind}") for kind in ("UserPool", "UserPoolClient")
    )
    [users], [page] = pool.values(), client.values()
    if users["AdminCreateUserConfig"] != {"AllowAdminCreateUserOnly": True}:
        yield "anybody may sign up"
    password = users["Policies"]["PasswordPolicy"]
    if password["MinimumLength"] < 12 or not all(
        password[f"Require{kind}"] for kind in ("Lowercase", "Uppercase", "Numbers", "Symbols")
    ):
        yield "passwords are weak"
    if "SOFTWARE_TOKEN_MFA" not in users["EnabledMfas"]:
        yield "there is no second factor"
    if (users["DeletionProtection"] == "ACTIVE") is not (stage_of(stack) == "prod"):
        yield "the pool is protected in the wrong stage"
    flows = ("USER_PASSWORD_AUTH", "USER_SRP_AUTH", "REFRESH_TOKEN_AUTH")
    if set(page["ExplicitAuthFlows"]) != {f"ALLOW_{flow}" for flow in flows}:
        yield "somebody signs in otherwise than the page does, or the page cannot"
    if page["GenerateSecret"] is not False or page["PreventUserExistenceErrors"] != "ENABLED":
        yield "the client tells too much"
    units = {"AccessToken": "minutes", "IdToken": "minutes", "RefreshToken": "days"}
    lasts = {token: page[f"{token}Validity"] for token in units}
    if page["TokenValidityUnits"] != units or any(
        lasts[token] > longest for token, longest in zip(units, (60, 60, 7), strict=True)
    ):
        yield "tokens outlive their use"
    if not page["EnableTokenRevocation"]:
        yield "nobody can sign out"


RULES: tuple[Rule, ...] = (
    messages_stay_hidden_for_six_timeouts,
    *(queues_have_dead_letters, webhooks_hear_announcements_alone, functions_have_alarms),
    *(alarms_of_duration_come_before_the_timeout, first_dead_letter_is_heard_of),
    *(the_rest_is_watched, alarms_reach_somebody_and_say_what_to_do),
    *(cloudwatch_may_publish_alarms, dashboard_shows_everything, renditions_trigger_nothing),
    *(functions_have_logs_that_end, buckets_forget_what_nobody_sees, prod_keeps_and_others_go),
    *(names_are_a_stage_s_own, buckets_names_fit, everything_is_encrypted),
    *(everything_is_reached_over_tls, functions_may_do_what_they_do),
    *(functions_write_their_own_logs, lambda_alone_takes_the_roles),
    *(only_topics_own_account_publishes, who_announces_tells_all_channels),
    *(outputs_are_what_is_asked_for, users_are_those_let_in),
)


def stack_of(stage: str, template: dict[str, Any] = SOURCE) -> Stack:
    """A stack with everything that parameters can ask for."""
    return decided(
        template,
        Stage=stage,
        ApiAuth="cognito",
        NotificationEmail="you@example.com",
        NotificationPhone="+491701234567",
        MonthlyBudgetUsd=20,
    )


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_template_keeps(rule: Rule, stage: str) -> None:
    """Every rule, in the stage that keeps what it holds and in one that does not."""
    assert list(rule(stack_of(stage))) == []


# ── the state machine's ──────────────────────────────────────────────────────────────────────────


def staged_functions() -> set[str]:
    """The functions that the app has with ORCHESTRATION=stepfunctions, and has not without."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ORCHESTRATION", "stepfunctions")
        environment.setenv("STATE_MACHINE_ARN", "arn:aws:states:us-east-1:0:stateMachine:x")
        app.settings.cache_clear()
        staged = runpy.run_path(str(app.__file__))["app"]
    app.settings.cache_clear()
    return {function.name for function in staged.pure_lambda_functions}


def test_stages_are_functions_only_where_they_are_called() -> None:
    assert staged_functions() == {*STAGES_OF_AN_IMAGE}
    assert not app.app.pure_lambda_functions


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "rule",
    [
        *(functions_have_alarms, alarms_of_duration_come_before_the_timeout),
        *(alarms_reach_somebody_and_say_what_to_do, functions_have_logs_that_end),
        *(names_are_a_stage_s_own, functions_may_do_what_they_do, functions_write_their_own_logs),
    ],
    ids=lambda rule: rule.__name__,
)
def test_template_of_the_state_machine_keeps(
    rule: Rule, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is promised of functions is promised of those that it calls."""
    monkeypatch.setitem(globals(), "functions", lambda: {*STAGES_OF_AN_IMAGE})
    stack = decided(read_template(WORKFLOW), Stage=stage, StartFromS3="true", Worker="worker")

    assert list(rule(stack)) == []


@pytest.mark.parametrize("stage", STAGES)
def test_each_service_takes_its_roles(stage: str) -> None:
    stack = decided(read_template(WORKFLOW), Stage=stage, StartFromS3="true", Worker="worker")
    services = {
        name: role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"]
        for name, role in of_type(stack, "AWS::IAM::Role").items()
    }
    assert services.pop("WorkflowRole") == "states.amazonaws.com"
    assert services.pop("UploadedRole") == "events.amazonaws.com"
    assert {*services} == {f"{camel_case(name)}Role" for name in STAGES_OF_AN_IMAGE}
    assert {*services.values()} == {"lambda.amazonaws.com"}


def test_uploads_start_executions_only_where_that_is_wanted() -> None:
    stack = decided(read_template(WORKFLOW), Stage="dev", Worker="worker")
    assert not of_type(stack, "AWS::Events::Rule")
    assert "UploadedRole" not in stack["Resources"]


# ── every rule can be broken ─────────────────────────────────────────────────────────────────────


def setting(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the template at ``Resources.WorkQueue.…``; numbers are places in lists."""

    def change(template: dict[str, Any]) -> None:
        *way, last = (int(part) if part.isdecimal() else part for part in path.split("/"))
        node: Any = template
        for part in way:
            node = node[part]
        node[last] = value

    return change


def without(path: str) -> Callable[[dict[str, Any]], None]:
    def change(template: dict[str, Any]) -> None:
        *way, last = path.split("/")
        node: Any = template
        for part in way:
            node = node[int(part) if part.isdecimal() else part]
        del node[int(last) if last.isdecimal() else last]

    return change


def of(resource: str, path: str) -> str:
    return f"Resources/{resource}/Properties/{path}"


def role(resource: str, path: str) -> str:
    return of(resource, f"Policies/0/PolicyDocument/Statement/{path}")


POLICY = "PolicyDocument/Statement"
ONE_WIDGET = """{"widgets": [
    {"x": 0, "y": 0, "properties": {"metrics": [["${WorkQueue.QueueName}"]]}}
]}"""
BREAKS: tuple[tuple[Rule, Callable[[dict[str, Any]], None]], ...] = (
    (messages_stay_hidden_for_six_timeouts, setting(of("WorkQueue", "VisibilityTimeout"), 359)),
    (messages_stay_hidden_for_six_timeouts, setting(of("WebhookQueue", "VisibilityTimeout"), 179)),
    (queues_have_dead_letters, without(of("WebhookQueue", "RedrivePolicy"))),
    (queues_have_dead_letters, setting(of("WebhookQueue", "RedrivePolicy/maxReceiveCount"), 4)),
    (queues_have_dead_letters, setting("Parameters/MaxReceiveCount/Default", 3)),
    (queues_have_dead_letters, setting(of("DeadLetterQueue", "MessageRetentionPeriod"), DAY_S)),
    (
        webhooks_hear_announcements_alone,
        setting(of("WebhookQueuePolicy", f"{POLICY}/0/Principal"), "*"),
    ),
    (
        webhooks_hear_announcements_alone,
        setting(of("AnnouncementsToWebhooks", "RawMessageDelivery"), value=False),
    ),
    (functions_have_alarms, without("Resources/SweepErrors")),
    (functions_have_alarms, without("Resources/ApiHandlerThrottles")),
    (functions_have_alarms, without("Resources/HandleUploadDuration")),
    (functions_have_alarms, setting(of("SweepErrors", "Threshold"), 100)),
    (
        alarms_of_duration_come_before_the_timeout,
        setting(of("ProcessImagesDuration", "Threshold"), 24000),
    ),
    (alarms_of_duration_come_before_the_timeout, setting(of("SweepDuration", "Threshold"), 240000)),
    (first_dead_letter_is_heard_of, without("Resources/WebhookDeadLettersAlarm")),
    (the_rest_is_watched, without("Resources/BacklogAlarm")),
    (the_rest_is_watched, setting(of("ApiErrorsAlarm", "Dimensions/1/Value"), "api")),
    (the_rest_is_watched, without("Resources/FailedImagesAlarm")),
    (alarms_reach_somebody_and_say_what_to_do, setting(of("SweepErrors", "AlarmActions"), [])),
    (
        alarms_reach_somebody_and_say_what_to_do,
        setting(of("BacklogAlarm", "TreatMissingData"), "breaching"),
    ),
    (cloudwatch_may_publish_alarms, setting(of("Alarms", "KmsMasterKeyId"), "alias/aws/sns")),
    (
        cloudwatch_may_publish_alarms,
        setting(of("AlarmsPolicy", f"{POLICY}/0/Condition/StringEquals"), {}),
    ),
    (
        dashboard_shows_everything,
        setting(of("Dashboard", "DashboardBody"), {"Fn::Sub": ONE_WIDGET}),
    ),
    (renditions_trigger_nothing, setting("Outputs/RenditionsBucket/Value", {"Ref": "Uploads"})),
    (renditions_trigger_nothing, setting(of("Renditions", "NotificationConfiguration"), {})),
    (
        renditions_trigger_nothing,
        setting(
            role("ProcessImagesRole", "1"),
            {
                "Effect": "Allow",
                "Action": "s3:PutObject",
                "Resource": {"Fn::Sub": "${Uploads.Arn}/uploads/*"},
            },
        ),
    ),
    (functions_have_logs_that_end, without("Resources/SweepLogs")),
    (functions_have_logs_that_end, without(of("ApiAccessLogs", "RetentionInDays"))),
    (buckets_forget_what_nobody_sees, without(of("Renditions", "LifecycleConfiguration"))),
    (
        buckets_forget_what_nobody_sees,
        without(of("Deployments", "LifecycleConfiguration/Rules/0/NoncurrentVersionExpiration")),
    ),
    (prod_keeps_and_others_go, setting("Resources/Catalog/DeletionPolicy", "Delete")),
    (prod_keeps_and_others_go, without("Resources/Users/UpdateReplacePolicy")),
    (prod_keeps_and_others_go, setting("Resources/WorkQueue/DeletionPolicy", "Retain")),
    (prod_keeps_and_others_go, setting(of("Catalog", "DeletionProtectionEnabled"), value=False)),
    (names_are_a_stage_s_own, setting(of("WorkQueue", "QueueName"), "image-pipeline-work")),
    (
        names_are_a_stage_s_own,
        setting(of("SweepRole", "RoleName"), {"Fn::Sub": "image-pipeline-${Stage}-sweep"}),
    ),
    (buckets_names_fit, setting("Parameters/Stage/AllowedPattern", "[a-z][a-z0-9-]{0,8}")),
    (everything_is_encrypted, without(of("Deployments", "BucketEncryption"))),
    (everything_is_encrypted, setting(of("WebhookQueue", "SqsManagedSseEnabled"), value=False)),
    (everything_is_encrypted, without(of("Catalog", "SSESpecification"))),
    (everything_is_encrypted, without(of("Announcements", "KmsMasterKeyId"))),
    (everything_is_reached_over_tls, without("Resources/RenditionsPolicy")),
    (everything_is_reached_over_tls, without("Resources/WorkQueuePolicy")),
    (everything_is_reached_over_tls, without(of("AlarmsPolicy", f"{POLICY}/1"))),
    (
        everything_is_reached_over_tls,
        setting(of("UploadsPolicy", f"{POLICY}/0/Resource"), [{"Fn::GetAtt": "Uploads.Arn"}]),
    ),
    (functions_may_do_what_they_do, setting(role("SweepRole", "2/Resource"), "*")),
    (functions_may_do_what_they_do, setting(role("SweepRole", "2/Action"), "dynamodb:*")),
    (
        functions_write_their_own_logs,
        setting(role("SweepRole", "0/Resource"), {"Fn::GetAtt": "ApiHandlerLogs.Arn"}),
    ),
    (
        functions_write_their_own_logs,
        setting(role("SweepRole", "0/Action"), ["logs:PutLogEvents", "logs:CreateLogGroup"]),
    ),
    (
        lambda_alone_takes_the_roles,
        setting(
            of("SweepRole", "AssumeRolePolicyDocument/Statement/0/Principal/Service"),
            ["lambda.amazonaws.com", "ec2.amazonaws.com"],
        ),
    ),
    (only_topics_own_account_publishes, without("Resources/AnnouncementsPolicy")),
    (
        who_announces_tells_all_channels,
        setting(role("HandleRemovalRole", "6/Action"), "events:DescribeEventBus"),
    ),
    (outputs_are_what_is_asked_for, without("Outputs/TopicArn")),
    (outputs_are_what_is_asked_for, without("Outputs/RoleSweep")),
    (outputs_are_what_is_asked_for, setting("Outputs/TopicAnr", {"Value": "mistyped"})),
    (
        outputs_are_what_is_asked_for,
        setting("Outputs/ApiLogGroupArn/Value", {"Fn::Sub": "${ApiAccessLogs.Arn}"}),
    ),
    (users_are_those_let_in, setting(of("Users", "AdminCreateUserConfig"), {})),
    (users_are_those_let_in, setting(of("Users", "Policies/PasswordPolicy/MinimumLength"), 8)),
    (
        users_are_those_let_in,
        setting(of("UsersClient", "ExplicitAuthFlows"), ["ALLOW_USER_SRP_AUTH"]),
    ),
    (users_are_those_let_in, setting(of("UsersClient", "IdTokenValidity"), 61)),
    (users_are_those_let_in, setting(of("UsersClient", "TokenValidityUnits/IdToken"), "hours")),
    (users_are_those_let_in, setting(of("UsersClient", "EnableTokenRevocation"), value=False)),
)


@pytest.mark.parametrize(("rule", "change"), BREAKS)
def test_rule_refuses(rule: Rule, change: Callable[[dict[str, Any]], None]) -> None:
    """A template that breaks it, in one stage at least."""
    broken = deepcopy(SOURCE)
    change(broken)

    assert [each for stage in STAGES for each in rule(stack_of(stage, broken))]


def test_every_rule_is_shown_what_it_refuses() -> None:
    """A rule that nothing breaks may be one that nothing can break."""
    assert {rule.__name__ for rule, _ in BREAKS} == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize(
    "rule",
    [functions_have_alarms, functions_have_logs_that_end, outputs_are_what_is_asked_for],
    ids=lambda rule: rule.__name__,
)
def test_new_function_needs_its_alarms_logs_and_role(
    rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever adds one to the app is told what it lacks."""

    class Declared:
        name = "deliver_anything"

    monkeypatch.setattr(app.app, "pure_lambda_functions", [Declared()])

    assert [
        each for each in rule(stack_of("dev")) if "deliver_anything" in each or "Deliver" in each
    ]


# ── parameters ───────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_made_that_nobody_asked_for() -> None:
    """With a stage and nothing else nobody gets mails, and there are no users and no budget."""
    resources = decided(SOURCE, Stage="dev")["Resources"]

    kinds = {resource["Type"] for resource in resources.values()}
    protocols = {
        each["Protocol"] for each in of_type({"Resources": resources}, SUBSCRIPTION).values()
    }
    assert protocols == {"sqs"}
    assert not kinds & {
        "AWS::Cognito::UserPool",
        "AWS::Cognito::UserPoolClient",
        "AWS::ApiGateway::ApiKey",
        "AWS::ApiGateway::UsagePlan",
        "AWS::Budgets::Budget",
    }
    outputs = decided(SOURCE, Stage="dev")["Outputs"]
    assert not [name for name in outputs if name.startswith(("User", "ApiKey", "ApiPlan"))]


def test_template_knows_the_callers_that_the_setting_knows() -> None:
    """The deploy tool hands the setting over as it is."""
    parameter = SOURCE["Parameters"]["ApiAuth"]

    assert tuple(parameter["AllowedValues"]) == AUTHS
    assert parameter["Default"] == setting_of({}, "api_auth")


def test_key_takes_no_more_than_the_api() -> None:
    """It is in the plan, which is throttled as the API is; nobody has written its value down."""
    stack = decided(SOURCE, Stage="dev", ApiAuth="key", ApiRequestsPerSecond=7, ApiBurst=9)[
        "Resources"
    ]

    [key], [plan], [both] = (
        of_type({"Resources": stack}, f"AWS::ApiGateway::{kind}").values()
        for kind in ("ApiKey", "UsagePlan", "UsagePlanKey")
    )
    assert key == {"Name": "image-pipeline-dev", "Enabled": True}
    assert plan["Throttle"] == {"RateLimit": 7, "BurstLimit": 9}
    assert (both["KeyId"], both["UsagePlanId"]) == ({"Ref": "ApiKey"}, {"Ref": "ApiPlan"})
    assert "AWS::Cognito::UserPool" not in {each["Type"] for each in stack.values()}


def test_people_hear_of_the_statuses_they_ask_for() -> None:
    """SNS filters by the attribute ``status`` that every announcement carries."""
    stack = decided(
        SOURCE,
        Stage="dev",
        NotificationEmail="you@example.com",
        NotificationPhone="+491701234567",
        NotificationEmailStatuses="FAILED,DELETED",
    )["Resources"]

    mail, sms = (stack[f"AnnouncementsBy{how}"]["Properties"] for how in ("Email", "Sms"))
    assert (mail["Endpoint"], mail["FilterPolicy"]) == (
        "you@example.com",
        {"status": ["FAILED", "DELETED"]},
    )
    assert (sms["Endpoint"], sms["FilterPolicy"]) == ("+491701234567", {"status": ["FAILED"]})


@pytest.mark.parametrize(
    ("addresses", "endpoint"),
    [
        ({"NotificationEmail": "you@example.com"}, "you@example.com"),
        ({"AlarmEmail": "ops@example.com"}, "ops@example.com"),
        (
            {"NotificationEmail": "you@example.com", "AlarmEmail": "ops@example.com"},
            "ops@example.com",
        ),
    ],
)
def test_alarms_go_to_their_own_address_or_to_that_of_announcements(
    addresses: dict[str, str], endpoint: str
) -> None:
    """An alarm that reaches nobody is none."""
    stack = decided(SOURCE, Stage="dev", **addresses)["Resources"]

    assert stack["AlarmsByEmail"]["Properties"]["Endpoint"] == endpoint


@pytest.mark.parametrize(
    ("parameter", "right", "wrong"),
    [
        ("Stage", ["dev", "prod", "local", "pr-12345"], ["", "Dev", "1st", "nine-char", "a_b"]),
        ("NotificationEmail", ["", "you@example.com"], ["you", "you at example.com"]),
        ("NotificationPhone", ["", "+491701234567"], ["0170 1234567", "+0170"]),
        ("NotificationEmailStatuses", ["FAILED", "FAILED,DUPLICATE"], ["", "failed", "QUEUED"]),
    ],
)
def test_parameters_take_what_they_can_be(
    parameter: str, right: list[str], wrong: list[str]
) -> None:
    """What AWS would refuse half-way through the stack is refused before."""
    pattern = SOURCE["Parameters"][parameter]["AllowedPattern"]

    assert [each for each in right if not re.fullmatch(pattern, each)] == []
    assert [each for each in wrong if re.fullmatch(pattern, each)] == []


@pytest.mark.parametrize("how", ["Email", "Phone"])
def test_statuses_are_those_that_are_announced(how: str) -> None:
    """The filter's words are those of the message attribute."""
    pattern = SOURCE["Parameters"][f"Notification{how}Statuses"]["AllowedPattern"]

    assert set(re.findall(r"[A-Z]+", pattern)) == set(EventKind)


def test_budget_counts_the_stage_and_what_takes_no_tag() -> None:
    """Rekognition is nearly the whole bill, and no resource of a stack."""
    budget = stack_of("dev")["Resources"]["Budget"]["Properties"]

    assert budget["Budget"]["BudgetLimit"] == {"Amount": 20, "Unit": "USD"}
    tags, service = budget["Budget"]["FilterExpression"]["Or"]
    assert (tags["Tags"]["Key"], tags["Tags"]["Values"]) == ("image-pipeline-stage", ["dev"])
    assert service["Dimensions"]["Values"] == ["Amazon Rekognition"]
    told = {
        (each["Notification"]["NotificationType"], each["Notification"]["Threshold"])
        for each in budget["NotificationsWithSubscribers"]
    }
    assert told == {("ACTUAL", 80), ("FORECASTED", 100)}


def test_template_travels_inline() -> None:
    """A larger one would need a bucket before there is any."""
    assert len(rendered(TEMPLATE, {"Stage": "prod"}).encode()) <= MAX_INLINE_BYTES
