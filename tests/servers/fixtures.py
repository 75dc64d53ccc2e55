"""The servers as fixtures, each of them one for the whole session, since its start takes longer than most tests.

A fixture of a session is there before a test's own bookkeeping begins, which would count its descriptors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from . import NoServer
from .postgres import Postgres
from .postgres import running as run_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL, a running server."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(run_postgres())
        except NoServer as why:
            pytest.skip(str(why))
        yield server
