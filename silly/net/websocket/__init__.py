"""WebSocket (RFC 6455), with compression (RFC 7692), server and client.

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

**Control frames**: the library answers them as it parses them, and the reader still
sees them. The pong is sent before ``read`` returns the ping. If the
application then writes a pong with the payload of one of the last 16 pings shown, it
isn't sent, so no ping is answered twice. A close frame is answered at once; ``read``
returns ``"close"``, and ``close()`` ends the connection.

**Keepalive**: the library sends a ping on every socket every 20 s (limit
``ping_interval``), whatever the application does. Any byte from the peer counts as a
sign of life. If none comes for 20 s more (``pong_timeout``), the connection ends with
1011. Time in which a task held the loop is not counted. ``sock.latency`` is the last
round trip in ms. The pongs of these pings are not shown.

**A socket that nobody reads**: after 100 ms what has arrived is taken off the receive
buffer and queued for the reader. Pings get their pong, a close frame its answer, and
pongs of our pings count. The reader still gets everything, in order. So an application
may be busy elsewhere, or only write. (If nobody has read for 10 s, and answered pings
and pongs fill a quarter of the queue, all but the newest are dropped.) A message that
was taken comes out of ``pieces`` as one piece, and ``sock.conn.unreadbytes()`` does not
count it.

Memory stays bounded. Taking stops with 64 KiB in the queue (limit ``receive_mark``);
with as much in the buffer, TCP holds the peer back. It also stops before what only a
reader can accept: a compressed message (it may be a bomb), a message that is longer
than the limits, one that is read in pieces, and a frame that isn't whole yet. Control
frames between the fragments of such a message are still taken. A fault of the peer
behind unread messages is reported after them. What the peer sends after the point where
taking stopped, pings and close included, is seen only when somebody reads; the peer is
not given up for a pong that may be there. An application that only writes, to peers
that send much, forks a task that reads and drops.

**Writers**: any number of tasks may write. Each message goes out whole and in order.
Messages of 64 KiB and more go in fragments, with control frames between them. Only one
task may read at a time; with ``task.select`` it can wait for other things too. Any task
may call ``close``. When the connection ends, all
tasks that are blocked on it wake with the same error; ``sock.cause`` says why in words.

**Time-outs** lose nothing: ``read(timeout)`` and ``time.deadline`` may run out in the
middle of a frame, and the next read goes on with what had arrived. A message that a
deadline interrupts half written still goes out whole.

``sock.pieces()`` and ``sock.message()`` are for messages larger than memory.
Compression (``compression=True``) is off by default.
"""

from __future__ import annotations

from ..._wire.deflate import Deflate
from ._connect import Handshake, HandshakeError, connect
from ._pieces import MessageWriter, Pieces
from ._socket import Socket
from ._upgrade import upgrade

__all__ = ["Deflate", "Handshake", "HandshakeError", "MessageWriter", "Pieces", "Socket", "connect", "upgrade"]
