"""Fetching an image from a URL that a user gave: ``chalicelib.outbound``, with redirects."""

import contextlib
import io
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPResponse, IncompleteRead, responses
from ipaddress import ip_address
from time import monotonic
from urllib.parse import quote, unquote, urljoin

from chalicelib.errors import (
    AnswerTooLong,
    BadCertificate,
    BrokenOff,
    Inadmissible,
    InvalidRequest,
    NoConnection,
    NotPublic,
    PayloadTooLarge,
    SettingsError,
    TimedOut,
    UnfetchableUrl,
    Unreachable,
)
from chalicelib.outbound import (
    URL_CHARACTERS,
    Policy,
    Resolve,
    Target,
    answer_of,
    default_tls,
    parse,
    plain_host,
)

ADVICE: dict[type[Unreachable], str] = {
    NotPublic: ": check its spelling, or upload the file instead.",
    Inadmissible: "; images are fetched from ports 80 and 443 only.",
    NoConnection: ": check the URL, try again later, or upload the file instead.",
    TimedOut: ": try again later, or upload the file instead.",
    BadCertificate: ": upload the file instead.",
    BrokenOff: ": try again later, or upload the file instead.",
}
"""What follows what was found out, for who may upload instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchPolicy(Policy):
    """What may be fetched, how much of it, and for how long.

    ``allowed_hosts`` are names that match themselves and their subdomains; when there are any,
    nothing else is fetched, and their addresses are still checked. The total time is one for all
    redirects. Raises SettingsError for a host or network that cannot be read.
    """

    max_redirects: int = 5
    allowed_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            self.admits(ip_address("::"))  # either reads every entry
            self.names("")
        except (InvalidRequest, ValueError) as error:
            raise SettingsError(
                "Hosts to fetch from are names such as 'images.example.org', networks are CIDRs "
                f"such as '10.1.0.0/16': {(*self.allowed_hosts, *self.allowed_networks)}"
            ) from error

    def names(self, host: str) -> bool:
        """Whether the host or a parent domain of it is on the list; label by label, no prefix."""
        allowed = [plain_host(name) for name in self.allowed_hosts]
        return not allowed or any(f".{host}".endswith(f".{name}") for name in allowed)


@dataclass(frozen=True, slots=True)
class Fetched:
    """``content_type`` and ``filename`` are what the server claims: neither checked nor cleaned."""

    body: bytes
    content_type: str | None
    final_url: str
    filename: str | None


def fetch(
    url: str,
    policy: FetchPolicy,
    *,
    resolve: Resolve = socket.getaddrinfo,
    tls: Callable[[], ssl.SSLContext] = default_tls,
) -> Fetched:
    """The body behind a user's URL, and what its server says of it.

    Raises InvalidRequest when the URL itself is at fault, PayloadTooLarge over ``max_bytes``, and
    UnfetchableUrl for all else; what they say gives away neither addresses nor whether a name
    that is not public exists.
    """
    deadline = monotonic() + policy.total_timeout_s
    target = parse(url)
    try:
        for _ in range(policy.max_redirects + 1):
            _require_allowed(target, policy)
            with answer_of(
                "GET",
                target,
                policy,
                deadline,
                headers={"Accept": "image/*, */*;q=0.1"},
                resolve=resolve,
                tls=tls,
            ) as response:
                location = response.headers["location"]
                if response.status not in {301, 302, 303, 307, 308} or location is None:
                    return _received(response, target, policy)
            target = _redirected(target, location)
    except AnswerTooLong as error:
        raise _too_large(policy.max_bytes) from error
    except Unreachable as error:
        raise UnfetchableUrl(f"{error}{ADVICE[type(error)]}") from error
    raise UnfetchableUrl(
        f"The URL redirects more than {policy.max_redirects} times: give the one it ends at."
    )


def _require_allowed(target: Target, policy: FetchPolicy) -> None:
    """Before it is looked up: a look-up tells name servers what somebody put in the name."""
    if not policy.names(target.host):
        raise UnfetchableUrl(
            "Images are not fetched from this host: ask for it to be added to the allowed ones, "
            "or upload the file instead."
        )


def _redirected(target: Target, location: str) -> Target:
    """Where ``Location`` leads. Raw bytes and spaces in it are common, and encoded here."""
    encoded = quote(location.encode("latin-1"), safe=URL_CHARACTERS)
    try:
        return parse(urljoin(target.url, encoded))
    except (InvalidRequest, ValueError) as error:
        raise UnfetchableUrl(
            "The URL redirects to one that cannot be used: give the one that opens in a browser."
        ) from error


def _received(response: HTTPResponse, target: Target, policy: FetchPolicy) -> Fetched:
    content_type = (response.headers["content-type"] or "").partition(";")[0].strip().lower()
    encoding = response.headers["content-encoding"] or "identity"
    if response.status != 200:  # noqa: PLR2004
        status = f"{response.status} {responses.get(response.status, '')}".rstrip()
        raise UnfetchableUrl(
            f"The host answered with status {status}: check that the URL opens in a browser "
            "where nobody is signed in."
        )
    if content_type in {"text/html", "application/xhtml+xml"}:
        raise UnfetchableUrl(
            "The URL gave a web page, not an image: give the address of the picture itself."
        )
    if encoding.strip().lower() != "identity":
        raise UnfetchableUrl(
            "The host compresses what it sends although asked not to: upload the file instead."
        )
    return Fetched(
        body=_body(response, policy.max_bytes),
        content_type=content_type or None,
        final_url=target.url,
        filename=_filename(response.headers["content-disposition"] or "", target.path),
    )


def _body(response: HTTPResponse, max_bytes: int) -> bytes:
    if (response.length or 0) > max_bytes:
        raise _too_large(max_bytes)
    body = io.BytesIO()
    while part := response.read(2**16):
        body.write(part)
        if body.tell() > max_bytes:
            raise _too_large(max_bytes)
    if response.length:
        raise IncompleteRead(b"", response.length)
    return body.getvalue()


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"What the URL gives is over the limit of {max_bytes} bytes: give a smaller image."
    )


def _filename(disposition: str, path: str) -> str | None:
    """The name in ``Content-Disposition`` (RFC 6266; raw UTF-8 is common), else in the path."""
    with contextlib.suppress(UnicodeError):
        disposition = disposition.encode("latin-1").decode()
    if encoded := re.search(r"filename\*=utf-8'[^']*'([^;\s]+)", disposition, re.IGNORECASE):
        name = unquote(encoded[1])
    elif plain := re.search(r'filename="([^"]*)"|filename=([^;\s"]+)', disposition, re.IGNORECASE):
        name = plain[1] or plain[2] or ""
    else:
        name = unquote(path.partition("?")[0])
    name = "".join(filter(str.isprintable, re.split(r"[/\\]", name)[-1]))
    return name if name.strip(". ") else None
