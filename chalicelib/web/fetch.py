"""Fetching an image from a URL that a user gave, without becoming the user's hand inside.

Server-side request forgery (CWE-918) lives where the address that is checked is not the address
that is connected to. So a URL is taken apart once, its host is resolved once, **every** address it
has must be a public one (a public name with a private address among its own is an attack or a
mistake), and the socket is opened to one of these very addresses. The name is only used for what
it is needed for: the ``Host`` header, SNI and the certificate. A redirect is a new URL and goes
the same way.

Built on ``http.client`` over a socket of our own. It knows no proxies, redirects, cookies, retries
or decompression. The timeouts of HTTP libraries bound one read; a server that sends a byte now and
then passes them for ever, already in its headers. Here each read, the look-up and the handshake
are given what is left of the total.
"""

import contextlib
import io
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead, responses
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from time import monotonic
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from chalicelib.errors import InvalidRequest, PayloadTooLarge, SettingsError, UnfetchableUrl
from chalicelib.web.parameters import MAX_URL_LENGTH

PORTS = {"http": 80, "https": 443}

PUBLIC_IPV6 = ip_network("2000::/3")
"""Global unicast (RFC 4291). Outside it lie ``::``, ``::1``, IPv4-compatible ``::/96`` and -mapped
``::ffff:0:0/96``, NAT64 ``64:ff9b::/96`` and ``64:ff9b:1::/48`` (RFC 6052, 8215), discard-only
``100::/64``, SRv6 ``5f00::/16``, unique local ``fc00::/7``, link-local ``fe80::/10``, site-local
``fec0::/10`` and multicast ``ff00::/8``."""

FORBIDDEN = tuple(
    map(
        ip_network,
        (  # the special-purpose registries of IANA (RFC 6890), as they stand
            "0.0.0.0/8",  # this network, unspecified
            "10.0.0.0/8",  # private (RFC 1918)
            "100.64.0.0/10",  # carrier-grade NAT (RFC 6598)
            "127.0.0.0/8",  # loopback; the Lambda runtime API listens there
            "169.254.0.0/16",  # link-local (RFC 3927), metadata
            "172.16.0.0/12",  # private (RFC 1918)
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation (RFC 5737)
            "192.88.99.0/24",  # 6to4 relays (RFC 7526)
            "192.168.0.0/16",  # private (RFC 1918)
            "198.18.0.0/15",  # benchmarking (RFC 2544)
            "198.51.100.0/24",  # documentation (RFC 5737)
            "203.0.113.0/24",  # documentation (RFC 5737)
            "224.0.0.0/4",  # multicast (RFC 5771)
            "240.0.0.0/4",  # reserved (RFC 1112), broadcast
            "2001::/23",  # protocol assignments: Teredo (RFC 4380), benchmarking, ORCHID
            "2001:db8::/32",  # documentation (RFC 3849)
            "2002::/16",  # 6to4 (RFC 3056): carries an IPv4 address
            "3fff::/20",  # documentation (RFC 9637)
        ),
    )
)

METADATA = (ip_network("169.254.0.0/16"), ip_network("fd00:ec2::/32"))
"""Where AWS hands out credentials (EC2, ECS, EKS): refused even within an allowed network."""

_UNSAFE = re.compile(r"[\s\\\x00-\x20\x7f-\x9f\ud800-\udfff]")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::[0-9]*)?")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_ENDS_IN_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_URL_CHARACTERS = "%/:?#[]@!$&'()*+,;=~"
_ODD_HOST = (
    "The URL needs a host that is a name or a plainly written address (four decimal numbers, or "
    "IPv6 in brackets), and a port, if any, that is a number up to 65535."
)
_NOT_PUBLIC = (
    "The host was not found on the public Internet: check its spelling, or upload the file instead."
)

Address = IPv4Address | IPv6Address
Resolve = Callable[..., Iterable[tuple[Any, Any, Any, Any, Any]]]
"""Answers as ``socket.getaddrinfo`` does."""


@cache
def _default_tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchPolicy:
    """What may be fetched, how much of it, and for how long.

    ``allowed_hosts`` are names that match themselves and their subdomains; when there are any,
    nothing else is fetched, and their addresses are still checked. ``allowed_networks`` are CIDRs
    that may be fetched from though they are not public, on any port: an intranet source, the cloud
    on a laptop. The total includes look-up, redirects and body; its default leaves room within the
    29 s of API Gateway. Raises SettingsError for a host or network that cannot be read.
    """

    max_bytes: int
    connect_timeout_s: float = 3
    total_timeout_s: float = 15
    max_redirects: int = 5
    allowed_hosts: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    user_agent: str = "image-pipeline"

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
        allowed = [_plain_host(name) for name in self.allowed_hosts]
        return not allowed or any(f".{host}".endswith(f".{name}") for name in allowed)

    def admits(self, address: Address) -> bool:
        """Whether the address is in an allowed network."""
        networks = [ip_network(network) for network in self.allowed_networks]
        return _within(address, networks) and not _within(address, METADATA)


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
    tls: Callable[[], ssl.SSLContext] = _default_tls,
) -> Fetched:
    """The body behind a user's URL, and what its server says of it.

    Only http and https; ports 80 and 443, and any port where every address of the host is in an
    allowed network. Content encodings are not asked for and not undone, so nothing can unfold.
    Raises InvalidRequest when the URL itself is at fault, PayloadTooLarge over ``max_bytes``, and
    UnfetchableUrl for all else; what they say gives away neither addresses nor whether a name
    that is not public exists.
    """
    deadline = monotonic() + policy.total_timeout_s
    target = _parse(url)
    try:
        for _ in range(policy.max_redirects + 1):
            addresses = _checked_addresses(target, policy, resolve, deadline)
            with _answer(target, addresses, policy, tls, deadline) as response:
                location = response.headers["location"]
                if response.status not in {301, 302, 303, 307, 308} or location is None:
                    return _received(response, target, policy)
            target = _redirected(target, location)
    except TimeoutError as error:
        raise UnfetchableUrl(
            f"The host took longer than the {policy.total_timeout_s:g} s there are: "
            "try again later, or upload the file instead."
        ) from error
    except ssl.SSLError as error:
        raise UnfetchableUrl(
            "The host has no certificate that is valid for its name, or its encryption is out of "
            "date: upload the file instead."
        ) from error
    except (OSError, HTTPException, ValueError) as error:  # a chunk of size -2 is a ValueError
        raise UnfetchableUrl(
            "The host broke off, or what it answered is no HTTP: "
            "try again later, or upload the file instead."
        ) from error
    raise UnfetchableUrl(
        f"The URL redirects more than {policy.max_redirects} times: give the one it ends at."
    )


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL taken apart: ``host`` is ASCII in lower case, ``path`` is percent-encoded."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def check_url(url: str) -> None:
    """Raises InvalidRequest when the URL itself is at fault, wherever it may lead."""
    _parse(url)


def _parse(url: str) -> _Target:
    if len(url) > MAX_URL_LENGTH:
        raise InvalidRequest(f"The URL has {len(url)} characters, the limit is {MAX_URL_LENGTH}.")
    if _UNSAFE.search(url):
        raise InvalidRequest(
            "The URL holds a space, a backslash or a control character: percent-encode it."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(_ODD_HOST) from error
    if parts.scheme not in PORTS:
        raise InvalidRequest("The URL has to start with http:// or https://.")
    if "@" in parts.netloc:
        raise InvalidRequest("The URL holds a user name: give one that opens without signing in.")
    authority = _AUTHORITY.fullmatch(parts.netloc)
    if authority is None:
        raise InvalidRequest(_ODD_HOST)
    query = f"?{parts.query}" if parts.query else ""
    return _Target(
        scheme=parts.scheme,
        host=_plain_host(authority[1]),
        port=PORTS[parts.scheme] if port is None else port,
        path=quote((parts.path or "/") + query, safe=_URL_CHARACTERS),
    )


def _redirected(target: _Target, location: str) -> _Target:
    """Where ``Location`` leads. Raw bytes and spaces in it are common, and encoded here."""
    encoded = quote(location.encode("latin-1"), safe=_URL_CHARACTERS)
    try:
        return _parse(urljoin(target.url, encoded))
    except (InvalidRequest, ValueError) as error:
        raise UnfetchableUrl(
            "The URL redirects to one that cannot be used: give the one that opens in a browser."
        ) from error


def _plain_host(text: str) -> str:
    """The host in ASCII and lower case, IPv6 without brackets, with no dot at its end.

    Full-width digits and dots become plain ones (IDNA, RFC 3490). A name whose last label is a
    number is an IPv4 address to resolvers (``inet_aton``, WHATWG URL §3.5), in octal, hexadecimal
    or with parts left out: only the one with four decimal numbers passes.
    """
    try:
        if text.startswith("["):
            return str(IPv6Address(text[1:-1]))
        host = text.encode("idna").decode("ascii").lower().removesuffix(".")
        if not _NAME.fullmatch(host):
            raise InvalidRequest(_ODD_HOST)
        return str(IPv4Address(host)) if _ENDS_IN_A_NUMBER.fullmatch(host) else host
    except ValueError as error:
        raise InvalidRequest(_ODD_HOST) from error


def _checked_addresses(
    target: _Target, policy: FetchPolicy, resolve: Resolve, deadline: float
) -> list[Address]:
    """Every address of the host, none of them forbidden."""
    if not policy.names(target.host):
        raise UnfetchableUrl(
            "Images are not fetched from this host: ask for it to be added to the allowed ones, "
            "or upload the file instead."
        )
    addresses = _addresses(target, resolve, deadline)
    if not addresses or not all(policy.admits(found) or _is_public(found) for found in addresses):
        raise UnfetchableUrl(_NOT_PUBLIC)
    if target.port not in PORTS.values() and not all(map(policy.admits, addresses)):
        raise UnfetchableUrl(
            f"The URL names port {target.port}; images are fetched from ports 80 and 443 only."
        )
    return addresses


def _addresses(target: _Target, resolve: Resolve, deadline: float) -> list[Address]:
    """What the host resolves to. Cannot hang: getaddrinfo knows no timeout, so a thread waits."""
    with contextlib.suppress(ValueError):
        return [ip_address(target.host)]
    thread = ThreadPoolExecutor(max_workers=1)
    try:
        asked = thread.submit(resolve, target.host, target.port, type=socket.SOCK_STREAM)
        return [ip_address(answer[4][0]) for answer in asked.result(_left(deadline))]
    except socket.gaierror as error:
        raise UnfetchableUrl(_NOT_PUBLIC) from error
    finally:
        thread.shutdown(wait=False)


def _is_public(address: Address) -> bool:
    return not _within(address, FORBIDDEN) and (address.version == 4 or address in PUBLIC_IPV6)  # noqa: PLR2004


def _within(address: Address, networks: Iterable[Any]) -> bool:
    return any(address in network for network in networks)


@contextlib.contextmanager
def _answer(
    target: _Target,
    addresses: Iterable[Address],
    policy: FetchPolicy,
    tls: Callable[[], ssl.SSLContext],
    deadline: float,
) -> Iterator[HTTPResponse]:
    """Status and headers; the body can be read until the block ends."""
    with contextlib.ExitStack() as sockets:
        sock = sockets.enter_context(_connect(target.port, addresses, policy, deadline))
        if target.scheme == "https":
            sock.settimeout(_left(deadline))
            sock = sockets.enter_context(tls().wrap_socket(sock, server_hostname=target.host))
        connection = HTTPConnection(target.host, target.port)
        connection.sock = _Wire(sock, deadline, policy.max_bytes)
        connection.request(
            "GET",
            target.path,
            headers={
                "Host": target.authority,
                "User-Agent": policy.user_agent,
                "Accept": "image/*, */*;q=0.1",
                "Accept-Encoding": "identity",
                "Connection": "close",
            },
        )
        yield connection.getresponse()


def _connect(
    port: int, addresses: Iterable[Address], policy: FetchPolicy, deadline: float
) -> socket.socket:
    """A socket to the first address that takes one. No name is looked up again."""
    for address in addresses:
        timeout_s = min(policy.connect_timeout_s, _left(deadline))
        with contextlib.suppress(OSError):
            return socket.create_connection((str(address), port), timeout_s)
    raise UnfetchableUrl(
        "The host takes no connections: check the URL, try again later, or upload the file instead."
    )


class _Wire(io.RawIOBase):
    """The socket as http.client wants it, bounded in time and in bytes.

    The bytes are those of the body, twice over for its chunks' framing, and 1 MiB for headers.
    The exact limit is watched where the body is put together; this one holds whatever the framing
    says (http.client takes a chunk of size -1 for "all there is").
    """

    def __init__(self, sock: socket.socket, deadline: float, max_bytes: int) -> None:
        self.sock = sock
        self.deadline = deadline
        self.max_bytes = max_bytes
        self.bytes_left = 2 * max_bytes + 2**20

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.sock.settimeout(_left(self.deadline))
        count = self.sock.recv_into(buffer)
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise _too_large(self.max_bytes)
        return count

    def sendall(self, octets: bytes) -> None:
        self.sock.settimeout(_left(self.deadline))
        self.sock.sendall(octets)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Left to the owner of the socket: http.client closes it before the body is read."""


def _left(deadline: float) -> float:
    """Seconds until the deadline, never 0 (which means "do not block"). Raises TimeoutError."""
    left_s = deadline - monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _received(response: HTTPResponse, target: _Target, policy: FetchPolicy) -> Fetched:
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
