"""Every dial is recorded and ends at a server on this machine: no test reaches the network."""

import contextlib
import gzip
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib.errors import (
    InvalidRequest,
    PayloadTooLarge,
    RequestError,
    SettingsError,
    UnfetchableUrl,
)
from chalicelib.outbound import Resolve
from chalicelib.web.fetch import FetchPolicy, fetch
from tests.waiting import TIMEOUT_S

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
POLICY = FetchPolicy(max_bytes=10_000, total_timeout_s=30)
LOCAL = replace(POLICY, allowed_networks=("127.0.0.0/8",))
HASTY = replace(LOCAL, total_timeout_s=0.2)
PUBLIC = "93.184.215.14"


def answer(status: str = "200 OK", body: bytes = PICTURE, **headers: str) -> bytes:
    headers = {"Content_Length": str(len(body)), "Content_Type": "image/png"} | headers
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    head = answer(body=b"", Transfer_Encoding="chunked").replace(b"Content-Length: 0\r\n", b"")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


class Server(socketserver.ThreadingTCPServer):
    """Says on each connection what ``says`` yields, until nobody listens or the test is over."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.start_afresh()

    def start_afresh(self) -> None:
        self.says: Callable[[str], Iterator[bytes]] = lambda _path: iter([answer()])
        self.requests: list[str] = []
        self.over = threading.Event()
        self.tls: ssl.SSLContext | None = None

    @property
    def port(self) -> int:
        return self.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def say(self, *parts: bytes) -> None:
        self.says = lambda _path: iter(parts)

    def redirect(self, *locations: str) -> None:
        """The path /0 leads to the first location, /1 to the second, and so on; others answer."""

        def says(path: str) -> Iterator[bytes]:
            hop = path.strip("/")
            if hop.isdecimal() and int(hop) < len(locations):
                yield answer("302 Found", Location=locations[int(hop)])
            yield answer()

        self.says = says

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what most of these tests are about."""


class Conversation(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        tls, over, requests = self.server.tls, self.server.over, self.server.requests
        with tls.wrap_socket(self.request, server_side=True) if tls else self.request as sock:
            request = b""
            while b"\r\n\r\n" not in request:
                request += (received := sock.recv(4096))
                if not received or not request.startswith(b"GET"):
                    return
            requests.append(request.decode("latin-1"))
            for part in self.server.says(request.split()[1].decode()):
                sock.sendall(part)
                if over.is_set():
                    return


@pytest.fixture(scope="module")
def running_server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def server(running_server: Server) -> Iterator[Server]:
    running_server.start_afresh()
    yield running_server
    running_server.over.set()


@dataclass
class Dials:
    """Where connections went, and which addresses take none. All really reach the server."""

    addresses: list[str] = field(default_factory=list)
    deaf: frozenset[str] = frozenset()


@pytest.fixture(autouse=True)
def dials(monkeypatch: pytest.MonkeyPatch, server: Server) -> Dials:
    dials = Dials()
    dial = socket.create_connection

    def create_connection(address: tuple[str, int], timeout: float) -> socket.socket:
        dials.addresses.append(address[0])
        if address[0] in dials.deaf:
            raise ConnectionRefusedError
        return dial(("127.0.0.1", server.port), timeout)

    monkeypatch.setattr(socket, "create_connection", create_connection)
    return dials


def resolver(*addresses: str, asked: list[str] | None = None) -> Resolve:
    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, Any, Any, str, Any]]:
        if asked is not None:
            asked.append(host)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(None, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolve


FORBIDDEN = [
    "0.0.0.0",  # noqa: S104 - nothing is bound
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",  # IPv4-compatible 127.0.0.1
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:93.184.215.14",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%2",
    "fec0::1",
    "ff02::1",
    "4000::1",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_name_with_a_forbidden_address_is_refused(address: str, dials: Dials) -> None:
    with pytest.raises(UnfetchableUrl, match="not found on the public Internet") as refusal:
        fetch("http://images.example/a.png", POLICY, resolve=resolver(address))
    assert address not in str(refusal.value)
    assert not dials.addresses


@pytest.mark.parametrize("address", [address for address in FORBIDDEN if "%" not in address])
def test_a_forbidden_address_is_refused(address: str, dials: Dials) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(UnfetchableUrl, match="not found on the public Internet") as refusal:
        fetch(f"http://{host}/a.png", POLICY)
    assert address not in str(refusal.value)
    assert not dials.addresses


@pytest.mark.parametrize("addresses", [(PUBLIC, "10.0.0.1"), ("::1", PUBLIC)])
def test_one_forbidden_address_among_public_ones_is_refused(
    addresses: tuple[str, ...], dials: Dials
) -> None:
    with pytest.raises(UnfetchableUrl, match="public Internet"):
        fetch("http://images.example/", POLICY, resolve=resolver(*addresses))
    assert not dials.addresses


def test_a_private_name_and_a_missing_one_are_told_apart_by_nobody() -> None:
    """Otherwise the message lists the names of the private network to whoever guesses."""
    refusals = []
    for resolve in (resolver("10.0.0.1"), resolver(), lambda *_, **__: []):
        with pytest.raises(UnfetchableUrl) as refusal:
            fetch("http://db.internal/", POLICY, resolve=resolve)
        refusals.append(str(refusal.value))
    assert len(set(refusals)) == 1


@pytest.mark.parametrize("host", [PUBLIC, "[2606:4700::6810:85e5]", "93.184.215.14."])
def test_a_public_address_is_dialled(host: str, dials: Dials) -> None:
    assert fetch(f"http://{host}/a.png", POLICY).body == PICTURE
    assert dials.addresses == [host.strip("[].")]


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.1",
        "0X7F.0.0.1",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.0x1",
        "127.0.0.1.1",
        "127.0.0.256",
        "127.0.0.1.0x",
        "0",
        "\uff10\uff58\uff17\uff46.1",  # 0x7f.1 in full width
        "%31%32%37.0.0.1",
        "[::1%25eth0]",
        "[::1%eth0]",
        "[127.0.0.1]",
        "[v1.a]",
        "[::1",
        "::1",
        "a[::1]",
        "[::1]a",
        "[\uff1a\uff1a1]",
        "a..b",
        ".a",
        ".",
        "a.." + "b" * 3,
        "b" * 64 + ".example",
        ".".join(["b" * 50] * 6),
        "a,b",
        "a\u2100b",  # becomes a/c
        "a\uff20b",  # becomes @
        "a:65536",
        "a:-1",
        "a:1e2",
        "a:\u0661",
        "a:80:80",
        "a:b",
        "",
        ":80",
    ],
)
def test_a_host_that_is_written_oddly_is_invalid(host: str, dials: Dials) -> None:
    with pytest.raises(InvalidRequest, match=r"^The URL needs a host that is"):
        fetch(f"http://{host}/a.png", POLICY, resolve=resolver(PUBLIC))
    assert not dials.addresses


@pytest.mark.parametrize(
    "host",
    [
        "\uff11\uff12\uff17.0.0.1",  # full-width digits
        "127\u30020\uff0e0\uff611",  # the three other dots of IDNA
        "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",  # circled digits
        "127.0.0.1.",
        "169.254.169.254:80",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[0000:0000::0001]:443",
    ],
)
def test_a_disguised_forbidden_address_is_refused(host: str, dials: Dials) -> None:
    with pytest.raises(UnfetchableUrl, match="public Internet"):
        fetch(f"http://{host}/a.png", POLICY, resolve=resolver(PUBLIC))
    assert not dials.addresses


@pytest.mark.parametrize(
    ("written", "looked_up"),
    [
        ("Images.EXAMPLE", "images.example"),
        ("images.example.", "images.example"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("images\u3002example", "images.example"),
        ("\uff49mages.example", "images.example"),
        ("my_bucket.example", "my_bucket.example"),
        ("4chan.example", "4chan.example"),
    ],
)
def test_a_name_is_looked_up_and_sent_in_one_form(
    written: str, looked_up: str, server: Server
) -> None:
    asked: list[str] = []
    fetched = fetch(f"http://{written}/", POLICY, resolve=resolver(PUBLIC, asked=asked))
    assert asked == [looked_up]
    assert f"\r\nHost: {looked_up}\r\n" in server.requests[0]
    assert fetched.final_url == f"http://{looked_up}/"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://a.example/", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("gopher://a.example/", "http:// or https://"),
        ("data:image/png;base64,AAAA", "http:// or https://"),
        ("//a.example/", "http:// or https://"),
        ("a.png", "http:// or https://"),
        ("", "http:// or https://"),
        ("http:a.example", "needs a host"),
        ("http:///a.png", "needs a host"),
        ("http://user@a.example/", "user name"),
        ("http://user:password@a.example/", "user name"),
        ("http://a.example@127.0.0.1/", "user name"),
        ("http://@a.example/", "user name"),
        ("http://a.example\\@127.0.0.1/", "backslash"),
        ("http:\\\\a.example/", "backslash"),
        (" http://a.example/", "space"),
        ("http://a.example/a b", "space"),
        ("http://a.example/\r\nHost: b.example", "space"),
        ("ht\ntp://a.example/", "space"),
        ("http://a.example/\x00", "control"),
        ("http://a.example/\x7f", "control"),
        ("http://a.example/\u2028", "space"),
        ("http://a.example/\u3000", "space"),
        ("http://a.example/\ud800", "control"),
        ("http://a.example/" + "a" * 2048, "2065 characters, the limit is 2048"),
    ],
)
def test_a_url_at_fault_is_invalid(url: str, complaint: str, dials: Dials) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        fetch(url, POLICY, resolve=resolver(PUBLIC))
    assert not dials.addresses


@pytest.mark.parametrize("port", [0, 22, 443, 6379, 8080])
def test_a_public_host_is_reached_on_web_ports_only(port: int, dials: Dials) -> None:
    with pytest.raises(UnfetchableUrl, match=f"port {port};"):
        fetch(f"http://a.example:{port}/", POLICY, resolve=resolver(PUBLIC))
    with pytest.raises(UnfetchableUrl, match=f"port {port};"):
        fetch(f"http://a.example:{port}/", LOCAL, resolve=resolver("127.0.0.1", PUBLIC))
    assert not dials.addresses


@pytest.mark.parametrize(
    "host", ["example.org", "a.b.example.org", "EXAMPLE.org.", "xn--fa-hia.de"]
)
def test_an_allowed_host_and_its_subdomains_are_fetched(host: str) -> None:
    policy = replace(POLICY, allowed_hosts=("Example.org", "xn--fa-hia.de."))
    assert fetch(f"http://{host}/", policy, resolve=resolver(PUBLIC)).body == PICTURE


@pytest.mark.parametrize(
    "host", ["evilexample.org", "example.org.evil.com", "example.com", "org", PUBLIC]
)
def test_another_host_is_refused_without_a_look_up(host: str) -> None:
    """A look-up would carry what an attacker puts in the name out of the network."""
    asked: list[str] = []
    policy = replace(POLICY, allowed_hosts=("example.org",))
    with pytest.raises(UnfetchableUrl, match="not fetched from this host"):
        fetch(f"http://{host}/", policy, resolve=resolver(PUBLIC, asked=asked))
    assert not asked


def test_an_allowed_host_with_a_private_address_is_refused() -> None:
    policy = replace(POLICY, allowed_hosts=("example.org",))
    with pytest.raises(UnfetchableUrl, match="public Internet"):
        fetch("http://example.org/", policy, resolve=resolver("10.0.0.1"))


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254"])
def test_credentials_of_aws_are_refused_within_an_allowed_network(address: str) -> None:
    policy = replace(POLICY, allowed_networks=("0.0.0.0/0", "::/0"))
    with pytest.raises(UnfetchableUrl, match="public Internet"):
        fetch("http://a.example/", policy, resolve=resolver(address))


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("a.example", "10.0.0.1/8"),
        ("a.example", "intranet"),
        ("https://a.example", "10.0.0.0/8"),
        ("*.a.example", "10.0.0.0/8"),
        ("", "10.0.0.0/8"),
    ],
)
def test_a_policy_that_cannot_be_read_is_refused(host: str, network: str) -> None:
    with pytest.raises(SettingsError, match="Hosts to fetch from"):
        replace(POLICY, allowed_hosts=(host,), allowed_networks=(network,))


def test_the_address_that_was_checked_is_the_one_dialled(dials: Dials) -> None:
    """A name server that changes its answer between check and connection gains nothing."""
    answers = iter([PUBLIC, "169.254.169.254", "169.254.169.254"])

    def resolve(host: str, port: int, **how: Any) -> Any:
        return resolver(next(answers))(host, port, **how)

    fetched = fetch("http://rebind.example/", POLICY, resolve=resolve)
    assert fetched.body == PICTURE
    assert dials.addresses == [PUBLIC]


def test_the_next_address_is_dialled_when_one_takes_no_connection(dials: Dials) -> None:
    dials.deaf = frozenset({PUBLIC})
    resolve = resolver(PUBLIC, "93.184.215.15")
    assert fetch("http://a.example/", POLICY, resolve=resolve).body == PICTURE
    assert dials.addresses == [PUBLIC, "93.184.215.15"]


def test_a_host_that_takes_no_connections_is_named_as_such(dials: Dials) -> None:
    dials.deaf = frozenset({PUBLIC})
    with pytest.raises(UnfetchableUrl, match="takes no connections"):
        fetch("http://a.example/", POLICY, resolve=resolver(PUBLIC))


def test_an_image_is_fetched_with_what_its_server_says(server: Server) -> None:
    server.say(
        answer(Content_Type="Image/PNG; x=y", Content_Disposition='inline; filename="a.png"')
    )
    fetched = fetch(f"{server.url}/b%20\u00fc.png?size=1&q=\u00fc#part", LOCAL)
    assert (fetched.body, fetched.content_type, fetched.filename) == (PICTURE, "image/png", "a.png")
    assert fetched.final_url == f"{server.url}/b%20%C3%BC.png?size=1&q=%C3%BC"


def test_a_request_says_no_more_than_it_has_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No proxy from the environment, no cookie, no encoding."""
    monkeypatch.setenv("http_proxy", "http://10.0.0.1:3128")
    server.say(answer("302 Found", Location="/1", Set_Cookie="a=b; Path=/"))
    with pytest.raises(UnfetchableUrl, match="redirects more than 1 times"):
        fetch(f"{server.url}/a.png", replace(LOCAL, max_redirects=1, user_agent="tester"))
    assert server.requests == [
        f"GET {path} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{server.port}\r\n"
        "User-Agent: tester\r\n"
        "Accept: image/*, */*;q=0.1\r\n"
        "Accept-Encoding: identity\r\n"
        "Connection: close\r\n\r\n"
        for path in ("/a.png", "/1")
    ]


@pytest.mark.parametrize(
    ("disposition", "path", "filename"),
    [
        (None, "/a/cat.jpg?x=/b", "cat.jpg"),
        (None, "/a/k%C3%A4tzchen.jpg", "k\u00e4tzchen.jpg"),
        (None, "/a/..%2Fb%5Cc.jpg", "c.jpg"),
        (None, "/a/%00%0Ab.jpg", "b.jpg"),
        (None, "/a/", None),
        (None, "/%2e%2e", None),
        ("attachment; filename=cat.jpg", "/b", "cat.jpg"),
        ('attachment; filename="my cat; 1.jpg"', "/b", "my cat; 1.jpg"),
        ('attachment; filename="../../etc/passwd"', "/b", "passwd"),
        ('attachment; filename="C:\\\\cat.jpg"', "/b", "cat.jpg"),
        ("attachment; filename=a; filename*=UTF-8''k%C3%A4.jpg", "/b", "k\u00e4.jpg"),
        ("attachment; filename=\u00c3\u00a4.jpg", "/b", "\u00e4.jpg"),
        ("attachment; filename=\u00e4.jpg", "/b", "\u00e4.jpg"),
        ('attachment; filename=""', "/b", None),
        ("inline", "/b", "b"),
    ],
)
def test_a_file_name_comes_from_the_header_or_the_path(
    disposition: str | None, path: str, filename: str | None, server: Server
) -> None:
    server.say(answer(Content_Disposition=disposition) if disposition else answer())
    assert fetch(server.url + path, LOCAL).filename == filename


@pytest.mark.parametrize(
    "response",
    [
        answer(),
        chunked(PICTURE[:100], PICTURE[100:], b""),
        answer().replace(b"Content-Length", b"X-Length"),  # ends with the connection
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
        answer(Content_Encoding="Identity"),
    ],
)
def test_a_body_is_read_however_it_is_framed(response: bytes, server: Server) -> None:
    server.say(response)
    assert fetch(server.url, LOCAL).body == PICTURE


def test_a_body_without_a_type_is_left_to_be_sniffed(server: Server) -> None:
    server.say(answer().replace(b"Content-Type", b"X-Type"))
    assert fetch(server.url, LOCAL).content_type is None


def test_a_body_may_be_as_large_as_the_limit(server: Server) -> None:
    server.say(answer())
    assert fetch(server.url, replace(LOCAL, max_bytes=len(PICTURE))).body == PICTURE


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: Server) -> None:
    server.say(answer(body=b"", Content_Length="10001"))
    with pytest.raises(PayloadTooLarge, match="over the limit of 10000 bytes"):
        fetch(server.url, LOCAL)


@pytest.mark.parametrize(
    "response",
    [
        chunked(bytes(6_000), bytes(4_001), b""),
        answer(body=bytes(10_001)).replace(b"Content-Length", b"X-Length"),
    ],
)
def test_a_body_of_untold_length_is_refused_over_the_limit(response: bytes, server: Server) -> None:
    server.say(response)
    with pytest.raises(PayloadTooLarge, match="over the limit of 10000 bytes"):
        fetch(server.url, LOCAL)


def endless(start: bytes, part: bytes) -> Iterator[bytes]:
    yield start
    while True:
        yield part


@pytest.mark.parametrize(
    ("start", "part"),
    [
        (chunked(), b"400\r\n" + b"a" * 1024 + b"\r\n"),
        (chunked() + b"fffffffff\r\n", b"a" * 1024),
        (chunked() + b"-1\r\n", b"a" * 1024),
        (chunked(PICTURE) + b"0\r\n", b"X-Trailer: a\r\n" * 100),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 1024),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    ],
    ids=["chunks", "one chunk", "chunk of -1", "trailers", "until closed", "continue"],
)
def test_what_does_not_end_is_cut_at_the_limit(start: bytes, part: bytes, server: Server) -> None:
    server.says = lambda _path: endless(start, part)
    with pytest.raises(PayloadTooLarge, match="over the limit of 10000 bytes"):
        fetch(server.url, LOCAL)


def test_headers_that_do_not_end_are_cut(server: Server) -> None:
    server.says = lambda _path: endless(b"HTTP/1.1 200 OK\r\n", b"X-Header: a\r\n" * 100)
    with pytest.raises(UnfetchableUrl, match="no HTTP"):
        fetch(server.url, LOCAL)


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
def test_an_encoded_body_is_refused_undecoded(encoding: str, server: Server) -> None:
    bomb = gzip.compress(bytes(5_000_000))
    server.say(answer(body=bomb, Content_Encoding=encoding))
    with pytest.raises(UnfetchableUrl, match="compresses"):
        fetch(server.url, replace(LOCAL, max_bytes=len(bomb)))


@pytest.mark.parametrize("media_type", ["text/html; charset=utf-8", "application/xhtml+xml"])
def test_a_web_page_is_named_as_such(media_type: str, server: Server) -> None:
    server.say(answer(Content_Type=media_type))
    with pytest.raises(UnfetchableUrl, match="a web page, not an image"):
        fetch(server.url, LOCAL)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("404 Nothing here", "404 Not Found:"),
        ("403 <script>", "403 Forbidden:"),
        ("500 Oops", "500 Internal Server Error:"),
        ("599 10.0.0.1", "599:"),
        ("206 Partial Content", "206 Partial Content:"),
        ("304 Not Modified", "304 Not Modified:"),
        ("302 Found", "302 Found:"),
    ],
)
def test_a_status_without_an_image_is_named(status: str, told: str, server: Server) -> None:
    server.say(answer(status))
    with pytest.raises(UnfetchableUrl, match=f"status {told}"):
        fetch(server.url, LOCAL)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000,
        answer()[:-1],
        chunked(PICTURE),
        chunked() + b"100\r\nshort",
        chunked() + b"what\r\n",
        chunked() + b"-2\r\n",
    ],
)
def test_an_answer_that_breaks_off_is_refused(response: bytes, server: Server) -> None:
    server.say(response)
    with pytest.raises(UnfetchableUrl, match="broke off"):
        fetch(server.url, LOCAL)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nX-He", answer(Content_Length="9999")], ids=len
)
@pytest.mark.parametrize("drop", [b"", b"a"])
def test_the_total_time_cuts_a_server_that_hangs_or_drips(
    said: bytes, drop: bytes, server: Server
) -> None:
    """A drop comes sooner than any timeout of a single read, and the server hangs up at last."""

    def says(_path: str) -> Iterator[bytes]:
        yield said
        for _ in range(50 * TIMEOUT_S):
            server.over.wait(0.02)
            yield drop

    server.says = says
    with pytest.raises(UnfetchableUrl, match=r"took longer than the 0\.2 s"):
        fetch(server.url, HASTY)


def test_the_total_time_cuts_a_handshake_that_hangs(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conversation, "handle", lambda self: self.server.over.wait(TIMEOUT_S))
    with pytest.raises(UnfetchableUrl, match="took longer"):
        fetch(server.url.replace("http", "https"), HASTY)


def test_the_total_time_cuts_a_look_up_that_hangs(server: Server, dials: Dials) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        server.over.wait(TIMEOUT_S)
        return []

    with pytest.raises(UnfetchableUrl, match="took longer"):
        fetch("http://a.example/", HASTY, resolve=resolve)
    assert not dials.addresses


def test_no_time_is_no_time(server: Server) -> None:
    with pytest.raises(UnfetchableUrl, match="took longer than the 0 s"):
        fetch(server.url, replace(LOCAL, total_timeout_s=0))


def test_the_total_time_is_one_for_all_redirects(server: Server) -> None:
    def says(_path: str) -> Iterator[bytes]:
        server.over.wait(0.05)
        yield answer("302 Found", Location="/")

    server.says = says
    with pytest.raises(UnfetchableUrl, match="took longer"):
        fetch(server.url, replace(HASTY, max_redirects=500))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(status: int, server: Server) -> None:
    def says(path: str) -> Iterator[bytes]:
        yield (
            answer()
            if path == "/b%20%C3%BC.png"
            else answer(f"{status} Moved", Location="../b \u00c3\u00bc.png#part")
        )

    server.says = says
    assert fetch(f"{server.url}/a/a.png", LOCAL).final_url == f"{server.url}/b%20%C3%BC.png"


def test_redirects_are_followed_up_to_the_limit(server: Server) -> None:
    server.redirect("/1", "/2", "/3")
    assert fetch(f"{server.url}/0", replace(LOCAL, max_redirects=3)).final_url.endswith("/3")
    with pytest.raises(UnfetchableUrl, match="redirects more than 2 times"):
        fetch(f"{server.url}/0", replace(LOCAL, max_redirects=2))


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("http://169.254.169.254/latest/meta-data/", "public Internet"),
        ("//[fd00:ec2::254]/latest/", "public Internet"),
        ("http://[::ffff:127.0.0.1]/", "public Internet"),
        ("http://10.0.0.1/", "public Internet"),
        ("http://inside.example/", "public Internet"),
        ("http://93.184.215.14:22/", "port 22;"),
        ("http://0x7f.1/", "redirects to one that cannot be used"),
        ("http://a:b@127.0.0.1/", "redirects to one that cannot be used"),
        ("file:///etc/passwd", "redirects to one that cannot be used"),
        ("http://[", "redirects to one that cannot be used"),
        ("http://a.example\\@127.0.0.1/", "redirects to one that cannot be used"),
        ("http://\u00fc.example/", "redirects to one that cannot be used"),
    ],
)
def test_a_redirect_is_checked_anew(
    location: str, complaint: str, server: Server, dials: Dials
) -> None:
    """Also at the end of a chain. UnfetchableUrl, for what the user asked for was well formed."""
    server.redirect("/1", location)
    with pytest.raises(UnfetchableUrl, match=complaint) as refusal:
        fetch(f"{server.url}/0", LOCAL, resolve=resolver("10.0.0.1"))
    assert location not in str(refusal.value)
    assert dials.addresses == ["127.0.0.1", "127.0.0.1"]


def test_a_redirect_to_a_host_off_the_list_is_refused(server: Server) -> None:
    server.redirect("http://b.example/")
    policy = replace(POLICY, allowed_hosts=("a.example",))
    with pytest.raises(UnfetchableUrl, match="not fetched from this host"):
        fetch("http://a.example/0", policy, resolve=resolver(PUBLIC))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key of ``images.example``, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = (
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        f"-subj /CN=images.example -addext subjectAltName=DNS:images.example,IP:{PUBLIC} "
        f"-keyout {path} -out {path}.crt"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def server_names(server: Server, certificate: Path) -> list[str | None]:
    """What clients named as their server (SNI)."""
    names: list[str | None] = []
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(certificate)
    server.tls.sni_callback = lambda _sock, name, _context: names.append(name)
    return names


@pytest.mark.parametrize(
    ("host", "server_name"), [("images.example", "images.example"), (PUBLIC, None)]
)
def test_tls_is_pinned_to_the_address_and_verified_for_the_name(  # noqa: PLR0917 - fixtures
    host: str,
    server_name: str | None,
    certificate: Path,
    server: Server,
    server_names: list[str | None],
    dials: Dials,
) -> None:
    fetched = fetch(
        f"https://{host}/a.png",
        POLICY,
        resolve=resolver(PUBLIC),
        tls=lambda: ssl.create_default_context(cafile=certificate),
    )
    assert (fetched.body, fetched.final_url) == (PICTURE, f"https://{host}/a.png")
    assert dials.addresses == [PUBLIC]
    assert server_names == [server_name]
    assert f"\r\nHost: {host}\r\n" in server.requests[0]


@pytest.mark.usefixtures("server_names")
@pytest.mark.parametrize("host", ["other.example", "93.184.215.15"])
def test_a_certificate_of_another_name_is_refused(
    host: str, certificate: Path, server: Server
) -> None:
    with pytest.raises(UnfetchableUrl, match="no certificate that is valid"):
        fetch(
            f"https://{host}/",
            POLICY,
            resolve=resolver(PUBLIC),
            tls=lambda: ssl.create_default_context(cafile=certificate),
        )
    assert not server.requests


@pytest.mark.usefixtures("server_names")
def test_a_certificate_that_nobody_vouches_for_is_refused(server: Server) -> None:
    with pytest.raises(UnfetchableUrl, match="no certificate that is valid"):
        fetch("https://images.example/", POLICY, resolve=resolver(PUBLIC))
    assert not server.requests


def test_what_is_no_tls_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Conversation, "handle", lambda self: self.request.sendall(answer()))
    with pytest.raises(UnfetchableUrl, match=r"no certificate that is valid|broke off"):
        fetch(server.url.replace("http", "https"), LOCAL)


url_characters = st.sampled_from(
    "0x7f12.:@/\\[]%#?-_~\u3002\uff0e\uff11\u00df\u200d\u2100 \t\ud800a"
)
hosts = st.one_of(st.text(), st.text(url_characters), st.ip_addresses().map(str))
urls = st.one_of(
    st.text(),
    st.builds("http{}:{}{}{}".format, st.sampled_from(["", "s"]), st.just("//"), hosts, st.text()),
    st.builds("http://[{}]:{}/".format, hosts, st.integers()),
    st.builds("http://{}:{}/{}".format, hosts, st.integers(), st.text()),
)


@given(url=urls)
@settings(max_examples=1000, deadline=None)
@example(url="http://[")
@example(url="http://xn--a.example/")
def test_no_url_fails_in_a_way_without_a_name(url: str) -> None:
    with contextlib.suppress(RequestError):
        fetch(url, POLICY, resolve=resolver())


header_lines = st.builds(
    lambda name, value: name + b": " + value + b"\r\n",
    st.sampled_from(
        [
            b"Content-Length",
            b"Transfer-Encoding: chunked\r\nX",
            b"Content-Disposition",
            b"Content-Encoding",
            b"Content-Type",
            b"Location",
        ]
    ),
    st.one_of(
        st.binary(),
        st.sampled_from(
            [b"\xb2", b"-1", b"9" * 5000, b"1, 2", b"filename*=idna''%ff", b"http://[", b""]
        ),
    ),
)
answers = st.one_of(
    st.binary(),
    st.builds(
        lambda status, headers, body: (
            b"HTTP/1.1 %d X\r\n%b\r\n%b" % (status, b"".join(headers), body)
        ),
        st.sampled_from([200, 302, 404, 99, 1000]),
        st.lists(header_lines),
        st.one_of(st.binary(), st.sampled_from([b"-5\r\na", b"\xb2\r\n", b"9" * 5000 + b"\r\n"])),
    ),
)


@given(said=answers)
@settings(max_examples=300, deadline=None)
def test_no_answer_fails_in_a_way_without_a_name(said: bytes, running_server: Server) -> None:
    running_server.say(said)
    with contextlib.suppress(RequestError):
        fetch(running_server.url, replace(LOCAL, max_redirects=1), resolve=resolver())
