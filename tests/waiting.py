"""Waiting for what the local cloud does in its own time."""

import time
from collections.abc import Callable
from typing import Any

import pytest

TIMEOUT_S = 30


def eventually(condition: Callable[[], Any]) -> Any:
    """The first true value of a condition; fails when there is none in time."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    pytest.fail(f"not so within {TIMEOUT_S} s")
