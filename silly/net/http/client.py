"""The HTTP client: requests over connections that are kept alive.

    response, err = http.get("https://example.com/", {"accept": "text/html"})
    if response is not None:
        print(response.status, response.header["content-type"], response.text)

    with silly.check(http.request("PUT", "http://127.0.0.1:8080/file")) as stream:
        stream.write("piece by ")
        stream.closewrite("piece")
        status, header = stream.readheader()

``http.newclient`` makes a client with settings of its own. A failure comes back as an
error that names the phase, the URL and the cause. The client ignores cookies and the
environment's proxies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from ... import errno
from ..._core import scheduler
from ..._core.callers import seconds_meant
from ..._core.result import returns_pair
from ..._shown import cut, shown
from ..._version import version
from ..._wire import content
from ..._wire.header import Outgoing, as_pairs, check_name, compose, one_cookie
from ..._wire.limits import DEFAULT, Limits, check_limits
from ..._wire.numbers import check_int, check_ms
from ..._wire.url import HTTP, Url, hidden, parse_url, resolve
from .._dial import Progress, dial
from .._settings import settings
from .._stream import Stream
from ..tcp import Conn, Data, to_bytes
from ._clientstream import Bounds, ClientStream
from ._error import RequestError
from ._pool import ConnPool
from .response import Response

_loop = scheduler.loop
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_CREDENTIALS = frozenset(("authorization", "cookie", "cookie2", "host", "proxy-authorization"))
"""Fields that are meant for one origin and not sent to another."""
_OF_CONTENT = frozenset(("content-encoding", "content-language", "content-length", "content-location", "content-type"))
_OF_CONTENT |= {"digest", "expect", "last-modified", "transfer-encoding"}
"""Fields about a request's content: a redirect that drops it drops them too (RFC 9110,
section 15.4)."""
_IN_URL = "!#$%&'()*+,/:;=?@[]~"


class Client:
    """A client with settings and idle connections of its own, made by
    ``http.newclient``. In a ``with`` block it closes at the end.

        with http.newclient(timeout=5000) as client:
            response, err = client.get("http://127.0.0.1:8080/")
    """

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
            check_ms(f"http.newclient: {name}", ms, positive=True)
            if ms is not None and ms < 1:
                seconds_meant(ms)
        for name, count in (
            ("max_idle_per_host", max_idle_per_host),
            ("max_per_host", max_per_host),
            ("redirects", redirects),
        ):
            check_int(f"http.newclient: {name}", count)
        if not isinstance(verify, bool):
            raise TypeError(f"http.newclient: verify is True or False, not {shown(verify)}")
        check_limits(limits)
        self._bounds = Bounds(connect_timeout, head_timeout, timeout)
        self._redirects = redirects
        self._decode = decode
        self._tls: dict[str, Any] = {"ca": ca, "cert": cert, "verify": verify}
        self._limits = replace(limits, body_timeout=max(1, round(read_timeout)))
        self._pool = ConnPool(self._dial, max_idle_per_host, max_per_host, idle_timeout)

    def _dial(self, url: Url) -> tuple[Conn, None] | tuple[None, RequestError]:
        progress = Progress()
        if url.scheme == "http":
            sock, err = dial(url.target, None, None, "tcp.connect", progress)
            if sock is not None:
                return Conn(Stream(sock, url.target, self._limits)), None
            return None, RequestError(str(err), progress.phase, err)
        # Loaded when used: OpenSSL's modules take longer to import than all of ours.
        from ..tls import code_of, connect_explained

        options = {"timeout": self._bounds.connect, "limits": self._limits, "progress": progress, **self._tls}
        conn, err = connect_explained(url.target, url.host, ["http/1.1"], **options)
        if conn is not None:
            return conn, None
        assert err is not None
        return None, RequestError(err, progress.phase, code_of(err, progress))

    # ---- requests --------------------------------------------------------------------

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
    ) -> tuple[ClientStream, None] | tuple[None, RequestError]:
        """Begins a request whose body and response are sent and read piece by piece.

            stream, err = http.request("PUT", "http://127.0.0.1:8080/file")
            if stream is not None:
                with stream:
                    stream.write("piece by ")
                    stream.closewrite("piece")
                    status, header = stream.readheader()

        Returns ``(stream, None)``, a ``ClientStream`` on a new or an idle connection,
        or ``(None, err)``, a ``RequestError``. Nothing is sent before ``write``,
        ``flush`` or ``closewrite``.

        * ``url``, ``header``: as for ``fetch``; redirects are not followed
        * ``close``: the connection ends with the response
        * ``timeout``: ms for everything up to the end of the response (default: the
          client's)
        * ``alpnprotos``: if given, it must contain ``"http/1.1"``

        Raises TypeError or ValueError for arguments that cannot be sent.
        """
        if _loop.no_switch:
            scheduler.refuse("http.request")
        _check_protocols("http.request", alpnprotos)
        parsed = self._parsed("http.request", method, url)
        if isinstance(parsed, RequestError):
            return None, parsed
        fields, given = _composed(header)
        if close:
            fields.append(("connection", "close"))
        return self._open(method, parsed, fields, given, self._bounds.starting(timeout))

    @returns_pair("http.get", "response")
    def get(
        self, url: str, header: Outgoing | None = None, *, timeout: float | None = None, redirects: int | None = None
    ) -> tuple[Response, None] | tuple[None, RequestError]:
        """Makes a GET request and reads the whole response.

            response, err = http.get("http://127.0.0.1:8080/", timeout=5000)
            print(err if response is None else response.text)

        Returns ``(response, None)``, a ``Response`` with any status, or ``(None, err)``
        if the request failed. The arguments are those of ``fetch``.
        """
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
    ) -> tuple[Response, None] | tuple[None, RequestError]:
        """Makes a POST request and reads the whole response.

            header = {"content-type": "text/plain"}
            response, err = http.post("http://127.0.0.1:8080/users", header, "Ada")
            print(err if response is None else response.status)

        Returns ``(response, None)``, a ``Response`` with any status, or ``(None, err)``
        if the request failed; it is not sent again. The arguments are those of
        ``fetch``.
        """
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
    ) -> tuple[Response, None] | tuple[None, RequestError]:
        """Makes a request and reads the whole response.

            response, err = http.fetch("DELETE", "http://127.0.0.1:8080/users/7")
            print(err if response is None else response.status)

        Returns ``(response, None)``, a ``Response`` with any status, or ``(None, err)``
        if the request failed; ``err`` is a ``RequestError``: a str that names the
        phase, the URL (without its password) and the cause, with the phase as
        ``err.phase`` and the constant of ``silly.errno`` as ``err.errno``.

        * ``url``: ``http://`` or ``https://``
        * ``header``: a mapping or pairs; it is not changed. The value None leaves out a
          field that is sent by default (``user-agent``, ``accept-encoding``)
        * ``body``: bytes-like, or a str, which goes out as UTF-8
        * ``timeout``: ms for everything, redirects included (default: the client's)
        * ``redirects``: how many to follow (default: the client's, which is 0).
          Credentials and Host are not sent to another origin; from https to http is an
          error (RFC 9110, section 15.4)

        A response whose body, decoded, is longer than the limit ``body`` is an error.
        Raises TypeError or ValueError for arguments that cannot be sent.
        """
        if _loop.no_switch:
            scheduler.refuse("http.fetch")
        parsed = self._parsed("http.fetch", method, url)
        if isinstance(parsed, RequestError):
            return None, parsed
        fields, given = _composed(header)
        content_bytes = None if body is None else to_bytes(body)
        most = self._redirects if redirects is None else redirects
        check_int("http.fetch: redirects", most)
        bounds = self._bounds.starting(timeout)
        for _ in range(most + 1):
            response, err = self._exchange(method, parsed, fields, given, content_bytes, bounds)
            if response is None:
                assert err is not None
                return None, err
            locations = response.header.getall("location")
            if response.status not in _REDIRECTS or not locations or not most:
                return response, None
            target = self._redirected(parsed, locations)
            if isinstance(target, str):
                return None, RequestError(f"http {method} {parsed}: redirect: {target}", "redirect", None)
            if target.origin != parsed.origin:
                fields = [(name, value) for name, value in fields if name not in _CREDENTIALS]
            # RFC 9110, section 15.4: POST becomes GET by 301 and 302, everything but
            # HEAD by 303.
            if (response.status == 303 and method != "HEAD") or (response.status in (301, 302) and method == "POST"):
                method, content_bytes = "GET", None
                fields = [(name, value) for name, value in fields if name not in _OF_CONTENT]
            parsed = target
        return None, RequestError(f"http {method} {parsed}: redirect: more than {most} redirects", "redirect", None)

    def _redirected(self, url: Url, locations: list[str]) -> Url | str:
        """The URL that the Location fields lead to, or why it is not followed."""
        location = locations[0]
        if len(locations) > 1:
            # RFC 9110, section 10.2.2, allows one. Clients differ in which of several
            # they use, and a smuggled field could exploit that.
            return f"{len(locations)} Location fields"
        # Servers send raw UTF-8 and spaces, so they are quoted. A backslash is quoted
        # only after ``parse_url`` has refused one in the authority.
        target = parse_url(resolve(url, quote(location.encode("latin-1"), safe=_IN_URL + "\\")), HTTP, fragment=True)
        if isinstance(target, str):
            return f"to {shown(hidden(location))}: {target}"
        target = target._replace(path=target.path.replace("\\", "%5C"))
        if url.scheme == "https" and target.scheme != "https":
            return f"from https to http, which is refused: {shown(hidden(location))}"
        if target.origin == url.origin:
            return target._replace(authorization=url.authorization)
        # The server that redirects must not choose the credentials for another one.
        return target._replace(authorization=None)

    def _exchange(
        self, method: str, url: Url, fields: list[tuple[str, str]], given: set[str], body: bytes | None, bounds: Bounds
    ) -> tuple[Response, None] | tuple[None, RequestError]:
        stream, err = self._open(method, url, fields, given, bounds)
        if stream is None:
            assert err is not None
            return None, err
        with stream:
            sent = stream.closewrite(body)
            if not sent and stream._err is not None:
                return None, stream._err
            # A server may answer before it has read everything: its answer matters more
            # than a failed write.
            content_bytes, err = stream.readall()
            if content_bytes is None:
                assert err is not None
                return None, stream._err or RequestError(f"http {method} {cut(str(url))}: {err}", err.phase, err.errno)
            line = stream.status, stream.reason, stream.version
            return Response(*line, stream.header, stream.trailer, content_bytes, stream.url), None

    def _open(
        self, method: str, url: Url, fields: list[tuple[str, str]], given: set[str], bounds: Bounds
    ) -> tuple[ClientStream, None] | tuple[None, RequestError]:
        own: list[tuple[str, str]] = []
        if all(name != "host" for name, _ in fields):
            own.append(("host", url.host_field))
        if url.authorization is not None and "authorization" not in given:
            own.append(("authorization", url.authorization))
        if "user-agent" not in given:
            own.append(("user-agent", f"silly/{version}"))
        # A range would be a range of the encoded bytes, which callers do not expect.
        decode = self._decode and "accept-encoding" not in given and "range" not in given
        if decode:
            own.append(("accept-encoding", content.CODINGS))
        stream = ClientStream(self._pool, url, method, own + fields, self._limits, bounds, decode)
        err = stream._connect()
        return (stream, None) if err is None else (None, err)

    def _parsed(self, what: str, method: str, url: str) -> Url | RequestError:
        if not isinstance(method, str):
            raise TypeError(f"{what} needs a method such as 'GET', not {type(method).__name__}")
        if method == "CONNECT":
            raise ValueError(f"{what}: CONNECT asks for a tunnel, which has no URL")
        if not isinstance(url, str):
            raise TypeError(f"{what} needs a URL, not {type(url).__name__}")
        if self._pool.closed:
            return RequestError(f"http {method} {shown(hidden(url))}: the client is closed", "closed", errno.CLOSED)
        parsed = parse_url(url, HTTP, fragment=True)
        if isinstance(parsed, str):
            return RequestError(f"http {method} {shown(hidden(url))}: {parsed}", "url", None)
        return parsed

    # ---- the end ---------------------------------------------------------------------

    def closeidle(self) -> None:
        """Closes the idle connections.

            http.closeidle()

        Later requests open new ones.
        """
        scheduler.check_thread(closes=True)
        self._pool.close_idle()

    def close(self) -> None:
        """Closes the client: the idle connections now, those in use after their
        response. New requests fail."""
        scheduler.check_thread(closes=True)
        self._pool.closed = True
        self._pool.close_idle()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _composed(header: Outgoing | None) -> tuple[list[tuple[str, str]], set[str]]:
    """Returns the caller's fields, checked, and the names that the caller gave, which
    include those whose value is None."""
    pairs = [] if header is None else as_pairs(header)
    fields = one_cookie(compose(pairs))
    if sum(name == "host" for name, _ in fields) > 1:
        raise ValueError("a request has only one Host")  # RFC 9112, section 3.2
    return fields, {check_name(name) for name, _ in pairs}


def _check_protocols(what: str, alpnprotos: Sequence[str] | None) -> None:
    """Checks the application protocols, which upstream's calls take: HTTP/1.1 must be
    among them, since the client speaks nothing else."""
    if isinstance(alpnprotos, str):
        raise TypeError(f"{what}: alpnprotos is a list of names such as ['http/1.1'], not str")
    if alpnprotos is not None and "http/1.1" not in alpnprotos:
        raise ValueError(f"{what}: alpnprotos needs 'http/1.1', the only protocol of the client: {shown(list(alpnprotos))}")


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
    """Returns a ``Client`` with settings and idle connections of its own.

        client = http.newclient(redirects=5, timeout=10_000)
        response, err = client.get("http://127.0.0.1:8080/")
        client.close()

    * ``connect_timeout``: ms to connect, with the TLS handshake and the wait for a
      place among ``max_per_host``
    * ``head_timeout``: ms from the end of the request to the end of the response's
      head; a server that takes the request slowly has not got its end
    * ``read_timeout``: ms without a byte of the response's body
    * ``timeout``: ms for a whole request; None: no limit
    * ``idle_timeout``: ms that an idle connection is kept
    * ``max_idle_per_host``: idle connections that are kept for each origin
    * ``max_per_host``: connections in use for each origin; 0: any number
    * ``redirects``: how many redirects ``get``, ``post`` and ``fetch`` follow
    * ``decode``: ask for gzip and deflate, and decode them
    * ``alpnprotos``: if given, it must contain ``"http/1.1"``
    * ``ca``, ``cert``, ``verify``: as for ``silly.net.tls.connect``
    * ``limits``: uses ``body``, ``body_rate``, the limits of heads, and those that
      ``tcp.connect`` uses

    A dict with these keys may be given instead. Raises TypeError or ValueError for bad
    arguments.
    """
    if config is not None:  # ``settings`` has replaced a dict by its items
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
