"""For ``psycopg``: looking up the names of hosts. libpq would stop the thread."""

from __future__ import annotations

import os
from configparser import ConfigParser, Error
from pathlib import Path
from typing import Any

from psycopg import errors
from psycopg._conninfo_utils import get_param, split_attempts
from psycopg.conninfo import timeout_from_conninfo

from .._core.loop import monotonic
from .._core.tasks import DeadlineOver
from .._shown import shown
from ..net import _names

__all__ = ["looked_up"]


def looked_up(params: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters of a connection with each address of each host, as libpq's
    lists of ``host``, ``hostaddr`` and ``port``. The names of the hosts stay: TLS
    checks them. A name that has no address is left out.

    Raises OperationalError if no name has an address, and what a wait raises.
    """
    params = {**_of_service(params), **params}
    found: list[tuple[str, str, str]] = []
    timeout = timeout_from_conninfo(params)
    failed: Exception | None = None
    attempts = split_attempts(params)
    for attempt in attempts:
        host, port = get_param(attempt, "host") or "", get_param(attempt, "port") or ""
        address = get_param(attempt, "hostaddr") or ""
        if address or not host or host[0] in "/@":  # an address, or a Unix domain socket
            found.append((host, address, port))
            continue
        try:
            addresses = _names.lookup(host, 0, 0, f"the look-up of {host}", monotonic() + timeout)
        except DeadlineOver:
            raise
        except TimeoutError:
            failed = errors.ConnectionTimeout(f"the look-up of host {shown(host)} took too long")
        except (OSError, UnicodeError) as exc:
            failed = errors.OperationalError(f"failed to resolve host {shown(host)}: {exc}")
        else:
            found.extend((host, address[0], port) for _, address in addresses)
    if failed is not None and not found:
        raise failed
    if not any(address for _, address, _ in found):
        return params
    hosts, hostaddrs, ports = (",".join(each) for each in zip(*found, strict=True))
    return {**params, "host": hosts, "hostaddr": hostaddrs, **({"port": ports} if ports.strip(",") else {})}


def _of_service(params: dict[str, Any]) -> dict[str, str]:
    """Returns what the service file says of the hosts. libpq reads the file itself,
    after this."""
    service = get_param(params, "service")
    if not service:
        return {}
    names = [params.get("servicefile") or os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf"]
    names.append(Path(os.environ.get("PGSYSCONFDIR", "/etc/postgresql-common")) / "pg_service.conf")
    for name in names:
        file = ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#", strict=False)
        try:
            if file.read(name) and file.has_section(service):
                return {key: value for key, value in file.items(service) if key in ("host", "hostaddr", "port")}
        except (Error, UnicodeError):
            return {}  # libpq will report it
    return {}
