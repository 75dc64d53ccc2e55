"""The fixtures of the interoperability tests: the third parties as child processes, and our own servers in this one.

Children live as long as a module's tests; each is used by one test at a time, and replaced after a test that failed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

pytest.register_assert_rewrite("tests.interop.peers", "tests.interop.connecting")

from silly import check  # noqa: E402
from silly.net import http, websocket  # noqa: E402
from silly.sync import channel  # noqa: E402

from .peers import HERE, Peer, node, pop, python  # noqa: E402

WS_PACKAGE = "ws@8"
INSTALL_WITHIN = 45

failed_key = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remembers whether the test failed: its children are replaced then."""
    report = yield
    if report.failed:
        item.stash[failed_key] = True
    return report


@pytest.fixture(scope="session")
def without_node() -> str:
    """Why Node's ws can't be tested, or "". Installs ws beside this file if it isn't there (git ignores node_modules)."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return f"SKIPPED THIRD PARTY: Node's ws is not tested: no {program} on this machine"
    folder = os.open(HERE, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # another run of the tests may be installing it
        if (HERE / "node_modules" / "ws" / "package.json").exists():
            return ""
        command = ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--fetch-retries=0"]
        done = subprocess.run(
            [*command, "--prefix", str(HERE), WS_PACKAGE],
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_WITHIN,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"SKIPPED THIRD PARTY: Node's ws is not tested: npm install took more than {INSTALL_WITHIN} s"
    finally:
        os.close(folder)
    if done.returncode:
        return f"SKIPPED THIRD PARTY: Node's ws is not tested: npm install failed: {done.stderr.strip()[-1000:]}"
    return ""


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A test CA, and a certificate of it for 127.0.0.1: the paths of ``ca``, ``cert`` and ``key``."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    paths = {name: str(folder / f"{name}.pem") for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    leaf.private_key_pem.write_to_path(paths["key"])
    Path(paths["cert"]).write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return paths


def _peers(commands: dict[str, list[str]], without_node: str) -> Iterator[dict[str, Peer]]:
    with contextlib.ExitStack() as stack:
        peers = {}
        for name, command in commands.items():
            if name != "ws" or not without_node:
                peers[name] = stack.enter_context(Peer(command))
        yield peers


@pytest.fixture(scope="module")
def clients(without_node: str) -> Iterator[dict[str, Peer]]:
    """The third parties' clients, started together."""
    commands = {
        "websockets": python("websockets_client.py"),
        "aiohttp": python("aiohttp_client.py"),
        "picows": python("picows_client.py"),
        "ws": node("node_client.js"),
    }
    yield from _peers(commands, without_node)


@pytest.fixture(scope="module")
def servers(without_node: str, tls_files: dict[str, str]) -> Iterator[dict[str, Peer]]:
    """The third parties' servers, started together."""
    certs = [tls_files["cert"], tls_files["key"]]
    commands = {
        "websockets": [*python("websockets_server.py"), *certs],
        "aiohttp": [*python("aiohttp_server.py"), *certs],
        "picows": [*python("picows_server.py"), *certs],
        "ws": [*node("node_server.js"), *certs],
    }
    yield from _peers(commands, without_node)


def _peer(peers: dict[str, Peer], without_node: str, request: pytest.FixtureRequest) -> Iterator[Peer]:
    peer = peers.get(request.param)
    if peer is None:
        pytest.skip(without_node)
    yield peer
    peer.settle(request.node.stash.get(failed_key, False))


@pytest.fixture(params=["websockets", "aiohttp", "picows", "ws"])
def client(clients: dict[str, Peer], without_node: str, request: pytest.FixtureRequest) -> Iterator[Peer]:
    """A third party's client."""
    yield from _peer(clients, without_node, request)


@pytest.fixture(params=["websockets", "aiohttp", "picows", "ws"])
def server(servers: dict[str, Peer], without_node: str, request: pytest.FixtureRequest) -> Iterator[Peer]:
    """A third party's server."""
    yield from _peer(servers, without_node, request)


class Served:
    """Our server, and what became of each request: ``result()`` returns what its handler did, or raises what it raised."""

    def __init__(self, handler: Callable[..., Any], **options: Any) -> None:
        self._results = channel.new()
        self._handler = handler
        self.http: http.Server = check(http.listen("127.0.0.1:0", self._handle, **options))
        self.address = f"127.0.0.1:{self.http.port}"

    def _handle(self, stream: http.ServerStream) -> None:
        try:
            self._results.push((self._handler(stream), None))
        except Exception as exc:
            traceback.print_exc()  # the other side may fail for it first
            self._results.push((None, exc))
            raise

    def result(self) -> Any:
        """The result of the handler that ended first of those not asked for yet."""
        value, exc = pop(self._results, "a handler's end")
        if exc is not None:
            raise exc
        return value

    def close(self) -> None:
        """Stops listening."""
        self.http.close()


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(handler)``: an HTTP server of ours for the test."""
    with contextlib.ExitStack() as stack:

        def start(handler: Callable[..., Any], **options: Any) -> Served:
            return stack.enter_context(contextlib.closing(Served(handler, **options)))

        yield start


@pytest.fixture
def serve_ws(serve: Serve) -> Serve:
    """``serve_ws(handler)``: an HTTP server of ours that upgrades, with the options given, and calls ``handler(sock)``."""

    def start(
        handler: Callable[[websocket.Socket], Any], *, compression: Any = False, subprotocols: Any = None, **options: Any
    ) -> Served:
        def upgraded(stream: http.ServerStream) -> Any:
            sock, err = websocket.upgrade(stream, compression=compression, subprotocols=subprotocols)
            return err if sock is None else handler(sock)

        return serve(upgraded, **options)

    return start
