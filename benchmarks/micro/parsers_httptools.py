"""What httptools costs, with callbacks that keep what ours keeps; see inputs.py."""

from __future__ import annotations

import httptools
import inputs
import timing


class Message:
    """Keeps a message: its fields, in lower case, as text, and its body."""

    def __init__(self) -> None:
        self.url = ""
        self.header: dict[str, str] = {}
        self.body = bytearray()
        self.done = False

    def on_url(self, url: bytes) -> None:
        self.url += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.header[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True


def request(data: bytes, size: int) -> None:
    message = Message()
    parser = httptools.HttpRequestParser(message)
    parser.feed_data(data)
    parser.get_method()
    httptools.parse_url(message.url.encode("latin-1"))
    if not message.done or len(message.body) != size:
        raise SystemExit("not the request")


def response() -> None:
    message = Message()
    parser = httptools.HttpResponseParser(message)
    parser.feed_data(inputs.RESPONSE_DATA)
    parser.get_status_code()
    if not message.done or len(message.body) != 17:
        raise SystemExit("not the response")


timing.report({
    **{name: timing.times(lambda head=head: request(head, 0)) for name, head in inputs.REQUESTS.items()},
    inputs.RESPONSE: timing.times(response),
    inputs.CHUNKED: timing.times(lambda: request(inputs.CHUNKED_HEAD + inputs.CHUNKED_BODY, inputs.CHUNKED_SIZE)),
})  # fmt: skip
