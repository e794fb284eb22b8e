"""Invocations that take turns at their service calls, in an order that a seed decides.

Each invocation of a handler is a thread, and one runs at a time: until it is about to call a
service, where it waits for its next turn. What happens at a call (nothing, an error, a lost answer,
the end of the process) is decided there too.
"""

import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

Call = tuple[str, str]
"""A service and its operation, as botocore names them."""

THROTTLED = {
    "dynamodb": (400, "ProvisionedThroughputExceededException"),
    "rekognition": (400, "ThrottlingException"),
    "s3": (503, "SlowDown"),
    "sns": (400, "Throttling"),
    "sqs": (403, "RequestThrottled"),
}
BROKEN = (500, "InternalServerError")
FAULTS = (
    *("throttled", "broken", "timeout", "timeout after it", "reset", "reset after it"),
    *("killed", "killed after it"),
)


class Killed(BaseException):
    """The process ends here: no ``except Exception`` sees it, and no later call has an effect."""


class Inline(Executor):
    """Runs what is submitted at once: the order of calls is the scheduler's business."""

    def __init__(self, max_workers: int | None = None) -> None:
        """Takes what ThreadPoolExecutor takes."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - as a pool does
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Nothing is left to wait for."""


class Actor:
    """One invocation. ``then`` is told of its end: the exception it ended with, or None."""

    here = threading.local()

    def __init__(
        self, name: str, work: Callable[[], object], then: Callable[[BaseException | None], None]
    ) -> None:
        self.name = name
        self.is_done = self.is_dead = self.is_late = False
        self.has_announced = False
        self._work, self._then = work, then
        self._turn, self._pause = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        self._turn.acquire()
        Actor.here.actor = self
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - it is told to ``then``
            self._error = error
        self.is_done = True
        self._pause.release()

    def go_on(self) -> None:
        """Let it run to its next call, or to its end."""
        self._turn.release()
        self._pause.acquire()
        if self.is_done:
            self._then(self._error)

    def wait_for_turn(self) -> None:
        self._pause.release()
        self._turn.acquire()


class Faults:
    """Draws what happens at a call. ``rate`` is the share of calls at which something does."""

    def __init__(self, dice: random.Random, rate: float) -> None:
        self._dice = dice
        self.rate = rate
        self.injected: list[str] = []

    def at(self, actor: Actor, call: Call) -> str | None:
        if self._dice.random() >= self.rate:
            return None
        # One that was frozen and thawed is not killed on top of it: see docs/guarantees.md.
        fault = self._dice.choice(FAULTS[:-2] if actor.is_late else FAULTS)
        self.injected.append(f"{fault}: {actor.name} at {'.'.join(call)}")
        return fault


def error_answer(request: Any, service: str, status: int, code: str) -> AWSResponse:
    """What a service says when it does not do what is asked, in its own protocol."""
    if service in {"s3", "sns"}:
        body = f"<Error><Code>{code}</Code><Message>Injected.</Message></Error>"
        if service == "sns":
            body = f"<ErrorResponse>{body}</ErrorResponse>"
        headers = {"content-type": "application/xml"}
    else:
        body = f'{{"__type": "{code}", "message": "Injected."}}'
        headers = {"content-type": "application/x-amz-json-1.0"}
    return AWSResponse(request.url, status, headers, Raw(body.encode()))


class Raw:
    """The part of urllib3's response that botocore reads."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> list[bytes]:
        return [self._body]

    def read(self, *_: Any, **__: Any) -> bytes:
        body, self._body = self._body, b""
        return body


def answer_with(
    fault: str | None, request: Any, call: Call, send: Callable[[], AWSResponse]
) -> AWSResponse:
    """The answer of a service, or what becomes of it. Raises Killed, or an error of the network."""
    service, _ = call
    if fault == "throttled":
        return error_answer(request, service, *THROTTLED[service])
    if fault == "broken":
        return error_answer(request, service, *BROKEN)
    if fault == "timeout":
        raise ReadTimeoutError(endpoint_url=request.url)
    if fault == "reset":
        raise ConnectionClosedError(endpoint_url=request.url)
    if fault == "killed":
        raise Killed
    answer = send()
    if fault == "timeout after it":
        raise ReadTimeoutError(endpoint_url=request.url)
    if fault == "reset after it":
        raise ConnectionClosedError(endpoint_url=request.url)
    if fault == "killed after it":
        raise Killed
    return answer
