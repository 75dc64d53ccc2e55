"""One conformance suite for every byte stream: ``test_stream`` runs it for each transport.

A transport is listened for and connected by a ``Transport``; the tests know public connections, and of the stream below them
only its limits and its ``sock``. A new transport is one class ``TestX(Suite)`` with its ``transport``.
"""

from __future__ import annotations

import gc
import socket
import threading
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from silly import errno, task, time
from silly._core import scheduler
from silly._wire.limits import DEFAULT, Limits
from silly.net import _output, _stream, tcp
from silly.net.tcp import BURST
from silly.sync import channel

from ..conftest import Logs
from .support import Job, reset_on_close, turns, until

KIB = 1024
MIB = 1024 * 1024
KERNEL = 128 * KIB
"""Asked of the kernel for its own buffers, so that a few MiB are more than both ends' kernels take."""

_loop = scheduler.loop

Pair = Callable[[], tuple[Any, Any]]


class Transport:
    """A kind of stream: tcp on ``addr``. ``swapped``: the subject of the tests is the end that accepted."""

    reset_while_writing = (errno.CONNRESET,)
    """What a writer may get after a reset that nobody has read."""

    def __init__(self, addr: str, swapped: bool = False) -> None:
        self.addr = addr
        self.swapped = swapped

    def listen(self, accept: Callable[[Any], object]) -> Any:
        listener, err = tcp.listen(self.addr, accept)
        assert err is None
        return listener

    def connect(self, addr: str) -> Any:
        conn, err = tcp.connect(addr)
        assert err is None
        return conn

    def half_close(self, conn: Any) -> None:
        """Ends what ``conn`` sends, and nothing else."""
        conn._stream.sock.shutdown(socket.SHUT_WR)

    def reset(self, conn: Any) -> None:
        """Breaks the connection from ``conn``'s side."""
        reset_on_close(conn._stream.sock)
        conn._stream.abort()


class UnixTransport(Transport):
    """A Unix domain socket knows no reset: a close with unread data is one."""

    reset_while_writing = (errno.CONNRESET, errno.PIPE)

    def __init__(self) -> None:
        super().__init__("")

    def reset(self, conn: Any) -> None:
        for stream in list(scheduler.loop.handlers):
            if isinstance(stream, _stream.Stream) and stream is not conn._stream:
                try:
                    stream.sock.send(b"unread")  # straight to the kernel; nobody looks before the close
                except BlockingIOError:
                    pass  # it is full of unread data
        conn._stream.abort()


class Suite:
    """Each test gets ``pair``, which makes two connected connections: the subject and its peer."""

    transport: Transport

    @pytest.fixture
    def pair(self) -> Iterator[Pair]:
        accepted = channel.new()
        listener = self.transport.listen(accepted.push)
        streams = []

        def make() -> tuple[Any, Any]:
            client = self.transport.connect(listener.addr)
            server, _ = accepted.pop()
            for conn in (client, server):
                streams.append(conn._stream)
                conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
                conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
            return (server, client) if self.transport.swapped else (client, server)

        yield make
        listener.close()
        for stream in streams:
            stream.abort()

    # ---- reading ------------------------------------------------------------------------------------------------

    def test_read_length(self, pair: Pair) -> None:
        conn, peer = pair()
        peer.write("hello world")
        assert conn.read(5) == (b"hello", None)
        assert conn.read(6) == (b" world", None)

    @pytest.mark.parametrize("delimiter", ["\r\n", b"\r\n"])
    def test_read_delimiter(self, pair: Pair, delimiter: str | bytes) -> None:
        conn, peer = pair()
        peer.write("one\r\ntwo\n\rthree\r\n\r\nrest")
        assert conn.read(delimiter) == (b"one\r\n", None)
        assert conn.read(delimiter) == (b"two\n\rthree\r\n", None)
        assert conn.read(delimiter) == (b"\r\n", None)
        assert conn.read(4) == (b"rest", None)

    def test_read_delimiter_not_ascii(self, pair: Pair) -> None:
        conn, peer = pair()
        peer.write("onéctwo")
        assert conn.read("é") == ("oné".encode(), None)

    def test_read_delimiter_across_arrivals(self, pair: Pair) -> None:
        conn, peer = pair()
        for piece, size in (("one-", 4), ("-", 5), ("+-", 7)):
            peer.write(piece)
            until(lambda size=size: conn.unreadbytes() == size)
        reading = Job(lambda: conn.read("--+-\r\n")).blocked()
        for piece in ("\r", "\ntwo"):
            assert task.status(reading.task) == "WAIT"
            peer.write(piece)
            turns()
        assert reading.result() == (b"one--+-\r\n", None)
        assert conn.read(3) == (b"two", None)

    def test_read_byte_by_byte(self, pair: Pair) -> None:
        conn, peer = pair()
        reading = Job(lambda: (conn.read(8), conn.read("\n"), conn.read(2))).blocked()
        for at, byte in enumerate(b"01234567line\nab"):
            assert task.status(reading.task) == "WAIT", at
            peer.write(bytes((byte,)))
            turns(3)
        assert reading.result() == ((b"01234567", None), (b"line\n", None), (b"ab", None))

    def test_read_nothing(self, pair: Pair) -> None:
        conn, peer = pair()
        assert conn.read(0) == (b"", None)
        assert conn.read(0, 0) == (b"", None)
        peer.write("x")
        until(conn.unreadbytes)
        assert conn.read(0) == (b"", None)
        peer.close()
        assert conn.read(2) == (None, errno.EOF)
        assert conn.read(0) == (b"", None)
        assert conn.read(1) == (b"x", None)

    @pytest.mark.parametrize("size", [64 * KIB, 64 * KIB + 1, MIB, 5 * MIB + 3])
    def test_read_more_than_the_mark(self, pair: Pair, size: int) -> None:
        conn, peer = pair()
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        writing = Job(lambda: peer.write(data))
        until(lambda: conn.unreadbytes() >= 64 * KIB)  # paused
        assert conn.read(size) == (data, None)
        assert writing.result() == (True, None)

    def test_read_delimiter_past_the_mark(self, pair: Pair) -> None:
        conn, peer = pair()
        line = b"x" * 300_000 + b"\n"
        Job(lambda: peer.write(line + b"next\n"))
        until(lambda: conn.unreadbytes() >= 64 * KIB)
        assert conn.read("\n") == (line, None)
        assert conn.read("\n") == (b"next\n", None)

    def test_read_delimiter_that_never_comes(self, pair: Pair, logs: Logs) -> None:
        logs.expect("INFO (tcp|tls): .*: no delimiter within the limit 'delimited' of 1048576 bytes")
        conn, peer = pair()
        data = b"x" * (MIB + 1)
        writing = Job(lambda: peer.write(data))
        assert conn.read("\n") == (None, errno.MSGSIZE)
        assert conn.read("\n") == (None, errno.MSGSIZE)
        assert conn.read(len(data)) == (data, None)
        writing.result()
        peer.write("line\n")
        assert conn.read("\n") == (b"line\n", None)

    @pytest.mark.parametrize("n", [3 * MIB, "\n"])
    def test_a_read_of_much_that_has_come(self, n: int | str, pair: Pair) -> None:
        """It counts as many reads, so the next one lets others run, once; it must not begin again and again."""
        conn, peer = pair()
        conn._stream.limits = replace(DEFAULT, delimited=64 * MIB)
        conn.limit(64 * MIB)
        data = b"x" * (3 * MIB - 1) + b"\n"
        sending = Job(lambda: peer.write(data + data))
        until(lambda: conn.unreadbytes() == 2 * len(data))
        sending.result()
        ran = []
        task.fork(lambda: ran.append(True))
        assert conn.read(n) == (data, None)
        assert conn.read(n) == (data, None)
        assert ran

    @pytest.mark.parametrize("mark", [None, 1, 100, 64 * MIB])
    @pytest.mark.parametrize("limit", [1, 2, 1000, 3 * MIB])
    def test_the_limit_of_a_delimited_read(self, limit: int, mark: int | None, pair: Pair, logs: Logs) -> None:
        """It alone counts, delimiter included, and not ``conn.limit``; a length may be longer."""
        logs.expect(f"INFO (tcp|tls): .*: no delimiter within the limit 'delimited' of {limit} bytes")
        conn, peer = pair()
        conn._stream.limits = replace(DEFAULT, delimited=limit)
        conn.limit(mark)
        for delimiter in (b"\n", b"\r\n") if limit > 1 else (b"\n",):
            longest = b"x" * (limit - len(delimiter)) + delimiter
            sending = Job(lambda longest=longest: peer.write(longest + b"y" + longest))
            assert conn.read(delimiter) == (longest, None)
            for _ in range(2):
                assert conn.read(delimiter) == (None, errno.MSGSIZE)
            assert conn.read(limit + 1) == (b"y" + longest, None)
            assert sending.result() == (True, None)
        peer.write("\n")
        assert conn.read("\n") == (b"\n", None)

    def test_the_limit_of_a_delimited_read_that_dribbles(self, pair: Pair, logs: Logs) -> None:
        """The verdict is that of a line that comes whole: the byte that is one too many decides."""
        logs.expect("no delimiter within the limit 'delimited' of 5 bytes")
        conn, peer = pair()
        conn._stream.limits = replace(DEFAULT, delimited=5)
        for line, due in ((b"abc\r\n", (b"abc\r\n", None)), (b"abcd\r\n", (None, errno.MSGSIZE))):
            reading = Job(lambda: conn.read("\r\n"))
            for at in range(len(line)):
                peer.write(line[at : at + 1])
                turns(2)
            assert reading.result() == due

    def test_read_leaves_the_mark_as_it_was(self, pair: Pair) -> None:
        conn, peer = pair()
        writing = Job(lambda: peer.write(b"x" * (3 * MIB))).blocked()
        assert conn.read(MIB)[1] is None
        turns(200)
        # What came in the event that reached the mark may be as large as the read before wanted.
        assert conn.unreadbytes() <= 64 * KIB + MIB
        assert conn.read(2 * MIB)[1] is None
        assert writing.result() == (True, None)

    def test_read_timeout_keeps_what_arrived(self, pair: Pair) -> None:
        conn, peer = pair()
        peer.write("ab")
        assert conn.read(4, 10) == (None, errno.TIMEDOUT)
        assert conn.unreadbytes() == 2
        assert conn.read("\n", 1) == (None, errno.TIMEDOUT)
        peer.write("cd\n")
        assert conn.read(4, 10_000) == (b"abcd", None)
        assert conn.read("\n", 10_000) == (b"\n", None)
        assert conn.isalive()

    def test_read_timeout_zero(self, pair: Pair) -> None:
        conn, peer = pair()
        assert conn.read(1, 0) == (None, errno.TIMEDOUT)
        assert conn.read("\n", 0) == (None, errno.TIMEDOUT)
        peer.write("x\n")
        until(lambda: conn.unreadbytes() == 2)
        assert conn.read(1, 0) == (b"x", None)
        assert conn.read("\n", 0) == (b"\n", None)

    def test_read_timeout_of_an_earlier_read_is_void(self, pair: Pair) -> None:
        conn, peer = pair()
        # One that has no time-out, and one that has a later one, see nothing of the first.
        for timeout in (None, 60_000):
            reading = Job(lambda: conn.read(1, 30)).blocked()
            peer.write("1")
            assert reading.result() == (b"1", None)
            reading = Job(lambda timeout=timeout: conn.read(1, timeout)).blocked()
            time.sleep(50)
            assert task.status(reading.task) == "WAIT"
            peer.write("2")
            assert reading.result() == (b"2", None)
        # A shorter one after a long one.
        assert conn.read(1, 5) == (None, errno.TIMEDOUT)

    def test_read_bad_arguments(self, pair: Pair) -> None:
        conn, _ = pair()
        for bad in (-1, "", b""):
            with pytest.raises(ValueError, match=r"conn\.read needs"):
                conn.read(bad)
        for bad in (None, 1.5, bytearray(b"\n"), ["\n"]):
            with pytest.raises(TypeError, match=r"conn\.read needs a length or a delimiter"):
                conn.read(bad)
        for timeout in (-1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="time-out"):
                conn.read(1, timeout)
        assert conn.read(1, 0) == (None, errno.TIMEDOUT)

    def test_end_of_file(self, pair: Pair) -> None:
        conn, peer = pair()
        peer.write("abc")
        assert peer.close() == (True, None)
        assert conn.read(10) == (None, errno.EOF)
        assert conn.read(10, 0) == (None, errno.EOF)
        assert conn.read("\n") == (None, errno.EOF)
        assert not conn.isalive()
        assert conn.unreadbytes() == 3
        assert conn.read(2) == (b"ab", None)
        assert conn.read("c") == (b"c", None)
        assert conn.read(1) == (None, errno.EOF)

    def test_end_of_file_wakes_the_reader(self, pair: Pair) -> None:
        conn, peer = pair()
        reading = Job(lambda: conn.read(10)).blocked()
        peer.close()
        assert reading.result() == (None, errno.EOF)

    def test_end_of_file_behind_more_than_the_mark(self, pair: Pair) -> None:
        conn, peer = pair()
        data = b"0123456789" * 20_000
        assert peer.write(data)
        peer.close()
        until(lambda: conn.unreadbytes() >= 64 * KIB)
        turns()
        assert conn.isalive()  # reading is paused: nobody knows of the end yet
        assert conn.read(len(data)) == (data, None)
        assert conn.read(1) == (None, errno.EOF)

    def test_half_close(self, pair: Pair) -> None:
        conn, peer = pair()
        peer.write("request")
        self.transport.half_close(peer)
        assert conn.read(8) == (None, errno.EOF)
        assert conn.read(7) == (b"request", None)
        data = b"response" * 400_000
        writing = Job(lambda: (conn.write(data), conn.write("!")))
        assert peer.read(len(data) + 1) == (data + b"!", None)
        assert writing.result() == ((True, None), (True, None))
        assert conn.close() == (True, None)
        assert peer.read(1) == (None, errno.EOF)

    def test_second_reader(self, pair: Pair) -> None:
        conn, peer = pair()
        reading = Job(lambda: conn.read(4)).blocked()
        peer.write("ab")
        until(lambda: conn.unreadbytes() == 2)
        for n in (1, 4, "b", "\n"):
            with pytest.raises(RuntimeError, match="another task is already reading"):
                conn.read(n)
        peer.write("cd")
        assert reading.result() == (b"abcd", None)

    def test_two_tasks_that_read_in_turn(self, pair: Pair) -> None:
        """One that lets others run in the middle of a read finds less than it saw before."""
        conn, peer = pair()
        peer.write("0123" * (BURST + 2))
        until(lambda: conn.unreadbytes() == 4 * (BURST + 2))
        got: list[Any] = []

        def rest() -> None:
            while conn.unreadbytes():
                got.append(conn.read(4))

        def first() -> None:
            for _ in range(BURST + 1):
                got.append(conn.read(4))

        reading, other = Job(first), Job(rest)
        other.result()
        assert len(got) == BURST + 2
        peer.write("last")  # the one that gave way waits for it
        reading.result()
        assert got == [(b"0123", None)] * (BURST + 2) + [(b"last", None)]

    def test_abort_drops_what_is_unread(self, pair: Pair) -> None:
        """As ``close`` does. A WebSocket's messages were taken in part, so that one was missing before others."""
        conn, peer = pair()
        peer.write("unread")
        until(lambda: conn.unreadbytes() == 6)
        conn._stream.abort()
        assert conn.unreadbytes() == 0
        assert conn.read(1) == (None, errno.CLOSED)

    def test_greenletexit_in_a_reader(self, pair: Pair) -> None:
        conn, peer = pair()
        peer.write("ab")
        Job(lambda: conn.read(4, 60_000)).blocked().kill()
        Job(lambda: conn.read("\n")).blocked().kill()
        assert conn.isalive()
        peer.write("cd")
        assert conn.read(4) == (b"abcd", None)

    def test_greenletexit_in_a_reader_that_was_just_woken(self, pair: Pair) -> None:
        """Its successor, which waits for more, goes on waiting."""
        conn, peer = pair()
        first = Job(lambda: conn.read(2)).blocked()
        conn._stream.buf += b"ab"
        conn._stream._arrived(2)
        scheduler._ready.remove(first.task)  # else it would run before its successor waits
        second = Job(lambda: conn.read(4)).blocked()
        first.kill()
        peer.write("cd")
        until(lambda: task.status(second.task) is None)
        assert second.result() == (b"abcd", None)

    def test_many_small_reads_let_others_run(self, pair: Pair) -> None:
        conn, peer = pair()
        conn.limit(MIB)
        peer.write(b"line\n" * 10_000)
        until(lambda: conn.unreadbytes() == 50_000)
        read = 0
        steps = []

        def watch() -> None:
            while read < 10_000:
                steps.append(read)
                time.sleep(0)

        watching = Job(watch)
        for i in range(10_000):
            assert conn.read(5 if i % 2 else "\n") == (b"line\n", None)
            read += 1
        watching.result()
        gaps = [after - before for before, after in pairwise(steps)]
        assert len(steps) >= 10_000 // 64
        assert max(gaps) <= 64

    # ---- task.select --------------------------------------------------------------------------------------------

    def test_select_data(self, pair: Pair) -> None:
        conn, peer = pair()
        assert task.select(conn, timeout=0)[0] is None
        job = Job(lambda: task.select(conn)).blocked()
        peer.write("hello")
        assert job.result() == (conn, None)
        turned = _loop.turns
        assert task.select(conn) == (conn, None), "nothing was taken"
        assert conn.read(5) == (b"hello", None)
        assert _loop.turns == turned, "the read didn't wait"
        assert task.select(conn, timeout=0)[0] is None

    def test_select_first_of_many(self, pair: Pair) -> None:
        pairs = [pair() for _ in range(4)]
        conns = [conn for conn, _ in pairs]
        job = Job(lambda: task.select(*conns)).blocked()
        pairs[2][1].write("x")
        assert job.result() == (conns[2], None)
        assert all(conn._stream._reader is None for conn in conns)
        for _, peer in pairs:
            peer.write("y")
        until(lambda: all(conn.unreadbytes() for conn in conns))
        assert task.select(*conns) == (conns[0], None)

    def test_select_the_end(self, pair: Pair) -> None:
        conn, peer = pair()
        job = Job(lambda: task.select(conn)).blocked()
        self.transport.half_close(peer)
        assert job.result() == (conn, None)
        assert task.select(conn) == (conn, None)
        assert conn.read(1) == (None, errno.EOF)

    def test_select_a_reset(self, pair: Pair) -> None:
        conn, peer = pair()
        job = Job(lambda: task.select(conn)).blocked()
        self.transport.reset(peer)
        assert job.result() == (conn, None)
        assert conn.read(1)[0] is None

    def test_select_a_close_here(self, pair: Pair) -> None:
        conn, _ = pair()
        job = Job(lambda: task.select(conn)).blocked()
        conn.close()
        assert job.result() == (conn, None)
        assert task.select(conn) == (conn, None)
        assert conn.read(1) == (None, errno.CLOSED)

    def test_select_goes_on_where_reading_had_paused(self, pair: Pair) -> None:
        conn, peer = pair()
        conn.limit(4)
        peer.write("12345")
        until(lambda: conn._stream.paused)
        assert conn.read(5) == (b"12345", None)
        job = Job(lambda: task.select(conn)).blocked()
        peer.write("6")
        assert job.result() == (conn, None)

    def test_select_after_a_read_that_timed_out(self, pair: Pair) -> None:
        """That read's timer wakes nobody else."""
        conn, peer = pair()
        assert conn.read(5, 1) == (None, errno.TIMEDOUT)
        peer.write("x")
        assert task.select(conn, timeout=60_000) == (conn, None)
        assert conn.read(5, 5) == (None, errno.TIMEDOUT)
        assert conn.read(1) == (b"x", None)
        assert task.select(conn, timeout=10)[0] is None

    @pytest.mark.parametrize("first", ["read", "select"])
    def test_select_and_another_reader(self, pair: Pair, first: str) -> None:
        conn, peer = pair()
        if first == "read":
            job = Job(lambda: conn.read(1)).blocked()
            calls = [lambda: task.select(channel.new(), conn)]
        else:
            job = Job(lambda: task.select(conn)).blocked()
            calls = [lambda: task.select(conn), lambda: conn.read(1), lambda: conn.read("\n")]
        for call in calls:
            with pytest.raises(RuntimeError, match="another task is already reading from it"):
                call()
        peer.write("x")
        assert job.result()[1] is None

    def test_select_leaves_no_reader(self, pair: Pair) -> None:
        conn, peer = pair()
        stream = conn._stream
        for end in ("time-out", "deadline", "cancel", "kill"):
            if end == "time-out":
                assert task.select(conn, timeout=1)[0] is None
            elif end == "deadline":
                with time.deadline(1):
                    assert task.select(conn)[0] is None
            elif end == "cancel":
                waits = task.fork(task.select, conn)
                time.sleep(0)
                waits.cancel()
                assert waits.join()[0] is None
            else:
                Job(lambda: task.select(conn)).blocked().kill()
            assert stream._reader is None, end
        peer.write("x")
        assert conn.read(1) == (b"x", None)

    def test_select_serves_both_directions(self, pair: Pair) -> None:
        """One task echoes what comes, and sends what others push: nothing is lost, and each stays in its order."""
        conn, peer = pair()
        outbox = channel.new()

        def serve() -> None:
            while True:
                which, _ = task.select(conn, outbox)
                if which is conn:
                    data, _ = conn.read(2)
                    if data is None:
                        return
                    conn.write(b"e" + data)
                else:
                    item, _ = outbox.pop()
                    conn.write(b"p" + item)

        serving = task.fork(serve)
        for number in range(50):
            outbox.push(b"%02d" % number)
            peer.write(b"%02d" % number)
            if number % 3:
                time.sleep(0)
        got = [peer.read(3)[0] for _ in range(100)]
        for kind in (b"e", b"p"):
            assert [each[1:] for each in got if each[:1] == kind] == [b"%02d" % number for number in range(50)]
        peer.close()
        serving.join()

    # ---- writing ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("data", "sent"),
        [
            ("text é €", "text é €".encode()),
            (b"bytes", b"bytes"),
            (bytearray(b"array"), b"array"),
            (memoryview(b"view"), b"view"),
            (memoryview(b"a view of a part")[2:6], b"view"),
            (memoryview(array("I", [1, 2**32 - 1])), array("I", [1, 2**32 - 1]).tobytes()),
            (memoryview(bytes(range(12))).cast("B", (3, 4)), bytes(range(12))),
            (["é", b"b", bytearray(b"c"), memoryview(b"d")], "ébcd".encode()),
            (("a", b"b"), b"ab"),
            ({"a": 1, "b": 2}.keys(), b"ab"),
        ],
        ids=["str", "bytes", "bytearray", "memoryview", "part", "itemsize", "2d", "list", "tuple", "keys"],
    )
    def test_write_kinds(self, pair: Pair, data: Any, sent: bytes) -> None:
        conn, peer = pair()
        assert conn.write(data) == (True, None)
        assert Job(lambda: conn.write(data)).result() == (True, None)
        assert peer.read(2 * len(sent)) == (sent * 2, None)
        assert peer.unreadbytes() == 0

    def test_write_what_cannot_be_sent(self, pair: Pair) -> None:
        conn, peer = pair()
        strided = memoryview(b"abcdef")[::2]
        for bad in (strided, ["before", strided], [b"before", "more" * 100_000, strided], [1], ["a", None], 5, None, object()):
            with pytest.raises(TypeError):
                conn.write(bad)
        assert conn.unsentbytes() == 0
        conn.write("all")
        assert peer.read(3) == (b"all", None)

    def test_write_is_a_copy(self, pair: Pair) -> None:
        conn, peer = pair()
        small = bytearray(b"small")
        view = bytearray(b"view")
        large = bytearray(b"x" * (4 * MIB))

        def write() -> None:
            conn.write(small)
            conn.write([memoryview(view), small])
            small[:] = b"SMALL"
            view[:] = b"VIEW"
            conn.write(large)

        writing = Job(write).blocked()
        large[:] = b"y" * len(large)
        del view[:]  # nothing holds a buffer of the caller's
        assert peer.read(14) == (b"smallviewsmall", None)
        assert peer.read(4 * MIB) == (b"x" * (4 * MIB), None)
        writing.result()

    def test_write_nothing(self, pair: Pair) -> None:
        conn, peer = pair()
        for nothing in ("", b"", bytearray(), memoryview(b""), [], [""], [b"", ""]):
            assert conn.write(nothing) == (True, None)
            assert Job(lambda nothing=nothing: conn.write(nothing)).result() == (True, None)
        writing = Job(lambda: [conn.write(data) for data in ("", "a", "", b"b" * (2 * MIB), "", "c", "")]).blocked()
        empty = Job(lambda: conn.write("")).blocked()
        assert peer.read(2 * MIB + 2) == (b"a" + b"b" * (2 * MIB) + b"c", None)
        assert writing.result() == [(True, None)] * 7
        assert empty.result() == (True, None)
        assert conn.unsentbytes() == 0
        assert peer.read(1, 0) == (None, errno.TIMEDOUT)

    def test_write_much_to_a_slow_reader(self, pair: Pair) -> None:
        """10 MiB: the writer is held, its memory is bounded, and all arrives in order."""
        conn, peer = pair()
        size = 64 * KIB
        bound = DEFAULT.unsent + size + KIB  # what TLS adds to a message counts
        messages = [bytes((i,)) * size for i in range(160)]
        most = 0

        def write() -> None:
            nonlocal most
            for message in messages:
                assert conn.write(message) == (True, None)
                most = max(most, conn.unsentbytes())

        writing = Job(write).blocked()
        assert DEFAULT.unsent < conn.unsentbytes() <= bound
        turns(100)
        assert task.status(writing.task) == "WAIT"
        expected = b"".join(messages)
        at = 0
        while at < len(expected):
            data, err = peer.read(min(50_000, len(expected) - at))
            assert err is None
            assert data == expected[at : at + len(data)]
            at += len(data)
            assert conn.unsentbytes() <= bound
        writing.result()
        assert most <= bound
        assert conn.unsentbytes() == 0

    def test_write_one_large_message(self, pair: Pair) -> None:
        conn, peer = pair()
        data = bytes(range(256)) * (40 * KIB)
        writing = Job(lambda: conn.write(data)).blocked()
        assert len(data) - 4 * MIB < conn.unsentbytes() <= len(data)
        assert peer.read(len(data)) == (data, None)
        assert writing.result() == (True, None)

    def test_write_resumes_at_a_quarter_of_the_limit(self, pair: Pair) -> None:
        """And not only when everything is sent: the kernel would run dry meanwhile."""
        conn, peer = pair()
        conn._stream.limits = Limits(unsent=3600 * KIB)
        data = b"x" * (4 * MIB)
        writing = Job(lambda: (conn.write(data), conn.unsentbytes())).blocked()
        assert peer.read(len(data)) == (data, None)
        result, unsent = writing.result()
        assert result == (True, None)
        assert 0 < unsent <= 900 * KIB

    def test_write_both_ways_at_once(self, pair: Pair) -> None:
        """Two ends that both write much and only then read would be stuck; a task for each way is not."""
        conn, peer = pair()
        data = b"0123456789abcdef" * (256 * KIB)
        writers = [Job(lambda end=end: end.write(data)) for end in (conn, peer)]
        readers = [Job(lambda end=end: end.read(len(data))) for end in (conn, peer)]
        assert [job.result() for job in readers] == [(data, None)] * 2
        assert [job.result() for job in writers] == [(True, None)] * 2

    def test_several_writers(self, pair: Pair) -> None:
        """Each message stays whole, and each task's messages stay in their order."""
        conn, peer = pair()
        size = 70_000

        def write(who: int) -> None:
            for i in range(40):
                assert conn.write([bytes((who, i)), bytes((who ^ i,)) * size]) == (True, None)

        writers = [Job(lambda who=who: write(who)) for who in range(5)]
        for job in writers:
            job.blocked()
        assert conn.unsentbytes() <= DEFAULT.unsent + 5 * (size + 2)
        seen: dict[int, int] = dict.fromkeys(range(5), 0)
        for _ in range(200):
            (who, i), _ = peer.read(2)
            assert seen[who] == i
            seen[who] += 1
            assert peer.read(size) == (bytes((who ^ i,)) * size, None)
        for job in writers:
            job.result()

    @pytest.mark.parametrize("at_once", [True, False])
    def test_the_owner_is_called_when_the_kernel_takes_output_again(self, pair: Pair, at_once: bool) -> None:
        """Once; whether the kernel takes all that waits by one call, or a part after the other."""
        conn, peer = pair()
        stream = conn._stream
        stream.limits = Limits(unsent=3600 * KIB)
        told: list[int] = []

        class Owner:
            def drained(self) -> None:
                told.append(stream.unsent)

            def broken(self) -> None:
                """By the end of the test."""

        stream.owner = Owner()
        written = 0
        while not stream.blocked:
            stream.write_nowait(b"x" * 1000)
            stream.flush()
            written += 1000
        assert 0 < stream.unsent < 2 * KIB
        if not at_once:
            for _ in range(4 * KIB):
                stream.write_nowait(b"x" * 1000)
            written += 4 * KIB * 1000
        stream.wants_drained = True
        assert peer.read(written) == (b"x" * written, None)
        until(lambda: not stream.unsent)
        assert len(told) == 1
        assert told[0] == 0 if at_once else 0 < told[0] <= 900 * KIB
        assert not stream.wants_drained

    def test_a_writer_whose_peer_keeps_up_lets_others_run(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        """The kernel takes everything at once, so that nothing makes the writer wait."""
        conn, _ = pair()
        data = b"x" * 70_000
        written = 0
        steps = []

        def write() -> None:
            nonlocal written
            for _ in range(100):
                assert conn.write(data) == (True, None)
                written += len(data)

        def watch() -> None:
            while written < 100 * len(data):
                steps.append(written)
                time.sleep(0)

        conn._stream.sock = Bottomless(conn._stream.sock)
        monkeypatch.setattr(_output, "send", lambda fd, data: len(data))
        watching = Job(watch)
        Job(write).result()
        watching.result()
        gaps = [after - before for before, after in pairwise([*steps, written])]
        assert max(gaps) <= _output.FAIR_SHARE + len(data)
        # What makes them run costs time: not each write does it.
        assert len(steps) <= 100 * len(data) // _output.FAIR_SHARE + 10

    @pytest.mark.parametrize("sizes", [(1, 10), (0, 5, 0), (), (10_000, 10_000), (1, 70_000), (70_000, 200_000, 1)])
    def test_writev(self, pair: Pair, sizes: tuple[int, ...]) -> None:
        """All pieces, in their order, whatever their size in all."""
        conn, peer = pair()
        parts = [bytes((65 + at,)) * size for at, size in enumerate(sizes)]
        parts[1:] = map(memoryview, parts[1:])
        whole = b"".join(parts)
        writing = Job(lambda: (conn._stream.writev(parts), conn._stream.writev([b"end"])))
        assert peer.read(len(whole) + 3, 5_000) == (whole + b"end", None)
        assert writing.result() == (None, None)

    def test_write_nowait(self, pair: Pair) -> None:
        """It never waits, whatever is unsent and whatever time is left; and it gives the error that ``write`` does."""
        conn, peer = pair()
        stream = conn._stream
        assert stream.write_nowait(b"at once") is None
        assert stream.unsent == 0  # the main program may be a REPL
        assert Job(lambda: (stream.write_nowait(b" and "), stream.unsent > 0)).result() == (None, True)
        data = b"x" * (4 * MIB)

        def write() -> tuple[Any, ...]:
            with time.deadline(20):
                assert conn.write(data) == (False, errno.TIMEDOUT)
                unsent = stream.unsent
                assert conn.write("refused") == (False, errno.TIMEDOUT)
                assert stream.unsent == unsent
                return stream.write_nowait(b"the end"), stream.unsent > unsent

        assert Job(write).result() == (None, True)
        assert peer.read(12 + len(data) + 7) == (b"at once and " + data + b"the end", None)
        conn.close()
        assert stream.write_nowait(b"late") == errno.CLOSED
        assert stream.unsent == 0

    def test_a_writer_does_not_wait_when_the_process_ends(self, pair: Pair) -> None:
        conn, _ = pair()

        def write() -> Any:
            scheduler.exiting = True
            try:
                return conn.write(b"x" * (4 * MIB))
            finally:
                scheduler.exiting = False

        assert Job(write).result() == (False, errno.CLOSED)
        assert conn.unsentbytes() > 0

    def test_small_pieces_while_the_peer_is_slow(self, pair: Pair) -> None:
        conn, peer = pair()
        large = b"x" * MIB
        expected = large + b"".join(b"%d," % i for i in range(30_000))

        def write() -> None:
            conn.write(large)
            for i in range(30_000):
                conn.write(b"%d," % i)

        writing = Job(write)
        assert peer.read(len(expected)) == (expected, None)
        writing.result()

    def test_writes_of_a_task_are_gathered(self, pair: Pair) -> None:
        conn, peer = pair()
        sends = count_sends(conn)

        def write() -> None:
            for i in range(16):
                conn.write(f"message {i:2}\n")

        Job(write).result()
        assert peer.read(16 * 11) == (b"".join(b"message %2d\n" % i for i in range(16)), None)
        assert len(sends) == 1

    def test_gathered_writes_go_out_before_they_grow_large(self, pair: Pair) -> None:
        conn, _ = pair()
        sends = count_sends(conn)

        def write() -> int:
            for _ in range(16):
                conn.write(b"x" * 4 * KIB)
            return len(sends)

        assert Job(write).result() >= 1

    def test_the_main_program_sends_at_once(self, pair: Pair) -> None:
        conn, peer = pair()
        sends = count_sends(conn)
        conn.write("a")
        conn.write("b")
        assert len(sends) == 2
        assert conn.unsentbytes() == 0
        assert peer.read(2) == (b"ab", None)

    def test_greenletexit_in_a_writer(self, pair: Pair) -> None:
        conn, peer = pair()
        data = b"x" * (3 * MIB)
        Job(lambda: conn.write(data)).blocked().kill()
        assert conn.isalive()
        other = Job(lambda: conn.write("other")).blocked()
        assert peer.read(len(data) + 5) == (data + b"other", None)
        assert other.result() == (True, None)

    def test_stall(self, pair: Pair) -> None:
        conn, peer = pair()
        conn._stream.limits = Limits(write_timeout=20)
        peer.write("unread")
        until(conn.unreadbytes)
        writers = [Job(lambda: conn.write(b"x" * (4 * MIB))) for _ in range(2)]
        for job in writers:
            assert job.result() == (False, errno.TIMEDOUT)
        assert not conn.isalive()
        assert conn.write("more") == (False, errno.TIMEDOUT)
        assert conn.read(6) == (b"unread", None)
        assert conn.read(1) == (None, errno.TIMEDOUT)
        assert conn.unsentbytes() == 0
        assert conn._stream.sock is None
        assert conn.close() == (True, None)

    def test_no_stall_while_the_peer_reads(self, pair: Pair) -> None:
        conn, peer = pair()
        conn._stream.limits = Limits(write_timeout=400)
        writing = Job(lambda: conn.write(b"x" * (4 * MIB))).blocked()
        for _ in range(5):  # longer than a stall in all
            assert peer.read(512 * KIB)[1] is None
            time.sleep(90)
        assert peer.read(4 * MIB - 5 * 512 * KIB)[1] is None
        assert writing.result() == (True, None)
        assert conn.isalive()
        assert conn._stream._wtimer is None

    # ---- closing ------------------------------------------------------------------------------------------------

    def test_close_wakes_the_reader(self, pair: Pair) -> None:
        conn, peer = pair()
        peer.write("ab")
        for n in (4, "\n"):
            reading = Job(lambda n=n, conn=conn: conn.read(n, 60_000)).blocked()
            assert conn.close() == (True, None)
            assert reading.result() == (None, errno.CLOSED)
            conn, peer = pair()

    def test_close_wakes_the_writers(self, pair: Pair) -> None:
        conn, peer = pair()
        data = b"x" * (3 * MIB)
        writers = [Job(lambda: conn.write(data)).blocked() for _ in range(2)]
        assert conn.close() == (True, None)
        assert [job.result() for job in writers] == [(False, errno.CLOSED)] * 2
        # Both had been written before the close.
        assert peer.read(2 * len(data)) == (data * 2, None)
        assert peer.read(1) == (None, errno.EOF)

    def test_close_of_a_reader_that_was_just_woken(self, pair: Pair) -> None:
        """Its data has arrived, but another task closes before it runs: never a short read."""
        conn, _ = pair()
        for n in (4, "d"):
            reading = Job(lambda n=n, conn=conn: conn.read(n)).blocked()
            conn._stream.buf += b"abcd"
            conn._stream._arrived(4)
            conn.close()
            assert reading.result() == (None, errno.CLOSED)
            conn, _ = pair()

    @pytest.mark.parametrize("size", [0, 1, 100_000, 900_000])
    def test_close_delivers(self, pair: Pair, size: int) -> None:
        conn, peer = pair()

        def write() -> None:
            conn.write(b"x" * size)
            conn.write("end")
            conn.close()

        Job(write).result()
        assert peer.read(size + 3) == (b"x" * size + b"end", None)
        assert peer.read(1) == (None, errno.EOF)

    def test_close_delivers_megabytes(self, pair: Pair) -> None:
        conn, peer = pair()
        data = bytes(range(256)) * (32 * KIB)
        Job(lambda: conn.write(data)).blocked()
        conn.close()
        assert conn.unsentbytes() > 0
        for at in range(0, len(data), 100_000):
            piece = data[at : at + 100_000]
            assert peer.read(len(piece)) == (piece, None)
        assert peer.read(1) == (None, errno.EOF)
        until(lambda: conn._stream.sock is None)

    def test_calls_after_close(self, pair: Pair) -> None:
        conn, peer = pair()
        peer.write("unread")
        until(conn.unreadbytes)
        remoteaddr = conn.remoteaddr
        assert conn.close() == (True, None)
        for _ in range(2):
            assert conn.close() == (False, errno.CLOSED)
            assert not conn.close()
            assert conn.read(1) == (None, errno.CLOSED)
            assert conn.read(0) == (None, errno.CLOSED)
            assert conn.read("\n", 10) == (None, errno.CLOSED)
            assert conn.write("x") == (False, errno.CLOSED)
            assert conn.write("") == (False, errno.CLOSED)
            assert conn.write([]) == (False, errno.CLOSED)
            assert conn.write(b"x" * (3 * MIB)) == (False, errno.CLOSED)
            conn.limit(1)
            conn.limit(None)
            assert conn.unreadbytes() == 0
            assert conn.unsentbytes() == 0
            assert conn.isalive() is False
            assert conn.remoteaddr == remoteaddr
            assert "closed" in repr(conn)
            # Once more when the descriptor is gone.
            peer.close()
            until(lambda: conn._stream.sock is None)

    def test_close_of_a_broken_connection(self, pair: Pair) -> None:
        conn, peer = pair()
        self.transport.reset(peer)
        assert conn.read(1) == (None, errno.CONNRESET)
        assert conn.close() == (True, None)
        assert conn.close() == (False, errno.CLOSED)
        assert conn.read(1) == (None, errno.CLOSED)
        assert conn.write("x") == (False, errno.CLOSED)

    def test_close_with_unread_data(self, pair: Pair) -> None:
        """A reset would destroy what was written; so the peer's end is awaited."""
        conn, peer = pair()
        request = b"x" * 500_000
        sending = Job(lambda: peer.write(request))
        until(lambda: conn.unreadbytes() >= 64 * KIB)
        response = b"too large\n" * 10_000
        Job(lambda: (conn.write(response), conn.close())).result()
        assert sending.result() == (True, None)
        turns(50)
        assert peer.read(len(response)) == (response, None)
        assert peer.read(1) == (None, errno.EOF)
        assert conn._stream.sock is not None
        peer.close()
        until(lambda: conn._stream.sock is None)

    def test_close_with_data_still_in_the_kernel(self, pair: Pair) -> None:
        conn, peer = pair()
        conn.limit(1)
        peer.write("a")
        until(conn.unreadbytes)  # paused
        peer.write("b")
        assert conn.read(1) == (b"a", None)
        conn.write("answer")
        conn.close()
        assert peer.read(6) == (b"answer", None)
        assert peer.read(1) == (None, errno.EOF)

    def test_close_when_a_reset_follows_unread_data(self, pair: Pair) -> None:
        conn, peer = pair()
        conn.limit(1)
        peer.write("a")
        until(conn.unreadbytes)
        peer.write("b")
        self.transport.reset(peer)
        turns()
        assert conn.close() == (True, None)
        until(lambda: conn._stream.sock is None)

    def test_close_by_both(self, pair: Pair) -> None:
        conn, peer = pair()
        for end in (conn, peer):
            end.write("unread")
        until(lambda: conn.unreadbytes() and peer.unreadbytes())
        assert conn.close() == (True, None)
        assert peer.close() == (True, None)
        until(lambda: conn._stream.sock is None and peer._stream.sock is None)

    def test_linger(self, pair: Pair) -> None:
        """A peer that never reads can't keep a closed connection for ever."""
        conn, peer = pair()
        conn._stream.limits = Limits(linger=50)
        writing = Job(lambda: conn.write(b"x" * (4 * MIB))).blocked()
        conn.close()
        assert writing.result() == (False, errno.CLOSED)
        assert conn._stream.sock is not None
        until(lambda: conn._stream.sock is None)
        assert conn.unsentbytes() == 0
        assert conn.close() == (False, errno.CLOSED)
        assert peer.unreadbytes() > 0

    def test_linger_of_unread_data(self, pair: Pair) -> None:
        """Nor one that never closes."""
        conn, peer = pair()
        conn._stream.limits = Limits(linger=50)
        peer.write("unread")
        until(conn.unreadbytes)
        conn.write("x")
        conn.close()
        assert conn._stream.sock is not None
        until(lambda: conn._stream.sock is None)
        assert peer.read(1) == (b"x", None)
        assert peer.read(1) == (None, errno.EOF)

    @pytest.mark.parametrize("paused", [False, True])
    def test_close_with_unread_data_where_nothing_was_written(self, pair: Pair, paused: bool) -> None:
        """The connection is gone at once, and the peer's writes fail: a reset can destroy nothing."""
        conn, peer = pair()
        if paused:
            conn.limit(1)
        peer.write("unread")
        until(conn.unreadbytes)
        peer.write("in the kernel, if reading pauses")
        turns()
        conn.close()
        assert conn._stream.sock is None
        until(lambda: not peer.write("more"))

    @pytest.mark.parametrize("size", [1, 3 * MIB])
    def test_close_with_unread_data_after_an_answer_that_has_gone_out(self, pair: Pair, size: int) -> None:
        """The kernel has all of it. It may not have reached the peer, so the peer's end is awaited."""
        conn, peer = pair()
        answer = Job(lambda: conn.write(b"x" * size))
        assert peer.read(size) == (b"x" * size, None)
        assert answer.result() == (True, None)
        peer.write("unread")
        until(conn.unreadbytes)
        assert conn.unsentbytes() == 0
        conn.close()
        assert conn._stream.sock is not None
        assert peer.read(1) == (None, errno.EOF)
        peer.close()
        until(lambda: conn._stream.sock is None)

    def test_peer_that_goes_on_sending(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_stream, "DISCARD_AFTER_CLOSE", MIB)
        conn, peer = pair()
        sent = 0

        def flood() -> str | None:
            nonlocal sent
            while True:
                ok, err = peer.write(b"x" * 100_000)
                if not ok:
                    return err
                sent += 100_000

        flooding = Job(flood)
        until(conn.unreadbytes)
        conn.write("x")
        conn.close()
        assert flooding.result() in (errno.CONNRESET, errno.PIPE)
        assert sent > MIB
        assert conn._stream.sock is None

    def test_close_resumes_after_a_pause(self, pair: Pair) -> None:
        """A closed connection throws away what the peer sends, so that the peer's own writes end."""
        conn, peer = pair()
        writing = Job(lambda: peer.write(b"x" * (4 * MIB))).blocked()
        conn.write("x")
        conn.close()
        assert writing.result() == (True, None)
        peer.close()
        until(lambda: conn._stream.sock is None)

    def test_forgotten(self, pair: Pair) -> None:
        conn, peer = pair()
        stream = conn._stream
        conn.write("last words")
        del conn
        gc.collect()
        assert peer.read(10) == (b"last words", None)
        assert peer.read(1) == (None, errno.EOF)
        assert stream.closed

    def test_not_forgotten_while_a_task_reads(self, pair: Pair) -> None:
        conn, peer = pair()
        reading = Job(lambda conn=conn: conn.read(4)).blocked()
        del conn
        gc.collect()
        turns()
        peer.write("data")
        assert reading.result() == (b"data", None)

    def test_with_statement(self, pair: Pair) -> None:
        conn, peer = pair()
        with conn as same:
            assert same is conn
            conn.write("x")
        assert conn.read(1) == (None, errno.CLOSED)
        assert peer.read(1) == (b"x", None)
        assert peer.read(1) == (None, errno.EOF)
        with pytest.raises(ZeroDivisionError), peer:
            1 / 0
        assert peer.close() == (False, errno.CLOSED)

    # ---- resets -------------------------------------------------------------------------------------------------

    def test_reset_while_reading(self, pair: Pair) -> None:
        for n in (4, "\n"):
            conn, peer = pair()
            reading = Job(lambda n=n, conn=conn: conn.read(n)).blocked()
            self.transport.reset(peer)
            assert reading.result() == (None, errno.CONNRESET)
            assert conn.write("x") == (False, errno.CONNRESET)
            assert not conn.isalive()

    def test_reset_while_writing(self, pair: Pair) -> None:
        conn, peer = pair()
        writers = [Job(lambda: conn.write(b"x" * (4 * MIB))).blocked() for _ in range(2)]
        self.transport.reset(peer)
        assert [job.result() for job in writers] == [(False, errno.CONNRESET)] * 2
        assert conn.unsentbytes() == 0
        assert conn.read(1) == (None, errno.CONNRESET)

    def test_reset_while_idle(self, pair: Pair) -> None:
        conn, peer = pair()
        peer.write("unread")
        until(conn.unreadbytes)
        self.transport.reset(peer)
        until(lambda: not conn.isalive())
        assert conn._stream.sock is None
        assert conn.write("x") == (False, errno.CONNRESET)
        size = conn.unreadbytes()
        assert conn.read(6) == (b"unread", None)
        assert conn.read(size) == (None, errno.CONNRESET)

    def test_reset_while_paused(self, pair: Pair) -> None:
        conn, peer = pair()
        conn.limit(6)
        peer.write("unread")
        until(lambda: conn.unreadbytes() == 6)
        self.transport.reset(peer)
        turns()
        assert conn.isalive()  # it can't know
        assert conn.read(6) == (b"unread", None)
        assert conn.read(10) == (None, errno.CONNRESET)
        assert conn.write("x") == (False, errno.CONNRESET)

    def test_reset_while_paused_and_writing(self, pair: Pair) -> None:
        conn, peer = pair()
        conn.limit(6)
        peer.write("unread")
        until(lambda: conn.unreadbytes() == 6)
        writing = Job(lambda: conn.write(b"x" * (4 * MIB))).blocked()
        self.transport.reset(peer)
        ok, err = writing.result()
        assert not ok
        assert err in self.transport.reset_while_writing
        assert conn.read(6) == (b"unread", None)
        assert conn.read(1) == (None, err)

    def test_reset_found_by_a_write(self, pair: Pair) -> None:
        conn, peer = pair()
        conn.limit(6)
        peer.write("unread")
        until(lambda: conn.unreadbytes() == 6)
        self.transport.reset(peer)
        ok, err = conn.write("x")
        assert not ok
        assert err in self.transport.reset_while_writing
        assert conn.write("y") == (False, err)

    def test_reset_while_it_closes(self, pair: Pair) -> None:
        conn, peer = pair()
        Job(lambda: conn.write(b"x" * (4 * MIB))).blocked()
        conn.close()
        self.transport.reset(peer)
        until(lambda: conn._stream.sock is None)
        assert conn.unsentbytes() == 0
        assert conn.read(1) == (None, errno.CLOSED)

    def test_abort_of_a_broken_connection(self, pair: Pair) -> None:
        """For the loop at its end: nothing is counted as under way any more."""
        conn, peer = pair()
        work = scheduler.loop.work
        self.transport.reset(peer)
        assert conn.read(1)[1] == errno.CONNRESET
        conn._stream.abort()
        assert scheduler.loop.work == work
        assert conn.close() == (False, errno.CLOSED)

    # ---- the rest -----------------------------------------------------------------------------------------------

    def test_limit(self, pair: Pair) -> None:
        conn, peer = pair()
        conn.limit(1000)
        peer.write(b"a" * 1000)
        until(lambda: conn.unreadbytes() == 1000)
        peer.write(b"b" * 1000)
        turns()
        assert conn.unreadbytes() == 1000
        conn.limit(None)
        until(lambda: conn.unreadbytes() == 2000)
        conn.limit(500)
        peer.write(b"c" * 1000)
        turns()
        assert conn.unreadbytes() == 2000
        conn.limit(10_000)
        until(lambda: conn.unreadbytes() == 3000)
        conn.limit(1)
        peer.write(b"d" * 1000)
        assert conn.read(4000) == (b"".join(bytes((c,)) * 1000 for c in b"abcd"), None)
        for size in (0, -1):
            with pytest.raises(ValueError, match=r"conn\.limit"):
                conn.limit(size)

    def test_limit_while_a_task_reads(self, pair: Pair) -> None:
        conn, peer = pair()
        peer.write("ab")
        until(lambda: conn.unreadbytes() == 2)
        reading = Job(lambda: conn.read(4)).blocked()
        conn.limit(1)
        peer.write("cd")
        assert reading.result() == (b"abcd", None)
        conn.limit(None)

    def test_limit_after_the_end(self, pair: Pair) -> None:
        conn, peer = pair()
        conn.limit(2)
        peer.write("ab")
        peer.close()
        until(lambda: conn.unreadbytes() == 2)
        conn.limit(None)
        until(lambda: not conn.isalive())
        conn.limit(1)
        conn.limit(None)
        assert conn.read(2) == (b"ab", None)
        assert conn.read(1) == (None, errno.EOF)

    def test_state(self, pair: Pair) -> None:
        conn, peer = pair()
        assert conn.isalive() is True
        assert conn.unreadbytes() == 0
        assert conn.unsentbytes() == 0
        assert isinstance(conn.remoteaddr, str)
        assert conn.remoteaddr in repr(conn)
        peer.write("abc")
        until(lambda: conn.unreadbytes() == 3)
        conn.read(1)
        assert conn.unreadbytes() == 2
        sizes = []

        def write() -> None:
            conn.write("12345")
            sizes.append(conn.unsentbytes())  # gathered: not yet given to the kernel

        Job(write).result()
        assert peer.read(5) == (b"12345", None)
        assert sizes == [5]
        assert conn.unsentbytes() == 0
        peer.close()
        until(lambda: not conn.isalive())
        assert conn.unreadbytes() == 2

    def test_another_thread(self, pair: Pair) -> None:
        conn, peer = pair()
        raised: list[str] = []

        def call(func: Callable[[], object]) -> None:
            try:
                func()
            except RuntimeError as exc:
                raised.append(str(exc))

        stream = conn._stream
        calls: list[Callable[[], object]] = [
            lambda: conn.write("x"),
            lambda: conn.read(1),
            conn.close,
            lambda: stream.writev([b"x", b"y"]),
            lambda: stream.write_nowait(b"x"),
            lambda: stream.sendfile(0, 0, 1),
        ]
        run_in_thread(lambda: [call(func) for func in calls])
        assert len(raised) == len(calls)
        assert all("another thread" in text for text in raised)
        conn.write("y")
        assert peer.read(1) == (b"y", None)
        assert peer.unreadbytes() == 0


class Bottomless:
    """A socket that takes whatever it is given, and drops it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def sendmsg(self, parts: list[Any]) -> int:
        return sum(map(len, parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def count_sends(conn: Any) -> list[int]:
    """How much ``conn`` has to send, each time that it sends, from now on."""
    stream = conn._stream
    sends: list[int] = []

    class Counting(type(stream)):  # type: ignore[misc]
        __slots__ = ()

        def flush(self) -> None:
            if self.unsent:
                sends.append(self.unsent)
            super().flush()

        def _transmit(self) -> None:
            if self.unsent:
                sends.append(self.unsent)
            super()._transmit()

    stream.__class__ = Counting
    return sends


def run_in_thread(func: Callable[[], object]) -> None:
    thread = threading.Thread(target=func)
    thread.start()
    thread.join()
