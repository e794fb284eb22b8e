"""How each destination fares: one that fails again and again is left alone for a while.

Records are only written as they were read, so each change is made anew when somebody was faster.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from chalicelib.errors import StaleRevision
from chalicelib.messages import timestamp
from chalicelib.model import Circuit
from chalicelib.services import Services

FAILURES_TO_PAUSE = 5
PAUSE_S, MAX_PAUSE_S = 600, 6 * 3600
"""How long a destination is left alone: twice as long each time, and up to a fifth more."""

LEASE = timedelta(seconds=60)
"""How long who delivers, or finds out, keeps others away: longer than the function may run."""


def gate(destination_id: str, services: Services) -> tuple[Circuit, bool]:
    """How a destination fares, and whether who asks is to find out.

    When its pause is over, the first to see that is; the others wait for another moment.
    """
    now = services.clock()

    def probed(circuit: Circuit) -> Circuit:
        if circuit.paused_until and circuit.paused_until <= timestamp(now):
            return replace(circuit, paused_until=timestamp(now + LEASE))
        return circuit

    return _change(destination_id, probed, services)


def failed(destination_id: str, asked_s: int, services: Services, *, is_probe: bool) -> Circuit:
    """Count a failure, unless the destination is paused already, and pause it if need be.

    ``asked_s``: how many seconds it wants to be left alone.
    """
    now = services.clock()

    def counted(circuit: Circuit) -> Circuit:
        is_paused = (circuit.paused_until or "") > timestamp(now) and not is_probe
        failures = circuit.failures + (not is_paused)
        rest_s = max(asked_s, 0 if is_paused else pause_s(failures))
        until = timestamp(now + timedelta(seconds=rest_s)) if rest_s else ""
        known = (circuit.paused_until or "") if is_paused else ""
        return replace(circuit, failures=failures, paused_until=max(until, known) or None)

    circuit, _ = _change(destination_id, counted, services)
    return circuit


def pause_s(failures: int) -> int:
    """Seconds that a destination is left alone after so many failures in a row; 0 for none."""
    if failures < FAILURES_TO_PAUSE:
        return 0
    usual_s = min(PAUSE_S << min(failures - FAILURES_TO_PAUSE, 10), MAX_PAUSE_S)
    return round(usual_s * random.uniform(1, 1.2))  # noqa: S311 - no secret


def resume(destination_id: str, services: Services) -> None:
    """Forget its failures: it has taken something."""
    _change(destination_id, _resumed, services)


def _resumed(circuit: Circuit) -> Circuit:
    return replace(circuit, failures=0, paused_until=None)


def _change(
    destination_id: str, change: Callable[[Circuit], Circuit], services: Services
) -> tuple[Circuit, bool]:
    """How a destination fares once that is applied, and whether it has changed anything."""
    while True:
        circuit = services.destinations.circuit(destination_id)
        changed = change(circuit)
        if changed == circuit:
            return circuit, False
        with suppress(StaleRevision):
            return services.destinations.save_circuit(destination_id, changed, circuit), True


def switch(destination_id: str, reason: str, services: Services) -> None:
    """Disable a destination for a reason or, with none, tell it again."""
    _change(
        destination_id, lambda circuit: replace(_resumed(circuit), disabled_for=reason), services
    )
