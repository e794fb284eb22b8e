"""What the deploy tool sets on an API that Chalice has imported."""

import json
import re
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from infrastructure.gateway import ACCESS_LOG, HEADERS, PROBLEM, RESPONSES, Gateway
from localcloud.emulator import REGION, Emulator
from tests.adapters.conftest import Operations

STAGE = "dev"
LOG_GROUP = f"arn:aws:logs:{REGION}:000000000000:log-group:/aws/apigateway/image-pipeline-dev"
FUNCTION = f"arn:aws:lambda:{REGION}:000000000000:function:image-pipeline-dev"
WANTED: dict[str, Any] = {
    "tags": {"image-pipeline-stage": STAGE},
    "access_log_arn": LOG_GROUP,
    "requests_per_s": 12.5,
    "burst": 25,
    "traced": True,
}
DONE = (
    "the API has its stage's tag",
    "errors of API Gateway's own have CORS headers and problem details",
    "up to 12.5 requests a second (bursts of 25), access logs, traces on",
)
TAG, ERRORS, SETTINGS = ([each] for each in DONE)


@pytest.fixture(scope="module")
def client(emulator: Emulator) -> Any:
    return emulator.client("apigateway")


@pytest.fixture
def gateway(client: Any) -> Gateway:
    """An API with one route, deployed as Chalice does."""
    uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{FUNCTION}/invocations"
    route = {
        "responses": {},
        "x-amazon-apigateway-integration": {
            "type": "aws_proxy",
            "httpMethod": "POST",
            "uri": uri,
            "passthroughBehavior": "when_no_match",
        },
    }
    document = {
        "swagger": "2.0",
        "info": {"version": "1.0", "title": "image-pipeline"},
        "paths": {"/images": {"get": route}},
    }
    api_id = client.import_rest_api(body=json.dumps(document).encode())["id"]
    client.create_deployment(restApiId=api_id, stageName=STAGE)
    return Gateway(client, api_id, STAGE)


def stage_of(gateway: Gateway) -> Any:
    return gateway.client.get_stage(restApiId=gateway.api_id, stageName=STAGE)


def arn_of(gateway: Gateway) -> str:
    return f"arn:aws:apigateway:{REGION}::/restapis/{gateway.api_id}"


def answer(emulator: Emulator, gateway: Gateway, path: str) -> tuple[int, dict[str, str], bytes]:
    """What a client gets: status, headers, body."""
    api = f"{emulator.endpoint}/restapis/{gateway.api_id}/{STAGE}/_user_request_/"
    try:
        with urlopen(api + path, timeout=10) as response:
            return response.status, dict(response.headers), response.read()
    except HTTPError as error:
        return error.code, dict(error.headers), error.read()


# ── setting ──────────────────────────────────────────────────────────────────────────────────────


def test_fresh_api_gets_everything(gateway: Gateway, client: Any) -> None:
    """Tag, errors, throttling, logs and traces, each told of."""
    assert gateway.configure(**WANTED) == [*TAG, *ERRORS, *SETTINGS]

    stage = stage_of(gateway)
    every = stage["methodSettings"]["*/*"]
    assert (every["throttlingRateLimit"], every["throttlingBurstLimit"]) == (12.5, 25)
    assert stage["accessLogSettings"] == {"destinationArn": LOG_GROUP, "format": ACCESS_LOG}
    assert stage["tracingEnabled"]
    assert client.get_tags(resourceArn=arn_of(gateway))["tags"] == WANTED["tags"]
    for kind in RESPONSES:
        response = client.get_gateway_response(restApiId=gateway.api_id, responseType=kind)
        assert response["responseTemplates"] == {"application/json": PROBLEM}
        assert response["responseParameters"] == HEADERS


def test_second_time_nothing_is_set(gateway: Gateway, client: Any) -> None:
    """Reading is all that is done: a deployment of an API would be another one each time."""
    gateway.configure(**WANTED)

    with Operations(client) as operations:
        assert gateway.configure(**WANTED) == []

    assert {name for name in operations.made if not name.startswith("Get")} == set()


def test_log_group_is_the_same_with_a_star_behind_it(gateway: Gateway) -> None:
    """CloudFormation's ``GetAtt`` puts one there, which API Gateway does not take."""
    gateway.configure(**WANTED | {"access_log_arn": f"{LOG_GROUP}:*"})

    assert stage_of(gateway)["accessLogSettings"]["destinationArn"] == LOG_GROUP
    assert gateway.configure(**WANTED) == []


@pytest.mark.parametrize(
    "change",
    [
        {"requests_per_s": 100.0},
        {"burst": 200},
        {"traced": False},
        {"access_log_arn": f"{LOG_GROUP}-other"},
    ],
)
def test_what_is_wanted_otherwise_is_set(gateway: Gateway, change: dict[str, Any]) -> None:
    """Once; tag and errors are left alone."""
    gateway.configure(**WANTED)

    assert len(gateway.configure(**WANTED | change)) == 1
    assert gateway.configure(**WANTED | change) == []


def test_numbers_without_a_fraction_are_the_same_number(gateway: Gateway) -> None:
    """API Gateway says 100.0 of what was 100."""
    gateway.configure(**WANTED | {"requests_per_s": 100})

    assert stage_of(gateway)["methodSettings"]["*/*"]["throttlingRateLimit"] == 100
    assert gateway.configure(**WANTED | {"requests_per_s": 100.0}) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/*/*/throttling/rateLimit", "10000"),
        ("/*/*/throttling/burstLimit", "5000"),
        ("/tracingEnabled", "false"),
        ("/accessLogSettings/format", "$context.requestId"),
        ("/accessLogSettings/destinationArn", f"{LOG_GROUP}-other"),
    ],
)
def test_setting_that_was_changed_by_hand_is_set_again(
    gateway: Gateway, path: str, value: str
) -> None:
    """Whichever it is, and it alone; what it was is as if it had never been otherwise."""
    gateway.configure(**WANTED)
    before = settings_of(gateway)
    gateway.client.update_stage(
        restApiId=gateway.api_id,
        stageName=STAGE,
        patchOperations=[{"op": "replace", "path": path, "value": value}],
    )
    assert settings_of(gateway) != before

    with Operations(gateway.client) as operations:
        patches = operations.requests("api-gateway.UpdateStage")
        assert gateway.configure(**WANTED) == SETTINGS

    assert [each["path"] for each in patches[0]["patchOperations"]] == [path]
    assert settings_of(gateway) == before


def settings_of(gateway: Gateway) -> Any:
    stage = stage_of(gateway)
    wanted = ("methodSettings", "accessLogSettings", "tracingEnabled")
    return {name: stage.get(name) for name in wanted}


def test_logs_that_were_switched_off_by_hand_are_on_again(gateway: Gateway) -> None:
    gateway.configure(**WANTED)
    gateway.client.update_stage(
        restApiId=gateway.api_id,
        stageName=STAGE,
        patchOperations=[{"op": "remove", "path": "/accessLogSettings"}],
    )
    assert not stage_of(gateway).get("accessLogSettings")

    assert gateway.configure(**WANTED) == SETTINGS
    assert stage_of(gateway)["accessLogSettings"]["destinationArn"] == LOG_GROUP


@pytest.mark.parametrize("kind", RESPONSES)
def test_error_that_was_changed_by_hand_is_set_again_and_served(
    gateway: Gateway, client: Any, kind: Any
) -> None:
    """Errors are part of the API: its stage serves them once it is deployed anew."""
    gateway.configure(**WANTED)
    client.put_gateway_response(
        restApiId=gateway.api_id,
        responseType=kind,
        responseParameters=HEADERS,
        responseTemplates={"application/json": "{}"},
    )
    before = stage_of(gateway)["deploymentId"]

    assert gateway.configure(**WANTED) == ERRORS

    response = client.get_gateway_response(restApiId=gateway.api_id, responseType=kind)
    assert response["responseTemplates"] == {"application/json": PROBLEM}
    assert stage_of(gateway)["deploymentId"] != before


def test_tag_that_is_gone_is_set_again_and_others_are_left(gateway: Gateway, client: Any) -> None:
    """An account may have tags of its own, for its bills."""
    gateway.configure(**WANTED)
    client.untag_resource(resourceArn=arn_of(gateway), tagKeys=["image-pipeline-stage"])
    client.tag_resource(resourceArn=arn_of(gateway), tags={"bill": "me"})

    assert gateway.configure(**WANTED) == TAG

    tags = client.get_tags(resourceArn=arn_of(gateway))["tags"]
    assert tags == {"bill": "me"} | WANTED["tags"]


def test_api_that_is_imported_anew_gets_its_errors_back(gateway: Gateway, client: Any) -> None:
    """Chalice's further deployments put another document in its place, and all else goes."""
    gateway.configure(**WANTED)
    document = {"swagger": "2.0", "info": {"title": "image-pipeline"}, "paths": {}}
    client.put_rest_api(
        restApiId=gateway.api_id, mode="overwrite", body=json.dumps(document).encode()
    )

    assert gateway.configure(**WANTED) == ERRORS


# ── errors ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("message", ['"Forbidden"', '"a \\"quote\\" and a \\\\"', "null"])
def test_error_is_json_whatever_api_gateway_says(message: str) -> None:
    """``messageString`` is a string of JSON, quotes and all; the others are words."""
    body = PROBLEM.replace("$context.error.messageString", message)
    body = re.sub(r"\$context\.[\w.]+", "word", body)

    problem = json.loads(body)

    assert problem == {
        "type": "about:blank",
        "title": "Refused by API Gateway",
        "code": "word",
        "request_id": "word",
        "detail": json.loads(message),
        "message": json.loads(message),
    }


def test_error_says_what_it_is_to_pages_of_other_origins() -> None:
    """API Gateway wants constants between single quotes."""
    assert {name.rpartition(".")[2]: value for name, value in HEADERS.items()} == {
        "Access-Control-Allow-Origin": "'*'",
        "Content-Type": "'application/problem+json'",
    }


def test_every_error_of_api_gateways_own_is_covered() -> None:
    """All others fall back to one of these two."""
    assert set(RESPONSES) == {"DEFAULT_4XX", "DEFAULT_5XX"}


def test_client_is_told_of_a_route_that_is_not_there(emulator: Emulator, gateway: Gateway) -> None:
    """Before the app is asked, and in the app's own way."""
    gateway.configure(**WANTED)

    status, headers, body = answer(emulator, gateway, "nowhere")

    problem = json.loads(body)
    assert status == 403
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert problem["code"] == "MISSING_AUTHENTICATION_TOKEN"
    assert problem["detail"] == problem["message"] == "Missing Authentication Token"
    assert problem["request_id"]


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────


def test_line_of_the_access_log_is_json_and_has_no_path() -> None:
    """A path may hold a name of somebody's; the route does not."""
    line = json.loads(ACCESS_LOG)

    assert "\n" not in ACCESS_LOG
    assert line["request_id"] == "$context.requestId"
    assert line["route"] == "$context.resourcePath"
    assert not {"$context.path", "$context.customDomain.basePathMatched"} & set(line.values())
    assert all(re.fullmatch(r"\$context\.[\w.]+", value) for value in line.values())
