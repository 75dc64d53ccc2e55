"""PostgreSQL: a cluster of its own, with TLS, on a port of loopback and on a Unix domain socket."""

from __future__ import annotations

import glob
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import LOOPBACK, Server, folder, free_port, program, user_for

PACKAGE = "postgresql"
PASSWORD = "sesame"
"""That of the user ``scram``."""
HBA = f"""
local all all trust
host all scram {LOOPBACK}/32 scram-sha-256
host all all {LOOPBACK}/32 trust
"""
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "ssl": "on",
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "120",
    "max_prepared_transactions": "10",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "password_encryption": "scram-sha-256",
}


class Postgres(NamedTuple):
    """A running server. It trusts the user ``postgres``, and asks ``scram`` for ``PASSWORD``."""

    host: str
    port: int
    folder: Path
    """Where its Unix domain socket is, and ``ca.pem``, which has signed its certificate for localhost."""
    server: Server

    @property
    def conninfo(self) -> str:
        """Where it is, over TCP without TLS, for psycopg and everything else that has libpq's words."""
        return f"host={self.host} port={self.port} user=postgres dbname=postgres sslmode=disable"

    @property
    def local(self) -> str:
        """Where it is, by its Unix domain socket."""
        return f"host={self.folder} port={self.port} user=postgres dbname=postgres"


@contextmanager
def running() -> Iterator[Postgres]:
    """Makes a cluster and runs its server. Raises ``NoServer`` if PostgreSQL is not installed."""
    import trustme

    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)  # Debian's, the newest first
    initdb, postgres = program("initdb", PACKAGE, *places), program("postgres", PACKAGE, *places)
    isready = program("pg_isready", PACKAGE, *places)
    user = user_for("postgres")
    with folder(user) as where:
        made = [initdb, "-D", str(where / "data"), "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "-A", "trust"]
        subprocess.run(made, cwd=where, user=user, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)
        ca = trustme.CA()
        cert = ca.issue_cert("localhost", LOOPBACK)
        ca.cert_pem.write_to_path(where / "ca.pem")
        for name, pem in (("server.key", cert.private_key_pem), ("server.crt", cert.cert_chain_pems[0])):
            path = where / "data" / name
            path.touch(0o600)
            pem.write_to_path(path)
            if user is not None:
                shutil.chown(path, user)
        (where / "data" / "pg_hba.conf").write_text(HBA)
        port = free_port()
        settings = SETTINGS | {"port": str(port), "unix_socket_directories": str(where)}
        argv = [postgres, "-D", str(where / "data"), *(f"--{name}={value}" for name, value in settings.items())]

        def ready() -> bool:
            return subprocess.run([isready, "-q", "-h", LOOPBACK, "-p", str(port)], check=False, timeout=10).returncode == 0

        # SIGINT: it ends without waiting for its clients.
        with Server(argv, where, ready, user, signal.SIGINT) as server:
            psql = [program("psql", PACKAGE, *places), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]
            role = f"create role scram login superuser password '{PASSWORD}'"
            subprocess.run(
                [*psql, "-h", LOOPBACK, "-p", str(port), "-c", role], check=True, timeout=30, stdin=subprocess.DEVNULL
            )
            yield Postgres(LOOPBACK, port, where, server)
