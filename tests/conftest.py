"""Variables before ``app`` is imported, and the fixtures that several kinds of tests share."""

import os
from typing import TYPE_CHECKING

import pytest

# Decorators of app.py read the settings when it is imported. Whatever this machine may do on AWS,
# tests may not: nothing listens on the discard port.
os.environ.update(
    STAGE="test",
    UPLOADS_BUCKET="uploads",
    RENDITIONS_BUCKET="renditions",
    TABLE_NAME="catalog",
    WORK_QUEUE_URL="http://127.0.0.1:9/000000000000/work",
    WEBHOOK_QUEUE_URL="http://127.0.0.1:9/000000000000/webhooks",
    API_AUTH="none",  # Chalice's test client knows no IAM, and warns of it
    MAX_RECEIVE_COUNT="5",
    TOPIC_ARN="arn:aws:sns:us-east-1:000000000000:announcements",
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",  # noqa: S106 - no secret
    AWS_DEFAULT_REGION="us-east-1",
    AWS_ENDPOINT_URL="http://127.0.0.1:9",
    AWS_EC2_METADATA_DISABLED="true",
)

from tests.fakes import FakeServices

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from localcloud.cloud import LocalCloud


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> "Generator[None, pytest.TestReport, pytest.TestReport]":
    """Half characters that tests log cannot be told between the processes that run them."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture
def services() -> FakeServices:
    """The services of the pipeline in memory."""
    return FakeServices()


@pytest.fixture(scope="session")
def cloud() -> "Iterator[LocalCloud]":
    """The local cloud with the app deployed, each function under its own role."""
    from localcloud.cloud import LocalCloud  # noqa: PLC0415 - only tests that ask for it pay

    with LocalCloud(enforce_iam=True) as cloud:
        yield cloud
