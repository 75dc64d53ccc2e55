"""What an answered HTTP request costs the server."""

from __future__ import annotations

from collections.abc import Iterator

from harness.candidates import node, ours, peer
from harness.load import Load
from harness.results import Row
from harness.servers import Settings, load_row

TITLE = "HTTP hello"
RUNS = 5

CANDIDATES = [
    ours("http_hello.py"),
    peer("uvicorn+uvloop+httptools", "uvicorn_hello.py", "uvicorn uvloop httptools"),
    peer("granian+uvloop", "granian_hello.py", "granian uvloop"),
    peer("socketify", "socketify_server.py", "socketify"),
    node("http", "node_hello.js"),
    peer("aiohttp+uvloop", "aiohttp_server.py", "aiohttp uvloop"),
    peer("gevent pywsgi", "gevent_hello.py", "gevent"),
    peer("tornado", "tornado_server.py", "tornado"),
]
BROWSER = "".join(
    f"{line}\r\n"
    for line in (
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Language: en-GB,en;q=0.5",
        "Accept-Encoding: gzip, deflate",
        "Connection: keep-alive",
        "Cookie: session=5f2b1c9e8d7a4b6c; theme=dark",
        "Upgrade-Insecure-Requests: 1",
        "Priority: u=0, i",
        "Cache-Control: no-cache",
        "Pragma: no-cache",
    )
)
BODY = "Hello from Silly!"
LOADS = [
    Load(name="64 connections, Host alone", mode="http", connections=64, path="/hello", body=BODY),
    Load(name="64 connections, a browser's headers", mode="http", connections=64, path="/hello", body=BODY, headers=BROWSER),
]


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    for load in LOADS:
        yield load_row(load, CANDIDATES, settings, "CPU µs a request")
