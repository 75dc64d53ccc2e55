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
import shutil
import signal
import socket
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
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


FAST = {"PACE": "1", "BURST": "20"}
"""For a server that takes what one address sends as fast as it comes."""


class ChatServer:
    """The chat as a person starts it, with Python's own checks on. ``stop`` ends it, and looks at how it ended.

    ``changed`` are settings at the head of the file that get another value, in a copy of it.
    """

    def __init__(self, directory: Path, port: int = 0, **changed: str) -> None:
        self._signalled = False
        file = CHAT
        if changed:
            text = CHAT.read_text(encoding="utf-8")
            for name, value in changed.items():
                text, count = re.subn(rf"(?m)^{name} = .*", f"{name} = {value}", text)
                assert count == 1, name
            file = directory / CHAT.name
            file.write_text(text, encoding="utf-8")
            shutil.copy(CHAT.with_suffix(".html"), directory)
        self._errors = open(directory / "chat.stderr", "w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-m", "silly", str(file), f"--port={port}"],
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
        for name, value in FAST.items():
            setattr(self.module, name, int(value))
        self.port = self.module.server.port
        assert capsys.readouterr().out == f"Open http://127.0.0.1:{self.port}/ in two browser windows\n"

    def stop(self) -> None:
        self.module.server.close()


class Person:
    """A client in the test's process, with silly's own WebSocket."""

    def __init__(self, server: ChatServer | InProcess, name: str | None = None, key: str | None = None) -> None:
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}/chat", timeout=WAIT)
        assert sock is not None, err
        self.sock = sock
        self.key = os.urandom(8).hex() if key is None else key
        self.said = 0
        if name is not None:
            self.call_oneself(name)
            self.welcome = self.hear()
            assert self.welcome["op"] == "welcome"
            self.name = self.welcome["name"]
            self.by = self.welcome["by"]

    def tell(self, **msg: Any) -> None:
        ok, err = self.sock.write(json.dumps(msg, ensure_ascii=False), "text")
        assert ok, err

    def call_oneself(self, name: str) -> None:
        # Not ``tell``: a name may hold half a surrogate pair.
        ok, err = self.sock.write(json.dumps({"op": "name", "name": name, "key": self.key}), "text")
        assert ok, err

    def say(self, text: str) -> None:
        self.said += 1
        self.tell(op="say", text=text, n=self.said)

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
def start(tmp_path: Path) -> Iterator[Callable[..., ChatServer]]:
    """Starts servers, with the changed settings that it is given. However the test ends, they are stopped."""
    servers: list[ChatServer] = []

    def start_one(**changed: str) -> ChatServer:
        servers.append(ChatServer(tmp_path, **changed))
        return servers[-1]

    yield start_one
    for server in servers:
        server.stop()


@pytest.fixture
def chat(start: Callable[..., ChatServer]) -> ChatServer:
    return start(**FAST)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    """One server for the tests that don't look at who else is there."""
    server = ChatServer(tmp_path_factory.mktemp("chat"), **FAST)
    yield server
    server.stop()


@pytest.fixture
def chat_module(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """What examples/chat.py defines."""
    server = InProcess(capsys)
    yield server.module
    server.stop()


# ---- people -----------------------------------------------------------------------------------------------------


def test_people_join_and_leave(chat):
    with Person(chat, "ann") as ann:
        who = [ann.by, "ann"]
        assert ann.welcome == {"op": "welcome", "by": ann.by, "name": "ann", "n": 0, "people": [who], "history": []}
        before = time.now()
        with Person(chat, "ben") as ben:
            assert ben.welcome["people"] == [who, [ben.by, "ben"]]
            assert ben.by != ann.by
            joined = ann.hear()
            assert before <= joined.pop("at") <= time.now()
            assert joined == {"op": "joined", "by": ben.by, "name": "ben"}
        left = ann.hear()
        assert before <= left.pop("at") <= time.now()
        assert left == {"op": "left", "by": ben.by, "name": "ben"}
        with Person(chat, "cleo") as cleo:
            assert cleo.welcome["people"] == [who, [cleo.by, "cleo"]]


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
        assert [p.name for p in (first, second, third)] == ["ann", "ann 2", "ANN 3"]
        with Person(chat, "ann 2") as fourth, Person(chat, "STRASSE"), Person(chat, "straße") as sixth:
            assert [fourth.name, sixth.name] == ["ann 2 2", "straße 2"]
    with Person(chat, "ann") as again:
        assert again.name == "ann"
    with Person(chat, "You") as you:  # as the page calls its own person
        assert you.name == "You 2"


@pytest.mark.parametrize("unseen", list("\u3164\u2800\u034f\u115f\uffa0\ufe0f\u17b4\u200b\U000e0100\U00013441"))
def test_a_second_alice_with_an_invisible_letter_is_seen_to_be_another(shared, unseen):
    with Person(shared, "alice"), Person(shared, "alice" + unseen) as second, Person(shared, unseen + "Alice") as third:
        assert [second.name, third.name] == ["alice 2", "Alice 3"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("  ann \t\n smith ", "ann smith"),
        ("x" * 200, "x" * 24),
        ("x" * 23 + " y", "x" * 23),
        ("a\u202eb\u200b\x00c\ufeff", "ab c"),
        ("\uff41nn", "ann"),
        ("a\u034f\u0301", "á"),
        ("\u0301ann", "ann"),
        ("1\u0301 ann", "1 ann"),
        ("x" + "\u0316" * 9 + "\u0323y", "x" + "\u0316" * 5 + " y"),
        ("\ufdfa", "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647 \u0639\u0644\u064a\u0647 \u0648\u0633\u0644\u0645"),
        ("<img src=x onerror=alert()>", "img src x onerror alert"),
        ("\ud800ann", "ann"),
        ("ann \U0001f33f (2)", "ann 2"),
        ("J. R._o-K", "J. R._o-K"),
    ],
)
def test_names_are_tidied(shared, given, shown):
    with Person(shared, given) as person:
        assert person.name == shown


REAL = """
    Zoë Ångström | Jiří Dvořák | Nguyễn Thị Thuý | Łukasz Żółć | Ærøskøbing-Jensen | İpek Yıldız | Q.-T. van der_Meer | Ὀδυσσεύς
    Пётр Чайковский | Ґалаґан | Երևան | თამარ | שָׁלוֹם כֹּהֵן | مُحَمَّد | محمد رضا | יִשְׂרָאֵל | ܣܘܪܝܝܐ | አበበ ቢቂላ
    श्रीकृष्ण | क्षत्रिय लक्ष्मी | রবীন্দ্রনাথ | ஸ்ரீநிவாசன் | తెలుగు | ಕನ್ನಡ | മലയാളം | ਗੁਰਪ੍ਰੀਤ ਸਿੰਘ | ગુજરાતી | සිංහල
    สมชาย น้ำผึ้ง | ລາວ | មាស ស្រី | မျှော်လင့်ချက် | བསྒྲུབས | 山田太郎 | やまだ ガブリエル | 김민준 | 李小龍 | 〇一 | ᠮᠣᠩᠭᠣᠯ | ᏣᎳᎩ | R2-D2
"""


def test_real_names_of_many_scripts_stay_as_they_are(chat_module):
    for name in REAL.replace("\n", "|").split("|"):
        name = unicodedata.normalize("NFKC", name.strip())
        assert chat_module.tidy(name) == name[: chat_module.NAME]
        assert chat_module.tidy(unicodedata.normalize("NFD", name)) == name[: chat_module.NAME]


IGNORABLE = """
    AD 34F 61C 115F-1160 17B4-17B5 180B-180F 200B-200F 202A-202E 2060-206F 3164 FE00-FE0F FEFF FFA0 FFF0-FFF8 1BCA0-1BCA3
    1D173-1D17A E0000-E0FFF
"""
"""Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties.txt): what is shown as nothing."""


def test_no_name_holds_a_letter_that_is_shown_as_nothing(chat_module):
    """Each code point there is, alone and after a letter."""
    tidy = chat_module.tidy
    ends = [[int(end, 16) for end in each.split("-")] for each in IGNORABLE.split()]
    unseen = {chr(code) for each in ends for code in range(each[0], each[-1] + 1)} | set("\u2800\U00013441\U00013442")
    for char in unseen:
        assert tidy("a" + char + "b") in ("ab", "a b"), ascii(char)
        assert tidy(char) == "", ascii(char)
    codes = [chr(code) for code in range(sys.maxunicode + 1)]
    nothing = [char for char in codes if unicodedata.category(char)[0] in "CZ"]
    assert tidy("".join(nothing)) == ""
    for char in sorted(set(codes) - set(nothing)):
        name = tidy("a" + char)
        assert unseen.isdisjoint(name), ascii(char)
        assert all(each in " ._-" or unicodedata.category(each)[0] in "LMN" for each in name), ascii(char)
        assert tidy(name) == unicodedata.normalize("NFKC", name) == name, ascii(char)


def test_a_name_can_be_changed(chat):
    with Person(chat, "ann") as ann, Person(chat, "ben") as ben:
        assert ann.hear()["op"] == "joined"
        ben.call_oneself("Benno")
        for each in (ann, ben):
            msg = each.hear()
            assert msg.pop("at") > 0
            assert msg == {"op": "renamed", "by": ben.by, "name": "Benno"}
        ben.call_oneself("ann")
        assert [each.hear()["name"] for each in (ann, ben)] == ["ann 2"] * 2
        ben.call_oneself("ann")
        assert ben.hear() == {"op": "error", "text": "your name is ann 2 already", "n": None}
        with Person(chat, "cleo") as cleo:
            assert [name for _, name in cleo.welcome["people"]] == ["ann", "ann 2", "cleo"]


def test_a_page_that_connects_again_takes_the_place_of_its_lost_connection(chat):
    """The server may not have noticed yet that the first is dead: its person must not become another."""
    with Person(chat, "ann") as ann:
        lost = Person(chat, "ben")
        assert ann.hear()["op"] == "joined"
        with Person(chat, "ben", lost.key) as ben:
            assert (ben.name, ben.by) == ("ben", lost.by)
            assert ben.welcome["people"] == [[ann.by, "ann"], [ben.by, "ben"]]
            assert [ann.hear()["op"] for _ in range(2)] == ["left", "joined"]
            _data, typ = lost.sock.read(WAIT)
            assert (typ, lost.sock.closecode) == ("close", 1000)
            lost.sock.close()
            ben.say("here")
            assert ann.hear()["by"] == ben.by
            assert ben.hear()["text"] == "here"


# ---- messages ---------------------------------------------------------------------------------------------------


def test_everyone_gets_each_message(chat):
    with Person(chat, "ann") as ann, Person(chat, "ben") as ben:
        assert ann.hear()["op"] == "joined"
        before = time.now()
        ben.say(" <b>hello</b> \u05e9\u05dc\u05d5\u05dd\n\U0001f33f ")
        for each in (ann, ben):
            said = each.hear()
            assert before <= said.pop("at") <= time.now()
            assert isinstance(said.pop("id"), int)
            text = "<b>hello</b> \u05e9\u05dc\u05d5\u05dd\n\U0001f33f"
            assert said == {"op": "said", "by": ben.by, "n": 1, "name": "ben", "text": text}


def test_a_newcomer_gets_the_last_fifty(chat):
    with Person(chat, "ann") as ann:
        for n in range(60):
            ann.say(str(n))
        said = [ann.hear() for _ in range(60)]
        with Person(chat, "ben") as ben:
            assert ben.welcome["history"] == said[-50:]
            assert [msg["text"] for msg in ben.welcome["history"]] == [str(n) for n in range(10, 60)]


@pytest.mark.parametrize("between", [0, 60])
def test_a_message_sent_twice_is_said_once(chat, between):
    """A page whose connection broke can't know whether its message arrived, however much was said since."""
    with Person(chat, "ann") as ann:
        with Person(chat, "ben") as ben:
            assert ann.hear()["op"] == "joined"
            ben.say("hello")
            assert ben.hear() == ann.hear()
        assert ann.hear()["op"] == "left"
        for _ in range(between):
            ann.say("x")
            ann.hear()
        with Person(chat, "ben", ben.key) as ben:
            assert ann.hear()["op"] == "joined"
            assert ben.welcome["n"] == 1
            assert [msg["by"] for msg in ben.welcome["history"]].count(ben.by) == (not between)
            ben.say("hello")
            ben.say("bye")
            for each in (ann, ben):
                assert each.hear()["text"] == "bye"


def test_an_id_is_never_used_again(chat, start):
    """Not after fifty messages, not for a message with the number of another, and not by the next process."""
    ids = []
    for server in (chat, None):
        server = server or start(**FAST)
        with Person(server, "ann") as ann, Person(server, "ben") as ben:
            assert ann.hear()["op"] == "joined"
            for _ in range(60):
                ann.say("x")
                ids.append(ann.hear()["id"])
            ben.say("y")
            said = ann.hear()
            assert (said["n"], said["by"]) == (1, ben.by)
            ids.append(said["id"])
        server.stop()
    assert ids == sorted(set(ids))


def test_nobody_can_speak_as_another_page(shared):
    """What all know of a page is no key to it."""
    with Person(shared, "ann") as ann, Person(shared, "ann", ann.by) as other:
        assert other.by != ann.by
        assert ann.by not in (ann.key, other.key[::-1])
        assert ann.key not in json.dumps(other.welcome)


def test_what_is_remembered_of_pages_that_left_is_bounded(capsys):
    server = InProcess(capsys)
    server.module.PAGES = 3
    for n in range(5):
        with Person(server, "ann") as ann:
            ann.say(str(n))
            ann.hear()
    assert len(server.module.latest) == 3
    assert ann.by in server.module.latest
    server.stop()


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
    ("binary", b'{"op": "say", "text": "x", "n": 1}', "messages are text, not binary"),
    ("null", "null", "unknown op"),
    ("a list", '[{"op": "say"}]', "unknown op"),
    ("a text", '"say"', "unknown op"),
    ("no op", "{}", "unknown op"),
    ("an unknown op", '{"op": "shout", "text": "x", "n": 1}', "unknown op"),
    ("an op of the server's", '{"op": "welcome"}', "unknown op"),
    ("an op that is a list", '{"op": ["say"]}', "unknown op"),
    ("no text", '{"op": "say"}', "text must be a text"),
    ("a number for text", '{"op": "say", "text": 1}', "text must be a text"),
    ("NaN for text", '{"op": "say", "text": NaN}', "text must be a text"),
    ("a long text", '{"op": "say", "text": "%s"}' % ("x" * 2001), "text is longer than 2000 characters"),
    ("no n", '{"op": "say", "text": "x"}', "n must be a whole number"),
    ("null for the name", '{"op": "name", "name": null}', "name must be a text"),
    ("a long name", '{"op": "name", "name": "%s"}' % ("x" * 201), "name is longer than 200 characters"),
    ("no key", '{"op": "name", "name": "x"}', "key must be a text"),
    ("a list for the key", '{"op": "name", "name": "x", "key": ["1"]}', "key must be a text"),
    ("a long key", '{"op": "name", "name": "x", "key": "%s"}' % ("1" * 41), "key is longer than 40 characters"),
    ("an empty name", '{"op": "name", "name": " \\u200b\\u202e ", "key": "1"}', "a name needs letters or digits"),
    ("a name of signs", '{"op": "name", "name": ". _-", "key": "1"}', "a name needs letters or digits"),
]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("data", "why"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_answered_and_changes_nothing(shared, data, why, named):
    with Person(shared, "ann" if named else None) as person:
        assert person.sock.write(data, "binary" if isinstance(data, bytes) else "text")
        assert person.hear() == {"op": "error", "text": why, "n": None}
        if not named:
            person.call_oneself("ann")
            assert person.hear()["op"] == "welcome"
        person.say("still here")
        assert person.hear()["text"] == "still here"


@pytest.mark.parametrize("n", ["1", 0, -1, 1.0, True, None, 2**53, [1]])
def test_the_number_of_a_message_is_checked(shared, n):
    with Person(shared, "ann") as ann:
        ann.tell(op="say", text="x", n=n)
        assert ann.hear() == {"op": "error", "text": "n must be a whole number", "n": None}


def test_a_message_before_the_name_is_not_said(shared):
    with Person(shared) as person:
        person.tell(op="say", text="too early", n=7)
        assert person.hear() == {"op": "error", "text": "say who you are first", "n": 7}
        person.call_oneself("ann")
        assert "too early" not in [msg["text"] for msg in person.hear()["history"]]


def test_an_empty_message_is_not_said(shared):
    with Person(shared, "ann") as ann:
        ann.tell(op="say", text=" \n\x1f", n=1)
        assert ann.hear() == {"op": "error", "text": "the message is empty", "n": 1}


def test_a_lone_surrogate_passes(shared):
    """JavaScript's strings may hold one; the connection must survive it."""
    with Person(shared) as ann:
        for msg in ({"op": "name", "name": "ann", "key": "\ud800"}, {"op": "say", "text": "\ud800", "n": 1}):
            assert ann.sock.write(json.dumps(msg), "text")
            last = ann.hear()
        assert last["text"] == "\ud800"


def test_a_message_too_large_to_look_at_ends_the_connection(shared):
    with Person(shared, "ann") as ann:
        ann.tell(op="say", text="x" * 40_000, n=1)
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


# ---- one stranger and the others ---------------------------------------------------------------------------------


def test_five_hundred_idle_connections_of_one_address_lock_nobody_out(start):
    chat = start()
    idle = []
    try:
        for _ in range(500):
            sock = socket.socket()
            idle.append(sock)
            sock.settimeout(WAIT / 1000)
            sock.bind(("127.0.0.2", 0))
            sock.connect(("127.0.0.1", chat.port))
        assert b" 503 " in idle[-1].recv(1000)
        with Person(chat, "ann") as ann:
            ann.say("hello")
            assert ann.hear()["text"] == "hello"
            assert fetch(chat, "/")[0].status == 200
    finally:
        for sock in idle:
            sock.close()


def test_a_connection_that_says_no_name_is_closed(start):
    """Whatever else it says."""
    chat = start(**FAST, JOIN="500")
    with Person(chat, "ann") as ann, Person(chat) as silent, Person(chat) as busy:
        busy.tell(op="say", text="x", n=1)
        while (typ := busy.sock.read(WAIT)[1]) != "close":
            assert typ in ("text", "pong")
            busy.sock.write("x", "ping")
            busy.sock.write("{}", "text")
            time.sleep(10)
        assert silent.sock.read(WAIT)[1] == "close"
        assert silent.sock.closecode == busy.sock.closecode == 1008
        ann.say("still here")
        assert ann.hear()["text"] == "still here"


def test_one_address_has_its_share_of_the_messages(start):
    """Over all its connections, joining counted: they wait, and the others don't wait for them."""
    chat = start(PACE="3_600_000", BURST="6 * PACE")
    with Person(chat, "ann") as ann:
        noisy = [stalled(chat.port, f"noisy {n}", "127.0.0.2") for n in range(3)]
        for each in noisy:
            for n in range(1, 11):
                msg = json.dumps({"op": "say", "text": "x", "n": n})
                each.sendall(masked_frame(FIN | TEXT, msg.encode(), b"abcd"))
        heard = [ann.hear()["op"] for _ in range(6)]
        assert set(heard) <= {"joined", "said"}
        ann.say("hello")
        assert ann.hear()["text"] == "hello"
        for each in noisy:
            each.close()


# ---- a client that has stopped reading --------------------------------------------------------------------------


def stalled(port: int, name: str, address: str = "127.0.0.1") -> socket.socket:
    """A client that joins from ``address``, and never reads."""
    sock = socket.socket()
    sock.bind((address, 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(WAIT / 1000)
    sock.connect(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET /chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    hello = json.dumps({"op": "name", "name": name, "key": name}).encode()
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
def test_a_client_that_stops_reading_delays_no_other_and_is_dropped(where, start, capsys):
    server = start(**FAST) if where == "in its own process" else InProcess(capsys)
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
        logs.expect("ERROR exception in the handler of GET /chat:(.|\n)*ZeroDivisionError: a bug")
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
def test_sigterm_says_goodbye(start, count):
    """To more people, too, than there are places in an outbox: everybody leaves at once."""
    chat = start(**FAST, LIMITS="silly.Limits()")
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
