"""The cost of a client's round trip beside many waiting connections and tasks; see timing.py. The program listens nowhere.

    python benchmarks/micro/waits_silly.py COUNT

Beside COUNT idle connections that no task reads, and from one of COUNT connections to the next; and a wait that a deadline
ends, beside COUNT tasks that wait. The peer is a process of its own, whose time does not count.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
from contextlib import ExitStack

import timing

import silly
from silly import task, time
from silly.net import tcp
from silly.sync import channel


def start_peer(ours: socket.socket) -> None:
    """Forks an echo server on the listening socket, before anything of ours runs. It
    ends with this process."""
    alive, watched = socket.socketpair()
    if os.fork():
        watched.close()
        kept.append(alive)
        return
    alive.close()
    with selectors.DefaultSelector() as selector:
        selector.register(ours, selectors.EVENT_READ)
        selector.register(watched, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is watched:
                    os._exit(0)
                if key.fileobj is ours:
                    selector.register(ours.accept()[0], selectors.EVENT_READ)
                    continue
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                data = sock.recv(65536)
                if data:
                    sock.send(data)
                else:
                    selector.unregister(sock)
                    sock.close()


kept: list[socket.socket] = []


def connected(addr: str, count: int, stack: ExitStack) -> list[tcp.Conn]:
    conns = [silly.check(tcp.connect(addr)) for _ in range(count)]
    for conn in conns:
        stack.enter_context(conn)
    return conns


def one_after_the_other(conns: list[tcp.Conn]) -> float:
    """CPU ns of a round trip, each on the next connection."""
    at = 0

    def trip() -> None:
        nonlocal at
        conn = conns[at]
        at = (at + 1) % len(conns)
        conn.write(b"x")
        conn.read(1)

    return timing.measure(timing.times(trip))


def ended_by_a_deadline() -> None:
    with time.deadline(0):
        try:
            task.wait()
        except TimeoutError:
            pass


def beside_tasks(others: int) -> float:
    """CPU ns of a wait that a deadline ends, in a task that was forked after the
    others."""
    waiting = [task.fork(task.wait) for _ in range(others)]
    done: channel.Channel[float] = channel.new()
    task.fork(lambda: done.push(timing.measure(timing.times(ended_by_a_deadline))))
    figure, _ = done.pop()
    for each in waiting:
        task.wakeup(each)
    return figure


def main() -> None:
    figures = {}
    with ExitStack() as stack:
        (busy,) = connected(addr, 1, stack)
        figures["a client's round trip"] = one_after_the_other([busy])
        conns = connected(addr, count, stack)
        figures[f"a client's round trip beside {count:,} idle connections that nobody reads"] = one_after_the_other([busy])
        figures[f"a client's round trip on each of {count:,} connections in turn"] = one_after_the_other(conns)
    figures["a wait that a deadline ends"] = beside_tasks(0)
    figures[f"a wait that a deadline ends beside {count:,} tasks that wait"] = beside_tasks(count)
    print(json.dumps(figures), flush=True)


count = int(sys.argv[1])
with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
    start_peer(server)
    addr = f"127.0.0.1:{server.getsockname()[1]}"
silly.run(main)
