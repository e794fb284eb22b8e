"""The web page: its files, and the headers that keep it to itself.

The files are text, so that API Gateway compresses them and Chalice has no bytes to encode. Their
links are relative: the page works under a stage (``/api/``), a base path or a domain of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chalice.app import Request, Response

from chalicelib.model import OutputFormat, Rendition, digest
from chalicelib.web.problems import problem
from chalicelib.web.views import LinkMaker

FOLDER = Path(__file__).with_name("static")
FRONT_PAGE = "index.html"

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
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:{pictures}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    # Where a browser knows Trusted Types, no text becomes markup even by mistake.
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content Security Policy Level 3. ``pictures`` are the origins of renditions."""


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


def front_page(request: Request, link: LinkMaker) -> Response:
    """The page. Pictures may come from where ``link`` leads, everything else from here alone.

    Without its last slash (``https://…/api``) relative links would lead astray: a redirect.
    """
    path = request.context.get("path") or "/"
    if not path.endswith("/"):
        here = path.rpartition("/")[2]
        return Response(
            status_code=HTTPStatus.FOUND,
            headers={"Location": f"{here}/", "Cache-Control": "no-cache"},
            body="",
        )
    return _served(static_files()[FRONT_PAGE], policy(_origin_of(link)), request)


def static_file(name: str, request: Request) -> Response:
    """One of the page's files, or a 404 problem."""
    file = static_files().get(name)
    if file is None or name == FRONT_PAGE:
        return problem(
            HTTPStatus.NOT_FOUND, "Not found", "The page has no such file.", "file_not_found"
        )
    return _served(file, policy(), request)


def policy(*picture_origins: str) -> str:
    """The Content-Security-Policy that lets pictures come from these origins too."""
    return POLICY.format(pictures="".join(f" {origin}" for origin in picture_origins))


def _origin_of(link: LinkMaker) -> str:
    """Where links to renditions lead, read off one made for the purpose. Signing is local."""
    parts = urlsplit(link(Rendition("any", "any", OutputFormat.JPEG, 1, 1, 1), 1))
    return f"{parts.scheme}://{parts.netloc}"


def _served(file: StaticFile, security_policy: str, request: Request) -> Response:
    etag = f'"{digest(security_policy + file.body)}"'
    headers: dict[str, Any] = HEADERS | {
        "Content-Security-Policy": security_policy,
        "Content-Type": file.content_type,
        "ETag": etag,
    }
    if _knows(request, etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers, body="")
    return Response(status_code=HTTPStatus.OK, headers=headers, body=file.body)


def _knows(request: Request, etag: str) -> bool:
    """Whether the client has it already (RFC 9110, 13.1.2: weak comparison)."""
    known = request.headers.get("if-none-match", "")
    return any(tag.strip().removeprefix("W/") in {etag, "*"} for tag in known.split(","))
