"""HTTP servers behind proxies that name their clients in a field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from silly import Limits, check
from silly.net import http, tcp, websocket
from silly.sync import channel

from ..helpers import Peer, Raw, serving, turn
from .http_support import Held, certs, connected
from .support import until

XFF, FORWARDED = "x-forwarded-for", "forwarded"
HERE = ["127.0.0.0/8"]
ELSEWHERE = ["192.0.2.0/24", "::1", "unix"]


def tell(stream: Any) -> None:
    stream.respond(200)
    peer = stream.conn.remoteaddr
    stream.closewrite(json.dumps([stream.remoteaddr, stream.scheme, peer, stream.header[XFF], stream.header[FORWARDED]]))


def ask(client: Raw, *fields: str) -> Any:
    client.request("/", "GET", *fields)
    return json.loads(client.response().body)


def test_x_forwarded_for() -> None:
    """The requests of one connection may be different clients'."""
    with serving(tell, trusted=[*HERE, "10.0.0.0/8"], forwarded=XFF) as server, Raw.connect(server) as client:
        addr, scheme, peer, *_ = ask(client)
        assert (addr, scheme) == (peer, "http")
        for fields, addr, scheme in (
            (["X-Forwarded-For: 192.0.2.1"], "192.0.2.1:0", "http"),
            (["X-Forwarded-For: 203.0.113.9, 192.0.2.2:80, 10.0.0.1", "X-Forwarded-Proto: https"], "192.0.2.2:80", "https"),
            (["X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 2001:db8::1"], "[2001:db8::1]:0", "http"),
            (["Forwarded: for=192.0.2.1;proto=https"], peer, "http"),
            (["X-Forwarded-Proto: https", "X-Forwarded-Host: evil"], peer, "https"),
        ):
            assert ask(client, *fields)[:3] == [addr, scheme, peer]


def test_forwarded() -> None:
    with serving(tell, trusted=HERE, forwarded=FORWARDED) as server, Raw.connect(server) as client:
        peer = ask(client)[2]
        for fields, addr, scheme in (
            (["Forwarded: for=192.0.2.1;proto=https"], "192.0.2.1:0", "https"),
            (['Forwarded: for=203.0.113.9, for="[2001:db8::1]:4711"'], "[2001:db8::1]:4711", "http"),
            (['Forwarded: for="203.0.113.9', "Forwarded: for=192.0.2.1"], "192.0.2.1:0", "http"),
            (["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"], peer, "http"),
        ):
            assert ask(client, *fields)[:3] == [addr, scheme, peer]


@pytest.mark.parametrize("field", [None, XFF, FORWARDED])
def test_the_fields_of_others_mean_nothing(field: str | None) -> None:
    """They stay in the header, as they came."""
    options: Any = {"trusted": ELSEWHERE, "forwarded": field} if field else {}
    with serving(tell, **options) as server, Raw.connect(server) as client:
        fields = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "Forwarded: for=192.0.2.1;proto=https"]
        addr, scheme, peer, *left = ask(client, *fields)
        assert (addr, scheme) == (peer, "http")
        assert left == ["192.0.2.1", "for=192.0.2.1;proto=https"]


def test_over_tls_the_scheme_is_what_the_proxy_says() -> None:
    with serving(tell, trusted=HERE, forwarded=XFF, certs=certs()) as server, connected(server) as client:
        assert ask(client)[1] == "https"
        assert ask(client, "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: http")[:2] == ["192.0.2.1:0", "http"]


def test_unix_sockets(tmp_path: Path) -> None:
    addr = f"unix:{tmp_path}/s"
    for trusted, expected in ((["unix"], "192.0.2.1:0"), (["0.0.0.0/0", "::/0"], addr)):
        with check(http.listen(addr, tell, trusted=trusted, forwarded=XFF)) as server, Raw(check(tcp.connect(addr))) as client:
            assert ask(client, "X-Forwarded-For: 192.0.2.1")[0] == expected
            server.close()
            turn(3)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (XFF, "192.0.2.1, unknown", "X-Forwarded-For: no address: 'unknown'"),
        (FORWARDED, "for=192.0.2.1, for=_hidden;proto=https", "Forwarded: no address: '_hidden'"),
        (FORWARDED, "proto=https", "Forwarded: no 'for' in 'proto=https'"),
    ],
)
def test_what_is_no_address(field: str, value: str, words: str, logs: Any) -> None:
    """The address is then that of the proxy which says so, and the log tells."""
    logs.expect(rf"^INFO http: 127\.0\.0\.1:\d+: {words}$")
    with serving(tell, trusted=HERE, forwarded=field) as server, Raw.connect(server) as client:
        addr, scheme, peer, *_ = ask(client, f"{field}: {value}")
        assert (addr, scheme) == (peer, "https" if "https" in value else "http")


def test_long_lists_are_few_lines_of_the_log(logs: Any) -> None:
    logs.expect("X-Forwarded-For: more than 32 elements")
    with serving(tell, trusted=HERE, forwarded=XFF) as server, Raw.connect(server) as client:
        lines = [f"X-Forwarded-For: {', '.join(['127.0.0.1'] * 600)}"] * 8
        assert ask(client, *lines)[0] == "127.0.0.1:0"
        assert all(len(line) < 200 for line in logs.lines)


# ---- where the address shows ------------------------------------------------------------------------------------------


def test_logs_and_errors_name_the_client(tmp_path: Path, logs: Any) -> None:
    logs.expect("^INFO http: 192.0.2.1:80: GET '/': the handler did not respond")
    logs.expect(r"^ERROR http: 192.0.2.1:80: GET '/': the handler test_logs.*\.handler returned")
    found = []

    def handler(stream: Any) -> Any:
        found.append(repr(stream))
        return {"a": 1} if len(found) == 2 else None

    path = tmp_path / "log"
    with (
        http.AccessLog("json", path) as log,
        serving(handler, trusted=HERE, forwarded=XFF, accesslog=log) as server,
        Raw.connect(server) as client,
    ):
        for _ in range(2):
            client.request("/", "GET", "X-Forwarded-For: 192.0.2.1:80")
            assert client.response().status == 500
        until(lambda: path.read_text().count("\n") == 2)
    assert [json.loads(line)["remote"] for line in path.read_text().splitlines()] == ["192.0.2.1:80"] * 2
    assert found == ["<http request GET / from 192.0.2.1:80>"] * 2


def test_a_handler_that_raises(logs: Any) -> None:
    logs.expect("^ERROR exception in the handler of GET /")

    def handler(stream: Any) -> None:
        raise KeyError("lost")

    with serving(handler, trusted=HERE, forwarded=XFF, limits=Limits(address_connections=1)) as server:
        for _ in range(2):
            with Raw.connect(server) as client:
                client.request("/", "GET", "X-Forwarded-For: 192.0.2.1")
                assert client.response().status == 500
        assert server._places._each.by_address == {}


def test_a_router_is_a_handler_too() -> None:
    router = http.router()
    router.get("/{name}", lambda stream, name: stream.answer(200, f"{name} {stream.remoteaddr}"))
    router.route("TRACE", "/", lambda stream: stream.answer(200, "traced"))
    with serving(router, trusted=HERE, forwarded=XFF) as server, Raw.connect(server) as client:
        client.request("/you", "GET", "X-Forwarded-For: 192.0.2.1")
        assert client.response().body.decode().strip() == "you 192.0.2.1:0"
        client.request("/", "TRACE")
        assert client.response().body.decode().strip() == "traced"


def test_websockets(logs: Any) -> None:
    """The check of Origin looks at Host, and not at X-Forwarded-Host."""
    logs.expect("^INFO websocket: 192.0.2.1:80: a client's frame isn't masked")
    logs.expect("^INFO websocket: 192.0.2.1:80: upgrade refused: Origin 'http://other'")
    ends = channel.new()

    def handler(stream: Any) -> None:
        sock, _ = websocket.upgrade(stream)
        if sock is not None:
            ends.push((sock.stream.remoteaddr, sock.conn.remoteaddr, sock.read()[1]))

    fields = ["X-Forwarded-For: 192.0.2.1:80", "X-Forwarded-Host: other"]
    with serving(handler, trusted=HERE, forwarded=XFF) as server:
        with Peer.connect(server) as client:
            client.send(client.upgrade_request(*fields, "Origin: http://test"))
            assert client.read("\r\n\r\n").split()[1] == b"101"
            client.send(b"\x81\x01x")
            (addr, peer, err), _ = ends.pop()
        assert addr == "192.0.2.1:80"
        assert peer.startswith("127.0.0.1:")
        assert err.startswith("the peer 192.0.2.1:80 broke the protocol")
        with Peer.connect(server) as client:
            client.send(client.upgrade_request(*fields, "Origin: http://other"))
            assert client.response().status == 403


# ---- limits -----------------------------------------------------------------------------------------------------------


def test_a_request_counts_under_its_client_s_address() -> None:
    """And the connections of the proxy don't count under its own. The refused one's connection goes on."""
    held = Held()
    with serving(held.handler, trusted=HERE, forwarded=XFF, limits=Limits(address_connections=2)) as server:
        clients = [Raw.connect(server) for _ in range(5)]
        for client in clients[:2]:
            client.request("/", "GET", "X-Forwarded-For: 192.0.2.1")
            held.pop()
        for _ in range(2):
            clients[2].request("/", "POST", "X-Forwarded-For: 192.0.2.1", "Content-Length: 5", body="hello")
            refused = clients[2].response()
            assert (refused.status, refused.body) == (503, b"too many connections\n")
        clients[3].request("/", "GET", "X-Forwarded-For: 192.0.2.2")
        assert held.pop().remoteaddr == "192.0.2.2:0"
        clients[4].request()
        assert held.pop().remoteaddr.startswith("127.0.0.1:"), "the proxy itself has no limit"
        held.go()
        assert clients[0].response().status == 200
        clients[2].request("/", "GET", "X-Forwarded-For: 192.0.2.1")
        held.pop()
        held.release()
        for client in clients[1:]:
            assert client.response().status == 200
            client.close()
        clients[0].close()
        assert server._places._each.by_address == {}
        until(lambda: server._places._all.taken == 0)


def test_a_client_without_a_proxy_counts_by_its_connections() -> None:
    with (
        serving(tell, trusted=ELSEWHERE, forwarded=XFF, limits=Limits(address_connections=1)) as server,
        Raw.connect(server) as client,
    ):
        for number in range(3):
            assert ask(client, f"X-Forwarded-For: 192.0.2.{number}")[0].startswith("127.0.0.1:")
        with Raw.connect(server) as second:
            assert second.response().status == 503


@pytest.mark.parametrize("kind", ["http", "https"])
def test_a_websocket_counts_until_it_ends(kind: str) -> None:
    def handler(stream: Any) -> None:
        sock, _ = websocket.upgrade(stream)
        sock.read()

    request = Peer.upgrade_request("X-Forwarded-For: 192.0.2.1")
    options: Any = {"certs": certs()} if kind == "https" else {}
    with serving(handler, trusted=HERE, forwarded=XFF, limits=Limits(address_connections=1), **options) as server:
        with Peer(connected(server).conn) as first:
            first.send(request)
            assert first.read("\r\n\r\n").split()[1] == b"101"
            with Peer(connected(server).conn) as second:
                second.send(request)
                assert second.response().status == 503
                second.eof()
        places = server._places
        until(lambda: (places._all.taken, places._each.taken, places._each.by_address) == (0, 0, {}))
        with Peer(connected(server).conn) as third:
            third.send(request)
            assert third.read("\r\n\r\n").split()[1] == b"101"


def test_all_connections_count_in_the_total(logs: Any) -> None:
    with (
        serving(tell, trusted=HERE, forwarded=XFF, limits=Limits(connections=1, address_connections=1)) as server,
        Raw.connect(server) as client,
    ):
        assert ask(client, "X-Forwarded-For: 192.0.2.1")[0] == "192.0.2.1:0"
        with Raw.connect(server) as second:
            assert second.response().status == 503


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"forwarded": XFF}, ValueError, "forwarded needs trusted"),
        ({"forwarded": "X-Real-IP", "trusted": HERE}, ValueError, "is 'x-forwarded-for' or 'forwarded', not 'X-Real-IP'"),
        ({"forwarded": [XFF, FORWARDED], "trusted": HERE}, TypeError, "forwarded is the name of a field, not list"),
        ({"trusted": HERE}, ValueError, "trusted needs forwarded or proxy=True"),
        ({"trusted": HERE, "forwarded": XFF, "proxy": True}, ValueError, "forwarded and proxy: use only one of the two"),
        ({"trusted": ["10.0.0.1/8"], "forwarded": XFF}, ValueError, "'10.0.0.1/8' is no network"),
    ],
)
def test_arguments(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=rf"^http\.listen: .*{words}"):
        http.listen("127.0.0.1:0", tell, **options)
