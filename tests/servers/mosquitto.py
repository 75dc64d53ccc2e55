"""mosquitto, a broker of MQTT, on a port of loopback. Anybody may connect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from . import LOOPBACK, Server, accepts, folder, free_port, program, user_for

PACKAGE = "mosquitto"


class Mosquitto(NamedTuple):
    """A running broker."""

    host: str
    port: int
    server: Server


@contextmanager
def running() -> Iterator[Mosquitto]:
    """Runs a broker. Raises ``NoServer`` if mosquitto is not installed."""
    mosquitto = program("mosquitto", PACKAGE)
    user = user_for("mosquitto")
    with folder(user) as where:
        port = free_port()
        configuration = where / "mosquitto.conf"
        configuration.write_text(f"listener {port} {LOOPBACK}\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n")
        with Server([mosquitto, "-c", str(configuration)], where, lambda: accepts(port), user) as server:
            yield Mosquitto(LOOPBACK, port, server)
