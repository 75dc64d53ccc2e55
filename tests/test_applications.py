"""The examples that people start from, under blows: whatever is cancelled, nothing is lost, doubled, leaked or hung.

The application and its clients run in this process. A task taken at random, of either side, is cancelled where it
waits, again and again, from a seed. What a client gets must be right up to the moment at which a side of its
connection is struck. At the end everything is back at its count.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from silly import check, env, task, time
from silly._core import scheduler
from silly.net import http, tcp, websocket

from .conftest import Logs

EXAMPLES = Path(__file__).parents[1] / "examples"
CLIENTS = 8
COUNT = int(os.environ.get("SILLY_STRIKES", "400"))
"""How often tasks of each application are struck: ``SILLY_STRIKES=25000 pytest tests/test_applications.py``."""
pytestmark = pytest.mark.timeout(60 + COUNT / 20)
CEILING = 60_000
"""Milliseconds in which a client that nothing strikes must get its answer."""


def load(name: str, **settings: object) -> ModuleType:
    """Runs an example as a module, with these settings."""
    for key, value in settings.items():
        env.set(key, str(value))
    try:
        spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for key in settings:
            env.set(key, None)
    return module


class Strikes:
    """Runs clients and cancels tasks at random, until ``count`` blows were dealt."""

    def __init__(self, seed: int, count: int) -> None:
        self._random = random.Random(seed)
        self._left = count
        self.visits = 0
        """How many visits of clients came to their end: they got all that was due."""

    def run(self, visit: Callable[[random.Random], bool]) -> None:
        clients: list[task.Task[Any]] = []
        try:
            while self._left:
                clients = [each for each in clients if not self._over(each)]
                while len(clients) < CLIENTS:
                    clients.append(task.fork(self._visits, visit, random.Random(self._random.random())))
                for _ in range(self._random.randrange(4)):
                    time.sleep(0)
                if self._random.random() < 0.02:
                    time.sleep(self._random.randrange(3))
                victims = [each for each in scheduler.tasks if self._random.random() < 0.02]
                for victim in victims[: self._left]:
                    self._left -= 1
                    victim.cancel()
        finally:
            for each in clients:
                each.cancel()
        for each in clients:
            _, err = each.join(CEILING)
            assert err in (None, "cancelled"), err

    def _over(self, client: task.Task[Any]) -> bool:
        if client.done:
            client.join()  # raises what was wrong
        return client.done

    def _visits(self, visit: Callable[[random.Random], bool], rng: random.Random) -> None:
        while True:
            self.visits += visit(rng)
            time.sleep(0)


@pytest.fixture
def strikes(logs: Logs) -> Iterator[Strikes]:
    # What the other side of a struck task says:
    logs.allow("the request's body is incomplete|the handler was cancelled|WARNING http POST")
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # of a run that fails
    dealt = Strikes(seed, COUNT)
    yield dealt
    assert dealt.visits > COUNT / 100


def echo(stream: http.ServerStream) -> None:
    """What stands behind the proxy."""
    if stream.header["upgrade"] == "websocket":
        sock, _ = websocket.upgrade(stream)
        while sock is not None:
            data, typ = sock.read()
            if data is None or typ == "close":
                break
            if typ in ("text", "binary"):
                sock.write(data, typ)
    else:
        body, _ = stream.readall()
        if body is not None:
            stream.respond(200)
            stream.closewrite(body)


def say_and_hear(sock: websocket.Socket, rng: random.Random) -> bool:
    """Sends numbered messages, and gets them back: all and in order, up to an error."""
    numbers = itertools.count()
    due: list[str] = []
    for _ in range(rng.randrange(1, 10)):
        for _ in range(rng.randrange(4)):
            due.append(f"{next(numbers)} {'x' * rng.choice([0, 10, 70_000])}")
            if not sock.write(due[-1], "text"):
                return False
        while due and rng.random() < 0.8:
            data, typ = sock.read(CEILING)
            if typ != "text":
                return False
            assert data == due.pop(0)
    return True


def test_the_proxy(strikes: Strikes, logs: Logs) -> None:
    behind = check(http.listen(addr="127.0.0.1:0", handler=echo))
    module = load("proxy", port=0, upstream=behind.addr)
    address = module.server.addr
    client = http.newclient(timeout=CEILING)

    def visit(rng: random.Random) -> bool:
        if rng.random() < 0.5:
            body = rng.randbytes(rng.choice([0, 10, 300_000]))
            answer, _ = client.post(f"http://{address}/", body=body)
            if answer is not None:
                assert answer.status in (502, 503, 504) or answer.body == body
            return answer is not None and answer.status == 200
        sock, _ = websocket.connect(f"ws://{address}/", timeout=CEILING)
        if sock is None:
            return False
        with sock:
            return say_and_hear(sock, rng)

    strikes.run(visit)
    client.close()
    module.client.close()
    module.server.close()
    behind.close()


def test_the_console(strikes: Strikes, logs: Logs) -> None:
    def service(conn: tcp.Conn) -> None:
        with conn:
            while True:
                data, _ = conn.read(max(1, conn.unreadbytes()))
                if data is None or not conn.write(data):
                    break

    target = check(tcp.listen(addr="127.0.0.1:0", accept=service))
    module = load("console", port=0, target=target.addr)
    address = module.server.addr
    client = http.newclient(timeout=CEILING)

    def visit(rng: random.Random) -> bool:
        answer, _ = client.post(f"http://{address}/token", body=b"")
        if answer is None or answer.status != 200:
            return False
        sock, _ = websocket.connect(f"ws://{address}/console?token={answer.text.strip()}", timeout=CEILING)
        if sock is None:
            return False
        with sock:
            sent = got = b""
            for _ in range(rng.randrange(6)):
                data = rng.randbytes(rng.choice([1, 100, 100_000]))
                if not sock.write(data):
                    return False
                sent += data
                while len(got) < len(sent):
                    piece, typ = sock.read(CEILING)
                    if typ != "binary":
                        return False
                    got += piece
                assert got == sent
        return True

    strikes.run(visit)
    client.close()
    for timer in list(module.tokens.values()):
        time.cancel(timer)
    module.server.close()
    target.close()


def test_the_chat(strikes: Strikes, logs: Logs, capsys: pytest.CaptureFixture[str]) -> None:
    module = load("chat", port=0)
    module.PACE, module.BURST = 0, 20
    address = module.server.addr
    names = itertools.count()

    def visit(rng: random.Random) -> bool:
        sock, _ = websocket.connect(f"ws://{address}/chat", timeout=CEILING)
        if sock is None:
            return False
        with sock:
            me = f"visitor {next(names)}"
            sock.write(json.dumps({"op": "name", "name": me, "key": me}), "text")
            heard: list[int] = []
            for number in range(rng.randrange(1, 6)):
                sock.write(json.dumps({"op": "say", "text": f"{me} {number}", "n": number + 1}), "text")
                while not heard or heard[-1] != number:
                    data, typ = sock.read(CEILING)
                    if typ != "text":
                        return False
                    msg = json.loads(data)
                    if msg["op"] == "said" and msg["name"] == me:
                        heard.append(int(msg["text"].rpartition(" ")[2]))
            assert heard == list(range(len(heard)))
        return True

    strikes.run(visit)
    module.server.drain(CEILING)
    assert module.clients == []


def test_the_poll(strikes: Strikes, logs: Logs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def answer(stream: http.ServerStream) -> None:
        asked.append(stream.path)
        stream.answer(200, stream.path)

    server = check(http.listen(addr="127.0.0.1:0", handler=answer))
    module = load("poll")
    urls = [f"http://{server.addr}/{number}" for number in range(5)]

    def visit(rng: random.Random) -> bool:
        some = urls[: rng.randrange(1, 6)]
        got = []
        try:
            for url, status, err in task.map(module.ask, some, rng.randrange(1, 10), ordered=False):
                assert err is not None or status in (200, 503)
                got.append(url)
        except RuntimeError as exc:
            assert "the task of the item was cancelled" in str(exc)  # noqa: PT017
            return False
        assert sorted(got) == some
        return True

    strikes.run(visit)
    module.client.close()
    server.close()
