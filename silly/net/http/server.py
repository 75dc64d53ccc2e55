"""A listening HTTP server: its connections, their number, and its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ... import errno
from ..._core import scheduler
from ..._core.deadline import Deadline
from ..._core.loop import QuietHandler
from ..._core.result import OK, Result, failure
from ..._core.waiting import Leaving, Waiters
from ..._wire.limits import Limits
from .. import tcp
from .._binding import Rights
from .._listener import Admission, Listener, host_of
from .._settings import settings
from ._connection import Connection, refuse_busy
from .accesslog import AccessLog
from .h1 import RequestHandler

if TYPE_CHECKING:
    from ..._wire.networks import Networks

REFUSED = 100
"""Connections past the limits that may stay until their peers have read the answer;
further ones are cut off."""

_loop = scheduler.loop
_handlers = _loop.handlers


class Places:
    """Counts the connections that were admitted, in total and by address: the
    ``Admission`` of a server."""

    __slots__ = ("_limits", "by_address", "taken")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.taken = 0
        self.by_address: dict[str, int] = {}

    def enter(self, host: str) -> bool:
        """Admits a connection from ``host`` if the limits allow it; returns whether
        they do. ``leave`` undoes it."""
        limits = self._limits
        count = self.by_address.get(host, 0)
        if (limits.connections and self.taken >= limits.connections) or (
            limits.address_connections and count >= limits.address_connections
        ):
            return False
        self.taken += 1
        if limits.address_connections:
            self.by_address[host] = count + 1
        return True

    def leave(self, host: str) -> None:
        """Gives back the place of a connection that ``enter`` admitted: its task has
        ended and its descriptor is free."""
        self.taken -= 1
        if self._limits.address_connections:
            self.by_address[host] -= 1
            if not self.by_address[host]:
                del self.by_address[host]


class _Told(QuietHandler):
    """The loop's ``Handler`` of a server, which tells its connections that the process
    ends. It is there until the server is closed and no connection is left."""

    __slots__ = ("_connections",)

    def __init__(self, connections: set[Connection]) -> None:
        self._connections = connections

    def wakes(self) -> bool:
        """It has no descriptor: those of the connections wake tasks."""
        return False

    def shutdown(self) -> None:
        """Ends each connection as soon as its request is answered."""
        for connection in list(self._connections):
            connection.process_ends()

    def close(self) -> None:
        """Does nothing: the listener and the connections are handlers of their own."""

    abort = disown = close


class Server:
    """A listening server, made by ``http.listen``. It closes at the end of a ``with``
    block.

        server, err = http.listen(addr="127.0.0.1:0", handler=handler)
        if server is not None:
            print("listening on", server.addr)
    """

    def __init__(
        self,
        handler: RequestHandler,
        scheme: str,
        limits: Limits,
        methods: frozenset[str],
        log: AccessLog | None,
        trusted: Networks | None = None,
        forwarded: str | None = None,
    ) -> None:
        self.handler = handler
        self.scheme = scheme
        self.limits = limits
        self.methods = methods
        self.log = log
        self._listener: Listener | None = None
        self._connections: set[Connection] = set()
        self._places: Admission = Places(limits)
        if trusted is not None:
            from ._forwarded import PlacesBehind, forwarding

            behind = self._places = PlacesBehind(Places, limits, trusted)
            if forwarded is not None:
                self.handler = forwarding(handler, forwarded, trusted, behind)
        self._refused = 0
        """Connections past the limits that have not ended yet."""
        self._closing = False
        self._drainers: Waiters[None] = Waiters()
        self._ending = _Told(self._connections)

    def _start(
        self,
        addr: str,
        certs: Sequence[Mapping[str, Any]] | None,
        alpnprotos: Sequence[str],
        backlog: int | None,
        ca: str | bytes | None,
        verify: str | None,
        rights: Rights,
        proxies: Networks | None = None,
    ) -> str | None:
        """Starts to listen; returns the error, or None. ``http.listen`` calls it."""
        listener: Listener | None
        if certs:
            # Loaded when used: OpenSSL's modules take longer to import than all of
            # ours.
            from .._tls_server import Settings
            from ..tls import listen_admitted

            given = Settings(certs, alpnprotos, ca, verify, None)
            listener, err = listen_admitted(
                "http.listen", "https", addr, given, self._serve, backlog, self.limits, rights, self._places, proxies
            )
        else:
            listener, err = tcp.listen_plain("http.listen", "http", addr, self._accept, backlog, self.limits, rights, proxies)
        if listener is None:
            return err
        self._listener = listener
        listener.on_close = self._closed
        _handlers.add(self._ending)
        return None

    @property
    def addr(self) -> str:
        """The address on which the server listens, with the real port: the first, if
        there are several."""
        assert self._listener is not None
        return self._listener.addr

    @property
    def addrs(self) -> tuple[str, ...]:
        """All addresses on which the server listens: those of a name, such as
        ``localhost``, or the only one."""
        assert self._listener is not None
        return self._listener.addrs

    @property
    def port(self) -> int:
        """The real port (an int); 0 for a Unix domain socket."""
        assert self._listener is not None
        return self._listener.port

    def close(self) -> Result:
        """Stops listening. Idle connections close now, others after the request that
        they serve; WebSockets stay. Does not wait: see ``drain``. Returns
        ``(False, err)`` if the server was closed before.

            server.close()
        """
        assert self._listener is not None
        return self._listener.close()

    @settings("server.reload", "certs")
    def reload(
        self,
        certs: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        *,
        ca: str | bytes | None = None,
        verify: str | None = None,
    ) -> Result:
        """Uses other certificates for the TLS handshakes that begin from now on. No
        connection is dropped.

            ok, err = server.reload()  # reads the files again, after a renewal
            ok, err = server.reload([{"cert": "cert.pem", "key": "key.pem"}])

        ``certs``, ``ca`` and ``verify`` are those of ``http.listen``. None keeps what
        was given before, and its files are read again. A dict with these keys may be
        given instead. Returns ``(False, err)`` if something cannot be used: that is
        logged too, and everything stays as it was. Raises ValueError for a server
        without TLS.
        """
        reload = getattr(self._listener, "reload", None)
        if reload is None:
            raise ValueError("server.reload needs a server with TLS")
        result: Result = reload(certs, ca=ca, verify=verify)
        return result

    def drain(self, ms: float | None = None) -> Result:
        """Stops listening and waits until every connection has ended.

            server.drain(10_000)
            silly.exit()

        Idle connections close now, others after the request that they serve, whose
        response says so; WebSockets get close 1001. ``ms``: after so many milliseconds
        the connections that are left are cut off, and ``(False, err)`` says how many;
        None waits without a limit. A handler that still runs then is not stopped, but
        its calls return errors. Raises RuntimeError in a handler of this server, which
        would wait for itself.
        """
        if _loop.no_switch:
            scheduler.refuse("server.drain")
        scheduler.check_thread()
        if ms is not None:
            tcp.deadline_after(ms)  # raises if ``ms`` is not a time, before anything is closed
        if any(connection.task is scheduler.current() for connection in self._connections):
            raise RuntimeError("server.drain waits for all handlers, and this task is one: fork a task for it")
        self.close()
        if scheduler.leaving():
            return failure(errno.CLOSED)
        for connection in list(self._connections):
            connection.drain()
        if ms is None:
            return self._drained()
        with Deadline(ms) as own:
            result = self._drained()
        if result or not own.expired:
            return result
        left = list(self._connections)
        for connection in left:
            connection.abort()
        if not left:
            return OK
        many = "1 connection was" if len(left) == 1 else f"{len(left)} connections were"
        return failure(f"server.drain: {many} cut off after {ms:g} ms")

    def _drained(self) -> Result:
        """Waits until the last connection has ended."""
        while self._connections:
            try:
                self._drainers.wait("server.drain")
            except Leaving:
                return failure(errno.CLOSED)
            except scheduler.DeadlineOver:
                return failure(scheduler.ran_out("server.drain"))
        return OK

    def _closed(self) -> None:
        self._closing = True
        for connection in list(self._connections):
            connection.close_idle()
        if not self._connections:
            _handlers.discard(self._ending)

    # ---- connections -----------------------------------------------------------------

    def _accept(self, conn: tcp.Conn) -> None:
        stream = conn._stream
        if not self._places.enter(host_of(conn.remoteaddr)):
            refuse_busy(conn, self.log)
            if self._refused < REFUSED:
                self._refused += 1
                stream.when_released(self._refusal_over)
            else:
                stream.abort()
            return
        try:
            self._serve(conn)
        finally:
            # A closed connection keeps its descriptor until the peer ends too, which
            # may take long.
            stream.when_released(partial(self._places.leave, host_of(conn.remoteaddr)))

    def _refusal_over(self) -> None:
        self._refused -= 1

    def _serve(self, conn: tcp.Conn) -> None:
        if self._closing:
            conn.close()  # it was accepted, or shook hands, while the server closed
            return
        connection = Connection(conn, self)
        self._connections.add(connection)
        try:
            connection.serve()
            connection.deliver()
        finally:
            self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._drainers.wake_all()
            if self._closing:
                _handlers.discard(self._ending)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<http server {self._listener!r}>"
