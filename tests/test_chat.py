"""The flagship example, examples/chat.py, in a process of its own, driven by silly's WebSocket client. No browser here."""

from __future__ import annotations

import base64
import hashlib
import http.client
import importlib.util
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from silly import env, time
from silly._wire.ws import CLOSE, FIN, TEXT, close_payload, frame, masked_frame
from silly.net import websocket

ROOT = Path(__file__).parents[1]
CHAT = ROOT / "examples" / "chat.py"
WAIT = 20_000
"""Milliseconds; only bounds a test that fails."""


class ChatServer:
    """The chat as a person starts it, with Python's own checks on. ``stop`` ends it, and looks at how it ended."""

    def __init__(self, directory: Path, port: int = 0) -> None:
        self._signalled = False
        self._errors = open(directory / "chat.stderr", "w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-m", "silly", str(CHAT), f"--port={port}"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        try:
            assert self._process.stdout is not None
            assert select.select([self._process.stdout], [], [], WAIT / 1000)[0], "it says nothing"
            line = self._process.stdout.readline().decode()
            match = re.fullmatch(r"Open (http://127\.0\.0\.1:([0-9]+)/) in two browser windows\n", line)
            assert match is not None, f"{line!r}; on stderr: {self.errors()}"
        except BaseException:
            self._end()
            raise
        self.url = match[1]
        self.port = int(match[2])

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def signal(self) -> None:
        """SIGTERM, once: a second would end it at once."""
        if not self._signalled:
            self._signalled = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        if self._errors.closed:
            return
        self.signal()
        try:
            self._process.wait(WAIT / 1000)
            errors = self.errors()
        finally:
            self._end()
        assert self._process.returncode == 0, errors
        assert not re.search("Traceback|Exception|Warning|ERROR|WARN", errors), errors

    def _end(self) -> None:
        """Whatever happened, nothing stays."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._errors.close()
        if self._process.stdout is not None:
            self._process.stdout.close()


class InProcess:
    """The chat in the test's own process: the test fails if it leaves a task, a timer or a descriptor behind."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        env.set("port", "0")
        spec = importlib.util.spec_from_file_location("chat_example", CHAT)
        assert spec is not None
        assert spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        env.set("port", None)
        self.port = self.module.server.port
        assert capsys.readouterr().out == f"Open http://127.0.0.1:{self.port}/ in two browser windows\n"

    def stop(self) -> None:
        self.module.server.close()


class Person:
    """A client in the test's process, with silly's own WebSocket."""

    def __init__(self, server: ChatServer | InProcess, name: str | None = None) -> None:
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}/chat", timeout=WAIT)
        assert sock is not None, err
        self.sock = sock
        if name is not None:
            self.tell(op="name", name=name)
            self.welcome = self.hear()
            assert self.welcome["op"] == "welcome"
            self.name = self.welcome["name"]

    def tell(self, **msg: Any) -> None:
        ok, err = self.sock.write(json.dumps(msg, ensure_ascii=False), "text")
        assert ok, err

    def say(self, text: str) -> None:
        self.tell(op="say", text=text, id=os.urandom(8).hex())

    def hear(self, within: int = WAIT) -> dict[str, Any]:
        data, typ = self.sock.read(within)
        assert typ == "text", (data, typ)
        msg = json.loads(data)
        assert isinstance(msg, dict)
        return msg

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[ChatServer]:
    server = ChatServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    """One server for the tests that don't look at who else is there."""
    server = ChatServer(tmp_path_factory.mktemp("chat"))
    yield server
    server.stop()


# ---- people -----------------------------------------------------------------------------------------------------


def test_people_join_and_leave(chat):
    with Person(chat, "ann") as ann:
        assert ann.welcome == {"op": "welcome", "name": "ann", "people": ["ann"], "history": []}
        before = time.now()
        with Person(chat, "ben") as ben:
            assert ben.welcome["people"] == ["ann", "ben"]
            joined = ann.hear()
            assert before <= joined.pop("at") <= time.now()
            assert joined == {"op": "joined", "name": "ben"}
        left = ann.hear()
        assert before <= left.pop("at") <= time.now()
        assert left == {"op": "left", "name": "ben"}
        with Person(chat, "cleo") as cleo:
            assert cleo.welcome["people"] == ["ann", "cleo"]


def test_a_lost_client_has_left(chat):
    with Person(chat, "ann") as ann:
        ben = Person(chat, "ben")
        assert ann.hear()["op"] == "joined"
        ben.sock.conn.close()  # no closing handshake
        assert ann.hear()["op"] == "left"
        ben.sock.close()


def test_a_client_without_a_name_never_joined(chat):
    with Person(chat, "ann") as ann:
        with Person(chat):
            pass
        with Person(chat, "ben"):
            assert ann.hear()["name"] == "ben"


def test_names_are_unique(chat):
    with Person(chat, "ann") as first, Person(chat, "ann") as second, Person(chat, "ANN") as third:
        assert [p.name for p in (first, second, third)] == ["ann", "ann (2)", "ANN (3)"]
        with Person(chat, "ann (2)") as fourth:
            assert fourth.name == "ann (2) (2)"
    with Person(chat, "ann") as again:
        assert again.name == "ann"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("  ann \t\n smith ", "ann smith"),
        ("x" * 200, "x" * 24),
        ("x" * 23 + " y", "x" * 23),
        ("a\u202eb\u200b\x00c\ufeff", "a b c"),
        ("\uff41nn", "ann"),
        ("\ufdfa", "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647 \u0639\u0644\u064a\u0647 \u0648\u0633\u0644\u0645"),
        ("<img src=x onerror=alert()>", "<img src=x onerror=alert"),
        ("\ud800ann", "ann"),
    ],
)
def test_names_are_tidied(chat, given, shown):
    with Person(chat) as person:
        ok, err = person.sock.write(json.dumps({"op": "name", "name": given}), "text")
        assert ok, err
        assert person.hear()["name"] == shown


def test_a_name_can_be_changed(chat):
    with Person(chat, "ann") as ann, Person(chat, "ben") as ben:
        assert ann.hear()["op"] == "joined"
        ben.tell(op="name", name="Benno")
        for each in (ann, ben):
            msg = each.hear()
            assert msg.pop("at") > 0
            assert msg == {"op": "renamed", "old": "ben", "name": "Benno"}
        ben.tell(op="name", name="ann")
        assert [each.hear()["name"] for each in (ann, ben)] == ["ann (2)"] * 2
        ben.tell(op="name", name="ann")
        assert ben.hear() == {"op": "error", "text": "your name is ann (2) already", "id": None}
        with Person(chat, "cleo") as cleo:
            assert cleo.welcome["people"] == ["ann", "ann (2)", "cleo"]


# ---- messages ---------------------------------------------------------------------------------------------------


def test_everyone_gets_each_message(chat):
    with Person(chat, "ann") as ann, Person(chat, "ben") as ben:
        assert ann.hear()["op"] == "joined"
        before = time.now()
        ben.tell(op="say", text=" <b>hello</b> \u05e9\u05dc\u05d5\u05dd\n\U0001f33f ", id="one")
        for each in (ann, ben):
            said = each.hear()
            assert before <= said.pop("at") <= time.now()
            text = "<b>hello</b> \u05e9\u05dc\u05d5\u05dd\n\U0001f33f"
            assert said == {"op": "said", "id": "one", "name": "ben", "text": text}


def test_a_newcomer_gets_the_last_fifty(chat):
    with Person(chat, "ann") as ann:
        for n in range(60):
            ann.say(str(n))
        said = [ann.hear() for _ in range(60)]
        with Person(chat, "ben") as ben:
            assert ben.welcome["history"] == said[-50:]
            assert [msg["text"] for msg in ben.welcome["history"]] == [str(n) for n in range(10, 60)]


def test_a_message_sent_twice_appears_once(chat):
    """A page whose connection broke can't know whether its message arrived."""
    with Person(chat, "ann") as ann:
        with Person(chat, "ben") as ben:
            assert ann.hear()["op"] == "joined"
            ben.tell(op="say", text="hello", id="one")
            said = ben.hear()
            assert ann.hear() == said
        assert ann.hear()["op"] == "left"
        with Person(chat, "ben") as ben:
            assert ann.hear()["op"] == "joined"
            assert ben.welcome["history"] == [said]
            ben.tell(op="say", text="hello", id="one")
            assert ben.hear() == said
            ben.tell(op="say", text="bye", id="two")
            assert ann.hear()["id"] == "two"


def test_ping_and_pong_are_not_messages(chat):
    with Person(chat, "ann") as ann:
        ann.sock.write("x", "pong")
        ann.sock.write("x", "ping")
        assert ann.sock.read(WAIT) == (b"x", "pong")
        ann.say("still here")
        assert ann.hear()["text"] == "still here"


NESTED = "[" * 15_000
BAD: list[tuple[str, str | bytes, str]] = [
    ("nothing", "", "this is no JSON"),
    ("no JSON", "hello", "this is no JSON"),
    ("half JSON", '{"op": "say"', "this is no JSON"),
    ("nested JSON", NESTED, "this is no JSON"),
    ("an endless number", "9" * 15_000, "this is no JSON"),
    ("binary", b'{"op": "say", "text": "x", "id": "1"}', "messages are text, not binary"),
    ("null", "null", "unknown op"),
    ("a list", '[{"op": "say"}]', "unknown op"),
    ("a text", '"say"', "unknown op"),
    ("no op", "{}", "unknown op"),
    ("an unknown op", '{"op": "shout", "text": "x", "id": "1"}', "unknown op"),
    ("an op of the server's", '{"op": "welcome"}', "unknown op"),
    ("an op that is a list", '{"op": ["say"]}', "unknown op"),
    ("no text", '{"op": "say", "id": "1"}', "text must be a text"),
    ("a number for text", '{"op": "say", "text": 1, "id": "1"}', "text must be a text"),
    ("NaN for text", '{"op": "say", "text": NaN, "id": "1"}', "text must be a text"),
    ("no id", '{"op": "say", "text": "x"}', "id must be a text"),
    ("a list for the id", '{"op": "say", "text": "x", "id": ["1"]}', "id must be a text"),
    ("a long id", '{"op": "say", "text": "x", "id": "%s"}' % ("1" * 41), "id is longer than 40 characters"),
    ("a long text", '{"op": "say", "text": "%s", "id": "1"}' % ("x" * 2001), "text is longer than 2000 characters"),
    ("null for the name", '{"op": "name", "name": null}', "name must be a text"),
    ("a long name", '{"op": "name", "name": "%s"}' % ("x" * 201), "name is longer than 200 characters"),
    ("an empty name", '{"op": "name", "name": " \\u200b\\u202e "}', "a name needs letters or digits"),
]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("data", "why"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_answered_and_changes_nothing(shared, data, why, named):
    with Person(shared, "ann" if named else None) as person:
        assert person.sock.write(data, "binary" if isinstance(data, bytes) else "text")
        assert person.hear() == {"op": "error", "text": why, "id": None}
        if not named:
            person.tell(op="name", name="ann")
            assert person.hear()["op"] == "welcome"
        person.say("still here")
        assert person.hear()["text"] == "still here"


def test_a_message_before_the_name_is_not_said(shared):
    with Person(shared) as person:
        person.tell(op="say", text="hello", id="early")
        assert person.hear() == {"op": "error", "text": "say who you are first", "id": "early"}
        person.tell(op="name", name="ann")
        assert "early" not in [msg["id"] for msg in person.hear()["history"]]


def test_an_empty_message_is_not_said(shared):
    with Person(shared, "ann") as ann:
        ann.tell(op="say", text=" \n\x1f", id="blank")
        assert ann.hear() == {"op": "error", "text": "the message is empty", "id": "blank"}


def test_a_lone_surrogate_passes(shared):
    """JavaScript's strings may hold one; the connection must survive it."""
    with Person(shared, "ann") as ann:
        assert ann.sock.write(json.dumps({"op": "say", "text": "\ud800", "id": os.urandom(8).hex()}), "text")
        assert ann.hear()["text"] == "\ud800"


def test_a_message_too_large_to_look_at_ends_the_connection(shared):
    with Person(shared, "ann") as ann:
        ann.tell(op="say", text="x" * 40_000, id="1")
        _data, typ = ann.sock.read(WAIT)
        assert (typ, ann.sock.closecode) == ("close", 1009)


def test_a_flood_drops_no_reader(chat):
    """Three people send as fast as they can; each one that reads gets everything."""
    with Person(chat, "quiet") as quiet:
        noisy = [Person(chat, f"noisy {n}") for n in range(3)]
        for _ in range(120):
            for each in noisy:
                each.say("x")
        said = 0
        while said < 3 * 120:
            said += quiet.hear()["op"] == "said"
        for each in noisy:
            said = 0
            while said < 3 * 120:
                said += each.hear()["op"] == "said"
            each.sock.close()


# ---- a client that has stopped reading --------------------------------------------------------------------------


def stalled(port: int, name: str) -> socket.socket:
    """A client that joins, and never reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(WAIT / 1000)
    sock.connect(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET /chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    hello = json.dumps({"op": "name", "name": name}).encode()
    sock.sendall(request.encode() + masked_frame(FIN | TEXT, hello, b"abcd"))
    return sock


def read_to_end(sock: socket.socket, goodbye: bytes) -> bytes:
    """All that waits for the one who never read, who answers ``goodbye``. The loop turns meanwhile: the server may be in this
    process."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
    sock.setblocking(False)
    end = time.monotonic() + WAIT
    got = bytearray()
    while True:
        try:
            data = sock.recv(2**16)
        except BlockingIOError:
            assert time.monotonic() < end, "it doesn't end"
            time.sleep(1)
            continue
        if not data:
            return bytes(got)
        if (got + data).endswith(goodbye):
            sock.sendall(masked_frame(FIN | CLOSE, close_payload(1013), b"abcd"))
        got += data


@pytest.mark.parametrize("where", ["in its own process", "in this process"])
def test_a_client_that_stops_reading_delays_no_other_and_is_dropped(where, tmp_path, capsys):
    server = ChatServer(tmp_path) if where == "in its own process" else InProcess(capsys)
    ann, ben = Person(server, "ann"), Person(server, "ben")
    assert ann.hear()["op"] == "joined"
    slow = stalled(server.port, "slow")
    assert [each.hear()["name"] for each in (ann, ben)] == ["slow"] * 2
    text = "\U0001f40c" * 2000
    left = set()
    for _ in range(300):
        for each in (ann, ben):
            each.say(text)
        for each in (ann, ben):
            said = 0
            while said < 2:
                msg = each.hear(within=1000)
                said += msg["op"] == "said"
                if msg["op"] == "left":
                    assert msg["name"] == "slow"
                    left.add(each)
        if len(left) == 2:
            break
    else:
        pytest.fail("it is never dropped")
    goodbye = frame(FIN | CLOSE, close_payload(1013, "too slow: messages were lost"))
    got = read_to_end(slow, goodbye)
    assert got.endswith(goodbye)
    assert got.count(goodbye) == 1
    slow.close()
    for each in (ann, ben):
        each.sock.close()
    server.stop()


def test_a_bug_ends_only_its_connection(capsys, logs):
    def broken(client: object, msg: object) -> None:
        raise ZeroDivisionError("a bug")

    server = InProcess(capsys)
    with Person(server, "ann") as ann:
        ben = Person(server, "ben")
        assert ann.hear()["op"] == "joined"
        good = server.module.OPS["say"]
        server.module.OPS["say"] = broken, good[1]
        logs.expect("ERROR Traceback(.|\n)*ZeroDivisionError: a bug")
        ben.say("x")
        _data, typ = ben.sock.read(WAIT)
        assert (typ, ben.sock.closecode) == ("close", 1011)
        ben.sock.close()
        assert ann.hear()["op"] == "left"
        server.module.OPS["say"] = good
        ann.say("still here")
        assert ann.hear()["text"] == "still here"
    server.stop()


# ---- the page, and the process ----------------------------------------------------------------------------------


def fetch(server: ChatServer, path: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT / 1000)
    try:
        conn.request(method, path)
        response = conn.getresponse()
        return response, response.read()
    finally:
        conn.close()


@pytest.mark.parametrize("path", ["/", "/?from=a-link"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_page(shared, method, path):
    response, body = fetch(shared, path, method)
    page = CHAT.with_suffix(".html").read_bytes()
    assert response.status == 200
    assert body == (page if method == "GET" else b"")
    assert response.getheader("content-length") == str(len(page))
    assert response.getheader("content-type") == "text/html; charset=utf-8"
    assert response.getheader("x-content-type-options") == "nosniff"
    assert response.getheader("referrer-policy") == "no-referrer"
    assert response.getheader("cache-control") == "no-store"


def test_the_policy_allows_only_the_page_s_own_script_and_style(shared):
    response, body = fetch(shared, "/")
    header = response.getheader("content-security-policy")
    assert header is not None
    policy = dict(part.strip().split(" ", 1) for part in header.split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    for directive, tag in (("script-src", "script"), ("style-src", "style")):
        (text,) = re.findall(f"<{tag}[^>]*>(.*?)</{tag}>".encode(), body, re.DOTALL)
        assert policy[directive] == f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
    # It needs nothing from elsewhere, and has no way to make markup of what people type.
    markup = re.sub(b"<(style|script)>.*?</", b"", body, flags=re.DOTALL)
    assert not re.search(rb"""\son\w+=|\sstyle=|\b(src|href)=(?!"data:)""", markup)
    assert not re.search(rb"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|url\(|@import", body)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/favicon.ico", 404),
        ("GET", "/chat.html", 404),
        ("GET", "/chat/", 404),
        ("POST", "/", 405),
        ("GET", "/chat", 426),
    ],
)
def test_other_requests(shared, method, path, status):
    response, body = fetch(shared, path, method)
    assert response.status == status
    assert b"Traceback" not in body


def test_a_page_of_another_site_cannot_join(shared):
    sock, err = websocket.connect(f"ws://127.0.0.1:{shared.port}/chat", {"origin": "https://elsewhere.example"})
    assert sock is None
    assert "403" in err


@pytest.mark.parametrize("count", [2, 130])
def test_sigterm_says_goodbye(chat, count):
    """To more people, too, than there are places in an outbox: everybody leaves at once."""
    people = [Person(chat, "ann") for _ in range(count)]
    chat.signal()
    for each in people:
        typ = "text"
        while typ == "text":
            _data, typ = each.sock.read(WAIT)
        assert (typ, each.sock.closecode) == ("close", 1001)
        each.sock.close()
    chat.stop()


def test_a_port_that_is_taken(chat):
    command = [sys.executable, "-m", "silly", str(CHAT), f"--port={chat.port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT / 1000, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Address already in use" in done.stderr
    assert "Traceback" not in done.stderr
