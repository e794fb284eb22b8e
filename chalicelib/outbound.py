"""Calling a URL that somebody else gave, without becoming their hand inside.

Server-side request forgery (CWE-918) lives where the address that is checked is not the address
that is connected to. So a URL is taken apart once, its host is resolved once, **every** address it
has must be a public one (a public name with a private address among its own is an attack or a
mistake), and the socket is opened to one of these very addresses. The name is only used for what
it is needed for: the ``Host`` header, SNI and the certificate. Redirects are not followed here: who
follows one calls a new URL, which goes the same way.

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
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from time import monotonic
from typing import Any
from urllib.parse import quote, urlsplit

from chalicelib.errors import (
    AnswerTooLong,
    BadCertificate,
    BrokenOff,
    Inadmissible,
    InvalidRequest,
    NoConnection,
    NotPublic,
    TimedOut,
)
from chalicelib.model import MAX_URL_LENGTH

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

URL_CHARACTERS = "%/:?#[]@!$&'()*+,;=~"
"""What stands in a URL as it is, or is encoded already."""

_UNSAFE = re.compile(r"[\s\\\x00-\x20\x7f-\x9f\ud800-\udfff]")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::[0-9]*)?")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_ENDS_IN_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_ODD_HOST = (
    "The URL needs a host that is a name or a plainly written address (four decimal numbers, or "
    "IPv6 in brackets), and a port, if any, that is a number up to 65535."
)
_NOT_PUBLIC = "The host was not found on the public Internet"

Address = IPv4Address | IPv6Address
Resolve = Callable[..., Iterable[tuple[Any, Any, Any, Any, Any]]]
"""Answers as ``socket.getaddrinfo`` does."""


@cache
def default_tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Who may be called, how much of the answer is read, and for how long.

    ``allowed_networks`` are CIDRs that may be called though they are not public, on any port: an
    intranet, the cloud on a laptop. Others are spoken with in ``public_schemes`` only. The total
    includes look-up and body; its default leaves room within the 29 s of API Gateway.
    """

    max_bytes: int
    connect_timeout_s: float = 3
    total_timeout_s: float = 15
    allowed_networks: tuple[str, ...] = ()
    public_schemes: tuple[str, ...] = tuple(PORTS)
    user_agent: str = "image-pipeline"

    def admits(self, address: Address) -> bool:
        """Whether the address is in an allowed network."""
        networks = [ip_network(network) for network in self.allowed_networks]
        return _within(address, networks) and not _within(address, METADATA)


@dataclass(frozen=True, slots=True)
class Target:
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


def parse(url: str) -> Target:
    """A URL taken apart. Raises InvalidRequest when it is at fault, wherever it may lead."""
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
    return Target(
        scheme=parts.scheme,
        host=plain_host(authority[1]),
        port=PORTS[parts.scheme] if port is None else port,
        path=quote((parts.path or "/") + query, safe=URL_CHARACTERS),
    )


def plain_host(text: str) -> str:
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


@contextlib.contextmanager
def answer_of(
    method: str,
    target: Target,
    policy: Policy,
    deadline: float,
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
    resolve: Resolve = socket.getaddrinfo,
    tls: Callable[[], ssl.SSLContext] = default_tls,
) -> Iterator[HTTPResponse]:
    """Status and headers of what a host answers; the body can be read until the block ends.

    Only http and https; their usual ports, and any port where every address of the host is in an
    allowed network. Content encodings are not asked for and not undone, so nothing can unfold.
    ``deadline`` is one of ``monotonic``. Raises Unreachable, also for what goes wrong in the block,
    which gives away neither addresses nor whether a name that is not public exists.
    """
    with _named_errors(policy), contextlib.ExitStack() as sockets:
        addresses = _checked_addresses(target, policy, deadline, resolve)
        sock = sockets.enter_context(_connect(target.port, addresses, policy, deadline))
        if target.scheme == "https":
            sock.settimeout(_left(deadline))
            sock = sockets.enter_context(tls().wrap_socket(sock, server_hostname=target.host))
        connection = HTTPConnection(target.host, target.port)
        connection.sock = _Wire(sock, deadline, policy.max_bytes)
        connection.request(
            method,
            target.path,
            body,
            headers={
                "Host": target.authority,
                "User-Agent": policy.user_agent,
                **headers,
                "Accept-Encoding": "identity",
                "Connection": "close",
            },
        )
        yield connection.getresponse()


def require_callable(
    target: Target, policy: Policy, deadline: float, resolve: Resolve = socket.getaddrinfo
) -> None:
    """Raises Unreachable for a host that must not be called, as it resolves now."""
    with _named_errors(policy):
        _checked_addresses(target, policy, deadline, resolve)


@contextlib.contextmanager
def _named_errors(policy: Policy) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise TimedOut(
            f"The host took longer than the {policy.total_timeout_s:g} s there are"
        ) from error
    except ssl.SSLError as error:
        raise BadCertificate(
            "The host has no certificate that is valid for its name, or its encryption is out of "
            "date"
        ) from error
    except (OSError, HTTPException, ValueError) as error:  # a chunk of size -2 is a ValueError
        raise BrokenOff("The host broke off, or what it answered is no HTTP") from error


def _checked_addresses(
    target: Target, policy: Policy, deadline: float, resolve: Resolve
) -> list[Address]:
    """Every address of the host, none of them forbidden."""
    addresses = _addresses(target, resolve, deadline)
    if not addresses or not all(policy.admits(found) or _is_public(found) for found in addresses):
        raise NotPublic(_NOT_PUBLIC)
    if not all(map(policy.admits, addresses)):
        if target.port != PORTS[target.scheme]:
            raise Inadmissible(f"The URL names port {target.port}")
        if target.scheme not in policy.public_schemes:
            raise Inadmissible(f"The URL starts with {target.scheme}://")
    return addresses


def _addresses(target: Target, resolve: Resolve, deadline: float) -> list[Address]:
    """What the host resolves to. Cannot hang: getaddrinfo knows no timeout, so a thread waits."""
    with contextlib.suppress(ValueError):
        return [ip_address(target.host)]
    thread = ThreadPoolExecutor(max_workers=1)
    try:
        asked = thread.submit(resolve, target.host, target.port, type=socket.SOCK_STREAM)
        return [ip_address(answer[4][0]) for answer in asked.result(_left(deadline))]
    except socket.gaierror as error:
        raise NotPublic(_NOT_PUBLIC) from error
    finally:
        thread.shutdown(wait=False)


def _is_public(address: Address) -> bool:
    return not _within(address, FORBIDDEN) and (address.version == 4 or address in PUBLIC_IPV6)  # noqa: PLR2004


def _within(address: Address, networks: Iterable[Any]) -> bool:
    return any(address in network for network in networks)


def _connect(
    port: int, addresses: Iterable[Address], policy: Policy, deadline: float
) -> socket.socket:
    """A socket to the first address that takes one. No name is looked up again."""
    for address in addresses:
        timeout_s = min(policy.connect_timeout_s, _left(deadline))
        with contextlib.suppress(OSError):
            return socket.create_connection((str(address), port), timeout_s)
    raise NoConnection("The host takes no connections")


class _Wire(io.RawIOBase):
    """The socket as http.client wants it, bounded in time and in bytes.

    The bytes are those of the body, twice over for its chunks' framing, and 1 MiB for headers.
    The exact limit is watched where the body is put together; this one holds whatever the framing
    says (http.client takes a chunk of size -1 for "all there is").
    """

    def __init__(self, sock: socket.socket, deadline: float, max_bytes: int) -> None:
        self.sock = sock
        self.deadline = deadline
        self.bytes_left = 2 * max_bytes + 2**20

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.sock.settimeout(_left(self.deadline))
        count = self.sock.recv_into(buffer)
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise AnswerTooLong("The host sends more than is read")
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
