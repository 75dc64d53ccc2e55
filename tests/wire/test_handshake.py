"""The opening handshake (RFC 6455, section 4), both sides, and Origin (sections 4.2.2 and 10.2)."""

from __future__ import annotations

import base64

import pytest

from silly._wire import handshake
from silly._wire.error import ProtocolError
from silly._wire.handshake import accept_key, check_origin, check_request, check_response, request_fields
from silly._wire.header import Header
from silly._wire.http1 import CHUNKED, parse_request, parse_response, request_head
from silly._wire.limits import DEFAULT

from .support import read_head, segmentations

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

UPGRADE = {
    "Host": ["server.example.com"],
    "Upgrade": ["websocket"],
    "Connection": ["Upgrade"],
    "Sec-WebSocket-Key": [KEY],
    "Sec-WebSocket-Version": ["13"],
}


def request(changes: dict[str, list[str]], line: str = "GET /chat HTTP/1.1") -> bytes:
    fields = [f"{name}: {value}" for name, values in (UPGRADE | changes).items() for value in values]
    return "\r\n".join([line, *fields, "", ""]).encode("latin-1")


def verdict(data: bytes) -> str | int:
    """The accept value, or the status it is refused with; the same however it arrives."""
    verdicts = set()
    for pieces in segmentations(data):
        got = read_head(pieces)
        assert got.head is not None
        parsed = parse_request(got.head, DEFAULT)
        try:
            verdicts.add(check_request(parsed.method, parsed.version, parsed.header, parsed.body))
        except ProtocolError as exc:
            verdicts.add(exc.code)
    assert len(verdicts) == 1
    return verdicts.pop()


def test_accept_key() -> None:
    assert accept_key(KEY) == ACCEPT


REQUESTS: list[tuple[str, dict[str, list[str]], str | int]] = [
    # RFC 6455 section, changes, accept value or status
    ("1.3-example", {"Origin": ["http://example.com"], "Sec-WebSocket-Protocol": ["chat, superchat"]}, ACCEPT),
    ("4.2.1-extensions-offered", {"Sec-WebSocket-Extensions": ["permessage-deflate; client_max_window_bits"]}, ACCEPT),
    # Connection
    ("4.2.1-connection-firefox", {"Connection": ["keep-alive, Upgrade"]}, ACCEPT),
    ("4.2.1-connection-lower-case", {"Connection": ["upgrade"]}, ACCEPT),
    ("4.2.1-connection-mixed-case", {"Connection": ["KEEP-alive,uPGRADE"]}, ACCEPT),
    ("4.2.1-connection-several-lines", {"Connection": ["keep-alive", "Upgrade"]}, ACCEPT),
    ("4.2.1-connection-empty-elements", {"Connection": [", ,Upgrade, "]}, ACCEPT),
    ("4.2.1-connection-notupgrade", {"Connection": ["notupgrade"]}, 426),
    ("4.2.1-connection-upgraded", {"Connection": ["upgraded"]}, 426),
    ("4.2.1-connection-upgrade-with-a-space", {"Connection": ["keep-alive Upgrade"]}, 426),
    ("4.2.1-connection-keep-alive", {"Connection": ["keep-alive"]}, 426),
    ("4.2.1-connection-empty", {"Connection": [""]}, 426),
    ("4.2.1-connection-missing", {"Connection": []}, 426),
    # Upgrade
    ("4.2.1-upgrade-WebSocket", {"Upgrade": ["WebSocket"]}, ACCEPT),
    ("4.2.1-upgrade-WEBSOCKET", {"Upgrade": ["WEBSOCKET"]}, ACCEPT),
    ("4.2.1-upgrade-other", {"Upgrade": ["h2c"]}, 426),
    ("4.2.1-upgrade-several", {"Upgrade": ["h2c, websocket"]}, ACCEPT),
    ("4.2.1-upgrade-prefix", {"Upgrade": ["websocket2"]}, 426),
    ("4.2.1-upgrade-version", {"Upgrade": ["websocket/13"]}, 426),
    ("4.2.1-upgrade-empty", {"Upgrade": [""]}, 426),
    ("4.2.1-upgrade-missing", {"Upgrade": []}, 426),
    # Sec-WebSocket-Version
    ("4.4-version-12", {"Sec-WebSocket-Version": ["12"]}, 426),
    ("4.4-version-8", {"Sec-WebSocket-Version": ["8"]}, 426),
    ("4.4-version-13, 8", {"Sec-WebSocket-Version": ["13, 8"]}, 426),
    ("4.4-version-two-lines", {"Sec-WebSocket-Version": ["13", "13"]}, 426),
    ("4.4-version-013", {"Sec-WebSocket-Version": ["013"]}, 426),
    ("4.4-version-13.0", {"Sec-WebSocket-Version": ["13.0"]}, 426),
    ("4.4-version-empty", {"Sec-WebSocket-Version": [""]}, 400),
    ("4.4-version-missing", {"Sec-WebSocket-Version": []}, 400),
    # Sec-WebSocket-Key
    ("4.2.1-key-other", {"Sec-WebSocket-Key": ["x3JJHMbDL1EzLkh9GBhXDw=="]}, "HSmrc0sMlYUkAGmm5OPpG2HaGWk="),
    ("4.2.1-key-short", {"Sec-WebSocket-Key": ["short"]}, 400),
    ("4.2.1-key-15-bytes", {"Sec-WebSocket-Key": [base64.b64encode(bytes(15)).decode()]}, 400),
    ("4.2.1-key-17-bytes", {"Sec-WebSocket-Key": [base64.b64encode(bytes(17)).decode()]}, 400),
    ("4.2.1-key-18-bytes", {"Sec-WebSocket-Key": [base64.b64encode(bytes(18)).decode()]}, 400),
    ("4.2.1-key-no-base64", {"Sec-WebSocket-Key": ["!" * 22 + "=="]}, 400),
    ("4.2.1-key-url-safe-base64", {"Sec-WebSocket-Key": ["_-" * 11 + "=="]}, 400),
    ("4.2.1-key-no-padding", {"Sec-WebSocket-Key": [KEY[:-2]]}, 400),
    ("4.2.1-key-too-much-padding", {"Sec-WebSocket-Key": [KEY + "="]}, 400),
    ("4.2.1-key-padding-within", {"Sec-WebSocket-Key": ["AA==" + "A" * 18 + "=="]}, 400),
    ("4.2.1-key-space-within", {"Sec-WebSocket-Key": ["dGhlIHNhbXBs ZSBub25jZQ=="]}, 400),
    ("4.2.1-key-latin-1", {"Sec-WebSocket-Key": ["\xe9" * 24]}, 400),
    ("4.2.1-key-two", {"Sec-WebSocket-Key": [KEY, KEY]}, 400),
    ("4.2.1-key-two-in-a-line", {"Sec-WebSocket-Key": [f"{KEY},{KEY}"]}, 400),
    ("4.2.1-key-empty", {"Sec-WebSocket-Key": [""]}, 400),
    ("4.2.1-key-missing", {"Sec-WebSocket-Key": []}, 400),
    # bodies (aiohttp CVE-2026-69243, nghttpx CVE-2026-58055)
    ("4.1-body", {"Content-Length": ["5"]}, 400),
    ("4.1-body-chunked", {"Transfer-Encoding": ["chunked"]}, 400),
    ("4.1-body-of-0", {"Content-Length": ["0"]}, ACCEPT),
    # hostile lists (ws CVE-2021-32640): nothing here is searched more than once
    ("long-lists", {"Connection": ["," * 4000 + "upgrade"], "Sec-WebSocket-Extensions": ['";,' * 2000]}, ACCEPT),
]


@pytest.mark.parametrize(("changes", "due"), [pytest.param(c, d, id=f"rfc6455-{name}") for name, c, d in REQUESTS])
def test_requests(changes: dict[str, list[str]], due: str | int) -> None:
    assert verdict(request(changes)) == due


@pytest.mark.parametrize(
    ("line", "due"),
    [
        ("GET /?a=b HTTP/1.1", ACCEPT),
        ("POST / HTTP/1.1", 405),
        ("HEAD / HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 405),
        ("CONNECT server.example.com:80 HTTP/1.1", 405),
        ("get / HTTP/1.1", 405),
        ("GET / HTTP/1.0", 400),
    ],
    ids=lambda value: f"rfc6455-4.1-{value}",
)
def test_request_lines(line: str, due: str | int) -> None:
    assert verdict(request({}, line)) == due


def test_a_missing_host_is_refused_with_the_head() -> None:
    with pytest.raises(ProtocolError):
        verdict(request({"Host": []}))


def test_our_own_request_is_accepted() -> None:
    data = request_head("GET", "/", [("host", "x"), *request_fields(KEY)])
    assert verdict(data) == ACCEPT


def test_any_body_is_refused() -> None:
    header = Header((name, value) for name, values in UPGRADE.items() for value in values)
    assert check_request("GET", "HTTP/1.1", header, 0) == ACCEPT
    for body in (1, 2**63 - 1, CHUNKED):
        with pytest.raises(ProtocolError, match="body"):
            check_request("GET", "HTTP/1.1", header, body)


# ---- Origin -----------------------------------------------------------------------------------------------------------

ORIGINS: list[tuple[str, list[str], list[str], bool]] = [
    # (name, Host, Origin, whether it is the same)
    ("absent", ["example.com"], [], True),
    ("same", ["example.com"], ["http://example.com"], True),
    ("same-with-port", ["example.com:8080"], ["http://example.com:8080"], True),
    ("null", ["example.com"], ["null"], False),
    ("null-host-null", ["null"], ["null"], False),
    ("empty", ["example.com"], [""], False),
    ("other-host", ["example.com"], ["http://evil.com"], False),
    ("sub-domain", ["example.com"], ["http://www.example.com"], False),
    ("parent-domain", ["www.example.com"], ["http://example.com"], False),
    ("suffix", ["example.com"], ["http://example.com.evil.com"], False),
    ("prefix", ["example.com"], ["http://evilexample.com"], False),
    ("other-port", ["example.com:8080"], ["http://example.com:8081"], False),
    ("port-and-none", ["example.com:8080"], ["http://example.com"], False),
    ("none-and-port", ["example.com"], ["http://example.com:8080"], False),
    ("scheme-behind-a-proxy", ["example.com"], ["https://example.com"], True),
    ("scheme-with-port", ["example.com:8080"], ["https://example.com:8080"], True),
    ("default-port-http-origin", ["example.com"], ["http://example.com:80"], True),
    ("default-port-http-host", ["example.com:80"], ["http://example.com"], True),
    ("default-port-https-origin", ["example.com"], ["https://example.com:443"], True),
    ("default-port-https-host", ["example.com:443"], ["https://example.com"], True),
    ("default-port-both", ["example.com:443"], ["https://example.com:443"], True),
    ("default-port-of-the-other-scheme", ["example.com:443"], ["http://example.com"], False),
    ("default-port-of-the-other-scheme-2", ["example.com:80"], ["https://example.com"], False),
    ("default-port-of-the-other-scheme-3", ["example.com"], ["https://example.com:80"], False),
    ("other-scheme-without-a-port", ["abcdef"], ["chrome-extension://abcdef"], False),
    ("other-scheme-file", ["example.com"], ["file://"], False),
    ("upper-case-origin", ["example.com"], ["HTTP://EXAMPLE.COM"], True),
    ("upper-case-host", ["EXAMPLE.com:8080"], ["http://example.COM:8080"], True),
    ("idn-punycode", ["xn--bcher-kva.example"], ["https://xn--bcher-kva.example"], True),
    ("idn-punycode-and-not", ["xn--bcher-kva.example"], ["https://b\xfccher.example"], False),
    ("idn-homograph", ["xn--e1awd7f.com"], ["https://epic.com"], False),
    ("two-origins", ["example.com"], ["http://example.com", "http://example.com"], False),
    ("two-origins-evil-first", ["example.com"], ["http://evil.com", "http://example.com"], False),
    ("two-origins-in-a-line", ["example.com"], ["http://example.com http://evil.com"], False),
    ("two-origins-comma", ["example.com"], ["http://example.com,http://evil.com"], False),
    ("trailing-dot-origin", ["example.com"], ["http://example.com."], False),
    ("trailing-dot-host", ["example.com."], ["http://example.com"], False),
    ("trailing-dot-both", ["example.com."], ["http://example.com."], True),
    ("trailing-slash", ["example.com"], ["http://example.com/"], False),
    ("path", ["example.com"], ["http://example.com/a"], False),
    ("userinfo", ["example.com"], ["http://example.com@evil.com"], False),
    ("userinfo-2", ["example.com"], ["http://evil.com@example.com"], False),
    ("query", ["example.com"], ["http://evil.com?example.com"], False),
    ("fragment", ["example.com"], ["http://evil.com#example.com"], False),
    ("no-scheme", ["example.com"], ["example.com"], False),
    ("no-scheme-slashes", ["example.com"], ["//example.com"], False),
    ("no-host", ["example.com"], ["http://"], False),
    ("port-alone", ["example.com"], ["http://:80"], False),
    ("port-empty", ["example.com"], ["http://example.com:"], False),
    ("port-letters", ["example.com:80"], ["http://example.com:8o"], False),
    ("port-long", ["example.com:80"], ["http://example.com:000080"], False),
    ("port-empty-host", ["example.com:"], ["https://example.com"], True),
    ("port-empty-host-http", ["Example.com:"], ["http://example.com:80"], True),
    ("port-empty-host-other-port", ["example.com:"], ["http://example.com:8080"], False),
    ("port-empty-host-other-host", ["example.com:"], ["http://evil.com"], False),
    ("port-empty-both", ["example.com:"], ["http://example.com:"], False),
    ("space", ["example.com"], ["http://example.com evil"], False),
    ("ipv4", ["127.0.0.1:8080"], ["http://127.0.0.1:8080"], True),
    ("localhost-is-no-address", ["127.0.0.1:8080"], ["http://localhost:8080"], False),
    ("ipv6", ["[::1]:8080"], ["http://[::1]:8080"], True),
    ("ipv6-default-port", ["[::1]"], ["http://[::1]"], True),
    ("ipv6-default-port-origin", ["[::1]"], ["https://[::1]:443"], True),
    ("ipv6-default-port-host", ["[::1]:443"], ["https://[::1]"], True),
    ("ipv6-port-empty-host", ["[::1]:"], ["https://[::1]"], True),
    ("ipv6-port-empty-host-other-port", ["[::1]:"], ["https://[::1]:8443"], False),
    ("ipv6-other-port", ["[::1]:8080"], ["http://[::1]"], False),
    ("ipv6-other", ["[::1]"], ["http://[::2]"], False),
    ("ipv6-upper-case", ["[FE80::1]:80"], ["http://[fe80::1]"], True),
    ("no-host-field", [], ["http://example.com"], False),
    ("no-host-field-no-origin", [], [], True),
]


@pytest.mark.parametrize(
    ("host", "origin", "same"), [pytest.param(*row, id=f"rfc6455-10.2-{name}") for name, *row in ORIGINS]
)
def test_origin(host: list[str], origin: list[str], same: bool) -> None:
    header = Header([*(("Host", value) for value in host), *(("Origin", value) for value in origin)])
    if same:
        check_origin(header)
        assert header["host"] == (host[0] if host else None)
    else:
        with pytest.raises(ProtocolError) as info:
            check_origin(header)
        assert info.value.code == 403


def test_the_refusal_of_an_origin_stays_short() -> None:
    with pytest.raises(ProtocolError) as info:
        check_origin(Header([("host", "h" * 5000), ("origin", "o" * 5000)]))
    assert len(info.value.text) < 300


# ---- the client's side ------------------------------------------------------------------------------------------------

ANSWER = {"Upgrade": ["websocket"], "Connection": ["Upgrade"], "Sec-WebSocket-Accept": [ACCEPT]}


def answer(changes: dict[str, list[str]], line: str = "HTTP/1.1 101 Switching Protocols") -> bytes:
    fields = [f"{name}: {value}" for name, values in (ANSWER | changes).items() for value in values]
    return "\r\n".join([line, *fields, "", ""]).encode("latin-1")


def answer_verdict(data: bytes) -> int | None:
    """The code that the answer is refused with, or None; frames glued to it stay in the buffer."""
    glued = b"\x81\x02hi"
    verdicts = set()
    for pieces in segmentations(data + glued):
        got = read_head(pieces)
        assert got.head is not None
        assert got.rest == glued
        try:
            check_response(parse_response(got.head, DEFAULT), KEY, [])
            verdicts.add(None)
        except ProtocolError as exc:
            verdicts.add(exc.code)
    assert len(verdicts) == 1
    return verdicts.pop()


GOOD_ANSWERS: list[tuple[str, dict[str, list[str]], str]] = [
    ("4.1-example", {}, "HTTP/1.1 101 Switching Protocols"),
    ("4.1-reason-null", {}, "HTTP/1.1 101 null"),
    ("4.1-no-reason", {}, "HTTP/1.1 101"),
    ("4.1-upper-case", {"Upgrade": ["WebSocket"], "Connection": ["upgrade"]}, "HTTP/1.1 101 OK"),
    ("4.1-connection-list", {"Connection": ["keep-alive", "Upgrade"]}, "HTTP/1.1 101 OK"),
    ("4.1-accept-with-spaces", {"Sec-WebSocket-Accept": [f"  {ACCEPT} \t"]}, "HTTP/1.1 101 OK"),
    ("4.1-content-length-0", {"Content-Length": ["0"]}, "HTTP/1.1 101 OK"),
    ("4.1-other-fields", {"Server": ["x"], "Set-Cookie": ["a=b", "c=d"]}, "HTTP/1.1 101 OK"),
]


@pytest.mark.parametrize(("changes", "line"), [pytest.param(c, ln, id=f"rfc6455-{name}") for name, c, ln in GOOD_ANSWERS])
def test_good_answers(changes: dict[str, list[str]], line: str) -> None:
    assert answer_verdict(answer(changes, line)) is None


BAD_ANSWERS: list[tuple[str, dict[str, list[str]]]] = [
    ("4.1-2-upgrade-missing", {"Upgrade": []}),
    ("4.1-2-upgrade-other", {"Upgrade": ["h2c"]}),
    ("4.1-2-upgrade-several", {"Upgrade": ["websocket, h2c"]}),
    ("4.1-3-connection-missing", {"Connection": []}),
    ("4.1-3-connection-notupgrade", {"Connection": ["notupgrade"]}),
    ("4.1-3-connection-close", {"Connection": ["close"]}),
    ("4.1-4-accept-missing", {"Sec-WebSocket-Accept": []}),
    ("4.1-4-accept-empty", {"Sec-WebSocket-Accept": [""]}),
    ("4.1-4-accept-of-another-key", {"Sec-WebSocket-Accept": [accept_key("AAAAAAAAAAAAAAAAAAAAAA==")]}),
    ("4.1-4-accept-other-case", {"Sec-WebSocket-Accept": [ACCEPT.lower()]}),
    ("4.1-4-accept-is-the-key", {"Sec-WebSocket-Accept": [KEY]}),
    ("4.1-4-accept-twice", {"Sec-WebSocket-Accept": [ACCEPT, ACCEPT]}),
    ("4.1-4-accept-longer", {"Sec-WebSocket-Accept": [ACCEPT + "="]}),
    ("4.1-5-extension", {"Sec-WebSocket-Extensions": ["permessage-deflate"]}),
    ("4.1-5-extension-window-bits", {"Sec-WebSocket-Extensions": ["permessage-deflate; server_max_window_bits=1000"]}),
    ("4.1-5-extension-empty", {"Sec-WebSocket-Extensions": [""]}),
    ("4.1-6-protocol", {"Sec-WebSocket-Protocol": ["chat"]}),
    ("4.1-6-protocol-empty", {"Sec-WebSocket-Protocol": [""]}),
    ("4.1-body-length", {"Content-Length": ["5"]}),
    ("4.1-body-length-bad", {"Content-Length": ["+0"]}),
    ("4.1-body-length-twice", {"Content-Length": ["0", "0"]}),
    ("4.1-body-chunked", {"Transfer-Encoding": ["chunked"]}),
]


@pytest.mark.parametrize("changes", [pytest.param(c, id=f"rfc6455-{name}") for name, c in BAD_ANSWERS])
def test_bad_answers(changes: dict[str, list[str]]) -> None:
    assert answer_verdict(answer(changes)) == 101


@pytest.mark.parametrize("status", [100, 102, 200, 204, 301, 302, 400, 401, 403, 404, 426, 500, 503])
def test_other_statuses(status: int) -> None:
    """4.1-1: told by its number, even when the rest would do."""
    assert answer_verdict(answer({}, f"HTTP/1.1 {status} Some Reason")) == status
    got = read_head([answer({}, f"HTTP/1.1 {status} Some Reason")])
    assert got.head is not None
    with pytest.raises(ProtocolError, match=f"the server answered {status} Some Reason$"):
        check_response(parse_response(got.head, DEFAULT), KEY, [])
    got = read_head([answer({}, f"HTTP/1.1 {status}")])
    assert got.head is not None
    with pytest.raises(ProtocolError, match=f"the server answered {status}$"):
        check_response(parse_response(got.head, DEFAULT), KEY, [])


def test_101_in_http_1_0() -> None:
    assert answer_verdict(answer({}, "HTTP/1.0 101 Switching Protocols")) == 101


def test_our_fields_ask_for_the_version_we_check() -> None:
    assert request_fields(KEY)[2:] == [("sec-websocket-key", KEY), ("sec-websocket-version", "13")]
    assert handshake.VERSION == "13"


@pytest.mark.parametrize(
    ("chosen", "offered", "taken"),
    [
        (None, ["chat"], True),
        ("chat", ["chat"], True),
        ("superchat", ["chat", "superchat"], True),
        ("Chat", ["chat"], False),
        ("chat, superchat", ["chat", "superchat"], False),
        ("", ["chat"], False),
        ("chat", [], False),
    ],
)
def test_4_1_a_subprotocol_is_one_of_those_offered(chosen: str | None, offered: list[str], taken: bool) -> None:
    line = "" if chosen is None else f"Sec-WebSocket-Protocol: {chosen}\r\n"
    head = (
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{line}"
        f"Sec-WebSocket-Accept: {accept_key(KEY)}"
    )
    response = parse_response(head.encode(), DEFAULT)
    if taken:
        assert check_response(response, KEY, offered) is None
    else:
        with pytest.raises(ProtocolError, match="not asked for"):
            check_response(response, KEY, offered)
