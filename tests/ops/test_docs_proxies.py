"""The code of docs/deploying.md, "Behind proxies", runs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from silly import check
from silly._wire.forwarded import HOPS
from silly._wire.proxy_protocol import LONGEST_LINE, LONGEST_REST
from silly.net import tcp, tls

from ..helpers import Raw, turn
from ..net import authorities

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "deploying.md").read_text()
PART = TEXT.partition("\n## Behind proxies\n")[2].partition("\n## ")[0]


@pytest.fixture
def guide() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", PART, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    return namespace


def said(addr: str, *fields: str) -> str:
    with Raw(check(tcp.connect(addr))) as client:
        client.request("/", "GET", *fields)
        return client.response().body.decode().strip()


def test_http_proxies(guide: dict[str, Any], tmp_path: Path) -> None:
    with check(guide["behind_http_proxies"]("127.0.0.1:0")) as server:
        fields = "X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.1.2.3", "X-Forwarded-Proto: https"
        assert said(server.addr, *fields) == "192.0.2.1:0 by https"
    with check(guide["behind_a_unix_socket"](tmp_path / "s")) as server:
        assert os.stat(tmp_path / "s").st_mode & 0o777 == 0o660
        assert said(server.addr, 'Forwarded: for="192.0.2.1:80";proto=https') == "192.0.2.1:80 by https"
    turn(5)


def test_tcp_proxies(guide: dict[str, Any], logs: Any) -> None:
    logs.expect("only the proxies in trusted may connect here")
    logs.allow("tls.connect 127.0.0.1")
    listener = check(guide["behind_tcp_proxies"]("127.0.0.1:0", [authorities.server().entry], lambda conn: conn.close()))
    with listener:
        conn, err = tls.connect(listener.addr)
        assert conn is None
        assert err is not None


def test_the_numbers() -> None:
    assert f"more than {HOPS} elements" in PART.replace("\n  ", " ")
    assert f"at most {LONGEST_LINE} bytes" in PART
    assert LONGEST_REST == 4 * 1024
    assert "at most 4 KiB behind its first 16 bytes" in PART
