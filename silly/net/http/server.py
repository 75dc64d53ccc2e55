"""A listening HTTP server: its connections, their number, and its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ... import errno
from ..._core import ending, scheduler
from ..._core.deadline import Deadline
from ..._core.loop import QuietHandler
from ..._core.result import OK, Result, failure
from ..._core.waiting import Leaving, Waiters
from ..._log import http as logger
from ..._wire.limits import Limits
from ..._wire.ws import GOING_AWAY
from .. import tcp
from .._binding import Rights
from .._listener import Admission, Listener, host_of
from .._settings import settings
from .._stream import Stream
from ._connection import Connection, refuse_busy
from ._drain import Drain, Terms, check_terms, unready
from ._places import Places
from .accesslog import AccessLog
from .h1 import RequestHandler

if TYPE_CHECKING:
    from ..._wire.networks import Networks

REFUSED = 100
"""Connections past the limits that may stay until their peers have read the answer;
further ones are cut off."""

_loop = scheduler.loop
_handlers = _loop.handlers


class _Told(QuietHandler):
    """The loop's ``Handler`` of a server, which drains it when the process ends. It is
    there until the server is closed and no connection is left."""

    __slots__ = ("_server",)

    def __init__(self, server: Server) -> None:
        self._server = server

    def wakes(self) -> bool:
        """It has no descriptor: those of the connections wake tasks."""
        return False

    def shutdown(self) -> None:
        """The process ends: the server drains, as by ``server.drain``."""
        plan = ending.plan
        self._server._begin_drain(Terms(plan.spread / 1000, plan.code, None))

    def close(self) -> None:
        """Does nothing: the listener and the connections are handlers of their own."""

    disown = close

    def abort(self) -> None:
        """No task runs any more: what is left is cut off."""
        self._server._cut()


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

            behind = self._places = PlacesBehind(limits, trusted)
            if forwarded is not None:
                self.handler = forwarding(handler, forwarded, trusted, behind)
        self._refused = 0
        """Connections past the limits that have not ended yet."""
        self._closing = False
        self._drainers: Waiters[None] = Waiters()
        self._noticed: Waiters[None] = Waiters()
        """The tasks whose ``drain`` gives notice."""
        self._drain: Drain | None = None
        self._ending = _Told(self)

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
        err: str | None
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

        What the kernel holds already is still served: connections that wait to be
        accepted, and a request on an idle one. A connection that has not brought its
        first request yet has 1 s for it.
        """
        assert self._listener is not None
        return self._listener._empty()

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

    def drain(
        self,
        ms: float | None = None,
        *,
        notice: float = 0,
        spread: float = 0,
        code: int = GOING_AWAY,
        retry_after: int | None = None,
    ) -> Result:
        """Stops listening and waits until every connection has ended.

            server.drain(10_000)
            silly.exit()

        First everything goes on for ``notice`` ms, while ``/readyz`` says 503
        (``Router.health``), so that load balancers look away. Then it stops listening,
        as ``close`` does: idle connections close now, others after the request that
        they serve, whose response says so.

        * ``ms``: after so many milliseconds, not counting the notice, the connections
          that are left are cut off, and ``(False, err)`` says how many. None waits
          without a limit. A handler that still runs then is not stopped, but its calls
          return errors.
        * ``spread``: each WebSocket is closed at a random time within so many ms, so
          that clients don't come back all at once. It is at most ``ms``.
        * ``code``: what WebSockets are closed with, such as 1012 for a restart.
        * ``retry_after``: new WebSockets, on connections that are still there, are
          answered 503 with ``Retry-After`` of so many seconds. None: a random number
          from 1 to the seconds of ``spread``.

        The log says what is left at the beginning, then now and then, and how it ended.
        A task that is cancelled, or whose ``time.deadline`` runs out, only stops
        waiting. If that is within the notice, the server goes on as if nothing had been
        asked; later it is closed, and nothing is cut off. Several tasks may drain: the
        first to close decides on ``code`` and ``retry_after``, and each cuts off after
        its own ``ms``. Drains a closed server too, without notice.

        Raises ValueError and TypeError for bad arguments, and RuntimeError in a handler
        of this server, which would wait for itself; then nothing was closed.
        """
        if _loop.no_switch:
            scheduler.refuse("server.drain")
        scheduler.check_thread()
        terms = check_terms(ms, notice, spread, code, retry_after)
        if any(connection.task is scheduler.current() for connection in self._connections):
            raise RuntimeError("server.drain waits for all handlers, and this task is one: fork a task for it")
        if notice and not self._closing:
            result = self._give_notice(notice)
            if not result:
                return result
        self._begin_drain(terms)
        ends = not scheduler.starts  # a task that drains again and again must let the process end
        while ends or self._accepts():
            ends = False
            scheduler.pause()
        if scheduler.exiting:
            return failure(errno.CLOSED)
        if ms is None:
            return self._drained()
        with Deadline(ms) as own:
            result = self._drained()
        if result or not own.expired:
            return result
        cut = sum(connection.busy for connection in self._connections)
        for connection in list(self._connections):
            connection.abort()
        for stream in self._newcomers():
            stream.abort()
        assert self._drain is not None
        self._drain.cut(cut)
        if not cut:
            return OK
        many = "1 connection was" if cut == 1 else f"{cut} connections were"
        return failure(f"server.drain: {many} cut off after {ms:g} ms")

    def _give_notice(self, ms: float) -> Result:
        """Waits while everything goes on; returns whether to drain then."""
        logger.info(f"{self._name()} goes on for {ms / 1000:g} s of notice, then it drains")
        unready.add(self)
        try:
            with Deadline(ms) as own:
                self._noticed.wait("server.drain: the notice")
        except Leaving:
            return failure(errno.CLOSED)
        except scheduler.DeadlineOver:
            if not own.expired:
                return failure(scheduler.ran_out("server.drain"))
        finally:
            if not self._noticed and self._drain is None:
                unready.discard(self)
        return OK

    def _begin_drain(self, terms: Terms) -> None:
        """Stops listening, and tells each connection that the server drains. Never
        waits. ``drain`` calls it, and the end of the process."""
        if self._drain is not None:
            self._drain.hasten(terms)
            return
        self._drain = Drain(self._name(), self._connections, terms)
        unready.add(self)
        if not self.close():
            self._tell()  # it was closed before
        self._drain.begin()
        self._settle()

    def _cut(self, more: int = 0) -> None:
        """The process cuts off ``more`` requests, and all that are left."""
        if self._drain is not None and not self._drain.was_cut:
            self._drain.cut(more + sum(each.busy for each in self._connections))

    def _name(self) -> str:
        return f"{self.scheme}: {self.addr}"

    def _tell(self) -> None:
        for connection in list(self._connections):
            connection.end(self._drain)

    def _accepts(self) -> bool:
        """Whether an accepted connection's task has not begun to run."""
        return any(task._greenlet is None and task._func == self._accept for task in scheduler.tasks)

    def _newcomers(self) -> list[Stream]:
        """The connections whose PROXY header or TLS handshake is under way."""
        newcomers = self._listener.newcomers if self._listener is not None else None
        return [] if newcomers is None else list(newcomers.streams)

    def _drained(self) -> Result:
        """Waits until the last connection has ended."""
        while self._connections or self._newcomers():
            try:
                self._drainers.wait("server.drain")
            except Leaving:
                return failure(errno.CLOSED)
            except scheduler.DeadlineOver:
                return failure(scheduler.ran_out("server.drain"))
        self._settle()
        return OK

    def _closed(self) -> None:
        self._closing = True
        self._noticed.wake_all()
        assert self._listener is not None
        if self._listener.newcomers is not None:
            self._listener.newcomers.ended = self._settle
        self._tell()
        self._settle()

    def _settle(self) -> None:
        """The server is closed. If no connection is left, that ends its drain."""
        if self._connections or self._newcomers():
            return
        self._drainers.wake_all()
        _handlers.discard(self._ending)
        if self._drain is not None:
            self._drain.over()
            unready.discard(self)

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
        connection = Connection(conn, self)
        self._connections.add(connection)
        if self._closing:  # it was accepted, or shook hands, while the server closed
            connection.end(self._drain)
            if self._listener is not None:
                _handlers.add(self._ending)
        try:
            connection.serve()
            connection.deliver()
        finally:
            self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not scheduler.starts:
            # The time of the process's end is over, or nothing can wake the handlers.
            self._cut(connection.busy)
        if not self._connections and self._closing:
            self._settle()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<http server {self._listener!r}>"
