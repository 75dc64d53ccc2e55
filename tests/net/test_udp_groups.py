"""``silly.net.udp``: broadcast and multicast, on the loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from silly import check, errno
from silly.net import udp

from ..helpers import WITHIN, turn
from .support import LOOPBACK, has_ipv6

IPV6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


@pytest.fixture
def opened() -> Iterator[Callable[..., udp.Conn]]:
    """Opens sockets, and closes them after the test."""
    conns: list[udp.Conn] = []

    def bind(addr: str, **options: Any) -> udp.Conn:
        conns.append(check(udp.bind(addr, **options)))
        return conns[-1]

    yield bind
    for each in conns:
        each.close()


Bind = Callable[..., udp.Conn]


# ---- broadcast -----------------------------------------------------------------------


def test_broadcast(opened: Bind) -> None:
    one = opened("0.0.0.0:0", share=True)
    other = opened(one.addr, share=True)
    to = f"127.255.255.255:{one.port}"
    assert one.sendto("x", to) == (False, errno.ACCES), "it was not allowed"
    sender = opened("127.0.0.1:0", broadcast=True)
    assert sender.sendto("everybody!", to) == (True, None)
    for each in (one, other):
        assert each.recvfrom(WITHIN) == (b"everybody!", sender.addr)


def test_broadcast_on_a_connected_socket(opened: Bind) -> None:
    here = opened("0.0.0.0:0")
    to = f"127.255.255.255:{here.port}"
    assert udp.connect(to) == (None, errno.ACCES)
    with check(udp.connect(to, broadcast=True)) as sender:
        sender.sendto("everybody!")
        assert here.recvfrom(WITHIN) == (b"everybody!", sender.addr)


# ---- multicast -----------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["0.0.0.0:0", "239.9.9.1:0", pytest.param(":0", marks=IPV6)])
def test_multicast_over_ipv4(opened: Bind, bound: str) -> None:
    """Also with sockets that take both families."""
    one = opened(bound, share=True)
    other = opened(one.addr if bound != ":0" else f":{one.port}", share=True)
    _speak(opened("127.0.0.1:0"), one, other, "239.9.9.1")
    if bound == ":0":
        _speak(opened(":0"), one, other, "239.9.9.1")


def interface_for(group: str) -> str:
    """A network that takes datagrams to ``group``: the loopback has no route for IPv6 groups on most systems."""
    for _, name in sorted(socket.if_nameindex(), key=lambda each: each[1] != LOOPBACK):
        with check(udp.bind("[::]:0")) as conn:
            conn.multicast(interface=name, ttl=0)
            if conn.join(group, name) and conn.sendto("x", f"[{group}]:{conn.port}") and conn.recvfrom(200)[0]:
                return name
    pytest.skip("LOUD: no network of this machine takes IPv6 multicast: it was not tested")


@IPV6
@pytest.mark.parametrize("bound", ["[::]:0", ":0"])
def test_multicast_over_ipv6(opened: Bind, bound: str) -> None:
    """With a group of the scope ff01: by its definition nothing leaves this machine."""
    group = "ff01::9:1"
    one = opened(bound, share=True)
    other = opened(bound.replace(":0", f":{one.port}"), share=True)
    _speak(opened("[::]:0"), one, other, group, interface_for(group))


def _speak(sender: udp.Conn, one: udp.Conn, other: udp.Conn, group: str, network: str = LOOPBACK) -> None:
    to = f"[{group}]:{one.port}" if ":" in group else f"{group}:{one.port}"
    for each in (one, other):
        assert each.join(group, network) == (True, None)
    assert one.join(group, network) == (False, errno.ADDRINUSE), "it has joined"
    for interface in (network, socket.if_nametoindex(network)):
        assert sender.multicast(interface=interface, ttl=0, loop=True) == (True, None)
        assert sender.sendto("members!", to) == (True, None)
        for each in (one, other):
            data, addr = each.recvfrom(WITHIN)
            assert data == b"members!"
            assert addr.endswith(f":{sender.port}")
    assert one.leave(group, network) == (True, None)
    assert one.leave(group, network) == (False, errno.ADDRNOTAVAIL), "it has left"
    sender.sendto("who is left?", to)
    assert other.recvfrom(WITHIN)[0] == b"who is left?"
    assert other.leave(group, network) == (True, None)


def test_without_the_loop_this_machine_hears_nothing(opened: Bind) -> None:
    here, sender = opened("0.0.0.0:0"), opened("127.0.0.1:0")
    assert here.join("239.9.9.4", LOOPBACK)
    assert sender.multicast(interface=LOOPBACK, loop=False) == (True, None)
    sock: Any = sender._socket.sock
    assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP) == 0
    assert sender.multicast(loop=True, ttl=7) == (True, None)
    assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP) == 1
    assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 7
    sender.sendto("again", f"239.9.9.4:{here.port}")
    assert here.recvfrom(WITHIN)[0] == b"again"


@IPV6
def test_settings_of_both_families(opened: Bind) -> None:
    sender = opened(":0")
    assert sender.multicast(ttl=9, loop=False) == (True, None)
    sock: Any = sender._socket.sock
    got = [
        sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL),
        sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP),
        sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS),
        sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP),
    ]
    assert got == [9, 0, 9, 0]


def test_values_that_are_none(opened: Bind) -> None:
    conn = opened("0.0.0.0:0")
    for group in ("127.0.0.1", "fe80::1", "all", "", "224.0.0.1:80", "ff02::1%lo"):
        with pytest.raises(ValueError, match=r"conn\.join: the group is an IP address"):
            conn.join(group)
    with pytest.raises(TypeError, match=r"conn\.leave: the group"):
        conn.leave(5)  # type: ignore[arg-type]
    for interface in ("", "a\0b", "127.0.0.1", 0, -1, 2**40):
        with pytest.raises(ValueError, match=r"conn\.join: the (interface|number)"):
            conn.join("239.1.1.1", interface)
    for wrong in (b"lo", 1.5, True):
        with pytest.raises(TypeError, match=r"conn\.multicast: the interface"):
            conn.multicast(interface=wrong)  # type: ignore[arg-type]
    for ttl in (-1, 256, "1"):
        with pytest.raises(ValueError, match=r"conn\.multicast: ttl"):
            conn.multicast(ttl=ttl)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"conn\.multicast: loop"):
        conn.multicast(loop=1)  # type: ignore[arg-type]
    assert "No such device" in str(conn.join("239.1.1.1", "nonet9")[1])
    assert "No such device" in str(conn.multicast(interface="nonet9")[1])
    assert not conn.join("ff02::1", LOOPBACK)[0], "a group of the other family"
    turn()
