"""What peers do to TLS that they shouldn't: floods, oversized and broken records, plain text, stalls."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from OpenSSL import SSL

import silly
from silly import errno, time
from silly.net import _gathered, http, tls
from silly.sync import channel

from ..helpers import WITHIN, Raw, joined, raw_server, spawn, turn
from .authorities import root, server
from .support import Job, until
from .tls_records import ALERT, CHANGE_CIPHER_SPEC, CLOSE_NOTIFY, HANDSHAKE, KEY_UPDATE, KEY_UPDATE_REQUESTED, Forger
from .tls_support import NO_PROTOCOL, connect, explained, listening

MIB = 1024 * 1024


@contextmanager
def victim(**options: Any) -> Iterator[tuple[Any, Forger]]:
    """A connection that our listener accepted, and the client that forges records for it."""
    conns, ends = channel.new(), channel.new()

    def accept(conn: Any) -> None:
        conns.push((conn,))
        ends.pop()

    with listening(accept, **options) as listener, Raw.connect(listener) as raw:
        forger = Forger(raw).shake_hands()
        (conn,), _ = conns.pop()
        until(raw.conn.unreadbytes)
        forger.receive()  # the tickets
        yield conn, forger
        conn.close()
        ends.close()


@contextmanager
def client_victim() -> Iterator[tuple[Any, Forger]]:
    """A connection of ``tls.connect``, and the server that forges records for it."""
    forgers = channel.new()

    def script(conn: Any) -> None:
        forgers.push((Forger(Raw(conn), server()).shake_hands(),))

    with raw_server(script) as listener:
        conn = connect(listener)
        (forger,), _ = forgers.pop()
        yield conn, forger
        conn.close()
        forger.raw.close()


# ---- records --------------------------------------------------------------------------------------------------------


def test_a_forger_is_understood() -> None:
    for make in (victim, client_victim):
        with make() as (conn, forger):
            forger.put(b"hello", padding=100)
            assert conn.read(5, WITHIN) == (b"hello", None)
            conn.write("world")
            assert forger.read(5) == b"world"
            forger.put(CLOSE_NOTIFY, ALERT)
            assert conn.read(1, WITHIN) == (None, errno.EOF)


@pytest.mark.parametrize("padding", [0, 16_000])
def test_empty_records(padding: int, logs: Any) -> None:
    """A few may come. More in a row are an attack on the CPU."""
    logs.expect("INFO tls: .*: TLS: ")
    with victim() as (conn, forger):
        for _ in range(20):
            forger.put(b"", padding=padding)
        forger.put(b"x")
        assert conn.read(1, WITHIN) == (b"x", None)
        forger.raw.send(b"".join(forger.record(b"", padding=padding) for _ in range(100)))
        assert conn.read(1, WITHIN) == (None, errno.TLS)


def test_tiny_records() -> None:
    """However many come at once, each is read. (``test_tls_pipe`` counts the calls of OpenSSL.)"""
    with victim() as (conn, forger):
        count = 20_000
        expected = b"".join(b"%d" % (n % 10) for n in range(count))
        data = b"".join(forger.record(expected[n : n + 1]) for n in range(count))
        sending = spawn(lambda: forger.raw.conn.write(data))
        assert conn.read(count, WITHIN) == (expected, None)
        assert joined(sending) == (True, None)


def test_a_record_that_comes_byte_by_byte() -> None:
    """OpenSSL is asked when a record is whole, and not before."""
    with victim() as (conn, forger):
        forger.raw.dribble(forger.record(b"a") + forger.record(b"b" * 300) + forger.record(b"c"))
        assert conn.read(302, WITHIN) == (b"a" + b"b" * 300 + b"c", None)


@pytest.mark.parametrize("update", [KEY_UPDATE, KEY_UPDATE_REQUESTED])
def test_key_updates(update: bytes) -> None:
    """As many as one likes, of a peer that reads the answers."""
    with victim() as (conn, forger):
        for number in range(200):
            forger.raw.send(forger.record(update, HANDSHAKE))
            forger.next_key()
            forger.put(b"%03d" % number)
            assert conn.read(3, WITHIN) == (b"%03d" % number, None)
            conn.write("y")
            assert forger.read(1) == b"y"


def test_a_flood_of_key_updates(logs: Any) -> None:
    """Each must be answered, and the peer reads no answer."""
    logs.expect("INFO tls: .*: a flood of key updates from a peer that doesn't read")
    with victim() as (conn, forger):
        big = spawn(lambda: conn.write(b"x" * 20 * MIB))
        until(lambda: conn._stream.blocked)
        while conn._stream.werr is None:
            for _ in range(50):
                forger.raw.conn.write(forger.record(KEY_UPDATE_REQUESTED, HANDSHAKE))
                forger.next_key()
            turn()
        assert joined(big) == (False, errno.TLS)
        assert conn.read(1, WITHIN) == (None, errno.TLS)


BROKEN = {
    "unknown type": (b"x", 99),
    "a handshake after the handshake": (b"\x01\0\0\x02\x03\x03", HANDSHAKE),
    "an endless handshake message": (b"\x04\xff\xff\xff" + b"x" * 1000, HANDSHAKE),
    "change of cipher": (b"\x01", CHANGE_CIPHER_SPEC),
    "half an alert": (b"\x01", ALERT),
    "a fatal alert": (b"\x02\x28", ALERT),
    "a key update of a wrong length": (b"\x18\0\0\x02\0\0", HANDSHAKE),
    "a key update of a wrong kind": (b"\x18\0\0\x01\x07", HANDSHAKE),
    "a certificate": (b"\x0b\0\0\x04\0\0\0\0", HANDSHAKE),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_records(name: str, logs: Any) -> None:
    """What came before them is good; both directions end."""
    logs.expect(r"INFO tls: 127\.0\.0\.1:\d+: TLS: ")
    content, kind = BROKEN[name]
    with victim() as (conn, forger):
        forger.raw.send(forger.record(b"good") + forger.record(content, kind))
        assert conn.read(5, WITHIN) == (None, errno.TLS)
        assert conn.read(4, WITHIN) == (b"good", None)
        assert conn.write("x") == (False, errno.TLS)
        assert conn._stream.why.startswith("TLS: ")
    assert len(logs.lines) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x17\x03\x03\xff\xff",
        b"\x17\x03\x03\x00\x00",
        b"\x17\x03\x03\x00\x01x",
        b"\x17\x02\x03\x00\x40" + b"x" * 64,
        b"\x80\x03\x03\x00\x40" + b"x" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x17\x03\x03\x00\x40" + b"x" * 64,
    ],
)
@pytest.mark.parametrize("dribbled", [False, True])
def test_bytes_that_are_not_a_record(data: bytes, dribbled: bool, logs: Any) -> None:
    logs.expect(r"INFO tls: 127\.0\.0\.1:\d+: TLS: ")
    with victim() as (conn, forger):
        if dribbled:
            forger.raw.dribble(data)
        else:
            forger.raw.send(data)
        assert conn.read(1, WITHIN) == (None, errno.TLS)
        assert forger.failure()
    assert len(logs.lines) == 1


def test_an_invalid_record_before_much_data(logs: Any) -> None:
    """However much of it arrives by one receive."""
    logs.expect(r"INFO tls: 127\.0\.0\.1:\d+: TLS: ")
    with victim() as (conn, forger):
        reading = spawn(lambda: conn.read(300_000, WITHIN))
        turn()
        forger.raw.conn.write(forger.record(b"good") + b"\x17\x03\x03\x00\x40" + b"x" * 400_000)
        assert joined(reading) == (None, errno.TLS)
        assert conn.read(4, WITHIN) == (b"good", None)
    assert len(logs.lines) == 1


def test_warnings_in_number(logs: Any) -> None:
    """user_canceled says nothing by itself (RFC 8446, section 6.1)."""
    logs.expect("INFO tls: .*: TLS: too many warn alerts")
    with victim() as (conn, forger):
        forger.raw.send(b"".join(forger.record(b"\x01\x5a", ALERT) for _ in range(100)))
        assert conn.read(1, WITHIN) == (None, errno.TLS)


def test_a_flood_of_tickets() -> None:
    """A server may send any number; no more than the last is kept."""
    ticket = b"\0\0\x1c\x20" + b"\1\2\3\4" + b"\x01\x09" + (1000).to_bytes(2, "big") + b"t" * 1000 + b"\0\0"
    message = b"\x04" + len(ticket).to_bytes(3, "big") + ticket
    with client_victim() as (conn, forger):
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(20):
                forger.raw.send(b"".join(forger.record(message, HANDSHAKE) for _ in range(50)))
                turn(2)
            forger.put(b"x")
            assert conn.read(1, WITHIN) == (b"x", None)
            assert tracemalloc.get_traced_memory()[0] - before < 500_000
        finally:
            tracemalloc.stop()


def test_a_client_has_no_tickets_to_give(logs: Any) -> None:
    logs.expect("INFO tls: .*: TLS: unexpected message")
    with victim() as (conn, forger):
        forger.put(b"\x04\0\0\x0d\0\0\0\x01\0\0\0\0\0\0\0\0\0", HANDSHAKE)
        assert conn.read(1, WITHIN) == (None, errno.TLS)


@pytest.mark.parametrize("size", [1, 20_000, 100_000])
@pytest.mark.parametrize("waits", [True, False])
def test_data_that_openssl_refuses(size: int, waits: bool, logs: Any) -> None:
    """A record may be missing now, so the connection is over. What is gathered is sealed later: then the next call says so,
    as after a reset."""
    logs.expect("INFO tls: .*: TLS: ")
    with victim() as (conn, _):
        stream = conn._stream
        stream.ssl.shutdown()  # after its close_notify OpenSSL takes nothing
        write = stream.write if waits else stream.write_nowait
        at_once = waits and size > _gathered.GATHER
        assert joined(spawn(lambda: write(b"x" * size))) == (errno.TLS if at_once else None)
        until(lambda: stream.sock is None)
        assert conn.read(1, WITHIN) == (None, errno.TLS)
        assert conn.write("x") == (False, errno.TLS)
    assert len(logs.lines) == 1


class NoMemory:
    """A ``Pipe`` that has none."""

    partial = 0

    def _fail(self, *args: Any) -> Any:
        raise MemoryError

    sealed = 0
    receive = seal = _fail


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("reading", [True, False])
def test_no_memory_for_what_comes(held: bool, reading: bool, logs: Any) -> None:
    """Nobody takes a part of it for all: the connection is over, and its unread data gone."""
    logs.expect("ERROR exception in .*on_event(.|\n)*(BufferError|MemoryError)")
    with victim() as (conn, forger):
        forger.put(b"before")
        until(conn.unreadbytes)
        stream = conn._stream
        job = spawn(lambda: conn.read(100, WITHIN)) if reading else None
        turn()
        if held:
            view = memoryview(stream.buf)
        else:
            stream.pipe = NoMemory()
        forger.put(b"behind")
        until(lambda: stream.sock is None)
        if held:
            view.release()
        assert job is None or joined(job) == (None, errno.NOMEM)
        assert conn.unreadbytes() == 0
        assert conn.read(1) == (None, errno.NOMEM)
        assert conn.write("x") == (False, errno.NOMEM)


@pytest.mark.parametrize("size", [1, 100_000])
def test_no_memory_for_what_goes_out(size: int, logs: Any) -> None:
    """A record may be missing now, so the connection is over."""
    gathered = size < _gathered.GATHER
    if gathered:
        logs.expect("ERROR exception in .*flush(.|\n)*MemoryError")
    with victim() as (conn, _):
        stream = conn._stream
        stream.pipe = NoMemory()

        def write() -> None:
            if gathered:
                assert conn.write(b"x" * size) == (True, None)
                return
            with pytest.raises(MemoryError):
                conn.write(b"x" * size)

        joined(spawn(write))
        until(lambda: stream.sock is None)
        assert (stream._gathered, stream._out, stream.unsent) == ([], [], 0)
        assert conn.read(1) == (None, errno.NOMEM)
        assert conn.write("x") == (False, errno.NOMEM)


@pytest.mark.parametrize("size", [1, 20_000, 100_000])
def test_pending_output_of_openssl_is_sent_first(size: int) -> None:
    """All of it, and what was written behind it is whole."""
    with victim() as (conn, forger):
        before = b"a" * 5_000
        conn._stream.ssl.send(before)
        sending = spawn(lambda: conn.write(b"b" * size))
        assert forger.read(len(before) + size) == before + b"b" * size
        assert joined(sending) == (True, None)


# ---- ends -----------------------------------------------------------------------------------------------------------


def test_close_notify_and_reading_on() -> None:
    """A peer that has said that it sends no more still gets what we write (RFC 8446, section 6.1)."""
    with victim() as (conn, forger):
        forger.raw.send(forger.record(b"last") + forger.record(CLOSE_NOTIFY, ALERT))
        assert conn.read(5, WITHIN) == (None, errno.EOF)
        assert conn.read(4) == (b"last", None)
        sending = spawn(lambda: conn.write(b"x" * 3 * MIB))
        assert forger.read(3 * MIB) == b"x" * 3 * MIB
        assert joined(sending) == (True, None)
        assert conn.close() == (True, None)
        with pytest.raises(SSL.ZeroReturnError):
            forger.read(1)


def test_data_after_the_end_is_dropped() -> None:
    """RFC 8446, section 6.1."""
    with victim() as (conn, forger):
        forger.raw.send(forger.record(CLOSE_NOTIFY, ALERT) + forger.record(b"more"))
        assert conn.read(1, WITHIN) == (None, errno.EOF)
        assert conn.unreadbytes() == 0


def test_close_notify_after_a_failed_write() -> None:
    """The peer has closed and is gone: what it sent arrived whole, so this is its end and no broken pipe."""
    with victim() as (conn, forger):
        forger.raw.send(forger.record(b"all") + forger.record(CLOSE_NOTIFY, ALERT))
        conn._stream._write_failed(errno.PIPE)
        assert conn.read(4, WITHIN) == (None, errno.EOF)
        assert conn.read(3) == (b"all", None)
        assert conn.write("x") == (False, errno.PIPE)


def test_a_client_s_close_waits_for_the_tickets() -> None:
    """Closed before the server's tickets have come: they would meet a closed socket, and its reset may destroy what was
    written. So the socket stays until the server has ended."""
    forgers = channel.new()

    def script(conn: Any) -> None:
        forgers.push((Forger(Raw(conn), server()).shake_hands(),))

    for wrote in (True, False):
        with raw_server(script) as listener:
            conn = connect(listener)
            (forger,), _ = forgers.pop()
            if wrote:
                conn.write("data")
            conn.close()
            turn(3)
            assert (conn._stream.sock is not None) is wrote
            if wrote:
                forger.raw.send(forger.output())
                assert forger.read(4) == b"data"
            forger.raw.close()
            until(lambda conn=conn: conn._stream.sock is None)


def test_data_with_the_end_of_the_handshake() -> None:
    """The session is kept all the same, with the next data."""
    forgers = channel.new()

    def script(conn: Any) -> None:
        forger = Forger(Raw(conn), server(), SSL.TLS1_2_VERSION).shake_hands()
        forger.ssl.send(b"early")
        forger.raw.send(forger.output())  # its Finished, too
        forgers.push((forger,))

    with raw_server(script) as listener:
        conn = connect(listener)
        (forger,), _ = forgers.pop()
        assert conn.unreadbytes() == 5
        assert conn._stream.keep_session is not None
        assert conn.read(5) == (b"early", None)
        reading = Job(lambda: conn.read(4, WITHIN)).blocked()
        forger.ssl.send(b"next")
        forger.raw.send(forger.output())
        assert reading.result() == (b"next", None)
        assert conn._stream.keep_session is None
        conn.close()
        forger.raw.close()


# ---- handshakes -----------------------------------------------------------------------------------------------------


def test_a_handshake_byte_by_byte() -> None:
    with listening() as listener, Raw.connect(listener) as raw:
        forger = Forger(raw).shake_hands(dribbled=True)
        forger.put(b"hello\n")
        assert forger.read(6) == b"hello\n"


def hello() -> bytes:
    """A ClientHello."""
    forger = Forger(Raw(None))
    with pytest.raises(SSL.WantReadError):
        forger.ssl.do_handshake()
    return forger.output()


@pytest.mark.parametrize("sent", ["nothing", "a byte", "half", "all", "a method"])
def test_a_client_that_stalls(sent: str, logs: Any) -> None:
    """Others are served meanwhile."""
    logs.expect("INFO tls: .*: handshake failed: Operation timed out")
    logs.allow("the peer does not speak TLS")
    data = {"nothing": b"", "a byte": b"\x16", "half": hello()[:100], "all": hello(), "a method": b"GET"}[sent]
    with listening(limits=silly.Limits(handshake_timeout=100)) as listener, Raw.connect(listener) as raw:
        raw.send(data)
        with connect(listener) as conn:
            conn.write("x\n")
            assert conn.read("\n", WITHIN) == (b"x\n", None)
        raw.rest()
    assert len(logs.lines) == 1


def test_a_server_that_stalls() -> None:
    """After a part of its answer."""

    def script(conn: Any) -> None:
        forger = Forger(Raw(conn), server())
        forger.receive()
        with pytest.raises(SSL.WantReadError):
            forger.ssl.do_handshake()
        forger.raw.send(forger.output()[:200])
        forger.raw.rest()

    with raw_server(script) as listener:
        begin = time.monotonic()
        assert tls.connect(listener.addr, ca=root().pem, timeout=100) == (None, errno.TIMEDOUT)
        assert tls.connect(listener.addr, ca=root().pem, limits=silly.Limits(handshake_timeout=100)) == (None, errno.TIMEDOUT)
        assert time.monotonic() - begin >= 190


def handshake_record(length: int, size: int) -> bytes:
    """A record with the beginning of a ClientHello that says it has ``length`` bytes."""
    body = b"\x01" + length.to_bytes(3, "big") + b"\x03\x03" + bytes(size)
    return b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (handshake_record(0xFFFFFF, 100), "excessive message size|bad|length"),
        (b"\x16\x03\x01\xff\xff" + b"x" * 100, "length|size"),
        (b"\x16\x03\x01\x00\x00" * 100, "."),
        (b"\x15\x03\x01\x00\x02\x01\x00", "."),
        (b"\x15\x03\x03\x00\x02\x02\x28", "."),
        (b"\x17\x03\x03\x00\x05hello", "."),
        (b"\x80\x2e\x01\x03\x01" + bytes(50), "the peer does not speak TLS: it began with "),
        (b"\0" * 100, r"the peer does not speak TLS: it began with b'\\x00"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the peer does not speak TLS: it began with b'SSH-2.0-OpenSSH_9.2"),
        (b"x" * 100, "the peer does not speak TLS: it began with b'xxx"),
        (b"\r\nGET / HTTP/1.1\r\n", "the peer does not speak TLS"),
        (b"\x1b[31m\n" * 20, r"the peer does not speak TLS: it began with b'\\x1b\[31m(\\n)?"),
    ],
)
@pytest.mark.parametrize("dribbled", [False, True])
def test_clients_that_speak_no_tls(data: bytes, why: str, dribbled: bool, logs: Any) -> None:
    """An alert at most, no HTTP; one printable line of the log."""
    logs.expect(f"INFO tls: .*: handshake failed: (the peer ended|TLS: .*({why}))")
    with listening() as listener, Raw.connect(listener) as raw:
        if dribbled:
            raw.dribble(data)
        else:
            raw.send(data)
        raw.half_close()
        answer = raw.rest()
    assert answer == b"" or (answer[0] == 0x15 and len(answer) == 7)
    assert len(logs.lines) == 1
    assert logs.lines[0].isprintable()


@pytest.mark.parametrize("alert", [b"", b"\x02\x46", b"\x02\x28", b"\x02\x70", b"\x02\x78", b"\x02\x31", b"\x02\x0a"])
def test_servers_that_refuse(alert: bytes) -> None:
    """What the alert means, in words."""
    words = {
        b"": "the peer ended the TLS handshake",
        b"\x02\x46": "TLS: the peer supports neither TLS 1.2 nor TLS 1.3 (tlsv1 alert protocol version)",
        b"\x02\x28": "TLS: the peer found no cipher or other parameter in common, or wants a client certificate (",
        b"\x02\x70": "TLS: the peer doesn't know that host name (",
        b"\x02\x78": NO_PROTOCOL,
        b"\x02\x31": "TLS: the peer denies access (",
        b"\x02\x0a": "TLS: ",
    }

    def script(conn: Any) -> None:
        raw = Raw(conn)
        raw.read(5)
        if alert:
            raw.send(b"\x15\x03\x03\x00\x02" + alert)
        raw.half_close()
        raw.conn.read(100_000, WITHIN)

    with raw_server(script) as listener:
        assert explained(listener).startswith(words[alert])


def test_a_server_of_old_versions() -> None:
    """One that answers with TLS 1.1."""
    server_hello = b"\x02\0\0\x28\x03\x02" + bytes(32) + b"\0\xc0\x13\0\0\0"
    answer = b"\x16\x03\x02" + len(server_hello).to_bytes(2, "big") + server_hello

    def script(conn: Any) -> None:
        raw = Raw(conn)
        raw.read(5)
        raw.send(answer)
        raw.conn.read(100_000, WITHIN)

    with raw_server(script) as listener:
        assert explained(listener).startswith("TLS: the peer supports neither TLS 1.2 nor TLS 1.3 (")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"220 mail.example.org ESMTP\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\0\0\0\0\0\0",
        b"\x16GET ",
        b"\x1b[31m\r\n\r\n",
    ],
)
def test_servers_that_speak_no_tls(answer: bytes) -> None:
    def script(conn: Any) -> None:
        raw = Raw(conn)
        raw.read(5)
        raw.send(answer)
        raw.conn.read(100_000, WITHIN)

    with raw_server(script) as listener:
        err = explained(listener)
    assert err.startswith("TLS: the peer does not speak TLS: it began with ")
    assert err.isprintable()


def test_a_server_with_endless_certificates() -> None:
    """What a server may send in its handshake is bounded."""

    def script(conn: Any) -> None:
        forger = Forger(Raw(conn), server(), SSL.TLS1_2_VERSION)
        forger.receive()
        with pytest.raises(SSL.WantReadError):
            forger.ssl.do_handshake()
        flight = forger.output()
        size = 5 + int.from_bytes(flight[3:5], "big")
        endless = b"\x0b\xff\xff\xff" + b"x" * 1000
        forger.raw.send(flight[:size] + b"\x16\x03\x03" + len(endless).to_bytes(2, "big") + endless)
        forger.raw.conn.read(100_000, WITHIN)

    with raw_server(script) as listener:
        assert explained(listener) == "TLS: excessive message size"


# ---- renegotiation --------------------------------------------------------------------------------------------------


def test_no_renegotiation_for_a_client() -> None:
    """TLS 1.2: the connection goes on as it was (RFC 5246, section 7.2.2)."""
    with listening() as listener, Raw.connect(listener) as raw:
        forger = Forger(raw, version=SSL.TLS1_2_VERSION).shake_hands()
        assert forger.ssl.renegotiate()
        with pytest.raises(SSL.WantReadError):
            forger.ssl.do_handshake()  # its ClientHello
        raw.send(forger.output())
        with pytest.raises(SSL.Error, match="no renegotiation"):
            forger.read(6)


def test_no_renegotiation_for_a_server() -> None:
    """Nor can a server ask our client for it."""
    forgers = channel.new()

    def script(conn: Any) -> None:
        forgers.push((Forger(Raw(conn), server(), SSL.TLS1_2_VERSION).shake_hands(),))

    with raw_server(script) as listener:
        connecting = spawn(lambda: connect(listener))
        (forger,), _ = forgers.pop()
        forger.raw.send(forger.output())
        conn = joined(connecting)
        assert forger.ssl.renegotiate()
        forger.ssl.send(b"hello\n")
        forger.raw.send(forger.output())
        with pytest.raises(SSL.Error, match="no renegotiation"):
            forger.read(1)
        conn.close()
        forger.raw.close()


# ---- plain HTTP -----------------------------------------------------------------------------------------------------

METHODS = ["GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "PRI", "get", "M-SEARCH", "X" * 30]


@pytest.mark.parametrize("dribbled", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_plain_http(method: str, dribbled: bool, logs: Any) -> None:
    """A browser's user sees what is wrong."""
    logs.expect(r"INFO tls: 127\.0\.0\.1:\d+: plain HTTP on a port that speaks TLS: answered 400")
    with listening() as listener, Raw.connect(listener) as raw:
        (raw.dribble if dribbled else raw.send)(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = raw.response(method)
        raw.eof()
    assert answer.status == 400
    assert answer.header["connection"] == "close"
    assert answer.header["content-length"] == "35"
    assert answer.header["content-type"] == "text/plain"
    assert "date" in answer.header
    assert answer.body == (b"" if method == "HEAD" else b"This port speaks TLS: use https://\n")
    assert len(logs.lines) == 1


def test_plain_http_with_a_body(logs: Any) -> None:
    """The answer is not destroyed by what the client goes on sending (RFC 9112, section 9.6)."""
    logs.expect("answered 400")
    with listening() as listener, Raw.connect(listener) as raw:
        sending = spawn(lambda: raw.conn.write(b"POST / HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000)))
        assert raw.response("POST").status == 400
        joined(sending)


def test_plain_http_to_an_http_server(logs: Any) -> None:
    logs.expect("answered 400")
    listener, err = http.listen("127.0.0.1:0", lambda stream: None, certs=[server().entry])
    assert err is None
    with listener, Raw.connect(listener) as raw:
        raw.request()
        assert raw.response().status == 400
        raw.eof()
