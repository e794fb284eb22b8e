"""``python -m localcloud.ministack``: MiniStack, and what it does not do as AWS does.

- IAM knows no action for a batch of SQS: ``sqs:SendMessage`` allows SendMessageBatch too, and
  likewise for the others (Amazon SQS developer guide, "API permissions"). MiniStack asks for
  ``…Batch``.
- The resource of ``lambda:CreateFunction`` is the function to be (Service Authorization
  Reference); MiniStack takes every function for it.
- What a mail takes is a right to the identity that sends it; MiniStack asks for all of SES.
- It knows neither Lambda's condition keys nor the tags of API keys and usage plans, and names a
  rule of the default bus as one of another.
- Its API Gateway imports OpenAPI documents for CloudFormation alone, while Chalice calls
  ImportRestApi for a first deployment and PutRestApi for each further one.
- Cognito lets anybody sign up where administrators alone invite users, and who was invited choose
  any password.
- A change set of CloudFormation's does not ask which resources the conditions leave out, so that it
  misses those that come or go with a parameter.
- A function's error has the type of its exception (AWS Lambda developer guide, "Python"), by which
  Step Functions tells what to try again; MiniStack says ``Runtime.HandlerError`` of every one.
- API Gateway puts an API into a usage plan, and out of one, as if the plan had but one.
- Loopback is plain HTTP, which the policies of AWS's buckets and queues refuse: here it counts as
  TLS.

``CALLS_LOG`` names a file that gets a line of JSON for every call that a role made: who, which
action, on what, and whether it was allowed.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ministack.app import main
from ministack.core import iam_actions, iam_evaluator
from ministack.services import apigateway_v1, cognito, lambda_svc
from ministack.services.cloudformation import changesets

Answer = tuple[int, Mapping[str, str], bytes]

operation_action = iam_actions.extract_iam_action
resource_arn = iam_actions.extract_resource_arn
handle_request = apigateway_v1.handle_request
resolve_for_diff = changesets._resolve_props_for_diff  # noqa: SLF001
sign_up = cognito._sign_up  # noqa: SLF001
respond = cognito._respond_to_auth_challenge  # noqa: SLF001
evaluate = iam_evaluator.evaluate
enforce = iam_evaluator.enforce
execute = lambda_svc._execute_function_warm  # noqa: SLF001
condition_key = iam_evaluator._resolve_condition_key  # noqa: SLF001

asked: ContextVar[Mapping[str, str | None]] = ContextVar("asked", default={})  # noqa: B039
evaluated: ContextVar[Any] = ContextVar("evaluated", default=None)


def iam_action(service: str, *request: Any) -> str | None:
    """The action that a role must allow for a request."""
    action: str | None = operation_action(service, *request)
    return action.removesuffix("Batch") if action and service == "sqs" else action


def iam_resource(
    service: str, method: str, path: str, headers: Any, body: bytes, *request: Any
) -> str:
    """The resource that a role must be allowed the action on."""
    arn: str = resource_arn(service, method, path, headers, body, *request)
    said = (
        json.loads(body) if service in ("lambda", "events", "ses") and body.startswith(b"{") else {}
    )
    asked.set(
        {
            "lambda:principal": said.get("Principal"),
            "lambda:functionarn": said.get("FunctionName"),
            **_tags_of_keys(arn),
        }
    )
    _, region, account = request
    if service == "lambda" and method == "POST" and path.rstrip("/").endswith("/functions"):
        return f"arn:aws:lambda:{region}:{account}:function:{said['FunctionName']}"
    if service == "events" and "Rule" in said:
        return f"arn:aws:events:{region}:{account}:rule/{said['Rule']}"
    if service == "ses" and "FromEmailAddress" in said:
        return f"arn:aws:ses:{region}:{account}:identity/{said['FromEmailAddress']}"
    return arn.replace(":rule/default/", ":rule/")


def _tags_of_keys(arn: str) -> Mapping[str, str]:
    """Those of an API key or a usage plan, as condition keys; the parts of a plan have none."""
    kind, _, name = arn.partition("::/")[2].partition("/")
    v1 = apigateway_v1
    made = {"apikeys": v1._api_keys, "usageplans": v1._usage_plans}.get(kind)  # noqa: SLF001
    every = made.all_items() if made is not None else ()
    tags: Mapping[str, str] = next((each["tags"] for (*_, id_), each in every if id_ == name), {})
    return {f"aws:resourcetag/{tag.lower()}": value for tag, value in tags.items()}


# ── importing an API ─────────────────────────────────────────────────────────────────────────────


async def handle_api_request(
    method: str, path: str, headers: Any, body: bytes, query: Mapping[str, Any]
) -> Answer:
    """As MiniStack answers, and the two calls that import a whole API."""
    words = path.strip("/").split("/")
    if method == "POST" and words == ["restapis"] and "mode" in query:
        document = json.loads(body)
        return _described(apigateway_v1._import_rest_api(document, _declared(document)), 201)  # noqa: SLF001
    if method == "PUT" and words[0] == "restapis" and len(words) == 2:  # noqa: PLR2004
        return _put(words[1], json.loads(body))
    if method == "PATCH" and words[0] == "usageplans":
        body = json.dumps({"patchOperations": list(_patches(words[1], json.loads(body)))}).encode()
    answer: Answer = await handle_request(method, path, headers, body, query)
    return answer


def _patches(plan_id: str, asked: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The changes of a usage plan, those of its APIs (``id:stage``) as one."""
    apis = list(apigateway_v1._usage_plans.get(plan_id, {}).get("apiStages", []))  # noqa: SLF001
    for patch in asked["patchOperations"]:
        if patch["path"] != "/apiStages":
            yield patch
            continue
        api_id, _, stage = patch["value"].partition(":")
        api = {"apiId": api_id, "stage": stage}
        apis = [*apis, api] if patch["op"] == "add" else [each for each in apis if each != api]
    yield {"op": "replace", "path": "/apiStages", "value": apis}


def _put(api_id: str, document: Mapping[str, Any]) -> Answer:
    """Another document in the place of an API's: its id, stages and deployments stay."""
    v1 = apigateway_v1
    if api_id not in v1._rest_apis:  # noqa: SLF001
        return _described(api_id, 404)
    imported = v1._import_rest_api(document, _declared(document))  # noqa: SLF001
    v1._rest_apis[api_id].update(v1._rest_apis.pop(imported), id=api_id)  # noqa: SLF001
    v1._v1_tags.pop(v1._rest_api_arn(imported), None)  # noqa: SLF001
    for kept in (v1._stages_v1, v1._deployments_v1):  # noqa: SLF001
        kept.pop(imported)
    for replaced in (
        *(v1._resources, v1._authorizers_v1, v1._models),  # noqa: SLF001
        *(v1._gateway_responses, v1._documentation_parts),  # noqa: SLF001
    ):
        replaced[api_id] = replaced.pop(imported)
    return _described(api_id, 200)


def _declared(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"binaryMediaTypes": document.get("x-amazon-apigateway-binary-media-types", [])}


def _described(api_id: str, status: int) -> Answer:
    _, headers, body = apigateway_v1._get_rest_api(api_id)  # noqa: SLF001
    return status, headers, body


# ── CloudFormation ───────────────────────────────────────────────────────────────────────────────


def resolve_and_decide(template: dict[str, Any], values: Any, *stack: str) -> dict[str, Any]:
    """A template as change sets compare it, without what its conditions leave out."""
    resolved: dict[str, Any] = resolve_for_diff(template, values, *stack)
    truths = changesets._evaluate_conditions(template, values)  # noqa: SLF001
    resources = resolved.get("Resources", {}).items()
    decided = {name: each for name, each in resources if truths.get(each.get("Condition"), True)}
    return {**resolved, "Resources": decided}


# ── Lambda ───────────────────────────────────────────────────────────────────────────────────────

RAISED = re.compile(r"^Traceback .*:\n(?: .*\n)+(?:\w+\.)*(\w+)", re.MULTILINE)
"""What a traceback ends with; of several the last tells what the handler raised."""


def execute_and_name_errors(*invocation: Any) -> dict[str, Any]:
    result: dict[str, Any] = execute(*invocation)
    if result.get("error") and (raised := RAISED.findall(result.get("log", ""))):
        result["body"]["errorType"] = raised[-1]
    return result


# ── Cognito ──────────────────────────────────────────────────────────────────────────────────────


def sign_up_unless_invited(request: Mapping[str, Any]) -> Any:
    _, pool, _ = cognito._find_pool_by_client_id(request["ClientId"])  # noqa: SLF001
    if pool and pool["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"]:
        error = ("NotAuthorizedException", "SignUp is not permitted for this user pool", 400)
        return cognito.error_response_json(*error)
    return sign_up(request)


def respond_with_good_password(request: Mapping[str, Any]) -> Any:
    _, pool, _ = cognito._find_pool_by_client_id(request["ClientId"])  # noqa: SLF001
    password = request["ChallengeResponses"].get("NEW_PASSWORD")
    problem = pool and password and cognito._validate_password(pool, password)  # noqa: SLF001
    return problem or respond(request)


# ── IAM ──────────────────────────────────────────────────────────────────────────────────────────


def resolve_condition_key(key: str, context: Any) -> Any:
    known = {"aws:securetransport": "true", **asked.get()}
    return known.get(key.lower()) or condition_key(key, context)


def evaluate_and_remember(context: Any, *policies: Any) -> Any:
    evaluated.set(context)
    return evaluate(context, *policies)


def enforce_and_record(*request: Any, **more: Any) -> Any:
    evaluated.set(None)
    refusal = enforce(*request, **more)
    if (context := evaluated.get()) is not None:
        call = {
            "principal": context.principal_arn,
            "action": context.action,
            "resource": context.resource_arn,
            "allowed": refusal is None,
        }
        with Path(os.environ["CALLS_LOG"]).open("a") as log:
            log.write(json.dumps(call) + "\n")
    return refusal


if __name__ == "__main__":
    iam_actions.extract_iam_action = iam_action
    iam_actions.extract_resource_arn = iam_resource
    apigateway_v1.handle_request = handle_api_request
    changesets._resolve_props_for_diff = resolve_and_decide  # noqa: SLF001
    lambda_svc._execute_function_warm = execute_and_name_errors  # noqa: SLF001
    cognito._sign_up = sign_up_unless_invited  # noqa: SLF001
    cognito._respond_to_auth_challenge = respond_with_good_password  # noqa: SLF001
    iam_evaluator._resolve_condition_key = resolve_condition_key  # noqa: SLF001
    if "CALLS_LOG" in os.environ:
        iam_evaluator.evaluate = evaluate_and_remember
        iam_evaluator.enforce = enforce_and_record
    main()
