"""``RequestError``: each error of the HTTP client has the phase and the cause, so no program has to search it for words."""

from __future__ import annotations

import copy
import pickle
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

import silly
from silly import errno, time
from silly.net import _dial, http, tcp, tls

from ..children import Child
from ..helpers import Raw, raw_server
from . import authorities
from .http_client_support import error, ok, origin, taken, using
from .support import Job, never_answers, turns, until
from .test_http_client_errors import beginning, holds, silent, unread
from .tls_support import listening

__all__ = ["holds"]
pytestmark = pytest.mark.usefixtures("nothing_lingers")

HEAD = "HTTP/1.1 200 OK\r\n"
LENGTH = HEAD + "Content-Length: 9\r\n\r\n"
CHUNKED = HEAD + "Transfer-Encoding: chunked\r\n\r\n"
GZIP = HEAD + "Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n"


def told(err: Any) -> tuple[str, str | None]:
    assert err.phase in get_args(http.Phase)
    return err.phase, err.errno


def caught(client: Any, url: str, **options: Any) -> tuple[str, str | None]:
    return told(error(client.get(url, **options)))


# ---- the row's example ----------------------------------------------------------------------------------------------


def test_refused_timed_out_unknown_and_tls_are_told_apart_without_words(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    logs.allow("start with byte 0x16")
    closed = taken(tcp.listen("127.0.0.1:0", lambda conn: None))
    closed.close()
    with never_answers() as address, origin(ok()) as server, using(connect_timeout=50) as client:
        assert caught(client, f"http://127.0.0.1:{closed.port}/") == ("connect", errno.CONNREFUSED)
        assert caught(client, f"http://{address[0]}:{address[1]}/") == ("connect", errno.TIMEDOUT)
        assert caught(client, server.url.replace("http:", "https:")) in (("tls", errno.TLS), ("tls", errno.TIMEDOUT))
        for err in (errno.RESOLVE, errno.TIMEDOUT):
            monkeypatch.setattr(_dial, "_lookup", lambda *args, err=err: err)
            assert caught(client, "http://nowhere.example/") == ("resolve", err)


def test_it_is_still_the_text_that_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dial, "_lookup", lambda *args: errno.RESOLVE)
    err = error(http.get("http://nowhere.example/"))
    text = f"http GET http://nowhere.example/: connect: {errno.RESOLVE}"
    assert (err == text, str(err) == text, f"{err}" == text, repr(err) == repr(text), hash(err)) == (*[True] * 4, hash(text))
    assert (type(err), isinstance(err, str), type(str(err))) == (http.RequestError, True, str)
    with pytest.raises(silly.Error) as raised:
        silly.check(http.get("http://nowhere.example/"))
    assert raised.value.args[0].phase == "resolve"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_can_be_copied_and_pickled(protocol: int) -> None:
    err = http.RequestError("no", "head", errno.EOF)
    for other in (copy.copy(err), copy.deepcopy(err), pickle.loads(pickle.dumps(err, protocol))):
        assert (type(other), other, told(other)) == (http.RequestError, "no", ("head", errno.EOF))


def test_each_phase_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    for phase in get_args(http.Phase):
        assert f"| `{phase}` |" in text


# ---- before anything is sent ----------------------------------------------------------------------------------------


def test_before_there_is_a_connection() -> None:
    with using() as client:
        for url in ("ftp://a/", "http://", "http://a b/", "http://[::/"):
            assert caught(client, url) == ("url", None)
            assert told(error(client.request("GET", url))) == ("url", None)
    assert caught(client, "http://127.0.0.1/") == ("closed", errno.CLOSED)
    assert told(error(client.request("GET", "http://127.0.0.1/"))) == ("closed", errno.CLOSED)


def test_the_wait_for_a_place_in_the_pool() -> None:
    with origin(ok()) as server, using(max_per_host=1, connect_timeout=50) as client:
        with taken(client.request("GET", server.url)):
            assert caught(client, server.url) == ("pool", errno.TIMEDOUT)
            assert caught(client, server.url, timeout=30) == ("pool", errno.TIMEDOUT)
            with time.deadline(20):
                assert caught(client, server.url) == ("pool", errno.TIMEDOUT)
        assert taken(client.get(server.url)).status == 200


def test_a_deadline_while_it_connects() -> None:
    with never_answers() as address, using() as client, time.deadline(30):
        assert caught(client, f"http://{address[0]}:{address[1]}/") == ("connect", errno.TIMEDOUT)


def test_an_error_of_the_system_that_has_no_name_is_the_same_with_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall of the machine refuses by EPERM. Nothing is wrong with TLS then."""
    err = "Operation not permitted (1)"
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *args: 1)
    with using() as client:
        for scheme in ("http", "https"):
            assert caught(client, f"{scheme}://127.0.0.1:9/") == ("connect", err)
    assert tcp.connect("127.0.0.1:9") == tls.connect("127.0.0.1:9") == (None, err)


def test_tls_handshakes(logs: Any) -> None:
    def ends(conn: Any) -> None:
        conn.read(1, 5000)
        conn.close()

    def waits(conn: Any) -> None:
        silent(Raw(conn))

    logs.allow("tls: ")
    with listening() as server, using(ca=authorities.stranger().pem) as client:
        assert caught(client, f"https://127.0.0.1:{server.port}/") == ("tls", errno.TLS)
    with raw_server(ends) as server, using() as client:
        assert caught(client, f"https://127.0.0.1:{server.port}/") in (("tls", errno.TLS), ("tls", errno.CONNRESET))
    with raw_server(waits) as server, using(connect_timeout=50) as client:
        assert caught(client, f"https://127.0.0.1:{server.port}/") == ("tls", errno.TIMEDOUT)
        with time.deadline(30):
            assert caught(client, f"https://127.0.0.1:{server.port}/") == ("tls", errno.TIMEDOUT)


# ---- sending --------------------------------------------------------------------------------------------------------


def test_a_server_that_takes_nothing(holds: Any) -> None:
    with raw_server(unread) as listener, using(timeout=100) as client:
        url = f"http://127.0.0.1:{listener.port}/"
        assert told(error(client.post(url, None, b"x" * 20_000_000))) == ("send", errno.TIMEDOUT)
        with taken(client.request("POST", url)) as stream:
            while (result := stream.write(b"x" * 1_000_000)):
                pass
            for each in (result, stream.write("x"), stream.flush(), stream.closewrite(), stream.readheader()):
                assert told(error(each)) == ("send", errno.TIMEDOUT)


def test_a_deadline_while_it_sends(holds: Any) -> None:
    with raw_server(unread) as listener, using() as client:
        stream = taken(client.request("POST", f"http://127.0.0.1:{listener.port}/"))
        with stream, time.deadline(30):
            while (result := stream.write(b"x" * 1_000_000)):
                pass
            assert told(error(result)) == ("send", errno.TIMEDOUT)


def test_a_connection_that_breaks_while_it_sends() -> None:
    def script(conn: Any) -> None:
        conn.read("\r\n\r\n", 5000)
        conn._stream.reset()

    with raw_server(script) as listener, using() as client:
        stream = taken(client.request("POST", f"http://127.0.0.1:{listener.port}/"))
        with stream:
            while (result := stream.write(b"x" * 100_000)):
                turns(1)
            assert told(error(result)) in (("send", errno.CONNRESET), ("send", errno.PIPE))


def test_what_the_program_may_not_send() -> None:
    with origin(ok()) as server, using() as client:
        with taken(client.request("POST", server.url, {"content-length": 3})) as stream:
            assert told(error(stream.waitresponse())) == ("head", None)
            assert told(error(stream.write("four"))) == ("send", None)
            assert told(error(stream.closewrite("four"))) == ("send", None)
        with taken(client.request("POST", server.url)) as stream:
            stream.closewrite("all")
            for result in (stream.write("more"), stream.flush(), stream.closewrite()):
                assert told(error(result)) == ("send", None)


def test_an_answer_before_the_request_was_sent() -> None:
    def answer(conn: Any) -> None:
        conn.read("\r\n\r\n", 5000)
        Raw(conn).send(ok("no", status="413 No"))
        conn.read(1 << 30, 5000)

    with raw_server(answer) as listener, using() as client:
        with taken(client.request("POST", f"http://127.0.0.1:{listener.port}/")) as stream:
            while (result := stream.write(b"x")):
                stream.flush()
                turns(1)
            assert told(error(result)) == ("send", None)
            assert taken(stream.readall()) == b"no"
        with taken(client.request("POST", f"http://127.0.0.1:{listener.port}/", {"expect": "100-continue"})) as stream:
            assert told(error(stream.write("x"))) == ("send", None)


# ---- the response ---------------------------------------------------------------------------------------------------


@contextmanager
def answering(answer: str, end: str, secure: bool, dribbled: bool) -> Iterator[str]:
    """A server that answers ``answer``, and then ends, resets, or keeps silent; its URL."""

    def script(conn: Any) -> None:
        peer = Raw(conn)
        peer.conn.read("\r\n\r\n", 5000)
        if dribbled:
            peer.dribble(answer)
        elif answer:
            peer.send(answer)
        if end == "reset":
            turns(2)
            peer.reset()
        elif end == "end":
            peer.conn.close()
        else:
            silent(peer)

    with listening(script) if secure else raw_server(script) as server:
        yield f"{'https' if secure else 'http'}://127.0.0.1:{server.port}/"


ANSWERS = {
    # name: the answer, what follows, and the error's phase and cause
    "no answer": ("", "end", "head", errno.EOF),
    "cut head": (HEAD + "X-Y: z\r\n", "end", "head", errno.EOF),
    "reset head": (HEAD + "X-Y: z\r\n", "reset", "head", errno.CONNRESET),
    "silent": ("", "wait", "head", errno.TIMEDOUT),
    "half a head": (HEAD + "X-Y", "wait", "head", errno.TIMEDOUT),
    "no HTTP": ("SSH-2.0\r\n\r\n", "wait", "head", None),
    "bad field": (HEAD + "x y: z\r\n\r\n", "wait", "head", None),
    "bad framing": (HEAD + "Content-Length: x\r\n\r\n", "wait", "head", None),
    "long head": (HEAD + "X-Y: " + "z" * 600 + "\r\n\r\n", "wait", "head", errno.MSGSIZE),
    "cut body": (LENGTH + "abc", "end", "body", errno.EOF),
    "cut chunk": (CHUNKED + "3\r\na", "end", "body", errno.EOF),
    "reset body": (LENGTH + "abc", "reset", "body", errno.CONNRESET),
    "bad chunk": (CHUNKED + "x\r\n", "wait", "body", None),
    "no gzip": (GZIP + "123456789", "wait", "body", None),
    "long body": (LENGTH.replace("9", "900") + "abc", "wait", "body", errno.MSGSIZE),
    "long chunks": (CHUNKED + f"{900:x}\r\n" + "x" * 900 + "\r\n", "wait", "body", errno.MSGSIZE),
    "stalled body": (LENGTH + "abc", "wait", "body", errno.TIMEDOUT),
}


@pytest.mark.parametrize("dribbled", [False, True], ids=["whole", "dribbled"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str, secure: bool, dribbled: bool, logs: Any) -> None:
    answer, end, phase, cause = ANSWERS[name]
    if dribbled:
        answer = answer.replace("z" * 600, "z" * 300).replace("x" * 900, "x" * 300)
    logs.allow("tls: ")
    limits = silly.Limits(body=200, line=250)
    # Only what is to run out is short: the machine may be slow.
    times = {f"{each}_timeout": 50 if (each, errno.TIMEDOUT) == (phase, cause) else 10_000 for each in ("head", "body")}
    settings = {"limits": limits, "head_timeout": times["head_timeout"], "read_timeout": times["body_timeout"]}
    with answering(answer, end, secure, dribbled) as url, using(ca=authorities.root().pem, **settings) as client:
        got = caught(client, url)
        if end == "reset":
            assert got in ((phase, cause), (phase, errno.TLS), (phase, errno.EOF))
        else:
            assert got == (phase, cause)
        with taken(client.request("GET", url)) as stream:
            stream.closewrite()
            first = error(stream.readall())
            assert first.phase == phase
            again = [stream.read(1), stream.readall(), stream.write("x")]
            assert {told(error(each)) for each in again} == {told(first)}
            pieces = stream.pieces()
            assert list(pieces) == []
            assert told(pieces.err) == told(first)


def test_tls_that_is_cut(logs: Any) -> None:
    """Without a close_notify it is no end."""

    def cut(conn: Any) -> None:
        peer = Raw(conn)
        peer.conn.read("\r\n\r\n", 5000)
        peer.send(HEAD + "\r\nup to the end, or not")
        peer.half_close()
        peer.conn.read(1, 5000)

    logs.allow("tls: ")
    with listening(cut) as server, using(ca=authorities.root().pem) as client:
        assert caught(client, f"https://127.0.0.1:{server.port}/") == ("body", errno.TLS)


def test_time_outs_and_deadlines_that_lose_nothing() -> None:
    with origin(beginning(LENGTH + "abc")) as server, using() as client, taken(client.request("GET", server.url)) as stream:
        stream.closewrite()
        err = error(stream.read(9, 30))
        assert (err == errno.TIMEDOUT, told(err)) == (True, ("body", errno.TIMEDOUT))
        with time.deadline(30):
            assert told(error(stream.read(9))) == ("body", errno.TIMEDOUT)
        pieces = stream.pieces(30)
        assert b"".join(pieces) == b"abc"
        assert told(pieces.err) == ("body", errno.TIMEDOUT)
    with origin(beginning("")) as server, using() as client:
        with taken(client.request("GET", server.url)) as stream:
            stream.closewrite()
            for call in (stream.waitresponse, stream.readheader, stream.readall):
                err = error(call(timeout=30))
                assert (err == errno.TIMEDOUT, told(err)) == (True, ("head", errno.TIMEDOUT))
                with time.deadline(30):
                    assert told(error(call())) == ("head", errno.TIMEDOUT)
        with time.deadline(30):
            assert caught(client, server.url) == ("head", errno.TIMEDOUT)
    with origin(beginning(LENGTH)) as server, using() as client, time.deadline(50):
        assert caught(client, server.url) == ("body", errno.TIMEDOUT)


def test_the_end_of_a_body() -> None:
    with origin(ok("abc")) as server, using() as client, taken(client.request("GET", server.url)) as stream:
        stream.closewrite()
        err = error(stream.read(4))
        assert (err == errno.EOF, told(err)) == (True, ("body", errno.EOF))
        assert stream.readall() == (b"abc", None)


def test_redirects() -> None:
    def answer(to: str) -> bytes:
        return ok("", f"Location: {to}", status="302 Found")

    for target in ("/again", "ftp://a/", "http://a b/", "http://[/"):
        with origin(answer(target)) as server, using(redirects=2) as client:
            assert caught(client, server.url) == ("redirect", None)
    closed = taken(tcp.listen("127.0.0.1:0", lambda conn: None))
    closed.close()
    with origin(answer(f"http://127.0.0.1:{closed.port}/")) as server, using(redirects=2) as client:
        assert caught(client, server.url) == ("connect", errno.CONNREFUSED)


def test_a_redirect_from_https_to_http() -> None:
    def script(conn: Any) -> None:
        conn.read("\r\n\r\n", 5000)
        Raw(conn).send(ok("", "Location: http://127.0.0.1/", status="302 Found"))
        conn.read(1, 5000)

    with listening(script) as server, using(ca=authorities.root().pem, redirects=1) as client:
        assert caught(client, f"https://127.0.0.1:{server.port}/") == ("redirect", None)


# ---- closed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", ["", LENGTH + "abc", CHUNKED + "9\r\na"])
def test_a_stream_that_another_task_closes(begin: str) -> None:
    with origin(beginning(begin)) as server, using() as client:
        stream = taken(client.request("GET", server.url))
        stream.closewrite()
        job = Job(stream.readall)
        until(lambda: server.asked)
        turns(5)
        job.blocked()
        assert stream.close() == (True, None)
        assert told(error(job.result())) == ("closed", errno.CLOSED)
        head = () if begin else (stream.waitresponse, stream.readheader)
        for call in (stream.close, stream.flush, stream.closewrite, stream.readall, *head):
            assert told(error(call())) == ("closed", errno.CLOSED)
        assert told(error(stream.write("x"))) == ("closed", errno.CLOSED)


def test_the_end_of_the_process() -> None:
    """In a ``finally`` at the end nothing blocks any more."""
    program = """
import socket

import silly
from silly import task, time
from silly.net import http

silly._core.ending.plan, silly._core.ending.FINALLY = silly._core.ending.Plan(drain=100), 0
silent = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{silent.getsockname()[1]}/"

def ask():
    stream = silly.check(http.request("GET", url))
    try:
        stream.closewrite()
        time.sleep(60_000)
    finally:
        data, err = stream.readall(timeout=60_000)
        print(type(err).__name__, err.phase, err.errno, flush=True)

task.fork(ask)
time.sleep(100)
silly.exit()
"""
    with Child("-c", program) as child:
        assert child.line().strip() == f"RequestError head {errno.CLOSED}"
        assert child.wait() == 0
