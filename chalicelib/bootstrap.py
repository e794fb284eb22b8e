"""The composition root: settings and AWS clients become the services that the use cases take.

Nothing is built at import. Each client is built on first use, all on one session (a session costs
more than a client), so that a function pays only for the services it calls.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import cache, cached_property
from threading import Lock
from typing import Any

from boto3 import Session
from botocore.config import Config

from chalicelib.aws.announce import EventBus, Topic
from chalicelib.aws.catalog import Catalog
from chalicelib.aws.destinations import Deliveries, Destinations
from chalicelib.aws.mail import Mailer
from chalicelib.aws.queue import Queue, WorkQueue
from chalicelib.aws.recognition import CALLS_AT_ONCE, Recognizer
from chalicelib.aws.storage import Renditions, Uploads
from chalicelib.aws.workflow import Workflow
from chalicelib.config import INLINE, Settings, read_settings
from chalicelib.pipeline import utc_now
from chalicelib.services import Channel, Patience, Recipe, WebhookTerms
from chalicelib.telemetry import Telemetry

CONNECT_TIMEOUT_S = 2
READ_TIMEOUT_S = 7
MAX_ATTEMPTS = 3
LONGEST_CALL_S = MAX_ATTEMPTS * (CONNECT_TIMEOUT_S + READ_TIMEOUT_S) + 2 ** (MAX_ATTEMPTS - 1) - 1
"""A call that hangs every time is an error by then: botocore pauses for 1 and for 2 s at most. Only
a call of Rekognition may take longer, because adaptive retries hold it back while others are
throttled."""


class Services:
    """The services of a stage, each made when it is first asked for."""

    clock: Callable[[], datetime] = staticmethod(utc_now)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._lock = Lock()

    @cached_property
    def uploads(self) -> Uploads:
        return Uploads(self._client("s3"), self.settings.uploads_bucket)

    @cached_property
    def renditions(self) -> Renditions:
        return Renditions(self._client("s3"), self.settings.renditions_bucket)

    @cached_property
    def queue(self) -> WorkQueue:
        return WorkQueue(self._client("sqs"), self.settings.work_queue_url)

    @cached_property
    def webhook_queue(self) -> Queue:
        return Queue(self._client("sqs"), self.settings.webhook_queue_url)

    @cached_property
    def mailer(self) -> Mailer:
        return Mailer(self._client("sesv2"))

    @cached_property
    def destinations(self) -> Destinations:
        return Destinations(self._client("dynamodb"), self.settings.table_name)

    @cached_property
    def deliveries(self) -> Deliveries:
        return Deliveries(self._client("dynamodb"), self.settings.table_name)

    @cached_property
    def webhook_terms(self) -> WebhookTerms:
        return WebhookTerms(
            configured=tuple(
                replace(each, secrets=self.settings.webhook_secret)
                for each in self.settings.webhooks
            ),
            allowed_networks=self.settings.webhook_allowed_networks,
            mail_from=self.settings.mail_from,
        )

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog(self._client("dynamodb"), self.settings.table_name)

    @cached_property
    def recognizer(self) -> Recognizer:
        return Recognizer(self._client("rekognition"), self.settings.recognition, LONGEST_CALL_S)

    @cached_property
    def channels(self) -> dict[str, Channel]:
        channels: dict[str, Channel] = {
            "sns": Topic(self._client("sns"), self.settings.topic_arn),
        }
        if self.settings.event_bus_name:
            bus = EventBus(self._client("events"), self.settings.event_bus_name)
            channels["eventbridge"] = bus
        return channels

    @cached_property
    def workflow(self) -> Workflow | None:
        if self.settings.orchestration == INLINE:
            return None
        return Workflow(self._client("stepfunctions"), self.settings.state_machine_arn)

    @cached_property
    def telemetry(self) -> Telemetry:
        return Telemetry(self.settings.stage, os.environ, self.settings.features)

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe(
            version=self.settings.recipe_version,
            specs=self.settings.renditions,
            limits=self.settings.limits,
            background=self.settings.background,
            keep_gps=self.settings.keep_gps,
            features=self.settings.features,
            quarantine=self.settings.quarantine,
            duplicate_distance=self.settings.duplicate_distance,
            reuse_recognition=self.settings.reuse_recognition,
        )

    @cached_property
    def patience(self) -> Patience:
        return Patience(
            in_flight=self.settings.images_in_flight,
            max_receives=self.settings.max_receive_count,
            retry_delay_s=self.settings.retry_delay_s,
        )

    def _client(self, service: str) -> Any:
        """The one client of a service. Making one is not thread-safe in boto3, using it is."""
        with self._lock:
            if service not in self._clients:
                self._session = self._session or Session()
                self._clients[service] = self._session.client(
                    service,
                    config=Config(
                        connect_timeout=CONNECT_TIMEOUT_S,
                        read_timeout=READ_TIMEOUT_S,
                        max_pool_connections=CALLS_AT_ONCE,
                        # Else links are signed for the global host, which redirects to the
                        # bucket's region and so breaks the signature of all but us-east-1.
                        s3={"addressing_style": "virtual"},
                        retries={
                            "mode": "adaptive" if service == "rekognition" else "standard",
                            # A mail is tried over a day anyway, and sent twice by the SDK
                            # where an answer is lost.
                            "total_max_attempts": 1 if service == "sesv2" else MAX_ATTEMPTS,
                        },
                        # Else links are signed the old way in older regions, which S3 refuses.
                        signature_version="s3v4" if service == "s3" else None,
                    ),
                )
            return self._clients[service]


def sign_in(settings: Settings) -> dict[str, str]:
    """What a page has to know so that somebody can sign in on it."""
    told = {"auth": settings.api_auth}
    if settings.api_auth != "cognito":
        return told
    _, partition, _, region, *_ = settings.user_pool_arn.split(":")
    suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    endpoint = os.environ.get("AWS_ENDPOINT_URL", f"https://cognito-idp.{region}.{suffix}")
    return told | {"client_id": settings.user_pool_client_id, "endpoint": f"{endpoint}/"}


@cache
def settings() -> Settings:
    """The settings of this stage, read from the environment once."""
    return read_settings(os.environ)


@cache
def services() -> Services:
    """The services of this stage, kept for the life of the process."""
    return Services(settings())
