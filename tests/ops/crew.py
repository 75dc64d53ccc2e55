"""A master with workers, as a child process, for the tests of this folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import TracebackType

from silly.net import tcp

from ..children import LIMIT, Child
from ..net.support import until
from .support import launcher

APP = """\
import os, signal, sys
import silly
from silly import env, task, time
from silly.net import tcp

def say(*words):
    os.write(1, f"{' '.join(words)}\\n".encode())  # in one piece: all workers have this descriptor

me, kept = env.get("worker"), []

def handle(conn):
    with conn:
        while (line := conn.read("\\n")[0]) is not None:
            word = line.decode().strip()
            if word == "die":
                os._exit(3)
            if word == "leave":
                silly.exit(0)
            if word == "grow":
                kept.append(b"x" * (150 << 20))
            if word == "hold":
                conn.write("held\\n")
                conn.read("\\n")
            if word == "stop":
                listener.close()
            if word == "again":
                got = tcp.listen(sys.argv[1], handle)
                conn.write(f"{got[1]}\\n")
                continue
            conn.write(f"{me} {os.getpid()}\\n")

if os.path.exists(f"bad{me}"):
    raise SystemExit(3)
silly.signal("SIGUSR1", lambda name: say(name, me))
silly.signal("SIGUSR2", lambda name: say(name, me))
listener, err = tcp.listen(sys.argv[1], handle)
say(listener.addr if listener else err)
"""


class Crew(Child):
    """``python -m silly --workers N OPTIONS app.py ADDR`` in a folder. It answers each line with its number and pid."""

    def __init__(
        self, folder: Path, workers: int, *options: str, addr: str = "127.0.0.1:0", app: str = APP, changes: str = ""
    ) -> None:
        self.workers = workers
        self.folder = folder
        (folder / "app.py").write_text(app)
        before = os.getcwd()
        os.chdir(folder)
        try:
            super().__init__(*launcher(changes)[1:], "--workers", str(workers), *options, "app.py", addr)
        finally:
            os.chdir(before)
        self.addr = ""

    def up(self, count: int | None = None) -> Crew:
        """Waits until so many workers are ready; all, by default."""
        count = self.workers if count is None else count
        addrs = {self.line() for _ in range(count)}
        assert len(addrs) == 1, addrs
        self.addr = addrs.pop()
        self.says(r"is ready", count)
        return self

    def said(self) -> str:
        # Not by ``seek``: the processes write where the file stands.
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode()

    def says(self, pattern: str, count: int = 1) -> None:
        """Waits for a line of the log."""
        try:
            until(lambda: len(re.findall(pattern, self.said(), re.MULTILINE)) >= count, LIMIT)
        except AssertionError:
            raise AssertionError(f"{pattern!r} is not in:\n{self.said()}") from None

    def connect(self) -> tcp.Conn:
        conn, err = tcp.connect(self.addr, timeout=LIMIT)
        assert conn is not None, f"{err}\n{self.said()}"
        return conn

    def ask(self, word: str = "who", conn: tcp.Conn | None = None) -> str:
        """The answer, by default on a new connection."""
        with conn or self.connect() as conn:
            conn.write(f"{word}\n")
            line, err = conn.read("\n", LIMIT)
            assert line is not None, f"{err}\n{self.said()}"
            return line.decode().strip()

    def pids(self) -> dict[int, list[int]]:
        """By slot, the pids of all workers that were started, in order."""
        found: dict[int, list[int]] = {}
        for slot, pid in re.findall(r"worker (\d+) \(pid (\d+)\) is started", self.said()):
            found.setdefault(int(slot), []).append(int(pid))
        return found

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def descriptors(self) -> int:
        """How many the master has."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None and self.process.poll() is None:
                status = self.stop()
                assert status == 0, self.said()
        finally:
            super().__exit__(kind, exc, tb)  # workers whose master is killed end


def is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")
