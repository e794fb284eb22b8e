"""The web pages: their files, and the headers that keep them to themselves.

The files are text, so that API Gateway compresses them and Chalice has no bytes to encode. Their
links are relative: the page works under a stage (``/api/``), a base path or a domain of its own.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chalice.app import Request, Response

from chalicelib.errors import FileNotFound
from chalicelib.model import OutputFormat, Rendition, digest
from chalicelib.services import Uploads
from chalicelib.web.views import LinkMaker, knows

FOLDER = Path(__file__).with_name("static")
FRONT_PAGE = "index.html"
DOCS_PAGE = "docs.html"
SIGN_IN = 'content="{}"'
"""Stands in the front page once, where it is told how to sign in."""

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS = {
    # Names do not change with their content, so a browser asks each time, by ETag.
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'{services}; "
    "img-src 'self' blob: data:{pictures}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    # Where a browser knows Trusted Types, no text becomes markup even by mistake.
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content Security Policy Level 3. ``pictures`` are the origins of renditions, ``services`` those
that the page itself talks to beside the API: to save a rendition, to upload a file, to sign in."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    body: str
    content_type: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Every file there is, by name. Nothing else is ever read, whatever a path says."""
    return {
        path.name: StaticFile(path.read_text(encoding="utf-8"), CONTENT_TYPES[path.suffix])
        for path in FOLDER.iterdir()
        if path.suffix in CONTENT_TYPES
    }


def front_page(
    request: Request, link: LinkMaker, uploads: Uploads, sign_in: Mapping[str, str]
) -> Response:
    """The page. Pictures may come from where ``link`` leads, files go to ``uploads``.

    ``sign_in`` is what it has to know to sign in, its ``endpoint`` included. Without its last
    slash (``https://…/api``) relative links would lead astray: a redirect.
    """
    path = request.context.get("path") or "/"
    if not path.endswith("/"):
        here = path.rpartition("/")[2]
        return Response(
            status_code=HTTPStatus.FOUND,
            headers={"Location": f"{here}/", "Cache-Control": "no-cache"},
            body="",
        )
    page = static_files()[FRONT_PAGE]
    told = page.body.replace(SIGN_IN, f'content="{escape(json.dumps(dict(sign_in)))}"', 1)
    pictures = _origin(link(Rendition("any", "any", OutputFormat.JPEG, 1, 1, 1), 1))
    files = _origin(uploads.form("any", "image/jpeg", "any", 1, 1).url)
    users = _origin(sign_in["endpoint"]) if "endpoint" in sign_in else ""
    services = dict.fromkeys(filter(None, [pictures, files, users]))
    return _served(StaticFile(told, page.content_type), policy([pictures], services), request)


def docs_page(request: Request) -> Response:
    """The API's description for people; it reads ``openapi.json`` beside it."""
    return _served(static_files()[DOCS_PAGE], policy(), request)


def static_file(name: str, request: Request) -> Response:
    """One of the page's files. Raises FileNotFound."""
    file = static_files().get(name)
    if file is None or name.endswith(".html"):
        raise FileNotFound("The page has no such file.")
    return _served(file, policy(), request)


def policy(pictures: Iterable[str] = (), services: Iterable[str] = ()) -> str:
    """The Content-Security-Policy that lets pictures and answers come from these origins too."""
    return POLICY.format(
        pictures="".join(f" {origin}" for origin in pictures),
        services="".join(f" {origin}" for origin in services),
    )


def _origin(url: str) -> str:
    """Where a link leads. Those asked for were made for the purpose: signing is local."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _served(file: StaticFile, security_policy: str, request: Request) -> Response:
    etag = f'"{digest(security_policy + file.body)}"'
    headers: dict[str, Any] = HEADERS | {
        "Content-Security-Policy": security_policy,
        "Content-Type": file.content_type,
        "ETag": etag,
    }
    if knows(request, etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers, body="")
    return Response(status_code=HTTPStatus.OK, headers=headers, body=file.body)
