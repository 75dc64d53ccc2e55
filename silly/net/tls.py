"""TLS connections and listeners, which read and write like those of ``silly.net.tcp``.

    def greet(conn):
        conn.write("hello\\n")
        conn.close()

    certs = [{"cert": "cert.pem", "key": "key.pem"}]
    listener, err = tls.listen(addr="127.0.0.1:8443", certs=certs, accept=greet)
    conn, err = tls.connect("localhost:8443", ca="ca.pem")

``upgrade`` begins TLS on a connection that was made without it (STARTTLS).

Certificates and host names are verified by default. Only TLS 1.2 and 1.3 are spoken.
When the peer ends properly (with close_notify), reads return ``errno.EOF``. If TCP ends
without that, data may be missing, and they return ``errno.TLS``. The guide is
``docs/tls.md``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from .. import errno
from .._core import scheduler
from .._core.loop import monotonic
from .._core.result import OK, Result, failure, returns_pair
from .._log import tls as logger
from .._shown import cut, name_of
from .._wire.limits import DEFAULT, Limits, check_limits
from . import _listener, tcp
from . import addr as address
from ._binding import Rights
from ._certificates import Certificate
from ._dial import Progress, dial
from ._handler import check_handler
from ._listener import Admission, host_of
from ._newcomers import Newcomers
from ._settings import settings
from ._stream import Stream
from ._tls_handshake import code, greet_client, greet_server, new_attempt
from ._tls_server import ServerConfiguration, Settings, peer_certificate
from ._tls_stream import TlsStream
from ._tls_upgrade import check_roles, client_end, server_end, upgraded
from ._tls_words import Verification

if TYPE_CHECKING:
    from .._wire.networks import Networks

__all__ = ["Certificate", "Conn", "Listener", "connect", "listen", "upgrade"]

_loop = scheduler.loop


class Conn(tcp.Conn):
    """A TLS connection: a ``silly.net.tcp.Conn``, and what TLS adds."""

    __slots__ = ()

    _stream: TlsStream

    def alpnproto(self) -> str | None:
        """Returns the protocol that was agreed on with ALPN (RFC 7301), such as
        ``"http/1.1"``, or None.

            conn.alpnproto()                    # -> "chat/1"
        """
        return self._stream.ssl.get_alpn_proto_negotiated().decode("ascii") or None

    def peercert(self) -> Certificate | None:
        """Returns the peer's certificate, or None if it sent none, as a client does
        that isn't asked for one.

            cert = conn.peercert()
            if cert is not None:
                print(cert.names)               # -> ('localhost', '127.0.0.1')

        It has ``subject``, ``issuer``, ``names``, ``notbefore``, ``notafter``,
        ``serial``, ``fingerprint`` and ``der``, and it was verified, unless
        ``verify=False`` was given.
        """
        cert = peer_certificate(self._stream.ssl)
        return None if cert is None else Certificate(cert)


class Listener(_listener.Listener):
    """A listener like that of ``silly.net.tcp``, with ``reload``."""

    _accepted: Acceptor

    @settings("listener.reload", "certs")
    def reload(
        self,
        certs: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        *,
        alpnprotos: Sequence[str] | None = None,
        ca: str | bytes | None = None,
        verify: str | None = None,
        ciphers: str | None = None,
    ) -> Result:
        """Uses other certificates and settings for the handshakes that begin from now
        on. No connection is dropped.

            listener.reload()                   # -> (True, None)
            listener.reload(alpnprotos=["chat/2", "chat/1"])

        A setting that is None stays as it was, and its files are read again:
        ``reload()`` is enough after a renewal. Returns ``(False, err)`` if something
        can't be used; that is logged too, and everything stays as it was. Sessions from
        before are not resumed. A dict with these keys may be given in place of
        ``certs``.
        """
        scheduler.check_thread()
        if self._bound is None:
            return failure(errno.CLOSED)
        given = {"certs": certs, "alpnprotos": alpnprotos, "ca": ca, "verify": verify, "ciphers": ciphers}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        try:
            self._accepted.configure(self._accepted.settings._replace(**changed))
        except (ValueError, OSError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else exc
            logger.error(f"listener {self.addr}: reload: {why}; what was loaded before stays in use")
            return failure(f"listener.reload: {why}")
        return OK


class Acceptor:
    """What a listener does with a new socket: a task of its own does the handshake, and
    then runs ``accept(conn)``.
    """

    def __init__(
        self,
        settings: Settings,
        accept: Callable[[Conn], object],
        limits: Limits,
        admission: Admission | None,
        proxies: Networks | None,
    ) -> None:
        self.configure(settings)
        self.newcomers = Newcomers()
        self._accept = accept
        self._code = getattr(accept, "__code__", None)
        self._limits = limits
        self._admission = admission
        self._greeting: Callable[[socket.socket, str], object] | None = None
        if proxies is not None:
            from ._proxied import Greeting

            self._greeting = Greeting("tls", proxies, limits, tcp.Conn, self._announced, self.newcomers)

    def configure(self, settings: Settings) -> None:
        """Uses ``settings`` for new connections. Raises TypeError, ValueError or
        OSError, and then nothing changes."""
        self._configuration = ServerConfiguration(settings)
        self.settings = settings

    def __call__(self, sock: socket.socket, remoteaddr: str) -> None:
        if self._greeting is not None:
            self._greeting(sock, remoteaddr)
        elif (begun := self._begin(sock, remoteaddr)) is not None:
            scheduler.fork(self._serve, begun, None, self._code, 0, serves=True)

    def _announced(self, conn: tcp.Conn) -> None:
        """Goes on with a connection whose PROXY header has come. What came behind that
        is the beginning of its handshake."""
        if conn._stream.sock is not None:  # else it has broken
            begun = self._begin(conn._stream, conn.remoteaddr)
            if begun is not None:
                self._serve(*begun)

    def _begin(self, below: socket.socket | Stream, remoteaddr: str) -> tuple[Conn, ServerConfiguration, Verification] | None:
        """Begins TLS over a new socket, or over a stream, which ends with that. Returns
        the arguments of ``_serve``; None if the connection is refused."""
        if self._admission is not None and not self._admission.enter(host_of(remoteaddr)):
            below.close()
            text = f"tls: {remoteaddr}: too many connections: closed before the handshake"
            logger.limited("tls refused", text, burst=1, rate=1.0)  # these come in floods
            return None
        configuration = self._configuration
        try:
            ssl, verification = configuration.connection()
            if isinstance(below, Stream):
                stream = TlsStream.over(below, ssl)
            else:
                stream = TlsStream(below, remoteaddr, self._limits, ssl)
            stream.hurry_on = self.newcomers.hurry
        except BaseException:
            below.close()
            if self._admission is not None:
                self._admission.leave(host_of(remoteaddr))
            raise
        self.newcomers.add(stream)
        stream.when_released(partial(self._released, stream))
        # Already a ``Conn``: its finalizer closes what an exception leaves, and a task
        # that never starts, so that its place is given back too.
        return Conn(stream), configuration, verification

    def _serve(self, conn: Conn, configuration: ServerConfiguration, verification: Verification) -> None:
        stream = conn._stream
        there = stream.released_later() is not None  # not before this task has ended
        try:
            try:
                greeted = self._shake_hands(stream, configuration, verification)
            finally:
                self._shaken(stream)
            if greeted:
                value = self._accept(conn)
                if value is not None:
                    scheduler.returned(name_of(self._accept), value, True)
        finally:
            if there and self._admission is not None:
                # By the address that was let in: a WebSocket gives its stream the
                # client's, behind proxies.
                stream.when_released(partial(self._admission.leave, host_of(conn.remoteaddr)))
            self.newcomers.task_ended()

    def _released(self, stream: TlsStream) -> None:
        """The connection is gone before its task has begun, or instead."""
        self._shaken(stream)
        if self._admission is not None:
            self._admission.leave(host_of(stream.remoteaddr))

    def _shaken(self, stream: TlsStream) -> None:
        self.newcomers.discard(stream)
        stream.hurry_on = None  # it must not hold the server for as long as it is open

    def _shake_hands(self, stream: TlsStream, configuration: ServerConfiguration, verification: Verification) -> bool:
        deadline = monotonic() + self._limits.handshake_timeout / 1000
        if stream.speaks_http(deadline):
            logger.limited("tls plain", f"tls: {stream.remoteaddr}: plain HTTP on a port that speaks TLS: answered 400")
            stream.refuse_http()
            return False
        return greet_client(stream, configuration, verification, deadline) is None


@returns_pair("tls.listen", "listener")
@settings("tls.listen")
def listen(
    addr: str | Mapping[str, Any],
    certs: Sequence[Mapping[str, Any]] = (),
    accept: Callable[[Conn], object] | None = None,
    backlog: int | None = None,
    alpnprotos: Sequence[str] | None = None,
    *,
    ca: str | bytes | None = None,
    verify: str | None = None,
    ciphers: str | None = None,
    mode: int | None = None,
    owner: str | tuple[int, int] | None = None,
    reuseport: bool = False,
    trusted: Iterable[str] | None = None,
    proxy: bool = False,
    limits: Limits = DEFAULT,
) -> tuple[Listener, None] | tuple[None, str]:
    """``tcp.listen`` with TLS: ``accept(conn)`` runs when the handshake is done, which
    must be within 10 s (limit ``handshake_timeout``).

        def greet(conn):
            conn.write("hello\\n")
            conn.close()

        certs = [{"cert": "cert.pem", "key": "key.pem"}]
        listener, err = tls.listen(addr="127.0.0.1:8443", certs=certs, accept=greet)

    * ``certs``: dicts with ``cert`` (the server's certificate and its issuers') and
      ``key``, each as PEM text or a path. The name that the client asks for (SNI, RFC
      6066, section 3) chooses among several, and among those for the same name the type
      of key that the client can use. Without a match the first is used.
    * ``alpnprotos``: application protocols, best first (ALPN, RFC 7301). A client that
      offers only other protocols is refused; a client that offers none is not.
    * ``verify``: ``"require"`` refuses a client without a certificate of an authority
      in ``ca`` (PEM text or a path); ``"request"`` refuses only a bad certificate.
    * ``ciphers``: those of TLS 1.2, in OpenSSL's words.
    * ``addr``, ``backlog``, ``mode``, ``owner``, ``reuseport``: as for ``tcp.listen``.
    * ``proxy``, ``trusted``: as for ``tcp.listen``. The header of the PROXY protocol
      comes before the handshake, which then has its own 10 s.

    Returns ``(listener, None)``, or ``(None, err)``, which is logged too. A dict with
    these keys may be given in place of ``addr``. Uses the limit ``handshake_timeout``
    and those of ``tcp.listen``. Raises TypeError or ValueError for invalid arguments,
    so also for a certificate or key that can't be used.
    """
    if _loop.no_switch:
        scheduler.refuse("tls.listen")
    assert not isinstance(addr, Mapping)  # ``settings`` has taken it apart
    if not callable(accept):
        raise TypeError("tls.listen needs accept, a function that gets the connection")
    check_handler("tls.listen", accept, "conn")
    check_limits(limits)
    given = Settings(certs, alpnprotos, ca, verify, ciphers)
    proxies = tcp.networks_of("tls.listen", proxy, trusted)
    rights = Rights(mode, owner, reuseport)
    return listen_admitted("tls.listen", "tls", addr, given, accept, backlog, limits, rights, None, proxies)


def listen_admitted(
    what: str,
    scheme: str,
    addr: str,
    settings: Settings,
    accept: Callable[[Conn], object],
    backlog: int | None,
    limits: Limits,
    rights: Rights,
    admission: Admission | None,
    proxies: Networks | None = None,
) -> tuple[Listener, None] | tuple[None, str]:
    """``listen`` for the protocols above, which errors call ``what``, and whose scheme
    the log names. ``admission`` is asked about each connection before its handshake;
    its ``leave`` is called when the task that serves the connection has ended and the
    descriptor is free. ``proxies``: with these networks, which speak the PROXY
    protocol.
    """
    try:
        acceptor = Acceptor(settings, accept, limits, admission, proxies)
    except OSError as exc:  # nothing is wrong with the settings
        logger.error(f"{what} {cut(addr)}: {exc.strerror}")
        return None, errno.from_oserror(exc)
    return _listener.listen_as(Listener, what, scheme, addr, acceptor, backlog, rights, acceptor.newcomers)


@returns_pair("tls.connect", "conn")
@settings("tls.connect", "hostname")
def connect(
    addr: str,
    hostname: str | Mapping[str, Any] | None = None,
    alpnprotos: Sequence[str] | None = None,
    ca: str | bytes | None = None,
    cert: Mapping[str, Any] | None = None,
    verify: bool = True,
    timeout: float | None = None,
    bind: str | None = None,
    *,
    limits: Limits = DEFAULT,
) -> tuple[Conn, None] | tuple[None, str]:
    """Connects and does the handshake. ``timeout`` ms bounds both together; without one
    the handshake alone is bounded, by 10 s (limit ``handshake_timeout``).

        conn, err = tls.connect("localhost:8443", ca="ca.pem", timeout=5000)
        if conn is not None:
            conn.write("hello\\n")

    * ``hostname``: the name to ask for and to verify; None means the host of ``addr``.
    * ``alpnprotos``: application protocols, best first (ALPN, RFC 7301).
    * ``ca``: PEM text or a path of the authorities to trust in place of the system's.
    * ``cert``: a dict with ``cert`` and ``key``, for a server that asks for a
      certificate.
    * ``verify=False`` accepts any certificate, and a warning is logged once.
    * ``bind``: as for ``tcp.connect``.

    Returns ``(conn, None)`` or ``(None, err)``. After a failed handshake ``err`` is
    ``errno.TLS``, and the log says why. A dict of the options may be given in place of
    ``hostname``. Raises TypeError or ValueError for invalid arguments.
    """
    if _loop.no_switch:
        scheduler.refuse("tls.connect")
    assert not isinstance(hostname, Mapping)
    progress = Progress()
    conn, err = connect_explained(addr, hostname, alpnprotos, ca, verify, timeout, bind, limits, cert, progress)
    if conn is not None:
        return conn, None
    assert err is not None
    code = code_of(err, progress)
    if code is not err:
        logger.limited("tls.connect", f"tls.connect {cut(addr)}: {err}")
    return None, code


def code_of(err: str, progress: Progress) -> str:
    """Returns what an error of ``connect_explained`` is in ``silly.errno``, where it
    got as far as ``progress``. Before the handshake it is the system's, whether that
    has a name there or not."""
    return err if progress.phase != "tls" else code(err)


def connect_explained(
    addr: str,
    hostname: str | None,
    alpnprotos: Sequence[str] | None,
    ca: str | bytes | None,
    verify: bool,
    timeout: float | None,
    bind: str | None = None,
    limits: Limits = DEFAULT,
    cert: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[Conn, None] | tuple[None, str]:
    """``connect`` for the protocols above: its error says why the handshake failed, and
    ``progress`` how far it got."""
    check_limits(limits)
    attempt = new_attempt(addr, hostname or address.parse(addr)[0] or "localhost", alpnprotos, ca, cert, verify)
    if isinstance(attempt, str):
        return None, attempt
    begin = monotonic()
    sock, err = dial(addr, bind, timeout, "tls.connect", progress)
    if sock is None:
        assert err is not None
        return None, err
    if progress is not None:
        progress.phase = "tls"
    deadline = monotonic() + limits.handshake_timeout / 1000 if timeout is None else begin + timeout / 1000
    stream = TlsStream(sock, addr, limits, attempt.ssl)
    err = greet_server(stream, attempt, deadline)
    return (Conn(stream), None) if err is None else (None, err)


@overload
def upgrade(
    conn: tcp.Conn,
    hostname: str,
    alpnprotos: Sequence[str] | None = None,
    ca: str | bytes | None = None,
    cert: Mapping[str, Any] | None = None,
    verify: bool = True,
    timeout: float | None = None,
) -> tuple[Conn, None] | tuple[None, str]: ...


@overload
def upgrade(
    conn: tcp.Conn,
    *,
    certs: Sequence[Mapping[str, Any]],
    alpnprotos: Sequence[str] | None = None,
    ca: str | bytes | None = None,
    verify: str | None = None,
    ciphers: str | None = None,
    timeout: float | None = None,
) -> tuple[Conn, None] | tuple[None, str]: ...


@returns_pair("tls.upgrade", "conn")
def upgrade(
    conn: tcp.Conn,
    hostname: str | None = None,
    alpnprotos: Sequence[str] | None = None,
    ca: str | bytes | None = None,
    cert: Mapping[str, Any] | None = None,
    verify: bool | str | None = None,
    timeout: float | None = None,
    *,
    certs: Sequence[Mapping[str, Any]] | None = None,
    ciphers: str | None = None,
) -> tuple[Conn, None] | tuple[None, str]:
    """Begins TLS on a connection of ``silly.net.tcp``, as STARTTLS does. Returns a new
    connection in place of ``conn``, which is closed from then on.

    With ``certs`` it is the server:

        def serve(conn):
            conn.read("STARTTLS\\n")
            conn.write("go ahead\\n")
            certs = [{"cert": "cert.pem", "key": "key.pem"}]
            secure, err = tls.upgrade(conn, certs=certs)
            if secure is not None:
                secure.write("hello\\n")

        listener, err = tcp.listen(addr="127.0.0.1:8080", accept=serve)

    With ``hostname``, the name to ask for and to verify, it is the client:

        conn, err = tcp.connect("127.0.0.1:8080")
        conn.write("STARTTLS\\n")
        conn.read("go ahead\\n")
        secure, err = tls.upgrade(conn, "localhost", ca="ca.pem", timeout=5000)
        secure.read("\\n")                   # -> (b"hello\\n", None)

    * ``alpnprotos``, ``ca``, ``cert``, ``verify`` of the client: as for
      ``tls.connect``.
    * ``certs``, ``alpnprotos``, ``ca``, ``verify``, ``ciphers`` of the server: as for
      ``tls.listen``. Files are read at each call. Sessions are resumed while these
      settings and the files' contents stay the same.
    * ``timeout``: the most ms for all of it. Without one the handshake alone is
      bounded, by 10 s (limit ``handshake_timeout`` of ``conn``).

    First sends what was written to ``conn``, and blocks until the kernel has taken it.
    What the peer has sent and nobody has read becomes its first bytes of TLS. So
    plaintext that somebody adds behind the command that starts TLS makes the handshake
    fail. It is never read as if it had come through TLS.

    Returns ``(conn, None)`` or ``(None, err)``. After a failed handshake ``err`` is
    ``errno.TLS``, and the log says why. An error closes the connection, and so does a
    cancel, since to go on without TLS is a danger. Until the call returns only these,
    the time-out and a ``time.deadline`` end it; ``conn.close()`` doesn't.

    Raises TypeError or ValueError for invalid arguments, so also for a connection that
    speaks TLS already, and RuntimeError if another task reads from ``conn``. Then
    ``conn`` stays as it was.
    """
    if _loop.no_switch:
        scheduler.refuse("tls.upgrade")
    if not isinstance(conn, tcp.Conn):
        raise TypeError(f"tls.upgrade needs a connection of silly.net.tcp, not {type(conn).__name__}")
    plain = conn._stream
    if not plain.plain:
        raise TypeError("tls.upgrade: the connection speaks TLS already, and TLS within TLS is not supported")
    check_roles(hostname, cert, certs, ciphers)
    if timeout is not None:
        tcp.deadline_after(timeout)  # raises if it is none
    scheduler.check_thread()
    plain.check_no_reader()
    given: Any = verify  # each role checks its own
    if certs is None:
        assert hostname is not None
        end = client_end(conn.remoteaddr, hostname, alpnprotos, ca, cert, True if verify is None else given)
    else:
        end = server_end(Settings(certs, alpnprotos, ca, given, ciphers))
    if isinstance(end, str):
        plain.close()
        return None, end
    stream = upgraded(plain, end, timeout)
    return (None, code(stream)) if isinstance(stream, str) else (Conn(stream), None)
