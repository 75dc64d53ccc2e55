"""What the page's code talks to, besides the programs of ``tests/servers``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.libraries.support")

from silly import bridge, check, time  # noqa: E402
from silly.net import tcp  # noqa: E402
from tests.servers import LOOPBACK  # noqa: E402

from .support import WAIT  # noqa: E402


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses are ours alone."""
    monkeypatch.setenv("NO_PROXY", "*")


class Mails:
    """What a mail server has taken. It answers the body of a mail after ``WAIT`` ms."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.inside = self.most = 0
        self.crowd = 0
        """How many mails must be on their way before it answers one."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(WAIT / 1000)
        while self.most < self.crowd:
            await asyncio.sleep(0.01)
        self.inside -= 1
        self.taken.append(envelope.content)
        return "250 OK"


@pytest.fixture
def mail_server() -> Iterator[tuple[str, int, Mails]]:
    """aiosmtpd, which is written for asyncio: its address, and what it takes."""
    from aiosmtpd.smtp import SMTP

    mails = Mails()

    async def start() -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(lambda: SMTP(mails, hostname="localhost"), LOOPBACK, 0)

    async def stop() -> None:
        server.close()
        await server.wait_closed()

    server = check(bridge.asyncio.run(start()))
    try:
        yield LOOPBACK, server.sockets[0].getsockname()[1], mails
    finally:
        assert bridge.asyncio.run(stop()) == (None, None)


IMAP = {
    b"CAPABILITY": b"* CAPABILITY IMAP4REV1\r\n",
    b"SELECT": b"* 3 EXISTS\r\n",
    b"LOGOUT": b"* BYE\r\n",
}


@pytest.fixture
def imap_server() -> Iterator[Any]:
    """As much of IMAP as the page's code asks for. The answer to LOGIN comes after ``WAIT`` ms."""

    def serve(conn: Any) -> None:
        conn.write("* OK hello\r\n")
        while (line := conn.read("\r\n")[0]) is not None:
            tag, command, *_ = line.split()
            if command == b"LOGIN":
                time.sleep(WAIT)
            conn.write(IMAP.get(command, b"") + tag + b" OK done\r\n")

    with check(tcp.listen("127.0.0.1:0", serve)) as listener:
        yield listener
