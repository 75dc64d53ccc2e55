"""MariaDB: a data directory of its own, with TLS, on a port of loopback and on a Unix domain socket."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import LOOPBACK, Server, folder, free_port, program, user_for

PACKAGE = "mariadb-server-core mariadb-client-core"
SETTINGS = {
    "bind-address": LOOPBACK,
    "innodb-buffer-pool-size": "8M",
    "innodb-log-file-size": "4M",
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-use-native-aio": "0",
    "key-buffer-size": "64K",
    "aria-pagecache-buffer-size": "1M",
    "performance-schema": "0",
    "max-connections": "120",
    "skip-name-resolve": "1",
}
USER, PASSWORD = "silly", "sesame"
FIRST = f"""create database test;
create user '{USER}'@'{LOOPBACK}' identified by '{PASSWORD}';
grant all on test.* to '{USER}'@'{LOOPBACK}';
"""
"""What the server runs when it starts: a user who is not root has no other way in."""


class MariaDB(NamedTuple):
    """A running server, with a database ``test`` for ``USER``, whose password is ``PASSWORD``."""

    host: str
    port: int
    folder: Path
    """Where its Unix domain socket ``mariadb`` is, and ``ca.pem``, which has signed its certificate for localhost."""
    server: Server


@contextmanager
def running() -> Iterator[MariaDB]:
    """Makes the data and runs a server. Raises ``NoServer`` if MariaDB is not installed."""
    import trustme

    install, mariadbd = program("mariadb-install-db", PACKAGE), program("mariadbd", PACKAGE)
    program("my_print_defaults", PACKAGE)  # the first one calls it
    user = user_for("nobody")  # it is on every machine; the user mysql comes with another package
    with folder(user) as where:
        data, path = where / "data", where / "mariadb"
        ca = trustme.CA()
        cert = ca.issue_cert("localhost", LOOPBACK)
        ca.cert_pem.write_to_path(where / "ca.pem")
        for name, pem in (("server.key", cert.private_key_pem), ("server.crt", cert.cert_chain_pems[0])):
            (where / name).touch(0o600)
            pem.write_to_path(where / name)
            if user is not None:
                shutil.chown(where / name, user)
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        (where / "first.sql").write_text(FIRST)
        made = [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"]
        done = subprocess.run(
            [*made, *settings], cwd=where, user=user, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
        )
        if done.returncode:
            raise AssertionError(f"{made} failed:\n{(done.stdout + done.stderr).decode('utf-8', 'backslashreplace')}")
        port = free_port()
        tls = [f"--ssl-cert={where / 'server.crt'}", f"--ssl-key={where / 'server.key'}"]
        own = [f"--datadir={data}", f"--port={port}", f"--socket={path}", f"--pid-file={where / 'pid'}", *tls]
        argv = [mariadbd, "--no-defaults", *own, f"--init-file={where / 'first.sql'}", *settings]

        def ready() -> bool:
            # It listens some time before. A signal to end that comes so early is lost.
            return "ready for connections" in (where / "output").read_text("utf-8", "backslashreplace")

        with Server(argv, where, ready, user) as server:
            yield MariaDB(LOOPBACK, port, where, server)
