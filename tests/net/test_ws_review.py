"""What an adversary found in a review: each of these failed once."""

from __future__ import annotations

import gc
import socket
from typing import Any

import pytest

import silly
from silly._core import scheduler
from silly.net import websocket
from silly.net.websocket import _socket, _unread
from silly.sync import channel

from ..helpers import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, WITHIN, Upgraded, joined, server_side, serving, spawn
from .support import until

KIB = 1024


def read(sock: Any) -> Any:
    got = sock.read(WITHIN)
    assert got[0] is not None, got
    return got


def test_pongs_go_out_while_a_writer_keeps_the_output_full() -> None:
    """The kernel refuses output all the while, and still takes some: the pongs must not wait until it has taken everything."""
    with server_side({"unsent": 64 * KIB, "control_frames": 20}) as (sock, peer):
        sock.conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * KIB)
        peer.conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
        stop = False

        def write() -> None:
            while not stop and sock.write(bytes(60 * KIB)):
                pass

        def answer() -> None:
            while read(sock)[1] == "ping":
                pass

        writing, reading = spawn(write), spawn(answer)
        until(lambda: sock._stream.blocked)
        refused = 0
        for i in range(40):
            peer.put(FIN | PING, b"%d" % i)
            refused += sock._stream.blocked
            while peer.get() != (FIN | PONG, b"%d" % i):
                pass
        assert refused > 20  # the limit 'control_frames'
        stop = True
        peer.put(FIN | TEXT, "end")
        while not len(writing):
            peer.get()
        joined(writing)
        joined(reading)


def test_a_socket_that_only_writes_does_not_go_deaf_from_pongs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unread pongs of ours, and pings that were answered, would fill the buffer in hours; then nothing more would be seen."""
    monkeypatch.setattr(_unread, "UNREAD", 0.0)
    with server_side({"receive_mark": KIB, "ping_interval": 2, "pong_timeout": 60_000}) as (sock, peer):
        pongs = 0
        while pongs < 200:
            first, payload = peer.get()
            if first == FIN | PING:
                peer.put(FIN | PONG, payload)
                peer.put(FIN | PING, b"%d" % pongs)
                pongs += 1
        peer.put(FIN | PING, "seen?")
        while peer.get() != (FIN | PONG, b"seen?"):
            pass
        assert not sock._stream.paused
        peer.put_close(1000)
        while peer.get()[0] != FIN | CLOSE:
            pass
        # The newest that nobody read are still shown, in their order, and none of ours.
        seen = []
        while not seen or seen[-1][1] != "close":
            seen.append(read(sock))
        assert seen[-2] == (b"seen?", "ping")
        numbers = [int(data) for data, typ in seen[:-2]]
        assert numbers == list(range(numbers[0], 200))


def test_messages_stay_when_control_frames_between_them_are_cut_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unread, "UNREAD", 0.0)
    with server_side({"receive_mark": 4 * KIB}) as (sock, peer):
        for i in range(10):
            peer.put(FIN | TEXT, f"message {i}")
            for k in range(40):
                peer.put(FIN | PING, b"%d %d" % (i, k))
        pongs = [peer.get() for _ in range(400)]
        assert pongs == [(FIN | PONG, b"%d %d" % (i, k)) for i in range(10) for k in range(40)]
        until(lambda: sock._unread is not None and 0 < sock._unread._answered <= KIB)
        peer.put(FIN | TEXT, "end")
        seen = []
        while not seen or seen[-1] != ("end", "text"):
            seen.append(read(sock))
        assert [data for data, typ in seen if typ == "text"] == [f"message {i}" for i in range(10)] + ["end"]
        shown = [data for data, typ in seen if typ == "ping"]
        assert shown == [b"9 %d" % k for k in range(40 - len(shown), 40)] or len(shown) > 40


@pytest.mark.parametrize("where", ["compress", "frames"])
def test_an_interrupt_within_a_compressed_write(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the compressor saw and the peer did not must not be referred to."""
    upgraded = Upgraded(compression=True)
    with serving(upgraded.handler) as server:
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}", compression=True)
        assert err is None
        other = upgraded.pop()
        assert sock.write("first " * 100, "text")
        assert read(other) == ("first " * 100, "text")
        owner, name = (type(sock._deflater), "compress") if where == "compress" else (type(sock), "_send_frames")
        real = getattr(owner, name)

        def interrupted(*args: Any) -> Any:
            if where == "compress":
                real(*args)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                sock.write("lost and noisy 0123456789 " * 50, "text")
        for _ in range(3):
            assert sock.write("lost and noisy 0123456789 " * 50, "text")
            assert read(other) == ("lost and noisy 0123456789 " * 50, "text")
        upgraded.release()
        sock.close()


@pytest.mark.parametrize("first", [False, True])
def test_a_fault_between_data_and_a_close_that_nobody_reads(first: bool, logs: Any) -> None:
    """[text][orphan continuation][close]: the text is read, early or late, and nothing more."""
    logs.expect("continuation without a message to continue")
    with server_side({"close_timeout": 50}) as (sock, peer):
        peer.send(peer.frame(FIN | TEXT, b"a") + peer.frame(FIN | CONTINUATION, b"b") + peer.frame(FIN | CLOSE, b"\x03\xe8"))
        if not first:
            until(lambda: sock._fault is not None)
            assert (sock.closecode, sock.cause) == (None, None)
        assert read(sock) == ("a", "text")
        assert "broke the protocol" in sock.read()[1]
        code, _ = peer.get_close()
        assert code == sock.closecode == 1002
        peer.close()  # to whom a fault was told it is left to end
        until(lambda: sock._stream.sock is None)
        assert sock.read()[0] is None


def test_a_reset_while_reading_pauses_is_seen_by_keepalive() -> None:
    """Paused, the descriptor is not watched: only our ping meets the reset."""
    with server_side({"receive_mark": 1000, "ping_interval": 20, "pong_timeout": 60_000}) as (sock, peer):
        peer.put(FIN | BINARY, bytes(900))
        peer.put(FIN | BINARY, bytes(900))
        until(lambda: sock._stream.paused)
        peer.reset()
        until(lambda: sock._stream.sock is None)
        assert sock.read() == (bytes(900), "binary")
        data, err = sock.read(WITHIN)
        while data is not None:
            data, err = sock.read(WITHIN)
        assert "without a closing handshake" in err
        assert sock.closecode == 1006


@pytest.mark.parametrize("cycle", [False, True])
def test_a_forgotten_socket_says_goodbye_even_from_a_cycle(cycle: bool) -> None:
    upgraded = Upgraded()
    with serving(upgraded.handler) as server:
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}")
        assert err is None
        other = upgraded.pop()
        if cycle:
            holder: list[Any] = [sock]
            holder.append(holder)
            del holder
        del sock
        gc.collect()
        assert read(other) == (b"\x03\xe9", "close")
        upgraded.release()


def test_a_ping_behind_the_message_that_was_read_is_answered() -> None:
    """They came together, and nothing comes after them: nobody would look."""
    with server_side() as (sock, peer):
        reading = spawn(lambda: read(sock))
        peer.send(peer.frame(FIN | TEXT, b"a") + peer.frame(FIN | PING, b"p"))
        assert joined(reading) == ("a", "text")
        assert peer.get() == (FIN | PONG, b"p")
        assert read(sock) == (b"p", "ping")


@pytest.mark.parametrize("way", ["read", "pieces"])
def test_a_look_while_the_reader_lets_others_run(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it then finds taken is what is next."""
    with server_side() as (sock, peer):
        pause = scheduler.pause
        sent: list[bytes] = []

        def put(count: int) -> None:
            before = len(sock._taken)
            for _ in range(count):
                sent.append(b"%d" % len(sent))
                peer.put(FIN | PING, sent[-1])
            until(lambda: sock.conn.unreadbytes() > 0 or len(sock._taken) > before)

        def looks() -> None:
            pause()
            sock._take_unread()
            if len(sent) < 300:
                put(3)
                sock._take_unread()

        monkeypatch.setattr(_socket, "BURST", 8)
        put(20)
        seen: list[bytes] = []
        with monkeypatch.context() as patch:
            patch.setattr(scheduler, "pause", looks)
            if way == "read":
                while len(seen) < len(sent):
                    data, typ = read(sock)
                    assert typ == "ping"
                    seen.append(data)
            else:
                peer.put(FIN | TEXT, "x")
                assert list(sock.pieces(WITHIN)) == ["x"]
        assert seen in ([], sent)
        assert [peer.get() for _ in sent] == [(FIN | PONG, ping) for ping in sent]


def test_what_had_arrived_is_read_after_the_peer_was_given_up(logs: Any) -> None:
    logs.expect("no pong for 0.1 s")
    with server_side({"ping_interval": 20, "pong_timeout": 100}) as (sock, peer):
        peer.put(FIN | TEXT, "one")
        peer.put(FIN | BINARY, "two")
        until(lambda: sock._stream.sock is None)
        assert sock.closecode == 1011
        assert sock.write("x") == (False, f"the connection with {sock.conn.remoteaddr} was given up: {sock.cause}")
        assert sock.read() == ("one", "text")
        assert sock.read() == (b"two", "binary")
        assert sock.read()[1].endswith("was given up: no pong for 0.1 s (the limit 'pong_timeout')")


def test_writers_behind_an_idle_message_wake_when_the_connection_breaks() -> None:
    with server_side({"ping_interval": 0}) as (sock, peer):
        hold = channel.new()

        def idle() -> Any:
            with sock.message() as message:
                message.write("begun")
                message.flush()
                hold.pop()

        idling = spawn(idle)
        waiting = [spawn(lambda: sock.write("x")) for _ in range(3)]
        assert peer.get() == (BINARY, b"begun")
        peer.reset()
        errors = {joined(each)[1] for each in waiting}
        assert len(errors) == 1
        assert sock.write("y")[1] in errors
        hold.close()
        joined(idling)
        assert silly.pcall(sock.close)[0]
