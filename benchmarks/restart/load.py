"""The load: HTTP requests at set times, and WebSockets that come back. It knows nothing of the server but its port.

    python -m restart.load --port=8080 --requests=500 --sockets=500

It prints ``ready`` when all WebSockets are open. A line ``window NAME`` on standard input opens another window of its
counts; at the end of the input it waits for the answers that are due, and prints the windows as JSON. Every answer is
checked. The requests are sent when they are due, also when the server doesn't answer.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys

from .requests import Requests
from .sockets import Sockets
from .tally import Tally


async def follow_input(tally: Tally, stop: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode():
        tally.begin(line.split(None, 1)[1].strip())
        print("begun", flush=True)
    tally.now.end()
    stop.set()


async def run(options: argparse.Namespace) -> Tally:
    tally, stop = Tally(), asyncio.Event()
    sockets = Sockets(tally, options.port, options.sockets, options.timeout)
    await sockets.start()
    requests = Requests(tally, options.port, options.requests, options.new, options.timeout)
    print("ready", flush=True)
    gc.freeze()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow_input(tally, stop))
        tasks.create_task(requests.run(stop))
        tasks.create_task(sockets.run(stop))
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=float, default=500, help="a second (500)")
    parser.add_argument("--sockets", type=int, default=500, help="WebSockets (500)")
    parser.add_argument("--new", type=float, default=0.5, help="the share of requests on new connections (0.5)")
    parser.add_argument("--timeout", type=float, default=10, help="seconds that an answer may take (10)")
    tally = asyncio.run(run(parser.parse_args()))
    print(json.dumps([window.report() for window in tally.windows.values()]))


if __name__ == "__main__":
    main()
