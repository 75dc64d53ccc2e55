"""The addresses of clients, as nginx and HAProxy pass them on. The clients of these tests have none of their own: they tell the
proxy one by the PROXY protocol, which it is told to believe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from silly import Limits, check
from silly.net import http, tcp, tls, websocket
from silly.sync import channel
from tests.helpers import Peer
from tests.net import authorities
from tests.net.http_support import certs
from tests.net.support import until

from .conftest import _skip_without
from .support import Client, Front, Proxy, behind, front_at, haproxy, nginx

NGINX = """
    upstream ours {
        server unix:FOLDER/back;
        keepalive 8;
    }
    server {
        listen unix:FOLDER/nginx proxy_protocol;
        set_real_ip_from unix:;
        real_ip_header proxy_protocol;
        location / {
            proxy_pass http://ours;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }
    }
"""
HAPROXY = """
frontend x-forwarded-for
    bind unix@FOLDER/x-forwarded-for accept-proxy
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    default_backend plain
frontend forwarded
    bind unix@FOLDER/forwarded accept-proxy
    http-request add-header Forwarded for=%[src];proto=https
    default_backend plain
backend plain
    http-reuse always
    server ours unix@FOLDER/back

frontend send-proxy
    bind unix@FOLDER/send-proxy accept-proxy
    default_backend send-proxy
backend send-proxy
    http-reuse always
    server ours unix@FOLDER/back send-proxy
frontend send-proxy-v2
    bind unix@FOLDER/send-proxy-v2 accept-proxy
    default_backend send-proxy-v2
backend send-proxy-v2
    http-reuse always
    server ours unix@FOLDER/back send-proxy-v2 proxy-v2-options crc32c,unique-id,authority
frontend checked
    bind unix@FOLDER/checked accept-proxy
    default_backend checked
backend checked
    server ours unix@FOLDER/checked-back send-proxy-v2 check check-send-proxy inter 20ms rise 3 fall 1 init-addr none

listen tls-send-proxy
    mode tcp
    bind unix@FOLDER/tls-send-proxy accept-proxy
    server ours unix@FOLDER/back send-proxy
listen tls-send-proxy-v2
    mode tcp
    bind unix@FOLDER/tls-send-proxy-v2 accept-proxy
    server ours unix@FOLDER/back send-proxy-v2 proxy-v2-options crc32c
listen ended
    mode tcp
    bind unix@FOLDER/ended accept-proxy ssl crt CERTIFICATE
    server ours unix@FOLDER/back send-proxy-v2-ssl-cn proxy-v2-options crc32c,ssl,cert-cn,ssl-cipher
"""
SOCKETS = ["x-forwarded-for", "forwarded", "send-proxy", "send-proxy-v2", "checked"]
SOCKETS += ["tls-send-proxy", "tls-send-proxy-v2", "ended"]
FIELDS = {"nginx": "x-forwarded-for", "x-forwarded-for": "x-forwarded-for", "forwarded": "forwarded"}
ADDRESSES = ["192.0.2.1", "203.0.113.7", "2001:db8::1"]


@pytest.fixture(scope="module")
def nginx_front() -> Iterator[Front]:
    _skip_without("nginx")
    with nginx(NGINX, ["nginx"]) as proxy:
        yield front_at(proxy, "nginx")


@pytest.fixture(scope="module")
def haproxy_fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    _skip_without("haproxy")
    entry = authorities.server().entry
    path: Path = tmp_path_factory.mktemp("haproxy") / "server.pem"
    path.write_text(f"{entry['cert']}\n{entry['key']}\n")
    with haproxy(HAPROXY.replace("CERTIFICATE", str(path)), SOCKETS) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxied(request: pytest.FixtureRequest) -> Front:
    """The front that the parameter names."""
    if request.param == "nginx":
        front: Front = request.getfixturevalue("nginx_front")
        return front
    front = front_at(request.getfixturevalue("haproxy_fronts"), request.param)
    return front._replace(back=f"unix:{front.proxy.at('checked-back')}") if request.param == "checked" else front


def visitor(front: Front, address: str) -> Any:
    """A connection of a client that has this address."""
    conn = check(tcp.connect(front.addr))
    family, other = ("TCP6", "::1") if ":" in address else ("TCP4", "127.0.0.1")
    conn.write(f"PROXY {family} {address} {other} 4711 80\r\n")
    return conn


def tell(stream: Any) -> None:
    stream.respond(200)
    stream.closewrite(f"{stream.remoteaddr} {stream.scheme}")


def text(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@pytest.mark.parametrize("proxied", FIELDS, indirect=True)
def test_a_forged_field_does_not_win(proxied: Front) -> None:
    front, field = proxied, FIELDS[proxied.name]
    scheme = "https" if field == "forwarded" else "http"
    forged: list[list[str]] = [
        [],
        ["X-Forwarded-For: 198.51.100.9", "Forwarded: for=198.51.100.9;proto=http", "X-Forwarded-Proto: https"],
        ["X-Forwarded-For: 198.51.100.9", "X-Forwarded-For: 198.51.100.8", "Forwarded: for=198.51.100.9, for=198.51.100.8"],
        ['X-Forwarded-For: ", unknown, [::1', 'Forwarded: for="198.51.100.9;', "X-Forwarded-Host: evil"],
        ["X-Forwarded-For:", "Forwarded:"],
        [f"X-Forwarded-For: {'unix, ' * 500}", f"Forwarded: {'for=unknown, ' * 300}"],
    ]
    addresses = ADDRESSES[: 2 if field == "forwarded" else 3]  # HAProxy before 2.8 quotes no IPv6 address
    with behind(front, tell, trusted=["unix"], forwarded=field):
        for address in addresses:
            with Client(visitor(front, address)) as client:
                for fields in forged:
                    assert client.ask("/", "GET", *fields).body.decode() == f"{text(address, 0)} {scheme}"


@pytest.mark.parametrize("proxied", ["send-proxy", "send-proxy-v2", "checked"], indirect=True)
def test_the_proxy_protocol(proxied: Front) -> None:
    front = proxied
    with behind(front, tell, trusted=["unix"], proxy=True):
        clients = [Client(visitor(front, address)) for address in ADDRESSES]
        until(lambda: clients[0].ask().status == 200)  # a checked one is down until it is seen to be up
        for _ in range(3):
            for client, address in zip(clients, ADDRESSES, strict=True):
                fields = ["X-Forwarded-For: 198.51.100.9", "Forwarded: for=198.51.100.9"]
                assert client.ask("/", "GET", *fields).body.decode() == f"{text(address, 4711)} http"
        for client in clients:
            client.close()


@pytest.mark.parametrize("proxied", ["tls-send-proxy", "tls-send-proxy-v2"], indirect=True)
def test_the_proxy_protocol_before_tls(proxied: Front) -> None:
    front = proxied
    with behind(front, tell, trusted=["unix"], proxy=True, certs=certs()):
        for address in ADDRESSES:
            with check(tls.upgrade(visitor(front, address), "localhost", ca=authorities.root().pem)) as conn:
                assert Client(conn).ask().body.decode() == f"{text(address, 4711)} https"


def test_the_proxy_protocol_of_a_proxy_that_ends_tls(haproxy_fronts: Proxy) -> None:
    """Its header says much about that."""
    front = front_at(haproxy_fronts, "ended")
    with behind(front, tell, trusted=["unix"], proxy=True):
        for address in ADDRESSES:
            with check(tls.upgrade(visitor(front, address), "localhost", ca=authorities.root().pem)) as conn:
                assert Client(conn).ask().body.decode() == f"{text(address, 4711)} http"


@pytest.mark.parametrize("proxied", [*FIELDS, "send-proxy-v2"], indirect=True)
def test_websockets(proxied: Front) -> None:
    """They are told apart by their clients' addresses, in limits too."""
    front = proxied
    options = {"proxy": True} if front.name == "send-proxy-v2" else {"forwarded": FIELDS[front.name]}
    opened = channel.new()

    def handler(stream: Any) -> None:
        sock, _ = websocket.upgrade(stream)
        opened.push(sock.stream.remoteaddr)
        sock.read()

    with behind(front, handler, trusted=["unix"], limits=Limits(address_connections=1), **options):
        peers = []
        for address in ADDRESSES[:2]:
            peer = Peer(visitor(front, address))
            peer.send(peer.upgrade_request("X-Forwarded-For: 198.51.100.9", "Forwarded: for=198.51.100.9"))
            assert peer.read("\r\n\r\n").split()[1] == b"101"
            assert opened.pop()[0] == text(address, 4711 if "proxy" in options else 0)
            peers.append(peer)
        with Client(visitor(front, ADDRESSES[0])) as client:
            client.send(Peer.upgrade_request("X-Forwarded-For: 198.51.100.9", "Forwarded: for=198.51.100.9"))
            assert client.reply().status in (502, 503)
        for peer in peers:
            peer.close()


def test_an_access_log(nginx_front: Front, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with (
        http.AccessLog("combined", path) as log,
        behind(nginx_front, tell, trusted=["unix"], forwarded="x-forwarded-for", accesslog=log),
        Client(visitor(nginx_front, ADDRESSES[2])) as client,
    ):
        client.ask("/", "GET", "X-Forwarded-For: 198.51.100.9")
        until(lambda: path.read_text())
    assert path.read_text().startswith("2001:db8::1 - - [")
