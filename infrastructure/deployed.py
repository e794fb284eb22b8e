"""What exists of a stage's functions, triggers and API, in the words of Chalice's own record.

Chalice writes its record when a deployment has succeeded as a whole. After one that was cut off, it
would make a second API and be refused a second queue trigger, and would never delete what it had
made. So what a record lacks is looked for by name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from boto3 import Session

API_HANDLER = "api_handler"
"""What Chalice calls the function behind the API; on Lambda it has the name of the app alone."""

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Function:
    """A function as it is on Lambda. ``handler`` is its name in ``app.py``."""

    handler: str
    name: str
    arn: str
    sha256: str
    modified_at: str
    runtime: str


@dataclass(frozen=True, slots=True)
class Deployed:
    """What is there of one stage of an app. Each question is asked anew."""

    session: Session
    app_name: str
    stage: str

    @property
    def _name(self) -> str:
        return f"{self.app_name}-{self.stage}"

    def functions(self) -> Iterator[Function]:
        """Every function of the stage, whether the app still declares it or not."""
        client = self.session.client("lambda")
        for page in client.get_paginator("list_functions").paginate():
            for each in page["Functions"]:
                name = each["FunctionName"]
                if name.startswith(self._name) and self._is_ours(each["FunctionArn"]):
                    yield Function(
                        handler=name.removeprefix(self._name).removeprefix("-") or API_HANDLER,
                        name=name,
                        arn=each["FunctionArn"],
                        sha256=each["CodeSha256"],
                        modified_at=each["LastModified"],
                        runtime=each.get("Runtime", ""),
                    )

    def _is_ours(self, function_arn: str) -> bool:
        """By Chalice's tag: the API of a stage dev-eu has the name of a function eu of dev."""
        tags = self.session.client("lambda").list_tags(Resource=function_arn)["Tags"]
        facts = tags.get("aws-chalice", "").split(":")
        return {f"stage={self.stage}", f"app={self.app_name}"} <= set(facts)

    def completed(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Chalice's record with what it lacks of what exists."""
        known = {resource["name"] for resource in record["resources"]}
        found = [each for each in self.resources() if each["name"] not in known]
        return {
            "schema_version": "2.0",
            "backend": "api",
            **record,
            "resources": [*record["resources"], *found],
        }

    def resources(self) -> Iterator[Resource]:
        """What Chalice would have recorded. The order is that in which it deletes, backwards."""
        functions = list(self.functions())
        for function in functions:
            yield {
                "name": function.handler,
                "resource_type": "lambda_function",
                "lambda_arn": function.arn,
            }
            yield from self._triggers(function)
        yield from self._schedules(functions)
        if api_function := next((each for each in functions if each.handler == API_HANDLER), None):
            yield from self._apis(api_function)

    def _triggers(self, function: Function) -> Iterator[Resource]:
        client = self.session.client("lambda")
        for mapping in client.list_event_source_mappings(FunctionName=function.name)[
            "EventSourceMappings"
        ]:
            queue_arn = mapping["EventSourceArn"]
            yield {
                "name": f"{function.handler}-sqs-event-source",
                "resource_type": "sqs_event",
                "queue_arn": queue_arn,
                "event_uuid": mapping["UUID"],
                "queue": queue_arn.rpartition(":")[2],
                "lambda_arn": function.arn,
            }
        for bucket in self._buckets():
            answer = self.session.client("s3").get_bucket_notification_configuration(Bucket=bucket)
            targets = [
                each["LambdaFunctionArn"] for each in answer.get("LambdaFunctionConfigurations", ())
            ]
            if function.arn in targets:
                yield {
                    "name": f"{function.handler}-s3event",
                    "resource_type": "s3_event",
                    "bucket": bucket,
                    "lambda_arn": function.arn,
                }

    def _buckets(self) -> list[str]:
        """The stage's uploads bucket; none where the stack is gone already."""
        sts = self.session.client("sts").get_caller_identity()
        name = f"{self._name}-uploads-{sts['Account']}-{self.session.region_name}"
        buckets = self.session.client("s3").list_buckets(Prefix=name)["Buckets"]
        return [bucket["Name"] for bucket in buckets if bucket["Name"] == name]

    def _schedules(self, functions: list[Function]) -> Iterator[Resource]:
        names = {f"{function.name}-event" for function in functions}
        paginator = self.session.client("events").get_paginator("list_rules")
        for page in paginator.paginate(NamePrefix=f"{self._name}-"):
            for rule in page["Rules"]:
                if rule["Name"] in names:
                    yield {
                        "name": rule["Name"].removeprefix(f"{self._name}-"),
                        "resource_type": "cloudwatch_event",
                        "rule_name": rule["Name"],
                    }

    def _apis(self, function: Function) -> Iterator[Resource]:
        """The API that calls the stage's function: every stage's has the same name."""
        client = self.session.client("apigateway")
        region = self.session.region_name
        for page in client.get_paginator("get_rest_apis").paginate():
            for api in page["items"]:
                if api["name"] == self.app_name and self._calls(api["id"], function):
                    stage = self._api_stage(api["id"])
                    yield {
                        "name": "rest_api",
                        "resource_type": "rest_api",
                        "rest_api_id": api["id"],
                        "rest_api_url": f"https://{api['id']}.execute-api.{region}.amazonaws.com/"
                        f"{stage}/",
                    }

    def _calls(self, api_id: str, function: Function) -> bool:
        resources: Any = self.session.client("apigateway").get_resources(
            restApiId=api_id, embed=["methods"], limit=500
        )
        return any(
            f"{function.arn}/" in method.get("methodIntegration", {}).get("uri", "")
            for resource in resources["items"]
            for method in resource.get("resourceMethods", {}).values()
        )

    def _api_stage(self, api_id: str) -> str:
        stages = self.session.client("apigateway").get_stages(restApiId=api_id)["item"]
        return stages[0]["stageName"] if stages else self.stage
