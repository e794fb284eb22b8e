"""Every trigger and every route of the image pipeline. Each hands over to ``chalicelib``."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

from chalice.app import (
    Chalice,
    CloudWatchEvent,
    IAMAuthorizer,
    Rate,
    Request,
    Response,
    S3Event,
    SQSEvent,
)

from chalicelib import logs, pipeline, worker
from chalicelib.bootstrap import services, settings
from chalicelib.config import UPLOADS_PREFIX
from chalicelib.messages import object_events, work_messages
from chalicelib.sweep import enqueue_strays
from chalicelib.web.page import front_page, static_file
from chalicelib.web.problems import problems
from chalicelib.web.requests import UPLOAD_TYPES, base_of, image_ids_of, query_of, upload_of
from chalicelib.web.views import accepted, image_view, page_view, status_view

logs.configure()
app = Chalice(app_name="image-pipeline", configure_logs=False)
app.api.binary_types.extend(UPLOAD_TYPES)
authorizer = IAMAuthorizer() if settings().api_auth == "iam" else None


@app.middleware("all")
def with_facts(event: Any, get_response: Callable[[Any], Any]) -> Any:
    with logs.invocation(event):
        return get_response(event)


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


@app.schedule(Rate(1, unit=Rate.HOURS))
def sweep(event: CloudWatchEvent) -> None:
    enqueue_strays(UPLOADS_PREFIX, time_left(event), services())


def time_left(event: SQSEvent | CloudWatchEvent) -> timedelta:
    return timedelta(milliseconds=cast("Any", event.context).get_remaining_time_in_millis())


# ── REST ─────────────────────────────────────────────────────────────────────────────────────────


def request() -> Request:
    return cast("Request", app.current_request)


@app.route("/images", methods=["POST"], authorizer=authorizer, content_types=["*/*"])
@problems
def upload_image() -> Response:
    upload = upload_of(request(), settings())
    image = pipeline.submit(
        upload.key, upload.body, upload.content_type, upload.filename, services()
    )
    return accepted(image, base_of(request()))


@app.route("/images", methods=["GET"], authorizer=authorizer)
@problems
def list_images() -> dict[str, Any]:
    page = pipeline.browse(query_of(request()), services())
    return page_view(page, base_of(request()), services().renditions.url)


@app.route("/images/{image_id}", methods=["GET"], authorizer=authorizer)
@problems
def show_image(image_id: str) -> dict[str, Any]:
    image = pipeline.find(image_id, services())
    return image_view(image, base_of(request()), services().renditions.url)


@app.route("/images/{image_id}", methods=["DELETE"], authorizer=authorizer)
@problems
def delete_image(image_id: str) -> Response:
    return accepted(pipeline.delete(image_id, services()), base_of(request()))


@app.route(
    "/images/{image_id}/reprocess", methods=["POST"], authorizer=authorizer, content_types=["*/*"]
)
@problems
def reprocess_image(image_id: str) -> Response:
    return accepted(pipeline.reprocess(image_id, services()), base_of(request()))


@app.route("/images/{image_id}/status", methods=["GET"], authorizer=authorizer)
@problems
def show_status(image_id: str) -> dict[str, Any]:
    return status_view(pipeline.find(image_id, services()), base_of(request()))


@app.route("/images/uploads/{filename}/status", methods=["GET"], authorizer=authorizer)
@problems
def show_status_by_filename(filename: str) -> dict[str, Any]:
    image = pipeline.find_first(image_ids_of(filename), services())
    return image_view(image, base_of(request()), services().renditions.url)


@app.route("/", methods=["GET"], authorizer=authorizer)
@problems
def show_page() -> Response:
    return front_page(request(), services().renditions.url)


@app.route("/static/{name}", methods=["GET"], authorizer=authorizer)
@problems
def show_static_file(name: str) -> Response:
    return static_file(name, request())
