"""The conformance suite of byte streams, for each transport."""

from __future__ import annotations

import pytest

from . import check_stream
from .support import has_ipv6


class TestIPv4(check_stream.Suite):
    transport = check_stream.Transport("127.0.0.1:0")


class TestIPv4Accepted(check_stream.Suite):
    transport = check_stream.Transport("127.0.0.1:0", swapped=True)


@pytest.mark.skipif(not has_ipv6(), reason="THIS MACHINE HAS NO IPv6 LOOPBACK: streams over IPv6 are not tested")
class TestIPv6(check_stream.Suite):
    transport = check_stream.Transport("[::1]:0")


class TestUnix(check_stream.Suite):
    transport = check_stream.UnixTransport()

    @pytest.fixture(autouse=True)
    def path(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.transport.addr = f"unix:{tmp_path_factory.mktemp('unix')}/s"
