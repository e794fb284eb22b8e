"""Pillow's warnings about odd files are ignored by the package; pytest would raise them."""

import pytest

from chalicelib.model import Limits


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.filterwarnings(r"ignore:::PIL\."))


@pytest.fixture
def limits() -> Limits:
    return Limits()
