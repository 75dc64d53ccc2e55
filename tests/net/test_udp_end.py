"""``silly.net.udp``: what a socket has to do with the life of its process, and its children."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

import pytest

from silly import check
from silly.net import udp

from ..children import Child
from ..helpers import WITHIN

QUIET = {"PYTHONWARNINGS": "ignore:This process:DeprecationWarning"}
"""Python 3.12 warns of a fork beside threads."""

SERVER = """
import os, silly
from silly import task, time
from silly.net import udp

server = silly.check(udp.bind("127.0.0.1:0"))
print(server.addr, flush=True)

def child(addr):
    print("child", server.isalive(), server.fd, server.close()[1], silly.pcall(server.sendto, "x", addr)[0], flush=True)
    os._exit(0)

def echo():
    try:
        while True:
            data, addr = server.recvfrom()
            if data is None:
                print("ended:", addr, flush=True)
                break
            if data == b"fork" and os.fork() == 0:
                return child(addr)
            server.sendto(data, addr)
            if data == b"exit":
                silly.exit(5)
    finally:
        print("finally", server.sendto("from finally", addr)[0], server.recvfrom(1)[0], flush=True)

task.fork(echo)
"""


def test_nothing_waits_so_the_process_ends(tmp_path: Path) -> None:
    """A socket that nobody waits for keeps nothing alive; not a script, nor a main program."""
    script = "import silly\nfrom silly.net import udp\nconn, err = udp.bind('127.0.0.1:0')\nprint('here', flush=True)\n"
    (tmp_path / "app.py").write_text(script)
    for args in (("-m", "silly", str(tmp_path / "app.py")), ("-c", f"{script}silly.run()")):
        with Child(*args) as child:
            assert child.line() == "here"
            assert child.wait() == 0
            assert child.errors() == ""


@pytest.mark.parametrize("how", ["signal", "exit"])
def test_the_process_ends(tmp_path: Path, how: str) -> None:
    """The task is ended where it waits; its ``finally`` may still send, and what it sent goes out."""
    (tmp_path / "app.py").write_text(SERVER)
    with Child("-m", "silly", str(tmp_path / "app.py")) as server:
        with check(udp.connect(server.line())) as client:
            client.sendto("alive?")
            assert client.recvfrom(WITHIN)[0] == b"alive?"
            if how == "exit":
                client.sendto("exit")
                assert client.recvfrom(WITHIN)[0] == b"exit"
            else:
                server.process.send_signal(signal.SIGTERM)
            assert client.recvfrom(WITHIN)[0] == b"from finally"
        assert server.line() == "finally True None"
        assert server.wait() == (5 if how == "exit" else 0)
        assert server.errors() == ""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no os.fork here")
def test_a_child_of_fork(tmp_path: Path) -> None:
    """The socket is the parent's, which goes on."""
    (tmp_path / "app.py").write_text(SERVER)
    with Child("-m", "silly", str(tmp_path / "app.py"), env=QUIET) as server:
        with check(udp.connect(server.line())) as client:
            client.sendto("fork")
            assert client.recvfrom(WITHIN)[0] == b"fork"
            assert server.line() == "child False None Socket is closed (10003) False"
            client.sendto("and on")
            assert client.recvfrom(WITHIN)[0] == b"and on"
            client.sendto("exit")
        assert server.wait() == 5
