"""What h11 costs; see inputs.py."""

from __future__ import annotations

import h11
import inputs
import timing


def request(head: bytes) -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    if type(connection.next_event()) is not h11.Request or type(connection.next_event()) is not h11.EndOfMessage:
        raise SystemExit("not the request")


def response() -> None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(GET)
    connection.send(END)
    connection.receive_data(inputs.RESPONSE_DATA)
    connection.next_event()
    if len(connection.next_event().data) != 17 or type(connection.next_event()) is not h11.EndOfMessage:
        raise SystemExit("not the response")


def chunked() -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(inputs.CHUNKED_HEAD + inputs.CHUNKED_BODY)
    connection.next_event()
    size = 0
    while type(event := connection.next_event()) is h11.Data:
        size += len(event.data)
    if size != inputs.CHUNKED_SIZE or type(event) is not h11.EndOfMessage:
        raise SystemExit("not the body")


GET = h11.Request(method="GET", target="/", headers=[("host", "127.0.0.1")])
END = h11.EndOfMessage()
timing.report({
    **{name: timing.times(lambda head=head: request(head)) for name, head in inputs.REQUESTS.items()},
    inputs.RESPONSE: timing.times(response),
    inputs.CHUNKED: timing.times(chunked),
})  # fmt: skip
