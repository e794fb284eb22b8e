"""Errors and slowness on demand, for tests, chaos runs and benchmarks."""

import time
from dataclasses import asdict, dataclass
from threading import Lock

from localcloud.rekognition import protocol
from localcloud.rekognition.errors import MESSAGES, ServiceError


@dataclass(frozen=True, slots=True)
class Faults:
    """What to do to calls. Raises ValueError for what makes no sense.

    ``next_calls`` calls fail first; after them the share ``rate`` of calls, evenly spread (0.25 is
    every fourth). Every call waits ``latency_ms`` before it is answered. All of this is
    done to calls of ``operation`` (``DetectText``) alone where it names one.
    """

    error: str = "ThrottlingException"
    next_calls: int = 0
    rate: float = 0.0
    latency_ms: float = 0.0
    operation: str = ""

    def __post_init__(self) -> None:
        if self.error not in MESSAGES:
            raise ValueError(f"{self.error} is none of {', '.join(MESSAGES)}")
        if self.next_calls < 0 or self.latency_ms < 0 or not 0 <= self.rate <= 1:
            raise ValueError("next_calls and latency_ms are 0 or more, rate is from 0 to 1")
        if self.operation and self.operation not in protocol.service().operation_names:
            raise ValueError(f"{self.operation} is no operation of the service")


class FaultInjector:
    def __init__(self, faults: Faults) -> None:
        self._lock = Lock()
        self.set(faults)

    def set(self, faults: Faults) -> None:
        with self._lock:
            self._faults = faults
            self._next_calls = faults.next_calls
            self._due = 0.0

    def state(self) -> dict[str, float | str]:
        """The faults as they are now: ``next_calls`` counts down."""
        with self._lock:
            return asdict(self._faults) | {"next_calls": self._next_calls}

    def strike(self, operation: str) -> None:
        """Wait as long as asked for; raise ServiceError if it is this call's turn."""
        with self._lock:
            faults = self._faults
            if faults.operation not in ("", operation):
                return
            if self._next_calls:
                self._next_calls -= 1
                fails = True
            else:
                self._due += faults.rate
                fails = self._due >= 1
                self._due -= fails
        time.sleep(faults.latency_ms / 1000)
        if fails:
            raise ServiceError(faults.error)
