"""The composition root: each service once, from one session, and only when it is used."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import boto3
import pytest

from chalicelib import bootstrap
from chalicelib.aws.announce import EventBus, Topic
from chalicelib.aws.recognition import OPERATIONS
from chalicelib.bootstrap import Services
from chalicelib.config import read_settings
from chalicelib.model import (
    ANY_LABEL,
    Limits,
    Original,
    OutputFormat,
    QuarantineRule,
    Rendition,
    Secret,
)
from chalicelib.services import Patience, Recipe
from chalicelib.worker import TIME_TO_HAND_BACK, TIME_TO_START
from infrastructure.stage import PROJECT
from tests.waiting import TIMEOUT_S

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwN5o3oXv1GYs="  # noqa: S105 - nobody's
SETTINGS = read_settings(
    {
        "STAGE": "dev",
        "UPLOADS_BUCKET": "originals",
        "RENDITIONS_BUCKET": "derived",
        "TABLE_NAME": "images",
        "WORK_QUEUE_URL": "https://sqs.example/123456789012/work",
        "WEBHOOK_QUEUE_URL": "https://sqs.example/123456789012/webhooks",
        "TOPIC_ARN": "arn:aws:sns:us-east-1:123456789012:images",
        "MAX_RECEIVE_COUNT": "4",
        "IMAGES_IN_FLIGHT": "3",
        "RETRY_DELAY_S": "7",
        "RENDITIONS": "small 64x64 prefix=web",
        "RECOGNITION": "labels 7 55%, properties, moderation",
        "QUARANTINE": "any 80%",
        "DUPLICATE_DISTANCE": "5",
        "REUSE_RECOGNITION": "true",
        "MAX_BYTES": "1000",
        "KEEP_GPS": "true",
        "BACKGROUND": "#000000",
        "EVENT_BUS_NAME": "told",
        "WEBHOOKS": "https://example.com/hook FAILED",
        "WEBHOOK_SECRET": SECRET,
        "WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/8",
        "MAIL_FROM": "images@example.com",
    }
)


@pytest.fixture
def services() -> Services:
    return Services(SETTINGS)


def test_settings_reach_the_services(services: Services) -> None:
    """Each adapter is given what the stage says of its resource."""
    assert services.uploads.bucket == "originals"
    assert services.renditions.bucket == "derived"
    assert services.catalog.table == "images"
    assert services.queue.url == "https://sqs.example/123456789012/work"
    topic, bus = services.channels["sns"], services.channels["eventbridge"]
    assert isinstance(topic, Topic)
    assert isinstance(bus, EventBus)
    assert (topic.arn, bus.name) == ("arn:aws:sns:us-east-1:123456789012:images", "told")
    assert services.recognizer.features == SETTINGS.recognition
    assert services.recipe == Recipe(
        SETTINGS.recipe_version,
        SETTINGS.renditions,
        Limits(max_bytes=1000),
        background="#000000",
        keep_gps=True,
        features=SETTINGS.features,
        quarantine=(QuarantineRule(ANY_LABEL, 80),),
        duplicate_distance=5,
        reuse_recognition=True,
    )
    assert services.patience == Patience(in_flight=3, max_receives=4, retry_delay_s=7)
    assert services.webhook_queue.url == "https://sqs.example/123456789012/webhooks"
    assert services.destinations.table == services.deliveries.table == "images"
    [configured] = services.webhook_terms.configured
    assert (configured.url, configured.secrets) == ("https://example.com/hook", (Secret(SECRET),))
    assert services.webhook_terms.allowed_networks == ("10.0.0.0/8",)
    assert services.webhook_terms.mail_from == "images@example.com"
    assert services.clock().tzinfo is not None


def test_metrics_are_told_of_this_stage(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the price of all that the stage asks Rekognition for."""
    original = Original("uploads/a.jpg", "v", "etag", 1, "0", "2026-01-31T09:15:00.000Z")

    with services.telemetry.journey(original) as journey:
        for step in ("fetch", "recognise"):
            with journey.step(step):
                pass

    line = json.loads(capsys.readouterr().out)
    assert (line["Stage"], line["EstimatedCost"]) == ("dev", 0.002816)


def test_nothing_is_made_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the app and asking for its services costs no session and no client."""
    monkeypatch.setattr(bootstrap, "Session", None)

    services = Services(SETTINGS)

    assert services.recipe.keep_gps
    with pytest.raises(TypeError):
        _ = services.channels


def test_services_and_clients_are_made_once(services: Services) -> None:
    """Both buckets share the client of S3; asking again makes nothing anew."""
    assert services.uploads is services.uploads
    assert services.uploads.client is services.renditions.client
    assert services.catalog.client is services.catalog.client


def test_threads_that_meet_share_one_client(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of a batch may ask for the same service at once; boto3 makes no clients in threads."""
    made: list[str] = []
    start = threading.Barrier(4, timeout=TIMEOUT_S)

    class Session(boto3.Session):
        def __init__(self) -> None:
            super().__init__()
            made.append("session")

    monkeypatch.setattr(bootstrap, "Session", Session)
    ways: list[Callable[[], object]] = [
        lambda: services.uploads.client,
        lambda: services.renditions.client,
        lambda: services.uploads.client,
        lambda: services.renditions.client,
    ]

    def ask(way: Callable[[], object]) -> object:
        start.wait()
        return way()

    with ThreadPoolExecutor(max_workers=4) as pool:
        clients = list(pool.map(ask, ways))

    assert len(set(map(id, clients))) == 1
    assert made == ["session"]


def test_a_hanging_call_is_an_error_within_the_function_s_time(services: Services) -> None:
    """Timeouts are well below the 30 seconds of a function, and retries are on."""
    config = services.queue.client.meta.config

    assert config.connect_timeout < 30
    assert config.read_timeout < 30
    assert config.retries["mode"] == "standard"
    assert services.recognizer.client.meta.config.retries["mode"] == "adaptive"


def test_rekognition_that_hangs_leaves_time_for_the_rest(services: Services) -> None:
    """Of all the attempts at a call and the pauses in between, in one run of process_images.

    Pauses of botocore's standard and adaptive modes double, and are 1 and 2 seconds at most. The
    calls of one image run side by side, so that it does not matter how many there are. What takes
    longer was held back by adaptive retries, and is waited for no longer.
    """
    config = services.recognizer.client.meta.config
    attempts = config.retries["total_max_attempts"]
    pauses_s = sum(2**attempt for attempt in range(attempts - 1))
    longest_s = attempts * (config.connect_timeout + config.read_timeout) + pauses_s
    assert services.recognizer.longest_call_s == longest_s

    functions = json.loads((PROJECT / ".chalice" / "config.json").read_text())["lambda_functions"]

    rest_s = (TIME_TO_START + TIME_TO_HAND_BACK).total_seconds()
    assert longest_s + rest_s < functions["process_images"]["lambda_timeout"]


def test_every_call_of_a_batch_has_a_connection(services: Services) -> None:
    """Ten images are shown to Rekognition at once, in five operations each."""
    assert services.recognizer.client.meta.config.max_pool_connections >= 10 * len(OPERATIONS)


def test_process_has_one_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """``settings()`` and ``services()`` are read from the environment once."""
    monkeypatch.setenv("TABLE_NAME", "read-once")
    bootstrap.settings.cache_clear()
    bootstrap.services.cache_clear()
    try:
        settings = bootstrap.settings()
        monkeypatch.setenv("TABLE_NAME", "too-late")

        assert settings.table_name == "read-once"
        assert bootstrap.settings() is settings
        assert bootstrap.services() is bootstrap.services()
        assert bootstrap.services().settings is settings
    finally:
        bootstrap.settings.cache_clear()
        bootstrap.services.cache_clear()


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "eu-central-1"])
def test_links_are_signed_for_the_bucket_s_region(
    monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    """With SigV4, which newer buckets ask for, and to the regional host, which never redirects."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    rendition = Rendition("small", "web/x/small.jpg", OutputFormat.JPEG, 64, 64, 1)

    url = urlsplit(Services(SETTINGS).renditions.url(rendition, 60))

    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url.query
    suffix = "s3.amazonaws.com" if region == "us-east-1" else f"s3.{region}.amazonaws.com"
    assert url.netloc == f"derived.{suffix}"
