"""The servers as fixtures, each of them one for the whole session, since its start takes longer than most tests.

A fixture of a session is there before a test's own bookkeeping begins, which would count its descriptors. A server whose
program is missing skips its tests; where SILLY_NEED_SERVERS is set, as in CI, they fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

import pytest

from . import NoServer, mariadb, mosquitto, postgres, redis

Running = TypeVar("Running")


def _started(running: AbstractContextManager[Running]) -> Iterator[Running]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running)
        except NoServer as why:
            if os.environ.get("SILLY_NEED_SERVERS") == "1":
                pytest.fail(str(why), pytrace=False)
            pytest.skip(str(why))
        yield server


@pytest.fixture(scope="session", name="postgres")
def _postgres() -> Iterator[postgres.Postgres]:
    """PostgreSQL, a running server."""
    yield from _started(postgres.running())


@pytest.fixture(scope="session", name="redis_server")
def _redis() -> Iterator[redis.Redis]:
    """Redis, a running server."""
    yield from _started(redis.running())


@pytest.fixture(scope="session", name="mariadb")
def _mariadb() -> Iterator[mariadb.MariaDB]:
    """MariaDB, a running server."""
    yield from _started(mariadb.running())


@pytest.fixture(scope="session", name="mosquitto")
def _mosquitto() -> Iterator[mosquitto.Mosquitto]:
    """mosquitto, a running broker of MQTT."""
    yield from _started(mosquitto.running())
