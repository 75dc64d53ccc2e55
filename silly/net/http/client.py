"""The HTTP client (upstream: ``silly.net.http.client``): requests over connections that are kept alive.

    response, err = http.get("https://example.com/", {"accept": "text/html"})
    if response is not None:
        print(response.status, response.header["content-type"], response.text)

    with silly.check(http.request("PUT", "http://127.0.0.1:8080/file")) as stream:
        stream.write("piece by ")
        stream.closewrite("piece")
        status, header = stream.readheader()

``http.newclient`` makes a client with settings of its own. Whatever fails comes back as an error that names the phase, the
URL and the cause. Neither the environment's proxies nor cookies are heeded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any
from urllib.parse import quote

from ..._core.result import returns_pair
from ..._version import version
from ..._wire import content
from ..._wire.header import Outgoing, check_name, compose
from ..._wire.limits import DEFAULT, Limits, check_limits
from ..._wire.url import HTTP, Url, hidden, parse_url, resolve
from .._settings import settings
from ..tcp import Conn, Data, to_bytes
from ..tcp import connect as tcp_connect
from ._clientstream import Bounds, ClientStream
from ._pool import Pool
from .response import Response

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_CREDENTIALS = frozenset(("authorization", "cookie", "cookie2", "host", "proxy-authorization"))
"""Fields that are for one origin alone."""
_OF_CONTENT = frozenset(("content-encoding", "content-language", "content-length", "content-location", "content-type"))
_OF_CONTENT |= {"digest", "expect", "last-modified", "transfer-encoding"}
"""Fields about a request's content, which go where that goes (RFC 9110, section 15.4)."""
_IN_URL = "!#$%&'()*+,/:;=?@[]~"


class Client:
    """What ``newclient`` makes. A context manager that closes it."""

    def __init__(
        self,
        *,
        connect_timeout: float,
        head_timeout: float,
        read_timeout: float,
        timeout: float | None,
        idle_timeout: float,
        max_idle_per_host: int,
        max_per_host: int,
        redirects: int,
        decode: bool,
        ca: str | bytes | None,
        cert: Mapping[str, Any] | None,
        verify: bool,
        limits: Limits,
    ) -> None:
        for name, ms in (
            ("connect_timeout", connect_timeout),
            ("head_timeout", head_timeout),
            ("read_timeout", read_timeout),
            ("timeout", timeout),
            ("idle_timeout", idle_timeout),
        ):
            if ms is None and name == "timeout":
                continue
            if isinstance(ms, bool) or not isinstance(ms, (int, float)):
                raise TypeError(f"http.newclient: {name} is in ms, not {type(ms).__name__}")
            if not 0 < ms < inf:
                raise ValueError(f"http.newclient: {name} is in ms, finite and positive, not {ms!r}")
        for name, count in (
            ("max_idle_per_host", max_idle_per_host),
            ("max_per_host", max_per_host),
            ("redirects", redirects),
        ):
            _counted(f"http.newclient: {name}", count)
        if not isinstance(verify, bool):
            raise TypeError(f"http.newclient: verify is True or False, not {verify!r}")
        check_limits(limits)
        self._bounds = Bounds(connect_timeout, head_timeout, timeout)
        self._redirects = redirects
        self._decode = decode
        self._tls: dict[str, Any] = {"ca": ca, "cert": cert, "verify": verify}
        self._limits = replace(limits, body_timeout=max(1, round(read_timeout)))
        self._pool = Pool(self._dial, max_idle_per_host, max_per_host, idle_timeout)

    def _dial(self, url: Url) -> tuple[Conn, None] | tuple[None, str]:
        if url.scheme == "http":
            return tcp_connect(url.target, limits=self._limits)
        # Loaded when used: OpenSSL's modules take longer to import than all of ours.
        from ..tls import connect_explained

        options = {"timeout": self._bounds.connect, "limits": self._limits, **self._tls}
        return connect_explained(url.target, url.host, ["http/1.1"], **options)

    # ---- requests -----------------------------------------------------------------------------------------------

    @returns_pair("http.request", "stream")
    def request(
        self,
        method: str,
        url: str,
        header: Outgoing | None = None,
        close: bool = False,
        alpnprotos: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
    ) -> tuple[ClientStream, None] | tuple[None, str]:
        """Connects, or takes an idle connection, for a request whose body and response go piece by piece.

        ``(stream, None)`` or ``(None, err)``. Nothing is sent before ``stream.write``, ``flush`` or ``closewrite``.
        ``timeout`` in ms bounds everything, up to the end of the response (default: the client's ``timeout``). Redirects are
        the caller's affair. ``close=True``: the connection ends with the response. ``alpnprotos``, which upstream has, must
        allow HTTP/1.1. Raises TypeError or ValueError for what may not be sent.
        """
        _check_protocols("http.request", alpnprotos)
        parsed = self._parsed("http.request", method, url)
        if isinstance(parsed, str):
            return None, parsed
        fields, given = _composed(header)
        if close:
            fields.append(("connection", "close"))
        return self._open(method, parsed, fields, given, self._bounds.starting(timeout))

    @returns_pair("http.get", "response")
    def get(
        self, url: str, header: Outgoing | None = None, *, timeout: float | None = None, redirects: int | None = None
    ) -> tuple[Response, None] | tuple[None, str]:
        """``fetch`` with GET."""
        return self.fetch("GET", url, header, timeout=timeout, redirects=redirects)

    @returns_pair("http.post", "response")
    def post(
        self,
        url: str,
        header: Outgoing | None = None,
        body: Data | None = None,
        *,
        timeout: float | None = None,
        redirects: int | None = None,
    ) -> tuple[Response, None] | tuple[None, str]:
        """``fetch`` with POST."""
        return self.fetch("POST", url, header, body, timeout=timeout, redirects=redirects)

    @returns_pair("http.fetch", "response")
    def fetch(
        self,
        method: str,
        url: str,
        header: Outgoing | None = None,
        body: Data | None = None,
        *,
        timeout: float | None = None,
        redirects: int | None = None,
    ) -> tuple[Response, None] | tuple[None, str]:
        """Makes a request and reads the whole response: ``(response, None)``, whatever its status, or ``(None, err)``.

        ``header``: a mapping or pairs, which are not changed; None as a value leaves out a field that is sent by default
        (``user-agent``, ``accept-encoding``). ``timeout`` in ms bounds all of it, redirects included. ``redirects``: how many
        to follow (default: the client's, 0). Of a redirect to another origin, credentials and Host stay behind; one from
        https to http is an error. The body is at most the limit ``body`` long, decoded. Raises TypeError or ValueError for
        what may not be sent.
        """
        parsed = self._parsed("http.fetch", method, url)
        if isinstance(parsed, str):
            return None, parsed
        fields, given = _composed(header)
        content_bytes = None if body is None else to_bytes(body)
        most = self._redirects if redirects is None else _counted("http.fetch: redirects", redirects)
        bounds = self._bounds.starting(timeout)
        for _ in range(most + 1):
            response, err = self._exchange(method, parsed, fields, given, content_bytes, bounds)
            if response is None:
                return None, str(err)
            locations = response.header.getall("location")
            if response.status not in _REDIRECTS or not locations or not most:
                return response, None
            target = self._redirected(parsed, locations)
            if isinstance(target, str):
                return None, f"http {method} {parsed}: redirect: {target}"
            if target.origin != parsed.origin:
                fields = [(name, value) for name, value in fields if name not in _CREDENTIALS]
            # RFC 9110, section 15.4: POST becomes GET by 301 and 302, everything but HEAD by 303.
            if (response.status == 303 and method != "HEAD") or (response.status in (301, 302) and method == "POST"):
                method, content_bytes = "GET", None
                fields = [(name, value) for name, value in fields if name not in _OF_CONTENT]
            parsed = target
        return None, f"http {method} {parsed}: redirect: more than {most} of them"

    def _redirected(self, url: Url, locations: list[str]) -> Url | str:
        """Where the Location fields lead; or why nobody goes there."""
        location = locations[0]
        if len(locations) > 1:
            # Clients differ in which of them counts: that is how a smuggled field works (RFC 9110, section 10.2.2: one).
            return f"{len(locations)} Location fields"
        # Servers send raw UTF-8 and spaces. A backslash stays until it is known that it is none in the authority.
        target = parse_url(resolve(url, quote(location.encode("latin-1"), safe=_IN_URL + "\\")), HTTP, fragment=True)
        if isinstance(target, str):
            return f"to {hidden(location)[:200]!r}: {target}"
        target = target._replace(path=target.path.replace("\\", "%5C"))
        if url.scheme == "https" and target.scheme != "https":
            return f"from https to http, which is refused: {hidden(location)[:200]!r}"
        if target.origin == url.origin:
            return target._replace(authorization=url.authorization)
        # The server that redirects has no say in with what credentials.
        return target._replace(authorization=None)

    def _exchange(
        self, method: str, url: Url, fields: list[tuple[str, str]], given: set[str], body: bytes | None, bounds: Bounds
    ) -> tuple[Response, None] | tuple[None, str]:
        stream, err = self._open(method, url, fields, given, bounds)
        if stream is None:
            return None, str(err)
        with stream:
            sent = stream.closewrite(body)
            if not sent and stream._err is not None:
                return None, stream._err
            # A server may answer before it has read everything: that counts more than the write that failed.
            content_bytes, err = stream.readall()
            if content_bytes is None:
                return None, stream._err or f"http {method} {url}: {err}"
            line = stream.status, stream.reason, stream.version
            return Response(*line, stream.header, stream.trailer, content_bytes, stream.url), None

    def _open(
        self, method: str, url: Url, fields: list[tuple[str, str]], given: set[str], bounds: Bounds
    ) -> tuple[ClientStream, None] | tuple[None, str]:
        own: list[tuple[str, str]] = []
        if all(name != "host" for name, _ in fields):
            own.append(("host", url.host_field))
        if url.authorization is not None and "authorization" not in given:
            own.append(("authorization", url.authorization))
        if "user-agent" not in given:
            own.append(("user-agent", f"silly/{version}"))
        # A range is one of the encoded bytes: nobody wants that unasked.
        decode = self._decode and "accept-encoding" not in given and "range" not in given
        if decode:
            own.append(("accept-encoding", content.CODINGS))
        stream = ClientStream(self._pool, url, method, own + fields, self._limits, bounds, decode)
        err = stream._connect()
        return (stream, None) if err is None else (None, err)

    def _parsed(self, what: str, method: str, url: str) -> Url | str:
        if not isinstance(method, str):
            raise TypeError(f"{what} needs a method such as 'GET', not {type(method).__name__}")
        if method == "CONNECT":
            raise ValueError(f"{what}: CONNECT asks for a tunnel, which has no URL")
        if not isinstance(url, str):
            raise TypeError(f"{what} needs a URL, not {type(url).__name__}")
        if self._pool.closed:
            return f"http {method} {hidden(url)!r}: the client is closed"
        parsed = parse_url(url, HTTP, fragment=True)
        return f"http {method} {hidden(url)!r}: {parsed}" if isinstance(parsed, str) else parsed

    # ---- the end ------------------------------------------------------------------------------------------------

    def closeidle(self) -> None:
        """Closes the connections that are idle."""
        self._pool.close_idle()

    def close(self) -> None:
        """Closes the idle connections, those in use when they have served, and takes no more requests."""
        self._pool.closed = True
        self._pool.close_idle()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _counted(what: str, count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"{what} is an int that isn't negative, not {count!r}")
    return count


def _composed(header: Outgoing | None) -> tuple[list[tuple[str, str]], set[str]]:
    """The caller's fields, checked, and their names: those whose value is None count, though they aren't sent."""
    pairs = [] if header is None else list(header.items() if isinstance(header, Mapping) else header)
    fields = compose(pairs)
    if sum(name == "host" for name, _ in fields) > 1:
        raise ValueError("a request has one Host")  # RFC 9112, section 3.2
    return fields, {check_name(name) for name, _ in pairs}


def _check_protocols(what: str, alpnprotos: Sequence[str] | None) -> None:
    """A list of application protocols, as upstream takes it: of what is in it HTTP/1.1 alone is spoken."""
    if isinstance(alpnprotos, str):
        raise TypeError(f"{what}: alpnprotos is a list of names such as ['http/1.1'], not str")
    if alpnprotos is not None and "http/1.1" not in alpnprotos:
        raise ValueError(f"{what}: alpnprotos without 'http/1.1', which is all that is spoken: {list(alpnprotos)!r}")


@settings("http.newclient", "config")
def newclient(
    config: Mapping[str, Any] | None = None,
    *,
    connect_timeout: float = 10_000,
    head_timeout: float = 30_000,
    read_timeout: float = 30_000,
    timeout: float | None = None,
    idle_timeout: float = 30_000,
    max_idle_per_host: int = 10,
    max_per_host: int = 0,
    redirects: int = 0,
    decode: bool = True,
    alpnprotos: Sequence[str] | None = None,
    ca: str | bytes | None = None,
    cert: Mapping[str, Any] | None = None,
    verify: bool = True,
    limits: Limits = DEFAULT,
) -> Client:
    """A client with settings, and idle connections, of its own. A dict with these keys may be given instead.

    Times in ms: ``connect_timeout`` for a connection, its TLS handshake included (and for a place among ``max_per_host``);
    ``head_timeout`` from the end of the request to the end of the response's head; ``read_timeout`` without a byte of its body;
    ``timeout`` for all of a request, None for any; ``idle_timeout`` for an idle connection, of which at most
    ``max_idle_per_host`` are kept an origin. ``max_per_host``: connections in use an origin, 0 for any number.
    ``redirects``: how many ``get``, ``post`` and ``fetch`` follow. ``decode=False``: gzip and deflate are neither asked for nor
    decoded. ``alpnprotos``, which upstream has, must allow HTTP/1.1. ``ca``, ``cert`` and ``verify`` as in
    ``silly.net.tls.connect``. Of ``limits`` it heeds ``body``, those of heads, and those of ``tcp.connect``.

        client = http.newclient(redirects=5, timeout=10_000)
    """
    if config is not None:  # ``settings`` has taken a dict apart
        raise TypeError(f"http.newclient takes a dict or keyword arguments, not {type(config).__name__}")
    _check_protocols("http.newclient", alpnprotos)
    return Client(
        connect_timeout=connect_timeout,
        head_timeout=head_timeout,
        read_timeout=read_timeout,
        timeout=timeout,
        idle_timeout=idle_timeout,
        max_idle_per_host=max_idle_per_host,
        max_per_host=max_per_host,
        redirects=redirects,
        decode=decode,
        ca=ca,
        cert=cert,
        verify=verify,
        limits=limits,
    )
