"""The one exception of the protocol code."""

from __future__ import annotations


class ProtocolError(Exception):
    """The peer broke a protocol. ``code`` is the answer on the wire: a WebSocket close code or an HTTP status.

    Parsers raise nothing else, whatever the bytes.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
