"""A master under systemd: what it tells, and the sockets that it lends to its workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from silly import check
from silly.net import tcp

from ..children import Child, in_thread
from .test_systemd_notify import Supervisor, supervisor  # noqa: F401 - a fixture
from .test_systemd_sockets import START

APP = """\
import os
import silly
from silly import env
from silly.net import http
silly.check(http.listen(env.get("listen"), lambda stream: stream.answer(200, str(os.getpid()))))
assert not [name for name in os.environ if name.startswith(("LISTEN_", "NOTIFY", "WATCHDOG"))]
"""


def test_what_it_tells(supervisor: Supervisor, tmp_path: Path) -> None:  # noqa: F811
    """It serves when all workers do, reloads until all successors do, and gives signs of life without a loop."""
    script = tmp_path / "app.py"
    script.write_text(APP)

    def told() -> str:
        while (message := in_thread(supervisor.get)) == "WATCHDOG=1":
            pass
        return str(message)

    env = {"NOTIFY_SOCKET": supervisor.addr, "WATCHDOG_USEC": "200000"}
    with Child("-m", "silly", "--workers", "2", str(script), "--listen=127.0.0.1:0", env=env) as child:
        assert told() == "READY=1\nSTATUS=serving with 2 workers"
        assert in_thread(supervisor.get) == "WATCHDOG=1"
        child.process.send_signal(signal.SIGHUP)
        assert told().startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert told() == "READY=1\nSTATUS=serving with 2 workers"
        child.process.send_signal(signal.SIGTERM)
        assert told() == "STOPPING=1\nEXTEND_TIMEOUT_USEC=6000000\nSTATUS=ending, within 3 s"
        assert child.wait() == 0


def test_a_restart_with_workers(tmp_path: Path) -> None:
    """They get the socket from their master. Who connects while none is there is answered by the next ones."""
    script = tmp_path / "app.py"
    script.write_text(APP)
    start = START.replace('"silly", sys.argv[2]', '"silly", "--workers", "2", sys.argv[2], "--listen=systemd:web"')
    with socket.create_server(("127.0.0.1", 0)) as sock:
        for _ in range(2):
            conn: Any = check(tcp.connect(f"127.0.0.1:{sock.getsockname()[1]}"))
            conn.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            high = os.dup2(sock.fileno(), 100)
            try:
                argv = [sys.executable, "-c", start, str(high), str(script)]
                child = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, pass_fds=[high])
            finally:
                os.close(high)
            with child, conn:
                try:
                    head, err = conn.read("\r\n\r\n", 30_000)
                    assert head is not None, err
                    child.send_signal(signal.SIGTERM)
                    errors = in_thread(child.communicate)[1]
                    assert child.returncode == 0, errors
                finally:
                    child.kill()
