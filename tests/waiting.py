"""Waiting for what the local cloud does in its own time."""

import time
from collections.abc import Callable
from typing import Any

import pytest

TIMEOUT_S = 120
"""So long only a test waits that fails, however busy the machine is."""


def eventually(condition: Callable[[], Any]) -> Any:
    """The first true value of a condition; fails when there is none in time."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not so within {TIMEOUT_S} s")
        time.sleep(0.05)
    return value
