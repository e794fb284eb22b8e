"""What ``status`` says of each part of a stage, and what it advises."""

from collections.abc import Sequence
from typing import Any
from unittest.mock import create_autospec

import pytest

from infrastructure.deployed import Deployed, Function
from infrastructure.state import State
from infrastructure.status import Line, of_alarms, of_functions, of_queue, of_stack

DEPLOY = "python -m infrastructure deploy --stage dev"
MODIFIED = "2026-01-31T09:15:00.000+0000"
API = {"name": "rest_api", "resource_type": "rest_api", "rest_api_url": "https://api.example/dev/"}


def function(handler: str, sha256: str = "Zm9vYmFyYmF6cXV4") -> Function:
    return Function(handler, f"image-pipeline-dev-{handler}", arn(handler), sha256, MODIFIED, "py")


def arn(handler: str) -> str:
    return f"arn:aws:lambda:eu-central-1:1:function:image-pipeline-dev-{handler}"


def recorded(*handlers: str) -> State:
    """The state of a stage that was deployed to the end, with these functions."""
    functions = [
        {"name": each, "resource_type": "lambda_function", "lambda_arn": arn(each)}
        for each in handlers
    ]
    return State({"resources": [*functions, API]}, "0f", "2026-01-31T09:15:00.000Z", "me@here")


def lines(state: State, on_lambda: Sequence[Function]) -> dict[str, Line]:
    deployed: Any = create_autospec(Deployed, instance=True)
    deployed.functions.return_value = iter(on_lambda)
    return {line.name: line for line in of_functions(state, deployed, "dev")}


def advised(found: dict[str, Line]) -> dict[str, str]:
    return {name: line.advice for name, line in found.items() if line.advice}


# ── stack ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"])
def test_stack_that_is_as_its_template_says_is_well(status: str) -> None:
    assert of_stack({"StackStatus": status}) == Line("stack", status)


@pytest.mark.parametrize(
    "status",
    [
        *("ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED"),
        *("DELETE_FAILED", "UPDATE_IN_PROGRESS", "CREATE_FAILED"),
    ],
)
def test_stack_that_is_not_says_what_to_do(status: str) -> None:
    """A rollback is complete, too, and yet nothing is as the template says."""
    line = of_stack({"StackStatus": status})

    assert line.fact == status
    assert "deploy again" in line.advice


# ── functions ────────────────────────────────────────────────────────────────────────────────────


def test_deployed_stage_says_when_by_whom_and_where_its_api_is() -> None:
    """Each function with its runtime, its package and when it was changed; nothing to do."""
    found = lines(recorded("sweep", "api_handler"), [function("sweep"), function("api_handler")])

    assert found == {
        "deployed": Line("deployed", "2026-01-31T09:15:00.000Z by me@here"),
        "sweep": Line("sweep", f"py, Zm9vYmFyYm, {MODIFIED}"),
        "api_handler": Line("api_handler", f"py, Zm9vYmFyYm, {MODIFIED}"),
        "API": Line("API", "https://api.example/dev/"),
    }


def test_stage_without_functions_is_to_be_deployed() -> None:
    """The command is there to be copied."""
    assert advised(lines(State(), [])) == {"functions": DEPLOY}


def test_deployment_that_was_cut_off_is_to_be_gone_on_with() -> None:
    """Some functions are there; the state does not say that it was done."""
    found = lines(State(), [function("sweep")])

    assert advised(found) == {"functions": DEPLOY}
    assert "sweep" in found


def test_functions_of_two_packages_are_to_be_deployed_again() -> None:
    """Code that works on the same records would not be of one mind."""
    found = lines(
        recorded("sweep", "api_handler"), [function("sweep"), function("api_handler", "b3RoZXI=")]
    )

    assert advised(found) == {"packages": DEPLOY}


@pytest.mark.parametrize("on_lambda", [[], [function("sweep")]])
def test_function_that_is_gone_from_lambda_is_missed(on_lambda: list[Function]) -> None:
    """Somebody has deleted it by hand: the record alone knows of it."""
    found = lines(recorded("sweep", "process_images"), on_lambda)

    assert set(advised(found).values()) == {DEPLOY}
    assert any("process_images" in line.name + line.fact for line in found.values())


# ── queues ───────────────────────────────────────────────────────────────────────────────────────


def counts(waiting: int, in_work: int) -> dict[str, int]:
    return {
        "ApproximateNumberOfMessages": waiting,
        "ApproximateNumberOfMessagesNotVisible": in_work,
    }


@pytest.mark.parametrize("name", ["work queue", "webhooks"])
def test_work_that_waits_is_no_reason_to_worry(name: str) -> None:
    """An alarm says when it waits too long."""
    assert of_queue(name, counts(12_345, 6), "dev") == Line(name, "12,345 waiting, 6 in work")


@pytest.mark.parametrize(("waiting", "in_work"), [(1, 0), (0, 1)])
def test_dead_letters_are_to_be_looked_at(waiting: int, in_work: int) -> None:
    """Those that somebody looks at just now, too: they come back."""
    line = of_queue("dead letters", counts(waiting, in_work), "dev")

    assert line.advice == "python -m infrastructure dlq --stage dev"


def test_no_dead_letters_are_well() -> None:
    assert not of_queue("dead letters", counts(0, 0), "dev").advice


# ── alarms ───────────────────────────────────────────────────────────────────────────────────────


def alarm(name: str, state: str, **facts: str) -> dict[str, str]:
    return {"AlarmName": name, "StateValue": state, **facts}


def test_alarms_that_are_raised_are_named_with_what_they_mean() -> None:
    """An alarm's description says what to do; those that are quiet are counted."""
    found = list(
        of_alarms(
            [
                alarm("dead-letters", "ALARM", AlarmDescription="Look at the dead letters."),
                alarm("errors", "OK", AlarmDescription="Look at the logs."),
                alarm("age", "INSUFFICIENT_DATA", AlarmDescription="Look at the queue."),
            ]
        )
    )

    assert found == [
        Line("alarms", "1 of 3 raised"),
        Line("dead-letters", "ALARM", "Look at the dead letters."),
    ]


def test_quiet_alarms_are_one_line() -> None:
    assert list(of_alarms([alarm("errors", "OK")])) == [Line("alarms", "0 of 1 raised")]


def test_raised_alarm_without_a_description_needs_a_look_too() -> None:
    """The exit status is made of the advice."""
    _, raised = of_alarms([alarm("by hand", "ALARM")])

    assert raised.advice
