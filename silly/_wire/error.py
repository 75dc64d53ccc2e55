"""The one exception of the protocol code."""

from __future__ import annotations


class ProtocolError(Exception):
    """The peer broke a protocol. ``code`` is the answer on the wire: a WebSocket close
    code or an HTTP status.

    ``text`` says what is wrong. ``answer`` says it to an HTTP peer, without the bytes
    that it sent: otherwise a page that provokes an error could read from the answer
    what a browser hides from it, such as cookies.

    Parsers raise nothing else, whatever the bytes.
    """

    def __init__(self, text: str, code: int, answer: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.answer = text if answer is None else answer
        self.code = code
