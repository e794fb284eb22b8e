"""A few schedules of the chaos suite; ``make chaos`` runs a thousand of them."""

from collections.abc import Iterator

import pytest

from chalicelib.aws.storage import Renditions
from localcloud.cloud import LocalCloud
from tests.chaos.world import Clients, flagged_person, in_turns, run_schedule

pytestmark = pytest.mark.no_cover  # what it runs through, others test

SEEDS = range(1, 21)


@pytest.fixture(scope="module")
def clients(cloud: LocalCloud) -> Iterator[Clients]:
    with in_turns(), flagged_person(cloud):
        yield Clients(cloud)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_the_catalog_ends_as_s3_is(clients: Clients, seed: int) -> None:
    """Uploads, removals, events in any order, faults and deaths at any call; then all is right."""
    run_schedule(seed, clients)


def test_same_seed_is_the_same_schedule(clients: Clients) -> None:
    """What fails can be run again, alone."""
    first, again = (run_schedule(7, clients) for _ in range(2))
    assert [line.split()[0] for line in first.log] == [line.split()[0] for line in again.log]
    assert first.faults.injected == again.faults.injected


def test_a_pipeline_that_forgets_is_found_out(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were old renditions left where they are, a few seeds would show it."""
    monkeypatch.setattr(Renditions, "tidy", lambda *_: None)

    def is_found_out(seed: int) -> bool:
        try:
            run_schedule(seed, clients)
        except AssertionError as error:
            return "orphaned" in str(error)
        return False

    assert any(map(is_found_out, SEEDS))
