"""``RequestError``: what the HTTP client returns if a request fails."""

from __future__ import annotations

from typing import Literal

from ..._core.result import OwnMembers

Phase = Literal["url", "pool", "resolve", "connect", "tls", "send", "head", "body", "redirect", "closed"]
"""How far a request got. Up to ``"tls"`` nothing was sent of it.

* ``"url"``: the URL is not valid
* ``"pool"``: it waited for a connection, since ``max_per_host`` are in use
* ``"resolve"``: the look-up of the host's name
* ``"connect"``: the connection
* ``"tls"``: the TLS handshake, the verification of the certificate included
* ``"send"``: sending the request
* ``"head"``: the response's head
* ``"body"``: the response's body
* ``"redirect"``: the response is a redirect that is not followed
* ``"closed"``: the program has closed the stream or the client
"""


class RequestError(str, metaclass=OwnMembers):
    """The error of a request that failed: a ``str``, with the ``phase`` in which it
    failed, and with ``errno``, the cause as a constant of ``silly.errno``. That is None
    if the cause is none of those, such as a bad response.

        response, err = http.get("http://127.0.0.1:8080/")
        if err is not None and err.errno == errno.CONNREFUSED:
            print("nobody listens there:", err)
    """

    __slots__ = ("errno", "phase")

    phase: Phase
    errno: str | None

    def __new__(cls, text: str, phase: Phase, errno: str | None) -> RequestError:
        error = super().__new__(cls, text)
        error.phase, error.errno = phase, errno
        return error

    def __reduce__(self) -> tuple[type[RequestError], tuple[object, ...]]:
        return RequestError, (str(self), self.phase, self.errno)  # for ``copy`` and ``pickle``
