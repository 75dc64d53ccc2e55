"""The programs of docs/porting/http.md and tls.md: Lua and Python match line for line, the Python runs.

The code runs as it stands. Around it, a listener gets a free port of the loopback, a server there
stands for the hosts outside, and a real key or certificate replaces one that the page shortens.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

import silly
from silly import errno
from silly.net import http, tls

from .helpers import Raw, serving, turn
from .net.support import until
from .test_porting import lua_statements, python_statements

PAGES = Path(__file__).resolve().parent.parent / "docs/porting"
SECTION = re.compile(r"^## (.+?)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def sections(page: str) -> dict[str, tuple[str, str]]:
    """The programs of a page by their headings: Lua and Python."""
    found = {}
    for title, text in SECTION.findall((PAGES / page).read_text()):
        (lua,) = re.findall(r"```lua\n(.*?)```", text, re.DOTALL)
        (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        found[title] = lua, python
    return found


def line_for_line(lua: str, python: str) -> None:
    """The two programs are of about the same length. Python adds `def main`, `global` and `return`; Lua declares its variables,
    and counts the functions in an expression."""
    ours, theirs = python_statements(python) + 1, lua_statements(lua)
    assert abs(ours - theirs) <= 4, (ours, theirs)


HTTP, TLS = sections("http.md"), sections("tls.md")
EVERY = [*HTTP.items(), *TLS.items()]


@pytest.mark.parametrize("example", EVERY, ids=lambda example: example[0])
def test_line_for_line(example: tuple[str, tuple[str, str]]) -> None:
    line_for_line(*example[1])


def test_every_example_is_run() -> None:
    """Each heading of the pages has a test here that names it."""
    source = Path(__file__).read_text()
    for page, found in (("HTTP", HTTP), ("TLS", TLS)):
        for title in found:
            assert f'{page}["{title}"]' in source, title


class Stage:
    """Where the programs run. ``run`` executes one; ``listeners`` holds those that it made."""

    def __init__(self) -> None:
        self.listeners: list[Any] = []
        self.outside = ""
        """The address that stands for every host outside."""
        authority = trustme.CA()
        self.ca = authority.cert_pem.bytes().decode()
        names = ("oracle.example.com",), ("renewed.example.com",)
        self._certs = [authority.issue_cert("127.0.0.1", *each) for each in names]
        self._client = http.newclient()
        self._http = SimpleNamespace(
            listen=self._listening(http.listen),
            get=lambda url, *args: self._client.get(self._here(url), *args),
            post=lambda url, *args: self._client.post(self._here(url), *args),
            request=lambda method, url, *args: self._client.request(method, self._here(url), *args),
        )
        self._tls = SimpleNamespace(listen=self._listening(tls.listen), connect=self._connect)

    def _listening(self, listen: Callable[..., Any]) -> Callable[..., Any]:
        def listening(**conf: Any) -> Any:
            assert re.fullmatch(r"(127\.0\.0\.1)?:\d+", conf["addr"])
            listener, err = listen(**{**conf, "addr": "127.0.0.1:0"})
            assert err is None
            self.listeners.append(listener)
            return listener, err

        return listening

    def _here(self, url: str) -> str:
        here, found = re.subn(r"^http://[a-z0-9.]*example\.com", f"http://{self.outside}", url)
        assert found
        return here

    def _connect(self, addr: str, opts: dict[str, Any] | None = None) -> Any:
        return tls.connect(self.outside, {"hostname": addr.rpartition(":")[0], **(opts or {}), "ca": self.ca})

    def connect(self, **opts: Any) -> Any:
        """A connection to the TLS server of an example."""
        return silly.check(tls.connect(self.listeners[0].addr, {**opts, "ca": self.ca}))

    def pem(self, number: int = 0) -> tuple[str, str]:
        """A certificate and its key."""
        cert = self._certs[number]
        return "".join(blob.bytes().decode() for blob in cert.cert_chain_pems), cert.private_key_pem.bytes().decode()

    def host_outside(self, accept: Callable[[Any], object], **options: Any) -> Any:
        """A TLS listener that stands for the hosts outside."""
        cert, key = self.pem()
        listener = silly.check(tls.listen(addr="127.0.0.1:0", certs=[{"cert": cert, "key": key}], accept=accept, **options))
        self.listeners.append(listener)
        self.outside = listener.addr
        return listener

    def run(self, example: tuple[str, str]) -> dict[str, Any]:
        """Runs the Python of a program until its tasks wait, and returns its names."""
        source = example[1]
        numbers = {"CERTIFICATE": iter((0, 1)), "PRIVATE KEY": iter((0, 1))}

        def real(match: re.Match[str]) -> str:
            number = next(numbers[match[1]])
            return repr(self.pem(number)[match[1] != "CERTIFICATE"])

        source = re.sub(r'"""-----BEGIN ([A-Z ]+)-----\n\.\.\.\n-----END \1-----\n"""', real, source)
        source = re.sub(r'"-----BEGIN ([A-Z ]+)-----\\n\.\.\."', real, source)
        source, found = re.subn(r"(?m)^from silly\.net import (http|tls)$", "", source)
        assert found == 1
        namespace: dict[str, Any] = {"http": self._http, "tls": self._tls}
        exec(source, namespace)
        turn(3)
        return namespace

    def url(self, target: str = "/") -> str:
        return f"http://{self.listeners[-1].addr}{target}"

    def close(self) -> None:
        for each in (*self.listeners, self._client):
            each.close()
        turn(3)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def client() -> Iterator[Any]:
    """A client of the test's own."""
    with http.newclient() as client:
        yield client
    turn(3)


Output = pytest.CaptureFixture[str]


def got(pair: Any) -> tuple[int, str]:
    response = silly.check(pair)
    return response.status, response.text


def printed(capsys: Output, *lines: str) -> None:
    """Waits for as many lines as ``lines``; the output must be these and no others."""
    text = ""

    def done() -> bool:
        nonlocal text
        text += capsys.readouterr().out
        return text.count("\n") >= len(lines)

    until(done)
    assert text.splitlines() == list(lines)


# ---- HTTP: servers --------------------------------------------------------------------------------------------------


def test_a_server_that_closes_itself(stage: Stage, client: Any, capsys: Output) -> None:
    stage.run(HTTP["A server that closes itself"])
    for number in (1, 2, 3):
        assert got(client.get(stage.url())) == (200, f"You are number {number}")
    printed(capsys, "The office is closed")
    assert client.get(stage.url())[0] is None


def test_status_fields_body(stage: Stage, client: Any) -> None:
    stage.run(HTTP["Status, fields, body"])
    coffee = silly.check(client.get(stage.url("/coffee")))
    assert (coffee.status, coffee.text, coffee.header["x-spout"]) == (418, "I only make tea", "short, left")
    tea = silly.check(client.get(stage.url("/tea")))
    assert (tea.status, tea.text, tea.header["location"]) == (303, "", "/cup")
    assert got(client.get(stage.url("/milk"))) == (204, "")


def test_a_body_that_is_read(stage: Stage, client: Any, capsys: Output, logs: Any) -> None:
    stage.run(HTTP["A body that is read"])
    for line in ("J\xf6rg was here", "", "So was I"):
        assert got(client.post(stage.url(), None, line)) == (201, "")
    assert got(client.get(stage.url())) == (200, "J\xf6rg was here\n\nSo was I")
    refused = silly.check(client.fetch("DELETE", stage.url()))
    assert (refused.status, refused.header["allow"]) == (405, "GET, POST")
    logs.expect("INFO http: .*: the request's body is incomplete")
    with Raw.connect(stage.listeners[0]) as guest:
        guest.request("/", "POST", "Content-Length: 10", body="half")
        guest.half_close()
        printed(capsys, f"A guest left: the request's body is incomplete: {errno.EOF}")


def test_a_body_in_pieces(stage: Stage, client: Any, capsys: Output, logs: Any) -> None:
    stage.run(HTTP["A body that is written in pieces"])
    assert got(client.get(stage.url())) == (200, "3\n2\n1\nlift-off\n")
    assert got(client.get(stage.url("/?from=1"))) == (200, "1\nlift-off\n")
    logs.expect("ValueError")
    assert got(client.get(stage.url("/?from=now")))[0] == 500
    with Raw.connect(stage.listeners[0]) as pad:
        pad.request("/?from=100000")
        pad.read("100000\n")
        pad.reset()
    until(lambda: "Launch called off: " in capsys.readouterr().out)


def test_json(stage: Stage, client: Any) -> None:
    stage.run(HTTP["JSON in, JSON out"])

    def post(body: str, content_type: str = "application/json") -> Any:
        return silly.check(client.post(stage.url(), {"content-type": content_type}, body))

    assert post('{"celsius": 21.5}').json() == {"readings": 1, "warmest": 21.5}
    assert post('{"celsius": -3}').json() == {"readings": 2, "warmest": 21.5}
    for body in ("{", "[]", "{}", '{"celsius": "hot"}', ""):
        assert (post(body).status, post(body).text) == (422, "celsius is missing")
    assert got((post("x", "text/plain"), None)) == (415, "send JSON")


def test_what_a_client_says(stage: Stage, client: Any, capsys: Output) -> None:
    stage.run(HTTP["What a client says of itself"])
    agent = {"user-agent": "a test"}
    assert got(client.get(stage.url(), {**agent, "accept-language": "de-AT,en;q=0.5"})) == (200, "Guten Tag")
    assert got(client.get(stage.url("/?loud=yes"), {**agent, "accept-language": "fr"})) == (200, "BONJOUR")
    assert got(client.get(stage.url("/?loud=no"), agent)) == (200, "Good day")
    printed(capsys, *["a test came by HTTP/1.1"] * 3)


def test_https(stage: Stage, capsys: Output) -> None:
    stage.run(HTTP["HTTPS"])
    printed(capsys, "The vault is open")
    with http.newclient(ca=stage.ca) as client:
        assert got(client.get(f"https://{stage.listeners[0].addr}/")) == (200, "You came by https")


# ---- HTTP: clients --------------------------------------------------------------------------------------------------


class World:
    """The hosts outside: notes each request, and answers it by ``answers``, else with 404 and "nothing"."""

    def __init__(self, answers: dict[str, tuple[int, dict[str, str], str]] | None = None) -> None:
        self.asked: list[str] = []
        """``"METHOD target content-type body"`` of each request."""
        self.connections: set[str] = set()
        self.agents: set[str | None] = set()
        self._answers = answers or {}

    def __call__(self, stream: Any) -> None:
        body = silly.check(stream.readall()).decode()
        self.asked.append(f"{stream.method} {stream.target} {stream.header['content-type']} {body}")
        self.connections.add(stream.remoteaddr)
        self.agents.add(stream.header["user-agent"])
        status, header, answer = self._answers.get(stream.target, (404, {}, "nothing"))
        stream.respond(status, header)
        stream.closewrite(answer)


ORDER = 'POST /orders application/json {"dish": "soup", "bowls": 2}'
DIARY = "PUT /diary text/plain Monday: rain\nTuesday: rain\nWednesday: rain\nThursday: sun\n"
PLAIN = {"content-type": "text/plain"}


@pytest.mark.parametrize(
    ("example", "answers", "asked", "line"),
    [
        (HTTP["Is a page there?"], {"/today": (200, PLAIN, "news")}, ["GET /today None "], "4 bytes of text/plain"),
        (HTTP["Is a page there?"], {"/today": (200, {}, "")}, ["GET /today None "], "0 bytes of something"),
        (HTTP["Is a page there?"], {}, ["GET /today None "], "broken: 404"),
        (
            HTTP["An order by POST"],
            {"/orders": (201, {"location": "/orders/8"}, '{"minutes": 12}')},
            [ORDER],
            "Ready in 12 minutes: /orders/8",
        ),
        (
            HTTP["A request that goes out in pieces"],
            {"/diary": (201, {"location": "/diary/3"}, "")},
            [DIARY],
            "Kept as /diary/3",
        ),
        (HTTP["A request that goes out in pieces"], {}, [DIARY], "Not kept: 404 b'nothing' None"),
        (
            HTTP["Several at a time"],
            {"/oslo": (200, {}, "-4.5"), "/lima": (200, {}, "19"), "/pune": (200, {}, "31")},
            [f"GET /{town} None " for town in ("lima", "oslo", "pune")],
            "oslo -4.5 lima 19.0 pune 31.0",
        ),
        (
            HTTP["One after the other"],
            {"/novel?page=1": (200, {}, "It was  a\ndark"), "/novel?page=2": (200, {}, "night")},
            [f"GET /novel?page={number} None " for number in (1, 2, 3)],
            "5 words on 2 pages",
        ),
    ],
    ids=["get", "get-empty", "get-404", "post", "request", "request-404", "several", "one-after-the-other"],
)
def test_clients(
    stage: Stage,
    capsys: Output,
    example: tuple[str, str],
    answers: dict[str, tuple[int, dict[str, str], str]],
    asked: list[str],
    line: str,
) -> None:
    world = World(answers)
    with serving(world) as server:
        stage.outside = server.addr
        stage.run(example)
        printed(capsys, line)
        stage.close()
    assert sorted(world.asked) == asked
    if example is HTTP["Is a page there?"]:
        assert world.agents == {"link-check"}
    if example is HTTP["One after the other"]:
        assert len(world.connections) == 1


@pytest.mark.parametrize(
    ("example", "line"),
    [
        (HTTP["Is a page there?"], "down: http GET http://"),
        (HTTP["An order by POST"], "The kitchen doesn't answer: http POST http://"),
        (HTTP["A request that goes out in pieces"], "The archive is closed: http PUT http://"),
        (HTTP["Several at a time"], "oslo None lima None pune None"),
        (HTTP["One after the other"], "0 words on 0 pages"),
    ],
    ids=["get", "post", "request", "several", "one-after-the-other"],
)
def test_clients_without_a_server(stage: Stage, capsys: Output, example: tuple[str, str], line: str) -> None:
    with serving(World()) as server:
        stage.outside = server.addr
    stage.run(example)
    until(lambda: line in capsys.readouterr().out)


# ---- TLS ------------------------------------------------------------------------------------------------------------


def test_tls_server(stage: Stage, capsys: Output) -> None:
    stage.run(TLS["A server of lines"])
    with stage.connect() as one, stage.connect() as other:
        one.write("hey\n")
        assert one.read("hey\nhey\n") == (b"hey\nhey\n", None)
        other.write("stop\nstill?\n")
        assert other.read("still?\nstill?\n") == (b"still?\nstill?\n", None)
        assert tls.connect(stage.listeners[0].addr, {"ca": stage.ca}) == (None, errno.CONNREFUSED)
        one.write("hey\n")
        assert one.read("hey\nhey\n") == (b"hey\nhey\n", None)
        one.close()
        other.close()
        text = ""

        def done() -> bool:
            nonlocal text
            text += capsys.readouterr().out
            return text.count("\n") == 4

        until(done)
    lines = text.splitlines()
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+ enters the canyon", line) for line in lines[:2])
    assert lines[2:] == [f"No more shouts: {errno.EOF}"] * 2


def test_tls_client(stage: Stage, capsys: Output) -> None:
    def answer(conn: Any) -> None:
        assert conn.read("\n") == (b"What walks on four legs?\n", None)
        conn.write("A table\n")
        conn.close()

    listener = stage.host_outside(answer, alpnprotos=["riddle/1"])
    stage.run(TLS["A client"])
    printed(capsys, f"{listener.addr} speaks riddle/1", "It says b'A table\\n'")
    listener.close()
    stage.run(TLS["A client"])
    printed(capsys, f"The oracle is silent: {errno.CONNREFUSED}")


def test_tls_new_certificates(stage: Stage, capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    monkeypatch.chdir(tmp_path)

    def renew(number: int) -> None:
        for name, pem in zip(("site.crt", "site.key"), stage.pem(number), strict=True):
            (tmp_path / name).write_text(pem)

    try:
        renew(0)
        stage.run(TLS["New certificates while it runs"])
        for number, name in ((0, "oracle.example.com"), (1, "renewed.example.com")):
            renew(number)
            os.kill(os.getpid(), signal.SIGHUP)
            printed(capsys, "A new certificate")
            with stage.connect(hostname=name) as conn:
                assert conn.read("\n") == (b"still here\n", None)
        (tmp_path / "site.key").write_text("no key")
        logs.expect("ERROR listener .*: reload: ")
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: "listener.reload: " in capsys.readouterr().out)
        stage.connect(hostname="renewed.example.com").close()
    finally:
        silly.signal("SIGHUP", None)


def test_tls_as_long_as_somebody_listens(stage: Stage, capsys: Output) -> None:
    stage.run(TLS["As long as somebody listens"])
    with stage.connect() as conn:
        assert conn.read("song 3\n") == (b"song 1\nsong 2\nsong 3\n", None)
    printed(capsys, "Nobody listens any more")


@pytest.mark.parametrize(
    ("offered", "heard"),
    [
        (["song/1"], b"la la la\n"),
        (["song/1", "poem/1"], b"roses are red\n"),
        (None, b"la la la\n"),
    ],
    ids=["one", "both", "none"],
)
def test_tls_two_protocols(stage: Stage, offered: list[str] | None, heard: bytes) -> None:
    stage.run(TLS["Two protocols on one port"])
    with stage.connect(alpnprotos=offered) as conn:
        assert conn.read("\n") == (heard, None)


def test_tls_parcels(stage: Stage, capsys: Output) -> None:
    stage.run(TLS["Parcels: a length, then so many bytes"])
    with stage.connect() as conn:
        conn.write(b"\x00\x04nuts\x00\x05bolts")
        printed(capsys, "b'nuts' 7 bytes wait", "b'bolts' 0 bytes wait")
