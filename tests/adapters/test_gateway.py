"""What the deploy tool sets on an API that Chalice has imported."""

import json
import re
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from chalicelib.config import AUTHS
from infrastructure.gateway import ACCESS_LOG, ERRORS, Gateway, close_to_keys, responses
from localcloud.emulator import REGION, Emulator
from tests.adapters.conftest import Operations
from tests.waiting import TIMEOUT_S

STAGE = "dev"
LOG_GROUP = f"arn:aws:logs:{REGION}:000000000000:log-group:/aws/apigateway/image-pipeline-dev"
FUNCTION = f"arn:aws:lambda:{REGION}:000000000000:function:image-pipeline-dev"
WANTED: dict[str, Any] = {
    "tags": {"image-pipeline-stage": STAGE},
    "errors": responses("none", ("https://a.example",)),
    "access_log_arn": LOG_GROUP,
    "requests_per_s": 12.5,
    "burst": 25,
    "traced": True,
}
DONE = (
    "the API has its stage's tag",
    "errors of API Gateway's own are problem details as the app's",
    "up to 12.5 requests a second (bursts of 25), access logs, traces on",
)
TAG, SAID, SETTINGS = ([each] for each in DONE)


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
        with urlopen(api + path, timeout=TIMEOUT_S) as response:
            return response.status, dict(response.headers), response.read()
    except HTTPError as error:
        return error.code, dict(error.headers), error.read()


# ── setting ──────────────────────────────────────────────────────────────────────────────────────


def test_fresh_api_gets_everything(gateway: Gateway, client: Any) -> None:
    """Tag, errors, throttling, logs and traces, each told of."""
    assert gateway.configure(**WANTED) == [*TAG, *SAID, *SETTINGS]

    stage = stage_of(gateway)
    every = stage["methodSettings"]["*/*"]
    assert (every["throttlingRateLimit"], every["throttlingBurstLimit"]) == (12.5, 25)
    assert stage["accessLogSettings"] == {"destinationArn": LOG_GROUP, "format": ACCESS_LOG}
    assert stage["tracingEnabled"]
    assert client.get_tags(resourceArn=arn_of(gateway))["tags"] == WANTED["tags"]
    for kind, wanted in WANTED["errors"].items():
        response = client.get_gateway_response(restApiId=gateway.api_id, responseType=kind)
        assert wanted.items() <= response.items()


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


@pytest.mark.parametrize("kind", ["DEFAULT_4XX", "DEFAULT_5XX", "THROTTLED"])
def test_error_that_was_changed_by_hand_is_set_again_and_served(
    gateway: Gateway, client: Any, kind: Any
) -> None:
    """Errors are part of the API: its stage serves them once it is deployed anew."""
    gateway.configure(**WANTED)
    client.put_gateway_response(
        restApiId=gateway.api_id,
        responseType=kind,
        responseParameters=WANTED["errors"][kind]["responseParameters"],
        responseTemplates={"application/json": "{}"},
    )
    before = stage_of(gateway)["deploymentId"]

    assert gateway.configure(**WANTED) == SAID

    response = client.get_gateway_response(restApiId=gateway.api_id, responseType=kind)
    assert response["responseTemplates"] == WANTED["errors"][kind]["responseTemplates"]
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

    assert gateway.configure(**WANTED) == SAID


# ── errors ───────────────────────────────────────────────────────────────────────────────────────


def body_of(kind: Any, auth: str = "none", message: str = '"Forbidden"') -> Any:
    """The problem that API Gateway makes of a template."""
    template = responses(auth, ())[kind]["responseTemplates"]["application/json"]
    body = template.replace("$context.error.messageString", message)
    return json.loads(re.sub(r"\$context\.[\w.]+", "word", body))


def headers_of(kind: Any, auth: str = "none", origins: tuple[str, ...] = ()) -> dict[str, str]:
    parameters = responses(auth, origins)[kind]["responseParameters"]
    return {name.removeprefix("gatewayresponse.header."): parameters[name] for name in parameters}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize("message", ['"Forbidden"', '"a \\"quote\\" and a \\\\"', "null"])
def test_error_is_a_problem_whatever_api_gateway_says(kind: Any, auth: str, message: str) -> None:
    """``messageString`` is a string of JSON, quotes and all. The members are those of the app's."""
    problem = body_of(kind, auth, message)
    status = responses(auth, ())[kind].get("statusCode")

    assert problem.keys() - {"status"} == {
        *("type", "title", "detail", "code", "message", "request_id")
    }
    assert problem.get("status") == (int(status) if status else None)
    assert problem["detail"] == problem["message"]
    assert re.fullmatch("[a-z_]+", problem["code"])
    assert headers_of(kind, auth)["Content-Type"] == "'application/problem+json'"


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("MISSING_AUTHENTICATION_TOKEN", 404, "no such route"),
        ("UNAUTHORIZED", 401, "ID token"),
        ("EXPIRED_TOKEN", 401, "expired"),
        ("ACCESS_DENIED", 403, "execute-api:Invoke"),
        ("INVALID_API_KEY", 403, "x-api-key"),
        ("INVALID_SIGNATURE", 403, "sign"),
        ("THROTTLED", 429, "try again"),
        ("QUOTA_EXCEEDED", 429, "quota"),
        ("REQUEST_TOO_LARGE", 413, "POST /uploads"),
        ("UNSUPPORTED_MEDIA_TYPE", 415, "Content-Type"),
        ("INTEGRATION_TIMEOUT", 504, "may have been done"),
        ("INTEGRATION_FAILURE", 502, "try again"),
        ("AUTHORIZER_FAILURE", 500, "try again"),
        ("BAD_REQUEST_BODY", 400, "Forbidden"),
        ("DEFAULT_4XX", None, "Forbidden"),
        ("DEFAULT_5XX", None, "Forbidden"),
    ],
)
def test_error_says_what_to_do(kind: Any, status: int | None, words: str) -> None:
    """Or else what API Gateway says: what falls back keeps its status, too."""
    problem = body_of(kind)

    assert problem.get("status") == status
    assert words in problem["detail"]


def test_unknown_route_and_missing_signature_are_not_told_apart_by_api_gateway() -> None:
    """Where requests have to be signed it may be either; elsewhere it can only be the route."""
    assert body_of("MISSING_AUTHENTICATION_TOKEN", "iam")["status"] == 403
    assert "no such route" in body_of("MISSING_AUTHENTICATION_TOKEN", "iam")["detail"]
    assert "not signed" in body_of("MISSING_AUTHENTICATION_TOKEN", "iam")["detail"]
    for auth in ("none", "key", "cognito"):
        assert body_of("MISSING_AUTHENTICATION_TOKEN", auth)["status"] == 404


def test_who_is_unknown_is_told_how_to_be_known() -> None:
    """RFC 9110 asks for a challenge with every 401."""
    assert headers_of("UNAUTHORIZED", "cognito")["WWW-Authenticate"] == "'Bearer'"
    assert headers_of("EXPIRED_TOKEN", "iam")["WWW-Authenticate"] == "'AWS4-HMAC-SHA256'"
    assert "WWW-Authenticate" not in headers_of("ACCESS_DENIED", "iam")


def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    """The bucket fills up again by the second; a quota does not."""
    assert headers_of("THROTTLED")["Retry-After"] == "'1'"
    assert "Retry-After" not in headers_of("QUOTA_EXCEEDED")


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        ((), {}),
        (("*",), {"Access-Control-Allow-Origin": "'*'"}),
        (("https://a.example", "*"), {"Access-Control-Allow-Origin": "'*'"}),
        (("https://a.example",), {"Access-Control-Allow-Origin": "'https://a.example'"}),
        (
            ("https://a.example", "https://b.example"),
            {"Access-Control-Allow-Origin": "method.request.header.Origin", "Vary": "'Origin'"},
        ),
    ],
)
def test_pages_of_allowed_origins_see_what_went_wrong(
    origins: tuple[str, ...], expected: dict[str, str]
) -> None:
    """A constant between single quotes or a header of the request is all that API Gateway knows."""
    headers = headers_of("THROTTLED", "none", origins)

    assert {name: headers[name] for name in headers.keys() - {"Content-Type", "Retry-After"}} == (
        expected
    )


def test_client_is_told_of_a_route_that_is_not_there(emulator: Emulator, gateway: Gateway) -> None:
    """Before the app is asked, and in the app's own way."""
    gateway.configure(**WANTED)

    status, headers, body = answer(emulator, gateway, "nowhere")

    problem = json.loads(body)
    assert status == problem["status"] == 404
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert problem["code"] == "route_not_found"
    assert problem["request_id"]


def test_settings_that_change_the_errors_are_followed(gateway: Gateway, client: Any) -> None:
    """Only those that differ are put; an origin that is no longer allowed is told nothing."""
    gateway.configure(**WANTED)

    with Operations(client) as operations:
        put = operations.requests("api-gateway.PutGatewayResponse")
        assert gateway.configure(**WANTED | {"errors": responses("iam", ("https://a.example",))})
        assert {each["responseType"] for each in put} == {
            *("MISSING_AUTHENTICATION_TOKEN", "UNAUTHORIZED", "EXPIRED_TOKEN")
        }

    assert gateway.configure(**WANTED | {"errors": responses("none", ())}) == SAID
    response = client.get_gateway_response(restApiId=gateway.api_id, responseType="THROTTLED")
    assert (
        "gatewayresponse.header.Access-Control-Allow-Origin" not in response["responseParameters"]
    )


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def plan(client: Any) -> str:
    """A usage plan as the template makes it: it opens nothing yet."""
    return str(client.create_usage_plan(name="image-pipeline-dev")["id"])


def opened(client: Any, plan: str) -> list[Any]:
    return list(client.get_usage_plan(usagePlanId=plan).get("apiStages", []))


def test_keys_open_the_api_of_the_stage_once(gateway: Gateway, client: Any, plan: str) -> None:
    """A second time nothing is changed."""
    assert gateway.open_to_keys(plan)
    assert gateway.open_to_keys(plan) == []

    assert opened(client, plan) == [{"apiId": gateway.api_id, "stage": STAGE}]


def test_keys_open_an_api_that_is_made_anew_in_place_of_the_old_one(
    gateway: Gateway, client: Any, plan: str
) -> None:
    """A plan with an API that is gone would keep it from ever being deleted."""
    Gateway(client, "gone", STAGE).open_to_keys(plan)

    assert gateway.open_to_keys(plan)

    assert opened(client, plan) == [{"apiId": gateway.api_id, "stage": STAGE}]


def test_keys_open_nothing_any_more_before_the_api_goes(
    gateway: Gateway, client: Any, plan: str
) -> None:
    gateway.open_to_keys(plan)

    close_to_keys(client, plan)
    close_to_keys(client, plan)

    assert opened(client, plan) == []


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────


def test_line_of_the_access_log_is_json_and_has_no_path() -> None:
    """A path may hold a name of somebody's; the route does not."""
    line = json.loads(ACCESS_LOG)

    assert "\n" not in ACCESS_LOG
    assert line["request_id"] == "$context.requestId"
    assert line["route"] == "$context.resourcePath"
    assert not {"$context.path", "$context.customDomain.basePathMatched"} & set(line.values())
    assert all(re.fullmatch(r"\$context\.[\w.]+", value) for value in line.values())
