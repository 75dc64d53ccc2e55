"""permessage-deflate (RFC 7692): negotiation in both roles, messages in both directions, and what a hostile peer may try.

What must hold: only ProtocolError escapes, whatever the bytes; an answer is exactly one to our offer (CVE-2026-2229); no more
comes out than was asked for, and no more memory is taken (CVE-2026-1526 and its like); a stream that ends within a block is
told from one that doesn't; what we send keeps within the window that was agreed, and is what zlib and websockets read.
"""

from __future__ import annotations

import dataclasses
import itertools
import pydoc
import random
import tracemalloc
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidHeaderFormat, NegotiationError
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode
from websockets.headers import build_extension, parse_extension
from wsproto.extensions import PerMessageDeflate as WsprotoDeflate

from silly._wire import deflate
from silly._wire.deflate import (
    Deflate,
    Deflater,
    Inflater,
    Parameters,
    check_answer,
    deflate_options,
    negotiate,
    offer,
)
from silly._wire.error import ProtocolError

from .strategies import STEADY, cuts
from .support import attempt, bytewise, described, segmentations

TAIL = b"\x00\x00\xff\xff"
NAME = "permessage-deflate"
ANY = 2**20
WIDE = Deflate(server_max_window_bits=15, client_max_window_bits=15)
BITS = range(8, 16)
TAKEOVER = [pytest.param(False, id="takeover"), pytest.param(True, id="no-takeover")]


def text(size: int) -> bytes:
    """What compresses: words in no order."""
    words = random.Random(size).choices(
        ["alpha", "price", "update", "order", "status", "{", '": "', "0", "17", ", "], k=size // 3 + 1
    )
    return " ".join(words).encode()[:size].ljust(size, b".")


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def fresh(no_context_takeover: bool = True, bits: int = 15) -> Inflater:
    return Inflater(no_context_takeover, bits)


def read(inflater: Inflater, pieces: list[bytes], most: int = ANY) -> bytes:
    """A message, inflated as a reader does it."""
    out = b""
    for piece in pieces:
        out += inflater.inflate(piece, most - len(out))
        while inflater.more and len(out) <= most:
            out += inflater.inflate(b"", most - len(out))
        assert len(out) <= most + 1
        if len(out) > most:
            return out
    inflater.finish()
    return out


def verdict(call: Callable[..., Any], *args: Any) -> tuple[Any, int | None]:
    """What the call gives, and the code of the ProtocolError it raises; one of them is None."""
    return attempt(lambda: call(*args))


def read_pieces(inflater: Inflater, pieces: list[bytes]) -> bytes:
    """A message, inflated in slices of a kilobyte, as a streamed one is."""
    return read(inflater, [piece[at : at + 1024] for piece in pieces for at in range(0, len(piece), 1024)])


def squeeze(payload: bytes, bits: int = 15, flush: int = zlib.Z_SYNC_FLUSH, level: int = -1) -> bytes:
    """zlib's own compression."""
    stream = zlib.compressobj(level, wbits=-bits)
    return stream.compress(payload) + stream.flush(flush)


def strict(data: bytes, bits: int) -> bytes:
    """Inflates with zlib's knowledge of what lies within the window: it must not see more than one byte beyond it at a time."""
    stream = zlib.decompressobj(-bits)
    out = bytearray()
    while got := stream.decompress(data, 1):
        out += got
        data = stream.unconsumed_tail
    return bytes(out)


# ---- options ----------------------------------------------------------------------------------------------------------


def test_help_describes_every_option() -> None:
    found = described(Deflate)
    assert {name: default for name, (default, _) in found.items()} == dataclasses.asdict(Deflate())
    for name, (_, text) in found.items():
        assert len(text) > 20, name
        assert text.endswith("."), name
    assert "zlib's level, 0 to 9" in pydoc.render_doc(Deflate)


def test_repr_of_options_shows_what_differs_from_the_default() -> None:
    assert repr(Deflate()) == "Deflate()"
    changed = Deflate(threshold=0, client_no_context_takeover=True)
    assert repr(changed) == "Deflate(client_no_context_takeover=True, threshold=0)"
    for options in (Deflate(), Deflate(level=1), Deflate(server_no_context_takeover=True, server_max_window_bits=15)):
        assert eval(repr(options)) == options


def test_options() -> None:
    assert deflate_options(False) is deflate_options(None) is None
    assert deflate_options(True) == deflate_options({}) == Deflate()
    own = Deflate(level=9)
    assert deflate_options(own) is own
    assert deflate_options({"level": 9}) == own
    limits = Deflate(server_max_window_bits=8, client_max_window_bits=15, level=0, memory_level=1, threshold=0)
    assert deflate_options(limits) is limits


@pytest.mark.parametrize("value", [1, 0, "permessage-deflate", [("level", 1)], object, 6.0])
def test_options_of_another_type(value: object) -> None:
    with pytest.raises(TypeError, match="compression is a bool, a dict or a Deflate, not "):
        deflate_options(value)


@pytest.mark.parametrize("value", [{"window": 9}, {7: 1}, {"level": 1, "": 2}])
def test_unknown_options(value: dict[Any, Any]) -> None:
    with pytest.raises(TypeError, match=r"compression has no option .*; it has server_no_context_takeover, .*threshold$"):
        deflate_options(value)


@pytest.mark.parametrize(
    ("name", "bad", "kind"),
    [
        *[(name, bad, TypeError) for name in Deflate.__dataclass_fields__ for bad in ("1", None, 1.0)],
        *[(name, 1, TypeError) for name in ("server_no_context_takeover", "client_no_context_takeover")],
        *[(name, bad, ValueError) for name in ("server_max_window_bits", "client_max_window_bits") for bad in (7, 16, 0, -15)],
        *[("level", bad, ValueError) for bad in (-1, 10)],
        *[("memory_level", bad, ValueError) for bad in (0, 10)],
        ("threshold", -1, ValueError),
        ("threshold", True, TypeError),
    ],
)
def test_bad_options(name: str, bad: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"^{name} is "):
        deflate_options({name: bad})


# ---- grammar: RFC 6455, section 9.1 -----------------------------------------------------------------------------------

ILL_FORMED = [
    *["", " ", ",", ", ,\t", ";", "=", '"', f"{NAME};", f"{NAME};;a", f"{NAME}; ", f"{NAME};,", f"{NAME} a", f"{NAME}=1"],
    *[f"; {NAME}", f"{NAME}; a=", f"{NAME}; a= ;b", f"{NAME}; a=b c", f"{NAME}; a=b=c", f"{NAME}; =b", f"{NAME}; a==b"],
    *[f"{NAME}; a={value}" for value in ('"', '""', '"b', 'b"', '"b"c', '"1 0"', '"b,c"', '"b;c"', '"\\"', '"b\\"', '"\\""')],
    *[f"{NAME}; server_max_window_bits={value}" for value in ("", "1 0", "٩", "(9)", "9/", '"1 0"', '""', "9\n", "\xb9")],
    *[f"{NAME}\n", f"{NAME}\0", f"{NAME}\r\n", "caf\xe9", f"'{NAME}; ü'", f"{NAME}; a\n=b", "a, b c", "a, b;", "a/1", "(a)"],
]


@pytest.mark.parametrize("field", ILL_FORMED)
def test_an_ill_formed_field_is_refused(field: str) -> None:
    """By a server also when it does no compression at all; by a client with the code of the handshake."""
    for options in (None, Deflate()):
        assert verdict(negotiate, field, options) == (None, 400)
        assert verdict(check_answer, field, options) == (None, 101)
    with pytest.raises(ProtocolError, match=r"bad Sec-WebSocket-Extensions at ['\"]") as info:
        negotiate(field + "x" * 5000 + "\0", None)
    assert len(info.value.text) < 200


WELL_FORMED = [
    *[
        "a",
        " a ",
        "a,b",
        "a,,b,",
        ",\t,a",
        "a;b",
        "a ; b = c ; d",
        'a;b="c"',
        'a;b="\\c\\d"',
        "a;b;b;b=1",
        "!#$%&'*+-.^_`|~;9=x",
    ],
]


@pytest.mark.parametrize("field", WELL_FORMED)
def test_other_extensions_are_skipped(field: str) -> None:
    assert negotiate(field, None) is negotiate(field, Deflate()) is None
    assert negotiate(f"{field}, {NAME}", Deflate()) == negotiate(NAME, Deflate())
    assert negotiate(f"{NAME},{field}", None) is None


@pytest.mark.parametrize("before", ["", "a", "a;", "a; b", "a; b=", 'a; b="', 'a; b="c', "a; b=c"])
@pytest.mark.parametrize(
    "flood", [",", ";", '"', " ", "\t", "=", "\\", "x", "\\x", ";x", ";x=y", ",x", ' ;x="y"', ", ", "; ", "x,"]
)
def test_the_time_is_linear_in_the_length(flood: str, before: str) -> None:
    """Were it quadratic, the longer ones would take minutes. 8 KiB is as much as a line may have."""
    for size in (8 * 1024, 64 * 1024):
        for after in ("", "\0"):
            field = before + flood * (size // len(flood)) + after
            _, server = verdict(negotiate, field, Deflate())
            _, client = verdict(check_answer, field, Deflate())
            assert server in (None, 400)
            assert client == 101
            if after:
                assert server == 400


# ---- the server's side ------------------------------------------------------------------------------------------------

OWN = Deflate(server_max_window_bits=12, client_max_window_bits=11)
STRICT = Deflate(
    server_no_context_takeover=True, client_no_context_takeover=True, server_max_window_bits=8, client_max_window_bits=8
)

OFFERS: list[tuple[str, Deflate, tuple[bool, bool, int, int], str]] = [
    # The field, our options, what is agreed, and the parameters of the answer.
    (NAME, WIDE, (False, False, 15, 15), ""),
    (NAME, OWN, (False, False, 12, 15), "; server_max_window_bits=12"),
    (
        NAME,
        STRICT,
        (True, True, 8, 15),
        "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=8",
    ),
    (f"{NAME}; client_max_window_bits", WIDE, (False, False, 15, 15), "; client_max_window_bits=15"),
    (
        f"{NAME}; client_max_window_bits",
        OWN,
        (False, False, 12, 11),
        "; server_max_window_bits=12; client_max_window_bits=11",
    ),
    (f"{NAME}; client_max_window_bits=9", OWN, (False, False, 12, 9), "; server_max_window_bits=12; client_max_window_bits=9"),
    (
        f"{NAME}; client_max_window_bits=15",
        OWN,
        (False, False, 12, 11),
        "; server_max_window_bits=12; client_max_window_bits=11",
    ),
    (f"{NAME}; server_max_window_bits=15", WIDE, (False, False, 15, 15), "; server_max_window_bits=15"),
    (f"{NAME}; server_max_window_bits=10", WIDE, (False, False, 10, 15), "; server_max_window_bits=10"),
    (f"{NAME}; server_max_window_bits=8", OWN, (False, False, 8, 15), "; server_max_window_bits=8"),
    (f"{NAME}; server_max_window_bits=15", OWN, (False, False, 12, 15), "; server_max_window_bits=12"),
    (f'{NAME}; server_max_window_bits="10"', OWN, (False, False, 10, 15), "; server_max_window_bits=10"),
    (f'{NAME} ;server_max_window_bits\t= "\\1\\0" ', OWN, (False, False, 10, 15), "; server_max_window_bits=10"),
    (f"{NAME}; server_no_context_takeover", WIDE, (True, False, 15, 15), "; server_no_context_takeover"),
    (f"{NAME}; client_no_context_takeover", WIDE, (False, True, 15, 15), "; client_no_context_takeover"),
    # Section 7.1.3: the fallbacks of its example, and what a browser and websockets send.
    (
        f"{NAME}; client_max_window_bits; server_max_window_bits=10, {NAME}; client_max_window_bits",
        WIDE,
        (False, False, 10, 15),
        "; server_max_window_bits=10; client_max_window_bits=15",
    ),
    (f"{NAME}; server_max_window_bits=7, {NAME}", WIDE, (False, False, 15, 15), ""),
    (
        f"x-webkit-deflate-frame, {NAME}; future, foo; bar=1, {NAME}; server_max_window_bits=9,",
        WIDE,
        (False, False, 9, 15),
        "; server_max_window_bits=9",
    ),
]


@pytest.mark.parametrize(("field", "options", "agreed", "answer"), OFFERS)
def test_offers_that_are_accepted(field: str, options: Deflate, agreed: tuple[bool, bool, int, int], answer: str) -> None:
    assert negotiate(field, options) == (Parameters(*agreed), NAME + answer)
    assert negotiate(field, None) is None


BAD_BITS = [
    "1000",
    "7",
    "16",
    "0",
    "08",
    "008",
    "012",
    "+9",
    "-9",
    "9.0",
    "1e1",
    "0x9",
    "1_0",
    "x",
    "10x",
    "115",
    '"08"',
    '"1000"',
]
BAD_OFFERS = [
    *[f"; server_max_window_bits={value}" for value in BAD_BITS],
    *[f"; client_max_window_bits={value}" for value in BAD_BITS],
    *["; server_max_window_bits", "; server_no_context_takeover=1", "; client_no_context_takeover=true"],
    '; server_no_context_takeover="x"',
    *[f"; {one}; {one}" for one in ("server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits")],
    *["; server_max_window_bits=9; server_max_window_bits=9", "; client_max_window_bits; client_max_window_bits=9"],
    *["; unknown", "; unknown=9", "; Server_Max_Window_Bits=9", "; server_max_window_bits=9; x", "; max_window_bits=10"],
]


@pytest.mark.parametrize("parameters", BAD_OFFERS)
def test_5_1_bad_offers_are_declined(parameters: str) -> None:
    assert negotiate(NAME + parameters, Deflate()) is None
    assert negotiate(f"{NAME}{parameters}, {NAME}", WIDE) == (Parameters(False, False, 15, 15), NAME)
    assert negotiate(NAME + parameters, None) is None


def test_nothing_offered() -> None:
    assert negotiate(None, Deflate()) is negotiate(None, None) is None
    for other in ("permessage-bzip2", "Permessage-Deflate", "x-permessage-deflate; server_max_window_bits=9"):
        assert negotiate(other, Deflate()) is None


# ---- the client's side ------------------------------------------------------------------------------------------------


def test_offer() -> None:
    plain = f"{NAME}; client_max_window_bits"
    assert offer(Deflate()) == f"{NAME}; server_max_window_bits=12; client_max_window_bits, {plain}"
    assert offer(WIDE) == f"{NAME}; client_max_window_bits"
    flags = "server_no_context_takeover; client_no_context_takeover"
    second = f"{NAME}; {flags}; client_max_window_bits"
    assert offer(STRICT) == f"{NAME}; {flags}; server_max_window_bits=8; client_max_window_bits, {second}"


ANSWERS: list[tuple[str, Deflate, tuple[bool, bool, int, int]]] = [
    ("", WIDE, (False, False, 15, 15)),
    ("; server_max_window_bits=15", WIDE, (False, False, 15, 15)),
    ("; server_max_window_bits=8", WIDE, (False, False, 8, 15)),
    ("; client_max_window_bits=8", WIDE, (False, False, 15, 8)),
    ("; server_no_context_takeover", WIDE, (True, False, 15, 15)),
    ("; client_no_context_takeover", WIDE, (False, True, 15, 15)),
    ("; server_max_window_bits=12", OWN, (False, False, 12, 11)),
    ('; server_max_window_bits="9"', OWN, (False, False, 9, 11)),
    ("; server_max_window_bits=9; client_max_window_bits=10", OWN, (False, False, 9, 10)),
    # These answer the second offer, which asks nothing of the server's window.
    ("", OWN, (False, False, 15, 11)),
    ("; server_max_window_bits=13", OWN, (False, False, 13, 11)),
    ("; server_no_context_takeover", STRICT, (True, True, 15, 8)),
    # We never use more than our own options say.
    ("; server_max_window_bits=9; client_max_window_bits=15", OWN, (False, False, 9, 11)),
    ("; server_max_window_bits=8; server_no_context_takeover", STRICT, (True, True, 8, 8)),
    ("; client_no_context_takeover; server_max_window_bits=8; server_no_context_takeover", STRICT, (True, True, 8, 8)),
]


@pytest.mark.parametrize(("parameters", "options", "agreed"), ANSWERS)
def test_answers(parameters: str, options: Deflate, agreed: tuple[bool, bool, int, int]) -> None:
    assert check_answer(NAME + parameters, options) == Parameters(*agreed)
    assert check_answer(None, options) is None


BAD_ANSWERS: list[tuple[str, Deflate, str]] = [
    *[(f"{NAME}; server_max_window_bits={value}", WIDE, "server_max_window_bits is 8 to 15, not ") for value in BAD_BITS],
    *[(NAME + parameters, WIDE, f"bad {NAME}: ") for parameters in BAD_OFFERS],
    (f"{NAME}; client_max_window_bits", WIDE, "client_max_window_bits is 8 to 15, not ''"),
    (f"{NAME}; {'u' * 5000}", WIDE, "unknown parameter 'u{80}'$"),
    (f"{NAME}; server_max_window_bits={'9' * 5000}", WIDE, "server_max_window_bits is 8 to 15, not '9{80}'$"),
    (f"{NAME}; server_no_context_takeover={'9' * 5000}", WIDE, "server_no_context_takeover has no value, but here '9{80}'$"),
    ("permessage-bzip2", WIDE, "extension 'permessage-bzip2', which was not offered"),
    ("Permessage-Deflate", WIDE, "not offered"),
    ("x" * 5000, WIDE, "extension 'x{80}', which"),
    (f"{NAME}, foo", WIDE, "'foo', which was not offered"),
    (f"foo, {NAME}", WIDE, "'foo', which was not offered"),
    (f"{NAME}, {NAME}", WIDE, "twice"),
    (f"{NAME}; server_max_window_bits=8", STRICT, "without the server_no_context_takeover"),
]


@pytest.mark.parametrize(("field", "options", "what"), BAD_ANSWERS)
def test_bad_answers(field: str, options: Deflate, what: str) -> None:
    with pytest.raises(ProtocolError, match=what) as info:
        check_answer(field, options)
    assert info.value.code == 101
    assert len(info.value.text) < 200


@pytest.mark.parametrize("field", [NAME, "foo", "", f"{NAME}; server_max_window_bits=1000", ";;"])
def test_an_answer_to_no_offer(field: str) -> None:
    with pytest.raises(ProtocolError, match="that was not asked for"):
        check_answer(field, None)
    assert verdict(check_answer, field, None) == (None, 101)
    assert check_answer(None, None) is None


def test_our_two_sides_agree() -> None:
    some = (8, 9, 12, 15)
    every = [
        Deflate(
            server_no_context_takeover=server,
            client_no_context_takeover=client,
            server_max_window_bits=s,
            client_max_window_bits=c,
        )
        for server, client, s, c in itertools.product((False, True), (False, True), some, some)
    ]
    for ours, theirs in itertools.product(every, every):
        got = negotiate(offer(ours), theirs)
        assert got is not None
        agreed = check_answer(got[1], ours)
        assert agreed is not None
        assert (
            agreed.server_max_window_bits
            == got[0].server_max_window_bits
            <= min(ours.server_max_window_bits, theirs.server_max_window_bits)
        )
        # The client may use less than the server is prepared for.
        assert agreed.client_max_window_bits <= got[0].client_max_window_bits <= theirs.client_max_window_bits
        assert agreed.server_no_context_takeover == got[0].server_no_context_takeover
        assert agreed.client_no_context_takeover == got[0].client_no_context_takeover


# ---- other implementations' negotiation -------------------------------------------------------------------------------

PARTS = [NAME, NAME, NAME, "foo", "; ", ";", ", ", ",", "=", '"', "\\", " ", "8", "9", "10", "15", "16", "08", "x", "\0", "é"]
PARTS += [f"; {name}" for name in ("server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits")]
PARTS += [f"; {side}_max_window_bits={bits}" for side in ("server", "client") for bits in ("8", "9", "12", "15", '"10"', "07")]
FIELDS = st.lists(st.sampled_from(PARTS), max_size=8).map("".join) | st.text(max_size=12)
OPTIONS = st.builds(
    Deflate,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=st.integers(9, 15),
    client_max_window_bits=st.integers(9, 15),
)


def theirs_negotiated(field: str, options: Deflate) -> tuple[tuple[bool, bool, int, int], str] | int | None:
    """What websockets' server makes of an offer."""
    factory = ServerPerMessageDeflateFactory(
        options.server_no_context_takeover,
        options.client_no_context_takeover,
        options.server_max_window_bits,
        options.client_max_window_bits,
    )
    try:
        extensions = parse_extension(field.strip(" \t"))
    except InvalidHeaderFormat:
        return 400
    for name, pairs in extensions:
        if name == NAME:
            try:
                answer, its = factory.process_request_params(pairs, [])
            except NegotiationError:
                continue
            agreed = (
                its.local_no_context_takeover,
                its.remote_no_context_takeover,
                its.local_max_window_bits,
                its.remote_max_window_bits,
            )
            return agreed, build_extension([(name, answer)])
    return None


@given(FIELDS, OPTIONS)
@STEADY
def test_websockets_server_agrees(field: str, options: Deflate) -> None:
    """But for a window of 8 bits, which it cannot send and so declines, and 15 bits that were not asked for, which it names."""
    if "server_max_window_bits=8" in field:
        return
    got, code = verdict(negotiate, field, options)
    theirs = theirs_negotiated(field, options)
    if got is None:
        assert theirs == code
    else:
        assert isinstance(theirs, tuple)
        assert theirs[0] == (
            got[0].server_no_context_takeover,
            got[0].client_no_context_takeover,
            got[0].server_max_window_bits,
            got[0].client_max_window_bits,
        )
        assert got[1] in (theirs[1], theirs[1].replace("; server_max_window_bits=15", ""))


@given(FIELDS, OPTIONS)
@STEADY
def test_websockets_client_agrees(field: str, options: Deflate) -> None:
    """But for a client's window of 8 bits, which it cannot send. It gets our offer that asks nothing of the server's window."""
    if "client_max_window_bits=8" in field:
        return
    factory = ClientPerMessageDeflateFactory(
        options.server_no_context_takeover, options.client_no_context_takeover, None, True
    )
    got, _ = verdict(check_answer, field, options)
    theirs: Any = None
    try:
        extensions = parse_extension(field.strip(" \t"))
        if [name for name, _ in extensions] == [NAME]:
            theirs = factory.process_response_params(extensions[0][1], [])
    except (InvalidHeaderFormat, NegotiationError):
        pass
    if got is None:
        assert theirs is None
    else:
        assert got == Parameters(
            theirs.remote_no_context_takeover,
            theirs.local_no_context_takeover,
            theirs.remote_max_window_bits,
            min(theirs.local_max_window_bits, options.client_max_window_bits),
        )


def test_websockets_and_wsproto_accept_our_offers_and_answers() -> None:
    for bits, flags in itertools.product(range(9, 16), itertools.product((False, True), (False, True))):
        options = Deflate(
            server_no_context_takeover=flags[0],
            client_no_context_takeover=flags[1],
            server_max_window_bits=bits,
            client_max_window_bits=bits,
        )
        factory = ServerPerMessageDeflateFactory()
        answer, its = factory.process_request_params(parse_extension(offer(options))[0][1], [])
        agreed = check_answer(build_extension([(factory.name, answer)]), options)
        assert agreed is not None
        assert agreed.server_max_window_bits == its.local_max_window_bits == bits
        assert agreed.client_no_context_takeover == its.remote_no_context_takeover == flags[1]

        wsproto = WsprotoDeflate()
        accepted = wsproto.accept(offer(options))
        assert isinstance(accepted, str)
        agreed = check_answer(f"{NAME}; {accepted}" if accepted else NAME, options)
        assert agreed == Parameters(*flags, bits, bits)

        wsproto = WsprotoDeflate()
        got = negotiate(f"{NAME}; {wsproto.offer()}", options)
        assert got is not None
        wsproto.finalize(got[1])
        assert wsproto.server_max_window_bits == wsproto.client_max_window_bits == bits


# ---- RFC 7692's own messages ------------------------------------------------------------------------------------------

HELLO = bytes.fromhex("f248cdc9c90700")
VECTORS = {
    "7.2.3.1-one-block": (HELLO, b"Hello"),
    "7.2.3.3-no-compression": (bytes.fromhex("000500faff48656c6c6f00"), b"Hello"),
    "7.2.3.4-bfinal": (bytes.fromhex("f348cdc9c9070000"), b"Hello"),
    "7.2.3.5-two-blocks": (bytes.fromhex("f248050000 00ffff cac9c90700"), b"Hello"),
    "7.2.3.6-empty": (b"\x00", b""),
    "empty-fixed-block": (b"\x02\x00", b""),
    "bfinal-empty": (b"\x03\x00\x00", b""),
    "bfinal-empty-stored": (b"\x01", b""),
    "bfinal-empty-stored-at-the-end": (bytes.fromhex("f248cdc9c90704"), b"Hello"),
    "bfinal-in-the-middle": (bytes.fromhex("f348cdc9c90700") + HELLO, b"HelloHello"),
    "bfinal-no-compression": (bytes.fromhex("010500faff48656c6c6f00"), b"Hello"),
}


@pytest.mark.parametrize(("data", "payload"), [pytest.param(*pair, id=f"rfc7692-{name}") for name, pair in VECTORS.items()])
@pytest.mark.parametrize("bits", [8, 12, 15])
@pytest.mark.parametrize("no_context_takeover", TAKEOVER)
def test_messages_of_the_rfc(data: bytes, payload: bytes, bits: int, no_context_takeover: bool) -> None:
    inflater = Inflater(no_context_takeover, bits)
    for pieces in segmentations(data):
        assert read(inflater, pieces) == payload
        assert read_pieces(inflater, pieces) == payload
        assert read(inflater, [b"", *pieces, b""], len(payload)) == payload
    for size in range(len(payload)):
        assert read(fresh(), [data], size) == payload[: size + 1]


def test_7_2_3_2_shared_window() -> None:
    again = bytes.fromhex("f200110000")
    inflater = fresh(False)
    assert read(inflater, [HELLO]) == read(inflater, [again]) == read(inflater, bytewise(again)) == b"Hello"
    assert verdict(read, fresh(True), [again]) == (None, 1007)
    inflater = fresh(True)
    assert read(inflater, [HELLO]) == b"Hello"
    assert verdict(read, inflater, [again]) == (None, 1007)


def test_our_payloads_are_those_of_the_rfc() -> None:
    assert Deflater(True, 15, Deflate()).piece(b"Hello", True) == HELLO
    deflater = Deflater(False, 15, Deflate())
    assert [deflater.piece(b"Hello", True) for _ in range(2)] == [HELLO, bytes.fromhex("f200110000")]
    assert Deflater(True, 15, Deflate(level=0)).piece(b"Hello", True) == VECTORS["7.2.3.3-no-compression"][0]
    deflater = Deflater(True, 15, Deflate())
    assert [deflater.piece(b"Hel", False)[-4:], deflater.piece(b"lo", True)[-1:]] == [TAIL, b"\x00"]


# ---- round trips ------------------------------------------------------------------------------------------------------

SIZES = [0, 1, 2, 16, 255, 256, 257, 1000, 4096, 32 * 1024, 65535, 65536, 128 * 1024]
PAYLOADS = [make(size) for size in SIZES for make in (text, noise, bytes)]


@pytest.mark.parametrize("no_context_takeover", TAKEOVER)
@pytest.mark.parametrize("bits", BITS)
def test_ours_to_zlib_and_back(bits: int, no_context_takeover: bool) -> None:
    """A connection's messages: ours read by zlib and by us, zlib's read by us; whole and in pieces."""
    deflater = Deflater(no_context_takeover, bits, Deflate(level=bits % 10, memory_level=bits - 7))
    inflater, streaming, from_zlib = (Inflater(no_context_takeover, bits) for _ in range(3))
    theirs: Any = None
    their_deflater: Any = None
    for payload in PAYLOADS:
        data = deflater.piece(payload, True)
        assert data
        if theirs is None or no_context_takeover:
            theirs = zlib.decompressobj(-max(9, bits))
            their_deflater = zlib.compressobj(wbits=-max(9, bits))
        assert theirs.decompress(data + TAIL) == payload
        assert not theirs.unused_data
        assert read(inflater, [data], len(payload)) == payload
        assert read_pieces(streaming, [data[i : i + 5000] for i in range(0, len(data), 5000)]) == payload
        data = their_deflater.compress(payload) + their_deflater.flush(zlib.Z_SYNC_FLUSH)
        assert read(from_zlib, [data[:-4]]) == payload


@pytest.mark.parametrize("no_context_takeover", TAKEOVER)
@pytest.mark.parametrize("bits", range(9, 16))
def test_ours_to_websockets_and_back(bits: int, no_context_takeover: bool) -> None:
    theirs = PerMessageDeflate(no_context_takeover, no_context_takeover, bits, bits)
    deflater = Deflater(no_context_takeover, bits, Deflate())
    inflater = Inflater(no_context_takeover, bits)
    for payload in [*PAYLOADS, b"", b"", text(500)]:
        frame = theirs.decode(Frame(Opcode.BINARY, deflater.piece(payload, True), rsv1=True))
        assert frame.data == payload
        assert read(inflater, [bytes(theirs.encode(Frame(Opcode.BINARY, payload)).data)]) == payload


@pytest.mark.parametrize("no_context_takeover", TAKEOVER)
@pytest.mark.parametrize(
    "parts", [[b""], [b"", b""], [b"", b"a"], [b"a", b""], [b"a", b"", b"b", b""], [text(70000), noise(70000)]]
)
def test_messages_sent_in_pieces(parts: list[bytes], no_context_takeover: bool) -> None:
    deflater = Deflater(no_context_takeover, 12, Deflate())
    inflater = Inflater(no_context_takeover, 12)
    for _ in range(3):
        fragments = [deflater.piece(part, False) for part in parts[:-1]]
        for part, fragment in zip(parts, fragments, strict=False):
            assert fragment.endswith(TAIL) if part else not fragment
        # What was sent so far can be read so far.
        got = [inflater.inflate(fragment, ANY) for fragment in fragments]
        assert got == parts[:-1]
        last = deflater.piece(parts[-1], True)
        assert last
        assert inflater.inflate(last, ANY) == parts[-1]
        inflater.finish()


@pytest.mark.parametrize("bits", range(8, 13))
@pytest.mark.parametrize("level", [1, 6, 9])
def test_our_payloads_keep_within_the_window(bits: int, level: int) -> None:
    options = Deflate(level=level, memory_level=9)
    rows = [text(3 << bits), (noise(1 << bits) + b"x") * 3, b"ab" * (1 << bits), bytes(3 << bits)]
    for size in (200, 250, 255, 256, 257, 300):
        rows.append(noise(size) * 12)
    for payload in rows:
        assert strict(Deflater(True, bits, options).piece(payload, True) + TAIL, bits) == payload


def test_the_strict_window_is_strict() -> None:
    """Else the test above would show nothing; and zlib at 8 bits, which is why we send otherwise."""
    payload = noise(300) * 3
    with pytest.raises(zlib.error, match="too far back"):
        strict(squeeze(payload, 10), 8)
    assert strict(squeeze(payload, 10), 10) == payload
    assert len(Deflater(True, 8, Deflate()).piece(bytes(1000), True)) < 20


# ---- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("no_context_takeover", TAKEOVER)
@pytest.mark.parametrize("size", [0, 1, 257, 258, 259, 1000, 65536, 100_000])
def test_the_limit_is_exact(size: int, no_context_takeover: bool) -> None:
    """One byte more than allowed comes out, and never two; whatever the pieces."""
    for payload in (bytes(size), noise(size), text(size)):
        for data in (squeeze(payload)[:-4], squeeze(payload, flush=zlib.Z_FINISH) + b"\x00"):
            for pieces in ([data], [data[i : i + 7] for i in range(0, len(data), 7)]):
                assert read(Inflater(no_context_takeover, 15), pieces, size) == payload
                if size:
                    assert read(Inflater(no_context_takeover, 15), pieces, size - 1) == payload
                if size > 1:
                    assert read(Inflater(no_context_takeover, 15), pieces, size - 2) == payload[:-1]


def test_the_limit_holds_over_final_blocks() -> None:
    for most in range(12):
        assert len(fresh().inflate(bytes.fromhex("f348cdc9c90700") * 1000, most)) == most + 1
    many = squeeze(bytes(5000), flush=zlib.Z_FINISH) * 20
    assert fresh().inflate(many, 99_998) == bytes(99_999)
    assert fresh().inflate(many, 99_999) == fresh().inflate(many, 100_000) == bytes(100_000)
    # No limit, and one that was passed already.
    assert fresh().inflate(many, 2**70) == bytes(100_000)
    assert len(fresh().inflate(many, -1)) == len(fresh().inflate(many, -500)) == 1


BOMB = squeeze(bytes(64 * 2**20), level=9)
FINAL_BOMB = b"\x03\x00" + squeeze(bytes(2**20), flush=zlib.Z_FINISH) * 64 + b"\x00"


def peak(call: Any) -> tuple[Any, int]:
    """What ``call`` gives, and the bytes of memory that it took at its height."""
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [len(BOMB), 1000, 1])
@pytest.mark.parametrize("bomb", [pytest.param(BOMB[:-4], id="one-stream"), pytest.param(FINAL_BOMB, id="final-blocks")])
def test_bombs(bomb: bytes, size: int) -> None:
    """1000:1, whole and dribbled: the limit bounds what comes out, and the memory."""
    assert len(bomb) * 950 < 64 * 2**20
    pieces = [bomb[i : i + size] for i in range(0, len(bomb), size)]
    for most in (0, 1000, 100_000):
        out, height = peak(lambda most=most: read(fresh(), pieces, most))
        assert out == bytes(most + 1)
        assert height < 4 * most + 200_000


@pytest.mark.parametrize("bomb", [pytest.param(BOMB[:-4], id="one-stream"), pytest.param(FINAL_BOMB, id="final-blocks")])
def test_bombs_in_slices(bomb: bytes) -> None:
    """All of it comes out, in pieces of a share at most."""

    def run() -> int:
        inflater = fresh(False)
        total = 0
        for at in range(0, len(bomb), 1024):
            data = bomb[at : at + 1024]
            while data or inflater.more:
                out = inflater.inflate(data, deflate.SHARE)
                assert len(out) <= deflate.SHARE + 1
                total += len(out)
                data = b""
        inflater.finish()
        return total

    total, height = peak(run)
    assert total == 64 * 2**20
    assert height < 5 * 2**20


class CountingStream:
    """zlib's decompressor, counting the bytes that it takes, gives, and gives back."""

    moved = 0

    def __init__(self, bits: int) -> None:
        self._stream = zlib.decompressobj(bits)

    def decompress(self, data: bytes, most: int) -> bytes:
        out = self._stream.decompress(data, most)
        CountingStream.moved += len(data) + len(out) + len(self._stream.unused_data) + len(self._stream.unconsumed_tail)
        return out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[CountingStream]:
    monkeypatch.setattr(deflate, "zlib", SimpleNamespace(decompressobj=CountingStream, error=zlib.error))
    CountingStream.moved = 0
    return CountingStream


@pytest.mark.parametrize("no_context_takeover", TAKEOVER)
def test_a_hundred_thousand_final_blocks(no_context_takeover: bool, counting: type[CountingStream]) -> None:
    """Linear: each moves no more than a slice of the input, not all that is left of it."""
    blocks = 100_000
    for data, payload in ((b"\x03\x00" * blocks, b""), (b"\x4b\x04\x00" * blocks, b"a" * blocks)):
        counting.moved = 0
        inflater = Inflater(no_context_takeover, 12)
        assert read(inflater, [data + b"\x00"]) == payload
        assert counting.moved < blocks * 5000
        assert read_pieces(inflater, [data + b"\x00"]) == payload
        assert counting.moved < blocks * 10_000


# ---- broken streams ---------------------------------------------------------------------------------------------------

WHOLE: dict[str, bytes] = {
    **{name: data for name, (data, _) in VECTORS.items() if name not in ("7.2.3.5-two-blocks", "bfinal-empty")},
    "text": squeeze(text(300))[:-4],
    "noise": squeeze(noise(300))[:-4],
    "stored-ends-like-a-flush": squeeze(b"Hello" + TAIL * 3, level=0)[:-4],
    "window-8": Deflater(True, 8, Deflate()).piece(text(200), True),
}


@pytest.mark.parametrize("no_context_takeover", TAKEOVER)
@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in WHOLE.items()])
def test_a_message_that_ends_within_a_block(data: bytes, no_context_takeover: bool) -> None:
    """Cut at any byte it is refused, as the first message and as the second; no stored block may take the tail as its own."""
    # A stored block's first byte alone is an empty message, be it a final one or not.
    for size in [0, *range(1 + data.startswith((b"\x00", b"\x01")), len(data))]:
        for pieces in ([data[:size]], bytewise(data[:size])):
            for reader in (read, read_pieces):
                inflater = Inflater(no_context_takeover, 15)
                assert verdict(reader, inflater, pieces) == (None, 1007)
                inflater = Inflater(no_context_takeover, 15)
                assert read(inflater, [HELLO]) == b"Hello"
                assert verdict(reader, inflater, pieces) == (None, 1007)


CORRUPT = {
    "reserved-block-type": b"\x07",
    "reserved-block-type-later": HELLO + b"\x06",
    "stored-length": b"\x00\x05\x00\xfb\xff",
    "distance-too-far": bytes.fromhex("4b041200"),
    "text": b"Hello",
    "zlib-header": zlib.compress(b"Hello"),
    "gzip-header": zlib.compress(b"Hello", wbits=31),
    "after-a-final-block": b"\x03\x00\x07",
}


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in CORRUPT.items()])
def test_corrupt_data(data: bytes) -> None:
    for pieces in segmentations(data):
        for reader in (read, read_pieces):
            with pytest.raises(
                ProtocolError, match=r"^(bad compressed data: [a-z ]+|compressed message that ends within a block)$"
            ) as info:
                reader(fresh(), pieces)
            assert info.value.code == 1007


def test_a_window_larger_than_agreed() -> None:
    payload = noise(2000) * 2
    data = squeeze(payload, 15)[:-4]
    assert read(Inflater(False, 11), [data[:-100], data[-100:]]) == payload
    assert verdict(read, Inflater(False, 9), bytewise(data)) == (None, 1007)
    # zlib makes 9 of 8 without a word, so that is what a peer sends who agreed to 8.
    payload = noise(400) * 3
    assert read(Inflater(False, 8), bytewise(squeeze(payload, 10)[:-4])) == payload


@st.composite
def streams(draw: Any) -> bytes:
    """Compressed messages, often damaged, or any bytes."""
    payload = draw(st.one_of(st.binary(max_size=200), st.integers(0, 5000).map(text)))
    flush = draw(st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH, zlib.Z_NO_FLUSH]))
    data = bytearray(squeeze(payload, 15, flush, level=draw(st.integers(0, 9))))
    if flush in (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH):
        del data[-4:]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    data += draw(st.one_of(st.just(b""), st.just(b"\x00"), st.binary(max_size=20)))
    return bytes(data)


@given(st.data(), st.one_of(streams(), st.binary(max_size=60)), st.booleans(), st.sampled_from(BITS), st.integers(0, 6000))
@STEADY
def test_only_protocol_errors_escape(data: Any, stream: bytes, no_context_takeover: bool, bits: int, most: int) -> None:
    """And the verdict, and what comes out, are the same however it arrives, gathered or in pieces."""
    pieces = data.draw(cuts(stream))
    verdicts = []
    for way in ([stream], pieces, bytewise(stream)):
        verdicts.append(verdict(read, Inflater(no_context_takeover, 15), way))
        verdicts.append(verdict(read_pieces, Inflater(no_context_takeover, 15), way))
    assert all(verdict == verdicts[0] for verdict in verdicts)
    assert verdicts[0][1] in (None, 1007)
    got, code = verdict(read, Inflater(no_context_takeover, bits), pieces, most)
    assert code in (None, 1007)
    assert code or len(got) <= most + 1


@given(FIELDS | st.text(), OPTIONS | st.none())
@STEADY
def test_only_protocol_errors_escape_from_fields(field: str, options: Deflate | None) -> None:
    assert verdict(negotiate, field, options)[1] in (None, 400)
    got, code = verdict(check_answer, field, options)
    assert code == 101 if got is None else code is None


# ---- memory -----------------------------------------------------------------------------------------------------------


def test_connections_that_say_nothing_keep_nothing() -> None:
    """Nothing before the first message, and nothing between messages without context takeover."""
    options = Deflate()
    pairs, height = peak(lambda: [(Deflater(False, 15, options), Inflater(False, 15)) for _ in range(100)])
    assert height < 100 * 400
    assert len(pairs) == 100

    def run() -> int:
        deflater, inflater = Deflater(True, 15, options), Inflater(True, 15)
        for _ in range(3):
            assert read(inflater, [deflater.piece(text(5000), True)]) == text(5000)
            assert read(inflater, [deflater.piece(text(500), False), deflater.piece(b"", True)]) == text(500)
        return tracemalloc.get_traced_memory()[0]

    text(5000)
    kept, height = peak(run)
    assert height > 60_000
    assert kept < 10_000


def test_the_memory_of_the_defaults() -> None:
    """What the docstring of Deflate says: 32 KiB to send, 11 to receive."""

    def run() -> tuple[Deflater, Inflater, int, int]:
        deflater, inflater = Deflater(False, 12, Deflate()), Inflater(False, 12)
        before = tracemalloc.get_traced_memory()[0]
        data = deflater.piece(text(5000), True)
        between = tracemalloc.get_traced_memory()[0]
        read(inflater, [data])
        return deflater, inflater, between - before, tracemalloc.get_traced_memory()[0] - between

    (_, _, sending, receiving), _ = peak(run)
    assert 30_000 < sending < 42_000
    assert 10_000 < receiving < 16_000
