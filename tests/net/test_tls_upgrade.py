"""``tls.upgrade``: TLS on a connection that was made without it, in both roles."""

from __future__ import annotations

import gc
import os
import smtplib
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import check, errno, task, testing, time
from silly._core import scheduler
from silly._wire.limits import DEFAULT
from silly.net import _stream, _tls_stream, tcp, tls

from ..children import Child, in_thread
from ..helpers import WITHIN, turn
from .authorities import Identity, client, issue, root, server, stranger
from .support import Job, turns, until
from .tls_support import python_context, reused

Pair = tuple[Any, Any]
LARGE = bytes(range(256)) * 8192
"""2 MiB: more than the kernel and the limits take at once."""
ENTRY = [server().entry]
CONTEXT = ssl.create_default_context()


@contextmanager
def connected(over: str = "pair", limits: Any = DEFAULT, folder: Path | None = None) -> Iterator[Pair]:
    """Two connections with each other, a client's and a server's."""
    if over == "pair":
        ends = testing.pair(limits=limits)
    else:
        accepted: list[Any] = []
        addr = "127.0.0.1:0" if over == "tcp" else f"unix:{folder}/socket"
        with check(tcp.listen(addr, accepted.append, limits=limits)) as listener:
            conn = check(tcp.connect(listener.addr, limits=limits))
            until(lambda: accepted)
        ends = conn, accepted.pop()
    with ends[0], ends[1]:
        yield ends
    turn(3)


def shaken(mine: Any, theirs: Any, given: dict[str, Any] | None = None, **options: Any) -> tuple[Pair, Pair]:
    """What the two ends' calls return. ``given`` is for the server."""
    serving = Job(lambda: tls.upgrade(theirs, **{"certs": ENTRY, **(given or {})}))
    result = tls.upgrade(mine, **{"hostname": "localhost", "ca": root().pem, **options})
    return result, serving.result()


@contextmanager
def secured(over: str = "pair", **options: Any) -> Iterator[Pair]:
    """Two upgraded connections."""
    with connected(over) as ends:
        results = shaken(*ends, **options)
        with check(results[0]) as mine, check(results[1]) as theirs:
            yield mine, theirs


def is_over(conn: Any) -> None:
    """Every call of a connection says that it is closed."""
    assert conn.read(1) == (None, errno.CLOSED)
    assert conn.write(b"x") == (False, errno.CLOSED)
    assert conn.close() == (False, errno.CLOSED)
    assert not conn.isalive()
    assert conn.unreadbytes() == 0


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """No descriptor, and nothing in the loop, is left or lost."""
    before = len(os.listdir("/proc/self/fd")), len(scheduler.loop.handlers)
    yield
    gc.collect()
    until(lambda: (len(os.listdir("/proc/self/fd")), len(scheduler.loop.handlers)) == before)


# ---- both roles are ours ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["pair", "tcp", "unix"])
def test_a_command_and_then_tls(over: str, tmp_path: Path) -> None:
    with connected(over, folder=tmp_path) as (mine, theirs):
        mine.limit(1234)
        mine.write("STARTTLS\n")

        def serve() -> Any:
            assert theirs.read("\n") == (b"STARTTLS\n", None)
            theirs.write("go ahead\n")
            return tls.upgrade(theirs, certs=ENTRY, alpnprotos=["chat/2", "chat/1"])

        serving = Job(serve)
        assert mine.read("\n") == (b"go ahead\n", None)
        with (
            check(tls.upgrade(mine, "localhost", ["chat/1"], root().pem)) as secure,
            check(serving.result()) as served,
        ):
            assert type(secure) is type(served) is tls.Conn
            assert secure.remoteaddr == mine.remoteaddr
            assert secure._stream.mark == 1234
            assert secure.alpnproto() == served.alpnproto() == "chat/1"
            assert "localhost" in secure.peercert().names
            is_over(mine)
            is_over(theirs)
            secure.write("hello\n")
            assert served.read("\n", WITHIN) == (b"hello\n", None)
            served.close()
            assert secure.read(1, WITHIN) == (None, errno.EOF)


def test_the_old_connection_may_be_forgotten() -> None:
    """Its finalizer closes nothing that was moved."""
    ends = testing.pair()
    results = shaken(*ends)
    del ends
    gc.collect()
    turns()
    with check(results[0]) as mine, check(results[1]) as theirs:
        mine.write("hello\n")
        assert theirs.read("\n", WITHIN) == (b"hello\n", None)


def test_data_at_once_and_large_data() -> None:
    with connected("tcp") as (mine, theirs):

        def serve() -> Any:
            conn = check(tls.upgrade(theirs, certs=ENTRY))
            conn.write(LARGE)
            return conn, conn.read(len(LARGE), WITHIN)

        serving = Job(serve)
        with check(tls.upgrade(mine, "localhost", ca=root().pem)) as secure:
            secure.write(LARGE)
            assert secure.read(len(LARGE), WITHIN) == (LARGE, None)
            conn, got = serving.result()
            assert got == (LARGE, None)
            conn.close()


def test_what_was_written_before_is_sent_before() -> None:
    """Also what another task is blocked with."""
    with connected() as (mine, theirs):
        writing = Job(lambda: theirs.write(LARGE)).blocked()
        serving = Job(lambda: tls.upgrade(theirs, certs=ENTRY)).blocked()
        assert mine.read(len(LARGE), WITHIN) == (LARGE, None)
        with check(tls.upgrade(mine, "localhost", ca=root().pem)), check(serving.result()):
            assert writing.result() == (True, None)


def test_what_waits_for_the_release_waits_for_the_new_connections() -> None:
    released = []
    with connected() as (mine, theirs):
        theirs._stream.when_released(lambda: released.append(1))
        results = shaken(mine, theirs)
        with check(results[0]), check(results[1]):
            turns()
            assert released == []
        until(lambda: released)
    assert released == [1]


def test_sessions_are_resumed_while_the_files_stay_the_same(tmp_path: Path) -> None:
    def write(identity: Identity) -> None:
        for name in ("cert", "key"):
            (tmp_path / name).write_text(identity.entry[name])

    def again(**given: Any) -> tuple[bool, str]:
        with connected() as ends:
            options = {"certs": [{"cert": str(tmp_path / "cert"), "key": str(tmp_path / "key")}], **given}
            ends[0].remoteaddr = "elsewhere:25"  # each pair has another
            results = shaken(*ends, options)
            with check(results[0]) as mine, check(results[1]) as theirs:
                theirs.write("x")  # behind the tickets
                assert mine.read(1, WITHIN) == (b"x", None)
                return reused(mine), mine.peercert().subject

    write(issue("first", root(), names=["localhost"]))
    other = "ECDHE+AESGCM"
    assert [again(), again(), again(ciphers=other), again(ciphers=other)] == [
        (False, "CN=first"),
        (True, "CN=first"),
        (False, "CN=first"),
        (True, "CN=first"),
    ]
    write(issue("second", root(), names=["localhost"]))
    assert [again(), again()] == [(False, "CN=second"), (True, "CN=second")]


# ---- other peers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_of_python(version: ssl.TLSVersion) -> None:
    seen = []

    def serve(conn: Any) -> None:
        assert conn.read("\n") == (b"STARTTLS\n", None)
        conn.write("go ahead\n")
        secure = check(tls.upgrade(conn, certs=ENTRY, ca=root().pem, verify="require", alpnprotos=["chat/1"]))
        seen.append((secure.peercert().subject, secure.alpnproto()))
        secure.write(secure.read(len(LARGE))[0])
        secure.close()

    def talk(port: int, entry: dict[str, str]) -> Any:
        context = python_context(version)
        context.set_alpn_protocols(["chat/1"])
        with files_of(entry) as (cert, key):
            context.load_cert_chain(cert, key)
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            raw.sendall(b"STARTTLS\n")
            assert raw.recv(100) == b"go ahead\n"
            with context.wrap_socket(raw, server_hostname="localhost") as sock:
                sock.sendall(LARGE)
                got = bytearray()
                while len(got) < len(LARGE):
                    got += sock.recv(1 << 20)
                return bytes(got), sock.recv(1), sock.version()

    with check(tcp.listen("127.0.0.1:0", serve)) as listener:
        got, end, spoken = in_thread(talk, listener.port, client().entry)
    assert (got, end, spoken) == (LARGE, b"", version.name.replace("_", "."))
    assert seen == [("CN=alice", "chat/1")]


@contextmanager
def files_of(entry: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Paths of an ``entry``."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in entry.items():
            (Path(folder) / name).write_text(text)
        yield f"{folder}/cert", f"{folder}/key"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_of_python(version: ssl.TLSVersion) -> None:
    """It sends data together with the end of its handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["chat/1"])
    with files_of(server().entry) as (cert, key):
        context.load_cert_chain(cert, key)
    context.load_verify_locations(cadata=root().pem)
    context.verify_mode = ssl.CERT_REQUIRED

    def serve(listening: socket.socket) -> Any:
        raw, _ = listening.accept()
        raw.settimeout(10)
        with raw:
            assert raw.recv(100) == b"STARTTLS\n"
            raw.sendall(b"go ahead\n")
            with context.wrap_socket(raw, server_side=True) as sock:
                sock.sendall(b"hello\n")
                got = sock.recv(100)
                sock.unwrap()
                return got

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        serving = Job(lambda: in_thread(serve, listening))
        conn = check(tcp.connect(f"127.0.0.1:{listening.getsockname()[1]}"))
        conn.write("STARTTLS\n")
        assert conn.read("\n", WITHIN) == (b"go ahead\n", None)
        with check(tls.upgrade(conn, "127.0.0.1", ["chat/1"], root().pem, client().entry, timeout=WITHIN)) as secure:
            assert secure.read("\n", WITHIN) == (b"hello\n", None)
            assert secure.alpnproto() == "chat/1"
            secure.write("bye\n")
            assert secure.read(1, WITHIN) == (None, errno.EOF)
            secure.close()
        assert serving.result() == b"bye\n"


def post_office(mails: list[bytes], evil: list[bytes]) -> Callable[[Any], None]:
    """A small server of SMTP (RFC 5321) with STARTTLS (RFC 3207)."""

    def serve(conn: Any) -> None:
        secure = False
        conn.write("220 here\r\n")
        while True:
            line, _ = conn.read("\r\n")
            if line is None:
                return
            word = line.split()[0].upper()
            if word == b"EHLO":
                conn.write("250 here\r\n" if secure else "250-here\r\n250 STARTTLS\r\n")
            elif word == b"STARTTLS":
                conn.write("220 go ahead\r\n")
                conn, _ = tls.upgrade(conn, certs=ENTRY)
                if conn is None:
                    return
                secure = True
            elif word == b"DATA":
                conn.write("354 go ahead\r\n")
                mails.append(conn.read("\r\n.\r\n")[0])
                conn.write("250 taken\r\n")
            elif word == b"QUIT":
                conn.write("221 bye\r\n")
                conn.close()
                return
            else:
                if word not in (b"MAIL", b"RCPT"):
                    evil.append(line)
                conn.write("250 good\r\n" if secure else "530 STARTTLS first\r\n")

    return serve


def test_smtplib() -> None:
    mails: list[bytes] = []

    def send(port: int, number: int) -> Any:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "a@example.org", "b@example.org", f"number {number}"
        mail.set_content("text\n" * 5000)
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp:
            smtp._host = "localhost"  # type: ignore[attr-defined]  # whose name it verifies
            smtp.starttls(context=python_context())
            smtp.ehlo()
            return smtp.send_message(mail)

    with check(tcp.listen("127.0.0.1:0", post_office(mails, []))) as listener:
        for result in task.map(lambda number: in_thread(send, listener.port, number), range(4), limit=4):
            assert result == {}
    assert sorted(number for number in range(4) for mail in mails if b"number %d\r\n" % number in mail) == [0, 1, 2, 3]


# ---- what is verified ------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # the client's options, the server's, what the client's log line says
    "another name": ({"hostname": "example.org"}, {}, "the certificate is not for example.org: it is for localhost"),
    "another authority": ({"ca": stranger().pem}, {}, "the certificate's issuer is not trusted"),
    "no common protocol": ({"alpnprotos": ["chat/3"]}, {"alpnprotos": ["chat/1"]}, ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_server_is_refused(case: str, logs: Any) -> None:
    options, given, words = REFUSED[case]
    logs.expect(f"INFO tls.upgrade client:.*: TLS: {words}")
    logs.allow("INFO tls: server:.*: handshake failed: TLS: ")
    with connected() as (mine, theirs):
        mine.remoteaddr, theirs._stream.remoteaddr = "client:1", "server:1"
        result, (conn, _) = shaken(mine, theirs, given, **options)
        assert result == (None, errno.TLS)
        is_over(mine)
        if conn is not None:
            assert conn.read(1, WITHIN)[0] is None
            conn.close()


def test_without_verification(logs: Any) -> None:
    logs.allow("verify=False")
    with secured(hostname="example.org", ca=None, verify=False) as (mine, _):
        assert "localhost" in mine.peercert().names


@pytest.mark.parametrize("cert", [None, issue("mallory", stranger()).entry], ids=["none", "a stranger's"])
def test_a_client_is_refused(cert: Any, logs: Any) -> None:
    logs.expect("INFO tls: .*: handshake failed: TLS: ")
    logs.allow("INFO tls: server:.*: TLS: ")
    with connected() as ends:
        (conn, _), result = shaken(*ends, {"ca": root().pem, "verify": "require"}, cert=cert)
        assert result == (None, errno.TLS)
        is_over(ends[1])
        if conn is not None:  # in TLS 1.3 its handshake ended before it was refused
            assert conn.read(1, WITHIN) == (None, errno.TLS)
            conn.close()


# ---- plaintext that is put in ----------------------------------------------------------------------------------------


EVIL = [b"EVIL\r\n", b"E", b"\x16\x03\x01\x00\x05EVIL!", b"EVIL\r\n" * 20_000]


@pytest.mark.parametrize("evil", EVIL, ids=["line", "byte", "record", "large"])
@pytest.mark.parametrize("late", [False, True], ids=["unread", "later"])
def test_a_command_behind_starttls(evil: bytes, late: bool, logs: Any) -> None:
    """It came before or after the server has looked; a real handshake follows."""
    logs.expect("INFO tls: .*: handshake failed: TLS: ")
    logs.allow("INFO tls.upgrade ")
    limits = silly.Limits(receive_mark=1 << 20)
    with connected(limits=limits) as (mine, theirs):
        if late:
            serving = Job(lambda: tls.upgrade(theirs, certs=ENTRY)).blocked()
            mine.write(evil)
        else:
            mine.write(evil)
            until(lambda: theirs.unreadbytes() == len(evil))
            serving = Job(lambda: tls.upgrade(theirs, certs=ENTRY))
        assert tls.upgrade(mine, "localhost", ca=root().pem)[0] is None
        assert serving.result() == (None, errno.TLS)
        is_over(theirs)


def test_a_mail_client_that_sends_on(logs: Any) -> None:
    """CVE-2011-0411, as it was found: the command must not be obeyed after the handshake."""
    logs.expect(r"INFO tls: .*: handshake failed: TLS: the peer does not speak TLS: it began with b'RSET EVIL\\r\\n'")
    evil: list[bytes] = []

    def attack(port: int) -> Any:
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            assert raw.recv(100) == b"220 here\r\n"
            raw.sendall(b"STARTTLS\r\nRSET EVIL\r\n")
            assert raw.recv(14) == b"220 go ahead\r\n"  # the alert may come with it
            with pytest.raises((ssl.SSLError, OSError)):
                python_context().wrap_socket(raw, server_hostname="localhost")

    with check(tcp.listen("127.0.0.1:0", post_office([], evil))) as listener:
        in_thread(attack, listener.port)
        turns()
    assert evil == []


@pytest.mark.parametrize("evil", [b"250 evil\r\n", b"2", b"\x16\x03"], ids=["line", "byte", "record"])
@pytest.mark.parametrize("late", [False, True], ids=["unread", "later"])
def test_an_answer_before_the_handshake(evil: bytes, late: bool, logs: Any) -> None:
    logs.expect("INFO tls.upgrade .*: TLS: ")
    logs.allow("INFO tls: ")
    with connected() as (mine, theirs):
        if late:
            asking = Job(lambda: tls.upgrade(mine, "localhost", ca=root().pem)).blocked()
            theirs.write(evil)
        else:
            theirs.write(evil)
            until(mine.unreadbytes)
            asking = Job(lambda: tls.upgrade(mine, "localhost", ca=root().pem))
        assert tls.upgrade(theirs, certs=ENTRY)[0] is None
        assert asking.result() == (None, errno.TLS)
        is_over(mine)


def test_a_client_that_does_not_wait_for_an_answer() -> None:
    """As MySQL's: its handshake begins right behind the request, so some of it is unread. That is no plaintext."""
    with connected() as (mine, theirs):
        mine.write("STARTTLS\n")
        asking = Job(lambda: tls.upgrade(mine, "localhost", ca=root().pem)).blocked()
        assert theirs.read("\n", WITHIN) == (b"STARTTLS\n", None)
        until(theirs.unreadbytes)
        with check(tls.upgrade(theirs, certs=ENTRY)) as served, check(asking.result()) as secure:
            secure.write("hello\n")
            assert served.read("\n", WITHIN) == (b"hello\n", None)


def test_a_close_of_the_old_connection_does_not_end_it() -> None:
    with connected() as (mine, theirs):
        asking = Job(lambda: tls.upgrade(mine, "localhost", ca=root().pem)).blocked()
        is_over(mine)
        with check(tls.upgrade(theirs, certs=ENTRY)), check(asking.result()):
            pass


# ---- wrong uses ------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "no role": (TypeError, "needs hostname to be the client, or certs to be the server", {}),
    "both roles": (TypeError, "hostname and cert are for the client, certs is", {"hostname": "localhost", "certs": ENTRY}),
    "a server with cert": (TypeError, "hostname and cert are for the client, certs is", {"cert": ENTRY[0], "certs": ENTRY}),
    "a number as the name": (TypeError, "hostname is the server's name, not int", {"hostname": 5}),
    "a client with ciphers": (TypeError, "ciphers is a setting of the server", {"hostname": "a", "ciphers": "AESGCM"}),
    "a client's verify": (TypeError, "verify is True or False, not 'require'", {"hostname": "a", "verify": "require"}),
    "a server's verify": (ValueError, "verify is None, 'request' or 'require', not True", {"certs": ENTRY, "verify": True}),
    "certs is a dict": (TypeError, "certs is a list of dicts, not dict", {"certs": ENTRY[0]}),
    "a context as certs": (TypeError, "certs is a list of dicts, not SSLContext", {"certs": CONTEXT}),
    "a context for names": (TypeError, "such as .'http/1.1'., not SSLContext", {"hostname": "a", "alpnprotos": CONTEXT}),
    "no certs": (ValueError, "certs needs at least one", {"certs": []}),
    "no such file": (ValueError, "can't read 'ca.pem'", {"hostname": "localhost", "ca": "ca.pem"}),
    "ciphers": (TypeError, "ciphers is text", {"certs": ENTRY, "ciphers": ["AESGCM"]}),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_change_nothing(case: str) -> None:
    kind, words, options = WRONG[case]
    with connected() as (mine, theirs):
        with pytest.raises(kind, match=words):
            tls.upgrade(mine, **options)
        mine.write("hello\n")
        assert theirs.read("\n", WITHIN) == (b"hello\n", None)


def test_what_is_no_plain_connection() -> None:
    with pytest.raises(TypeError, match=r"tls.upgrade needs a connection of silly.net.tcp, not int"):
        tls.upgrade(12, "localhost")  # type: ignore[call-overload]
    with secured() as (mine, theirs):
        with pytest.raises(TypeError, match="speaks TLS already, and TLS within TLS is not supported"):
            tls.upgrade(mine, "localhost")
        mine.write("hello\n")
        assert theirs.read("\n", WITHIN) == (b"hello\n", None)


@pytest.mark.parametrize("how", ["read", "select"])
def test_another_task_reads(how: str) -> None:
    with connected() as (mine, theirs):
        reads = (lambda: mine.read("\n")) if how == "read" else (lambda: task.select(mine))
        reading = Job(reads).blocked()
        with pytest.raises(RuntimeError, match="another task is already reading from it"):
            tls.upgrade(mine, "localhost")
        theirs.write("hello\n")
        reading.result()
        assert how == "read" or mine.read("\n") == (b"hello\n", None)


def test_another_task_begins_to_read_meanwhile() -> None:
    """The call has begun to send: it closes."""
    with connected() as (mine, theirs):
        writing = Job(lambda: mine.write(LARGE)).blocked()
        asking = Job(lambda: tls.upgrade(mine, "localhost")).blocked()
        reading = Job(lambda: mine.read(1)).blocked()
        assert theirs.read(len(LARGE), WITHIN) == (LARGE, None)
        with pytest.raises(RuntimeError, match="another task is already reading from it"):
            asking.result()
        assert writing.result() == (True, None)
        assert reading.result() == (None, errno.CLOSED)


def test_a_connection_that_is_over() -> None:
    with connected() as (mine, theirs):
        theirs.close()
        assert mine.read(1) == (None, errno.EOF)
        assert tls.upgrade(mine, "localhost") == (None, errno.EOF)
        assert tls.upgrade(mine, "localhost") == (None, errno.CLOSED)
        assert tls.upgrade(theirs, certs=ENTRY) == (None, errno.CLOSED)


def test_our_data_has_ended() -> None:
    with connected() as (mine, theirs):
        mine.closewrite()
        assert tls.upgrade(mine, "localhost") == (None, errno.CLOSED)
        assert theirs.read(1, WITHIN) == (None, errno.EOF)


def test_a_name_that_no_host_can_have() -> None:
    with connected() as (mine, _):
        assert tls.upgrade(mine, "a" * 64) == (None, errno.RESOLVE)
        is_over(mine)


# ---- it ends early ---------------------------------------------------------------------------------------------------


def upgrades(conn: Any, role: str, **options: Any) -> Any:
    return tls.upgrade(conn, "localhost", **options) if role == "client" else tls.upgrade(conn, certs=ENTRY, **options)


def limited(conn: Any, role: str) -> Any:
    with time.deadline(20):
        return upgrades(conn, role)


ENDS: dict[str, Callable[[Any, str], Any]] = {
    "timeout": partial(upgrades, timeout=20),
    "no time at all": partial(upgrades, timeout=0),
    "deadline": limited,
    "limit": upgrades,
}


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("how", ENDS)
def test_a_peer_that_is_silent(how: str, role: str, logs: Any) -> None:
    if role == "server":
        logs.expect("INFO tls: .*: handshake failed: Operation timed out")
    limits = silly.Limits(handshake_timeout=20) if how == "limit" else DEFAULT
    with connected(limits=limits) as (mine, _):
        assert ENDS[how](mine, role) == (None, errno.TIMEDOUT)
        is_over(mine)


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("how", ["timeout", "no time at all", "deadline"])
def test_a_peer_that_takes_nothing(how: str, role: str) -> None:
    limits = silly.Limits(linger=20)
    with connected(limits=limits) as (mine, _):
        writing = Job(lambda: mine.write(LARGE)).blocked()
        assert ENDS[how](mine, role) == (None, errno.TIMEDOUT)
        is_over(mine)
        assert writing.result() == (False, errno.CLOSED)


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("at", ["sending", "handshake"])
@pytest.mark.parametrize("how", ["cancel", "killed"])
def test_the_task_is_ended(how: str, at: str, role: str) -> None:
    """The connection is closed then, and what the task had written before still goes out."""
    with connected() as (mine, theirs):
        writing = Job(lambda: mine.write(LARGE)) if at == "sending" else None
        turns(1)
        upgrading = Job(lambda: upgrades(mine, role)).blocked()
        if how == "cancel":
            upgrading.task.cancel()
            with pytest.raises(scheduler.Cancelled):
                upgrading.result()
        else:
            upgrading.kill()
        is_over(mine)
        if writing is not None:
            assert theirs.read(len(LARGE), WITHIN) == (LARGE, None)
            assert writing.result() == (False, errno.CLOSED)


@pytest.mark.parametrize("role", ["client", "server"])
def test_nothing_waits_any_more(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the process's end is over."""
    with connected() as (mine, _):
        monkeypatch.setattr(scheduler, "exiting", True)
        assert upgrades(mine, role) == (None, errno.CLOSED)
        is_over(mine)


PROGRAM = """
import silly
from silly import task, testing, time
from silly.net import tls
from silly._core import ending

ending.strict = True
ends = [testing.pair() for _ in range(4)]

def upgrade(conn, size, options):
    conn.write(bytes(size))  # the larger one is more than the other end's buffer
    try:
        tls.upgrade(conn, **options)
    finally:
        print(conn.isalive(), flush=True)

cases = [(size, options) for size in (1, 1 << 19) for options in ({"hostname": "a"}, {"certs": CERTS})]
for (conn, _), case in zip(ends, cases):
    task.fork(upgrade, conn, *case)
time.sleep(20)
silly.exit(7)
"""


def test_the_end_of_the_process() -> None:
    """It ends the task at each of its waits, and nothing is left or said."""
    with Child("-X", "dev", "-W", "error", "-c", PROGRAM.replace("CERTS", repr(ENTRY))) as child:
        assert [child.line() for _ in range(4)] == ["False"] * 4
        assert (child.wait(), child.errors()) == (7, "")


def test_no_memory_for_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor is freed, and what waits for that is called."""
    released = []

    def fails(ssl: Any) -> Any:
        raise MemoryError

    with connected() as (mine, theirs):
        mine._stream.when_released(lambda: released.append(1))
        monkeypatch.setattr(_tls_stream, "new_pipe", fails)
        with pytest.raises(MemoryError):
            tls.upgrade(mine, "localhost")
        assert released == [1]
        is_over(mine)
        assert theirs.read(1, WITHIN) == (None, errno.EOF)


def test_nothing_stays_of_many() -> None:
    """Failed and good ones; memory is looked at by the number of objects."""

    def one(name: str) -> None:
        with connected() as ends:
            for conn, _ in shaken(*ends, hostname=name, ca=root().pem):
                if conn is not None:
                    conn.close()

    def some() -> int:
        for name in ("localhost", "127.0.0.1") * 5:
            one(name)
        turns()
        gc.collect()
        return sum(isinstance(each, (tcp.Conn, _stream.Stream)) for each in gc.get_objects())

    assert some() == some() == some()
