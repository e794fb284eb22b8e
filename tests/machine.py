"""The state machine of ``workflow.yaml`` over services in memory.

It knows as much of the states language as that speaks, and waits for nothing.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from chalicelib import stages
from chalicelib.messages import Work, encode_work, timestamp
from chalicelib.services import Services
from infrastructure.stage import PROJECT
from infrastructure.template import read_template

WORKFLOW = PROJECT / "infrastructure" / "workflow.yaml"
DEFINITION = read_template(WORKFLOW)["Resources"]["Workflow"]["Properties"]["Definition"]
STAGES: Mapping[str, Callable[[Any, Services], Any]] = {
    "validate_image": stages.validate,
    "recognise_image": stages.recognise,
    "render_image": stages.render,
    "store_image": stages.store,
    "announce_image": stages.announce,
}
NUMBERS = count(1)


def stage_of(state: Mapping[str, Any]) -> str:
    """The function that a state calls."""
    return str(state["Resource"]["Fn::Sub"]).rpartition("${Stage}-")[2]


class StageFailed(Exception):
    """What a state ends with, by the names that Step Functions gives."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"{name}: {cause}")
        self.name, self.cause = name, cause


@dataclass
class Execution:
    """One run. ``states`` are those that were entered; ``output`` is None where it failed."""

    services: Services
    work: Work
    name: str = field(default_factory=lambda: f"execution-{next(NUMBERS)}")
    states: list[str] = field(default_factory=list)
    output: Any = None

    def __post_init__(self) -> None:
        self.started_at = timestamp(self.services.clock())
        self.passed: Any = json.loads(encode_work(self.work))
        self.next: str | None = DEFINITION["StartAt"]

    def run(self) -> "Execution":
        """To its end."""
        while self.next:
            self.step()
        return self

    def step(self) -> None:
        """One state, with all its retries."""
        name = str(self.next)
        state = DEFINITION["States"][name]
        self.states.append(name)
        self.next = state.get("Next")
        match state["Type"]:
            case "Task":
                self._task(state)
            case "Choice":
                self.next = self._chosen(state)
            case "Succeed":
                self.output = self.passed
        if state.get("End"):
            self.output = self.passed

    def _task(self, state: Mapping[str, Any]) -> None:
        given = self._parameters(state)
        try:
            self.passed = self._tried(state, given)
        except StageFailed as error:
            for catch in state.get("Catch", ()):
                failed = {"Error": error.name, "Cause": error.cause}
                self.passed = {**self.passed, "error": failed}
                self.next = catch["Next"]
                return
            self.next = None

    def _tried(self, state: Mapping[str, Any], given: Any) -> Any:
        left = Counter({number: each["MaxAttempts"] for number, each in enumerate(state["Retry"])})
        while True:
            try:
                answer = STAGES[stage_of(state)](json.loads(json.dumps(given)), self.services)
                return json.loads(json.dumps(answer))
            except Exception as error:
                name = type(error).__name__
                number = next(
                    number
                    for number, each in enumerate(state["Retry"])
                    if {name, "States.ALL"} & {*each["ErrorEquals"]}
                )
                if not left[number]:
                    cause = json.dumps({"errorType": name, "errorMessage": str(error)})
                    raise StageFailed(name, cause) from error
                left[number] -= 1

    def _parameters(self, state: Mapping[str, Any]) -> Any:
        values = {
            "$": self.passed,
            "$$.Execution.Id": f"arn:execution:{self.name}",
            "$$.Execution.StartTime": self.started_at,
            "$$.Execution.Input": json.loads(encode_work(self.work)),
        }
        if isinstance(self.passed, dict) and "error" in self.passed:
            values["$.error"] = self.passed["error"]
        if "Parameters" not in state:
            return self.passed
        return {name.removesuffix(".$"): values[path] for name, path in state["Parameters"].items()}

    def _chosen(self, state: Mapping[str, Any]) -> str:
        for choice in state["Choices"]:
            if self.passed.get(choice["Variable"].removeprefix("$.")) == choice["StringEquals"]:
                return str(choice["Next"])
        return str(state["Default"])
