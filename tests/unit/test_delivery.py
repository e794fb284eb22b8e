"""What the pipelines, the commands they run and the roles they run with promise each other."""

import argparse
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from chalicelib.config import AUTHS
from infrastructure.__main__ import COMMANDS
from infrastructure.stage import PROJECT, TEMPLATE
from infrastructure.workflow import WORKFLOW
from tests.template import PSEUDO, decided, read_template

INFRASTRUCTURE = PROJECT / "infrastructure"
WORKFLOWS = PROJECT / ".github" / "workflows"
ACCOUNT, REGION = PSEUDO["AWS::AccountId"], PSEUDO["AWS::Region"]
STAGES = ("dev", "prod")
OTHER = {"dev": "prod", "prod": "dev"}

Document = Mapping[str, Any]


# ── who may do what ──────────────────────────────────────────────────────────────────────────────


def allowed(
    documents: Sequence[Document],
    action: str,
    resource: str,
    context: Mapping[str, Any] | None = None,
) -> bool:
    """Whether policies allow an action (``s3:PutObject``) on the ARN of a resource.

    ``documents`` are policies of one role, resolved to plain JSON, as ``deployer`` gives them;
    ``context`` has the request's condition keys. Decided as the local cloud decides it.
    """
    request = EvalContext(
        principal_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/build",
        principal_type="AssumedRole",
        principal_account=str(ACCOUNT),
        action=action,
        resource_arn=resource,
        region=str(REGION),
        service_context={key.lower(): value for key, value in (context or {}).items()},
    )
    return bool(evaluate(request, list(map(parse_policy_document, documents))).decision == "Allow")


@cache
def template(path: Path) -> dict[str, Any]:
    return read_template(path)


@cache
def deployer(stage: str) -> list[Document]:
    """The policies of the role that deploys a stage."""
    resources = deployer_template(stage)
    names = [policy["Ref"] for policy in resources["Deployer"]["Properties"]["ManagedPolicyArns"]]
    return [resources[name]["Properties"]["PolicyDocument"] for name in names]


@cache
def boundary(stage: str) -> Document:
    document: Document = deployer_template(stage)["Boundary"]["Properties"]["PolicyDocument"]
    return document


def boundary_arn(stage: str) -> str:
    name = f"image-pipeline-boundary-{stage}-{REGION}"
    return f"arn:aws:iam::{ACCOUNT}:policy/image-pipeline/{name}"


def deployer_template(stage: str, **parameters: str) -> dict[str, Any]:
    given = {"Stage": stage, **parameters}
    resources = decided(template(INFRASTRUCTURE / "deployer.yaml"), **given)["Resources"]
    references = [f"Keep{what}" for what in ("App", "Roles", "Stack", "Watch")]
    found = _named(resources, {"Boundary": boundary_arn(stage)}, leave=references)
    assert isinstance(found, dict)
    return found


@cache
def of_stage(stage: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The stage's own resources with all that can be chosen chosen, and the ARN of each."""
    resources = {}
    for auth in AUTHS:
        resources |= decided(
            template(TEMPLATE),
            Stage=stage,
            NotificationEmail="you@example.com",
            NotificationPhone="+491701234567",
            ApiAuth=auth,
            MonthlyBudgetUsd=10,
            PermissionsBoundary=boundary_arn(stage),
        )["Resources"]
    resources |= decided(
        template(WORKFLOW),
        Stage=stage,
        StartFromS3="true",
        Worker="ProcessImagesRole",
        PermissionsBoundary=boundary_arn(stage),
    )["Resources"]
    arns = {name: _arn(name, resource, stage) for name, resource in resources.items()}
    return resources, arns


ARNS = {
    "AWS::S3::Bucket": "s3:::{BucketName}",
    "AWS::DynamoDB::Table": "dynamodb:{here}:table/{TableName}",
    "AWS::SQS::Queue": "sqs:{here}:{QueueName}",
    "AWS::SNS::Topic": "sns:{here}:{TopicName}",
    "AWS::SNS::Subscription": "sns:{here}:image-pipeline-{stage}",  # its topic is what IAM asks for
    "AWS::Logs::LogGroup": "logs:{here}:log-group:{LogGroupName}",
    "AWS::Events::EventBus": "events:{here}:event-bus/{Name}",
    "AWS::Events::Rule": "events:{here}:rule/{Name}",
    "AWS::StepFunctions::StateMachine": "states:{here}:stateMachine:{StateMachineName}",
    "AWS::CloudWatch::Alarm": "cloudwatch:{here}:alarm:{AlarmName}",
    "AWS::CloudWatch::Dashboard": "cloudwatch::{account}:dashboard/{DashboardName}",
    "AWS::Budgets::Budget": "budgets::{account}:budget/{Budget[BudgetName]}",
    "AWS::Cognito::UserPool": "cognito-idp:{here}:userpool/Example",
    "AWS::Cognito::UserPoolClient": "cognito-idp:{here}:userpool/Example",
    "AWS::Cognito::UserPoolGroup": "cognito-idp:{here}:userpool/Example",
    "AWS::ApiGateway::ApiKey": "apigateway:{region}::/apikeys/a1b2c3",
    "AWS::ApiGateway::UsagePlan": "apigateway:{region}::/usageplans/a1b2c3",
    "AWS::ApiGateway::UsagePlanKey": "apigateway:{region}::/usageplans/a1b2c3/keys",
    # CloudFormation makes these names up.
    "AWS::IAM::Role": "iam::{account}:role/image-pipeline-{stage}-{name}-1ABCDEF",
    "AWS::IAM::ManagedPolicy": "iam::{account}:policy/image-pipeline-{stage}-{name}-1ABCDEF",
}
"""What IAM is asked about, by type; what is not here is a property of another resource, really."""


def _arn(name: str, resource: Mapping[str, Any], stage: str) -> str:
    kind = resource["Type"]
    if kind not in ARNS:
        return ""
    facts = {"here": f"{REGION}:{ACCOUNT}", "account": ACCOUNT, "region": REGION}
    facts |= {"stage": stage, "name": name}
    return "arn:aws:" + ARNS[kind].format(**facts, **resource["Properties"])


def _named(node: Any, arns: Mapping[str, str], leave: Sequence[str] = ()) -> Any:
    """A template's node with references to resources replaced by their ARNs."""
    match node:
        case {"Ref": str(name)} if name in arns and name not in leave:
            return arns[name]
        case {"Fn::GetAtt": str(name)} if name.removesuffix(".Arn") in arns:
            return arns[name.removesuffix(".Arn")]
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{(\w+)\.Arn\}", lambda found: arns[found[1]], text)
        case dict():
            return {key: _named(value, arns, leave) for key, value in node.items()}
        case list():
            return [_named(value, arns, leave) for value in node]
    return node


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# ── what CloudFormation asks for ─────────────────────────────────────────────────────────────────

CREATE: dict[str, tuple[str, ...]] = {
    "AWS::S3::Bucket": (
        *("s3:CreateBucket", "s3:ListBucket", "s3:GetBucketVersioning", "s3:PutBucketTagging"),
        *("s3:PutBucketVersioning", "s3:PutEncryptionConfiguration", "s3:PutBucketCORS"),
        *("s3:PutBucketPublicAccessBlock", "s3:PutBucketOwnershipControls"),
        *("s3:PutLifecycleConfiguration", "s3:PutBucketPolicy", "s3:GetEncryptionConfiguration"),
    ),
    "AWS::DynamoDB::Table": (
        *("dynamodb:CreateTable", "dynamodb:DescribeTable", "dynamodb:UpdateTable"),
        *("dynamodb:UpdateTimeToLive", "dynamodb:UpdateContinuousBackups"),
        *("dynamodb:TagResource", "dynamodb:DescribeContinuousBackups"),
    ),
    "AWS::SQS::Queue": (
        *("sqs:CreateQueue", "sqs:GetQueueAttributes", "sqs:SetQueueAttributes"),
        "sqs:TagQueue",
    ),
    "AWS::SNS::Topic": (
        *("sns:CreateTopic", "sns:GetTopicAttributes", "sns:SetTopicAttributes"),
        *("sns:TagResource", "sns:DeleteTopic"),
    ),
    "AWS::SNS::Subscription": ("sns:Subscribe", "sns:Unsubscribe"),
    "AWS::Logs::LogGroup": (
        *("logs:CreateLogGroup", "logs:PutRetentionPolicy", "logs:TagResource"),
        "logs:DeleteLogGroup",
    ),
    "AWS::Events::EventBus": (
        *("events:CreateEventBus", "events:DescribeEventBus", "events:TagResource"),
        "events:DeleteEventBus",
    ),
    "AWS::Events::Rule": (
        *("events:PutRule", "events:DescribeRule", "events:PutTargets", "events:DeleteRule"),
        *("events:RemoveTargets", "events:ListTargetsByRule", "events:TagResource"),
    ),
    "AWS::StepFunctions::StateMachine": (
        *("states:CreateStateMachine", "states:DescribeStateMachine", "states:TagResource"),
        *("states:UpdateStateMachine", "states:DeleteStateMachine", "states:ListTagsForResource"),
    ),
    "AWS::CloudWatch::Alarm": (
        *("cloudwatch:PutMetricAlarm", "cloudwatch:DeleteAlarms", "cloudwatch:TagResource"),
    ),
    "AWS::CloudWatch::Dashboard": (
        *("cloudwatch:PutDashboard", "cloudwatch:GetDashboard", "cloudwatch:DeleteDashboards"),
    ),
    "AWS::Budgets::Budget": ("budgets:ModifyBudget", "budgets:ViewBudget"),
    "AWS::Cognito::UserPool": (
        *("cognito-idp:DescribeUserPool", "cognito-idp:UpdateUserPool"),
        "cognito-idp:SetUserPoolMfaConfig",
    ),
    "AWS::Cognito::UserPoolClient": (
        *("cognito-idp:CreateUserPoolClient", "cognito-idp:DescribeUserPoolClient"),
        *("cognito-idp:UpdateUserPoolClient", "cognito-idp:DeleteUserPoolClient"),
    ),
    "AWS::Cognito::UserPoolGroup": (
        *("cognito-idp:CreateGroup", "cognito-idp:GetGroup"),
        *("cognito-idp:UpdateGroup", "cognito-idp:DeleteGroup"),
    ),
    "AWS::ApiGateway::ApiKey": (*("apigateway:GET", "apigateway:PATCH", "apigateway:DELETE"),),
    "AWS::ApiGateway::UsagePlan": (*("apigateway:GET", "apigateway:PATCH", "apigateway:DELETE"),),
    "AWS::ApiGateway::UsagePlanKey": (*("apigateway:POST", "apigateway:GET", "apigateway:DELETE"),),
    "AWS::IAM::Role": (
        *("iam:CreateRole", "iam:GetRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"),
        *("iam:TagRole", "iam:UpdateAssumeRolePolicy", "iam:DeleteRolePolicy", "iam:DeleteRole"),
        *("iam:DetachRolePolicy", "iam:PutRolePermissionsBoundary"),
    ),
    "AWS::IAM::ManagedPolicy": (
        *("iam:CreatePolicy", "iam:GetPolicy", "iam:CreatePolicyVersion", "iam:DeletePolicy"),
        *("iam:ListPolicyVersions", "iam:DeletePolicyVersion"),
    ),
}
"""What making, changing and, where nothing is lost by it, removing a resource takes."""

PROPERTIES_REALLY = {"AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"}
"""Set with the rights that their bucket, queue or topic takes."""

DELETE = {
    "AWS::S3::Bucket": "s3:DeleteBucket",
    "AWS::DynamoDB::Table": "dynamodb:DeleteTable",
    "AWS::SQS::Queue": "sqs:DeleteQueue",
    "AWS::Cognito::UserPool": "cognito-idp:DeleteUserPool",
}
"""Where something may be lost by it."""


def context_of(stage: str) -> dict[str, Any]:
    """What AWS knows of a request in the stage: the tag of its resources, the roles' boundary."""
    return {
        "aws:ResourceTag/image-pipeline-stage": stage,
        "aws:RequestTag/image-pipeline-stage": stage,
        "iam:PermissionsBoundary": boundary_arn(stage),
    }


@pytest.mark.parametrize("stage", STAGES)
def test_deployer_may_make_and_change_every_resource_of_its_stage(stage: str) -> None:
    """A type that resources.yaml comes to use needs its rights in deployer.yaml, and a row here."""
    resources, arns = of_stage(stage)

    missing = [
        (name, action)
        for name, resource in resources.items()
        for action in CREATE.get(resource["Type"], ())
        if not allowed(deployer(stage), action, arns[name], context_of(stage))
    ]

    assert not missing
    assert {each["Type"] for each in resources.values()} - {*CREATE} <= PROPERTIES_REALLY


@pytest.mark.parametrize("stage", STAGES)
def test_deployer_may_delete_what_the_template_does_not_retain_and_nothing_else(stage: str) -> None:
    """A build of prod cannot delete what prod holds, even if its template says so."""
    resources, arns = of_stage(stage)

    for name, resource in resources.items():
        if action := DELETE.get(resource["Type"]):
            kept = resource["DeletionPolicy"].startswith("Retain")
            kept |= stage == "prod" and "DeadLetter" in name  # with what is in it
            may = allowed(deployer(stage), action, arns[name], context_of(stage))
            assert may is not kept, f"{action} of {name}"


@pytest.mark.parametrize("stage", STAGES)
def test_deployer_may_touch_no_resource_of_the_other_stage(stage: str) -> None:
    other = OTHER[stage]
    resources, arns = of_stage(other)

    touched = [
        (name, action)
        for name, resource in resources.items()
        for action in (*CREATE.get(resource["Type"], ()), DELETE.get(resource["Type"], ""))
        if allowed(deployer(stage), action, arns[name], context_of(other))
    ]

    assert not touched


# ── what the deploy tool and Chalice ask for ─────────────────────────────────────────────────────


def deployment(stage: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What a deployment asks AWS for beside the stack's resources: action, resource, context."""
    here = f"{REGION}:{ACCOUNT}"
    name = f"image-pipeline-{stage}"
    stacks = f"arn:aws:cloudformation:{here}:stack"
    for stack in (f"{stacks}/{name}/1f2e3d4c", f"{stacks}/{name}-workflow/1f2e3d4c"):
        for action in (
            *("DescribeStacks", "CreateChangeSet", "DescribeChangeSet", "ExecuteChangeSet"),
            *("DescribeStackEvents", "DeleteChangeSet", "ListStackResources"),
        ):
            yield f"cloudformation:{action}", stack, {}
    yield "cloudformation:DeleteStack", f"{stacks}/{name}-workflow/1f2e3d4c", {}
    bucket = f"arn:aws:s3:::{name}-deployments-{ACCOUNT}-{REGION}"
    for action in ("GetObject", "PutObject", "DeleteObject"):
        yield f"s3:{action}", f"{bucket}/lock.json", {}
        yield f"s3:{action}", f"{bucket}/state.json", {}
    for function in (name, f"{name}-process_images"):
        arn = f"arn:aws:lambda:{here}:function:{function}"
        for action in (
            *("CreateFunction", "GetFunction", "GetFunctionConfiguration", "UpdateFunctionCode"),
            *("UpdateFunctionConfiguration", "ListTags", "TagResource", "GetPolicy"),
            *("RemovePermission", "DeleteFunction", "PutFunctionEventInvokeConfig"),
        ):
            yield f"lambda:{action}", arn, {}
        yield "lambda:AddPermission", arn, {"lambda:Principal": "s3.amazonaws.com"}
    mapping = f"arn:aws:lambda:{here}:event-source-mapping:0a1b"
    function = {"lambda:FunctionArn": f"arn:aws:lambda:{here}:function:{name}-process_images"}
    yield "lambda:CreateEventSourceMapping", "*", function
    yield "lambda:UpdateEventSourceMapping", mapping, function
    yield "lambda:DeleteEventSourceMapping", mapping, function
    role = f"arn:aws:iam::{ACCOUNT}:role/{name}-SweepRole-1ABCDEF"
    for service in ("events", "lambda", "states"):
        yield "iam:PassRole", role, {"iam:PassedToService": f"{service}.amazonaws.com"}
    uploads = f"arn:aws:s3:::{name}-uploads-{ACCOUNT}-{REGION}"
    yield "s3:GetBucketNotification", uploads, {}
    yield "s3:PutBucketNotification", uploads, {}
    for action in ("PutRule", "PutTargets", "RemoveTargets", "DeleteRule"):
        yield f"events:{action}", f"arn:aws:events:{here}:rule/{name}-sweep-event", {}
    tag = {"aws:ResourceTag/image-pipeline-stage": stage}
    api = f"arn:aws:apigateway:{REGION}::/restapis/a1b2c3"
    yield "apigateway:PUT", api, tag
    yield "apigateway:PATCH", f"{api}/stages/{stage}", tag
    yield "apigateway:POST", f"{api}/deployments", tag
    yield "apigateway:PUT", f"{api}/gatewayresponses/DEFAULT_4XX", tag
    yield "apigateway:PATCH", f"arn:aws:apigateway:{REGION}::/usageplans/a1b2c3", tag
    yield "apigateway:GET", f"arn:aws:apigateway:{REGION}::/apikeys/a1b2c3", tag
    yield "s3:PutObject", f"{uploads}/uploads/smoke-test-1.jpg", {}
    yield "s3:DeleteObject", f"{uploads}/uploads/smoke-test-1.jpg", {}
    yield "dynamodb:GetItem", f"arn:aws:dynamodb:{here}:table/{name}", {}
    yield "execute-api:Invoke", f"arn:aws:execute-api:{here}:a1b2c3/{stage}/GET/images/x", {}


EVERYWHERE = {
    "cognito-idp:CreateUserPool",
    "events:ListRules",
    "lambda:ListEventSourceMappings",
    "lambda:ListFunctions",
    "logs:DescribeLogGroups",
    "s3:ListAllMyBuckets",
    "sns:GetSubscriptionAttributes",
}
"""Without a resource or a condition: they read, and a new user pool has no name yet."""


@pytest.mark.parametrize("stage", STAGES)
def test_deployer_may_do_what_a_deployment_does(stage: str) -> None:
    missing = [each for each in deployment(stage) if not allowed(deployer(stage), *each)]

    assert not missing


@pytest.mark.parametrize("stage", STAGES)
def test_deployer_may_do_none_of_it_to_the_other_stage(stage: str) -> None:
    """Names tell the stages apart, and for what has only an id its tag."""
    too_many = [each for each in deployment(OTHER[stage]) if allowed(deployer(stage), *each)]

    assert not too_many


@pytest.mark.parametrize("stage", STAGES)
def test_first_api_of_a_stage_can_be_made_and_tagged(stage: str) -> None:
    """API Gateway takes no tags with an import, so it is untagged for a moment."""
    apis = f"arn:aws:apigateway:{REGION}::/restapis"
    tags = f"arn:aws:apigateway:{REGION}::/tags/arn%3Aaws%3Aapigateway%3A{REGION}%3A%3A%2Frestapis"

    assert allowed(deployer(stage), "apigateway:GET", f"arn:aws:apigateway:{REGION}::/account")
    assert allowed(deployer(stage), "apigateway:GET", apis)
    assert allowed(deployer(stage), "apigateway:POST", apis)
    assert allowed(deployer(stage), "apigateway:POST", f"{apis}/a1b2c3/deployments")
    for whose in STAGES:
        tag = {"aws:RequestTag/image-pipeline-stage": whose}
        assert allowed(deployer(stage), "apigateway:PUT", tags, tag) is (whose == stage)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["apikeys", "usageplans"])
def test_key_is_made_with_its_stages_tag_and_never_listed(stage: str, kind: str) -> None:
    """A list of keys has the values of all keys of the account, if one asks for them."""
    collection = f"arn:aws:apigateway:{REGION}::/{kind}"

    assert not allowed(deployer(stage), "apigateway:GET", collection, context_of(stage))
    for whose in STAGES:
        tag = {"aws:RequestTag/image-pipeline-stage": whose}
        assert allowed(deployer(stage), "apigateway:POST", collection, tag) is (whose == stage)
    for action in ("GET", "PATCH", "DELETE"):
        assert not allowed(deployer(stage), f"apigateway:{action}", f"{collection}/untagged")


@pytest.mark.parametrize("stage", STAGES)
def test_wildcards_stand_only_where_iam_knows_no_resource(stage: str) -> None:
    everywhere = {
        action
        for document in deployer(stage)
        for statement in document["Statement"]
        if "*" in listed(statement["Resource"]) and "Condition" not in statement
        for action in listed(statement["Action"])
    }

    assert everywhere == EVERYWHERE


# ── no way up ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "action",
    ["CreateRole", "PutRolePolicy", "AttachRolePolicy", "PutRolePermissionsBoundary"],
)
def test_deployer_may_give_rights_only_to_roles_within_the_boundary(
    stage: str, action: str
) -> None:
    """Or it could make a role that may do anything, and a function that uses it."""
    role = f"arn:aws:iam::{ACCOUNT}:role/image-pipeline-{stage}-mine"
    another = {"iam:PermissionsBoundary": f"arn:aws:iam::{ACCOUNT}:policy/mine"}

    assert allowed(deployer(stage), f"iam:{action}", role, context_of(stage))
    assert not allowed(deployer(stage), f"iam:{action}", role)
    assert not allowed(deployer(stage), f"iam:{action}", role, another)
    assert not allowed(deployer(stage), "iam:DeleteRolePermissionsBoundary", role)


@pytest.mark.parametrize("stage", STAGES)
def test_deployer_may_change_neither_itself_nor_the_boundary(stage: str) -> None:
    itself = f"arn:aws:iam::{ACCOUNT}:role/image-pipeline/image-pipeline-deployer-{stage}-{REGION}"

    for action in ("iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:UpdateAssumeRolePolicy"):
        assert not allowed(deployer(stage), action, itself, context_of(stage))
    for action in ("iam:CreatePolicyVersion", "iam:DeletePolicy", "iam:SetDefaultPolicyVersion"):
        assert not allowed(deployer(stage), action, boundary_arn(stage), context_of(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_roles_go_to_their_services_and_functions_open_to_services_alone(stage: str) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/image-pipeline-{stage}-SweepRole-1ABCDEF"
    ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:image-pipeline-{stage}"

    assert not allowed(deployer(stage), "iam:PassRole", role, ec2)
    for outsider in ("*", "999999999999"):
        who = {"lambda:Principal": outsider}
        assert not allowed(deployer(stage), "lambda:AddPermission", function, who)


@pytest.mark.parametrize("stage", STAGES)
def test_boundary_allows_all_that_the_functions_are_allowed(stage: str) -> None:
    """Or a deployment would succeed and the functions be refused."""
    resources, arns = of_stage(stage)
    policies = {
        name: [resource["Properties"]["PolicyDocument"]]
        if resource["Type"] == "AWS::IAM::ManagedPolicy"
        else [policy["PolicyDocument"] for policy in resource["Properties"].get("Policies", ())]
        for name, resource in resources.items()
        if resource["Type"] in ("AWS::IAM::ManagedPolicy", "AWS::IAM::Role")
    }

    refused = [
        (name, action, resource)
        for name, documents in policies.items()
        for document in _named(documents, arns)
        for statement in document["Statement"]
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        if not allowed([boundary(stage)], action, resource)
    ]

    assert not refused


@pytest.mark.parametrize("stage", STAGES)
def test_boundary_keeps_functions_from_the_other_stage_and_from_the_state(stage: str) -> None:
    bucket = f"arn:aws:s3:::image-pipeline-{stage}-deployments-{ACCOUNT}-{REGION}"
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/image-pipeline-{OTHER[stage]}"

    assert not allowed([boundary(stage)], "s3:PutObject", f"{bucket}/state.json")
    assert not allowed([boundary(stage)], "dynamodb:PutItem", table)
    assert not allowed([boundary(stage)], "iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/x")


@pytest.mark.parametrize("stage", STAGES)
def test_every_role_of_a_stage_takes_the_boundary(stage: str) -> None:
    resources, _ = of_stage(stage)
    roles = [each for each in resources.values() if each["Type"] == "AWS::IAM::Role"]

    assert [role["Properties"].get("PermissionsBoundary") for role in roles] == [
        boundary_arn(stage)
    ] * len(roles)


def test_policies_are_as_short_as_iam_asks() -> None:
    """6,144 characters without white space, for a stage and a region with the longest names."""
    for name, resource in deployer_template("longest8").items():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            document = json.dumps(resource["Properties"]["PolicyDocument"], separators=(",", ":"))
            assert len(document.replace(str(REGION), "ap-southeast-1")) <= 6144, name


# ── who may assume the role ──────────────────────────────────────────────────────────────────────


def trust(stage: str, **parameters: str) -> dict[str, Any]:
    role = deployer_template(stage, **parameters)["Deployer"]["Properties"]
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    assert isinstance(statement, dict)
    return statement


@pytest.mark.parametrize("stage", STAGES)
def test_codebuild_gets_the_role_for_the_project_of_the_stage_alone(stage: str) -> None:
    projects = of_pipeline("AWS::CodeBuild::Project")
    [source] = [trust(stage)["Condition"]["StringEquals"]["aws:SourceArn"]]

    assert trust(stage)["Principal"] == {"Service": "codebuild.amazonaws.com"}
    assert [
        project["ServiceRole"]
        for project in projects.values()
        if source.endswith(f":project/{project['Name']}")
    ] == [{"Fn::ImportValue": f"image-pipeline-deployer-{stage}"}]


@pytest.mark.parametrize("stage", STAGES)
def test_github_gets_the_role_for_one_repository_and_environment(stage: str) -> None:
    """Equal to, not like: a pattern would let names in that begin alike."""
    statement = trust(stage, GitHubRepository="you@1/image-pipeline@2")

    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": (
                f"repo:you@1/image-pipeline@2:environment:{stage}"
            ),
        }
    }


@pytest.mark.parametrize(
    ("repository", "is_taken"),
    [
        ("", True),
        ("you/image-pipeline", True),
        ("you@1/image-pipeline@2", True),
        ("you/*", False),
        ("you", False),
        ("you/image-pipeline:ref:refs/heads/main", False),
    ],
)
def test_repository_is_one_and_no_pattern(repository: str, is_taken: bool) -> None:  # noqa: FBT001
    parameter = template(INFRASTRUCTURE / "deployer.yaml")["Parameters"]["GitHubRepository"]

    assert bool(re.fullmatch(parameter["AllowedPattern"], repository)) is is_taken


# ── CodePipeline ─────────────────────────────────────────────────────────────────────────────────

CHOICES = [
    {"Repository": "image-pipeline"},
    {"Repository": "you/image-pipeline", "ConnectionArn": "arn:aws:codeconnections:…"},
]


def pipeline_template(**parameters: str) -> dict[str, Any]:
    given = {"Repository": "image-pipeline", "Email": "you@example.com", **parameters}
    return decided(template(INFRASTRUCTURE / "pipeline.yaml"), **given)


def of_pipeline(kind: str, **parameters: str) -> dict[str, Any]:
    return {
        name: resource["Properties"]
        for name, resource in pipeline_template(**parameters)["Resources"].items()
        if resource["Type"] == kind
    }


@pytest.mark.parametrize("choice", CHOICES)
def test_prod_comes_after_tests_dev_and_approval(choice: dict[str, str]) -> None:
    [pipeline] = of_pipeline("AWS::CodePipeline::Pipeline", **choice).values()

    assert [stage["Name"] for stage in pipeline["Stages"]] == [
        *("Source", "Test", "Dev", "Approval", "Prod")
    ]
    assert all(len(stage["Actions"]) == 1 for stage in pipeline["Stages"])
    assert pipeline["Stages"][3]["Actions"][0]["ActionTypeId"]["Category"] == "Approval"
    assert (pipeline["PipelineType"], pipeline["ExecutionMode"]) == ("V2", "QUEUED")


def test_dev_and_prod_are_deployed_alike() -> None:
    """Stage, role, log and cache are all that may differ."""
    dev, prod = (
        of_pipeline("AWS::CodeBuild::Project")[name] for name in ("DeployDev", "DeployProd")
    )

    assert json.loads(json.dumps(dev).replace("dev", "prod").replace("Dev", "Prod")) == prod
    assert {"Name": "STAGE", "Value": "dev"} in dev["Environment"]["EnvironmentVariables"]
    assert {"Name": "STAGE", "Value": "prod"} in prod["Environment"]["EnvironmentVariables"]


def test_no_build_writes_what_another_builds_with() -> None:
    """Sources and the caches of other projects are read only, or not seen at all."""
    written = {
        name: [
            resource["Fn::Sub"]
            for statement in policy["PolicyDocument"]["Statement"]
            if "s3:PutObject" in listed(statement["Action"])
            for resource in listed(statement["Resource"])
        ]
        for name, policy in of_pipeline("AWS::IAM::RolePolicy").items()
        if name.endswith("BuildPolicy")
    }

    assert written == {
        f"{name}BuildPolicy": [f"${{Artifacts.Arn}}/cache/{name.lower()}/*"]
        for name in ("Test", "Dev", "Prod")
    }


@pytest.mark.parametrize("choice", CHOICES)
def test_every_reference_of_the_pipeline_is_to_what_is_there(choice: dict[str, str]) -> None:
    """Source and trigger are chosen together."""
    resources = pipeline_template(**choice)["Resources"]
    kinds = {resource["Type"] for resource in resources.values()}

    assert ("WhenPushed" in resources) is ("ConnectionArn" not in choice)
    assert {"AWS::CodePipeline::Pipeline", "AWS::SNS::Topic"} <= kinds


# ── the commands ─────────────────────────────────────────────────────────────────────────────────


def buildspec(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((INFRASTRUCTURE / f"buildspec-{name}.yml").read_text())
    return found


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text())
    return found


def steps(name: str, job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = workflow(name)["jobs"][job]["steps"]
    return found


def words_of(command: str, **environment: str) -> list[str]:
    """What a shell makes of ``python …``."""
    shell = subprocess.run(
        ["bash", "-uc", f'python() {{ printf "%s\\n" "$@"; }}; {command}'],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return shell.stdout.splitlines()


@pytest.mark.parametrize("email", ["", "you@example.com"])
def test_deploy_command_is_one_that_the_tool_takes(email: str) -> None:
    [command] = buildspec("deploy")["phases"]["build"]["commands"]

    words = words_of(command, STAGE="dev", EMAIL=email)
    assert words[:3] == ["-m", "infrastructure", "deploy"]
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage")
    COMMANDS[words[2]].add_arguments(parser)
    options = parser.parse_args(words[3:])

    assert (options.stage, options.allow_data_loss, options.email) == ("dev", False, email or None)


def test_every_pipeline_runs_the_same_commands() -> None:
    """CodeBuild and GitHub install and deploy alike, with the same Python, and test alike."""
    spec = buildspec("deploy")["phases"]
    deploy = steps("deploy-stage", "deploy")
    [python] = [
        step["with"]["python-version"] for step in deploy if "setup-python" in step.get("uses", "")
    ]

    assert [step["run"] for step in deploy if "run" in step] == [
        *spec["install"]["commands"],
        *spec["build"]["commands"],
    ]
    assert spec["install"]["runtime-versions"]["python"] == python
    assert steps("ci", "test")[-1]["run"] == buildspec("test")["phases"]["build"]["commands"][0]


def test_ci_runs_a_script_whose_targets_exist() -> None:
    [command] = buildspec("test")["phases"]["build"]["commands"]
    script = PROJECT / command.removeprefix("bash ")
    targets = re.findall(r"^make ([a-z-]+)", script.read_text(), re.MULTILINE)

    assert {"check", "demo"} <= set(targets)
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=PROJECT, capture_output=True, check=True)


def test_files_that_commands_name_are_there() -> None:
    for project in of_pipeline("AWS::CodeBuild::Project").values():
        assert (PROJECT / project["Source"]["BuildSpec"]).is_file()
    [install] = buildspec("deploy")["phases"]["install"]["commands"]
    assert (PROJECT / install.rpartition(" ")[2]).is_file()


# ── GitHub Actions ───────────────────────────────────────────────────────────────────────────────


def every(choose: Callable[[dict[str, Any]], Any]) -> list[Any]:
    """Something of every job of every workflow."""
    return [
        choose(job)
        for path in sorted(WORKFLOWS.glob("*.yml"))
        for job in workflow(path.stem)["jobs"].values()
    ]


def test_actions_are_pinned_to_commits() -> None:
    """A tag can be moved to other code, a commit cannot."""
    uses = [
        step["uses"]
        for job in every(lambda job: job.get("steps", ()))
        for step in job
        if "uses" in step
    ]

    assert uses
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", each) for each in uses), uses


def test_tokens_are_for_the_jobs_that_deploy() -> None:
    for path in WORKFLOWS.glob("*.yml"):
        assert workflow(path.stem)["permissions"] == {"contents": "read"}
    assert workflow("ci")["jobs"]["test"].get("permissions") is None
    for stage in STAGES:
        assert workflow("deploy")["jobs"][stage]["permissions"]["id-token"] == "write"


def test_github_deploys_dev_after_the_tests_and_prod_after_dev() -> None:
    jobs = workflow("deploy")["jobs"]

    assert (jobs["dev"]["needs"], jobs["prod"]["needs"]) == ("test", "dev")
    assert [jobs[stage]["with"]["stage"] for stage in STAGES] == list(STAGES)
    assert jobs["dev"]["uses"] == jobs["prod"]["uses"]


def test_github_deploys_a_stage_once_at_a_time_and_in_its_environment() -> None:
    job = workflow("deploy-stage")["jobs"]["deploy"]

    assert job["environment"] == "${{ inputs.stage }}"  # AWS compares it with the role's stage
    assert job["concurrency"] == {
        "group": "deploy-${{ inputs.stage }}",
        "cancel-in-progress": False,
    }
