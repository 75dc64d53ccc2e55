"""Whom a request comes from: X-Forwarded-For and Forwarded, and the networks that are trusted.

What must hold: nothing raises; what is found is an address, and the one that a trusted proxy has added is never beaten by what
stands left of it, whatever that is.
"""

from __future__ import annotations

from ipaddress import ip_address

from silly._wire.forwarded import FIELDS
from silly._wire.header import Header
from silly._wire.networks import Networks

from .source import Source

NAMES = sorted(FIELDS)
PROXY = Networks("fuzz", ["10.0.0.0/8", "2001:db8:ffff::/48"])
EVERYBODY = Networks("fuzz", ["0.0.0.0/0", "::/0"])
SECURE = {"forwarded": ";proto=https", "x-forwarded-for": ""}


def networks(text: str) -> None:
    try:
        found = Networks("fuzz", [text])
    except ValueError as exc:
        words = str(exc)
    else:
        assert found.trusts(text.partition("/")[0])
        return
    assert words.startswith("fuzz: ")
    assert len(words) < 500


def run(data: bytes) -> None:
    source = Source(data)
    what = source.byte() % 4
    if what == 3:
        networks(source.rest().decode("latin-1"))
        return
    name = NAMES[what % 2]
    trusted = source.choose([PROXY, EVERYBODY])
    lines = source.rest().decode("latin-1").split("\n")
    fields = [("x-forwarded-proto" if line.startswith("http") else name, line) for line in lines]
    client = FIELDS[name](Header(fields), trusted)
    assert client.scheme in ("http", "https", None)
    assert client.fault is None or (client.fault.isprintable() and len(client.fault) < 200)
    if client.remoteaddr is not None:
        host, _, port = client.remoteaddr.rpartition(":")
        address = ip_address(host.strip("[]"))
        assert (address.version == 6) == host.startswith("[")
        assert int(port) in range(65536)
        assert trusted.trusts(host) or client.fault is None
    mark = "for=" if name == "forwarded" else ""
    added = f"{mark}192.0.2.1{SECURE[name]}, {mark}10.0.0.1"
    for more in ([(name, ", ".join([*lines, added]))], [*fields, (name, added)]):
        again = FIELDS[name](Header(more), PROXY)
        assert (again.remoteaddr, again.fault) == ("192.0.2.1:0", None)
        assert name != "forwarded" or again.scheme == "https"


LISTS = [
    "192.0.2.1",
    "192.0.2.1:80, 10.0.0.1",
    "[2001:db8::1]:4711,2001:db8::1",
    "unknown, , 10.0.0.1",
    "::ffff:10.0.0.1\nhttps",
    ",".join(["10.0.0.1"] * 40),
]
ELEMENTS = [
    "for=192.0.2.1;proto=https;by=_x, for=10.0.0.1",
    'for="[2001:db8::1]:4711";host="a,b"',
    'for="192.0.2.1:_port"',
    'for="a\\"b", for="10.0.0.1',
    "for=unknown;;FOR=1",
    "proto=http",
    "for=_hidden;=",
]
NETWORKS = ["10.0.0.0/8", "::1", "unix", "::ffff:10.0.0.0/104", "fe80::%1/64", "10.0.0.1/8", "10.0.0.0/255.0.0.0", "a"]
SEEDS = [bytes((1, trusted)) + text.encode() for text in LISTS for trusted in (0, 1)]
SEEDS += [bytes((0, trusted)) + text.encode() for text in ELEMENTS for trusted in (0, 1)]
SEEDS += [b"\3" + text.encode() for text in NETWORKS]
TOKENS = [text.encode() for text in LISTS[:5] + ELEMENTS + NETWORKS]
TOKENS += [b",", b'"', b"\\", b";", b"=", b"for=", b"proto=", b"[", b"]", b":", b"_", b"\n", b" "]
TOKENS += [b"%", b"10.0.0.1", b"::", b"\xe9"]
