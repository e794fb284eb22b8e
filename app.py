"""Every trigger and every route of the image pipeline. Each hands over to ``chalicelib``."""

from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, cast

from chalice.app import (
    Chalice,
    CloudWatchEvent,
    Rate,
    Request,
    Response,
    S3Event,
    SQSEvent,
)

from chalicelib import deliveries, logs, pipeline, stages, webhooks, worker
from chalicelib.bootstrap import services, settings, sign_in
from chalicelib.config import STEP_FUNCTIONS, UPLOADS_PREFIX
from chalicelib.messages import object_events, work_messages
from chalicelib.model import Image
from chalicelib.sweep import enqueue_strays
from chalicelib.web import browsers, operations, views
from chalicelib.web.auth import guard, open_guard, require_caller, require_reviewer
from chalicelib.web.page import docs_page, front_page, static_file
from chalicelib.web.problems import answers
from chalicelib.web.requests import (
    BINARY_TYPES,
    Wish,
    base_of,
    browse_query,
    check_root,
    direct_wish_of,
    idempotency_of,
    image_ids_of,
    is_remote_wish,
    members_of,
    prefers_json,
    query_values,
    remote_wish_of,
    upload_of,
    wish_of,
)

logs.configure()
app = Chalice(app_name="image-pipeline", configure_logs=False)
app.api.binary_types.extend(BINARY_TYPES - {*app.api.binary_types})
anybody: dict[str, Any] = {"content_types": ["*/*"]}
callers = anybody | guard(settings())
visitors = anybody | open_guard(settings())


@app.middleware("all")
def with_facts(event: Any, get_response: Callable[[Any], Any]) -> Any:
    with logs.invocation(event):
        return get_response(event)


@app.middleware("http")
def with_origins(event: Request, get_response: Callable[[Request], Response]) -> Response:
    return browsers.answered(event, get_response, settings().api_allowed_origins)


# ── events ───────────────────────────────────────────────────────────────────────────────────────


@app.on_s3_event(
    bucket=settings().uploads_bucket, events=["s3:ObjectCreated:*"], prefix=UPLOADS_PREFIX
)
def handle_upload(event: S3Event) -> None:
    for change in object_events(event.to_dict()):
        pipeline.register(change, services())


@app.on_s3_event(
    bucket=settings().uploads_bucket, events=["s3:ObjectRemoved:*"], prefix=UPLOADS_PREFIX
)
def handle_removal(event: S3Event) -> None:
    for change in object_events(event.to_dict()):
        pipeline.remove(change, services())


@app.on_sqs_message(
    queue=settings().work_queue_name,
    batch_size=settings().batch_size,
    maximum_concurrency=settings().maximum_concurrency,
)
def process_images(event: SQSEvent) -> None:
    worker.process_batch(work_messages(event.to_dict()), time_left(event), services())


@app.on_sqs_message(
    queue=settings().webhook_queue_name,
    batch_size=10,
    maximum_concurrency=settings().webhook_concurrency,
)
def deliver_webhooks(event: SQSEvent) -> None:
    deliveries.deliver_batch(work_messages(event.to_dict()), time_left(event), services())


@app.schedule(Rate(1, unit=Rate.HOURS))
def sweep(event: CloudWatchEvent) -> None:
    enqueue_strays(UPLOADS_PREFIX, time_left(event), services())


# Else nobody would call these, and they need not be there. What follows what: workflow.yaml.
if settings().orchestration == STEP_FUNCTIONS:

    @app.lambda_function()
    def validate_image(event: stages.Event, _context: Any) -> stages.Event:
        return stages.validate(event, services())

    @app.lambda_function()
    def recognise_image(event: stages.Event, _context: Any) -> stages.Event:
        return stages.recognise(event, services())

    @app.lambda_function()
    def render_image(event: stages.Event, _context: Any) -> stages.Event:
        return stages.render(event, services())

    @app.lambda_function()
    def store_image(event: stages.Event, _context: Any) -> stages.Event:
        return stages.store(event, services())

    @app.lambda_function()
    def announce_image(event: stages.Event, _context: Any) -> stages.Event:
        return stages.announce(event, services())


def time_left(event: SQSEvent | CloudWatchEvent) -> timedelta:
    return timedelta(milliseconds=cast("Any", event.context).get_remaining_time_in_millis())


# ── REST ─────────────────────────────────────────────────────────────────────────────────────────


def request() -> Request:
    return cast("Request", app.current_request)


@app.route("/images", methods=["POST"], **callers)
@answers(operations.UPLOAD_IMAGE)
def upload_image() -> Response:
    return ingest(wish_of(request()))


def ingest(wish: Wish) -> Response:
    asked = idempotency_of(request())

    def submit() -> Image:
        upload = upload_of(wish, asked, settings())
        return pipeline.submit(
            upload.key,
            upload.body,
            upload.content_type,
            upload.filename,
            services(),
            request=asked,
        )

    image = pipeline.once(asked, wish.fingerprint if asked else "", submit, services())
    return views.accepted(image, base_of(request()))


@app.route("/uploads", methods=["POST"], **callers)
@answers(operations.OFFER_UPLOAD)
def offer_upload() -> Any:
    max_bytes = settings().max_bytes
    wish = direct_wish_of(request(), max_bytes)
    offer = pipeline.offer(wish.key, wish.content_type, wish.filename, services())
    return views.offer_view(wish.key, offer, max_bytes, base_of(request()))


@app.route("/images", methods=["GET"], **callers)
@answers(operations.LIST_IMAGES)
def list_images() -> Any:
    page = services().catalog.browse(browse_query(request()))
    return views.page_view(page, base_of(request()), services().renditions.url)


@app.route("/images/{image_id}", methods=["GET"], **callers)
@answers(operations.SHOW_IMAGE)
def show_image(image_id: str) -> Any:
    return in_full(pipeline.find(image_id, services()))


@app.route("/images/uploads/{filename}/status", methods=["GET"], **callers)
@answers(operations.SHOW_STATUS_BY_FILENAME)
def show_status_by_filename(filename: str) -> Any:
    return in_full(pipeline.find_first(image_ids_of(filename), services()))


def in_full(image: Image) -> dict[str, Any]:
    key, uploads = image.original.key, services().uploads
    shown = views.image_view(image, base_of(request()), services().renditions.url)
    versions = views.versions_view(uploads.history(key))
    return shown | {"filename": uploads.filename(key), "versions": versions}


@app.route("/images/{image_id}", methods=["DELETE"], **callers)
@answers(operations.DELETE_IMAGE)
def delete_image(image_id: str) -> Response:
    return views.accepted(pipeline.delete(image_id, services()), base_of(request()))


@app.route("/images/{image_id}/reprocess", methods=["POST"], **callers)
@answers(operations.REPROCESS_IMAGE)
def reprocess_image(image_id: str) -> Response:
    return views.accepted(pipeline.reprocess(image_id, services()), base_of(request()))


@app.route("/images/{image_id}/review", methods=["GET"], **callers)
@answers(operations.REVIEW_IMAGE)
def review_image(image_id: str) -> Any:
    require_reviewer(request(), settings())
    image = pipeline.find_withheld(image_id, services())
    return views.withheld_view(image, base_of(request()), services().renditions.url)


@app.route("/images/{image_id}/release", methods=["POST"], **callers)
@answers(operations.RELEASE_IMAGE)
def release_image(image_id: str) -> Response:
    require_reviewer(request(), settings())
    version_id = query_values(request(), operations.RELEASE_IMAGE)["version_id"] or ""
    return views.accepted(pipeline.release(image_id, version_id, services()), base_of(request()))


@app.route("/images/{image_id}/status", methods=["GET"], **callers)
@answers(operations.SHOW_STATUS)
def show_status(image_id: str) -> Response:
    return views.status_answer(pipeline.find(image_id, services()), request(), base_of(request()))


@app.route("/images/{image_id}/renditions/{name}", methods=["GET"], **callers)
@answers(operations.SHOW_RENDITION)
def show_rendition(image_id: str, name: str) -> Response:
    image = pipeline.find(image_id, services())
    return views.rendition_redirect(image, name, services().renditions.url)


@app.route("/images/{image_id}/similar", methods=["GET"], **callers)
@answers(operations.LIST_SIMILAR)
def list_similar(image_id: str) -> Any:
    values = query_values(request(), operations.LIST_SIMILAR)
    found = pipeline.find_similar(image_id, values["max_distance"], values["limit"], services())
    return views.similar_view(found, base_of(request()), services().renditions.url)


@app.route("/labels", methods=["GET"], **callers)
@answers(operations.LIST_LABELS)
def list_labels() -> Any:
    values = query_values(request(), operations.LIST_LABELS)
    return views.labels_view(services().catalog.label_counts(values["prefix"]), values["limit"])


@app.route("/stats", methods=["GET"], **callers)
@answers(operations.SHOW_STATS)
def show_stats() -> Any:
    return views.stats_view(services().catalog.totals())


@app.route("/webhooks", methods=["GET"], **callers)
@answers(operations.LIST_WEBHOOKS)
def list_webhooks() -> Any:
    now = services().clock()
    return {"webhooks": [views.webhook_view(each, now) for each in webhooks.listed(services())]}


@app.route("/webhooks", methods=["POST"], **callers)
@answers(operations.REGISTER_WEBHOOK)
def register_webhook() -> Response:
    wish = members_of(request(), operations.REGISTER_WEBHOOK)
    made = webhooks.register(**wish, services=services())
    return views.registered(made, services().clock(), base_of(request()))


@app.route("/webhooks/{webhook_id}", methods=["GET"], **callers)
@answers(operations.SHOW_WEBHOOK)
def show_webhook(webhook_id: str) -> Any:
    return views.webhook_view(webhooks.find(webhook_id, services()), services().clock())


@app.route("/webhooks/{webhook_id}", methods=["PATCH"], **callers)
@answers(operations.CHANGE_WEBHOOK)
def change_webhook(webhook_id: str) -> Any:
    wish = members_of(request(), operations.CHANGE_WEBHOOK)
    return views.webhook_view(webhooks.change(webhook_id, services(), **wish), services().clock())


@app.route("/webhooks/{webhook_id}", methods=["DELETE"], **callers)
@answers(operations.DELETE_WEBHOOK)
def delete_webhook(webhook_id: str) -> Response:
    webhooks.remove(webhook_id, services())
    return Response(status_code=HTTPStatus.NO_CONTENT, body="")


@app.route("/webhooks/{webhook_id}/rotate", methods=["POST"], **callers)
@answers(operations.ROTATE_WEBHOOK)
def rotate_webhook(webhook_id: str) -> Any:
    return views.rotated_view(webhooks.rotate(webhook_id, services()))


@app.route("/webhooks/{webhook_id}/disable", methods=["POST"], **callers)
@answers(operations.DISABLE_WEBHOOK)
def disable_webhook(webhook_id: str) -> Any:
    return views.webhook_view(webhooks.disable(webhook_id, services()), services().clock())


@app.route("/webhooks/{webhook_id}/resume", methods=["POST"], **callers)
@answers(operations.RESUME_WEBHOOK)
def resume_webhook(webhook_id: str) -> Any:
    return views.webhook_view(webhooks.resume(webhook_id, services()), services().clock())


@app.route("/webhooks/{webhook_id}/test", methods=["POST"], **callers)
@answers(operations.TEST_WEBHOOK)
def try_webhook(webhook_id: str) -> Response:
    return views.sent(webhook_id, webhooks.send_test(webhook_id, services()), base_of(request()))


@app.route("/webhooks/{webhook_id}/deliveries", methods=["GET"], **callers)
@answers(operations.LIST_DELIVERIES)
def list_deliveries(webhook_id: str) -> Any:
    values = query_values(request(), operations.LIST_DELIVERIES)
    return views.deliveries_view(
        webhooks.deliveries(webhook_id, values["limit"], values["cursor"], services())
    )


@app.route("/webhooks/{webhook_id}/deliveries/{event_id}/replay", methods=["POST"], **callers)
@answers(operations.REPLAY_DELIVERY)
def replay_delivery(webhook_id: str, event_id: str) -> Response:
    webhooks.replay(webhook_id, event_id, services())
    return views.sent(webhook_id, event_id, base_of(request()))


@app.route("/health", methods=["GET", "HEAD"], **anybody)
@answers(operations.CHECK_HEALTH)
def check_health() -> Any:
    pipeline.check_health(services())
    return {"status": "ok"}


# ── pages ────────────────────────────────────────────────────────────────────────────────────────


@app.route("/", methods=["GET", "HEAD"], **visitors)
@answers(operations.SHOW_ROOT)
def show_root() -> Any:
    """The page or, for those who ask so by convention, what ``/images`` does."""
    if is_remote_wish(request()):
        require_caller(settings())
        browsers.refuse_foreign_page(request(), settings().api_allowed_origins)
        return ingest(remote_wish_of(request()))
    if prefers_json(request()):
        require_caller(settings())
        page = services().catalog.browse(browse_query(request()))
        return views.page_view(page, base_of(request()), services().renditions.url)
    check_root(request())
    return front_page(request(), services().renditions.url, services().uploads, sign_in(settings()))


@app.route("/static/{name}", methods=["GET", "HEAD"], **visitors)
@answers(operations.SHOW_STATIC_FILE)
def show_static_file(name: str) -> Response:
    return static_file(name, request())


@app.route("/docs", methods=["GET", "HEAD"], **visitors)
@answers(operations.SHOW_DOCS)
def show_docs() -> Response:
    return docs_page(request())


@app.route("/openapi.json", methods=["GET", "HEAD"], **visitors)
@answers(operations.SHOW_OPENAPI)
def show_openapi() -> Any:
    # Only here: it brings the types of all answers, which nothing else needs when the app runs.
    from chalicelib.web.openapi import document  # noqa: PLC0415

    return document(app.routes, settings())


for path, methods in list(app.routes.items()):
    allowed = sorted(methods)
    others = [method for method in browsers.METHODS if method not in {*allowed, "OPTIONS"}]
    app.route(path, methods=["OPTIONS"], **anybody)(browsers.preflight(allowed))
    app.route(path, methods=others, **callers)(browsers.refusal(allowed))
