"""The proxies of the tests. Each runs while the tests of a module do; our server behind it is each test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Logs
from tests.helpers import serving

from .observers import Observed, observe, recording
from .support import EVERY, KEEPING, NGINX_SOCKETS, Front, Proxy, front_at, haproxy, missing, nginx

NGINX = """
    map $http_upgrade $connection_upgrade {
        default upgrade;
        '' '';
    }
    upstream ours {
        server unix:FOLDER/back;
        keepalive 8;
    }
    client_max_body_size 0;

    # Bodies are gathered, both ways; an upgrade passes as nginx's documentation has it.
    server {
        listen unix:FOLDER/nginx backlog=1000;
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header X-Forwarded-For 192.0.2.1;
        location / { proxy_pass http://ours; }
    }

    # Bodies pass as they come.
    server {
        listen unix:FOLDER/nginx-streaming backlog=1000;
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header X-Forwarded-For 192.0.2.1;
        proxy_request_buffering off;
        proxy_buffering off;
        location / { proxy_pass http://ours; }
    }

    # nginx's defaults: HTTP/1.0, a connection for each request.
    server {
        listen unix:FOLDER/nginx-1.0 backlog=1000;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For 192.0.2.1;
        location / { proxy_pass http://ours; }
    }
"""
FRAMING = (
    NGINX
    + """
    # The clients of these tests end their direction when they have sent all.
    proxy_ignore_client_abort on;

    # Requests are read whole, and passed on one by one with HTTP/1.0 and a length.
    server {
        listen unix:FOLDER/recorded backlog=1000;
        location / {
            proxy_pass http://unix:FOLDER/recorder:;
            proxy_set_header X-Host $host;
        }
    }
"""
)
HAPROXY = """
frontend front
    bind unix@FOLDER/haproxy
    http-request set-header X-Forwarded-For 192.0.2.1
    default_backend ours
backend ours
    http-reuse always
    retry-on conn-failure empty-response
    server ours unix@FOLDER/back
frontend recorded
    bind unix@FOLDER/recorded
    http-request set-header X-Host %[req.fhdr(host)]
    default_backend recorder
backend recorder
    server recorder unix@FOLDER/recorder
"""


def _skip_without(name: str) -> None:
    why = missing(name)
    if why:
        pytest.skip(why)


@pytest.fixture
def ours(logs: Logs) -> dict[int, Observed]:
    """What our server makes of each case of the corpus."""
    logs.allow(r"^INFO http: ")
    with serving(recording) as server:
        return observe(f"127.0.0.1:{server.port}")


@pytest.fixture(scope="module")
def framing_nginx() -> Iterator[Proxy]:
    """nginx, for clients that half-close, and before a recorder: its socket is ``recorded``, the recorder's ``recorder``."""
    _skip_without("nginx")
    with nginx(FRAMING, [*NGINX_SOCKETS, "recorded"]) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def nginx_fronts() -> Iterator[Proxy]:
    """nginx, with a socket for each way to set it up."""
    _skip_without("nginx")
    with nginx(NGINX, NGINX_SOCKETS) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def haproxy_front() -> Iterator[Proxy]:
    """HAProxy, with a socket before ours, and the socket ``recorded`` before a recorder's, ``recorder``."""
    _skip_without("haproxy")
    with haproxy(HAPROXY, ["haproxy", "recorded"]) as proxy:
        yield proxy


# Of a module's scope, so that the proxy runs before each test's own bookkeeping begins.


@pytest.fixture(scope="module", params=EVERY)
def framing_front(request: pytest.FixtureRequest) -> Front:
    """A proxy before ours, for clients that half-close, with a recorder's socket too."""
    return _front(request, "framing_nginx")


@pytest.fixture(scope="module", params=EVERY)
def front(request: pytest.FixtureRequest) -> Front:
    """A proxy before ours."""
    return _front(request, "nginx_fronts")


@pytest.fixture(scope="module", params=KEEPING)
def keeping_front(request: pytest.FixtureRequest) -> Front:
    """A proxy before ours that keeps connections to it."""
    return _front(request, "nginx_fronts")


def _front(request: pytest.FixtureRequest, nginx_fixture: str) -> Front:
    """The front that the parameter names."""
    fixture = "haproxy_front" if request.param == "haproxy" else nginx_fixture
    return front_at(request.getfixturevalue(fixture), request.param)
