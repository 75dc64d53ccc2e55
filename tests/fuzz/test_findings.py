"""What fuzzing has found, each as small as it gets."""

from __future__ import annotations

import zlib

import pytest

from silly._wire.deflate import Inflater
from silly._wire.error import ProtocolError
from silly._wire.handshake import check_response
from silly._wire.header import Header
from silly._wire.http1 import ResponseHead
from silly._wire.limits import Limits
from silly._wire.ws import FIN, RSV1, TEXT, MessageReader

from ..wire.support import encode
from .source import cut


def deflated(payload: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


@pytest.mark.parametrize(
    ("payload", "code"), [(b"\xff" + b"x" * 20, 1007), (b"x" * 11 + b"\xff", 1009), (b"x" * 10 + b"\xff", 1007)]
)
def test_of_two_faults_in_a_compressed_text_the_first_is_told(payload: bytes, code: int) -> None:
    """The segmentation told: whole, too long came before not UTF-8, wherever they were."""
    stream = encode(FIN | RSV1 | TEXT, deflated(payload), False)
    for size in (1, 2, len(stream)):
        reader = MessageReader(False, Limits(message=10), Inflater(True, 15))
        buf = bytearray()

        def feed(reader: MessageReader = reader, buf: bytearray = buf, size: int = size) -> None:
            for piece in cut(stream, [size]):
                buf += piece
                assert isinstance(reader.next(buf), int)

        with pytest.raises(ProtocolError) as info:
            feed()
        assert info.value.code == code


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize(("message", "payload"), [(b"\x01", b""), (deflated(b"Hello")[:-1] + b"\x04", b"Hello")])
def test_a_message_may_end_with_an_empty_final_block(message: bytes, payload: bytes, forgets: bool) -> None:
    """RFC 7692, section 7.2.1, takes its last four bytes off too: zlib's Z_FINISH at level 0 makes one of an empty message."""
    inflater = Inflater(forgets, 15)
    for _ in range(2):
        assert inflater.inflate(message, 100) == payload
        inflater.finish()
    assert inflater.inflate(deflated(b"Hello"), 100) == b"Hello"
    inflater.finish()


def test_the_reason_of_a_refusal_is_fit_for_a_log() -> None:
    """It is the peer's, as long as a line may be, and may hold what a terminal obeys."""
    for reason, shown in (("Forbidden", "Forbidden"), ("\x9b31m\t" + "x" * 8000, "\\x9b31m\\t" + "x" * 75), ("", "")):
        with pytest.raises(ProtocolError) as info:
            check_response(ResponseHead("HTTP/1.1", 403, reason, Header()), "", [])
        assert info.value.text == f"the server answered 403 {shown}".rstrip()
