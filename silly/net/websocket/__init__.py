"""WebSocket, RFC 6455 and RFC 7692, server and client (upstream: ``silly.net.websocket``).

    def handler(stream):                                # of http.listen
        if stream.header["upgrade"] == "websocket":
            sock, err = websocket.upgrade(stream)
            if sock is None:
                return
            while True:
                data, typ = sock.read()
                if data is None or typ == "close":
                    break
                if typ == "text":
                    sock.write("Echo: " + data, "text")
            sock.close()

    sock, err = websocket.connect("ws://127.0.0.1:8080")

**Control frames** are answered by the library as it parses them, and still shown to the reader. A ping has its pong sent
before ``read`` returns it; a pong that the application then writes by hand with that payload is taken as done (one for
each of the 16 pings last shown), so no ping is answered twice. A close frame is answered at once; then ``read`` returns
``"close"``, and ``close()`` ends the connection.

**Keepalive** belongs to the library: every socket sends a ping each 20 s (limit ``ping_interval``), whoever reads or writes.
Any byte from the peer is life; without one for 20 s more (``pong_timeout``) the connection ends with 1011, and time that a
task held the loop is not counted. ``sock.latency`` is the last round trip. Those pongs are not shown.

**A socket that nobody reads**: after 100 ms what has arrived is taken off the receive buffer,
and queued for the reader. Pings get their pong, a close frame its answer, our pings' pongs
count; the reader still gets everything, in its order. So an application may be busy
elsewhere, or only write. (Where nobody has read for 10 s, answered pings and pongs are
dropped but for the newest once they take a quarter of the queue; in hours they would fill
it.) A message that was taken is one piece for ``pieces``, and ``sock.conn.unreadbytes()``
doesn't count it.

Memory stays bounded: taking stops with 64 KiB in the queue (limit ``receive_mark``), and with
as much in the buffer TCP holds the peer back. It stops, too, before what only a reader can
accept: a compressed message (it may be a bomb), one that is longer than the limits, one that
is read in pieces, and a frame that isn't whole yet; control frames between the fragments of
such a message are taken. A fault behind messages that are not read yet is told when they
are. What the peer sends after all that, pings and close included, is seen when somebody
reads. Such a peer is not condemned for the pong that stands behind its own data. An
application that only writes, to peers that send much, forks a task that reads and drops.

**Writers**: any number of tasks; each message goes out whole and in order. Messages of 64 KiB and more go in fragments, between
which control frames pass. One task reads. ``close`` may come from any task. When the connection ends, everybody who is
blocked on it wakes with the same error; ``sock.cause`` says why in words.

**Time-outs** damage nothing: ``read(timeout)`` and ``time.deadline`` may strike within a frame; what had arrived stays for the
next read. A message that a deadline catches half written still goes out whole.

Messages larger than memory: ``sock.pieces()`` and ``sock.message()``. Compression (``compression=True``) is off by default.
"""

from __future__ import annotations

from ..._wire.deflate import Deflate
from ._connect import Handshake, HandshakeError, connect
from ._pieces import MessageWriter, Pieces
from ._socket import Socket
from ._upgrade import upgrade

__all__ = ["Handshake", "Deflate", "HandshakeError", "MessageWriter", "Pieces", "Socket", "connect", "upgrade"]
