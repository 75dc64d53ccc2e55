"""The process: its end, however it comes, with sockets open; and children that are forked."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from silly import check, errno, time
from silly.net import tcp
from silly.sync import channel

from ..children import Child, in_thread


def test_finally_blocks_may_block_after_exit(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import silly\nfrom silly import time, task\n"
        "def main():\n    try:\n        silly.exit(4)\n"
        "    finally:\n        time.sleep(0)\n        print('cleaned up', flush=True)\n"
        "task.fork(main)\n"
    )
    with Child("-m", "silly", str(script)) as child:
        assert child.line() == "cleaned up"
        assert child.wait() == 4


def test_a_plain_script_delivers_what_it_closed(tmp_path: Path) -> None:
    """8 MB to a peer that reads slowly; the script ends at once after close()."""
    script = tmp_path / "app.py"
    script.write_text(
        "import sys\nimport silly\nfrom silly.net import tcp\n"
        "conn = silly.check(tcp.connect(sys.argv[1]))\n"
        "for _ in range(8):\n    conn.write(b'x' * 1_000_000)\n"
        "print(conn.unsentbytes() > 0, conn.close(), flush=True)\n"
    )
    got = channel.new()

    def slow(conn: tcp.Conn) -> None:
        size = 0
        while True:
            data, err = conn.read(100_000)
            if data is None:
                break
            size += len(data)
            time.sleep(1)
        got.push((size + conn.unreadbytes(), err))

    with check(tcp.listen("127.0.0.1:0", slow)) as listener, Child(str(script), listener.addr) as child:
        assert child.line().endswith("Result(True, None)")
        assert got.pop()[0] == (8_000_000, errno.EOF)
        assert child.wait() == 0


def test_a_plain_script_that_is_interrupted_as_it_delivers_resets(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import atexit, signal, sys\nimport silly\nfrom silly import time\nfrom silly.net import tcp\n"
        "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
        "atexit.register(signal.setitimer, signal.ITIMER_REAL, 0.1)\n"  # runs before the delivery
        "conn = silly.check(tcp.connect(sys.argv[1]))\n"
        "with time.deadline(1):\n    conn.write(b'x' * 8_000_000)\n"  # all of it is still to be sent
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        addr = f"127.0.0.1:{listening.getsockname()[1]}"
        with Child(str(script), addr) as child, in_thread(listening.accept)[0] as peer:
            assert child.wait() == 0
            assert "KeyboardInterrupt" in child.errors()
            with pytest.raises(ConnectionResetError):
                while in_thread(peer.recv, 65536):
                    pass


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_sockets_alone(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import os, sys\nimport silly\nfrom silly.net import tcp\n"
        "def serve(conn):\n    conn.write('served')\n    conn.close()\n"
        "listener = silly.check(tcp.listen(sys.argv[1], serve))\n"
        "def main():\n"
        "    if os.fork() == 0:\n"
        "        try:\n            tcp.connect(sys.argv[1])\n"
        "        except RuntimeError as exc:\n            print(exc, flush=True)\n"
        "        sys.exit(0)\n"
        "    os.wait()\n    print('ready', flush=True)\n"
        "main()\nsilly.run()\n"
    )
    addr = f"unix:{tmp_path}/socket"
    with Child(str(script), addr, env={"PYTHONWARNINGS": "ignore"}) as child:
        assert "in a child of os.fork()" in child.line()
        assert child.line() == "ready"
        conn = check(tcp.connect(addr))
        assert conn.read(6) == (b"served", None)
        conn.close()
        assert child.stop() == 0


def test_a_forked_child_can_be_terminated(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import os, time\nimport silly\nfrom silly import task\n"
        "def main():\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n        print(os.getpid(), flush=True)\n        time.sleep(60)\n        os._exit(0)\n"
        "    _, status = os.waitpid(pid, 0)\n"
        "    print('child:', os.waitstatus_to_exitcode(status), flush=True)\n"
        "silly.run(main)\n"
    )
    with Child(str(script), env={"PYTHONWARNINGS": "ignore"}) as child:
        os.kill(int(child.line()), signal.SIGTERM)
        assert child.line() == f"child: {-signal.SIGTERM}"
        assert child.wait() == 0


SCRIPT = """
import os, sys
import silly
from silly._core import ending, scheduler, worker
ending.plan, ending.FINALLY = ending.Plan(drain=0), 0.2

def main():
    worker.files.submit(scheduler.loop, __import__("time").sleep, (60,), lambda *_: None)
    silly.exit()

ends = []
turn = type(scheduler.loop).turn
def deliver():
    ends.append(scheduler.loop.turns)
    before(); print(scheduler.loop.turns - ends[0], flush=True)
before, ending._deliver = ending._deliver, deliver
silly.run(main)
"""


def test_there_is_no_second_grace() -> None:
    """A worker thread that is stuck, on a disk for one, delays the end of the process once."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "0\n"


KEPT = """
import sys
import silly
from silly import task, time
from silly.net import http, tcp, websocket

def reset(conn):
    conn.read("\\n")
    conn._stream.reset()

def serve(stream):
    if stream.path == "/ws":
        sock, err = websocket.upgrade(stream)
        sock.read()
        sock.conn._stream.reset()
    else:
        stream.respond(200)
        stream.conn._stream.reset()

listener = silly.check(tcp.listen("127.0.0.1:0", reset))
server = silly.check(http.listen(addr="127.0.0.1:0", handler=serve))
if sys.argv[1] == "conn":
    kept = conn = silly.check(tcp.connect(listener.addr))
    conn.write("end\\n")
elif sys.argv[1] == "socket":
    kept = silly.check(websocket.connect(f"ws://{server.addr}/ws"))
    kept.write("end")
    conn = kept.conn
else:
    kept = silly.check(http.newclient().request("GET", f"http://{server.addr}/"))
    kept.closewrite()
    conn = kept._conn
while conn.isalive():
    time.sleep(1)
del conn
# A task that waits for ever holds this module: it outlives those of silly.
task.fork(lambda me: task.wait(), sys.modules["__main__"])
time.sleep(0)
print("broken", flush=True)
"""


@pytest.mark.parametrize("kept", ["conn", "socket", "stream"])
def test_a_script_that_ends_with_a_broken_connection_in_a_global_is_silent(kept: str) -> None:
    """The finalizer runs when the names of silly's modules are gone already."""
    with Child("-X", "dev", "-c", KEPT, kept) as child:
        assert child.line() == "broken"
        assert child.wait() == 0
        assert child.errors() == ""
